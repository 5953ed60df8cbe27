/** How the relay's own errors are told over Connect. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { ErrorSchema } from "../../gen/syncrelay/sync/v1/error_pb.ts";
import { connectCodes, connectErrorOf } from "../../server/admin/errors.ts";
import { ErrorCode, errorTable, SyncError } from "../../wire/errors.ts";

const codes = Object.keys(errorTable).map(Number) as (keyof typeof errorTable)[];

test("every code of the table has one Connect code, and docs/OPERATIONS.md names those that are sent", async () => {
  const page = await readFile(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8");
  const named = new Map<string, string>();
  for (const [, connectCode = "", list = ""] of page.matchAll(
    /^\| `([a-z_]+)` *\| ([A-Z_, ]+?) *\|$/gm,
  )) {
    for (const name of list.split(", ")) named.set(name, connectCode);
  }
  for (const code of codes) {
    const row = errorTable[code];
    const connectCode = Code[connectCodes[code]]
      .replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_")
      .toLowerCase();
    if (row.sent) assert.equal(named.get(row.name), connectCode, row.name);
    else assert.equal(named.get(row.name), undefined, row.name);
  }
});

test("an error keeps its code, its details and its sentence; its cause and its hint stay here", () => {
  const told = connectErrorOf(
    new SyncError(ErrorCode.STORE_UNAVAILABLE, {
      hint: "/var/lib/secret",
      cause: new Error("SQLITE_FULL"),
      retryAfterMs: 5,
    }),
  );
  assert.equal(told.code, Code.Unavailable);
  assert.doesNotMatch(told.message, /secret|SQLITE/);
  assert.equal(told.cause, undefined);
  const [detail] = told.findDetails(ErrorSchema);
  assert.deepEqual(
    [detail?.code, detail?.message, detail?.retryAfterMs],
    [ErrorCode.STORE_UNAVAILABLE, told.rawMessage, 5],
  );
});

test("what only a device can know is a defect here", () => {
  assert.equal(connectErrorOf(new SyncError(ErrorCode.OPEN_FAILED)).code, Code.Internal);
});
