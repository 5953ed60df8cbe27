/**
 * A log that a snapshot replaced gives its space back to the disk, and a late device is sent the
 * snapshot and no more. 2,000 blobs here; SYNC_RELAY_SPACE_BLOBS=100000 for the size that is promised.
 * With real devices, and one that was away, it is shown by `npm run bench -- retention`.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { noLife } from "../../server/store/life.ts";
import { fileBytes } from "../../server/store/private-files.ts";
import { SqliteConnection } from "../../server/store/sqlite-connection.ts";
import {
  databaseName,
  openSqliteStore,
  type SqliteStore,
} from "../../server/store/sqlite-store.ts";
import { sweep } from "../../server/store/sqlite-sweep.ts";
import { verifyStore } from "../../server/store/verify.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { confirmOf, manifestOf, rangeBytes } from "../relay/life-support.ts";
import { bytes, ChainDevice, foundingOf, groupId } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest } from "../support/relay-world.ts";
import { temporaryFolder } from "./support/folders.ts";
import { batch, blob, device, group, range } from "./support/rows.ts";

const blobs = Number(process.env["SYNC_RELAY_SPACE_BLOBS"] ?? 2_000);
const mib = 1024 * 1024;
/**
 * What the database takes that holds one group and nothing else: a page for each table and index. Also
 * when it holds more; it is no part of what lives. Beside it lies the index of the write-ahead log
 * (`-shm`): 32 KiB, and as many more for each 16 MiB the log ever had since the start; it goes when the
 * relay stops.
 */
const emptyBytes = 128_000;
const indexBytesMax = 160 * 1_024;

async function filesOf(folder: string) {
  const size = (end: string): Promise<number> => fileBytes(join(folder, `${databaseName}${end}`));
  return { database: await size(""), log: await size("-wal"), index: await size("-shm") };
}

/** Lets the disk work until something holds. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise<void>((resolve) => setImmediate(resolve));
}

async function ask(peer: Peer, body: Parameters<Peer["ask"]>[0]): Promise<void> {
  const id = BigInt(peer.ask(body));
  await until(() => peer.port.sent.some(({ requestId }) => requestId === id));
}

/** A group of two on a disk, and a log by the first of them. */
async function logOnDisk(t: TestContext) {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  const world = new RelayWorldUnderTest({
    disk: store,
    limits: { groupBytesMax: 2 ** 31, storeBytesMax: 2 ** 32, pushesBurst: 10_000 },
  });
  const [a, b] = [new ChainDevice(1), new ChainDevice(2)];
  const lobby = world.attach(a.id);
  await until(() => lobby.port.sent.length > 0);
  await ask(lobby, {
    case: "changeMembership",
    value: foundingOf(a.id, [a.id, b.id]).change,
  });
  const join = async (device: ChainDevice): Promise<Peer> => {
    const peer = world.attach(device.id, { groupId });
    await until(() => peer.port.sent.length > 0);
    return peer;
  };
  const first = await join(a);
  const second = await join(b);
  const push = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i += 500) {
      const made = Array.from({ length: Math.min(500, count - i) }, () =>
        a.next({ bodyBytes: 1_000 }),
      );
      const id = BigInt(first.push(made));
      await until(() => first.port.sent.some(({ requestId }) => requestId === id));
      first.port.sent.length = 0;
      second.port.sent.length = 0;
    }
  };
  const loaded = await store.loadGroup(groupId);
  assert(loaded);
  const { logId } = loaded.group;
  return { folder, store, world, a, b, first, second, join, push, logId };
}

type LogOnDisk = Awaited<ReturnType<typeof logOnDisk>>;

/** Replaces the log by a state of so many bytes; gives back its manifest and its part. */
async function replace(on: LogOnDisk, through: number, stateBytes: number) {
  const { a, first, second, world, store, logId } = on;
  const state = bytes(stateBytes, through);
  const part = blake2b256(state);
  for (const peer of [first, second]) {
    await ask(peer, { case: "ack", value: { applied: BigInt(through) } });
  }
  for (let offset = 0; offset < state.byteLength; offset += rangeBytes) {
    await ask(first, {
      case: "putObject",
      value: {
        objectId: part,
        sizeBytes: BigInt(state.byteLength),
        offset: BigInt(offset),
        data: state.subarray(offset, offset + rangeBytes),
        snapshotPart: true,
      },
    });
  }
  const manifest = manifestOf({
    author: a.id,
    logId,
    replacesThrough: through,
    link: a.link,
    parts: [part],
  });
  await ask(first, { case: "putSnapshot", value: { manifest, signature: bytes(64, 1) } });
  await ask(second, confirmOf(blake2b256(manifest)));
  const { bytes: trimmed } = await world.relay.trimNow();
  while (await store.sweep(2_000));
  return { state, part, manifest, trimmed };
}

for (const stateBytes of [blobs * 5, mib, 10 * mib]) {
  test(`11.26 11.28 the file shrinks to what lives, ${(stateBytes / mib).toFixed(2)} MiB, and a late device gets no more`, async (t) => {
    const on = await logOnDisk(t);
    const { folder, store, world, b, second, join } = on;
    await on.push(blobs);
    const before = await store.totals();
    const { state, part, manifest, trimmed } = await replace(on, blobs, stateBytes);
    assert.ok(trimmed > blobs * 1_100);

    const { group: row } = (await store.loadGroup(groupId)) ?? {};
    assert.deepEqual([row?.floor, row?.blobs, row?.bytes], [blobs, 0, 0]);
    const after = await store.totals();
    assert.equal(after.reclaimableBytes, 0);
    const disk = await filesOf(folder);
    assert.equal(disk.database + disk.log + disk.index, after.fileBytes);
    const told = `${before.fileBytes} bytes before, then ${JSON.stringify(disk)} of ${after.bytes}`;
    assert.equal(disk.log, 0);
    assert.ok(disk.index <= indexBytesMax, told);
    assert.ok(disk.database - emptyBytes <= 1.02 * after.bytes, told);
    // From half a megabyte that lives, the database is within 1.3; from a mebibyte, all of it is.
    if (stateBytes >= 500_000) assert.ok(disk.database <= 1.3 * after.bytes, told);
    if (stateBytes >= mib) assert.ok(after.fileBytes <= 1.3 * after.bytes, told);

    second.cut();
    const late = await join(b);
    late.port.sent.length = 0;
    let received = 0;
    const send = late.port.send.bind(late.port);
    late.port.send = (envelope) => {
      received += envelope.byteLength;
      send(envelope);
    };
    await ask(late, { case: "pull", value: { after: 0n, windowBytes: 1 << 20 } });
    await until(() => late.all("blobs").at(-1)?.done === true);
    assert.deepEqual(late.last("snapshot").manifest, manifest);
    for (let offset = 0; offset < state.byteLength; offset += rangeBytes) {
      await ask(late, { case: "getObject", value: { objectId: part, offset: BigInt(offset) } });
      assert.deepEqual(late.last("objectData").data, state.slice(offset, offset + rangeBytes));
    }
    assert.ok(received <= state.byteLength + 1_000, `${received} bytes`);
    const share = received / before.bytes;
    if (stateBytes < before.bytes / 110) assert.ok(share <= 0.01, `${received} of ${before.bytes}`);
    t.diagnostic(
      `${blobs} blobs: ${before.fileBytes} bytes of files became ${disk.database} and ${disk.index} for ${after.bytes} alive (${(disk.database / after.bytes).toFixed(3)}, with the index ${(after.fileBytes / after.bytes).toFixed(3)}); a late device got ${(share * 100).toFixed(2)}%`,
    );
    await world.relay.drain(0);
    await store.close();
    const verified = await verifyStore(`${folder}/relay.db`);
    assert.deepEqual(verified.findings, []);
  });
}

test("11.26 snapshot after snapshot, the file stays within what lives and what was pushed between", async (t) => {
  const on = await logOnDisk(t);
  const { store } = on;
  const files: number[] = [];
  for (let round = 1; round <= 6; round++) {
    await on.push(500);
    await replace(on, round * 500, mib);
    files.push((await store.totals()).fileBytes);
  }
  const { bytes: live } = await store.totals();
  for (const file of files) assert.ok(file <= 1.3 * live, `${files.join(", ")} of ${live}`);
  await on.world.relay.drain(0);
  await store.close();
});

async function filled(t: TestContext, count: number): Promise<SqliteStore> {
  const store = await openSqliteStore({ folder: await temporaryFolder(t) });
  for (let head = 100; head <= count; head += 100) {
    await store.commit(
      batch({
        groups: [group(1, { head, blobs: head })],
        devices: [device(1, 1, { lastSeq: head, lastCursor: head })],
        blobs: range(head - 99, head).map((cursor) =>
          blob(1, cursor, { body: bytes(3_000, cursor) }),
        ),
      }),
    );
  }
  return store;
}

test("a group that is deleted is taken away slice by slice, and expiries are looked through once", async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  await store.commit(
    batch({
      groups: [group(1, { head: 500, blobs: 500 }), group(2)],
      devices: [device(1, 1), device(2, 2)],
      blobs: range(1, 500).map((cursor) => blob(1, cursor)),
      life: {
        ...noLife,
        expiries: [1, 2].flatMap((groupKey) =>
          range(1, 50).map((cursor) => ({ groupKey, cursor, expiresAgeS: 1_000 + cursor })),
        ),
      },
    }),
  );
  await store.commit(batch({ deletedGroups: [1] }));
  await store.close();
  const connection = await SqliteConnection.open(join(folder, databaseName));
  let asked = 0;
  const counting = new Proxy(connection, {
    get: (target, name) => {
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== "function") return value;
      return (sql: string, ...rest: unknown[]) => {
        if (/\bexpiries\b/.test(sql)) asked += 1;
        return (value as (...given: unknown[]) => unknown).call(target, sql, ...rest);
      };
    },
  });
  let pieces = 0;
  while ((await sweep(counting, 50)).more) pieces += 1;
  assert.ok(pieces >= 10);
  assert.equal(asked, 1);
  const left = await connection.query(
    "SELECT group_key, count(*) AS rows FROM expiries GROUP BY group_key",
  );
  assert.deepEqual(left, [{ group_key: 2, rows: 50 }]);
  await connection.close();
});

test("a few free pages stay for what comes next; where there are more, all of them go", async (t) => {
  const store = await filled(t, 2_000);
  const drop = async (from: number, to: number): Promise<void> => {
    await store.commit(
      batch({
        life: {
          ...noLife,
          trims: [{ groupKey: 1, after: from - 1, through: to, headers: true }],
        },
      }),
    );
  };
  await drop(1, 40);
  const few = (await store.totals()).reclaimableBytes;
  assert.ok(few > 8 * 4_096, `${few}`);
  assert.equal(await store.sweep(100), false);
  assert.equal((await store.totals()).reclaimableBytes, few, "no file is cut short for so few");
  await drop(41, 1_900);
  while (await store.sweep(100));
  assert.equal((await store.totals()).reclaimableBytes, 0);
  await store.close();
});
