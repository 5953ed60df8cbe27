/** What an operator sees of groups and devices, and may do to them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { DeviceService, DeviceState } from "../../gen/syncrelay/admin/v1/device_pb.ts";
import { GroupService } from "../../gen/syncrelay/admin/v1/group_pb.ts";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { runRelay } from "../cli/world.ts";
import { ChainDevice, changeOf, groupId } from "../support/devices.ts";
import { type Peer, settled } from "../support/relay-world.ts";
import { SideWorld } from "./support.ts";

function isCode(code: Code): (error: unknown) => boolean {
  return (error) => error instanceof ConnectError && error.code === code;
}

const id = idText(groupId);

async function twoDevices(t: Parameters<typeof SideWorld.open>[0]) {
  const side = await SideWorld.open(t);
  const ada = new ChainDevice(1);
  const bob = new ChainDevice(2);
  const version = await side.world.found(ada, bob);
  return { side, ada, bob, version, groups: side.client(GroupService) };
}

test("groups are listed with what they take, who is there and when somebody was", async (t) => {
  const { side, ada, groups } = await twoDevices(t);
  await side.world.found(new ChainDevice(5, new Uint8Array(32).fill(9)));
  const peer = await side.world.member(ada);
  peer.push(ada.run(3));
  await settled();
  const { groups: all, nextPageToken } = await groups.list({});
  assert.equal(nextPageToken, "");
  assert.deepEqual(
    all.map((group) => [
      group.devices,
      group.devicesOnline,
      group.head,
      group.blobs,
      group.quotaOwn,
    ]),
    [
      [2, 1, 3n, 3n, false],
      [1, 0, 0n, 0n, false],
    ],
  );
  assert.equal(all[0]?.groupId, id);
  assert.equal(all[0]?.lastSeenMs, BigInt(side.world.nowMs));
  assert.equal(all[0]?.bytes, BigInt(side.world.relay.storeBytes));
  const page = await groups.list({ pageSize: 1 });
  const rest = await groups.list({ pageSize: 1, pageToken: page.nextPageToken });
  assert.deepEqual([...page.groups, ...rest.groups], all);
  assert.equal(rest.nextPageToken, "");
  await assert.rejects(groups.get({ groupId: idText(new Uint8Array(32)) }), isCode(Code.NotFound));
  await assert.rejects(groups.get({ groupId: "x" }), isCode(Code.InvalidArgument));
});

test("a suspended group takes no blobs and no changes, reads on, and takes again once resumed", async (t) => {
  const { side, ada, bob, version, groups } = await twoDevices(t);
  const peer = await side.world.member(ada);
  peer.push(ada.run(1));
  await settled();
  assert.equal((await groups.suspend({ groupId: id })).group?.suspended, true);
  assert.equal((await groups.suspend({ groupId: id })).group?.suspended, true);
  const refused = ada.make();
  peer.push([refused]);
  const { change } = changeOf({
    author: ada.id,
    at: version,
    epoch: 1,
    members: [ada.id, bob.id, new ChainDevice(3).id],
  });
  peer.ask({ case: "changeMembership", value: change });
  peer.ask({ case: "pull", value: { after: 0n, windowBytes: 1 << 20 } });
  await settled();
  assert.deepEqual(
    peer.all("error").map((error) => error.code),
    [ErrorCode.READ_ONLY, ErrorCode.READ_ONLY],
  );
  assert.equal(peer.all("blobs").length, 1);
  // A session that begins now may read as well.
  assert.equal((await side.world.member(bob)).endedWith, undefined);

  const resumed = await groups.suspend({ groupId: id, lift: true });
  assert.equal(resumed.group?.suspended, false);
  // Whoever was told READ_ONLY learns of it by coming back.
  assert.equal(peer.endedWith, ErrorCode.DRAINING);
  const back = await side.world.member(ada);
  back.push([refused]);
  await settled();
  assert.equal(back.all("pushAck").length, 1);
});

test("what was stored before a suspension is still answered with its cursor", async (t) => {
  const { side, ada, groups } = await twoDevices(t);
  const peer = await side.world.member(ada);
  const stored = ada.run(1);
  peer.push(stored);
  await settled();
  await groups.suspend({ groupId: id });
  peer.push(stored);
  await settled();
  assert.equal(peer.all("pushAck").length, 2);
});

test("a quota of a group's own is in force at once, and can be taken away", async (t) => {
  const { side, ada, groups } = await twoDevices(t);
  const peer = await side.world.member(ada);
  const set = await groups.setQuota({ groupId: id, quotaBytes: 65_536n });
  assert.deepEqual([set.group?.quotaBytes, set.group?.quotaOwn], [65_536n, true]);
  assert.equal(peer.endedWith, ErrorCode.DRAINING);
  const back = await side.world.member(ada);
  assert.equal(back.last("welcome").limits?.groupBytesMax, 65_536n);
  back.push([ada.make({ bodyBytes: 70_000 })]);
  await settled();
  assert.equal(back.last("error").code, ErrorCode.QUOTA_EXCEEDED);
  const reset = await groups.setQuota({ groupId: id, quotaBytes: 0n });
  assert.equal(reset.group?.quotaOwn, false);
  await assert.rejects(
    groups.setQuota({ groupId: id, quotaBytes: 5n }),
    isCode(Code.InvalidArgument),
  );
});

test("5.11 a push rate of a group's own holds at once for who is connected, is kept, and can be taken away", async (t) => {
  const { side, ada, bob, groups } = await twoDevices(t);
  const peer = await side.world.member(ada);
  const pushes = async (from: Peer, device: ChainDevice, count: number): Promise<number> => {
    const before = [from.all("pushAck").length, from.all("error").length] as const;
    for (let i = 0; i < count; i++) from.push([device.make()]);
    await settled();
    const taken = from.all("pushAck").length - before[0];
    const refused = from.all("error").slice(before[1]);
    assert.ok(refused.every((error) => error.code === ErrorCode.RATE_LIMITED));
    assert.equal(taken + refused.length, count);
    return taken;
  };
  const first = (await groups.get({ groupId: id })).group;
  assert.deepEqual([first?.pushesPerS, first?.pushesBurst, first?.pushRateOwn], [20, 200, false]);

  const set = await groups.setPushRate({ groupId: id, pushesPerS: 1, pushesBurst: 3 });
  assert.deepEqual([set.group?.pushesPerS, set.group?.pushesBurst], [1, 3]);
  assert.equal(set.group?.pushRateOwn, true);
  assert.equal(peer.endedWith, undefined, "nobody has to come back for it");
  assert.equal(await pushes(peer, ada, 5), 3);
  side.world.pass(2_000);
  assert.equal(await pushes(peer, ada, 5), 2);
  // Each device has a bucket of its own; one that comes later gets the same.
  assert.equal(await pushes(await side.world.member(bob), bob, 5), 3);
  // What an operator sets for all holds for the others.
  side.world.relay.reconfigure({ ...side.world.relay.options });
  side.world.pass(1_000);
  assert.equal(await pushes(peer, ada, 5), 1);

  const kept = await side.world.store.loadGroup(groupId);
  assert.deepEqual([kept?.group.pushesPerS, kept?.group.pushesBurst], [1, 3]);
  const wide = await groups.setPushRate({ groupId: id, pushesPerS: 7 });
  assert.equal(wide.group?.pushesBurst, 70);
  const reset = await groups.setPushRate({ groupId: id });
  assert.deepEqual([reset.group?.pushesPerS, reset.group?.pushRateOwn], [20, false]);
  side.world.pass(1_000);
  assert.equal(await pushes(peer, ada, 30), 20);
  for (const wrong of [
    { pushesPerS: 1_000_001 },
    { pushesPerS: 1, pushesBurst: 1_000_001 },
    { pushesBurst: 5 },
  ]) {
    await assert.rejects(
      groups.setPushRate({ groupId: id, ...wrong }),
      isCode(Code.InvalidArgument),
    );
  }
});

test("deleting takes two calls; then sessions end, space counts back, and the id can be founded again", async (t) => {
  const { side, ada, bob, groups } = await twoDevices(t);
  const peer = await side.world.member(ada);
  const other = await side.world.member(bob);
  peer.push(ada.run(4));
  await settled();
  assert(side.world.relay.storeBytes > 0);

  const asked = await groups.delete({ groupId: id });
  assert.deepEqual([asked.deleted, asked.group?.blobs], [false, 4n]);
  assert.equal(peer.endedWith, undefined);
  for (const confirmation of ["wrong", `${asked.confirmation.slice(0, -2)}AA`]) {
    await assert.rejects(
      groups.delete({ groupId: id, confirmation }),
      isCode(Code.FailedPrecondition),
    );
  }
  side.world.pass(301_000);
  await assert.rejects(
    groups.delete({ groupId: id, confirmation: asked.confirmation }),
    isCode(Code.FailedPrecondition),
  );
  const { confirmation } = await groups.delete({ groupId: id });
  // A push that waits for the same commit finds the group gone.
  const deleting = groups.delete({ groupId: id, confirmation });
  const deleted = await deleting;
  assert.equal(deleted.deleted, true);
  assert.deepEqual(
    [peer.endedWith, other.endedWith],
    [ErrorCode.NOT_A_MEMBER, ErrorCode.NOT_A_MEMBER],
  );
  assert.equal(side.world.relay.storeBytes, 0);
  assert.equal((await side.world.store.totals()).blobs, 0);
  await assert.rejects(groups.get({ groupId: id }), isCode(Code.NotFound));
  assert.equal((await side.world.member(ada)).endedWith, ErrorCode.NOT_A_MEMBER);
  const again = new ChainDevice(1);
  await side.world.found(again);
  assert.equal((await groups.get({ groupId: id })).group?.head, 0n);
});

test("a push and a change that share the commit of a deletion leave nothing behind", async (t) => {
  const { side, ada, bob, version } = await twoDevices(t);
  const peer = await side.world.member(ada);
  const live = side.world.relay.liveGroup(id);
  assert(live !== undefined);
  const deleted = side.world.relay.operate(
    (draft) => draft.deleteGroup(live.entry),
    () => side.world.relay.dropGroup(live),
  );
  peer.push(ada.run(1));
  const { change } = changeOf({ author: ada.id, at: version, epoch: 1, members: [ada.id, bob.id] });
  peer.ask({ case: "changeMembership", value: change });
  await deleted;
  await settled();
  assert.deepEqual([peer.all("pushAck").length, peer.all("membershipAck").length], [0, 0]);
  assert.equal(peer.endedWith, ErrorCode.NOT_A_MEMBER);
  const { groups, blobs, bytes } = await side.world.store.totals();
  assert.deepEqual({ groups, blobs, bytes }, { groups: 0, blobs: 0, bytes: 0 });
  assert.equal(side.world.relay.storeBytes, 0);
  side.world.pass(60_000);
  await settled();
  assert.deepEqual(side.world.defects, []);
});

test("a group stays in memory while an operator's call is about it: two copies of it would part", async (t) => {
  const { side, ada, groups } = await twoDevices(t);
  const { confirmation } = await groups.delete({ groupId: id });
  const { store } = side.world;
  const totals = store.totals.bind(store);
  let reached = (): void => undefined;
  let goOn = (): void => undefined;
  const reading = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  store.totals = async () => {
    reached();
    await gate;
    return await totals();
  };
  const deleting = groups.delete({ groupId: id, confirmation });
  await reading;
  // Long enough that a group nobody is connected to would be forgotten.
  side.world.pass(60_000);
  await settled();
  const peer = await side.world.member(ada);
  peer.push(ada.run(2));
  await settled();
  assert.equal(peer.all("pushAck").length, 1);
  goOn();
  await deleting;
  assert.equal(peer.endedWith, ErrorCode.NOT_A_MEMBER);
  assert.equal(side.world.relay.storeBytes, 0);
  const { blobs, bytes } = await totals();
  assert.deepEqual({ blobs, bytes }, { blobs: 0, bytes: 0 });
});

test("a confirmation is of one group only", async (t) => {
  const { side, groups } = await twoDevices(t);
  const second = new ChainDevice(5, new Uint8Array(32).fill(9));
  await side.world.found(second);
  const { confirmation } = await groups.delete({ groupId: id });
  await assert.rejects(
    groups.delete({ groupId: idText(second.group), confirmation }),
    isCode(Code.FailedPrecondition),
  );
});

test("a refused device's session ends at once as the operator's doing; it stays in the roster and can be accepted again", async (t) => {
  const { side, ada, bob, version } = await twoDevices(t);
  const devices = side.client(DeviceService);
  const peer = await side.world.member(ada);
  const other = await side.world.member(bob);
  const refused = await devices.refuse({ groupId: id, deviceId: idText(ada.id) });
  assert.deepEqual([refused.device?.state, refused.device?.online], [DeviceState.REFUSED, false]);
  assert.equal(peer.endedWith, ErrorCode.DEVICE_REVOKED);
  const told = peer.last("error");
  assert.equal(told.detail.case === "revocation" && told.detail.value.byOperator, true);
  assert.equal(other.endedWith, undefined);
  const back = await side.world.member(ada);
  assert.equal(back.endedWith, ErrorCode.DEVICE_REVOKED);

  const accepted = await devices.refuse({ groupId: id, deviceId: idText(ada.id), lift: true });
  assert.equal(accepted.device?.state, DeviceState.ACTIVE);
  assert.equal((await side.world.member(ada)).endedWith, undefined);

  // A member removes it: that is the group's, and an operator does not undo it.
  await devices.refuse({ groupId: id, deviceId: idText(ada.id) });
  const { change } = changeOf({
    author: bob.id,
    at: version,
    epoch: 2,
    members: [bob.id],
    closings: [{ id: ada.id, seq: 0, link: new Uint8Array(32) }],
  });
  other.ask({ case: "changeMembership", value: change });
  await settled();
  assert.equal(other.last("membershipAck").membership?.count, 2n);
  const { devices: all } = await devices.list({ groupId: id });
  assert.deepEqual(
    all.map((device) => device.state),
    [DeviceState.REMOVED, DeviceState.ACTIVE],
  );
  await assert.rejects(
    devices.refuse({ groupId: id, deviceId: idText(ada.id), lift: true }),
    isCode(Code.FailedPrecondition),
  );
  const removed = await side.world.member(ada);
  const last = removed.last("error");
  assert.equal(last.detail.case === "revocation" && last.detail.value.byOperator, false);
});

test("PROTOCOL 7.8: the others are told that a device is refused, connected or not, and that it no longer is", async (t) => {
  const { side, ada, bob } = await twoDevices(t);
  const devices = side.client(DeviceService);
  const ofAda = (peer: Peer): unknown[] =>
    peer.all("presence").map(({ state, refused }) => [state, refused]);
  const other = await side.world.member(bob);
  await side.world.member(ada);
  await devices.refuse({ groupId: id, deviceId: idText(ada.id) });
  await devices.refuse({ groupId: id, deviceId: idText(ada.id), lift: true });
  assert.deepEqual(ofAda(other), [
    [PresenceState.ONLINE, false],
    [PresenceState.OFFLINE, true],
    [PresenceState.OFFLINE, false],
  ]);
  // Not connected, and told to a session that begins.
  await devices.refuse({ groupId: id, deviceId: idText(ada.id) });
  assert.deepEqual(ofAda(other).at(-1), [PresenceState.OFFLINE, true]);
  const late = await side.world.member(bob);
  const { scope } = late.last("welcome");
  assert.deepEqual(
    scope.case === "group" &&
      scope.value.presence.map(({ deviceId, state, refused }) => [deviceId, state, refused]),
    [[ada.id, PresenceState.OFFLINE, true]],
  );
});

test("devices are listed as the relay knows them, and a session can be ended", async (t) => {
  const { side, ada, bob } = await twoDevices(t);
  const devices = side.client(DeviceService);
  const peer = await side.world.member(ada);
  peer.push(ada.run(2));
  await settled();
  const { devices: all } = await devices.list({ groupId: id });
  assert.deepEqual(
    all.map((device) => [device.deviceId, device.online, device.lastSeq, device.behind]),
    [
      [idText(ada.id), true, 2n, 2n],
      [idText(bob.id), false, 0n, 2n],
    ],
  );
  assert.match(all[0]?.fingerprint ?? "", /^([0-9a-f]{4} ){4}[0-9a-f]{4}$/);
  const request = { groupId: id, deviceId: idText(ada.id) };
  assert.equal((await devices.disconnect(request)).sessionsEnded, 1);
  assert.equal(peer.endedWith, ErrorCode.DRAINING);
  assert.equal((await devices.disconnect(request)).sessionsEnded, 0);
  const stranger = idText(new Uint8Array(32).fill(3));
  await assert.rejects(
    devices.disconnect({ groupId: id, deviceId: stranger }),
    isCode(Code.NotFound),
  );
});

test("sync-relay admin does all of it", async (t) => {
  const { side, ada } = await twoDevices(t);
  const peer = await side.world.member(ada);
  peer.push(ada.run(2));
  await settled();
  const run = async (...words: string[]) =>
    await runRelay(["admin", ...words, "--data", side.folder]);
  const done = async (...words: string[]): Promise<string> => {
    const ran = await run(...words);
    assert.equal(ran.code, 0, ran.stderr);
    return ran.stdout;
  };
  assert.match(await done("groups", "list"), new RegExp(`^GROUP .*\\n${id} .* 2 +2 +1 +2 `));
  assert.match(await done("groups", "quota", id, "3MiB"), /3\.0 MiB {2}/);
  assert.match(await done("groups", "quota", id, "default"), /\(default\)/);
  assert.match(await done("groups", "rate", id, "50"), / 50\/500 {2}/);
  assert.match(await done("groups", "rate", id, "5/9"), / 5\/9 {2}/);
  assert.match(await done("groups", "rate", id, "default"), / 20\/200 \(default\)/);
  assert.equal((await run("groups", "rate", id, "5/")).code, 2);
  assert.match(await done("groups", "suspend", id), /suspended/);
  assert.doesNotMatch(await done("groups", "resume", id), /suspended/);
  assert.match(await done("devices", "list", id), /^DEVICE +FINGERPRINT/);
  assert.match(await done("devices", "refuse", id, idText(ada.id)), /refused/);
  assert.match(await done("devices", "accept", id, idText(ada.id)), /active/);
  assert.match(await done("devices", "disconnect", id, idText(ada.id)), /was not connected/);
  assert.match(await done("health"), /^status +ok/);
  assert.match(await done("metrics"), /commits_total outcome=stored/);
  const unsure = await run("groups", "delete", id);
  assert.equal(unsure.code, 3);
  assert.match(unsure.stderr, /would delete 2 blobs[\s\S]*--yes/);
  assert.match(await done("groups", "delete", id, "--yes"), /^deleted: 2 blobs/);
  const gone = await run("groups", "show", id);
  assert.equal(gone.code, 3);
  assert.match(gone.stderr, /no such group/);
});
