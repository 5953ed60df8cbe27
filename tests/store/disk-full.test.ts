/**
 * A full disk, for real: a small file system in memory. Mounting one needs the
 * right to; where it is missing the test says so and is skipped.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import type { Store } from "../../server/store/contract.ts";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { batch, blob, bytes, device, group, range } from "./support/rows.ts";
import { smallDisk } from "./support/small-disk.ts";

const run = promisify(execFile);

/** Commits ten blobs at a time until the store refuses; gives back the head it reached. */
async function fill(store: Store, from: number): Promise<number> {
  for (let head = from; head < from + 100_000; head += 10) {
    try {
      await commitTen(store, head + 10);
    } catch (error) {
      assert.ok(error instanceof SyncError);
      assert.equal(error.code, ErrorCode.STORE_UNAVAILABLE);
      assert.match(error.hint ?? "", /disk is full/);
      assert.ok(error.cause instanceof Error);
      return head;
    }
  }
  throw new Error("the disk never got full");
}

async function commitTen(store: Store, head: number): Promise<void> {
  await store.commit(
    batch({
      groups: [group(1, { head, blobs: head, bytes: head * 400 })],
      devices: [device(1, 1, { lastCursor: head, witnessCounter: head, witness: bytes(20, head) })],
      blobs: range(head - 9, head).map((cursor) => blob(1, cursor)),
    }),
  );
}

async function assertWhole(store: Store, head: number): Promise<void> {
  const loaded = await store.loadGroup(group(1).groupId);
  assert.equal(loaded?.group.head, head);
  assert.equal(loaded.devices[0]?.lastCursor, head);
  assert.deepEqual(loaded.devices[0]?.witness, bytes(20, head));
  const blobs = await store.readBlobs(1, 0, head + 1_000, { rowsMax: 100_000, bytesMax: 1 << 30 });
  assert.deepEqual(
    blobs.map((row) => row.cursor),
    range(1, head),
  );
  assert.equal((await store.totals()).blobs, head);
}

test("disk full: commits fail whole, and go on without a restart once there is room", async (t) => {
  const folder = await smallDisk(t, "4m");
  if (folder === undefined) {
    t.skip("NOT TESTED: no tmpfs can be mounted here, so no disk can be made full");
    return;
  }
  const ballast = join(folder, "ballast");
  await writeFile(ballast, new Uint8Array(2 * 1024 * 1024));
  const store = await openSqliteStore({ folder });
  let head = await fill(store, 0);
  assert.ok(head > 0);
  await assertWhole(store, head);
  // Still full, however often it is tried; and a commit that writes little is no exception to whole or nothing.
  assert.equal(await fill(store, head), head);
  await assertWhole(store, head);

  await rm(ballast);
  await commitTen(store, head + 10);
  head = await fill(store, head + 10);
  await assertWhole(store, head);
  await store.close().catch(() => undefined);

  const again = await openSqliteStore({ folder });
  await assertWhole(again, head);
  await again.close().catch(() => undefined);
});

test("disk full at the first start: refused with a hint, and fine once there is room", async (t) => {
  const folder = await smallDisk(t, "64k");
  if (folder === undefined) {
    t.skip("NOT TESTED: no tmpfs can be mounted here, so no disk can be made full");
    return;
  }
  const ballast = join(folder, "ballast");
  await writeFile(ballast, new Uint8Array(56 * 1024));
  await assert.rejects(
    openSqliteStore({ folder }),
    (error) => error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE,
  );
  await rm(ballast);
  await run("mount", ["-o", "remount,size=4m", folder]);
  const store = await openSqliteStore({ folder });
  await commitTen(store, 10);
  await assertWhole(store, 10);
  await store.close();
});

test("a backup that would not fit is refused before it begins, and the store goes on", async (t) => {
  const folder = await smallDisk(t, "8m");
  if (folder === undefined) {
    t.skip("NOT TESTED: no tmpfs can be mounted here, so no disk can be made full");
    return;
  }
  const store = await openSqliteStore({ folder });
  await commitTen(store, 10);
  await assert.rejects(
    store.upkeep.backup({ name: "one", withIdentity: false, madeMs: 1 }),
    (error) =>
      error instanceof SyncError &&
      error.code === ErrorCode.STORE_UNAVAILABLE &&
      /does not fit .* MiB more room/.test(error.hint ?? ""),
  );
  await commitTen(store, 20);
  await assertWhole(store, 20);
  await store.close();
});
