/** What is counted towards quotas, against what is there: after whatever members, time and a failing disk do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../wire/bytes.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { bytes, type ChainDevice } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest } from "../support/relay-world.ts";
import { confirm, day, group, loaded, manifestOf, pass, rangeBytes, rest } from "./life-support.ts";

/** Numbers that follow from a seed. */
function chance(seed: number): (below: number) => number {
  let state = seed * 2_654_435_761 + 1;
  return (below) => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 0x9e3779b9) >>> 0;
    return ((state ^ (state >>> 13)) >>> 0) % below;
  };
}

/** Every object that was ever put, by its id. */
type Known = Map<string, Uint8Array>;

/** Looks at every row that is there, and compares with what is counted. */
async function assertCounted(world: RelayWorldUnderTest, known: Known, after: string) {
  const { store } = world;
  const { group: row, snapshots } = await loaded(world);
  const wide = { rowsMax: 100_000, bytesMax: 1 << 30 };
  const blobs = await store.readBlobs(row.groupKey, 0, row.head, wide);
  const control = await store.readControl(row.groupKey, 0, 1 << 30);
  const objects = await store.findObjects(row.groupKey, [...known.values()]);
  const sum = <Row>(rows: readonly Row[], of: (one: Row) => number): number =>
    rows.reduce((total, one) => total + of(one), 0);
  const objectBytes = (part: boolean): number =>
    sum(objects, ({ object }) => (object.part === part ? object.sizeBytes + 256 : 0));
  const is = {
    bytes:
      sum(blobs, (one) => one.header.length + one.signature.length + one.body.length + 96) +
      objectBytes(false),
    snapshotBytes: sum(snapshots, (one) => one.manifestBytes + 256) + objectBytes(true),
    controlBytes: sum(control, (one) => one.bytes.length + 96),
    blobs: blobs.length,
  };
  const { bytes: logBytes, snapshotBytes, controlBytes, blobs: count } = row;
  assert.deepEqual({ bytes: logBytes, snapshotBytes, controlBytes, blobs: count }, is, after);
  const whole = is.bytes + is.snapshotBytes;
  assert.deepEqual([world.relay.storeBytes, (await store.totals()).bytes], [whole, whole], after);
}

/** One run of random steps. */
async function run(seed: number, steps: number): Promise<string[]> {
  const below = chance(seed);
  const made = await group(2, { limits: { groupBytesMax: 400_000, pushesBurst: 100_000 } });
  let { world } = made;
  const devices = made.devices;
  let peers: (Peer | undefined)[] = [...made.peers];
  const known: Known = new Map();
  const story: string[] = [];
  const ids: Uint8Array[] = [];

  const member = async (): Promise<{ peer: Peer; device: ChainDevice; at: number }> => {
    const at = below(devices.length);
    const device = devices[at] as ChainDevice;
    const there = peers[at];
    const peer =
      there === undefined || there.endedWith !== undefined ? await world.member(device) : there;
    peers[at] = peer;
    return { peer, device, at };
  };
  const kinds: Record<string, () => Promise<void>> = {
    push: async () => {
      const { peer, device } = await member();
      const place = { seq: device.seq, link: device.link };
      const blobs = Array.from({ length: 1 + below(5) }, () =>
        device.next({
          bodyBytes: 1 + below(3_000),
          ...(below(4) === 0 ? { ttlS: 1 + below(200_000) } : {}),
          ...(below(3) === 0 && ids.length > 0
            ? { deletes: [ids[below(ids.length)] as Uint8Array], force: below(2) === 0 }
            : {}),
        }),
      );
      const before = peer.all("pushAck").length;
      peer.push(blobs);
      await rest();
      // What was refused is not in the chain.
      if (peer.all("pushAck").length === before) Object.assign(device, place);
      else for (const { blob } of blobs) if (blob?.blobId !== undefined) ids.push(blob.blobId);
    },
    range: async () => {
      const { peer } = await member();
      const content = bytes(1 + below(150_000), below(6));
      const objectId = blake2b256(content);
      known.set(toHex(objectId), objectId);
      // Sometimes only its beginning.
      const end = below(3) === 0 && content.length > 65_536 ? 65_536 : content.length;
      peer.ask({
        case: "putObject",
        value: {
          objectId,
          sizeBytes: BigInt(content.length),
          offset: 0n,
          data: content.subarray(0, Math.min(end, rangeBytes)),
          snapshotPart: below(2) === 0,
        },
      });
      await rest();
    },
    drop: async () => {
      const { peer } = await member();
      const all = [...known.values()];
      const objectId = all[below(Math.max(1, all.length))];
      if (objectId !== undefined) peer.ask({ case: "dropObject", value: { objectId } });
      await rest();
    },
    snapshot: async () => {
      const { peer, device } = await member();
      const { group: row } = await loaded(world);
      const content = bytes(500 + below(4_000), 100 + below(50));
      const part = blake2b256(content);
      known.set(toHex(part), part);
      peer.ask({ case: "ack", value: { applied: BigInt(row.head) } });
      peer.ask({
        case: "putObject",
        value: {
          objectId: part,
          sizeBytes: BigInt(content.length),
          offset: 0n,
          data: content,
          snapshotPart: true,
        },
      });
      await rest();
      const [newest] = await world.store.readBlobs(row.groupKey, row.head - 1, row.head, {
        rowsMax: 1,
        bytesMax: 1 << 20,
      });
      if (newest === undefined) return;
      const manifest = manifestOf({
        author: device.id,
        logId: row.logId,
        replacesThrough: row.head,
        link: newest.link,
        parts: [part],
        claims: below(100),
      });
      peer.ask({ case: "putSnapshot", value: { manifest, signature: bytes(64, 1) } });
      await rest();
    },
    confirm: async () => {
      const { peer } = await member();
      const { snapshots } = await loaded(world);
      const one = snapshots[below(Math.max(1, snapshots.length))];
      if (one !== undefined) await confirm(peer, one.snapshotId);
    },
    acknowledge: async () => {
      const { peer } = await member();
      const { head } = (await loaded(world)).group;
      peer.ask({ case: "ack", value: { applied: BigInt(below(head + 1)) } });
      await rest();
    },
    second: () => pass(world),
    hour: () => pass(world, 3_600_000),
    days: () => pass(world, (1 + below(9)) * day),
    trim: async () => {
      await world.relay.trimNow().catch(() => undefined);
      await rest();
    },
    failure: async () => {
      world.store.failCommits(1 + below(2));
    },
    crash: async () => {
      world = new RelayWorldUnderTest({
        store: world.store.crash("kept"),
        nowMs: world.nowMs,
        limits: { groupBytesMax: 400_000, pushesBurst: 100_000 },
      });
      peers = peers.map(() => undefined);
    },
  };
  const names = Object.keys(kinds);
  for (let step = 0; step < steps; step++) {
    const name = names[below(names.length)] as string;
    await kinds[name]?.();
    await rest();
    // A commit that is to fail still waits for one to come.
    if (name === "failure") await pass(world);
    story.push(name);
    await assertCounted(world, known, `seed ${seed}: ${story.join(" ")}`);
  }
  assert.deepEqual(world.defects, []);
  const { group: row } = await loaded(world);
  return [...(row.floor > 0 ? ["trimmed"] : []), ...(row.snapshotBytes > 0 ? ["replaced"] : [])];
}

test("11.34 5.10 11.10 11.18 what is counted is what is there, after any steps", async () => {
  const seen = new Set<string>();
  for (let seed = 1; seed <= 6; seed++) {
    for (const what of await run(seed, 40)) seen.add(what);
  }
  assert.deepEqual([...seen].sort(), ["replaced", "trimmed"]);
});
