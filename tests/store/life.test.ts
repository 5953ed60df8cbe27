/** What the log's life asks of a store, held against every store: `server/store/life.ts`. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import type { Store } from "../../server/store/contract.ts";
import {
  beforePassing,
  chunkBytes,
  type LifeWrites,
  noLife,
  type ObjectRow,
  type SnapshotRow,
} from "../../server/store/life.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { temporaryFolder } from "./support/folders.ts";
import { batch, blob, bytes, device, group, range } from "./support/rows.ts";

const wide = { rowsMax: 10_000, bytesMax: 1 << 30 };

function life(changes: Partial<LifeWrites>) {
  return batch({ life: { ...noLife, ...changes } });
}

function object(objectKey: number, changes: Partial<ObjectRow> = {}): ObjectRow {
  return {
    objectKey,
    groupKey: 1,
    objectId: bytes(32, 500 + objectKey),
    sizeBytes: 100_000,
    durableBytes: 0,
    complete: false,
    part: false,
    passing: true,
    storedAgeS: 10,
    ...changes,
  };
}

function snapshot(snapshotKey: number, changes: Partial<SnapshotRow> = {}): SnapshotRow {
  return {
    snapshotKey,
    groupKey: 1,
    snapshotId: bytes(32, 600 + snapshotKey),
    deviceKey: 1,
    replacesThrough: 5,
    storedAgeS: 20,
    effective: false,
    confirmedBy: 0,
    manifestBytes: 300,
    ...changes,
  };
}

const content = (key: number) => ({
  manifest: bytes(300, key),
  signature: bytes(64, key),
  confirmation: new Uint8Array(0),
});

const subjects = [
  { name: "memory", open: async () => openMemoryStore() },
  {
    name: "SQLite",
    open: async (t: TestContext) => {
      const store = await openSqliteStore({ folder: await temporaryFolder(t) });
      t.after(async () => {
        await store.close();
      });
      return store;
    },
  },
];

async function filled(store: Store): Promise<void> {
  await store.commit(
    batch({
      groups: [group(1, { head: 10 }), group(2, { head: 3 })],
      devices: [device(1, 1), device(2, 2)],
      blobs: [
        ...range(1, 10).map((cursor) => blob(1, cursor)),
        ...range(1, 3).map((cursor) => blob(2, cursor)),
      ],
    }),
  );
}

async function states(store: Store, groupKey = 1): Promise<string> {
  const rows = await store.readBlobs(groupKey, 0, 1_000, wide);
  return rows.map((row) => `${row.cursor}:${row.bodyState}:${row.body.byteLength}`).join(" ");
}

for (const subject of subjects) {
  describe(`the log's life: ${subject.name}`, () => {
    test("trims take blobs whole, or their bodies, of their own range and group", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      await store.commit(
        life({
          trims: [
            { groupKey: 1, after: 0, through: 3, headers: true },
            { groupKey: 1, after: 3, through: 5, headers: false },
          ],
        }),
      );
      assert.equal(await states(store), "4:3:0 5:3:0 6:0:276 7:0:276 8:0:276 9:0:276 10:0:276");
      assert.equal(await states(store, 2), "1:0:276 2:0:276 3:0:276");
      const [four] = await store.readBlobs(1, 3, 4, wide);
      assert.deepEqual(four, { ...blob(1, 4), body: new Uint8Array(0), bodyState: 3 });
      assert.equal(await store.linkAt(1, 3), undefined);
    });

    test("where devices are woken is kept, replaced, ended, and gone with the group", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const place = (deviceKey: number, endpoint: string) => ({
        deviceKey,
        endpoint,
        p256dh: bytes(65, deviceKey),
        auth: bytes(16, deviceKey),
      });
      const placesOf = async (groupKey: number) =>
        (await store.loadGroup(group(groupKey).groupId))?.wakeUps ?? [];
      assert.deepEqual(await placesOf(1), []);
      await store.commit(batch({ devices: [device(1, 3)] }));
      const all = [place(1, "https://a.example/é"), place(2, "https://b.example/"), place(3, "x")];
      await store.commit(life({ wakeUps: all }));
      assert.deepEqual(await placesOf(1), [all[0], all[2]]);
      assert.deepEqual(await placesOf(2), [all[1]]);
      // A device's row is written at every push, and leaves it alone.
      await store.commit(batch({ devices: [device(1, 1, { lastSeq: 9 })] }));
      const other = place(1, "https://c.example/");
      await store.commit(life({ wakeUps: [other], wakeUpsEnded: [3] }));
      assert.deepEqual(await placesOf(1), [other]);
      await store.commit(batch({ deletedGroups: [1] }));
      await store.commit(batch({ groups: [group(1)], devices: [device(1, 1)] }));
      assert.deepEqual(await placesOf(1), []);
      assert.deepEqual(await placesOf(2), [all[1]]);
    });

    test("a body that is gone keeps its state", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const drop = (cursor: number, bodyState: number) => ({ groupKey: 1, cursor, bodyState });
      await store.commit(life({ drops: [drop(2, 1), drop(4, 2)] }));
      await store.commit(
        life({
          drops: [drop(2, 2)],
          trims: [{ groupKey: 1, after: 0, through: 4, headers: false }],
        }),
      );
      assert.match(await states(store), /^1:3:0 2:1:0 3:3:0 4:2:0 5:0:276/);
    });

    test("a slice is measured by rows and by bytes, one row at least", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      // Header 60, signature 64, body 276.
      const measure = (after: number, through: number, rowsMax: number, bytesMax: number) =>
        store.measureTrim(1, after, through, { rowsMax, bytesMax });
      const rows = (blobs: number, through: number) => ({
        through,
        blobs,
        headerBytes: 124 * blobs,
        bodyBytes: 276 * blobs,
      });
      assert.deepEqual(await measure(0, 10, 3, 1 << 20), rows(3, 3));
      assert.deepEqual(await measure(3, 5, 100, 1 << 20), rows(2, 5));
      assert.deepEqual(await measure(0, 10, 100, 800), rows(2, 2));
      assert.deepEqual(await measure(0, 10, 100, 1), rows(1, 1));
      assert.deepEqual(await measure(10, 20, 100, 1 << 20), rows(0, 10));
      await store.commit(life({ drops: [{ groupKey: 1, cursor: 1, bodyState: 1 }] }));
      assert.deepEqual(await measure(0, 1, 9, 1 << 20), { ...rows(1, 1), bodyBytes: 0 });
    });

    test("what expires is found by its age, and done with once", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const row = (cursor: number, expiresAgeS: number) => ({ groupKey: 1, cursor, expiresAgeS });
      await store.commit(life({ expiries: [row(3, 90), row(2, 50), row(4, 50)] }));
      assert.deepEqual(await store.expired(49, 9), []);
      const { groupId } = group(1);
      const expired = [row(2, 50), row(4, 50)].map((one) => ({ ...one, bodyBytes: 276, groupId }));
      assert.deepEqual(await store.expired(89, 9), expired);
      assert.equal((await store.expired(90, 2)).length, 2);
      await store.commit(
        life({ expiriesDone: [row(2, 50)], drops: [{ ...row(4, 50), bodyState: 2 }] }),
      );
      assert.deepEqual(await store.expired(89, 9), [{ ...expired[1], bodyBytes: 0 }]);
    });

    test("deletes wait until they are done, and are told with their blobs while these are there", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const row = (cursor: number) => ({ groupKey: 1, cursor });
      assert.deepEqual(await store.groupsToTrim(0, 9), []);
      await store.commit(life({ deletes: [row(9), row(2)] }));
      await store.commit(life({ trims: [{ groupKey: 1, after: 0, through: 3, headers: true }] }));
      const waiting = await store.pendingDeletes(1, 0, 9);
      assert.deepEqual(
        waiting.map(({ cursor, blob: it }) => [cursor, it?.deviceKey, it?.header.byteLength]),
        [
          [2, undefined, undefined],
          [9, 1, 60],
        ],
      );
      assert.deepEqual(await store.groupsToTrim(0, 9), [
        { groupKey: 1, groupId: group(1).groupId },
      ]);
      assert.deepEqual(await store.groupsToTrim(1, 9), []);
      await store.commit(life({ deletesDone: [row(2), row(9)] }));
      assert.deepEqual(await store.pendingDeletes(1, 0, 9), []);
      const found = await store.blobIds(1, 8, 2);
      assert.deepEqual(
        found.map(({ cursor, blobId, bodyBytes }) => [cursor, blobId, bodyBytes]),
        [7, 6].map((cursor) => [cursor, blob(1, cursor).blobId, 276]),
      );
    });

    test("snapshots are loaded with their group, become effective, and go with their references", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      await store.commit(
        life({
          snapshots: [
            { row: snapshot(1), ...content(1) },
            { row: snapshot(2, { deviceKey: 7, storedAgeS: 30 }), ...content(2) },
          ],
          objects: [object(1), object(2)],
          references: [
            { holder: -1, objectKey: 1 },
            { holder: -2, objectKey: 1 },
            { holder: 1, objectKey: 2 },
          ],
        }),
      );
      const snapshots = async () => (await store.loadGroup(group(1).groupId))?.snapshots;
      assert.deepEqual(await snapshots(), [
        snapshot(1),
        snapshot(2, { deviceKey: 7, storedAgeS: 30 }),
      ]);
      assert.deepEqual(await store.snapshotContent(1), content(1));
      assert.deepEqual(await store.groupsWithSnapshotsOf(19, 9), []);
      assert.deepEqual(await store.groupsWithSnapshotsOf(20, 9), [group(1).groupId]);
      assert.deepEqual(await store.partsOf(2), [{ object: object(1), holders: [-2, -1] }]);
      const confirmation = bytes(64, 9);
      await store.commit(
        life({
          effective: [{ snapshotKey: 2, confirmedBy: 1, confirmation }],
          droppedSnapshots: [1],
        }),
      );
      assert.deepEqual(await snapshots(), [
        snapshot(2, { deviceKey: 7, storedAgeS: 30, effective: true, confirmedBy: 1 }),
      ]);
      assert.deepEqual(await store.snapshotContent(2), { ...content(2), confirmation });
      assert.equal(await store.snapshotContent(1), undefined);
      assert.deepEqual(await store.partsOf(1), []);
      assert.deepEqual(await store.groupsWithSnapshotsOf(99, 9), []);
    });

    test("objects are found by id, within their group, and read in chunks", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const data = bytes(2 * chunkBytes + 1_000, 5);
      const chunk = (number: number) => ({
        objectKey: 1,
        number,
        data: data.subarray(number * chunkBytes, (number + 1) * chunkBytes),
      });
      const row = object(1, { durableBytes: chunkBytes });
      await store.commit(
        life({
          objects: [row],
          references: [{ holder: 1, objectKey: 1 }],
          chunks: [chunk(0)],
        }),
      );
      const whole = { ...row, durableBytes: data.byteLength, complete: true, passing: false };
      await store.commit(life({ objects: [whole], chunks: [chunk(1), chunk(2)] }));
      const ids = [bytes(32, 1), row.objectId];
      assert.deepEqual(await store.findObjects(1, ids), [{ object: whole, holders: [1] }]);
      assert.deepEqual(await store.findObjects(2, ids), []);
      assert.deepEqual(await store.readObject(1, 0, 1 << 20), data);
      assert.deepEqual(
        await store.readObject(1, chunkBytes, 5),
        data.slice(chunkBytes, 2 * chunkBytes),
      );
      assert.deepEqual(
        await store.readObject(1, 2 * chunkBytes, 1 << 20),
        data.slice(2 * chunkBytes),
      );
      assert.deepEqual(await store.readObject(2, 0, 1 << 20), new Uint8Array(0));
    });

    test("a dropped object is gone at once, and what it holds on disk by and by; its id may come again", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const data = bytes(chunkBytes, 1);
      await store.commit(
        life({
          objects: [object(1, { durableBytes: 100 * chunkBytes })],
          references: [{ holder: 1, objectKey: 1 }],
          chunks: range(0, 99).map((number) => ({ objectKey: 1, number, data })),
        }),
      );
      await store.commit(life({ droppedObjects: [object(1)] }));
      const again = object(2, { objectId: object(1).objectId });
      await store.commit(life({ objects: [again], chunks: [{ objectKey: 2, number: 0, data }] }));
      assert.deepEqual(await store.findObjects(1, [again.objectId]), [
        { object: again, holders: [] },
      ]);
      let pieces = 0;
      while (await store.sweep(1_000)) assert.ok(pieces++ < 100);
      assert.deepEqual(await store.readObject(1, 0, 1 << 20), new Uint8Array(0));
      assert.deepEqual(await store.readObject(2, 0, 1 << 20), data);
      const { fileBytes, reclaimableBytes } = await store.totals();
      assert.ok(reclaimableBytes <= 256 * 4_096);
      assert.ok(fileBytes < 3_000_000, `${fileBytes}`);
    });

    test("objects that pass are found by their age, with their group", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const rows = [object(1, { storedAgeS: 30 }), object(2), object(3, { passing: false })];
      await store.commit(life({ objects: rows }));
      const { groupId } = group(1);
      assert.deepEqual(await store.passingObjects(9, beforePassing, 9), []);
      assert.deepEqual(await store.passingObjects(30, beforePassing, 9), [
        { object: rows[1], holders: [], groupId },
        { object: rows[0], holders: [], groupId },
      ]);
      assert.equal((await store.passingObjects(30, beforePassing, 1)).length, 1);
    });

    test("a deleted group takes everything with it, and no other group's", async (t) => {
      const store = await subject.open(t);
      await filled(store);
      const rows = (key: number) => ({
        snapshots: [{ row: snapshot(key, { groupKey: key }), ...content(key) }],
        objects: [object(key, { groupKey: key })],
        references: [{ holder: -key, objectKey: key }],
        chunks: [{ objectKey: key, number: 0, data: bytes(100, key) }],
        expiries: [{ groupKey: key, cursor: 1, expiresAgeS: 5 }],
        deletes: [{ groupKey: key, cursor: 2 }],
      });
      await store.commit(life(rows(1)));
      await store.commit(life(rows(2)));
      await store.commit(batch({ deletedGroups: [1] }));
      let pieces = 0;
      while (await store.sweep(1_000)) assert.ok(pieces++ < 100);
      assert.deepEqual(await store.readObject(1, 0, 100), new Uint8Array(0));
      assert.equal(await store.snapshotContent(1), undefined);
      assert.deepEqual(await store.pendingDeletes(1, 0, 9), []);
      assert.deepEqual(await store.findObjects(1, [object(1).objectId]), []);
      assert.deepEqual(
        (await store.expired(99, 9)).map(({ groupKey }) => groupKey),
        [2],
      );
      assert.deepEqual(await store.readObject(2, 0, 100), bytes(100, 2));
      assert.equal((await store.partsOf(2)).length, 1);
      assert.equal((await store.pendingDeletes(2, 0, 9)).length, 1);
    });

    test("snapshot bytes count in the totals; keys go on from the highest ever given", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({ groups: [group(1, { bytes: 100, snapshotBytes: 20 })] }));
      assert.equal((await store.totals()).bytes, 120);
      await store.commit(batch({ groups: [group(1, { bytes: 90, snapshotBytes: 50 })] }));
      assert.equal((await store.totals()).bytes, 140);
      await store.commit(batch({ deletedGroups: [1] }));
      assert.equal((await store.totals()).bytes, 0);
    });
  });
}

test("a store that is opened again goes on behind the highest keys, also of what is gone", async (t) => {
  const folder = await temporaryFolder(t);
  const first = await openSqliteStore({ folder });
  await filled(first);
  await first.commit(
    life({ snapshots: [{ row: snapshot(7), ...content(7) }], objects: [object(9)] }),
  );
  await first.commit({
    ...life({ droppedSnapshots: [7], droppedObjects: [object(9)] }),
    ageS: 50,
    clockMs: 1_700_000_000_123,
  });
  await first.close();
  const second = await openSqliteStore({ folder });
  const { nextSnapshotKey, nextObjectKey, ageS, clockMs } = second.opened;
  assert.deepEqual([nextSnapshotKey, nextObjectKey, ageS, clockMs], [8, 10, 50, 1_700_000_000_123]);
  await second.close();
});
