/** One suite, held against every store: what `server/store/contract.ts` promises. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import fc from "fast-check";
import type { BlobRow, Store } from "../../server/store/contract.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { compareBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { batch, blob, bytes, control, device, group, invite, range } from "./support/rows.ts";

interface Subject {
  readonly name: string;
  open(t: TestContext): Promise<Store>;
}

const subjects: readonly Subject[] = [
  { name: "memory", open: async () => openMemoryStore() },
  {
    name: "SQLite",
    open: async (t) => {
      const store = await openSqliteStore({ folder: await temporaryFolder(t) });
      t.after(async () => {
        await store.close();
      });
      return store;
    },
  },
];

const wide = { rowsMax: 10_000, bytesMax: 1 << 30 };

async function cursors(store: Store, groupKey = 1): Promise<number[]> {
  const blobs = await store.readBlobs(groupKey, 0, Number.MAX_SAFE_INTEGER, wide);
  return blobs.map((row) => row.cursor);
}

function isCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => error instanceof SyncError && error.code === code;
}

for (const subject of subjects) {
  describe(`store contract: ${subject.name}`, () => {
    test("a new store is fresh and empty, and its keys begin at 1", async (t) => {
      const store = await subject.open(t);
      assert.deepEqual(store.opened, {
        nextGroupKey: 1,
        nextDeviceKey: 1,
        nextSnapshotKey: 1,
        nextObjectKey: 1,
        ageS: 0,
        clockMs: 0,
        bytes: 0,
        fresh: true,
      });
      const { groups, blobs, bytes: counted } = await store.totals();
      assert.deepEqual({ groups, blobs, counted }, { groups: 0, blobs: 0, counted: 0 });
    });

    test("an empty commit is one", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({}));
      assert.equal((await store.totals()).groups, 0);
    });

    test("loadGroup gives back the group and its devices as they were written, by device key", async (t) => {
      const store = await subject.open(t);
      const mine = group(1, {
        head: 7,
        floor: 3,
        bytes: 900,
        blobs: 4,
        quotaBytes: 5,
        epoch: 2,
        replacedThrough: 5,
        trimmedThrough: 4,
        snapshotAgeS: 77,
        snapshotBytes: 12,
        controlBytes: 34,
      });
      const devices = [
        device(1, 1, { witnessCounter: 5, witness: bytes(700, 1), applied: 6 }),
        device(1, 2, {
          state: "removed",
          lastSeq: 9,
          lastLink: bytes(32, 77),
          lastCursor: 7,
          seenAgeS: 9,
        }),
        device(1, 4, { role: "paper", state: "refused" }),
      ];
      await store.commit(
        batch({ groups: [mine, group(2)], devices: [...devices, device(2, 3)].reverse() }),
      );
      assert.deepEqual(await store.loadGroup(mine.groupId), {
        group: mine,
        devices,
        snapshots: [],
      });
      assert.equal(await store.loadGroup(bytes(32, 99)), undefined);
    });

    test("rows whose numbers are large are read back as they were written, beside small ones", async (t) => {
      const store = await subject.open(t);
      const edges: Partial<BlobRow>[] = [
        { deviceKey: 2 ** 24 - 1, epoch: 2 ** 18 - 1, bodyState: 7, storedAgeS: 2 ** 32 - 1 },
        { deviceKey: 2 ** 24 },
        { epoch: 2 ** 18 },
        { storedAgeS: 2 ** 32 },
        { header: bytes(2 ** 14 - 1, 3), body: bytes(0, 0) },
        { header: bytes(2 ** 14, 3) },
        { header: bytes(0, 0), body: bytes(2 ** 17, 9), bodyState: 1 },
        { signature: bytes(65, 4) },
      ];
      const first = 2 ** 40;
      for (const groupKey of [1, 2 ** 29 - 1, 2 ** 29]) {
        const rows = edges.map((edge, i) => ({ ...blob(groupKey, first + i), ...edge }));
        await store.commit(
          batch({ groups: [group(groupKey, { head: first + rows.length - 1 })], blobs: rows }),
        );
        const found = await store.readBlobs(groupKey, 0, Number.MAX_SAFE_INTEGER, wide);
        assert.deepEqual(found, rows);
      }
    });

    test("a group without devices is loaded without any", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({ groups: [group(1)] }));
      assert.deepEqual(await store.loadGroup(group(1).groupId), {
        group: group(1),
        devices: [],
        snapshots: [],
      });
    });

    test("groups and devices are written whole, and again with the same rows", async (t) => {
      const store = await subject.open(t);
      await store.commit(
        batch({
          groups: [group(1)],
          devices: [device(1, 1, { witnessCounter: 1, witness: bytes(9, 9) })],
        }),
      );
      const groups = [
        group(1, {
          head: 12,
          bytes: 5,
          floor: 2,
          replacedThrough: 4,
          trimmedThrough: 3,
          snapshotAgeS: 8,
          snapshotBytes: 6,
          controlBytes: 7,
          logId: bytes(16, 55),
          epoch: 3,
        }),
      ];
      const devices = [
        device(1, 1, {
          role: "paper",
          state: "removed",
          lastSeq: 3,
          lastLink: bytes(32, 8),
          lastCursor: 12,
          applied: 11,
          lastSeenMs: 1_900_000_000_000,
          seenAgeS: 99,
          witnessCounter: 2,
          witness: bytes(30, 3),
        }),
      ];
      for (let times = 0; times < 3; times++) await store.commit(batch({ groups, devices }));
      assert.deepEqual(await store.loadGroup(group(1).groupId), {
        group: groups[0],
        devices,
        snapshots: [],
      });
      assert.equal((await store.totals()).groups, 1);
    });

    test("a witness can be taken back", async (t) => {
      const store = await subject.open(t);
      const before = device(1, 1, { witnessCounter: 3, witness: bytes(50, 1) });
      await store.commit(batch({ groups: [group(1)], devices: [before] }));
      await store.commit(batch({ devices: [device(1, 1)] }));
      const loaded = await store.loadGroup(group(1).groupId);
      assert.deepEqual(loaded?.devices, [device(1, 1)]);
    });

    test("the rows may be used again once commit was called", async (t) => {
      const store = await subject.open(t);
      const body = bytes(100, 1);
      const written = store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1, { body })] }));
      body.fill(0);
      await written;
      const [read] = await store.readBlobs(1, 0, 1, wide);
      assert.deepEqual(read?.body, bytes(100, 1));
    });

    test("rows that are views of a larger array are kept alone", async (t) => {
      const store = await subject.open(t);
      const whole = bytes(1_000, 3);
      const view = blob(1, 1, { body: whole.subarray(10, 30), header: whole.subarray(500, 517) });
      await store.commit(batch({ groups: [group(1)], blobs: [view] }));
      const [read] = await store.readBlobs(1, 0, 1, wide);
      assert.deepEqual(read?.body, whole.slice(10, 30));
      assert.deepEqual(read?.header, whole.slice(500, 517));
    });

    test("groupsOfDevice finds every group of a device and tells role, state and membership", async (t) => {
      const store = await subject.open(t);
      const id = bytes(32, 42);
      await store.commit(
        batch({
          groups: [group(1), group(2, { membershipCount: 9 }), group(3)],
          devices: [
            device(1, 1, { deviceId: id }),
            device(2, 2, { deviceId: id, role: "paper", state: "removed" }),
            device(3, 3),
          ],
        }),
      );
      assert.deepEqual(await store.groupsOfDevice(id), [
        {
          groupId: group(1).groupId,
          role: "device",
          state: "active",
          membershipCount: 1,
          membershipHead: group(1).membershipHead,
        },
        {
          groupId: group(2).groupId,
          role: "paper",
          state: "removed",
          membershipCount: 9,
          membershipHead: group(2).membershipHead,
        },
      ]);
      assert.deepEqual(await store.groupsOfDevice(bytes(32, 43)), []);
    });

    test("blobs come back as they were written, ascending, group by group", async (t) => {
      const store = await subject.open(t);
      const one = range(1, 5).map((cursor) => blob(1, cursor));
      const two = range(1, 3).map((cursor) => blob(2, cursor, { bodyState: 2, storedAgeS: 99 }));
      await store.commit(
        batch({
          groups: [group(1), group(2)],
          blobs: [...one.slice(0, 2), ...two, ...one.slice(2)],
        }),
      );
      assert.deepEqual(await store.readBlobs(1, 0, 100, wide), one);
      assert.deepEqual(await store.readBlobs(2, 0, 100, wide), two);
      assert.deepEqual(await store.readBlobs(3, 0, 100, wide), []);
    });

    test("blobs committed out of order are read in order", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({ groups: [group(1)], blobs: [blob(1, 5), blob(1, 2)] }));
      await store.commit(batch({ blobs: [blob(1, 3)] }));
      assert.deepEqual(await cursors(store), [2, 3, 5]);
    });

    test("a read begins after `after` and ends with `through`", async (t) => {
      const store = await subject.open(t);
      const blobs = [2, 3, 5, 8].map((cursor) => blob(1, cursor));
      await store.commit(batch({ groups: [group(1)], blobs }));
      const read = async (after: number, through: number): Promise<number[]> =>
        (await store.readBlobs(1, after, through, wide)).map((row) => row.cursor);
      assert.deepEqual(await read(2, 5), [3, 5]);
      assert.deepEqual(await read(0, 2), [2]);
      assert.deepEqual(await read(3, 4), []);
      assert.deepEqual(await read(5, 5), []);
      assert.deepEqual(await read(8, 100), []);
      assert.deepEqual(await read(7, 3), []);
    });

    test("a page ends at its rows or its bytes, and always holds one row", async (t) => {
      const store = await subject.open(t);
      // 400 bytes each: 60 of header, 64 of signature, 276 of body.
      const blobs = range(1, 10).map((cursor) => blob(1, cursor));
      blobs[4] = blob(1, 5, { body: bytes(50_000, 5) });
      await store.commit(batch({ groups: [group(1)], blobs }));
      const read = async (after: number, rowsMax: number, bytesMax: number): Promise<number[]> =>
        (await store.readBlobs(1, after, 100, { rowsMax, bytesMax })).map((row) => row.cursor);
      assert.deepEqual(await read(0, 3, 1 << 20), [1, 2, 3]);
      assert.deepEqual(await read(0, 100, 1_200), [1, 2, 3]);
      assert.deepEqual(await read(0, 100, 1_199), [1, 2]);
      assert.deepEqual(await read(0, 100, 10_000), [1, 2, 3, 4]);
      assert.deepEqual(await read(4, 100, 10_000), [5]);
      assert.deepEqual(await read(0, 100, 0), [1]);
      assert.deepEqual(await read(0, 1, 0), [1]);
      assert.deepEqual(await read(5, 0, 1_000), [6]);
      assert.deepEqual(await read(10, 100, 0), []);
    });

    test("empty headers, signatures and bodies are kept as empty", async (t) => {
      const store = await subject.open(t);
      const none = new Uint8Array(0);
      const blobs = [
        blob(1, 1, { body: none, bodyState: 1 }),
        blob(1, 2, { header: none, signature: none, body: none }),
        blob(1, 3, { header: none }),
      ];
      await store.commit(batch({ groups: [group(1)], blobs }));
      assert.deepEqual(await store.readBlobs(1, 0, 3, wide), blobs);
    });

    test("bytes are kept whatever they are", async (t) => {
      const store = await subject.open(t);
      const groupKey = 1;
      let cursor = 0;
      await store.commit(batch({ groups: [group(groupKey)] }));
      const content = fc.uint8Array({ maxLength: 64 });
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(content, content, content), { maxLength: 8 }),
          async (parts) => {
            const after = cursor;
            const blobs = parts.map(([header, signature, body]) =>
              blob(groupKey, ++cursor, { header, signature, body }),
            );
            await store.commit(batch({ blobs }));
            assert.deepEqual(await store.readBlobs(groupKey, after, cursor, wide), blobs);
          },
        ),
        { numRuns: 50 },
      );
    });

    test("numbers above 2^32 and up to 2^53 - 1 are kept exactly", async (t) => {
      const store = await subject.open(t);
      const most = Number.MAX_SAFE_INTEGER;
      const large = 2 ** 32 + 7;
      const mine = group(1, {
        head: most,
        floor: large,
        bytes: most,
        quotaBytes: most,
        epoch: large,
      });
      const sender = device(1, 1, {
        lastSeq: most,
        lastCursor: most,
        applied: large,
        lastSeenMs: most,
        witnessCounter: most,
      });
      const blobs = [
        blob(1, large, { seq: most - 1, priorCursor: 2 ** 31, storedAgeS: most }),
        blob(1, most, { seq: most, priorCursor: large, epoch: large }),
      ];
      const change = control(1, large, { epoch: most });
      await store.commit(
        batch({ groups: [mine], devices: [sender], blobs, control: [change], ageS: large }),
      );
      assert.deepEqual(await store.loadGroup(mine.groupId), {
        group: mine,
        devices: [sender],
        snapshots: [],
      });
      assert.deepEqual(await store.readBlobs(1, 0, most, wide), blobs);
      assert.deepEqual(await store.readBlobs(1, large, most, wide), blobs.slice(1));
      assert.deepEqual(await store.readBlobs(1, large - 1, large, wide), blobs.slice(0, 1));
      assert.deepEqual(await store.linkAt(1, most), blobs[1]?.link);
      assert.deepEqual(
        (await store.senderPlaces(1, most, most - 1)).map((place) => place.seq),
        [most, most - 1],
      );
      assert.deepEqual(await store.readControl(1, large - 1, 1), [change]);
      assert.equal((await store.totals()).bytes, most);
    });

    test("linkAt gives the link at a cursor, and nothing where no blob is", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({ groups: [group(1)], blobs: [blob(1, 4)] }));
      assert.deepEqual(await store.linkAt(1, 4), blob(1, 4).link);
      assert.equal(await store.linkAt(1, 3), undefined);
      assert.equal(await store.linkAt(2, 4), undefined);
    });

    test("senderPlaces walks one sender's blobs, newest first, past those of others", async (t) => {
      const store = await subject.open(t);
      const mine = (cursor: number, seq: number, priorCursor: number): BlobRow =>
        blob(1, cursor, { deviceKey: 1, seq, priorCursor });
      const theirs = (cursor: number, seq: number, priorCursor: number): BlobRow =>
        blob(1, cursor, { deviceKey: 2, seq, priorCursor });
      await store.commit(
        batch({
          groups: [group(1)],
          blobs: [mine(1, 1, 0), theirs(2, 1, 0), theirs(3, 2, 2), mine(4, 2, 1), mine(9, 3, 4)],
        }),
      );
      const places = await store.senderPlaces(1, 9, 1);
      assert.deepEqual(places, [
        { seq: 3, cursor: 9, link: blob(1, 9).link },
        { seq: 2, cursor: 4, link: blob(1, 4).link },
        { seq: 1, cursor: 1, link: blob(1, 1).link },
      ]);
      const seqs = async (from: number, downTo: number): Promise<number[]> =>
        (await store.senderPlaces(1, from, downTo)).map((place) => place.seq);
      assert.deepEqual(await seqs(9, 3), [3]);
      assert.deepEqual(await seqs(9, 2), [3, 2]);
      assert.deepEqual(await seqs(9, 4), []);
      assert.deepEqual(await seqs(3, 1), [2, 1]);
      assert.deepEqual(await seqs(0, 1), []);
    });

    test("senderPlaces ends early where headers were trimmed", async (t) => {
      const store = await subject.open(t);
      await store.commit(
        batch({
          groups: [group(1)],
          blobs: [blob(1, 8, { seq: 5, priorCursor: 6 }), blob(1, 9, { seq: 6, priorCursor: 8 })],
        }),
      );
      const places = await store.senderPlaces(1, 9, 1);
      assert.deepEqual(
        places.map((place) => place.seq),
        [6, 5],
      );
    });

    test("control blobs come by number, up to the bytes asked for, one at least", async (t) => {
      const store = await subject.open(t);
      const changes = range(1, 5).map((number) => control(1, number));
      await store.commit(
        batch({ groups: [group(1), group(2)], control: [...changes, control(2, 1)] }),
      );
      assert.deepEqual(await store.readControl(1, 0, 1 << 20), changes);
      assert.deepEqual(await store.readControl(1, 2, 2_000), changes.slice(2, 4));
      assert.deepEqual(await store.readControl(1, 2, 1_999), changes.slice(2, 3));
      assert.deepEqual(await store.readControl(1, 4, 0), changes.slice(4));
      assert.deepEqual(await store.readControl(1, 5, 1 << 20), []);
      assert.deepEqual(await store.controlByHead(1, control(1, 3).head), changes[2]);
      assert.equal(await store.controlByHead(1, bytes(32, 1)), undefined);
      assert.equal(await store.controlByHead(3, control(1, 3).head), undefined);
    });

    test("invites are found by their hash and can be used up; labels are any text", async (t) => {
      const store = await subject.open(t);
      const first = invite(1, { label: 'Zoë\'s "tablet"\n[1,2] \u{1F600} \0 end', quotaBytes: 77 });
      await store.commit(batch({ invites: [first, invite(2, { expiresAgeS: 3 })] }));
      assert.deepEqual(await store.findInvite(first.inviteHash), first);
      const used = { ...first, usedByGroupKey: 1 };
      await store.commit(batch({ invites: [used] }));
      assert.deepEqual(await store.findInvite(first.inviteHash), used);
      assert.equal(await store.findInvite(bytes(32, 5)), undefined);
    });

    test("invites are listed by their hashes, from one on, with the group each founded", async (t) => {
      const store = await subject.open(t);
      const invites = range(1, 5).map((seed) =>
        invite(seed, { label: `invite ${seed}`, usedByGroupKey: seed === 2 ? 1 : 0 }),
      );
      await store.commit(batch({ groups: [group(1)], invites }));
      const hashes = invites.map((row) => row.inviteHash).sort(compareBytes);
      const all = await store.listInvites(new Uint8Array(32), 100);
      assert.deepEqual(
        all.map((row) => row.invite.inviteHash),
        hashes,
      );
      const founded = all.filter((row) => row.groupId !== undefined);
      assert.deepEqual(
        founded.map((row) => [row.invite.label, row.groupId]),
        [["invite 2", group(1).groupId]],
      );
      const page = await store.listInvites(hashes[2] as Uint8Array, 2);
      assert.deepEqual(
        page.map((row) => row.invite.inviteHash),
        hashes.slice(2, 4),
      );
    });

    test("an invite that was taken back says when", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({ invites: [invite(1)] }));
      const revoked = invite(1, { revokedMs: 1_800_000_000_000 });
      await store.commit(batch({ invites: [revoked] }));
      assert.deepEqual(await store.findInvite(revoked.inviteHash), revoked);
    });

    test("groups are listed by their keys, with label, active devices and the last of them seen", async (t) => {
      const store = await subject.open(t);
      await store.commit(
        batch({
          groups: [group(1), group(2, { suspended: true, head: 4, bytes: 9 }), group(3)],
          devices: [
            device(1, 1, { lastSeenMs: 5 }),
            device(1, 2, { lastSeenMs: 9, state: "removed" }),
            device(2, 3, { lastSeenMs: 7 }),
            device(2, 4, { lastSeenMs: 6, role: "paper" }),
          ],
          invites: [invite(1, { label: "home", usedByGroupKey: 2 }), invite(2)],
        }),
      );
      const all = await store.listGroups(0, 100);
      assert.deepEqual(all, [
        { group: group(1), label: "", activeDevices: 1, lastSeenMs: 9 },
        {
          group: group(2, { suspended: true, head: 4, bytes: 9 }),
          label: "home",
          activeDevices: 2,
          lastSeenMs: 7,
        },
        { group: group(3), label: "", activeDevices: 0, lastSeenMs: 0 },
      ]);
      assert.deepEqual(
        (await store.listGroups(1, 1)).map((row) => row.group.groupKey),
        [2],
      );
      assert.deepEqual(await store.listGroups(3, 100), []);
    });

    test("a deleted group is gone at once, with its devices and its counters, and others stay", async (t) => {
      const store = await subject.open(t);
      const rows = (key: number) => ({
        groups: [group(key, { bytes: 400, blobs: 4, head: 4 })],
        devices: [device(key, key, { witnessCounter: 1, witness: bytes(9, key) })],
        blobs: range(1, 4).map((cursor) => blob(key, cursor)),
        control: [control(key, 1)],
      });
      await store.commit(batch(rows(1)));
      await store.commit(batch({ ...rows(2), invites: [invite(1, { usedByGroupKey: 1 })] }));
      await store.commit(batch({ groups: rows(1).groups, deletedGroups: [1] }));
      assert.equal(await store.loadGroup(group(1).groupId), undefined);
      assert.deepEqual(await store.groupsOfDevice(device(1, 1).deviceId), []);
      assert.deepEqual(
        (await store.listGroups(0, 9)).map((row) => row.group.groupKey),
        [2],
      );
      assert.equal((await store.listInvites(new Uint8Array(32), 9))[0]?.groupId, undefined);
      const { groups, blobs, bytes: counted } = await store.totals();
      assert.deepEqual({ groups, blobs, counted }, { groups: 1, blobs: 4, counted: 400 });
      // The same id may be founded again, under another key.
      await store.commit(batch({ groups: [group(3, { groupId: group(1).groupId })] }));
      assert.equal((await store.loadGroup(group(1).groupId))?.group.groupKey, 3);
    });

    test("sweeping gives back what deleted groups hold, piece by piece, and touches no other", async (t) => {
      const store = await subject.open(t);
      for (const key of [1, 2]) {
        await store.commit(
          batch({
            groups: [group(key)],
            blobs: range(1, 200).map((cursor) => blob(key, cursor, { body: bytes(3_000, cursor) })),
            control: [control(key, 1)],
          }),
        );
      }
      assert.equal(await store.sweep(50), false);
      await store.commit(batch({ deletedGroups: [1] }));
      let pieces = 0;
      while (await store.sweep(50)) {
        pieces++;
        assert.ok(pieces < 100);
        // Commits go on between the pieces.
        await store.commit(batch({ blobs: [blob(2, 200 + pieces)] }));
      }
      assert.deepEqual(await cursors(store, 1), []);
      assert.deepEqual(await store.readControl(1, 0, 1 << 20), []);
      assert.equal((await cursors(store, 2)).length, 200 + pieces);
      assert.equal((await store.readControl(2, 0, 1 << 20)).length, 1);
      assert.equal((await store.totals()).reclaimableBytes, 0);
    });

    test("totals follow the groups' counters up and down", async (t) => {
      const store = await subject.open(t);
      await store.commit(
        batch({ groups: [group(1, { blobs: 3, bytes: 300 }), group(2, { blobs: 1, bytes: 50 })] }),
      );
      await store.commit(batch({ groups: [group(1, { blobs: 2, bytes: 120 })] }));
      const totals = await store.totals();
      assert.deepEqual(
        { groups: totals.groups, blobs: totals.blobs, bytes: totals.bytes },
        { groups: 2, blobs: 3, bytes: 170 },
      );
      assert.ok(totals.fileBytes >= 0 && totals.reclaimableBytes >= 0);
    });

    test("a commit that fails leaves nothing behind, and the next one is whole", async (t) => {
      const store = await subject.open(t);
      const before = batch({
        groups: [group(1, { head: 2, blobs: 2, bytes: 800 })],
        devices: [device(1, 1)],
        blobs: [blob(1, 1), blob(1, 2)],
        control: [control(1, 1)],
        ageS: 5,
      });
      await store.commit(before);
      const taken = batch({
        groups: [group(1, { head: 4, blobs: 4, bytes: 1_600 }), group(2, { blobs: 9, bytes: 9 })],
        devices: [
          device(1, 1, { lastSeq: 4, witnessCounter: 1, witness: bytes(5, 5) }),
          device(2, 2),
        ],
        blobs: [blob(2, 1), blob(1, 3), blob(1, 2)],
        control: [control(1, 2)],
        invites: [invite(1)],
        ageS: 6,
      });
      await assert.rejects(store.commit(taken), isCode(ErrorCode.INTERNAL));
      await assert.rejects(
        store.commit({ ...taken, blobs: [blob(1, 3)], control: [control(1, 2), control(1, 2)] }),
        isCode(ErrorCode.INTERNAL),
      );
      await assert.rejects(
        store.commit({ ...taken, blobs: [blob(1, 3), blob(1, 3)] }),
        isCode(ErrorCode.INTERNAL),
      );
      assert.deepEqual(await store.loadGroup(group(1).groupId), {
        group: before.groups[0],
        devices: before.devices,
        snapshots: [],
      });
      assert.equal(await store.loadGroup(group(2).groupId), undefined);
      assert.deepEqual(await cursors(store), [1, 2]);
      assert.deepEqual(await cursors(store, 2), []);
      assert.deepEqual(await store.readControl(1, 0, 1 << 20), [control(1, 1)]);
      assert.equal(await store.findInvite(invite(1).inviteHash), undefined);
      const totals = await store.totals();
      assert.deepEqual([totals.groups, totals.blobs, totals.bytes], [1, 2, 800]);

      const next = { ...taken, blobs: [blob(2, 1), blob(1, 3), blob(1, 4)] };
      await store.commit(next);
      assert.deepEqual(await cursors(store), [1, 2, 3, 4]);
      assert.deepEqual(await store.loadGroup(group(1).groupId), {
        group: next.groups[0],
        devices: [next.devices[0]],
        snapshots: [],
      });
      assert.deepEqual(await store.findInvite(invite(1).inviteHash), invite(1));
    });

    test("reads beside a commit see all of it or nothing", async (t) => {
      const store = await subject.open(t);
      await store.commit(batch({ groups: [group(1)], devices: [device(1, 1)] }));
      const commits = (async () => {
        for (let head = 10; head <= 200; head += 10) {
          await store.commit(
            batch({
              groups: [group(1, { head })],
              devices: [device(1, 1, { lastCursor: head })],
              blobs: range(head - 9, head).map((cursor) => blob(1, cursor)),
            }),
          );
        }
        return "done" as const;
      })();
      let finished: "done" | undefined;
      do {
        const loaded = await store.loadGroup(group(1).groupId);
        const seen = await cursors(store);
        assert.equal(loaded?.group.head, loaded?.devices[0]?.lastCursor);
        assert.equal(seen.length % 10, 0);
        assert.ok(seen.length >= (loaded?.group.head ?? 0));
        finished = await Promise.race([commits, Promise.resolve(undefined)]);
      } while (finished === undefined);
      assert.equal((await cursors(store)).length, 200);
    });

    test("a commit of a thousand blobs of many groups and devices is kept whole", async (t) => {
      const store = await subject.open(t);
      const keys = range(1, 16);
      await store.commit(
        batch({
          groups: keys.map((key) => group(key, { head: 64, blobs: 64, bytes: 64 * 400 })),
          devices: keys.map((key) => device(key, key, { lastSeq: 64, lastCursor: 64 })),
          blobs: range(1, 64).flatMap((cursor) => keys.map((key) => blob(key, cursor))),
        }),
      );
      for (const key of keys) assert.deepEqual(await cursors(store, key), range(1, 64));
      assert.equal((await store.totals()).blobs, 1_024);
    });
  });
}
