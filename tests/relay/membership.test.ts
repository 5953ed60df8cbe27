import assert from "node:assert/strict";
import { test } from "node:test";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import type { Founding } from "../../server/options.ts";
import type { EnvelopeBody } from "../../wire/envelope.ts";
import { ErrorCode } from "../../wire/errors.ts";
import type { MadeChange } from "../support/devices.ts";
import { bytes, ChainDevice, changeOf, foundingOf, groupId, pushOf } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

async function group(...more: ChainDevice[]) {
  const world = new RelayWorldUnderTest();
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const version = await world.found(a, b, ...more);
  const peer = await world.member(a);
  peer.said();
  return { world, a, b, peer, version };
}

const asked = ({ change }: MadeChange): EnvelopeBody => ({
  case: "changeMembership",
  value: change,
});

/** The membership detail of an error. */
function membershipOf(peer: Peer) {
  const { code, detail } = peer.last("error");
  assert.equal(detail.case, "membership");
  assert.ok(detail.case === "membership");
  return { code, count: detail.value.version?.count, ...detail.value };
}

test("8.2 the same control bytes are answered as the first time, before the version is compared", async () => {
  const { world, a, b, peer, version } = await group();
  const rotation = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.record({ id: 1, body: asked(rotation) }, { id: 2, body: asked(rotation) });
  await settled();
  const later = changeOf({ author: a.id, at: rotation.after, epoch: 3, members: [a.id, b.id] });
  peer.ask(asked(later));
  await settled();
  const other = await world.member(b);
  other.ask(asked(rotation));
  await settled();
  const [first, second] = peer.all("membershipAck");
  assert.deepEqual(second, first, "in the same commit");
  assert.deepEqual(other.last("membershipAck"), first, "by another member, two versions later");
  assert.equal(first?.epoch, 2n);
  assert.equal(peer.all("error").length, 0);
});

test("8.3 of two changes at one version the first wins, in the same commit too", async () => {
  const { world, a, b, peer, version } = await group();
  const other = await world.member(b);
  const first = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  const second = changeOf({ author: b.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.ask(asked(first));
  other.ask(asked(second));
  await settled();
  assert.equal(peer.last("membershipAck").membership?.count, 2n);
  const conflict = membershipOf(other);
  assert.equal(conflict.code, ErrorCode.MEMBERSHIP_CONFLICT);
  assert.equal(conflict.count, 2n);
  assert.deepEqual(conflict.version?.head, first.after.head);
});

test("8.3 the control blob's own previous head is compared as well", async () => {
  const { a, b, peer, version } = await group();
  const made = changeOf({
    author: a.id,
    at: { count: version.count, head: bytes(32, 1) },
    epoch: 2,
    members: [a.id, b.id],
  });
  const expected = { count: 1n, head: version.head };
  peer.ask({ case: "changeMembership", value: Object.assign(made.change, { expected }) });
  await settled();
  assert.equal(membershipOf(peer).code, ErrorCode.MEMBERSHIP_CONFLICT);
});

test("8.4 a member submits another's control blob; a stranger's is refused", async () => {
  const { a, b, peer, version } = await group();
  const stranger = changeOf({
    author: bytes(32, 999),
    at: version,
    epoch: 2,
    members: [a.id, b.id],
  });
  peer.ask(asked(stranger));
  const theirs = changeOf({ author: b.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.ask(asked(theirs));
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.NOT_A_MEMBER);
  assert.equal(peer.last("membershipAck").membership?.count, 2n);
});

test("8.4 an author that the same commit added is known", async () => {
  const { a, b, peer, version } = await group();
  const c = new ChainDevice(3);
  const adding = changeOf({ author: a.id, at: version, epoch: 1, members: [a.id, b.id, c.id] });
  const byNew = changeOf({
    author: c.id,
    at: adding.after,
    epoch: 2,
    members: [a.id, b.id, c.id],
  });
  peer.record({ id: 1, body: asked(adding) }, { id: 2, body: asked(byNew) });
  await settled();
  assert.deepEqual(
    peer.all("membershipAck").map((ack) => ack.membership?.count),
    [2n, 3n],
  );
});

const malformed: [
  string,
  (c: { a: ChainDevice; b: ChainDevice }) => Partial<Parameters<typeof changeOf>[0]>,
][] = [
  ["an epoch two further", () => ({ epoch: 3 })],
  ["an epoch before", () => ({ epoch: 0 })],
  ["nobody", () => ({ members: [] })],
  ["a member twice", ({ a }) => ({ members: [a.id, a.id] })],
  [
    "a removal without a new epoch",
    ({ a, b }) => ({
      members: [a.id],
      epoch: 1,
      closings: [{ id: b.id, seq: 0, link: b.link }],
    }),
  ],
  ["a removal without its closing", ({ a }) => ({ members: [a.id], epoch: 2 })],
];
for (const [name, choices] of malformed) {
  test(`8.5 8.6 ${name} is ENVELOPE_INVALID and changes nothing`, async () => {
    const { world, a, b, peer, version } = await group();
    peer.ask(
      asked(
        changeOf({
          author: a.id,
          at: version,
          epoch: 2,
          members: [a.id, b.id],
          ...choices({ a, b }),
        }),
      ),
    );
    await settled();
    assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID);
    const loaded = await world.store.loadGroup(groupId);
    assert.equal(loaded?.group.membershipCount, 1);
    assert.equal(loaded?.devices.length, 2);
  });
}

test("8.5 the epoch beside a control blob is the one inside it", async () => {
  const { a, b, peer, version } = await group();
  const made = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.ask({ case: "changeMembership", value: Object.assign(made.change, { epoch: 1n }) });
  await settled();
  assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID);
});

test("1.1 8.5 a removed device id never comes back", async () => {
  const { a, b, peer, version } = await group();
  const removal = changeOf({
    author: a.id,
    at: version,
    epoch: 2,
    members: [a.id],
    closings: [{ id: b.id, seq: 0, link: b.link }],
  });
  peer.ask(asked(removal));
  await settled();
  peer.ask(asked(changeOf({ author: a.id, at: removal.after, epoch: 2, members: [a.id, b.id] })));
  await settled();
  assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID);
});

test("8.6 8.9 a removal ends the removed device's session, and it comes back to DEVICE_REVOKED", async () => {
  const c = new ChainDevice(3);
  const { world, a, b, peer, version } = await group(c);
  const removed = await world.member(b);
  const stays = await world.member(c);
  stays.said();
  const removal = changeOf({
    author: a.id,
    at: version,
    epoch: 2,
    members: [a.id, c.id],
    closings: [{ id: b.id, seq: 0, link: b.link }],
  });
  // In one commit with a push before it and one behind it.
  peer.record(
    { id: 1, body: { case: "push", value: pushOf([a.next()]) } },
    { id: 2, body: asked(removal) },
    { id: 3, body: { case: "push", value: pushOf([a.next({ epoch: 2 })]) } },
  );
  removed.push([b.make()]);
  await settled();
  assert.equal(removed.endedWith, ErrorCode.DEVICE_REVOKED);
  assert.equal(removed.all("deliver").length, 0, "nothing of that commit reaches it");
  assert.equal(removed.all("pushAck").length, 0);
  // Version and epoch come before the first blob of that epoch.
  assert.deepEqual(
    stays.said().filter((line) => !line.startsWith("presence")),
    ["notify 2 v2", "deliver 0-2"],
  );
  const again = await world.member(b);
  assert.equal(again.endedWith, ErrorCode.DEVICE_REVOKED);
});

test("8.9 a device that a commit adds and removes stays removed", async () => {
  const { world, a, b, peer, version } = await group();
  const c = new ChainDevice(3);
  const adding = changeOf({ author: a.id, at: version, epoch: 1, members: [a.id, b.id, c.id] });
  const removal = changeOf({
    author: a.id,
    at: adding.after,
    epoch: 2,
    members: [a.id, b.id],
    closings: [{ id: c.id, seq: 0, link: c.link }],
  });
  const { commits } = world.relay.counters;
  peer.record({ id: 1, body: asked(adding) }, { id: 2, body: asked(removal) });
  await settled();
  assert.equal(world.relay.counters.commits, commits + 1);
  assert.equal(peer.all("membershipAck").length, 2);
  assert.equal((await world.member(c)).endedWith, ErrorCode.DEVICE_REVOKED);
});

test("8.7 8.8 a removal that knows too little conflicts with what is there, and holds the device", async () => {
  const { world, a, b, peer, version } = await group();
  const other = await world.member(b);
  other.push([b.next()]);
  await settled();
  const removing = (seq: number, link: Uint8Array) =>
    changeOf({
      author: a.id,
      at: version,
      epoch: 2,
      members: [a.id],
      closings: [{ id: b.id, seq, link }],
    });
  peer.ask(asked(removing(0, new Uint8Array(32))));
  await settled();
  const conflict = membershipOf(peer);
  assert.equal(conflict.code, ErrorCode.MEMBERSHIP_CONFLICT);
  assert.equal(conflict.closing?.seq, 1n);
  assert.deepEqual(conflict.closing?.link, b.link);
  // Held: nothing new is taken, and what is there is answered.
  const held = b.make();
  other.push([held]);
  other.push([new ChainDevice(2).next()]);
  await settled();
  const { code, retryAfterMs } = other.last("error");
  assert.equal(code, ErrorCode.RATE_LIMITED);
  assert.equal(retryAfterMs, 60_000);
  assert.deepEqual(other.last("pushAck").cursors, [1n]);
  world.pass(59_999);
  other.push([held]);
  await settled();
  assert.equal(other.all("pushAck").length, 2);
  world.pass(1);
  other.push([held]);
  await settled();
  assert.deepEqual(other.last("pushAck").cursors, [2n]);
  peer.ask(asked(removing(2, held.link)));
  await settled();
  assert.equal(other.endedWith, ErrorCode.DEVICE_REVOKED);
});

test("8.8 a hold goes by a clock that only rises", async () => {
  const { world, a, b, peer, version } = await group();
  const other = await world.member(b);
  other.push([b.next()]);
  await settled();
  peer.ask(
    asked(
      changeOf({
        author: a.id,
        at: version,
        epoch: 2,
        members: [a.id],
        closings: [{ id: b.id, seq: 0, link: new Uint8Array(32) }],
      }),
    ),
  );
  await settled();
  world.nowMs -= 10 * 365 * 86_400_000;
  world.monotonicMs += 60_000;
  other.push([b.next()]);
  await settled();
  assert.deepEqual(other.last("pushAck").cursors, [2n]);
});

test("5.9 a recovery phrase changes membership and pushes nothing", async () => {
  const { world, a, b, peer, version } = await group();
  const paper = new ChainDevice(9);
  const members = [a.id, b.id, { id: paper.id, role: MemberRole.PAPER }];
  const adding = changeOf({ author: a.id, at: version, epoch: 1, members });
  peer.ask(asked(adding));
  await settled();
  const session = await world.member(paper);
  session.push([paper.make()]);
  const c = new ChainDevice(3);
  session.ask(
    asked(changeOf({ author: paper.id, at: adding.after, epoch: 1, members: [...members, c.id] })),
  );
  await settled();
  assert.equal(session.last("error").code, ErrorCode.READ_ONLY);
  assert.equal(session.last("membershipAck").membership?.count, 3n);
});

test("8.6 a member's role changes with the members a change names", async () => {
  const { world, a, b, peer, version } = await group();
  const members = [a.id, { id: b.id, role: MemberRole.PAPER }];
  peer.ask(asked(changeOf({ author: a.id, at: version, epoch: 1, members })));
  await settled();
  const other = await world.member(b);
  other.push([b.make()]);
  await settled();
  assert.equal(other.last("error").code, ErrorCode.READ_ONLY);
});

test("8.13 control blobs come in order from any count, with done at the end", async () => {
  const { a, b, peer, version } = await group();
  const rotation = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.ask(asked(rotation));
  await settled();
  for (const [after, count] of [
    [0, 2],
    [1, 1],
    [2, 0],
    [9, 0],
  ] as const) {
    peer.ask({ case: "pullControl", value: { after: BigInt(after) } });
    await settled();
    const page = peer.last("controlBlobs");
    assert.equal(page.after, BigInt(after));
    assert.equal(page.controlBlobs.length, count);
    assert.equal(page.done, true);
  }
});

test("8.9 a failed change is told to nobody and leaves the chain where it was", async () => {
  const { world, a, b, peer, version } = await group();
  const other = await world.member(b);
  other.said();
  world.store.failCommits();
  const rotation = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  peer.ask(asked(rotation));
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.STORE_UNAVAILABLE);
  assert.deepEqual(other.said(), []);
  peer.ask(asked(rotation));
  await settled();
  assert.deepEqual(other.said(), ["notify 0 v2"]);
});

const invite = bytes(16, 3);

test("8.11 who may found: open to all, by invite alone, closed to all", async () => {
  const policies: [Founding, boolean, number | undefined][] = [
    ["open", false, undefined],
    ["invite", false, ErrorCode.REGISTRATION_CLOSED],
    ["invite", true, undefined],
    ["closed", false, ErrorCode.REGISTRATION_CLOSED],
    ["closed", true, ErrorCode.REGISTRATION_CLOSED],
  ];
  for (const [founding, shown, code] of policies) {
    const world = new RelayWorldUnderTest({ options: { founding } });
    await world.invite(invite);
    const a = new ChainDevice(1);
    const lobby = await world.lobby(a.id);
    lobby.ask(asked(foundingOf(a.id, [a.id], shown ? { groupId, invite } : { groupId })));
    await settled();
    if (code === undefined) assert.equal(lobby.last("membershipAck").membership?.count, 1n);
    else assert.equal(lobby.last("error").code, code, `${founding} ${shown}`);
    assert.equal(lobby.endedWith, undefined, "the lobby session goes on");
  }
});

test("8.11 an invite founds one group: twice in one commit, and later, are INVITE_INVALID", async () => {
  const world = new RelayWorldUnderTest({ options: { founding: "invite" } });
  await world.invite(invite, { quotaBytes: 4_000 });
  const a = new ChainDevice(1);
  const b = new ChainDevice(2, bytes(32, 4));
  const first = await world.lobby(a.id);
  const second = await world.lobby(b.id);
  const { commits } = world.relay.counters;
  first.ask(asked(foundingOf(a.id, [a.id], { groupId, invite })));
  second.ask(asked(foundingOf(b.id, [b.id], { groupId: b.group, invite })));
  await settled();
  assert.equal(world.relay.counters.commits, commits + 1);
  assert.equal(first.all("membershipAck").length, 1);
  assert.equal(second.last("error").code, ErrorCode.INVITE_INVALID);
  second.ask(asked(foundingOf(b.id, [b.id], { groupId: b.group, invite })));
  await settled();
  assert.equal(second.all("error").length, 2);
  const member = await world.member(a);
  const welcome = member.last("welcome");
  assert.equal(welcome.limits?.groupBytesMax, 4_000n, "11.1 the quota is the invite's");
});

test("8.11 11.4 an invite expires by the relay's age and not by a clock", async () => {
  const world = new RelayWorldUnderTest({ options: { founding: "invite" } });
  await world.invite(invite, { expiresAgeS: 100 });
  const a = new ChainDevice(1);
  world.nowMs += 10 * 365 * 86_400_000;
  world.monotonicMs += 99_000;
  const lobby = await world.lobby(a.id);
  const other = new ChainDevice(2, bytes(32, 4));
  world.store.failCommits();
  lobby.ask(asked(foundingOf(a.id, [a.id], { groupId, invite })));
  await settled();
  assert.equal(lobby.last("error").code, ErrorCode.STORE_UNAVAILABLE, "in time; the disk was full");
  world.monotonicMs += 1_000;
  lobby.ask(asked(foundingOf(a.id, [a.id], { groupId: other.group, invite })));
  await settled();
  assert.equal(lobby.last("error").code, ErrorCode.INVITE_INVALID);
});

test("8.2 8.11 a founding again gets its first answer, another of that id INVITE_INVALID", async () => {
  const world = new RelayWorldUnderTest({ options: { founding: "invite" } });
  await world.invite(invite);
  const a = new ChainDevice(1);
  const made = foundingOf(a.id, [a.id], { groupId, invite });
  const lobby = await world.lobby(a.id);
  lobby.record({ id: 1, body: asked(made) }, { id: 2, body: asked(made) });
  await settled();
  lobby.ask(asked(made));
  await settled();
  const acks = lobby.all("membershipAck");
  assert.equal(acks.length, 3);
  assert.deepEqual(acks[1], acks[0]);
  assert.deepEqual(acks[2], acks[0]);
  const stranger = await world.lobby(bytes(32, 8));
  stranger.ask(asked(foundingOf(bytes(32, 8), [bytes(32, 8)], { groupId, invite })));
  await settled();
  assert.equal(stranger.last("error").code, ErrorCode.INVITE_INVALID);
  assert.equal((await world.store.totals()).groups, 1);
});

test("8.11 a founding that fails on disk leaves its invite unused", async () => {
  const world = new RelayWorldUnderTest({ options: { founding: "invite" } });
  await world.invite(invite);
  const a = new ChainDevice(1);
  const lobby = await world.lobby(a.id);
  world.store.failCommits();
  lobby.ask(asked(foundingOf(a.id, [a.id], { groupId, invite })));
  await settled();
  lobby.ask(asked(foundingOf(a.id, [a.id], { groupId, invite })));
  await settled();
  assert.equal(lobby.last("error").code, ErrorCode.STORE_UNAVAILABLE);
  assert.equal(lobby.all("membershipAck").length, 1);
});

const notAFounding: [string, Partial<Parameters<typeof changeOf>[0]>][] = [
  ["by another author", { author: bytes(32, 60) }],
  ["without its founder", { members: [bytes(32, 61)] }],
  ["of epoch 0", { epoch: 0 }],
  ["of epoch 2", { epoch: 2 }],
  ["with a closing", { closings: [{ id: bytes(32, 62), seq: 0, link: new Uint8Array(32) }] }],
  ["behind another head", { at: { count: 0, head: bytes(32, 63) } }],
  ["with a member twice", { members: [bytes(32, 50_001), bytes(32, 50_001)] }],
];
for (const [name, choices] of notAFounding) {
  test(`8.10 a founding ${name} is ENVELOPE_INVALID`, async () => {
    const world = new RelayWorldUnderTest();
    const a = new ChainDevice(1);
    const lobby = await world.lobby(a.id);
    lobby.ask(
      asked(
        changeOf({
          author: a.id,
          at: { count: 0, head: new Uint8Array(32) },
          epoch: 1,
          members: [a.id],
          found: { groupId },
          ...choices,
        }),
      ),
    );
    await settled();
    assert.equal(lobby.endedWith, ErrorCode.ENVELOPE_INVALID);
    assert.equal((await world.store.totals()).groups, 0);
  });
}

test("8.15 a lobby session tries five foundings, and one more every ten seconds", async () => {
  const world = new RelayWorldUnderTest({ options: { founding: "closed" } });
  const a = new ChainDevice(1);
  const lobby = await world.lobby(a.id);
  const codes = async () => {
    lobby.ask(asked(foundingOf(a.id)));
    await settled();
    return lobby.last("error").code;
  };
  for (let i = 0; i < 5; i++) assert.equal(await codes(), ErrorCode.REGISTRATION_CLOSED);
  assert.equal(await codes(), ErrorCode.RATE_LIMITED);
  assert.equal(lobby.last("error").retryAfterMs, 10_000);
  world.monotonicMs += 10_000;
  assert.equal(await codes(), ErrorCode.REGISTRATION_CLOSED);
});

test("5.9 8.14 a suspended group takes no blobs and no changes; what it has it answers", async () => {
  const { world, a, b, peer, version } = await group();
  const rotation = changeOf({ author: a.id, at: version, epoch: 2, members: [a.id, b.id] });
  const blob = a.next();
  peer.push([blob]);
  peer.ask(asked(rotation));
  await settled();
  const suspend = async (suspended: boolean) => {
    const live = await world.relay.group(groupId);
    assert.ok(live);
    const { entry } = live;
    await world.relay.operate((draft) => {
      draft.setGroup(entry, { ...draft.group(entry), suspended });
    });
  };
  await suspend(true);
  peer.said();
  const next = a.make({ epoch: 2 });
  const later = changeOf({ author: a.id, at: rotation.after, epoch: 3, members: [a.id, b.id] });
  peer.push([next]);
  peer.push([blob]);
  peer.ask(asked(later));
  peer.ask(asked(rotation));
  await settled();
  const readOnly = `error ${ErrorCode.READ_ONLY}`;
  assert.deepEqual(peer.said(), [
    `#3 ${readOnly}`,
    "#4 pushAck 1",
    `#5 ${readOnly}`,
    "#6 membershipAck",
  ]);
  await suspend(false);
  peer.push([next]);
  await settled();
  assert.deepEqual(peer.last("pushAck").cursors, [2n]);
});

test("4.5 a device is told whether a member removed it or the operator refuses it", async () => {
  const { world, a, b, peer, version } = await group();
  const removal = changeOf({
    author: a.id,
    at: version,
    epoch: 2,
    members: [a.id],
    closings: [{ id: b.id, seq: 0, link: b.link }],
  });
  peer.ask(asked(removal));
  await settled();
  const revocation = (session: Peer) => {
    const { code, detail } = session.last("error");
    assert.equal(code, ErrorCode.DEVICE_REVOKED);
    assert.ok(detail.case === "revocation");
    return detail.value.byOperator;
  };
  assert.equal(revocation(await world.member(b)), false);
  await world.relay.operate((draft) => {
    const entry = peer.session.device;
    assert.ok(entry);
    draft.setDevice(entry, { ...draft.device(entry), state: "refused" });
  });
  assert.equal(revocation(await world.member(a)), true);
});
