/** Invariant: what was committed is there whole after any end of the process, and nothing is there in part. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { blob, group, range } from "./support/rows.ts";

const program = fileURLToPath(new URL("./support/committing-process.ts", import.meta.url));
const trimming = fileURLToPath(new URL("./support/trimming-process.ts", import.meta.url));

/** Starts the process and waits until it has told of so many commits; gives back the last head it told. */
async function commitsOf(
  folder: string,
  lines: number,
  path = program,
): Promise<{ child: ChildProcess; head: number }> {
  const child = spawn(process.execPath, ["--import", "tsx", path, folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let head = -1;
  let left = lines;
  for await (const line of createInterface({ input: child.stdout })) {
    head = Number(line);
    if (left-- === 0) break;
  }
  assert.ok(head >= 0, "the process ended by itself");
  return { child, head };
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

test("kill -9 in the middle of commits: the committed ones are whole, none is in part", async (t) => {
  const folder = await temporaryFolder(t);
  let before = 0;
  for (const lines of [0, 1, 2, 5, 13, 40]) {
    const { child, head: told } = await commitsOf(folder, lines);
    await kill(child);
    const store = await openSqliteStore({ folder });
    const loaded = await store.loadGroup(group(1).groupId);
    const head = loaded?.group.head ?? 0;
    assert.ok(head >= told && told >= before, `${before} ${told} ${head}`);
    assert.equal(head % 10, 0);
    const blobs = await store.readBlobs(1, 0, head + 1_000, {
      rowsMax: 100_000,
      bytesMax: 1 << 30,
    });
    assert.deepEqual(
      blobs,
      range(1, head).map((cursor) => blob(1, cursor)),
    );
    assert.equal(loaded?.devices[0]?.lastCursor ?? 0, head);
    assert.equal(store.opened.ageS, head);
    const totals = await store.totals();
    assert.deepEqual([totals.blobs, totals.bytes], [head, head * 400]);
    await store.close();
    before = head;
  }
  assert.ok(before > 400);
});

test("11.30 kill -9 in the middle of trims: what was trimmed is gone with its counters, and the rest is whole", async (t) => {
  const folder = await temporaryFolder(t);
  let before = -1;
  for (const lines of [3, 8, 21, 55]) {
    const { child, head: told } = await commitsOf(folder, lines, trimming);
    await kill(child);
    const store = await openSqliteStore({ folder });
    const row = (await store.loadGroup(group(1).groupId))?.group;
    assert(row);
    assert.ok(row.floor >= told && row.floor >= before, `${before} ${told} ${row.floor}`);
    const blobs = await store.readBlobs(1, 0, row.head, { rowsMax: 100_000, bytesMax: 1 << 30 });
    assert.deepEqual(
      blobs,
      range(row.floor + 1, row.head).map((cursor) =>
        cursor > row.trimmedThrough
          ? blob(1, cursor)
          : blob(1, cursor, { body: new Uint8Array(0), bodyState: 3 }),
      ),
    );
    const bytes = blobs.reduce((sum, { body }) => sum + 124 + body.byteLength, 0);
    assert.deepEqual([row.blobs, row.bytes], [blobs.length, bytes]);
    assert.deepEqual((await store.totals()).bytes, bytes);
    await store.close();
    before = row.floor;
  }
  assert.ok(before > 500, `${before}`);
});

test("a second process is refused while the first lives, and not after it was killed", async (t) => {
  const folder = await temporaryFolder(t);
  const { child } = await commitsOf(folder, 0);
  await assert.rejects(openSqliteStore({ folder }), (error) => {
    assert.ok(error instanceof SyncError);
    assert.equal(error.code, ErrorCode.STORE_UNAVAILABLE);
    assert.match(error.hint ?? "", /another relay uses the data folder/);
    return true;
  });
  await kill(child);
  await (await openSqliteStore({ folder })).close();
});
