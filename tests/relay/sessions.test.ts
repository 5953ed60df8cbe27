import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { envelopeBytesMax } from "../../wire/limits.ts";
import {
  bytes,
  ChainDevice,
  changeOf,
  foundingOf,
  groupId,
  removalOf,
} from "../support/devices.ts";
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

/** A relay whose store's file is older than its log id says: a member has read what is not there. */
async function copiedBack() {
  const { world, a, b, first, second, version } = await two();
  first.push(a.run(2));
  await settled();
  const { scope } = second.last("welcome");
  assert.ok(scope.case === "group");
  const { logId } = scope.value;
  const hello = async (device: ChainDevice, cursor: number, link: Uint8Array, id = logId) => {
    const welcome = (await world.member(device, { logId: id, cursor, link })).last("welcome");
    assert.ok(welcome.scope.case === "group");
    return welcome.scope.value;
  };
  return { world, a, b, first, second, version, logId, hello };
}

test("11.3 a log that a member knows otherwise goes on under another id, and all of the group learn it", async () => {
  const { a, b, first, logId, hello } = await copiedBack();
  const told = await hello(b, 3, bytes(32, 5));
  assert.equal(told.logChanged, true);
  assert.notDeepEqual(told.logId, logId);
  assert.equal(first.endedWith, ErrorCode.DRAINING, "who was there before comes back");
  const other = await hello(a, 1, new ChainDevice(1).next().link);
  assert.equal(other.logChanged, true);
  assert.deepEqual(other.logId, told.logId);
  assert.equal((await hello(a, 2, a.link, told.logId)).logChanged, false);
});

test("11.3 a member that lies about it moves the others once a minute at most", async () => {
  const { world, a, b, logId, hello } = await copiedBack();
  const { logId: next } = await hello(b, 3, bytes(32, 5));
  await world.member(a, { logId: next, cursor: 2, link: a.link });
  const again = await hello(b, 3, bytes(32, 5), next);
  assert.equal(again.logChanged, true);
  assert.deepEqual(again.logId, next, "it alone is told");
  world.pass(60_000);
  const later = await hello(b, 3, bytes(32, 5), next);
  assert.notDeepEqual(later.logId, next);
  assert.notDeepEqual(later.logId, logId);
});

test("11.3 a device that was removed moves nobody", async () => {
  const { world, a, b, first, logId, hello, version } = await copiedBack();
  const { change } = removalOf(a, b, version);
  first.ask({ case: "changeMembership", value: change });
  await settled();
  const removed = await world.member(b, { logId, cursor: 3, link: bytes(32, 5) });
  assert.equal(removed.endedWith, ErrorCode.DEVICE_REVOKED);
  assert.equal(first.endedWith, undefined);
  assert.deepEqual((await hello(a, 2, a.link)).logId, logId);
});

test("11.3 a store that fails keeps the log's id, and tells who found it", async () => {
  const { world, b, logId, hello } = await copiedBack();
  world.store.failCommits();
  const told = await hello(b, 3, bytes(32, 5));
  assert.equal(told.logChanged, true);
  assert.deepEqual(told.logId, logId);
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
  const removal = removalOf(a, b, version);
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
  const removal = removalOf(a, b, version);
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

test("4.15 who is told to go is not told that the others go", async () => {
  const { world, first, second } = await two();
  await world.relay.drain(0);
  for (const peer of [first, second]) {
    assert.deepEqual(peer.said(), [`error ${ErrorCode.DRAINING}`]);
  }
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

test("4.15 all is on disk before the first device is told, however long telling takes", async () => {
  const { world, first, second } = await two();
  world.nowMs += 5_000;
  await world.relay.settle();
  const row = (await world.store.loadGroup(groupId))?.devices[0];
  assert.equal(row?.lastSeenMs, world.nowMs);
  for (const peer of [first, second]) assert.equal(peer.endedWith, undefined);
  world.relay.dismiss(1_000, 2_000);
  for (const peer of [first, second]) {
    assert.equal(peer.endedWith, ErrorCode.DRAINING);
    const { retryAfterMs } = peer.last("error");
    assert.ok(retryAfterMs >= 2_000 && retryAfterMs <= 3_000);
  }
});

test("4.9 a group deleted while a device is being welcomed to it is not joined", async () => {
  const { world, b, second } = await two();
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
  const live = await world.relay.group(groupId);
  assert.ok(live);
  await world.relay.operate(
    (draft) => draft.deleteGroup(live.entry),
    () => world.relay.dropGroup(live),
  );
  found();
  await settled();
  assert.equal(late.endedWith, ErrorCode.NOT_A_MEMBER);
  assert.equal(late.all("welcome").length, 0);
});

test("5.15 a push and the deletion of its group in one commit: acknowledged, then gone", async () => {
  const { world, a, first, second } = await two();
  first.push([a.next()]);
  await settled();
  const live = await world.relay.group(groupId);
  assert.ok(live);
  first.push([a.next()]);
  const deleted = world.relay.operate(
    (draft) => draft.deleteGroup(live.entry),
    () => world.relay.dropGroup(live),
  );
  second.push([new ChainDevice(2).next()]);
  await deleted;
  await settled();
  assert.deepEqual(first.last("pushAck").cursors, [2n]);
  assert.equal(first.endedWith, ErrorCode.NOT_A_MEMBER);
  assert.equal(second.endedWith, ErrorCode.NOT_A_MEMBER);
  assert.equal(await world.store.loadGroup(groupId), undefined);
  const { groups, bytes: left } = await world.store.totals();
  assert.deepEqual([groups, left, world.relay.storeBytes], [0, 0, 0]);
  assert.deepEqual(world.defects, []);
});
