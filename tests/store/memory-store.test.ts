/** What the store in memory can do to whoever uses it: fail, wait, crash, go back in time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { batch, blob, group } from "./support/rows.ts";

const wide = { rowsMax: 100, bytesMax: 1 << 20 };

/** A disk that has written a commit only when it is told so. */
function slowDisk(): { syncTime: (synced: () => void) => void; sync(): void } {
  const waiting: (() => void)[] = [];
  return {
    syncTime: (synced) => waiting.push(synced),
    sync: () => {
      for (const synced of waiting.splice(0)) synced();
    },
  };
}

/** Whether a promise has settled once everything that could settle it has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  const turn = new Promise<false>((resolve) => {
    setImmediate(() => resolve(false));
  });
  return await Promise.race<boolean>([promise.then(() => true), turn]);
}

test("commits fail as often as they were told to, whole, and then work again", async () => {
  const store = openMemoryStore();
  store.failCommits(2);
  for (let times = 0; times < 2; times++) {
    await assert.rejects(
      store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1)] })),
      (error) => error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE,
    );
  }
  assert.equal(await store.loadGroup(group(1).groupId), undefined);
  await store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1)] }));
  assert.equal((await store.readBlobs(1, 0, 9, wide)).length, 1);
});

test("a commit is not seen, and does not resolve, before the disk has written it", async () => {
  const disk = slowDisk();
  const store = openMemoryStore({ syncTime: disk.syncTime });
  const commit = store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1)] }));
  assert.equal(await settled(commit), false);
  assert.equal((await store.readBlobs(1, 0, 9, wide)).length, 0);
  disk.sync();
  await commit;
  assert.equal((await store.readBlobs(1, 0, 9, wide)).length, 1);
});

for (const fate of ["kept", "lost"] as const) {
  test(`a crash with an unsynced commit that is ${fate}: nobody is told, and it is whole or not there`, async () => {
    const disk = slowDisk();
    const store = openMemoryStore({ syncTime: disk.syncTime });
    const first = store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1)] }));
    await settled(first);
    disk.sync();
    await first;
    const second = store.commit(batch({ groups: [group(1, { head: 2 })], blobs: [blob(1, 2)] }));
    await settled(second);

    const after = store.crash(fate);
    disk.sync();
    assert.equal(await settled(second), false);
    assert.equal(await settled(store.totals()), false);
    const cursors = (await after.readBlobs(1, 0, 9, wide)).map((row) => row.cursor);
    assert.deepEqual(cursors, fate === "kept" ? [1, 2] : [1]);
    assert.equal((await after.loadGroup(group(1).groupId))?.group.head, fate === "kept" ? 2 : 0);
    assert.equal(after.opened.nextGroupKey, 2);
    const next = after.commit(batch({ blobs: [blob(1, 3)] }));
    await settled(next);
    disk.sync();
    await next;
  });
}

test("a copy and its original do not see each other's later commits", async () => {
  const store = openMemoryStore();
  await store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1)], ageS: 4 }));
  const backup = store.copy();
  await store.commit(batch({ groups: [group(1, { head: 2 })], blobs: [blob(1, 2)] }));
  assert.equal((await backup.readBlobs(1, 0, 9, wide)).length, 1);
  assert.equal(backup.opened.ageS, 4);
  await backup.commit(batch({ blobs: [blob(1, 3)] }));
  assert.deepEqual(
    (await store.readBlobs(1, 0, 9, wide)).map((row) => row.cursor),
    [1, 2],
  );
});

test("a store that was ended is opened again with what it had", async () => {
  const store = openMemoryStore();
  await store.commit(batch({ groups: [group(5)], ageS: 9 }));
  const again = store.reopen();
  assert.deepEqual(again.opened, {
    nextGroupKey: 6,
    nextDeviceKey: 1,
    nextSnapshotKey: 1,
    nextObjectKey: 1,
    ageS: 9,
    clockMs: 0,
    bytes: 0,
    fresh: false,
  });
  await assert.rejects(store.totals());
  await again.close();
});
