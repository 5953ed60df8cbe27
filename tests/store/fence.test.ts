/** Damage to one group's part of the file: found, kept apart from the others, and not asked for again. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Committer, type DeviceJob } from "../../server/committer.ts";
import { GroupEntry } from "../../server/group-state.ts";
import type { CommitBatch, Store } from "../../server/store/contract.ts";
import { type FencedGroup, fencedStore } from "../../server/store/fence.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { storeError } from "../../server/store/store-errors.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { ChainedGroup } from "./support/chains.ts";
import { temporaryFolder } from "./support/folders.ts";
import { batch, blob, bytes, device, group } from "./support/rows.ts";

const pageBytes = 4_096;

const corrupt = (): SyncError =>
  storeError(Object.assign(new Error("SQLITE_CORRUPT: malformed"), { code: "SQLITE_CORRUPT" }));
const full = (): SyncError =>
  storeError(Object.assign(new Error("SQLITE_FULL: full"), { code: "SQLITE_FULL" }));

/** A store of three groups whose second is damaged, with what was asked of the disk. */
async function damagedStore(options: { readonly reads?: boolean } = {}) {
  const store: Store = openMemoryStore();
  await store.commit(
    batch({
      groups: [1, 2, 3].map((key) => group(key, { head: 2, blobs: 2 })),
      devices: [1, 2, 3].map((key) => device(key, key)),
      blobs: [1, 2, 3].flatMap((key) => [blob(key, 1), blob(key, 2)]),
    }),
  );
  const commits: CommitBatch[] = [];
  const { commit, readBlobs } = store;
  Object.assign(store, {
    commit: async (given: CommitBatch) => {
      commits.push(given);
      if ([...given.devices, ...given.blobs].some(({ groupKey }) => groupKey === 2))
        throw corrupt();
      await commit.call(store, given);
    },
    readBlobs: async (...given: Parameters<Store["readBlobs"]>) => {
      if (given[0] === 2 && options.reads !== false) throw corrupt();
      return await readBlobs.apply(store, given);
    },
  });
  const fenced: FencedGroup[] = [];
  return { store: fencedStore(store, (each) => fenced.push(each)), commits, fenced };
}

const unavailable = (error: unknown): boolean =>
  error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE;

test("a group whose rows cannot be read is fenced off once, by its id; the others are read", async () => {
  const { store, fenced } = await damagedStore();
  for (const key of [1, 2, 3]) await store.loadGroup(group(key).groupId);
  const read = (key: number) => store.readBlobs(key, 0, 9, { rowsMax: 9, bytesMax: 9_999 });
  await assert.rejects(read(2), unavailable);
  await assert.rejects(read(2), unavailable);
  await assert.rejects(store.linkAt(2, 1), unavailable);
  await assert.rejects(store.loadGroup(group(2).groupId), unavailable);
  for (const key of [1, 3]) {
    assert.equal((await read(key)).length, 2);
    assert.ok(await store.loadGroup(group(key).groupId));
  }
  assert.deepEqual(
    fenced.map(({ groupId }) => groupId),
    [group(2).groupId],
  );
  assert.deepEqual(store.fence.groups, fenced);
});

test("a disk that only fails fences nobody off", async () => {
  const store = openMemoryStore();
  const fence = fencedStore(store, () => assert.fail("nothing is damaged"));
  Object.assign(store, { linkAt: () => Promise.reject(full()) });
  await assert.rejects(fence.linkAt(1, 1), unavailable);
  await assert.rejects(fence.linkAt(1, 1), unavailable);
  assert.deepEqual(fence.fence.groups, []);
});

test("a commit of several groups that meets damage is made again apart: only the damaged one is refused", async () => {
  const { store, commits, fenced } = await damagedStore();
  const entries: GroupEntry[] = [];
  for (const key of [1, 2, 3]) {
    const loaded = await store.loadGroup(group(key).groupId);
    assert.ok(loaded);
    entries.push(new GroupEntry(loaded));
  }
  const failures: SyncError[] = [];
  let told = 0;
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
      onCommit: (commit) => {
        told += 1;
        commit.settle();
      },
      onFailure: (error) => failures.push(error),
    },
    () => Promise.resolve(undefined),
  );
  const outcomes = async (counter: number): Promise<unknown[]> => {
    const settled = new Map<number, unknown>();
    for (const entry of entries) {
      const [known] = entry.devices.values();
      assert.ok(known);
      const job: DeviceJob = {
        kind: "device",
        requestId: 0,
        device: known,
        counter,
        witness: bytes(20, counter),
        bytes: 100,
        owner: { settled: (_, outcome) => void settled.set(entry.row.groupKey, outcome) },
      };
      committer.submit(job);
    }
    await committer.idle();
    return [1, 2, 3].map((key) => settled.get(key));
  };
  const [first, second, third] = await outcomes(1);
  assert.deepEqual([first, third], [true, true]);
  assert.ok(unavailable(second));
  // All together, then each group alone.
  assert.equal(commits.length, 4);
  assert.equal(told, 2);
  assert.equal(fenced.length, 1);
  assert.deepEqual(failures, [], "a group that is fenced off is no failure of the store");
  const [, again] = await outcomes(2);
  assert.ok(unavailable(again));
  assert.equal(commits.length, 5, "the damaged group is not written again");
});

test("bits flipped anywhere in the file: each group is read whole, or refused; nothing else is thrown", async (t) => {
  const folder = await temporaryFolder(t);
  const groups = [new ChainedGroup(1), new ChainedGroup(2), new ChainedGroup(3)];
  const made = await openSqliteStore({ folder });
  for (let i = 0; i < 5; i++) for (const each of groups) await made.commit(each.next(10, 500));
  await made.close();
  const path = join(folder, databaseName);
  const whole = await readFile(path);
  // A fixed sequence, so that what fails once fails again.
  let state = 12_345;
  const next = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state % below;
  };
  const came = { read: 0, refused: 0, shut: 0 };
  for (let round = 0; round < 60; round++) {
    const altered = Buffer.from(whole);
    for (let i = 0; i < 3; i++) {
      const at = pageBytes + next(whole.byteLength - pageBytes);
      // Every other round it hits where a page says how it is laid out.
      const place = round % 2 === 0 ? at : at - (at % pageBytes) + next(12);
      altered[place] = (altered[place] ?? 0) ^ (1 << next(8));
    }
    await writeFile(path, altered);
    const opened = await openSqliteStore({ folder }).catch((error: unknown) => {
      assert.ok(unavailable(error), error instanceof Error ? String(error.cause) : "");
    });
    if (opened === undefined) {
      came.shut += 1;
      continue;
    }
    const store = fencedStore(opened, () => undefined);
    for (const { groupKey, groupId } of groups) {
      try {
        await store.loadGroup(groupId);
        await store.readBlobs(groupKey, 0, 50, { rowsMax: 50, bytesMax: 1 << 20 });
        await store.readControl(groupKey, 0, 1 << 20);
        await store.senderPlaces(groupKey, 50, 1);
        came.read += 1;
      } catch (error) {
        assert.ok(unavailable(error), String(error));
        came.refused += 1;
      }
    }
    await store.upkeep?.verify({});
    await opened.close();
  }
  assert.ok(came.read > 60 && came.refused > 5, JSON.stringify(came));
});
