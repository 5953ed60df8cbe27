/** The room that is kept for a full disk: on a small file system in memory, as `disk-full.test.ts`. */
import assert from "node:assert/strict";
import { access, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Committer, type TaskJob } from "../../server/committer.ts";
import type { Draft } from "../../server/draft.ts";
import type { Store } from "../../server/store/contract.ts";
import { noLife } from "../../server/store/life.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { fullError, reserveBytesDefault, storesNothing } from "../../server/store/reserve.ts";
import { openSqliteStore, type SqliteStore } from "../../server/store/sqlite-store.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { batch, blob, bytes, device, group, range } from "./support/rows.ts";
import { smallDisk } from "./support/small-disk.ts";

const mib = 1024 * 1024;
const reserveBytes = 2 * mib;
const skipped = "NOT TESTED: no tmpfs can be mounted here, so no disk can be made full";
/** Rows of one slice of trimming. */
const slice = 200;

function isFull(error: unknown): boolean {
  return (
    error instanceof SyncError &&
    error.code === ErrorCode.STORE_UNAVAILABLE &&
    /disk is full/.test(error.hint ?? "")
  );
}

async function push(store: Store, head: number, floor = 0): Promise<void> {
  await store.commit(
    batch({
      groups: [group(1, { head, floor, blobs: head - floor, bytes: (head - floor) * 1_000 })],
      devices: [device(1, 1, { lastCursor: head })],
      blobs: range(head - 9, head).map((cursor) => blob(1, cursor, { body: bytes(800, cursor) })),
    }),
  );
}

async function trim(store: Store, head: number, after: number): Promise<number> {
  const floor = Math.min(head, after + slice);
  await store.commit(
    batch({
      groups: [group(1, { head, floor, blobs: head - floor, bytes: (head - floor) * 1_000 })],
      life: { ...noLife, trims: [{ groupKey: 1, after, through: floor, headers: true }] },
    }),
  );
  return floor;
}

/** Pushes until the disk is full; gives back the head. */
async function fill(store: Store, from: number, floor = 0): Promise<number> {
  for (let head = from; ; head += 10) {
    try {
      await push(store, head + 10, floor);
    } catch (error) {
      assert.ok(isFull(error));
      return head;
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

async function withReserve(folder: string): Promise<SqliteStore> {
  const store = await openSqliteStore({ folder, reserveBytes, walBytesMax: reserveBytes });
  // A sweep waits for it.
  await store.sweep(1);
  return store;
}

async function assertReads(store: Store, floor: number, head: number): Promise<void> {
  const rows = await store.readBlobs(1, 0, head + 100, { rowsMax: 100_000, bytesMax: 1 << 30 });
  assert.deepEqual(
    rows.map((row) => row.cursor),
    range(floor + 1, head),
  );
}

test("11.30 on a full disk pushes are refused, trims and reads go on, and what was trimmed lets pushes in again", async (t) => {
  const folder = await smallDisk(t, "16m");
  if (folder === undefined) {
    t.skip(skipped);
    return;
  }
  const reserve = join(folder, "relay.db-reserve");
  const store = await withReserve(folder);
  const file = await stat(reserve);
  assert.equal(file.size, reserveBytes);
  assert.ok(file.blocks * 512 >= reserveBytes, "it is really written");
  assert.equal(file.mode & 0o777, 0o600);

  const head = await fill(store, 0);
  assert.ok(head > 2 * slice);
  assert.equal(await exists(reserve), false, "its room is there for trims");
  for (let again = 0; again < 5; again++) await assert.rejects(push(store, head + 10), isFull);
  await assertReads(store, 0, head);

  // As a device's acknowledgement, which moves what may be trimmed.
  await store.commit(batch({ devices: [device(1, 1, { lastCursor: head, applied: head })] }));
  let floor = 0;
  while (floor < head - slice) floor = await trim(store, head, floor);
  await assertReads(store, floor, head);
  while (await store.sweep(1_000));

  await push(store, head + 10, floor);
  assert.equal(await exists(reserve), true, "it is kept again before anything is stored");
  await assertReads(store, floor, head + 10);

  // And once more from the beginning: nothing is used up.
  const second = await fill(store, head + 10, floor);
  assert.equal(await exists(reserve), false);
  while (floor < second - slice) floor = await trim(store, second, floor);
  while (await store.sweep(1_000));
  await push(store, second + 10, floor);
  assert.equal((await store.upkeep.verify({})).findings.filter((one) => !one.groupId).length, 0);
  await store.close();
});

test("the reserve is made again when somebody else makes room, without a restart", async (t) => {
  const folder = await smallDisk(t, "16m");
  if (folder === undefined) {
    t.skip(skipped);
    return;
  }
  const ballast = join(folder, "ballast");
  await writeFile(ballast, new Uint8Array(6 * mib));
  const store = await withReserve(folder);
  const head = await fill(store, 0);
  await rm(ballast);
  await push(store, head + 10);
  assert.equal((await stat(join(folder, "relay.db-reserve"))).size, reserveBytes);
  await assertReads(store, 0, head + 10);
  await store.close();
});

test("11.30 the reserve of its usual size is enough for a log of its usual size: trims go on on a full disk", async (t) => {
  const folder = await smallDisk(t, "176m");
  if (folder === undefined) {
    t.skip(skipped);
    return;
  }
  const store = await openSqliteStore({ folder, reserveBytes: reserveBytesDefault });
  await store.sweep(1);
  const reserve = join(folder, "relay.db-reserve");
  assert.equal((await stat(reserve)).size, 32 * mib);
  const body = bytes(100_000, 1);
  let head = 0;
  for (let isFullNow = false; !isFullNow; ) {
    try {
      await store.commit(
        batch({
          groups: [group(1, { head: head + 10, blobs: head + 10, bytes: (head + 10) * 100_000 })],
          devices: [device(1, 1, { lastCursor: head + 10 })],
          blobs: range(head + 1, head + 10).map((cursor) => blob(1, cursor, { body })),
        }),
      );
      head += 10;
    } catch (error) {
      assert.ok(isFull(error));
      isFullNow = true;
    }
  }
  assert.ok(head > 500, `${head}`);
  assert.equal(await exists(reserve), false, "its room is there for trims");
  let floor = 0;
  while (floor < head - slice) floor = await trim(store, head, floor);
  while (await store.sweep(1_000));
  await push(store, head + 10, floor);
  assert.equal((await stat(reserve)).size, 32 * mib, "and then it is kept again");
  await assertReads(store, floor, head + 10);
  await store.close();
});

test("a disk that has no room for a reserve keeps none, and is filled to its end", async (t) => {
  const folder = await smallDisk(t, "3m");
  if (folder === undefined) {
    t.skip(skipped);
    return;
  }
  const store = await withReserve(folder);
  assert.equal(await exists(join(folder, "relay.db-reserve")), false);
  const head = await fill(store, 0);
  assert.equal(await fill(store, head), head);
  await assertReads(store, 0, head);
  await store.close().catch(() => undefined);
});

test("what makes room and shares a commit with what needs some is written without it", async () => {
  const store = openMemoryStore();
  const { commit } = store;
  Object.assign(store, {
    commit: async (given: Parameters<Store["commit"]>[0]) => {
      if (!storesNothing(given)) throw fullError();
      await commit.call(store, given);
    },
  });
  const failures: SyncError[] = [];
  const committer = new Committer(
    {
      store,
      founding: "closed",
      groupBytesMax: 1e9,
      storeBytesMax: 1e9,
      nowMs: () => 0,
      monotonicMs: () => 0,
      ageS: () => 0,
      random: (length) => bytes(length, 1),
      onCommit: (finished) => finished.settle(),
      onFailure: (error) => failures.push(error),
    },
    () => Promise.resolve(undefined),
  );
  const outcomes: unknown[] = [];
  const task = (plan: (draft: Draft) => void): TaskJob => ({
    kind: "task",
    requestId: 0,
    lookUp: undefined,
    plan,
    bytes: 0,
    owner: { settled: (_, outcome) => outcomes.push(outcome) },
  });
  const drop = { groupKey: 1, cursor: 1, bodyState: 2 };
  const chunk = { objectKey: 1, number: 0, data: bytes(10, 1) };
  committer.submit(task((draft) => draft.life.lists.chunks.push(chunk)));
  committer.submit(task((draft) => draft.life.lists.drops.push(drop)));
  await committer.idle();
  assert.equal(outcomes.length, 2);
  assert.ok(isFull(outcomes[0]));
  assert.equal(outcomes[1] instanceof SyncError, false);
  assert.equal(failures.length, 1);
});
