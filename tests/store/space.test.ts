/**
 * A log that a snapshot replaced gives its space back to the disk, and a late device is sent the
 * snapshot and no more. 2,000 blobs here; SYNC_RELAY_SPACE_BLOBS=100000 for the size that is promised.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { verifyStore } from "../../server/store/verify.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { confirmOf, manifestOf, rangeBytes } from "../relay/life-support.ts";
import { bytes, ChainDevice, foundingOf, groupId } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest } from "../support/relay-world.ts";
import { temporaryFolder } from "./support/folders.ts";

const blobs = Number(process.env["SYNC_RELAY_SPACE_BLOBS"] ?? 2_000);
/** What the state of an app comes to that wrote so many blobs of a kilobyte over each other. */
const stateBytes = blobs * 5;

/** Lets the disk work until something holds. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise<void>((resolve) => setImmediate(resolve));
}

async function ask(peer: Peer, body: Parameters<Peer["ask"]>[0]): Promise<void> {
  const id = BigInt(peer.ask(body));
  await until(() => peer.port.sent.some(({ requestId }) => requestId === id));
}

test("11.26 11.28 the file shrinks to what lives, and a late device gets a hundredth of what was", async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  const world = new RelayWorldUnderTest({
    disk: store,
    limits: { groupBytesMax: 2 ** 31, storeBytesMax: 2 ** 32, pushesBurst: 10_000 },
  });
  const devices = [new ChainDevice(1), new ChainDevice(2)];
  const [a, b] = devices;
  assert(a && b);
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
  for (let i = 0; i < blobs; i += 500) {
    const made = Array.from({ length: 500 }, () => a.next({ bodyBytes: 1_000 }));
    const id = BigInt(first.push(made));
    await until(() => first.port.sent.some(({ requestId }) => requestId === id));
    first.port.sent.length = 0;
    second.port.sent.length = 0;
  }
  const before = await store.totals();

  const state = bytes(stateBytes, 1);
  const part = blake2b256(state);
  for (const peer of [first, second]) {
    await ask(peer, { case: "ack", value: { applied: BigInt(blobs) } });
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
  const loaded = await store.loadGroup(groupId);
  assert(loaded);
  const manifest = manifestOf({
    author: a.id,
    logId: loaded.group.logId,
    replacesThrough: blobs,
    link: a.link,
    parts: [part],
  });
  await ask(first, { case: "putSnapshot", value: { manifest, signature: bytes(64, 1) } });
  await ask(second, confirmOf(blake2b256(manifest)));
  const { bytes: trimmed } = await world.relay.trimNow();
  assert.ok(trimmed > blobs * 1_100);
  while (await store.sweep(2_000));

  const { group } = (await store.loadGroup(groupId)) ?? loaded;
  assert.deepEqual([group.floor, group.blobs, group.bytes], [blobs, 0, 0]);
  const after = await store.totals();
  // A schema of empty tables and the pages that may stay free are there whatever lives.
  const spare = 180_000;
  assert.ok(
    after.fileBytes <= 1.3 * after.bytes + spare,
    `${before.fileBytes} bytes of file before, ${after.fileBytes} after, of ${after.bytes}`,
  );

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
  const share = received / before.bytes;
  assert.ok(share <= 0.01, `${received} bytes of ${before.bytes}`);
  t.diagnostic(
    `${blobs} blobs: ${before.fileBytes} bytes of file became ${after.fileBytes} for ${after.bytes} alive; a late device got ${(share * 100).toFixed(2)}%`,
  );
  await world.relay.drain(0);
  await store.close();
  const verified = await verifyStore(`${folder}/relay.db`);
  assert.deepEqual(verified.findings, []);
});
