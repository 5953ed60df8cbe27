import assert from "node:assert/strict";
import { test } from "node:test";
import { SnapshotUrgency } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { bytes, ChainDevice, changeOf } from "../support/devices.ts";
import { RelayWorldUnderTest } from "../support/relay-world.ts";
import {
  asked,
  confirm,
  day,
  group,
  loaded,
  manifestOf,
  pass,
  putObject,
  rest,
  snapshotBy,
} from "./life-support.ts";

/** Two devices, of which the first has pushed so many blobs, in one push. */
async function written(blobs: number, options: Parameters<typeof group>[1] = {}) {
  const made = await group(2, options);
  const [a, b] = made.devices;
  const [first, second] = made.peers;
  assert(a && b && first && second);
  const pushed = Array.from({ length: blobs }, () => a.next());
  first.push(pushed);
  await rest();
  for (const peer of [first, second]) peer.port.take();
  return { ...made, a, b, first, second, pushed };
}

test("11.16 a manifest that says what it cannot ends the session", async () => {
  const good = (author: Uint8Array) => ({
    author,
    logId: bytes(16, 1),
    replacesThrough: 1,
    link: bytes(32, 1),
    parts: [bytes(32, 2)],
  });
  for (const changes of [
    { author: bytes(32, 9) },
    { logId: bytes(15, 1) },
    { link: bytes(31, 1) },
    { parts: [] },
    { parts: [bytes(31, 1)] },
    { parts: [bytes(32, 2), bytes(32, 2)] },
  ]) {
    const { first, a } = await written(1);
    const manifest = manifestOf({ ...good(a.id), ...changes });
    first.ask({ case: "putSnapshot", value: { manifest, signature: bytes(64, 1) } });
    await rest();
    assert.equal(first.endedWith, ErrorCode.ENVELOPE_INVALID, Object.keys(changes).join());
  }
});

test("11.17 another log id, another link, and what replaces nothing are conflicts; what is not there yet is out of order", async () => {
  const { world, first, second, a, pushed } = await written(5);
  const { logId } = (await loaded(world)).group;
  const part = await putObject(first, bytes(100, 1), true);
  const link = pushed[3]?.link ?? bytes(32, 0);
  const good = { author: a.id, logId, replacesThrough: 4, link, parts: [part] };
  const put = async (changes: object): Promise<string> => {
    const manifest = manifestOf({ ...good, ...changes });
    return await asked(first, {
      case: "putSnapshot",
      value: { manifest, signature: bytes(64, 1) },
    });
  };
  assert.match(await put({}), /error 606$/, "not acknowledged");
  first.ask({ case: "ack", value: { applied: 5n } });
  assert.match(await put({ logId: bytes(16, 9) }), /error 603$/);
  assert.match(await put({ link: bytes(32, 9) }), /error 603$/);
  assert.match(await put({ replacesThrough: 0 }), /error 603$/);
  assert.match(await put({ replacesThrough: 6 }), /error 606$/);
  assert.match(await put({ parts: [part, bytes(32, 9)] }), /error 606$/);
  assert.match(await put({}), /done$/);
  assert.match(await put({}), /done$/, "and the same again");
  assert.equal((await loaded(world)).snapshots.length, 1);
  const { snapshotId } = (await loaded(world)).snapshots[0] ?? { snapshotId: bytes(32, 0) };
  assert.match(await confirm(second, snapshotId), /done$/);
  assert.match(await put({ replacesThrough: 3, link: pushed[2]?.link }), /error 603$/);
});

test("11.5 11.21 11.24 a confirmed snapshot is effective, and told with who confirmed it", async () => {
  const { world, first, second, a, b } = await written(3);
  const { id, manifest } = await snapshotBy(world, first, a, { cursor: 3, link: a.link });
  assert.equal(second.last("notify").unconfirmed, true);
  assert.equal(
    first.all("notify").at(-1)?.unconfirmed ?? false,
    false,
    "its own does not wait for it",
  );
  assert.match(
    await asked(first, { case: "getSnapshot", value: { unconfirmed: true } }),
    /snapshot/,
  );
  assert.equal(first.last("snapshot").manifest.byteLength, 0);
  await asked(second, { case: "getSnapshot", value: { unconfirmed: true } });
  assert.deepEqual(second.last("snapshot").manifest, manifest);
  assert.equal(second.last("snapshot").effective, false);
  assert.equal(second.last("snapshot").confirmedBy.byteLength, 0);

  assert.match(await confirm(second, id), /done$/);
  assert.match(await confirm(second, id), /done$/, "and again");
  await asked(first, { case: "getSnapshot", value: {} });
  const told = first.last("snapshot");
  assert.deepEqual(
    [told.manifest, told.effective, told.confirmedBy, told.confirmation],
    [manifest, true, b.id, bytes(64, 2)],
  );
  for (const peer of [first, second]) assert.equal(peer.last("notify").replacedThrough, 3n);
  const again = await world.member(b);
  const welcome = again.last("welcome");
  assert(welcome.scope.case === "group");
  assert.deepEqual(welcome.capabilities, [1, 2]);
  assert.equal(welcome.scope.value.replacedThrough, 3n);
});

test("11.3 a log that goes on under another id keeps its effective snapshot, and drops those that wait", async () => {
  const { world, first, second, a, b, pushed } = await written(3);
  const link = pushed[1]?.link ?? bytes(32, 0);
  const one = await snapshotBy(world, first, a, { cursor: 2, link });
  assert.match(await confirm(second, one.id), /done$/);
  const { group: before } = await loaded(world);
  await snapshotBy(world, first, a, { cursor: 3, link: a.link, content: bytes(500, 1) });
  assert.equal((await loaded(world)).snapshots.length, 2);
  await world.member(b, { logId: before.logId, cursor: 9, link: bytes(32, 5) });
  await rest();
  const after = await loaded(world);
  assert.notDeepEqual(after.group.logId, before.logId);
  assert.deepEqual(
    after.snapshots.map(({ snapshotId }) => snapshotId),
    [one.id],
  );
  assert.equal(after.group.snapshotBytes, before.snapshotBytes, "its part went with it");
  assert.equal(after.group.replacedThrough, 2);
});

test("11.21 nobody confirms a snapshot of his own, or one that is not there", async () => {
  const { world, first, second, a } = await written(3);
  const { id } = await snapshotBy(world, first, a, { cursor: 3, link: a.link });
  assert.match(await confirm(second, bytes(32, 9)), /error 603$/);
  await confirm(first, id);
  assert.equal(first.endedWith, ErrorCode.ENVELOPE_INVALID);
});

test("11.22 a snapshot that nobody confirms is effective after seven days, by the relay's age", async () => {
  const { world, first, a } = await written(3);
  await snapshotBy(world, first, a, { cursor: 3, link: a.link });
  await pass(world, 7 * day - 2_000);
  assert.equal((await loaded(world)).group.replacedThrough, 0);
  await pass(world, 3_000);
  await pass(world);
  assert.equal((await loaded(world)).group.replacedThrough, 3);
  await asked(first, { case: "getSnapshot", value: {} });
  assert.equal(first.last("snapshot").effective, true);
  assert.equal(first.last("snapshot").confirmedBy.byteLength, 0);
});

test("11.22 so is one in a group that nobody is connected to", async () => {
  const { world, first, second, a } = await written(3);
  await snapshotBy(world, first, a, { cursor: 3, link: a.link });
  for (const peer of [first, second]) peer.cut();
  await pass(world, 11_000);
  await pass(world, 40_000);
  assert.equal(world.relay.liveGroups, 0);
  await pass(world, 7 * day);
  await pass(world, 700_000);
  assert.equal((await loaded(world)).group.replacedThrough, 3);
});

test("11.19 11.20 an author's newer snapshot takes the place of one that is not effective, with its parts", async () => {
  const { world, first, a, pushed } = await written(3);
  const link = pushed[1]?.link ?? bytes(32, 0);
  const one = await snapshotBy(world, first, a, { cursor: 2, link, content: bytes(400, 1) });
  const before = (await loaded(world)).group.snapshotBytes;
  assert.equal(before, 400 + 256 + one.manifest.byteLength + 256);
  const two = await snapshotBy(world, first, a, {
    cursor: 3,
    link: a.link,
    content: bytes(500, 2),
  });
  const { snapshots, group: row } = await loaded(world);
  assert.deepEqual(
    snapshots.map(({ snapshotId }) => snapshotId),
    [two.id],
  );
  assert.equal(row.snapshotBytes, 500 + 256 + two.manifest.byteLength + 256);
  await asked(first, { case: "statObject", value: { objectId: one.part } });
  assert.equal(first.last("objectState").sizeBytes, 0n);
  await asked(first, { case: "statObject", value: { objectId: two.part } });
  assert.equal(first.last("objectState").complete, true);
});

test("11.19 11.20 a part that the older and the newer snapshot name alike stays", async () => {
  const { world, first, a, pushed } = await written(3);
  const link = pushed[1]?.link ?? bytes(32, 0);
  const content = bytes(400, 1);
  const one = await snapshotBy(world, first, a, { cursor: 2, link, content });
  await asked(first, { case: "ack", value: { applied: 3n } });
  // The author saw that the part is there, and stores it no second time.
  const manifest = manifestOf({
    author: a.id,
    logId: (await loaded(world)).group.logId,
    replacesThrough: 3,
    link: a.link,
    parts: [one.part],
  });
  const two = { manifest, signature: bytes(64, 1) };
  assert.match(await asked(first, { case: "putSnapshot", value: two }), /done$/);
  assert.equal((await loaded(world)).group.snapshotBytes, 400 + 256 + manifest.byteLength + 256);
  await asked(first, { case: "statObject", value: { objectId: one.part } });
  assert.equal(first.last("objectState").complete, true);
});

test("11.23 an effective snapshot supersedes the one before and those that replace no more", async () => {
  const { world, first, second, a, b, pushed } = await written(6);
  const link = (cursor: number): Uint8Array => pushed[cursor - 1]?.link ?? bytes(32, 0);
  const old = await snapshotBy(world, first, a, { cursor: 2, link: link(2) });
  await confirm(second, old.id);
  const rival = await snapshotBy(world, second, b, { cursor: 3, link: link(3) });
  const next = await snapshotBy(world, first, a, { cursor: 5, link: link(5) });
  await confirm(second, next.id);
  const { snapshots, group: row } = await loaded(world);
  assert.deepEqual(
    snapshots.map(({ snapshotId, effective }) => [snapshotId, effective]),
    [[next.id, true]],
  );
  assert.equal(row.snapshotBytes, 3_000 + 256 + next.manifest.byteLength + 256);
  for (const gone of [old.part, rival.part]) {
    await asked(first, { case: "statObject", value: { objectId: gone } });
    assert.equal(first.last("objectState").sizeBytes, 0n);
  }
});

test("11.24 no snapshot that waits hides another", async () => {
  const { world, peers, devices } = await group(3);
  const [a, b] = devices;
  const [first, second, third] = peers;
  assert(a && b && first && second && third);
  first.push([a.next()]);
  await rest();
  const one = await snapshotBy(world, first, a, { cursor: 1, link: a.link });
  const two = await snapshotBy(world, second, b, { cursor: 1, link: a.link });
  await asked(third, { case: "getSnapshot", value: { unconfirmed: true } });
  assert.deepEqual(third.last("snapshot").manifest, two.manifest);
  await asked(third, { case: "getSnapshot", value: { unconfirmed: true, before: two.id } });
  assert.deepEqual(third.last("snapshot").manifest, one.manifest);
  await asked(third, { case: "getSnapshot", value: { unconfirmed: true, before: one.id } });
  assert.equal(third.last("snapshot").manifest.byteLength, 0);
});

test("11.18 a full group has room for a snapshot; twice the quota is the end", async () => {
  const { world, first } = await written(20, { limits: { groupBytesMax: 6_000 } });
  const { bytes: used } = (await loaded(world)).group;
  assert.ok(used > 4_500, `${used}`);
  const size = 12_000 - used - 256;
  const put = (length: number, snapshotPart: boolean) => {
    const data = bytes(length, 3);
    const value = { objectId: bytes(32, length), sizeBytes: BigInt(length), data, snapshotPart };
    return { case: "putObject", value } as const;
  };
  assert.match(await asked(first, put(size + 1, true)), /error 502$/);
  assert.equal(first.last("error").detail.case, "quota");
  assert.match(await asked(first, put(3_000, false)), /error 502$/);
  await asked(first, put(size, true));
  assert.equal(first.endedWith, ErrorCode.ENVELOPE_INVALID, "there was room; its hash is wrong");
});

test("11.25 the relay asks for a snapshot by blobs, by days and by the quota, and tells when that changes", async () => {
  const { world, first, second, a, b } = await written(499);
  const urgency = (peer: typeof first): number => peer.all("notify").at(-1)?.urgency ?? 0;
  assert.equal(urgency(second), SnapshotUrgency.UNSPECIFIED);
  first.push([a.next()]);
  await rest();
  assert.deepEqual([urgency(first), urgency(second)], [SnapshotUrgency.LOW, SnapshotUrgency.LOW]);
  first.push(Array.from({ length: 250 }, () => a.next()));
  await rest();
  assert.equal(urgency(second), SnapshotUrgency.HIGH);
  const { id } = await snapshotBy(world, first, a, { cursor: 750, link: a.link });
  await confirm(second, id);
  assert.equal(urgency(second), SnapshotUrgency.UNSPECIFIED);
  first.push([a.next()]);
  await rest();
  await pass(world, 14 * day);
  assert.equal(urgency(second), SnapshotUrgency.LOW);
  await pass(world, 7 * day);
  assert.equal(urgency(second), SnapshotUrgency.HIGH);
  const again = await world.member(b);
  const { scope } = again.last("welcome");
  assert(scope.case === "group");
  assert.equal(scope.value.urgency, SnapshotUrgency.HIGH);

  const full = await written(20, { limits: { groupBytesMax: 6_000 } });
  assert.equal(full.first.all("notify").at(-1)?.urgency, SnapshotUrgency.HIGH);
});

test("11.17 11.21 a suspended group and a recovery phrase get and confirm none", async () => {
  const { world, first, second, a } = await written(2);
  const { id, manifest } = await snapshotBy(world, first, a, { cursor: 2, link: a.link });
  const { relay } = world;
  const live = await relay.group(a.group);
  assert(live);
  await relay.operate((draft) => {
    draft.writableGroup(live.entry).suspended = true;
  });
  assert.match(await confirm(second, id), new RegExp(`error ${ErrorCode.READ_ONLY}$`));
  assert.match(
    await asked(first, {
      case: "putSnapshot",
      value: { manifest: Uint8Array.from([...manifest, 0x40, 1]), signature: bytes(64, 1) },
    }),
    new RegExp(`error ${ErrorCode.READ_ONLY}$`),
  );
});

test("11.4 the age rises over a restart by what the clock says, by a day at most, and never falls", async () => {
  for (const [passedMs, risesS] of [
    [5_000, 5],
    [30 * day, 86_400],
    [-day, 0],
  ] as const) {
    const { world, first } = await written(1);
    first.cut();
    const before = world.relay.ageS();
    const store = world.store.reopen();
    const later = new RelayWorldUnderTest({ store, nowMs: world.nowMs + passedMs });
    assert.equal(later.relay.ageS(), before + risesS);
  }
});

test("11.35 control blobs have a bound of their own; who only removes may pass it", async () => {
  const { world, first, devices } = await written(1);
  const live = await world.relay.group(devices[0]?.group ?? bytes(32, 0));
  assert(live && devices[0] && devices[1]);
  await world.relay.operate((draft) => {
    draft.writableGroup(live.entry).controlBytes = 64 * 1024 * 1024;
  });
  const { membershipCount: count, membershipHead: head } = live.entry.row;
  const members = devices.map(({ id }) => id);
  const at = { count, head };
  const author = devices[0].id;
  const added = new ChainDevice(9);
  const adding = changeOf({ author, at, epoch: 1, members: [...members, added.id] });
  assert.match(
    await asked(first, { case: "changeMembership", value: adding.change }),
    /error 502$/,
  );
  const removing = changeOf({
    author,
    at,
    epoch: 2,
    members: [author],
    closings: [{ id: devices[1].id, seq: 0, link: new Uint8Array(32) }],
  });
  assert.match(
    await asked(first, { case: "changeMembership", value: removing.change }),
    /membershipAck$/,
  );
});
