import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { storeUnavailable } from "../../server/store/store-errors.ts";
import { encodeEnvelope } from "../../wire/envelope.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { envelopeBytesMax, pullWindowBytesMax } from "../../wire/limits.ts";
import { bytes, ChainDevice, changeOf, foundingOf, groupId, pushOf } from "../support/devices.ts";
import { FakePort, gatedStore, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

type WorldChoices = ConstructorParameters<typeof RelayWorldUnderTest>[0];

async function two(choices: WorldChoices = {}) {
  const world = new RelayWorldUnderTest(choices);
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const version = await world.found(a, b);
  const first = await world.member(a);
  const second = await world.member(b);
  first.said();
  second.said();
  return { world, a, b, first, second, version };
}

test("5.16 commit, then acknowledge, then deliver: own blobs without their bodies", async () => {
  const { a, b, first, second } = await two();
  first.push(a.run(2));
  second.push([b.next()]);
  await settled();
  assert.deepEqual(first.said(), ["#1 pushAck 1,2", "deliver 0-3"]);
  assert.deepEqual(second.said(), ["#1 pushAck 3", "deliver 0-3"]);
  const deliver = first.last("deliver");
  assert.deepEqual(
    deliver.own.map((own) => [own.cursor, own.seq]),
    [
      [1n, 1n],
      [2n, 2n],
    ],
  );
  assert.deepEqual(deliver.own[1]?.link, a.link);
  const [stored] = deliver.blobs;
  assert.equal(stored?.cursor, 3n);
  assert.deepEqual(stored?.sender, b.id);
  assert.deepEqual(stored?.blob?.body, b.make({ seq: 1 }).blob.body);
  assert.deepEqual(
    second.last("deliver").blobs.map((blob) => blob.cursor),
    [1n, 2n],
  );
});

test("5.16 nothing is acknowledged or delivered before the disk has it", async () => {
  const gate = gatedStore();
  gate.open();
  const { a, first, second, world } = await two({ store: gate.store });
  const commit = world.store.commit.bind(world.store);
  let through = (): void => undefined;
  world.store.commit = async (batch) => {
    await new Promise<void>((resolve) => {
      through = resolve;
    });
    await commit(batch);
  };
  first.push([a.next()]);
  await settled();
  assert.deepEqual([first.said(), second.said()], [[], []]);
  through();
  await settled();
  assert.deepEqual(
    [first.said(), second.said()],
    [["#1 pushAck 1", "deliver 0-1"], ["deliver 0-1"]],
  );
});

test("6.8 a commit above a page comes as several deliveries, dense, each within an envelope", async () => {
  const { a, b, first, second } = await two();
  const blobs = [...a.run(2, { bodyBytes: 700_000 }), ...a.run(3)];
  first.record(
    ...blobs.map((made, i) => ({
      id: i + 1,
      body: { case: "push", value: pushOf([made]) } as const,
    })),
  );
  second.push([b.next({ bodyBytes: 900_000 })]);
  await settled();
  const delivers = second.all("deliver");
  assert.ok(delivers.length >= 2);
  let after = 0n;
  for (const deliver of delivers) {
    assert.equal(deliver.after, after);
    const cursors = [...deliver.blobs, ...deliver.own].map((blob) => blob.cursor).sort();
    for (const cursor of cursors) assert.equal(cursor, ++after);
    assert.equal(deliver.through, after);
  }
  assert.equal(after, 6n);
});

test("6.4 3.3 a page of 2,000 blobs that together come near a page fits an envelope", async () => {
  const world = new RelayWorldUnderTest({ limits: { groupBytesMax: 1e8 } });
  const a = new ChainDevice(1);
  await world.found(a);
  const peer = await world.member(a);
  const blobs = a.run(2_500, { bodyBytes: 400 });
  for (let i = 0; i < blobs.length; i += 500) {
    peer.push(blobs.slice(i, i + 500));
    await settled();
  }
  const reader = await world.member(a);
  let largest = 0;
  const send = reader.port.send.bind(reader.port);
  reader.port.send = (envelope) => {
    largest = Math.max(largest, envelope.byteLength);
    send(envelope);
  };
  reader.ask({ case: "pull", value: { after: 0n, windowBytes: pullWindowBytesMax } });
  await settled();
  const pages = reader.all("blobs");
  assert.deepEqual(
    pages.flatMap((page) => page.blobs.map((blob) => Number(blob.cursor))),
    blobs.map((_, i) => i + 1),
  );
  assert.ok(largest > 700_000, "a page is full");
  assert.ok(largest <= envelopeBytesMax(1), `${largest} bytes`);
  for (const page of pages) assert.equal(page.blobs.at(-1)?.cursor, page.through, "6.3");
  assert.deepEqual(
    pages.map((page) => page.done),
    pages.map((_, i) => i === pages.length - 1),
  );
});

test("6.5 a window of one byte brings one blob at a time, over the real log", async () => {
  const { a, first, second } = await two();
  first.push(a.run(3));
  await settled();
  second.said();
  const id = second.ask({ case: "pull", value: { after: 0n, windowBytes: 1 } });
  for (const expected of ["blobs 0-1", "blobs 1-2", "blobs 2-3"]) {
    await settled();
    assert.deepEqual(second.said(), [`#${id} ${expected}`]);
    second.record({ id, body: { case: "pullMore", value: { windowBytes: 400 } } });
  }
  await settled();
  assert.deepEqual(second.said(), [], "it is over");
  assert.equal(second.last("blobs").done, true);
});

test("6.6 a slow reader is told once, costs what waits, and catches up at its own pace", async () => {
  const { a, first, second, world } = await two({ limits: { outboundBytesMax: 100_000 } });
  second.port.stuck = true;
  for (let i = 0; i < 20; i++) {
    first.push([a.next({ bodyBytes: 30_000 })]);
    await settled();
  }
  assert.ok(second.port.stuckBytes < 100_000 + 31_000, `${second.port.stuckBytes} bytes wait`);
  const said = second.said();
  assert.equal(said.filter((line) => line.startsWith("notify")).length, 1);
  assert.equal(second.endedWith, undefined);
  assert.equal(first.all("pushAck").length, 20, "it slows nobody");
  assert.equal(world.relay.counters.notified, 1);
  // Its pull waits until it has read.
  const after = second.last("deliver").through;
  second.ask({ case: "pull", value: { after, windowBytes: pullWindowBytesMax } });
  await settled();
  assert.deepEqual(second.said(), []);
  second.port.drain();
  await settled();
  assert.equal(second.last("blobs").through, 20n);
  first.push([a.next()]);
  await settled();
  assert.equal(second.last("deliver").through, 21n);
});

test("6.9 3.12 pulls that replace each other cost one page at a time", async () => {
  const { a, first, world } = await two();
  first.push(a.run(3));
  await settled();
  first.said();
  let reads = 0;
  let under = 0;
  const readBlobs = world.store.readBlobs.bind(world.store);
  world.store.readBlobs = async (...args) => {
    reads += 1;
    under += 1;
    assert.equal(under, 1, "one at a time");
    const rows = await readBlobs(...args);
    under -= 1;
    return rows;
  };
  first.record(
    ...Array.from({ length: 1_000 }, (_, i) => ({
      id: i + 1,
      body: { case: "pull", value: { after: 0n, windowBytes: 1 << 20 } } as const,
    })),
  );
  await settled();
  assert.ok(reads <= 2, `${reads} pages read`);
  assert.deepEqual(first.said(), ["#1000 blobs 0-3"]);
});

test("3.12 8.13 requests for control blobs are answered one at a time, as there is room", async () => {
  const { first, world } = await two({ limits: { outboundBytesMax: 1_000 } });
  let under = 0;
  let reads = 0;
  const readControl = world.store.readControl.bind(world.store);
  world.store.readControl = async (...args) => {
    reads += 1;
    under += 1;
    assert.equal(under, 1, "one at a time");
    const rows = await readControl(...args);
    under -= 1;
    return rows;
  };
  first.port.stuck = true;
  first.record(
    ...Array.from({ length: 200 }, (_, i) => ({
      id: i + 1,
      body: { case: "pullControl", value: { after: 0n } } as const,
    })),
  );
  await settled();
  assert.ok(reads < 10, `${reads} read while nobody takes them`);
  assert.ok(first.port.stuckBytes < 2_000);
  assert.ok(first.port.paused, "no more is read from it");
  for (let i = 0; i < 200 && first.all("controlBlobs").length < 200; i++) {
    first.port.drain();
    await settled();
  }
  assert.equal(first.all("controlBlobs").length, 200);
  assert.equal(first.port.pauses, first.port.resumes);
});

test("3.12 who asks and does not read the answers is not read from, and goes on when it does", async () => {
  const world = new RelayWorldUnderTest();
  const stranger = await world.lobby(bytes(32, 5));
  stranger.port.stuck = true;
  let records = 0;
  while (!stranger.port.paused && records < 100) {
    records += 1;
    const asked = { body: { case: "getSnapshot", value: {} } as const };
    stranger.record(...Array.from({ length: 1_000 }, (_, i) => ({ id: i + 1, ...asked })));
  }
  assert.ok(stranger.port.paused);
  assert.ok(stranger.port.stuckBytes < 512 * 1024, `${stranger.port.stuckBytes} bytes wait`);
  stranger.port.drain();
  assert.equal(stranger.port.pauses, stranger.port.resumes);
});

test("3.12 pushes that wait for a commit stop the reading, which goes on behind it", async () => {
  const gate = gatedStore();
  gate.open();
  const { a, first, world } = await two({ store: gate.store });
  const commit = world.store.commit.bind(world.store);
  let through = (): void => undefined;
  world.store.commit = async (batch) => {
    await new Promise<void>((resolve) => {
      through = resolve;
    });
    await commit(batch);
  };
  for (let i = 0; i < 6; i++) first.push([a.next({ bodyBytes: 1_000_000 })]);
  assert.ok(first.port.paused);
  await settled();
  for (let i = 0; i < 6; i++) {
    through();
    await settled();
  }
  assert.equal(first.all("pushAck").length, 6);
  assert.equal(first.port.pauses, first.port.resumes);
});

test("3.12 pauses and resumes pair up where all sessions together wait, and one ends meanwhile", async () => {
  const { world, a, b, first, second } = await two({
    limits: { blobBytesMax: 16 * 1024 * 1024, groupBytesMax: 1e9, storeBytesMax: 1e9 },
  });
  const commit = world.store.commit.bind(world.store);
  let through = (): void => undefined;
  let held = true;
  world.store.commit = async (batch) => {
    if (held) {
      await new Promise<void>((resolve) => {
        through = resolve;
      });
    }
    await commit(batch);
  };
  for (let i = 0; i < 6; i++) {
    first.push([a.next({ bodyBytes: 15_000_000 })]);
    second.push([b.next({ bodyBytes: 15_000_000 })]);
  }
  assert.ok(world.relay.queuedBytes > 64 * 1024 * 1024);
  second.cut();
  held = false;
  await settled();
  through();
  for (let i = 0; i < 20; i++) await settled();
  assert.equal(world.relay.queuedBytes, 0);
  assert.equal(first.port.pauses, first.port.resumes);
  assert.equal(first.all("pushAck").length, 6);
  const again = await world.member(b);
  const welcome = again.last("welcome");
  assert.ok(welcome.scope.case === "group");
  assert.equal(welcome.scope.value.own?.seq, 6n, "4.11 what the cut session pushed is there");
});

test("4.11 a device that connects again replaces its older session, and is not told gone", async () => {
  const { world, a, first, second } = await two();
  first.push([a.next()]);
  const again = await world.member(a);
  await settled();
  assert.equal(first.endedWith, ErrorCode.REPLACED);
  assert.equal(first.last("error").code, ErrorCode.REPLACED);
  assert.equal(again.endedWith, undefined);
  assert.deepEqual(
    second.said().filter((line) => line.startsWith("presence")),
    [`presence ${PresenceState.ONLINE}`],
  );
  assert.equal(world.relay.sessionCount, 2);
  again.cut();
  assert.deepEqual(second.said(), [`presence ${PresenceState.OFFLINE}`]);
});

test("4.11 a device that connects twice at once keeps one session", async () => {
  const { world, a, first } = await two();
  const left = world.attach(a.id, { groupId });
  const right = world.attach(a.id, { groupId });
  await settled();
  assert.equal(first.endedWith, ErrorCode.REPLACED);
  assert.equal(left.endedWith, ErrorCode.REPLACED);
  assert.equal(right.endedWith, undefined);
});

test("4.5 a group that is not there and one the device is not in look alike", async () => {
  const { world } = await two();
  const absent = await world.member({ id: bytes(32, 1) }, undefined, bytes(32, 4));
  const foreign = await world.member({ id: bytes(32, 1) });
  assert.deepEqual(absent.port.sent, foreign.port.sent);
  assert.equal(foreign.endedWith, ErrorCode.NOT_A_MEMBER);
  assert.equal(foreign.port.welcomes, 0, "2.12 and gets no token back");
});

test("2.12 a member's session gives its address its token back, once", async () => {
  const { first } = await two();
  assert.equal(first.port.welcomes, 1);
});

test("4.7 4.8 Welcome tells whether the log changed, where the device stands, and what is pending", async () => {
  const { world, a, b, first } = await two();
  first.push(a.run(3));
  await settled();
  const welcome = async (read?: { logId: Uint8Array; cursor: number; link: Uint8Array }) => {
    const { scope } = (await world.member(b, read)).last("welcome");
    assert.ok(scope.case === "group");
    return scope.value;
  };
  const { logId } = await welcome();
  const second = new ChainDevice(1);
  const links = second.run(3).map(({ link }) => link);
  const link = links[1] as Uint8Array;
  const cases: [Parameters<typeof welcome>[0], boolean, bigint][] = [
    [undefined, false, 3n],
    [{ logId, cursor: 0, link: new Uint8Array(32) }, false, 3n],
    [{ logId, cursor: 2, link }, false, 1n],
    [{ logId, cursor: 2, link: links[0] as Uint8Array }, true, 3n],
    [{ logId, cursor: 4, link }, true, 3n],
    [{ logId: bytes(16, 9), cursor: 2, link }, true, 3n],
    [{ logId: bytes(16, 9), cursor: 0, link }, true, 3n],
  ];
  for (const [read, changed, pending] of cases) {
    const told = await welcome(read);
    assert.equal(told.logChanged, changed);
    assert.equal(told.pending, pending);
    assert.equal(told.head, 3n);
    assert.equal(told.floor, 0n);
    assert.equal(told.own?.seq, 0n);
    assert.equal(told.epoch, 1n);
  }
  const { scope } = (await world.member(a)).last("welcome");
  assert.ok(scope.case === "group");
  assert.equal(scope.value.own?.seq, 3n);
  assert.deepEqual(scope.value.own?.link, a.link);
  assert.deepEqual(
    scope.value.presence.map((presence) => [presence.deviceId, presence.state]),
    [[b.id, PresenceState.ONLINE]],
  );
});

test("4.9 6.6 a session begins to be delivered to at its read cursor", async () => {
  const { world, a, b, first } = await two();
  first.push(a.run(2));
  await settled();
  const { scope } = first.last("welcome");
  assert.ok(scope.case === "group");
  const { logId } = scope.value;
  const current = await world.member(b, { logId, cursor: 2, link: a.link });
  current.said();
  first.push([a.next()]);
  await settled();
  assert.deepEqual(current.said(), ["deliver 2-3"]);
  const behind = await world.member(b);
  behind.said();
  first.push([a.next()]);
  await settled();
  assert.deepEqual(behind.said(), ["notify 4"]);
});

test("4.9 what is committed while a device is being welcomed is in the Welcome, or told after it", async () => {
  const { world, a, b, first, second, version } = await two();
  second.cut();
  first.push([a.next()]);
  await settled();
  const { scope } = first.last("welcome");
  assert.ok(scope.case === "group");
  const read = { logId: scope.value.logId, cursor: 1, link: a.link };
  const linkAt = world.store.linkAt.bind(world.store);
  let found = (): void => undefined;
  world.store.linkAt = async (...args) => {
    await new Promise<void>((resolve) => {
      found = resolve;
    });
    return await linkAt(...args);
  };
  const late = world.attach(b.id, { groupId, read });
  await settled();
  const rotation = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  first.ask({ case: "changeMembership", value: rotation.change });
  first.push([a.next({ epoch: 2 })]);
  await settled();
  assert.deepEqual(late.said(), [], "nothing before its Welcome");
  found();
  await settled();
  const welcome = late.last("welcome");
  assert.ok(welcome.scope.case === "group");
  assert.equal(welcome.scope.value.head, 2n);
  assert.equal(welcome.scope.value.epoch, 2n);
  assert.equal(welcome.scope.value.pending, 1n);
});

test("4.9 a device removed while it is being welcomed is told so", async () => {
  const { world, a, b, first, second, version } = await two();
  second.cut();
  const linkAt = world.store.linkAt.bind(world.store);
  let found = (): void => undefined;
  world.store.linkAt = async (...args) => {
    await new Promise<void>((resolve) => {
      found = resolve;
    });
    return await linkAt(...args);
  };
  const late = world.attach(b.id, {
    groupId,
    read: { logId: bytes(16, 1), cursor: 1, link: bytes(32, 1) },
  });
  await settled();
  const removal = changeOf({
    author: a.id,
    at: version,
    epoch: 2,
    members: [a.id],
    closings: [{ id: b.id, seq: 0, link: new Uint8Array(32) }],
  });
  first.ask({ case: "changeMembership", value: removal.change });
  await settled();
  found();
  await settled();
  assert.equal(late.endedWith, ErrorCode.DEVICE_REVOKED);
  assert.equal(late.all("welcome").length, 0);
});

test("4.9 a group is not forgotten while a device is being welcomed to it", async () => {
  const { world, a, b, first, second } = await two();
  first.push([a.next()]);
  await settled();
  first.cut();
  second.cut();
  world.pass(10_000);
  await settled();
  const linkAt = world.store.linkAt.bind(world.store);
  let found = (): void => undefined;
  world.store.linkAt = async (...args) => {
    await new Promise<void>((resolve) => {
      found = resolve;
    });
    return await linkAt(...args);
  };
  const late = world.attach(b.id, {
    groupId,
    read: { logId: bytes(16, 1), cursor: 1, link: bytes(32, 1) },
  });
  await settled();
  world.pass(60_000);
  await settled();
  world.store.linkAt = linkAt;
  const other = await world.member(a);
  found();
  await settled();
  assert.equal(late.endedWith, undefined);
  late.said();
  other.push([a.next()]);
  await settled();
  assert.deepEqual(other.last("pushAck").cursors, [2n]);
  assert.equal(late.said().length, 1, "both are in the same group in memory");
});

test("a group nobody is connected to is forgotten and loaded again as it was", async () => {
  const { world, a, first, second } = await two();
  first.push(a.run(3));
  await settled();
  first.ask({ case: "ack", value: { applied: 2n } });
  first.cut();
  second.cut();
  for (let i = 0; i < 5; i++) {
    world.pass(15_000);
    await settled();
  }
  assert.equal(world.relay.liveGroups, 0);
  const again = await world.member(a);
  assert.equal(world.relay.liveGroups, 1);
  again.push([a.next()]);
  await settled();
  assert.deepEqual(again.last("pushAck").cursors, [4n]);
  const loaded = await world.store.loadGroup(groupId);
  assert.equal(loaded?.devices[0]?.applied, 2, "7.1 what was acknowledged was written");
});

test("7.1 an acknowledgement without a witness is answered at once and written within seconds", async () => {
  const { world, a, first } = await two();
  first.push(a.run(3));
  await settled();
  const { commits } = world.relay.counters;
  const applied = async () => (await world.store.loadGroup(groupId))?.devices[0]?.applied;
  const before = first.said().length;
  assert.ok(before > 0);
  first.ask({ case: "ack", value: { applied: 2n } });
  assert.deepEqual(first.said(), ["#2 done"]);
  await settled();
  assert.equal(world.relay.counters.commits, commits);
  world.pass(10_000);
  await settled();
  assert.equal(await applied(), 2);
  first.ask({ case: "ack", value: { applied: 1n } });
  first.ask({ case: "ack", value: { applied: 99n } });
  world.pass(10_000);
  await settled();
  assert.equal(await applied(), 3, "never back, never above the head");
});

test("7.1 a soft write that fails is written by a later one", async () => {
  const { world, a, first } = await two();
  first.push(a.run(3));
  await settled();
  first.ask({ case: "ack", value: { applied: 3n } });
  world.store.failCommits();
  world.pass(10_000);
  await settled();
  assert.equal(world.storeFailures, 1);
  world.pass(10_000);
  await settled();
  assert.equal((await world.store.loadGroup(groupId))?.devices[0]?.applied, 3);
});

const witness = (counter: number, size = 40) => ({
  counter: BigInt(counter),
  epoch: 1n,
  sealed: bytes(size, counter),
  signature: bytes(64, counter),
});

test("7.2 7.3 7.4 the newest witness is kept and passed on; an older one is neither", async () => {
  const { world, b, first, second } = await two();
  const ack = (counter: number) => ({
    case: "ack" as const,
    value: { applied: 0n, witness: witness(counter) },
  });
  first.record(
    { id: 1, body: ack(5) },
    { id: 2, body: ack(5) },
    { id: 3, body: ack(4) },
    { id: 4, body: ack(6) },
  );
  assert.deepEqual(first.said(), [], "not before it is on disk");
  await settled();
  assert.deepEqual(first.said(), ["#1 done", "#2 done", "#3 done", "#4 done"]);
  assert.deepEqual(
    second.all("witnesses").map(({ witnesses }) => witnesses[0]?.witness?.counter),
    [5n, 6n],
  );
  const again = await world.member(b);
  assert.deepEqual(again.said(), ["welcome", "witnesses"]);
  assert.equal(again.last("witnesses").witnesses[0]?.witness?.counter, 6n);
});

test("7.2 a witness that could not be written is refused and told to nobody", async () => {
  const { world, first, second } = await two();
  world.store.failCommits();
  first.ask({ case: "ack", value: { witness: witness(1) } });
  await settled();
  assert.deepEqual(first.said(), [`#1 error ${ErrorCode.STORE_UNAVAILABLE}`]);
  assert.deepEqual(second.said(), []);
});

test("4.10 3.3 the witnesses of a large group come in as many envelopes as fit", async () => {
  const world = new RelayWorldUnderTest();
  const devices = Array.from({ length: 60 }, (_, i) => new ChainDevice(i + 1));
  await world.found(...devices);
  for (const device of devices) {
    const peer = await world.member(device);
    peer.ask({ case: "ack", value: { witness: witness(1, 32_768) } });
    await settled();
    peer.cut();
  }
  const [first] = devices;
  assert.ok(first);
  const port = new FakePort();
  const sizes: number[] = [];
  const send = port.send.bind(port);
  port.send = (envelope) => {
    sizes.push(envelope.byteLength);
    send(envelope);
  };
  world.relay.attach(port, first.id, "", { version: 1, groupId, read: undefined });
  await settled();
  const told = port.sent.flatMap(({ body }) =>
    body.case === "witnesses" ? body.value.witnesses.map((one) => one.deviceId) : [],
  );
  assert.equal(told.length, 59);
  for (const size of sizes) assert.ok(size <= envelopeBytesMax(1), `${size} bytes`);
});

test("7.5 presence is told when it changes, and only then", async () => {
  const { first, second } = await two();
  const say = (state: PresenceState) => first.ask({ case: "presence", value: { state } });
  say(PresenceState.ONLINE);
  say(PresenceState.AWAY);
  say(PresenceState.AWAY);
  say(PresenceState.ONLINE);
  assert.deepEqual(first.said(), ["#1 done", "#2 done", "#3 done", "#4 done"]);
  assert.deepEqual(second.said(), ["presence 2", "presence 1"]);
});

test("7.6 a connection at its bound is told no presence and no witness until it has read", async () => {
  const { world, a, first, second } = await two({ limits: { outboundBytesMax: 1_000 } });
  second.port.stuck = true;
  second.port.stuckBytes = 1_000;
  const before = second.port.stuckBytes;
  for (let i = 1; i < 100; i++) {
    first.ask({ case: "ack", value: { witness: witness(i) } });
    first.ask({ case: "presence", value: { state: i % 2 === 0 ? 1 : 2 } });
    await settled();
  }
  assert.equal(second.port.stuckBytes, before);
  assert.equal(world.relay.counters.putOff, 1);
  second.port.drain();
  assert.deepEqual(second.said(), ["presence 2", "witnesses"]);
  assert.equal(second.last("witnesses").witnesses[0]?.witness?.counter, 99n);
  assert.deepEqual(second.last("presence").deviceId, a.id);
  first.ask({ case: "presence", value: { state: PresenceState.ONLINE } });
  assert.deepEqual(second.said(), ["presence 1"]);
});

test("4.12 a lobby session is told its groups, those it was removed from not", async () => {
  const { world, a, b, first, version } = await two();
  const removal = changeOf({
    author: a.id,
    at: version,
    epoch: 2,
    members: [a.id],
    closings: [{ id: b.id, seq: 0, link: new Uint8Array(32) }],
  });
  first.ask({ case: "changeMembership", value: removal.change });
  await settled();
  const groups = async (id: Uint8Array) => {
    const { scope } = (await world.lobby(id)).last("welcome");
    assert.ok(scope.case === "lobby");
    return scope.value.groups.map((group) => [group.groupId, group.membership?.count]);
  };
  assert.deepEqual(await groups(a.id), [[groupId, 2n]]);
  assert.deepEqual(await groups(b.id), []);
  assert.deepEqual(await groups(bytes(32, 3)), []);
});

test("4.13 a lobby session ends after fifteen minutes; a member's does not", async () => {
  const { world, first } = await two();
  const stranger = await world.lobby(bytes(32, 5));
  world.pass(899_999);
  assert.equal(stranger.endedWith, undefined);
  world.pass(1);
  assert.equal(stranger.endedWith, ErrorCode.TOO_MANY_CONNECTIONS);
  assert.equal(first.endedWith, undefined);
});

test("4.13 lobby sessions take a quarter of the room, members the rest", async () => {
  const { world, a } = await two({ limits: { sessionsMax: 8 } });
  const strangers = [await world.lobby(bytes(32, 5)), await world.lobby(bytes(32, 6))];
  const third = await world.lobby(bytes(32, 7));
  assert.equal(third.endedWith, ErrorCode.TOO_MANY_CONNECTIONS);
  for (const stranger of strangers) assert.equal(stranger.endedWith, undefined);
  strangers[0]?.cut();
  assert.equal((await world.lobby(bytes(32, 7))).endedWith, undefined);
  assert.equal((await world.member(a)).endedWith, undefined);
});

test("4.14 after a founding the session stays a lobby session", async () => {
  const world = new RelayWorldUnderTest();
  const a = new ChainDevice(1);
  const lobby = await world.lobby(a.id);
  lobby.ask({ case: "changeMembership", value: foundingOf(a.id).change });
  await settled();
  assert.equal(lobby.session.kind, "lobby");
  lobby.push([a.make()]);
  assert.equal(lobby.endedWith, ErrorCode.ENVELOPE_UNEXPECTED);
  const member = await world.member(a);
  assert.deepEqual(member.last("welcome").scope.case, "group");
});

test("4.15 a relay that shuts down answers what it took, and then ends each session with a time", async () => {
  const gate = gatedStore();
  gate.open();
  const { world, a, first, second } = await two({ store: gate.store });
  const commit = world.store.commit.bind(world.store);
  let through = (): void => undefined;
  let held = true;
  world.store.commit = async (batch) => {
    if (held) {
      await new Promise<void>((resolve) => {
        through = resolve;
      });
    }
    await commit(batch);
  };
  first.push([a.next()]);
  await settled();
  const drained = world.relay.drain(5_000);
  first.push([a.make()]);
  await settled();
  assert.deepEqual(first.said(), [`#2 error ${ErrorCode.DRAINING}`]);
  assert.equal(first.endedWith, undefined);
  held = false;
  through();
  await drained;
  assert.equal(first.said()[0], "#1 pushAck 1");
  for (const peer of [first, second]) {
    assert.equal(peer.endedWith, ErrorCode.DRAINING);
    const { retryAfterMs } = peer.last("error");
    assert.ok(retryAfterMs >= 500 && retryAfterMs <= 5_500);
  }
  assert.equal(world.relay.sessionCount, 0);
  assert.equal((await world.store.loadGroup(groupId))?.devices[0]?.lastSeq, 1);
  const late = world.attach(a.id, { groupId });
  assert.equal(late.endedWith, ErrorCode.DRAINING);
  const { commits } = world.relay.counters;
  world.pass(60_000);
  await settled();
  assert.equal(world.relay.counters.commits, commits, "the store may be closed by now");
});

test("4.15 what only time would have written is written before the end", async () => {
  const { world, a, first } = await two();
  first.push([a.next()]);
  await settled();
  first.ask({ case: "ack", value: { applied: 1n } });
  world.nowMs += 5_000;
  await world.relay.drain(0);
  const row = (await world.store.loadGroup(groupId))?.devices[0];
  assert.equal(row?.applied, 1);
  assert.equal(row?.lastSeenMs, world.nowMs);
});

test("5.14 a session whose group cannot be read ends with STORE_UNAVAILABLE", async () => {
  const { world, first, second, b } = await two();
  first.cut();
  second.cut();
  for (let i = 0; i < 5; i++) {
    world.pass(15_000);
    await settled();
  }
  world.store.loadGroup = async () => await Promise.reject(storeUnavailable("no disk"));
  const late = await world.member(b);
  assert.equal(late.endedWith, ErrorCode.STORE_UNAVAILABLE);
});

test("6.10 a page that cannot be read refuses the pull; the session goes on", async () => {
  const { world, a, first } = await two();
  first.push(a.run(2));
  await settled();
  first.said();
  const readBlobs = world.store.readBlobs.bind(world.store);
  world.store.readBlobs = async () => await Promise.reject(storeUnavailable("no disk"));
  const pull = { case: "pull", value: { after: 0n, windowBytes: 1_000_000 } } as const;
  first.ask(pull);
  await settled();
  assert.deepEqual(first.said(), [`#2 error ${ErrorCode.STORE_UNAVAILABLE}`]);
  world.store.readBlobs = readBlobs;
  first.ask(pull);
  await settled();
  assert.deepEqual(first.said(), ["#3 blobs 0-2"]);
});

test("10.7 a defect ends the session it happened in, with an id to find it by, and no other", async () => {
  const { world, first, second } = await two();
  world.store.readControl = async () => await Promise.reject(new Error("what nobody may read"));
  first.ask({ case: "pullControl", value: {} });
  await settled();
  assert.equal(first.endedWith, ErrorCode.INTERNAL);
  const { detail, message } = first.last("error");
  assert.ok(detail.case === "incident");
  assert.equal(detail.value.id.length, 12);
  assert.equal(message, "a defect of the relay");
  assert.equal(world.defects.length, 1);
  assert.equal(second.endedWith, undefined);
});

test("3.9 bodies of capabilities that were not announced are refused alone; none is announced", async () => {
  const { first } = await two();
  assert.deepEqual(first.last("welcome").capabilities, [], "11.5");
  first.ask({ case: "statObject", value: {} });
  first.record({ id: 0, body: { case: "putSnapshot", value: {} } });
  // A body of number 99: a newer device's.
  first.session.receive(Uint8Array.of(6, 8, 9, 0x9a, 0x06, 1, 0));
  assert.deepEqual(first.said(), [
    `#1 error ${ErrorCode.ENVELOPE_UNEXPECTED}`,
    `#9 error ${ErrorCode.ENVELOPE_UNEXPECTED}`,
  ]);
  assert.equal(first.endedWith, undefined);
});

test("3.5 4.16 a record that holds no envelopes ends the session, told as its last envelope", async () => {
  for (const garbage of [
    Uint8Array.of(5, 1),
    Uint8Array.of(0x80),
    Uint8Array.of(2, 0x0b, 0x0c),
    bytes(500, 3),
    encodeEnvelope(1, { case: "push", value: {} }),
  ]) {
    const { first, world } = await two();
    first.session.receive(garbage);
    assert.equal(first.endedWith, ErrorCode.ENVELOPE_INVALID);
    assert.deepEqual(first.said(), [`error ${ErrorCode.ENVELOPE_INVALID}`]);
    assert.equal(world.relay.counters.protocolFaults, 1);
  }
});

test("1.4 the log goes on over a crash: what was acknowledged is there, and no cursor twice", async () => {
  const store = openMemoryStore();
  const { a, first } = await two({ store });
  first.push(a.run(2));
  await settled();
  const world = new RelayWorldUnderTest({ store: store.crash("lost") });
  const again = await world.member(a);
  again.push([a.next()]);
  await settled();
  assert.deepEqual(again.last("pushAck").cursors, [3n]);
});
