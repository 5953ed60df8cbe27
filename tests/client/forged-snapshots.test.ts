/** Snapshots that do not hold: by a relay that lies, or by a member that does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ChainPlace,
  type DeviceKeys,
  deriveDeviceKeys,
  openSnapshot,
  readChain,
  type SnapshotContent,
  sealSnapshot,
} from "../../client/seal/index.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText } from "../../wire/ids.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import type { FakeSnapshot } from "./support/fake-retention.ts";
import { ListApp as App, type ListApp, listApps } from "./support/list-app.ts";
import { World } from "./support/world.ts";

/** A group with an effective snapshot by the first app, whose content was trimmed. */
async function trimmed(count = 2) {
  const world = new World();
  const relay = new FakeRelay(world);
  const apps = await listApps(relay, count);
  const [a, b] = apps as [ListApp, ListApp];
  await a.device.push("one", "two", "three");
  await b.device.push("four");
  await world.until(() => apps.every(({ list, device }) => list.length === 4 && device.inSync));
  await world.result(a.client.makeSnapshot());
  const { group } = relay;
  await world.until(() => group.retention.effective !== undefined);
  // What the devices do by themselves about it is done.
  await world.run(60_000);
  const snapshot = group.retention.effective as FakeSnapshot;
  return { world, relay, apps, a, b, snapshot, retention: group.retention };
}

/** What a device knows, so that a test can be that device. */
async function insideOf(app: ListApp) {
  const seed = app.device.disk.table("device").get("seed") as Uint8Array;
  const keys = deriveDeviceKeys(seed);
  const blobs = app.device.relay.group.control;
  const { groupId } = app.device.relay.group;
  const chain = readChain(blobs, { groupId, keys });
  return { keys, chain, heads: blobs.map((blob) => blake2b256(blob)) };
}

/** The same snapshot, saying something else, sealed and signed as a member would. */
async function rewritten(
  app: ListApp,
  snapshot: FakeSnapshot,
  change: (content: SnapshotContent) => Partial<SnapshotContent>,
  by?: DeviceKeys,
): Promise<FakeSnapshot> {
  const { keys, chain, heads } = await insideOf(app);
  const opened = openSnapshot(snapshot, { chain, controlHead: (count) => heads[count - 1] });
  const content = { ...opened, ...change(opened) };
  const random = (length: number): Uint8Array => app.device.world.random(length);
  const sealed = sealSnapshot(content, { chain, keys: by ?? keys, random });
  return {
    ...snapshot,
    ...sealed,
    id: blake2b256(sealed.manifest),
    replacesThrough: content.replacesThrough,
  };
}

/** A late device joins, and is shown this snapshot. */
async function joinsLate(
  { world, relay, a }: { world: World; relay: FakeRelay; a: ListApp },
  snapshot: FakeSnapshot,
): Promise<ListApp> {
  const { retention } = relay.group;
  retention.snapshots = [snapshot];
  retention.trim(relay.group, true);
  const late = await new App(relay).start({ name: "late" });
  await late.joins(a);
  await world.run(60_000);
  return late;
}

function findings(app: ListApp): string[] {
  return app.device.integrity.map(({ finding }) => finding);
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[at] = 1 ^ (copy[at] as number);
  return copy;
}

const strangers = deriveDeviceKeys(new Uint8Array(32).fill(9));

for (const { what, forge } of [
  {
    what: "whose signature does not hold",
    forge: async (_: ListApp, of: FakeSnapshot) => ({ ...of, signature: flipped(of.signature, 3) }),
  },
  {
    what: "whose claims were altered",
    forge: async (_: ListApp, of: FakeSnapshot) => {
      const manifest = fromBinary(SnapshotManifestSchema, of.manifest);
      manifest.sealedClaims = flipped(manifest.sealedClaims, 70);
      return { ...of, manifest: toBinary(SnapshotManifestSchema, manifest) };
    },
  },
  {
    what: "of a device that is no member",
    forge: (a: ListApp, of: FakeSnapshot) => rewritten(a, of, () => ({}), strangers),
  },
  {
    what: "that names a device the group never had",
    forge: (a: ListApp, of: FakeSnapshot) =>
      rewritten(a, of, ({ frontier, link }) => ({
        frontier: new Map<string, ChainPlace>([
          ...frontier,
          [idText(strangers.deviceId), { seq: 1, link }],
        ]),
      })),
  },
  {
    what: "behind a membership history that is not the group's",
    forge: (a: ListApp, of: FakeSnapshot) =>
      rewritten(a, of, ({ link }) => ({ membership: { count: 2, head: link } })),
  },
  {
    what: "whose parts are something else",
    forge: (a: ListApp, of: FakeSnapshot) =>
      rewritten(a, of, ({ parts, link }) => ({
        parts: parts.map((part) => ({ ...part, key: link })),
      })),
  },
]) {
  test(`11.39 a snapshot ${what} is a finding, and nothing of it is applied`, async () => {
    const setting = await trimmed();
    const late = await joinsLate(setting, await forge(setting.a, setting.snapshot));
    assert.ok(findings(late).includes("SNAPSHOT_FORGED"), findings(late).join());
    assert.deepEqual(late.list, []);
    assert.deepEqual(late.gaps, ["1-4"]);
    assert.ok(!late.device.inSync);
    // What it writes itself is not held back by it.
    await late.device.push("mine");
    await setting.world.until(() => late.client.status().queued === 0);
    // Once the relay shows the right one, it is taken over.
    setting.retention.snapshots = [setting.snapshot];
    await late.restart();
    await setting.world.until(() => late.list.length === 5);
    assert.deepEqual(late.list.slice(0, 4), setting.a.list.slice(0, 4));
    await setting.world.result(late.client.close());
  });
}

test("a snapshot whose content was left out by the relay is a finding", async () => {
  const setting = await trimmed();
  setting.retention.objects.clear();
  const late = await joinsLate(setting, setting.snapshot);
  assert.ok(findings(late).includes("SNAPSHOT_FORGED"));
  assert.deepEqual(late.list, []);
});

test("11.39 a snapshot that contains less than this device has verified is not put over it", async () => {
  const setting = await trimmed(3);
  const { world, relay, a, b, apps } = setting;
  const c = apps[2] as ListApp;
  await a.device.push("five");
  await world.until(() => apps.every(({ list }) => list.length === 5));
  await world.result(c.client.close());
  await a.device.push("six");
  await world.until(() => [a, b].every(({ list, device }) => list.length === 6 && device.inSync));
  const older = await rewritten(a, setting.snapshot, ({ frontier }) => ({
    replacesThrough: 6,
    link: relay.group.blobs[5]?.link as Uint8Array,
    frontier,
  }));
  setting.retention.snapshots = [older];
  setting.retention.trim(relay.group, true);
  await c.start({ appliedPosition: c.position });
  await world.run(60_000);
  assert.ok(findings(c).includes("SNAPSHOT_FORGED"));
  assert.equal(c.list.length, 5);
  assert.deepEqual(c.restored, []);
});

/** A member's lie that another device is asked to confirm. */
for (const { what, change } of [
  {
    what: "leaves out what stands below the place it replaces",
    change: ({ frontier }: SnapshotContent, a: ListApp) => ({
      frontier: new Map([...frontier].filter(([device]) => device === a.client.deviceId)),
    }),
  },
  {
    what: "claims another entry than there is",
    change: ({ frontier, link }: SnapshotContent) => ({
      frontier: new Map([...frontier].map(([device, { seq }]) => [device, { seq, link }])),
    }),
  },
  {
    what: "claims what another device has not written",
    change: ({ frontier, link }: SnapshotContent, _: ListApp, b: ListApp) => ({
      frontier: new Map([...frontier, [b.client.deviceId, { seq: 9, link }]]),
    }),
  },
  {
    what: "is of another log",
    change: () => ({ logId: new Uint8Array(16).fill(5) }),
  },
  {
    what: "names another entry at the place it replaces",
    change: () => ({ link: new Uint8Array(32).fill(5) }),
  },
  {
    what: "has parts that do not open",
    change: ({ parts }: SnapshotContent) => ({
      parts: parts.map((part) => ({ ...part, key: new Uint8Array(32).fill(5) })),
    }),
  },
] as {
  what: string;
  change: (of: SnapshotContent, a: ListApp, b: ListApp) => Partial<SnapshotContent>;
}[]) {
  test(`11.38 a snapshot that ${what} is not confirmed, and the app is told`, async () => {
    const setting = await trimmed();
    const { world, a, b, retention, relay } = setting;
    const forged = await rewritten(a, setting.snapshot, (content) => change(content, a, b));
    retention.snapshots = [{ ...forged, effective: false }];
    const before = relay.count("confirmSnapshot");
    for (const session of relay.sessionsOf(relay.group)) session.tellRetention();
    await world.run(5 * 60_000);
    assert.ok(findings(b).includes("SNAPSHOT_FORGED"), findings(b).join());
    assert.equal(relay.count("confirmSnapshot"), before);
    // A right one beside it is confirmed all the same.
    const right = await rewritten(a, setting.snapshot, () => ({}));
    retention.snapshots = [
      { ...right, effective: false },
      { ...forged, effective: false },
    ];
    for (const session of relay.sessionsOf(relay.group)) session.tellRetention();
    await world.until(() => retention.effective !== undefined);
  });
}

test("an app that takes nothing over is told of the gap, and goes on behind it", async () => {
  const setting = await trimmed();
  const { world, relay, a } = setting;
  setting.retention.trim(relay.group, true);
  const late = await new App(relay).start({ name: "late", restore: undefined as never });
  await late.joins(a);
  await a.device.push("five");
  await world.until(() => late.device.inSync && late.list.length > 0);
  assert.deepEqual(late.list, ["five"]);
  assert.deepEqual(late.gaps, ["1-4"]);
  assert.deepEqual(late.device.integrity, []);
});

test("an app that fails to take a snapshot over is asked again, and stays where it was", async () => {
  const setting = await trimmed();
  const { world, relay, a } = setting;
  setting.retention.trim(relay.group, true);
  const late = new App(relay);
  let fails = true;
  await late.start({ name: "late", restore: () => Promise.reject(new Error("disk full")) });
  await late.joins(a);
  await world.run(60_000);
  assert.ok(fails && late.device.errors.some(({ name }) => name === "StateStoreError"));
  assert.equal(late.client.status().readCursor, 0);
  assert.ok(!late.device.inSync);
  fails = false;
  await late.restart();
  await world.until(() => late.device.inSync);
  assert.equal(late.list.length, 4);
});

test("11.40 a relay cannot take a device back by a snapshot that is right, and leave it there unnoticed", async () => {
  const setting = await trimmed(3);
  const { world, relay, b, apps, retention } = setting;
  const c = apps[2] as ListApp;
  await world.result(c.client.close());
  // It is shown all of it but for what one entry holds, and the snapshot only later.
  const { snapshots } = retention;
  retention.snapshots = [];
  const late = await new App(relay).start({ name: "late" });
  relay.meddler = {
    blobs: (session, blobs) =>
      session.device !== late.client.deviceId
        ? blobs
        : blobs.map((blob) => (blob.cursor === 2 ? { ...blob, body: new Uint8Array(0) } : blob)),
  };
  await late.joins(setting.a);
  await b.device.push("five", "six");
  await world.until(() => late.list.includes("six") && findings(late).includes("WITHHELD"));
  assert.ok(!late.device.inSync);
  for (const app of [setting.a, b]) await world.result(app.client.close());
  retention.snapshots = snapshots;
  relay.group.blobs.length = 4;
  for (const session of relay.sessionsOf(relay.group)) session.tellRetention();
  await world.until(() => late.restored.length === 1);
  await world.run(10 * 60_000);
  assert.deepEqual(late.list, ["one", "two", "three", "four"]);
  assert.ok(findings(late).includes("DROPPED"), findings(late).join());
  assert.ok(!late.device.inSync);
  await late.restart();
  await world.run(60_000);
  assert.ok(!late.device.inSync);
});
