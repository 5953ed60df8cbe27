/** What a member may try with objects, snapshots and deletes, and what comes in between two steps of the relay. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ObjectHashes } from "../../server/object-hashes.ts";
import type { CommitBatch, Store } from "../../server/store/contract.ts";
import { fencedStore } from "../../server/store/fence.ts";
import type { ExpiredRow, ObjectRow } from "../../server/store/life.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { bytes, groupId } from "../support/devices.ts";
import { type Peer, settled } from "../support/relay-world.ts";
import {
  asked,
  confirm,
  confirmOf,
  day,
  group,
  loaded,
  manifestOf,
  pass,
  putObject,
  rangeBytes,
  rest,
  snapshotBy,
} from "./life-support.ts";

/** Two connected devices, the first of which has pushed so many blobs. */
async function written(blobs: number) {
  const made = await group(2);
  const [a, b] = made.devices;
  const [first, second] = made.peers;
  assert(a && b && first && second);
  const pushed = Array.from({ length: blobs }, () => a.next());
  for (const one of pushed) first.push([one]);
  await rest();
  for (const peer of made.peers) peer.port.take();
  return { ...made, a, b, first, second, pushed };
}

function drop(peer: Peer, objectId: Uint8Array): Promise<string> {
  return asked(peer, { case: "dropObject", value: { objectId } });
}

test("11.14 what a dropped object held on disk is given back, without anything else going", async () => {
  const { world, first } = await written(1);
  await pass(world);
  let sweeps = 0;
  world.store.sweep = () => {
    sweeps += 1;
    return Promise.resolve(false);
  };
  await pass(world);
  assert.equal(sweeps, 0, "nothing is left to be given back");
  await drop(first, await putObject(first, bytes(1_000, 1)));
  await pass(world);
  assert.equal(sweeps, 1);
});

test("11.10 who stores and drops in turns takes no more of the disk than the quota and what a sweep is behind", async () => {
  const { world, first, second } = await written(1);
  let pieces = 0;
  let go: (() => void) | undefined;
  world.store.sweep = async () => {
    await new Promise<void>((resolve) => {
      go = resolve;
    });
    pieces += 1;
    return pieces < 3;
  };
  for (let i = 0; i < 17; i++) await drop(first, await putObject(first, bytes(rangeBytes, i)));
  const content = bytes(10, 99);
  const objectId = blake2b256(content);
  const value = { objectId, sizeBytes: 10n, offset: 0n, data: content };
  assert.equal(await asked(second, { case: "putObject", value }), "", "it waits for the sweep");
  for (let i = 0; i < 3; i++) {
    assert.equal(second.all("objectState").length, 0);
    go?.();
    await rest();
  }
  assert.equal(second.last("objectState").complete, true);
});

test("11.30 a member who goes on deleting keeps nobody else's bodies from expiring", async () => {
  const { world, a, first } = await written(1);
  const calls: string[] = [];
  const { store } = world;
  const blobIds = store.blobIds.bind(store);
  const expired = store.expired.bind(store);
  const deleting = () => first.push([a.next({ deletes: [bytes(16, 77)], force: true })]);
  store.blobIds = async (...of) => {
    calls.push("search");
    if (calls.length < 50) deleting();
    await settled();
    return await blobIds(...of);
  };
  store.expired = (...of) => {
    calls.push("expired");
    return expired(...of);
  };
  deleting();
  await rest();
  await pass(world, 61_000);
  await rest();
  const place = calls.indexOf("expired");
  assert.ok(place >= 0 && place < 5, calls.join(" "));
  for (let i = 0; i < 60; i++) await pass(world);
  const { groupKey } = (await loaded(world)).group;
  assert.deepEqual(
    await store.pendingDeletes(groupKey, 0, 10),
    [],
    "and all of them are carried out",
  );
});

test("11.32 a delete with force goes at once, however many stand before it that wait for an acknowledgement", async () => {
  const { world, a, first, pushed } = await written(1);
  const [one] = pushed;
  assert(one?.blob !== undefined);
  const unknown = new Uint8Array(16);
  for (let i = 0; i < 6; i++) {
    first.push(Array.from({ length: 100 }, () => a.next({ deletes: [unknown] })));
  }
  await rest();
  await pass(world);
  const { store } = world;
  const pendingDeletes = store.pendingDeletes.bind(store);
  let pages = 0;
  store.pendingDeletes = async (...of) => {
    pages += 1;
    return await pendingDeletes(...of);
  };
  first.push([a.next({ force: true, deletes: [one.blob.blobId ?? unknown] })]);
  await rest();
  await pass(world);
  const { groupKey } = (await loaded(world)).group;
  const rows = await store.readBlobs(groupKey, 0, 1, { rowsMax: 1, bytesMax: 1 << 20 });
  assert.equal(rows[0]?.body.byteLength, 0);
  assert.ok(pages <= 3, `${pages}: what waits is not looked through again`);
  assert.equal((await pendingDeletes(groupKey, 0, 1_000)).length, 600, "the others still wait");
  for (let i = 0; i < 5; i++) await pass(world);
  assert.ok(pages <= 6, `${pages}: then there is nothing to look for`);
});

/** Lets whatever is read of one group fail as a damaged page does. */
function damage(store: Pick<Store, "loadGroup">, groupId: Uint8Array): void {
  const loadGroup = store.loadGroup.bind(store);
  store.loadGroup = async (id) => {
    if (!equalBytes(id, groupId)) return await loadGroup(id);
    const cause = Object.assign(new Error("malformed"), { code: "SQLITE_CORRUPT" });
    throw new SyncError(ErrorCode.STORE_UNAVAILABLE, { cause });
  };
}

test("11.14 objects of a damaged group keep nobody else's from being collected", async () => {
  const { world, first } = await written(1);
  const { store } = world;
  const { groupKey } = (await loaded(world)).group;
  await asked(first, {
    case: "putObject",
    value: {
      objectId: bytes(32, 1),
      sizeBytes: 200_000n,
      offset: 0n,
      data: bytes(65_536, 1),
    },
  });
  const [mine] = await store.findObjects(groupKey, [bytes(32, 1)]);
  assert(mine);
  // Older ones of a group that cannot be read, more than are looked at together.
  const passingObjects = store.passingObjects.bind(store);
  const damagedId = bytes(32, 77);
  damage(store, damagedId);
  store.passingObjects = async (ageS, after, rowsMax) => {
    const others = Array.from({ length: 250 }, (_, i) => ({
      object: { ...mine.object, groupKey: 77, objectKey: -250 + i, storedAgeS: 0 },
      holders: [],
      groupId: damagedId,
    })).filter(({ object }) => after.storedAgeS < 0 || object.objectKey > after.objectKey);
    const found = [...others, ...(await passingObjects(ageS, after, rowsMax))];
    return found.slice(0, rowsMax);
  };
  await pass(world, 2 * day);
  await rest();
  assert.deepEqual(await store.findObjects(groupKey, [bytes(32, 1)]), []);
});

test("11.30 damage where expiries stand keeps no group from being trimmed, and is told", async () => {
  const { world, a, first, second } = await written(3);
  const { id } = await snapshotBy(world, first, a, { cursor: 3, link: a.link });
  await confirm(second, id);
  for (const peer of [first, second]) peer.cut();
  await rest();
  const failures = world.storeFailures;
  world.store.expired = () => {
    const cause = Object.assign(new Error("malformed"), { code: "SQLITE_CORRUPT" });
    throw new SyncError(ErrorCode.STORE_UNAVAILABLE, { cause });
  };
  const { groupKey } = (await loaded(world)).group;
  await assert.rejects(world.relay.trimNow());
  const rows = await world.store.readBlobs(groupKey, 0, 3, { rowsMax: 9, bytesMax: 1 << 20 });
  assert.ok(rows.every(({ body }) => body.byteLength === 0));
  await pass(world, 700_000);
  assert.ok(world.storeFailures > failures);
});

for (const read of ["partsOf", "snapshotContent", "readObject"] as const) {
  test(`11.30 a group whose ${read} meets damage is fenced off, and the store goes on as one that is whole`, async () => {
    const memory: Store = openMemoryStore();
    const fenced: unknown[] = [];
    const disk = fencedStore(memory, (one) => fenced.push(one));
    const made = await group(2, { disk });
    const { world } = made;
    const [a] = made.devices;
    const [first, second] = made.peers;
    assert(a && first && second);
    first.push([a.next(), a.next()]);
    await rest();
    const row = (await memory.loadGroup(groupId))?.group;
    assert(row);
    const part = await putObject(first, bytes(100, 1), true);
    first.ask({ case: "ack", value: { applied: 2n } });
    const manifest = manifestOf({
      author: a.id,
      logId: row.logId,
      replacesThrough: 2,
      link: a.link,
      parts: [part],
    });
    await asked(first, { case: "putSnapshot", value: { manifest, signature: bytes(64, 1) } });
    // A second one takes its place: the first one's parts are looked up.
    Object.assign(memory, {
      [read]: () => {
        const cause = Object.assign(new Error("malformed"), { code: "SQLITE_CORRUPT" });
        return Promise.reject(new SyncError(ErrorCode.STORE_UNAVAILABLE, { cause }));
      },
    });
    const again = manifestOf({
      author: a.id,
      logId: row.logId,
      replacesThrough: 2,
      link: a.link,
      parts: [part],
      claims: 2,
    });
    if (read === "partsOf") {
      await asked(first, {
        case: "putSnapshot",
        value: { manifest: again, signature: bytes(64, 1) },
      });
    } else if (read === "snapshotContent") {
      await asked(second, { case: "getSnapshot", value: { unconfirmed: true } });
    } else {
      await asked(second, { case: "getObject", value: { objectId: part, offset: 0n } });
    }
    assert.equal(fenced.length, 1);
    assert.equal(world.relay.storeFailure, undefined);
    assert.equal(disk.fence.groups.length, 1);
    assert.deepEqual(world.defects, []);
  });
}

test("11.30 a group whose part of the store is damaged keeps nobody else's bodies from expiring", async () => {
  const { world, a, first } = await written(1);
  const { store } = world;
  first.push([a.next({ ttlS: 5 })]);
  await rest();
  const broken: ExpiredRow = {
    expiresAgeS: 1,
    groupKey: 99,
    cursor: 1,
    groupId: bytes(32, 99),
    bodyBytes: 10,
  };
  const expired = store.expired.bind(store);
  const loadGroup = store.loadGroup.bind(store);
  let there = true;
  store.expired = async (...of) => [...(there ? [broken] : []), ...(await expired(...of))];
  const commit = store.commit.bind(store);
  store.commit = async (batch: CommitBatch) => {
    if (batch.life?.expiriesDone.some(({ groupKey }) => groupKey === 99)) there = false;
    await commit(batch);
  };
  store.loadGroup = async (id) => {
    if (broken.groupId !== undefined && equalBytes(id, broken.groupId)) {
      const cause = Object.assign(new Error("malformed"), { code: "SQLITE_CORRUPT" });
      throw new SyncError(ErrorCode.STORE_UNAVAILABLE, { cause });
    }
    return await loadGroup(id);
  };
  await pass(world, 61_000);
  const { groupKey } = (await loaded(world)).group;
  const rows = await store.readBlobs(groupKey, 1, 2, { rowsMax: 10, bytesMax: 1 << 20 });
  assert.equal(rows[0]?.body.byteLength, 0);
});

test("11.30 one commit drops no more than a slice, also of bodies that expire or are deleted together", async () => {
  const { world, a, first } = await written(0);
  const { store } = world;
  const large = { bodyBytes: 900_000 };
  const made = [
    ...Array.from({ length: 6 }, () => a.next({ ttlS: 5, ...large })),
    ...Array.from({ length: 6 }, () => a.next(large)),
  ];
  for (const one of made) {
    first.push([one]);
    await rest();
  }
  const slices: number[] = [];
  const commit = store.commit.bind(store);
  store.commit = async (batch: CommitBatch) => {
    if ((batch.life?.drops.length ?? 0) > 0) slices.push(batch.life?.drops.length ?? 0);
    await commit(batch);
  };
  await pass(world, 61_000);
  const deletes = made.slice(6).map(({ blob }) => blob.blobId ?? bytes(16, 0));
  first.push([a.next({ deletes, force: true })]);
  await rest();
  await pass(world);
  assert.equal(
    slices.reduce((sum, size) => sum + size, 0),
    12,
  );
  assert.ok(Math.max(...slices) <= 2, slices.join(" "));
});

test("11.28 a snapshot that becomes effective, and trims, while a page is read is told in place of the page", async () => {
  const { world, a, first, second, pushed } = await written(6);
  const link = pushed[3]?.link ?? a.link;
  const { id, manifest } = await snapshotBy(world, first, a, { cursor: 4, link });
  const { store } = world;
  const readBlobs = store.readBlobs.bind(store);
  let once = true;
  store.readBlobs = async (...of) => {
    if (once) {
      once = false;
      await confirm(second, id);
      await pass(world);
    }
    return await readBlobs(...of);
  };
  second.port.take();
  second.ask({ case: "pull", value: { after: 0n, windowBytes: 1 << 20 } });
  for (let i = 0; i < 5; i++) await rest();
  assert.deepEqual(second.last("snapshot").manifest, manifest);
  const pages = second.all("blobs");
  assert.deepEqual(
    pages.flatMap(({ blobs }) => blobs.map(({ cursor, bodyState }) => [cursor, bodyState])),
    [
      [5n, 0],
      [6n, 0],
    ],
  );
});

test("11.28 a snapshot that is replaced while it is read is not told as none", async () => {
  const { world, a, first, second, pushed } = await written(6);
  const old = await snapshotBy(world, first, a, { cursor: 3, link: pushed[2]?.link ?? a.link });
  await confirm(second, old.id);
  const next = await snapshotBy(world, first, a, { cursor: 5, link: pushed[4]?.link ?? a.link });
  const { store } = world;
  const snapshotContent = store.snapshotContent.bind(store);
  let once = true;
  store.snapshotContent = async (key) => {
    if (once) {
      once = false;
      await confirm(second, next.id);
    }
    return await snapshotContent(key);
  };
  const pull = first.ask({ case: "pull", value: { after: 0n, windowBytes: 1 << 20 } });
  for (let i = 0; i < 5; i++) await rest();
  assert.deepEqual(first.last("snapshot").manifest, next.manifest);
  assert.ok(first.said().includes(`#${pull} blobs 5-6`));
});

test("11.23 a snapshot stored and confirmed in one commit lets the parts go of the one it replaces", async () => {
  const { world, a, first, second, pushed } = await written(6);
  const old = await snapshotBy(world, first, a, { cursor: 3, link: pushed[2]?.link ?? a.link });
  await confirm(second, old.id);
  const part = await putObject(first, bytes(2_000, 9), true);
  first.ask({ case: "ack", value: { applied: 6n } });
  const { group: row } = await loaded(world);
  const link = pushed[5]?.link ?? a.link;
  const manifest = manifestOf({
    author: a.id,
    logId: row.logId,
    replacesThrough: 6,
    link,
    parts: [part],
  });
  const { store } = world;
  const commit = store.commit.bind(store);
  let go: (() => void) | undefined;
  store.commit = async (batch) => {
    if (go === undefined) {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
    }
    await commit(batch);
  };
  first.push([a.next()]);
  await rest();
  first.ask({ case: "putSnapshot", value: { manifest, signature: bytes(64, 1) } });
  await settled();
  const asks = second.ask(confirmOf(blake2b256(manifest)));
  await rest();
  go?.();
  for (let i = 0; i < 3; i++) await rest();
  assert.ok(second.said().includes(`#${asks} done`));
  const after = await loaded(world);
  assert.deepEqual(
    after.snapshots.map(({ replacesThrough, effective }) => [replacesThrough, effective]),
    [[6, true]],
  );
  assert.deepEqual(await store.findObjects(row.groupKey, [old.part]), []);
  assert.equal(after.group.snapshotBytes, 2_000 + 256 + manifest.byteLength + 256);
});

test("11.9 an object that many ask about is hashed once at a time", async () => {
  const content = bytes(3 * rangeBytes, 1);
  let reads = 0;
  const hashes = new ObjectHashes({
    readObject: async (_: number, offset: number, length: number) => {
      reads += 1;
      await settled();
      return content.subarray(offset, offset + length);
    },
  } as never);
  const row = { objectKey: 1, sizeBytes: content.byteLength } as ObjectRow;
  const all = await Promise.all(Array.from({ length: 20 }, () => hashes.hash(row)));
  assert.equal(reads, 3);
  for (const hash of all) assert.deepEqual(hash, blake2b256(content));
});
