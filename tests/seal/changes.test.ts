import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  addDevice,
  type ControlChain,
  deviceMessage,
  extendChain,
  foundGroup,
  members,
  readChain,
  removeDevices,
  rename,
  rotate,
  wrapBytes,
} from "../../client/seal/index.ts";
import { RotationReason } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import type { ChangeMembership } from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { fromUtf8, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { idText, zeroLink } from "../../wire/ids.ts";
import { controlBytesMax, membersMax } from "../../wire/limits.ts";
import { device, fails, group, seeded } from "./support.ts";

const of = group("a", "b", "c");
const { chain } = of;
const by = (name: string) => ({ keys: device(name), random: seeded(`by ${name}`), nowMs: 7 });
const closing = (name: string) => ({
  deviceId: device(name).deviceId,
  place: { seq: 0, link: zeroLink },
});

function follow(name: string, change: ChangeMembership, from: ControlChain = chain): ControlChain {
  return extendChain(from, change.controlBlob, by(name));
}

describe("SECURITY Membership: making changes", () => {
  test("founding: the request names the group, its invite and its one member", () => {
    const groupId = seeded("founding")(32);
    const groupInvite = seeded("invite")(16);
    const { change, chain: founded } = foundGroup({ ...by("a"), groupId, name: "a", groupInvite });
    assert.deepEqual([change.groupId, change.groupInvite], [groupId, groupInvite]);
    assert.equal(change.expected?.count, 0n);
    assert.deepEqual(change.expected?.head, zeroLink);
    assert.deepEqual(
      change.members.map(({ deviceId }) => deviceId),
      [device("a").deviceId],
    );
    assert.equal(change.epoch, 1n);
    assert.equal(founded.epochMadeMs, 7);
    const read = readChain([change.controlBlob], { groupId, keys: device("a") });
    assert.deepEqual(read.version, founded.version);
  });

  test("the relay reads no name", () => {
    const { change } = foundGroup({
      ...by("a"),
      groupId: seeded("canary")(32),
      name: "canary in the coal mine",
    });
    const text = Buffer.from(change.controlBlob).toString("latin1");
    assert.ok(!text.includes("canary"));
    assert.equal(fromUtf8(utf8("canary")), "canary");
  });

  test("names of different length make blobs of one size", () => {
    const size = (name: string) => rename(chain, name, by("b")).controlBlob.byteLength;
    assert.equal(size("x"), size("x".repeat(64)));
  });

  test("adding: the request states where the chain stood and who is a member after it", () => {
    const change = addDevice(chain, deviceMessage(device("d"), "d"), by("b"));
    assert.equal(change.expected?.count, 3n);
    assert.deepEqual(change.expected?.head, chain.version.head);
    assert.equal(change.members.length, 4);
    assert.equal(change.epoch, 1n);
    const next = follow("a", change);
    assert.equal(next.devices.get(idText(device("d").deviceId))?.name, "d");
  });

  test("removing: the closings stand in the request too, and the epoch is the next", () => {
    const link = seeded("place")(32);
    const place = { seq: 9, link };
    const change = removeDevices(chain, [{ ...closing("c"), place }], by("a"));
    assert.deepEqual(change.closings[0]?.position?.link, link);
    assert.equal(change.closings[0]?.position?.seq, 9n);
    assert.equal(change.epoch, 2n);
    assert.equal(change.members.length, 2);
    const next = follow("b", change);
    assert.deepEqual(next.devices.get(idText(device("c").deviceId))?.closing, place);
    // The removed device cannot reach the new secret, nor read the blob.
    fails(ErrorCode.KEY_MISSING, () => follow("c", change));
  });

  test("several at once", () => {
    const change = removeDevices(chain, [closing("b"), closing("c")], by("a"));
    assert.equal(members(follow("a", change)).length, 1);
  });

  test("what makes no sense against this chain is not made", () => {
    for (const run of [
      () => addDevice(chain, deviceMessage(device("b"), "b"), by("a")),
      () => removeDevices(chain, [], by("a")),
      () => removeDevices(chain, [closing("d")], by("a")),
      () => removeDevices(chain, [closing("a")], by("a")),
      () => removeDevices(chain, [closing("b"), closing("b")], by("a")),
    ]) {
      fails(ErrorCode.MEMBERSHIP_CONFLICT, run);
    }
    assert.throws(() => rename(chain, "", by("a")), RangeError);
    // Whoever is no member can make nothing that members accept.
    fails(ErrorCode.HISTORY_ALTERED, () => rename(chain, "x", by("d")));
    fails(ErrorCode.HISTORY_ALTERED, () => rotate(chain, RotationReason.BY_HAND, by("d")));
    const removed = follow("a", removeDevices(chain, [closing("c")], by("a")));
    fails(ErrorCode.MEMBERSHIP_CONFLICT, () =>
      addDevice(removed, deviceMessage(device("c"), "c"), by("a")),
    );
    fails(ErrorCode.MEMBERSHIP_CONFLICT, () => removeDevices(removed, [closing("c")], by("a")));
  });

  test("races: of two that remove each other one is decided, the other no longer holds", () => {
    const first = removeDevices(chain, [closing("b")], by("a"));
    const second = removeDevices(chain, [closing("a")], by("b"));
    const decided = follow("c", first);
    fails(ErrorCode.HISTORY_ALTERED, () => follow("c", second, decided));
    fails(ErrorCode.MEMBERSHIP_CONFLICT, () => removeDevices(decided, [closing("b")], by("c")));
  });

  test("races: of three that rotate at once one is decided, the others make theirs anew", () => {
    const reason = RotationReason.BY_AGE;
    const [one, two] = ["a", "b"].map((name) => rotate(chain, reason, by(name)));
    assert.ok(one !== undefined && two !== undefined);
    const decided = follow("c", one);
    fails(ErrorCode.HISTORY_ALTERED, () => follow("c", two, decided));
    const again = follow("c", rotate(decided, reason, by("b")), decided);
    assert.equal(again.epoch, 3);
    assert.equal(again.keyring.newest, 3);
  });

  test("a long life: the newest secret opens every epoch, also for the last to join", () => {
    let current = chain;
    const blobs = [...of.blobs];
    const apply = (change: ChangeMembership): void => {
      blobs.push(change.controlBlob);
      current = follow("a", change, current);
    };
    apply(rotate(current, RotationReason.BY_HAND, by("a")));
    apply(rename(current, "first", by("a")));
    apply(removeDevices(current, [closing("c")], by("a")));
    apply(rotate(current, RotationReason.BY_AGE, by("a")));
    apply(addDevice(current, deviceMessage(device("d"), "d"), by("a")));
    apply(rotate(current, RotationReason.BY_HAND, by("a")));
    for (const name of ["a", "b", "d"]) {
      const read = readChain(blobs, { groupId: of.groupId, keys: device(name) });
      assert.deepEqual([read.epoch, read.keyring.newest], [5, 5]);
      for (let epoch = 1; epoch <= 5; epoch++) {
        assert.deepEqual(read.keyring.secret(epoch), current.keyring.secret(epoch));
      }
      assert.equal(read.devices.get(idText(device("a").deviceId))?.name, "first");
    }
  });

  test("a rotation of the fullest group fits a control blob", () => {
    // A wrap's device id and ciphertext with their tags and lengths, and its own.
    const wrap = 2 + 32 + 3 + wrapBytes + 3;
    // A removal names every other device with its closing place, padded.
    const closings = Math.ceil((membersMax - 1) * 81 * 1.12);
    assert.ok(membersMax * wrap + closings + 1_024 <= controlBytesMax);
  });
});
