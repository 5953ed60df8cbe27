/** A device that a restored relay does not know comes back by a group invite. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { zeroLink } from "../../wire/ids.ts";
import {
  ChainDevice,
  changeOf,
  foundingOf,
  groupId,
  type MadeChange,
  type Version,
} from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

const invite = new Uint8Array(16).fill(7);
const other = new Uint8Array(16).fill(8);

/** A group of one on the relay, and what it lacks: two additions. */
async function restored(): Promise<{
  world: RelayWorldUnderTest;
  a: ChainDevice;
  b: ChainDevice;
  c: ChainDevice;
  at: Version;
  addsB: MadeChange;
  addsC: MadeChange;
}> {
  const world = new RelayWorldUnderTest({ options: { founding: "invite" } });
  const [a, b, c] = [1, 2, 3].map((seed) => new ChainDevice(seed)) as [
    ChainDevice,
    ChainDevice,
    ChainDevice,
  ];
  await world.invite(other);
  const lobby = await world.lobby(a.id);
  const founding = foundingOf(a.id, [a.id], { groupId, invite: other });
  lobby.ask({ case: "changeMembership", value: founding.change });
  await settled();
  lobby.cut();
  const addsB = changeOf({ author: a.id, at: founding.after, epoch: 1, members: [a.id, b.id] });
  const addsC = changeOf({
    author: b.id,
    at: addsB.after,
    epoch: 1,
    members: [a.id, b.id, c.id],
  });
  await world.invite(invite);
  return { world, a, b, c, at: founding.after, addsB, addsC };
}

async function returning(
  world: RelayWorldUnderTest,
  device: ChainDevice,
  shown: Uint8Array = invite,
): Promise<Peer> {
  const peer = world.attach(device.id, { groupId, invite: shown });
  await settled();
  return peer;
}

async function submit(peer: Peer, { change }: MadeChange): Promise<string[]> {
  peer.said();
  peer.ask({ case: "changeMembership", value: change });
  await settled();
  return peer.said().map((text) => text.replace(/^#\d+ /, ""));
}

function toldOf(peer: Peer): unknown {
  const { scope } = peer.last("welcome");
  assert(scope.case === "lobby");
  return scope.value.groups.map(({ groupId: id, role, membership }) => [
    id,
    role,
    membership?.count,
    membership?.head,
  ]);
}

describe("PROTOCOL 8.16: a group invite brings a device back that the group does not know", () => {
  test("it is told where the chain stands, extends it from there, and is a member afterwards", async () => {
    const { world, a, c, at, addsB, addsC } = await restored();
    const member = await world.member(a);
    const peer = await returning(world, c);
    assert.equal(peer.session.kind, "lobby");
    assert.deepEqual(toldOf(peer), [[groupId, 0, 1n, at.head]]);
    // Written by others, both of them.
    assert.deepEqual(await submit(peer, addsB), ["membershipAck"]);
    assert.deepEqual(await submit(peer, addsC), ["membershipAck"]);
    // The group's sessions hear of both.
    assert.deepEqual(
      member.said().filter((text) => text.startsWith("notify")),
      ["notify 0 v2", "notify 0 v3"],
    );
    // Again is answered as it was.
    assert.deepEqual(await submit(peer, addsB), ["membershipAck"]);
    assert.equal((await world.member(c)).session.kind, "member");
  });

  test("a device that is on the roster is greeted as ever, and its invite is not used", async () => {
    const { world, a, c } = await restored();
    const peer = await returning(world, a);
    assert.equal(peer.session.kind, "member");
    assert.equal(world.relay.lobbyCount, 0);
    assert.equal((await returning(world, c)).session.kind, "lobby");
  });

  test("without an invite that holds nobody learns whether the group exists", async () => {
    const { world, c } = await restored();
    const unknown = new Uint8Array(32).fill(3);
    for (const id of [groupId, unknown]) {
      const without = world.attach(c.id, { groupId: id });
      const wrong = world.attach(c.id, { groupId: id, invite: new Uint8Array(16) });
      // The group's own first invite is used up.
      const used = world.attach(c.id, { groupId: id, invite: other });
      await settled();
      assert.deepEqual(
        [without, wrong, used].map((peer) => [peer.endedWith, peer.said()]),
        [
          [ErrorCode.NOT_A_MEMBER, [`error ${ErrorCode.NOT_A_MEMBER}`]],
          [ErrorCode.INVITE_INVALID, [`error ${ErrorCode.INVITE_INVALID}`]],
          [ErrorCode.INVITE_INVALID, [`error ${ErrorCode.INVITE_INVALID}`]],
        ],
      );
    }
  });

  test("the first blob uses the invite up; its device goes on with it on another session, nobody else does", async () => {
    const { world, b, c, addsB, addsC } = await restored();
    const stranger = new ChainDevice(9);
    const early = await returning(world, stranger);
    const peer = await returning(world, c);
    assert.deepEqual(await submit(peer, addsB), ["membershipAck"]);
    // Greeted before, and too late now.
    const bogus = changeOf({ author: b.id, at: addsB.after, epoch: 1, members: [stranger.id] });
    assert.deepEqual(await submit(early, bogus), [`error ${ErrorCode.INVITE_INVALID}`]);
    assert.equal((await returning(world, stranger)).endedWith, ErrorCode.INVITE_INVALID);
    const lobby = await world.lobby(stranger.id);
    const founding = foundingOf(stranger.id, [stranger.id], {
      groupId: new Uint8Array(32).fill(4),
      invite,
    });
    assert.deepEqual(await submit(lobby, founding), [`error ${ErrorCode.INVITE_INVALID}`]);
    peer.cut();
    const again = await returning(world, c);
    assert.equal(again.session.kind, "lobby");
    assert.deepEqual(await submit(again, addsC), ["membershipAck"]);
    assert.equal((await returning(world, stranger)).endedWith, ErrorCode.INVITE_INVALID);
  });

  test("a commit that fails uses nothing up", async () => {
    const { world, b, c, addsB } = await restored();
    const peer = await returning(world, c);
    world.store.failCommits();
    assert.deepEqual(await submit(peer, addsB), [`error ${ErrorCode.STORE_UNAVAILABLE}`]);
    // Nor does its device hold on to it: whoever comes first now has it.
    assert.equal((await returning(world, b)).session.kind, "lobby");
    const lobby = await world.lobby(b.id);
    const elsewhere = foundingOf(b.id, [b.id], { groupId: new Uint8Array(32).fill(4), invite });
    assert.deepEqual(await submit(lobby, elsewhere), ["membershipAck"]);
    assert.deepEqual(await submit(peer, addsB), [`error ${ErrorCode.INVITE_INVALID}`]);
  });

  test("what does not extend the chain is refused, and so is another group", async () => {
    const { world, c, addsC, at, a } = await restored();
    const peer = await returning(world, c);
    assert.deepEqual(await submit(peer, addsC), [`error ${ErrorCode.MEMBERSHIP_CONFLICT}`]);
    const byStranger = changeOf({ author: c.id, at, epoch: 1, members: [a.id, c.id] });
    assert.deepEqual(await submit(peer, byStranger), [`error ${ErrorCode.NOT_A_MEMBER}`]);
    const elsewhere = foundingOf(c.id, [c.id], { groupId: new Uint8Array(32).fill(4) });
    await submit(peer, elsewhere);
    assert.equal(peer.endedWith, ErrorCode.ENVELOPE_UNEXPECTED);
  });

  test("a device that was removed, or is refused by the operator, does not come back by it", async () => {
    const { world, a, b, at, addsB } = await restored();
    const member = await world.member(a);
    await submit(member, addsB);
    const removes = changeOf({
      author: a.id,
      at: addsB.after,
      epoch: 2,
      members: [a.id],
      closings: [{ id: b.id, seq: 0, link: zeroLink }],
    });
    assert.ok(at.count === 1);
    await submit(member, removes);
    assert.equal((await returning(world, b)).endedWith, ErrorCode.DEVICE_REVOKED);
  });

  test("the group is gone: it comes back from the founding blob on, whoever brings it, with the invite's quota", async () => {
    const { a, c, addsB, addsC } = await restored();
    const world = new RelayWorldUnderTest({ options: { founding: "invite" } });
    await world.invite(invite, { quotaBytes: 123_456 });
    const peer = await returning(world, c);
    assert.deepEqual(toldOf(peer), [[groupId, 0, 0n, zeroLink]]);
    assert.deepEqual(await submit(peer, foundingOf(a.id, [a.id], { groupId })), ["membershipAck"]);
    assert.deepEqual(await submit(peer, addsB), ["membershipAck"]);
    assert.deepEqual(await submit(peer, addsC), ["membershipAck"]);
    const member = await world.member(c);
    assert.equal(member.session.kind, "member");
    assert.equal(member.last("welcome").limits?.groupBytesMax, 123_456n);
    assert.equal((await world.member(a)).session.kind, "member");
  });

  test("a relay that is closed to foundings brings no group back, and a group that it has goes on", async () => {
    const { world, c, addsB } = await restored();
    const store = world.store.copy();
    const closed = new RelayWorldUnderTest({ options: { founding: "closed" }, store });
    assert.deepEqual(await submit(await returning(closed, c), addsB), ["membershipAck"]);
    const empty = new RelayWorldUnderTest({
      options: { founding: "closed" },
      store: openMemoryStore(),
    });
    await empty.invite(invite);
    const peer = await returning(empty, c);
    assert.deepEqual(await submit(peer, foundingOf(c.id, [c.id], { groupId })), [
      `error ${ErrorCode.REGISTRATION_CLOSED}`,
    ]);
  });

  test("PROTOCOL 4.4: an invite of another length ends the session", async () => {
    const { readHello } = await import("../../server/requests.ts");
    const hello = (groupInvite: Uint8Array): Uint8Array =>
      toBinary(
        HelloSchema,
        create(HelloSchema, { versions: { min: 1, max: 1 }, groupId, groupInvite }),
      );
    assert.deepEqual(readHello(hello(invite)).invite, invite);
    assert.equal(readHello(hello(new Uint8Array(0))).invite, undefined);
    assert.throws(() => readHello(hello(new Uint8Array(15))), { code: ErrorCode.ENVELOPE_INVALID });
  });
});
