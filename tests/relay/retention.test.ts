import assert from "node:assert/strict";
import { test } from "node:test";
import type { Blob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { type BlobChoices, ChainDevice, groupId, type MadeBlob } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest } from "../support/relay-world.ts";
import { asked, confirm, day, group, loaded, pass, rest, snapshotBy } from "./life-support.ts";

const wide = { rowsMax: 10_000, bytesMax: 1 << 30 };

/** Pushes blobs one push after another. */
async function push(peer: Peer, device: ChainDevice, choices: readonly BlobChoices[]) {
  const made: MadeBlob[] = [];
  for (const one of choices) {
    const next = device.next(one);
    peer.push([next]);
    made.push(next);
  }
  await rest();
  return made;
}

function acknowledge(peer: Peer, applied: number): void {
  peer.ask({ case: "ack", value: { applied: BigInt(applied) } });
}

/** Each blob of the log as its cursor, and the state of its body behind it where it is gone. */
async function log(world: RelayWorldUnderTest): Promise<string> {
  const { group: row } = await loaded(world);
  const blobs = await world.store.readBlobs(row.groupKey, 0, row.head, wide);
  const bytes = blobs.reduce(
    (sum, { header, signature, body }) =>
      sum + header.byteLength + signature.byteLength + body.byteLength + 96,
    0,
  );
  // Whatever went, the counters say what is there.
  assert.deepEqual([row.bytes, row.blobs], [bytes, blobs.length]);
  return blobs
    .map(({ cursor, bodyState, body }) => {
      assert.equal(body.byteLength === 0, bodyState !== 0);
      return bodyState === 0 ? `${cursor}` : `${cursor}:${bodyState}`;
    })
    .join(" ");
}

/** Two devices with so many blobs by the first, and an effective snapshot that replaces some of them. */
async function replaced(blobs: number, through: number, second = true) {
  const made = await group(3);
  const [a, b, c] = made.devices;
  const [first, other, third] = made.peers;
  assert(a && b && c && first && other && third);
  third.cut();
  const pushed = await push(
    first,
    a,
    Array.from({ length: blobs }, () => ({})),
  );
  const link = pushed[through - 1]?.link ?? a.link;
  const snapshot = await snapshotBy(made.world, first, a, { cursor: through, link });
  if (second) acknowledge(other, through);
  await confirm(other, snapshot.id);
  for (const peer of [first, other]) peer.port.take();
  return { ...made, a, b, c, first, other, pushed, snapshot };
}

test("11.26 bodies go with an effective snapshot, headers once every device that counts has acknowledged", async () => {
  const { world, other, c } = await replaced(5, 3, false);
  assert.equal(await log(world), "1 2 3 4 5");
  await pass(world);
  assert.equal(await log(world), "1:3 2:3 3:3 4 5");
  assert.equal((await loaded(world)).group.floor, 0);
  acknowledge(other, 5);
  await pass(world);
  assert.equal((await loaded(world)).group.floor, 0, "one was never here since");
  const third = await world.member(c);
  acknowledge(third, 2);
  await pass(world);
  assert.equal(await log(world), "3:3 4 5");
  assert.equal((await loaded(world)).group.floor, 2);
  acknowledge(third, 4);
  await pass(world);
  assert.equal(await log(world), "4 5");
  const { floor, replacedThrough, head } = (await loaded(world)).group;
  assert.deepEqual([floor, replacedThrough, head], [3, 3, 5]);
});

test("11.26 11.27 a device that was away for ninety days holds nothing back; its next connection ends that", async () => {
  const { world, other, c } = await replaced(4, 4);
  await pass(world, 90 * day - 5_000);
  assert.equal((await loaded(world)).group.floor, 0);
  await pass(world, 6_000);
  assert.equal((await loaded(world)).group.floor, 4);
  acknowledge(other, 4);
  const third = await world.member(c);
  const { scope } = third.last("welcome");
  assert(scope.case === "group");
  assert.deepEqual(
    [scope.value.floor, scope.value.replacedThrough, scope.value.pending],
    [4n, 4n, 0n],
  );
});

test("11.27 a device that is connected all the time is not dormant, also after a crash of the relay", async () => {
  const { world, other, first, a, b } = await replaced(2, 2, false);
  for (let days = 0; days < 200; days += 10) await pass(world, 10 * day);
  assert.equal((await loaded(world)).group.floor, 0, "the second device has acknowledged nothing");
  for (const peer of [first, other]) peer.cut();
  const later = new RelayWorldUnderTest({ store: world.store.crash("kept"), nowMs: world.nowMs });
  await later.member(a);
  await pass(later);
  assert.equal((await loaded(later)).group.floor, 0);
  acknowledge(await later.member(b), 2);
  await pass(later);
  assert.equal((await loaded(later)).group.floor, 2);
});

test("11.2 5.5 a sender's last place survives its blobs; older ones are told apart no more", async () => {
  const { world, a, first, other, c } = await replaced(3, 3);
  acknowledge(await world.member(c), 3);
  acknowledge(other, 3);
  await pass(world);
  assert.equal(await log(world), "");
  first.port.take();
  const same = new ChainDevice(1);
  const [one, , three] = [same.next(), same.next(), same.next()];
  assert(one && three);
  first.push([three]);
  first.push([one]);
  first.push([a.next()]);
  await rest();
  assert.deepEqual(
    first
      .said()
      .map((line) => line.replace(/^#\d+ /, ""))
      .filter((line) => !/^notify|^deliver/.test(line)),
    ["pushAck 3", `error ${ErrorCode.LINK_CONFLICT}`, "pushAck 4"],
  );
});

test("11.28 a pull below what was replaced is told the snapshot first, and goes on behind it", async () => {
  const { world, c, snapshot } = await replaced(6, 4);
  const late = await world.member(c);
  late.port.take();
  late.ask({ case: "pull", value: { after: 0n, windowBytes: 1 << 20 } });
  await rest();
  assert.deepEqual(late.said(), ["#1 snapshot", "#1 blobs 4-6"]);
  assert.deepEqual(late.last("snapshot").manifest, snapshot.manifest);
  assert.equal(late.last("blobs").blobs.length, 2);
  late.ask({ case: "pull", value: { after: 4n, windowBytes: 1 << 20 } });
  await rest();
  assert.deepEqual(late.said(), ["#2 blobs 4-6"]);
});

test("11.28 so is one that a snapshot overtakes between its pages, and delivery goes on from there", async () => {
  const { world, devices, peers } = await group(2);
  const [a] = devices;
  const [first, second] = peers;
  assert(a && first && second);
  await push(first, a, [{}, {}, {}, {}]);
  second.port.take();
  const pull = second.ask({ case: "pull", value: { after: 0n, windowBytes: 0 } });
  await rest();
  const snapshot = await snapshotBy(world, first, a, { cursor: 4, link: a.link });
  await confirm(second, snapshot.id);
  second.record({ id: pull, body: { case: "pullMore", value: { windowBytes: 1 << 20 } } });
  await rest();
  await push(first, a, [{}]);
  const said = second.port.take().map(({ body }) => body);
  assert.deepEqual(
    said.filter(({ case: kind }) => kind !== "notify").map(({ case: kind }) => kind),
    ["snapshot", "blobs", "deliver"],
  );
  assert.deepEqual([second.last("blobs").after, second.last("deliver").after], [4n, 4n]);
});

test("11.29 a bounded pull is answered with what is there", async () => {
  const { world, other, c } = await replaced(5, 3);
  const third = await world.member(c);
  acknowledge(third, 2);
  await pass(world);
  third.port.take();
  third.ask({ case: "pull", value: { after: 0n, until: 4n, windowBytes: 1 << 20 } });
  await rest();
  assert.equal(third.all("snapshot").length, 0);
  const page = third.last("blobs");
  assert.deepEqual(
    page.blobs.map(({ cursor, bodyState }) => [cursor, bodyState]),
    [
      [3n, 3],
      [4n, 0],
    ],
  );
  assert.deepEqual([page.after, page.through, page.done], [0n, 4n, true]);
  assert.equal(other.endedWith, undefined);
});

test("11.30 trimming goes on in slices, each a commit, and a crash between two loses nothing", async () => {
  const { world, devices, peers } = await group(1);
  const [a] = devices;
  const [first] = peers;
  assert(a && first);
  for (let i = 0; i < 3; i++) first.push(Array.from({ length: 400 }, () => a.next()));
  await rest();
  const { id } = await snapshotBy(world, first, a, { cursor: 1_200, link: a.link });
  const live = await world.relay.group(groupId);
  assert(live);
  // Only its age makes it effective here: there is nobody else.
  const commit = world.store.commit.bind(world.store);
  let slices = 0;
  world.store.commit = async (batch) => {
    if ((batch.life?.trims.length ?? 0) > 0) {
      slices += 1;
      if (slices === 2) return await new Promise<never>(() => undefined);
    }
    await commit(batch);
  };
  await pass(world, 7 * day + 1_000);
  await pass(world);
  assert.equal(slices, 2);
  const later = new RelayWorldUnderTest({ store: world.store.crash("lost"), nowMs: world.nowMs });
  assert.equal((await loaded(later)).group.floor, 500);
  const again = await later.member(a);
  acknowledge(again, 1_200);
  await pass(later);
  await pass(later);
  assert.equal(await log(later), "");
  await asked(again, { case: "getSnapshot", value: {} });
  assert.equal(again.last("snapshot").effective, true);
  assert.equal(id.byteLength, 32);
});

test("11.31 11.34 a body goes when its time has passed, and its bytes count no more", async () => {
  const { world, devices, peers } = await group(2);
  const [a] = devices;
  const [first, second] = peers;
  assert(a && first && second);
  await push(first, a, [{}, { ttlS: 100 }, { ttlS: 500, bodyBytes: 900 }, { ttlS: 2 ** 52 }]);
  await pass(world, 99_000);
  await pass(world, 500);
  assert.equal(await log(world), "1 2 3 4");
  await pass(world, 61_000);
  assert.equal(await log(world), "1 2:1 3 4");
  await pass(world, 400_000);
  assert.equal(await log(world), "1 2:1 3:1 4");
  second.ask({ case: "pull", value: { after: 0n, windowBytes: 1 << 20 } });
  await rest();
  const [, two] = second.last("blobs").blobs;
  assert.deepEqual([two?.bodyState, two?.blob?.body.byteLength], [1, 0]);
  assert.ok((two?.blob?.header.byteLength ?? 0) > 0);
});

test("11.31 a body's time passes in a group that nobody is connected to, and over a restart", async () => {
  const { world, devices, peers } = await group(1);
  const [a] = devices;
  const [first] = peers;
  assert(a && first);
  await push(first, a, [{ ttlS: 100 }]);
  first.cut();
  const later = new RelayWorldUnderTest({
    store: world.store.crash("kept"),
    nowMs: world.nowMs + 101_000,
  });
  await pass(later);
  assert.equal(await log(later), "1:1");
});

const idOf = ({ blob }: MadeBlob): Uint8Array => (blob as Blob).blobId;

test("11.32 what a blob deletes goes once every device that counts has acknowledged the blob, whoever wrote it", async () => {
  const { world, devices, peers } = await group(2);
  const [a, b] = devices;
  const [first, second] = peers;
  assert(a && b && first && second);
  const [one, two] = await push(first, a, [{}, {}]);
  assert(one && two);
  const [three] = await push(second, b, [{}]);
  assert(three);
  await push(second, b, [{ deletes: [idOf(one), idOf(three), new Uint8Array(16)] }]);
  acknowledge(first, 4);
  acknowledge(second, 3);
  await pass(world);
  assert.equal(await log(world), "1 2 3 4");
  acknowledge(second, 4);
  await pass(world);
  assert.equal(await log(world), "1:2 2 3:2 4");
});

test("11.32 with force the sender's own go at once, and nobody else's; and none that stands above", async () => {
  const { world, devices, peers } = await group(2);
  const [a, b] = devices;
  const [first, second] = peers;
  assert(a && b && first && second);
  const [one] = await push(first, a, [{}]);
  const [two] = await push(second, b, [{}]);
  assert(one && two);
  const later = a.make({ seq: 3, variant: 5 });
  await push(first, a, [{ force: true, deletes: [idOf(one), idOf(two), idOf(later)] }]);
  await pass(world);
  assert.equal(await log(world), "1:2 2 3");
  const stays = a.make({ variant: 5 });
  first.push([stays]);
  await rest();
  await pass(world);
  assert.equal(await log(world), "1:2 2 3 4");
});

test("11.32 deletes that wait survive a restart", async () => {
  const { world, devices, peers } = await group(1);
  const [a] = devices;
  const [first] = peers;
  assert(a && first);
  const [one] = await push(first, a, [{}]);
  assert(one);
  await push(first, a, [{ deletes: [idOf(one)] }]);
  await pass(world);
  const later = new RelayWorldUnderTest({ store: world.store.crash("kept"), nowMs: world.nowMs });
  acknowledge(await later.member(a), 2);
  await pass(later);
  assert.equal(await log(later), "1:2 2");
});

test("11.33 what expired or was deleted stays that when it is trimmed", async () => {
  const { world, devices, peers } = await group(2);
  const [a] = devices;
  const [first, second] = peers;
  assert(a && first && second);
  const [one] = await push(first, a, [{}]);
  assert(one);
  await push(first, a, [{ ttlS: 5 }, { force: true, deletes: [idOf(one)] }, {}]);
  await pass(world, 70_000);
  assert.equal(await log(world), "1:2 2:1 3 4");
  const { id } = await snapshotBy(world, first, a, { cursor: 4, link: a.link });
  await confirm(second, id);
  await pass(world);
  assert.equal(await log(world), "1:2 2:1 3:3 4:3");
});

test("11.30 a disk that fails stops a round, and the next one goes on", async () => {
  const { world, other, c } = await replaced(5, 3);
  acknowledge(await world.member(c), 5);
  acknowledge(other, 5);
  world.store.failCommits(1);
  await pass(world);
  assert.equal((await loaded(world)).group.floor, 0);
  assert.ok(world.storeFailures > 0);
  await pass(world);
  assert.equal((await loaded(world)).group.floor, 3);
  assert.deepEqual(world.defects, []);
});

test("11.30 an operator may ask for it now, of one group or of all", async () => {
  const { world } = await replaced(5, 3, false);
  const done = await world.relay.trimNow(groupId);
  assert.deepEqual([done.groups, done.blobs], [1, 3]);
  assert.ok(done.bytes > 0);
  assert.equal(await log(world), "1:3 2:3 3:3 4 5");
  assert.equal((await world.relay.trimNow()).blobs, 0);
});
