import assert from "node:assert/strict";
import { test } from "node:test";
import { countedBytes } from "../../server/group-log.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { storeUnavailable } from "../../server/store/store-errors.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { zeroLink } from "../../wire/ids.ts";
import { bytes, ChainDevice, changeOf, pushOf } from "../support/devices.ts";
import { gatedStore, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

/** A group of two, and a session of the first. */
async function group(choices: ConstructorParameters<typeof RelayWorldUnderTest>[0] = {}) {
  const world = new RelayWorldUnderTest(choices);
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const version = await world.found(a, b);
  const peer = await world.member(a);
  peer.said();
  return { world, a, b, peer, version };
}

/** The sender's place that an error tells. */
function told(error: { detail: { case?: string | undefined; value?: unknown } }) {
  assert.equal(error.detail.case, "senderPosition");
  return error.detail.value as { seq: bigint; link: Uint8Array };
}

test("5.1 a push is answered once it is on disk, with a cursor for each blob in order", async () => {
  const gate = gatedStore();
  const world = new RelayWorldUnderTest({ store: gate.store });
  const a = new ChainDevice(1);
  const founding = world.found(a);
  await settled();
  await gate.release();
  await founding;
  const peer = await world.member(a);
  peer.said();
  peer.push(a.run(3));
  await settled();
  assert.deepEqual(peer.said(), [], "nothing before the disk has it");
  await gate.release();
  assert.deepEqual(peer.said()[0], "#1 pushAck 1,2,3");
  peer.push(a.run(1));
  await settled();
  await gate.release();
  assert.deepEqual(peer.said()[0], "#2 pushAck 4");
});

test("5.1 5.4 a repeated push is answered with its first cursors, resealed under any epoch", async () => {
  const { peer, a } = await group();
  const blobs = a.run(3);
  peer.push(blobs);
  await settled();
  peer.said();
  const resealed = blobs.map((made) => ({
    ...made,
    blob: { ...made.blob, epoch: 9n, body: bytes(77, 1) },
  }));
  peer.push(resealed);
  peer.push(resealed.slice(1));
  peer.push(resealed.slice(2));
  await settled();
  assert.deepEqual(peer.said(), ["#2 pushAck 1,2,3", "#3 pushAck 2,3", "#4 pushAck 3"]);
});

test("5.4 a push repeated in the same commit is a duplicate, the last on disk too", async () => {
  const { peer, a, world } = await group();
  const first = a.next();
  peer.push([first]);
  await settled();
  peer.said();
  const commits = world.relay.counters.commits;
  const more = a.run(2);
  peer.record(
    { id: 2, body: { case: "push", value: pushOf(more) } },
    { id: 3, body: { case: "push", value: pushOf(more) } },
    // The last one on disk, behind a newer one in this commit.
    { id: 4, body: { case: "push", value: pushOf([first]) } },
    { id: 5, body: { case: "push", value: pushOf([first, ...more]) } },
    { id: 6, body: { case: "push", value: pushOf(more.slice(0, 1)) } },
  );
  await settled();
  assert.equal(world.relay.counters.commits, commits + 1, "one commit");
  assert.deepEqual(
    peer.said().filter((line) => line.includes("pushAck")),
    ["#2 pushAck 2,3", "#3 pushAck 2,3", "#4 pushAck 1", "#5 pushAck 1,2,3", "#6 pushAck 2"],
  );
  const page = await world.store.readBlobs(1, 0, 100, { rowsMax: 100, bytesMax: 1e6 });
  assert.deepEqual(
    page.map((row) => [row.cursor, row.seq]),
    [
      [1, 1],
      [2, 2],
      [3, 3],
    ],
  );
});

test("5.4 a push may begin with duplicates and go on with new blobs", async () => {
  const { peer, a } = await group();
  const blobs = a.run(4);
  peer.push(blobs.slice(0, 2));
  await settled();
  peer.push(blobs);
  await settled();
  assert.ok(peer.said().includes("#2 pushAck 1,2,3,4"));
});

test("5.5 another link at a seq that is taken is LINK_CONFLICT with the sender's last", async () => {
  const { peer, a } = await group();
  const before = { seq: a.seq, link: a.link };
  a.run(3);
  const other = new ChainDevice(1);
  peer.push([...Array(3)].map(() => other.next()));
  await settled();
  for (const seq of [1, 2, 3]) {
    const previousLink = seq === 1 ? before.link : bytes(32, 4);
    peer.push([a.make({ seq, variant: 1, previousLink })]);
    await settled();
    const error = peer.last("error");
    assert.equal(error.code, ErrorCode.LINK_CONFLICT);
    assert.deepEqual(
      { ...told(error), $typeName: undefined },
      {
        seq: 3n,
        link: a.link,
        $typeName: undefined,
      },
    );
  }
  assert.equal(peer.endedWith, undefined, "the session goes on");
});

test("5.5 a seq more than 4,096 below the last is not looked for", async () => {
  const { peer, a, world } = await group({
    limits: { pushesBurst: 10_000, groupBytesMax: 1e9, storeBytesMax: 1e9 },
  });
  const blobs = a.run(4_098, { bodyBytes: 1 });
  for (let i = 0; i < blobs.length; i += 1_000) {
    peer.push(blobs.slice(i, i + 1_000));
    await settled();
  }
  let walked = 0;
  const senderPlaces = world.store.senderPlaces.bind(world.store);
  world.store.senderPlaces = async (...args) => {
    walked += 1;
    return await senderPlaces(...args);
  };
  peer.said();
  peer.push(blobs.slice(0, 1));
  await settled();
  assert.deepEqual(peer.said(), [`#6 error ${ErrorCode.LINK_CONFLICT}`]);
  assert.equal(walked, 0);
  peer.push(blobs.slice(1, 2));
  await settled();
  assert.deepEqual(peer.said(), ["#7 pushAck 2"]);
  assert.equal(walked, 1);
});

test("5.6 a seq above the next is OUT_OF_ORDER with the last; the next one is taken", async () => {
  const { peer, a } = await group();
  peer.push([a.make({ seq: 2, previousLink: bytes(32, 1) })]);
  await settled();
  let error = peer.last("error");
  assert.equal(error.code, ErrorCode.OUT_OF_ORDER);
  assert.equal(told(error).seq, 0n);
  assert.deepEqual(told(error).link, zeroLink);
  a.next();
  peer.push([new ChainDevice(1).next()]);
  await settled();
  peer.push([a.make({ seq: 3 })]);
  await settled();
  error = peer.last("error");
  assert.equal(error.code, ErrorCode.OUT_OF_ORDER);
  assert.deepEqual(told(error).link, a.link);
  peer.push([a.next()]);
  await settled();
  assert.deepEqual(peer.last("pushAck").cursors, [2n]);
});

test("5.6 a previous link that is not the last one is LINK_CONFLICT, inside a push too", async () => {
  const { peer, a, world } = await group();
  peer.push([a.make({ previousLink: bytes(32, 5) })]);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.LINK_CONFLICT);
  const first = a.make();
  const second = a.make({ seq: 2, previousLink: bytes(32, 6) });
  peer.push([first, second]);
  await settled();
  assert.equal(peer.all("error").length, 2);
  assert.equal((await world.store.totals()).blobs, 0, "all or none");
});

test("5.7 with resume a jump is taken as given; without it it is not", async () => {
  const { peer, a } = await group();
  const jump = a.make({ seq: 41, previousLink: bytes(32, 7) });
  const after = a.make({ seq: 42, previousLink: jump.link });
  peer.push([jump, after], false);
  peer.push([jump, after], true);
  await settled();
  assert.deepEqual(peer.said().slice(0, 2), [
    `#1 error ${ErrorCode.OUT_OF_ORDER}`,
    "#2 pushAck 1,2",
  ]);
  peer.push([a.make({ seq: 43, previousLink: after.link })], true);
  await settled();
  assert.deepEqual(peer.last("pushAck").cursors, [3n]);
});

test("5.7 resume mends no previous link of the next seq", async () => {
  const { peer, a } = await group();
  peer.push([a.make({ previousLink: bytes(32, 5) })], true);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.LINK_CONFLICT);
});

test("5.8 an old epoch is EPOCH_STALE, a later one EPOCH_AHEAD, with version and epoch", async () => {
  const { peer, a, b, version } = await group();
  const rotation = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.ask({ case: "changeMembership", value: rotation.change });
  peer.push([a.make({ epoch: 1 })]);
  peer.push([a.make({ epoch: 3 })]);
  peer.push([a.make({ epoch: 2 })]);
  await settled();
  const [stale, ahead] = peer.all("error");
  assert.equal(stale?.code, ErrorCode.EPOCH_STALE);
  assert.equal(ahead?.code, ErrorCode.EPOCH_AHEAD);
  for (const error of [stale, ahead]) {
    assert.ok(error?.detail.case === "membership");
    assert.equal(error.detail.value.epoch, 2n);
    assert.deepEqual(error.detail.value.version?.head, rotation.after.head);
  }
  assert.deepEqual(
    peer.all("pushAck").map((ack) => ack.cursors),
    [[1n]],
  );
});

test("5.8 one blob of a wrong epoch refuses the push whole", async () => {
  const { peer, a, world } = await group();
  const first = a.next();
  peer.push([first, a.next({ epoch: 2 })]);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.EPOCH_AHEAD);
  assert.equal((await world.store.totals()).blobs, 0);
});

test("5.10 the quota counts what a blob takes; one byte over is refused and writes nothing", async () => {
  const a = new ChainDevice(1);
  const blob = a.make({ bodyBytes: 300 });
  const size = countedBytes({
    header: blob.blob.header as Uint8Array,
    signature: blob.blob.signature as Uint8Array,
    body: blob.blob.body as Uint8Array,
  });
  for (const [slack, stored] of [
    [0, true],
    [-1, false],
  ] as const) {
    const { peer, world } = await group({ limits: { groupBytesMax: size + slack } });
    peer.push([blob]);
    await settled();
    assert.equal(peer.all("pushAck").length, stored ? 1 : 0);
    if (stored) {
      assert.equal((await world.store.totals()).bytes, size);
      continue;
    }
    const { code, detail } = peer.last("error");
    assert.equal(code, ErrorCode.QUOTA_EXCEEDED);
    assert.deepEqual(
      { ...(detail.value as object), $typeName: undefined },
      { usedBytes: 0n, limitBytes: BigInt(size - 1), store: false, $typeName: undefined },
    );
  }
});

test("5.10 11.1 the store's limit holds for all groups together, within one commit too", async () => {
  const world = new RelayWorldUnderTest({ limits: { storeBytesMax: 1_000 } });
  const a = new ChainDevice(1);
  const c = new ChainDevice(3, bytes(32, 5));
  await world.found(a);
  await world.found(c);
  const first = await world.member(a);
  const second = await world.member(c, undefined, c.group);
  first.push([a.make({ bodyBytes: 400 })]);
  second.push([c.make({ bodyBytes: 400 })]);
  await settled();
  assert.equal(first.all("pushAck").length, 1);
  const { code, detail } = second.last("error");
  assert.equal(code, ErrorCode.QUOTA_EXCEEDED);
  assert.equal((detail.value as { store: boolean }).store, true);
});

test("5.10 a duplicate is answered where the quota is used up", async () => {
  const { peer, a } = await group({ limits: { groupBytesMax: 700 } });
  const blobs = a.run(1, { bodyBytes: 300 });
  peer.push(blobs);
  await settled();
  peer.push([a.make({ bodyBytes: 300 })]);
  peer.push(blobs);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.QUOTA_EXCEEDED);
  assert.deepEqual(peer.last("pushAck").cursors, [1n]);
});

test("5.14 a commit that fails refuses all that is in it, stores nothing, and the next goes on", async () => {
  const { peer, a, b, world } = await group();
  const other = await world.member(b);
  world.store.failCommits();
  const lost = a.make();
  peer.push([lost]);
  other.push([b.make()]);
  await settled();
  assert.deepEqual(peer.said().at(-1), `#1 error ${ErrorCode.STORE_UNAVAILABLE}`);
  assert.equal(other.last("error").code, ErrorCode.STORE_UNAVAILABLE);
  assert.equal(world.storeFailures, 1);
  assert.equal(world.relay.counters.commitsFailed, 1);
  assert.equal(other.all("deliver").length, 0, "nothing of it is delivered");
  peer.push([lost]);
  await settled();
  assert.deepEqual(peer.last("pushAck").cursors, [1n], "no cursor is left out");
  assert.deepEqual((await world.store.totals()).blobs, 1);
});

test("5.14 a failed read refuses the commit's requests and nothing after them", async () => {
  const { peer, a, world } = await group();
  const blobs = a.run(3);
  peer.push(blobs);
  await settled();
  const senderPlaces = world.store.senderPlaces.bind(world.store);
  world.store.senderPlaces = async () => await Promise.reject(storeUnavailable("no disk"));
  peer.push(blobs);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.STORE_UNAVAILABLE);
  world.store.senderPlaces = senderPlaces;
  peer.push(blobs);
  await settled();
  assert.deepEqual(peer.last("pushAck").cursors, [1n, 2n, 3n]);
});

test("5.15 what arrives while a commit runs goes into the next one, in order", async () => {
  const gate = gatedStore();
  const world = new RelayWorldUnderTest({ store: gate.store });
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const founding = world.found(a, b);
  await settled();
  await gate.release();
  await founding;
  const first = await world.member(a);
  const second = await world.member(b);
  const { commits } = world.relay.counters;
  first.push([a.next()]);
  await settled();
  second.push([b.next()]);
  first.push([a.next()]);
  second.push([b.next()]);
  await gate.release();
  assert.equal(world.relay.counters.commits, commits + 1);
  await gate.release();
  assert.equal(world.relay.counters.commits, commits + 2);
  assert.deepEqual(
    first.all("pushAck").map((ack) => ack.cursors),
    [[1n], [3n]],
  );
  assert.deepEqual(
    second.all("pushAck").map((ack) => ack.cursors),
    [[2n], [4n]],
  );
});

test("5.14 a store that breaks inside a commit and comes back lets cursors go on without a hole", async () => {
  const store = openMemoryStore();
  const { peer, a, world } = await group({ store });
  const cursors: bigint[] = [];
  for (let round = 0; round < 6; round++) {
    if (round % 2 === 0) world.store.failCommits();
    const made = a.make();
    peer.push([made]);
    await settled();
    if (round % 2 === 0) continue;
    a.next();
    cursors.push(...peer.last("pushAck").cursors);
  }
  assert.deepEqual(cursors, [1n, 2n, 3n]);
});

test("5.11 a device that connects again pushes no more than it could have, and no less", async () => {
  const world = new RelayWorldUnderTest({ limits: { pushesPerS: 1, pushesBurst: 3 } });
  const [a, b] = [new ChainDevice(1), new ChainDevice(2)];
  await world.found(a, b);
  const first = await world.member(a);
  for (let i = 0; i < 3; i++) first.push([a.next()]);
  await settled();
  first.cut();
  // Long enough for the group to be forgotten, if that were by time alone; its bucket has one by then.
  world.pass(1_000);
  const again = await world.member(a);
  again.push([a.next()]);
  again.push([a.make()]);
  await settled();
  assert.equal(again.all("pushAck").length, 1);
  assert.equal(again.last("error").code, ErrorCode.RATE_LIMITED);
  const other = await world.member(b);
  for (let i = 0; i < 3; i++) other.push([b.next()]);
  await settled();
  assert.equal(other.all("pushAck").length, 3, "each device has its own");
});

test("5.11 a group is not forgotten while a device of it would gain pushes by that", async () => {
  const world = new RelayWorldUnderTest({ limits: { pushesPerS: 1, pushesBurst: 60 } });
  const a = new ChainDevice(1);
  await world.found(a);
  const first = await world.member(a);
  for (let i = 0; i < 60; i++) first.push([a.next()]);
  await settled();
  first.cut();
  const passed = async (ms: number) => {
    world.pass(ms);
    await settled();
    world.pass(0);
    await settled();
  };
  await passed(40_000);
  assert.equal(world.relay.liveGroups, 1);
  await passed(40_000);
  assert.equal(world.relay.liveGroups, 0);
});
