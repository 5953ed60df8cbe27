/**
 * One acceptance rule at a time: each forgery is sealed and signed as it should
 * be and breaks one rule, and beside it stands the same change with the rule kept.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { sealControl } from "../../client/seal/control-blob.ts";
import {
  type ControlChain,
  deviceMessage,
  emptyChain,
  extendChain,
  isMember,
  Keyring,
  members,
  readChain,
} from "../../client/seal/index.ts";
import { RotationReason } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import {
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { concatBytes, emptyBytes } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText, zeroLink } from "../../wire/ids.ts";
import { controlBytesMax } from "../../wire/limits.ts";
import { type Change, type Forgery, forge, without, wrapFor } from "./forge.ts";
import { device, fails, flipped, group, seeded } from "./support.ts";

const of = group("a", "b", "c");
const { chain, groupId } = of;
const a = device("a");
const b = device("b");
const c = device("c");
const d = device("d");
const link = seeded("closing link")(32);
const everybody = members(chain);

const rotating: Change = { case: "rotating", value: { reason: RotationReason.BY_HAND } };
const renaming: Change = { case: "renaming", value: { name: "another" } };
const removing = (...devices: (typeof a)[]): Change => ({
  case: "removing",
  value: { closings: devices.map(({ deviceId }) => ({ deviceId, seq: 3n, link })) },
});
const adding = (change: object = {}): Change => ({
  case: "adding",
  value: { device: { ...deviceMessage(d, "d"), ...change } },
});

/** The four changes as they should be. */
const good = {
  rotating: { author: b, change: rotating, opens: true, wrapped: everybody },
  renaming: { author: b, change: renaming, opens: false, wrapped: [] },
  removing: { author: b, change: removing(c), opens: true, wrapped: without(chain, c) },
  adding: { author: b, change: adding(), opens: false, wrapped: [d] },
} satisfies Record<string, Forgery>;

/** What device a makes of a blob. */
const accept = (blob: Uint8Array, from: ControlChain = chain) =>
  extendChain(from, blob, { keys: a });

function refuses(forgery: Forgery, code = ErrorCode.HISTORY_ALTERED, from = chain): void {
  fails(code, () => accept(forge(from, forgery), from));
}

describe("SECURITY Membership: what is accepted", () => {
  test("rotating: a new epoch, the same members, a keyring with both secrets", () => {
    const blob = forge(chain, good.rotating);
    const next = accept(blob);
    assert.deepEqual(next.version, { count: 4, head: blake2b256(blob) });
    assert.deepEqual([next.epoch, next.epochSinceCount, next.epochMadeMs], [2, 4, 5]);
    assert.equal(members(next).length, 3);
    assert.ok(next.keyring.has(1) && next.keyring.has(2));
    assert.deepEqual(next.foundingHash, blake2b256(of.blobs[0] ?? emptyBytes));
  });

  test("renaming: the author's name, nothing else", () => {
    const next = accept(forge(chain, good.renaming));
    assert.equal(next.devices.get(idText(b.deviceId))?.name, "another");
    assert.equal(next.devices.get(idText(a.deviceId))?.name, "a");
    assert.deepEqual([next.epoch, next.epochSinceCount], [1, 1]);
  });

  test("removing: the removed stays in the roster, closed, and is no member", () => {
    const next = accept(forge(chain, good.removing));
    assert.deepEqual(next.devices.get(idText(c.deviceId))?.closing, { seq: 3, link });
    assert.ok(!isMember(next, c.deviceId) && isMember(next, b.deviceId));
    assert.equal(next.devices.size, 3);
    assert.equal(next.epoch, 2);
  });

  test("adding: the joiner reads the whole keyring, opens nothing twice, and is a member", () => {
    const rotated = forge(chain, good.rotating);
    const two = accept(rotated);
    const added = forge(two, good.adding);
    const three = accept(added, two);
    assert.ok(isMember(three, d.deviceId));
    const joined = readChain([...of.blobs, rotated, added], {
      groupId,
      keys: d,
      mustContain: two.version.head,
    });
    assert.deepEqual(joined.version, three.version);
    assert.deepEqual(joined.keyring.secret(1), chain.keyring.secret(1));
    assert.deepEqual(joined.keyring.secret(2), three.keyring.secret(2));
    assert.deepEqual([...joined.devices], [...three.devices]);
  });

  test("a change that fails leaves the chain as it was", () => {
    const before = chain.keyring.newest;
    refuses({ ...good.rotating, wrapped: without(chain, c) });
    assert.equal(chain.keyring.newest, before);
    assert.equal(chain.version.count, 3);
  });
});

describe("SECURITY Membership: form", () => {
  test("a blob above its bound, of garbage, or empty", () => {
    for (const bytes of [emptyBytes, new Uint8Array([255]), new Uint8Array(controlBytesMax + 1)]) {
      fails(ErrorCode.HISTORY_ALTERED, () => accept(bytes));
    }
  });

  test("a blob has one form: a field that the signature does not cover is refused", () => {
    const blob = forge(chain, good.renaming);
    const more = concatBytes(blob, new Uint8Array([0x78, 1]));
    fails(ErrorCode.HISTORY_ALTERED, () => accept(more));
    accept(blob);
  });

  test("the clear part keeps its bounds", () => {
    const wrap = wrapFor(d, seeded("w")(32), { groupId, epoch: 1 });
    for (const clear of [
      { keyCheck: zeroLink.subarray(1) },
      { previousSecret: zeroLink },
      { previousHead: zeroLink.subarray(1) },
      { wraps: [{ ...wrap, deviceId: zeroLink.subarray(1) }] },
      { wraps: [{ ...wrap, sealed: wrap.sealed.subarray(1) }] },
    ]) {
      refuses({ ...good.adding, clear });
    }
    for (const epoch of [0, 2 ** 53]) refuses({ ...good.renaming, clear: { epoch } });
  });

  test("a time beyond all numbers", () => {
    refuses({ ...good.renaming, madeMs: 2n ** 63n });
  });

  test("every byte of a blob altered is refused", () => {
    const blob = forge(chain, good.renaming);
    for (let i = 0; i < blob.byteLength; i++) {
      assert.throws(() => accept(flipped(blob, i)), { name: "SyncError" }, String(i));
    }
  });
});

describe("SECURITY Membership: place and author", () => {
  test("another previous head", () => {
    refuses({ ...good.renaming, clear: { previousHead: seeded("head")(32) } });
    refuses({ ...good.renaming, clear: { previousHead: zeroLink } });
  });

  test("the same change twice", () => {
    const blob = forge(chain, good.rotating);
    fails(ErrorCode.HISTORY_ALTERED, () => accept(blob, accept(blob)));
  });

  test("an author that is no member", () => {
    refuses({ ...good.renaming, author: d });
  });

  test("an author that was removed", () => {
    const removed = accept(forge(chain, good.removing));
    // It still knows of the new epoch what only a member could tell it.
    refuses({ ...good.renaming, author: c }, ErrorCode.HISTORY_ALTERED, removed);
    accept(forge(removed, good.renaming), removed);
  });

  test("another member's name under the author's signature", () => {
    const blob = fromBinary(ControlBlobSchema, forge(chain, good.renaming));
    blob.author = c.deviceId;
    fails(ErrorCode.OPEN_FAILED, () => accept(toBinary(ControlBlobSchema, blob)));
    // Sealed again for the other author, the signature is still not that one's.
    const statementKey = chain.keyring.statementKey(1);
    assert.ok(statementKey !== undefined);
    const stolen = { ...b, deviceId: c.deviceId };
    const clear = {
      epoch: 1,
      previousHead: chain.version.head,
      wraps: [],
      keyCheck: undefined,
      previousSecret: undefined,
      recoveryRecord: undefined,
    };
    const at = { groupId, statementKey, random: seeded("stolen") };
    const statement = { madeMs: 5n, change: renaming };
    const forged = sealControl(clear, statement, { ...at, keys: stolen });
    fails(ErrorCode.HISTORY_ALTERED, () => accept(forged));
    accept(sealControl(clear, statement, { ...at, keys: b }));
  });

  test("a signature for another group", () => {
    refuses({ ...good.renaming, groupId: flipped(groupId) }, ErrorCode.OPEN_FAILED);
  });

  test("a clear part that is not the one signed", () => {
    const one = fromBinary(ControlBlobSchema, forge(chain, good.renaming));
    const clear = fromBinary(ControlClearSchema, one.clear);
    clear.recoveryRecord = new Uint8Array(3);
    one.clear = toBinary(ControlClearSchema, clear);
    fails(ErrorCode.OPEN_FAILED, () => accept(toBinary(ControlBlobSchema, one)));
  });
});

describe("SECURITY Membership: epochs and secrets", () => {
  test("an epoch is opened by one more, and kept by what opens none", () => {
    for (const epoch of [1, 3]) refuses({ ...good.rotating, clear: { epoch } });
    for (const epoch of [2, 3]) refuses({ ...good.renaming, clear: { epoch } });
  });

  test("what must open an epoch does, and nothing else does", () => {
    refuses({ ...good.rotating, opens: false });
    refuses({ ...good.removing, opens: false });
    refuses({ ...good.renaming, opens: true, wrapped: everybody });
    refuses({ ...good.adding, opens: true, wrapped: [...everybody, d] });
  });

  test("the previous secret goes with every epoch after the first, and with nothing else", () => {
    refuses({ ...good.rotating, clear: { previousSecret: undefined } });
    refuses({ ...good.renaming, clear: { previousSecret: new Uint8Array(72) } });
  });

  test("a previous secret that is not the one held would lock newcomers out", () => {
    refuses({ ...good.rotating, previous: seeded("wrong")(32) }, ErrorCode.WRONG_KEY);
    const altered = { previousSecret: new Uint8Array(72) };
    refuses({ ...good.rotating, clear: altered }, ErrorCode.OPEN_FAILED);
  });

  test("a wrong secret is named so by the key check value", () => {
    refuses({ ...good.rotating, clear: { keyCheck: seeded("check")(32) } }, ErrorCode.WRONG_KEY);
    const wrong = wrapFor(a, seeded("wrong")(32), { groupId, epoch: 2 });
    const secret = seeded("right")(32);
    const others = without(chain, a).map((to) => wrapFor(to, secret, { groupId, epoch: 2 }));
    refuses(
      { ...good.rotating, secret, clear: { wraps: [wrong, ...others] } },
      ErrorCode.WRONG_KEY,
    );
  });

  test("no wrap for this device: no key, and no proof of a removal", () => {
    const removesUs = { ...good.removing, change: removing(a), wrapped: without(chain, a) };
    refuses(removesUs, ErrorCode.KEY_MISSING);
    // The others accept it.
    const next = extendChain(chain, forge(chain, removesUs), { keys: c });
    assert.ok(!isMember(next, a.deviceId));
  });

  test("a wrap for this device that was made for another", () => {
    const secret = seeded("swapped")(32);
    const wraps = everybody.map((to) => wrapFor(to, secret, { groupId, epoch: 2 }));
    const sealedToB = wraps.find(({ deviceId }) => deviceId.join() === b.deviceId.join());
    assert.ok(sealedToB !== undefined);
    const swapped = wraps.map((wrap) =>
      wrap.deviceId.join() === a.deviceId.join() ? { ...wrap, sealed: sealedToB.sealed } : wrap,
    );
    refuses({ ...good.rotating, secret, clear: { wraps: swapped } }, ErrorCode.OPEN_FAILED);
  });
});

describe("SECURITY Membership: wraps are exactly the right ones", () => {
  test("opening an epoch: one member left out, a stranger put in, a member twice", () => {
    refuses({ ...good.rotating, wrapped: without(chain, c) });
    refuses({ ...good.rotating, wrapped: [...everybody, d] });
    refuses({ ...good.rotating, wrapped: [...everybody, c] });
    refuses({ ...good.rotating, wrapped: [...without(chain, c), d] });
  });

  test("removing: the removed device put in", () => {
    refuses({ ...good.removing, wrapped: everybody });
  });

  test("adding: nobody, somebody else, or one besides", () => {
    refuses({ ...good.adding, wrapped: [] });
    refuses({ ...good.adding, wrapped: [c] });
    refuses({ ...good.adding, wrapped: [d, c] });
    refuses({ ...good.adding, wrapped: [d, d] });
  });

  test("renaming: anybody", () => {
    refuses({ ...good.renaming, wrapped: [c] });
  });
});

describe("SECURITY Membership: what each change may say", () => {
  test("adding: a device that is none", () => {
    for (const change of [
      { deviceId: d.deviceId.subarray(1) },
      { signingKey: d.signingKey.subarray(1) },
      { sealingKey: d.sealingKey.subarray(1) },
      { name: "" },
      { name: "é".repeat(33) },
      { role: MemberRole.UNSPECIFIED },
      { role: 9 as MemberRole },
    ]) {
      refuses({ ...good.adding, change: adding(change) });
    }
    accept(forge(chain, { ...good.adding, change: adding({ name: "é".repeat(32) }) }));
  });

  test("adding: a key that nothing can be sealed to would stop every later rotation", () => {
    const sealingKey = new Uint8Array(1216).fill(255);
    refuses({ ...good.adding, change: adding({ sealingKey }) });
  });

  test("adding: a device that is a member, or was one", () => {
    // Also under keys that nobody has.
    const other = adding({ deviceId: c.deviceId });
    refuses({ ...good.adding, change: other, wrapped: [{ ...d, deviceId: c.deviceId }] });
    const member = { device: deviceMessage(c, "c") };
    refuses({ ...good.adding, change: { case: "adding", value: member }, wrapped: [c] });
    const removed = accept(forge(chain, good.removing));
    refuses(
      { ...good.adding, change: { case: "adding", value: member }, wrapped: [c] },
      ErrorCode.HISTORY_ALTERED,
      removed,
    );
  });

  test("PROTOCOL 12.25: adding: a key that is another device's, or was one's", () => {
    const removed = accept(forge(chain, good.removing));
    for (const change of [{ signingKey: c.signingKey }, { sealingKey: c.sealingKey }]) {
      refuses({ ...good.adding, change: adding(change) });
      refuses({ ...good.adding, change: adding(change) }, ErrorCode.HISTORY_ALTERED, removed);
    }
  });

  test("adding: no device", () => {
    refuses({ ...good.adding, change: { case: "adding", value: {} }, wrapped: [] });
  });

  test("adding: a phrase comes with its recovery record, a device without", () => {
    const recoveryRecord = new Uint8Array(100);
    const paper = { ...good.adding, change: adding({ role: MemberRole.PAPER }) };
    refuses(paper);
    refuses({ ...good.adding, clear: { recoveryRecord } });
    refuses({ ...good.renaming, clear: { recoveryRecord } });
    accept(forge(chain, { ...paper, clear: { recoveryRecord } }));
    const long = { recoveryRecord: new Uint8Array(1_025) };
    refuses({ ...paper, clear: long });
  });

  test("adding: a group that is full", () => {
    const fill = (count: number): ControlChain => {
      const devices = new Map(chain.devices);
      for (let i = devices.size; i < count; i++) {
        const deviceId = seeded(`member ${i}`)(32);
        devices.set(idText(deviceId), { ...deviceMessage(c, "c"), deviceId });
      }
      return { ...chain, devices };
    };
    refuses(good.adding, ErrorCode.HISTORY_ALTERED, fill(256));
    accept(forge(fill(255), good.adding), fill(255));
  });

  test("a phrase signs the addition of a device, and nothing else", () => {
    const recoveryRecord = new Uint8Array(100);
    const paper = { ...good.adding, change: adding({ role: MemberRole.PAPER }) };
    const held = accept(forge(chain, { ...paper, clear: { recoveryRecord } }));
    const e = device("e");
    const byPaper = (change: object): Forgery => ({
      author: d,
      change: { case: "adding", value: { device: { ...deviceMessage(e, "e"), ...change } } },
      opens: false,
      wrapped: [e],
    });
    accept(forge(held, byPaper({})), held);
    refuses(
      { ...byPaper({ role: MemberRole.PAPER }), clear: { recoveryRecord } },
      ErrorCode.HISTORY_ALTERED,
      held,
    );
    refuses({ ...good.renaming, author: d }, ErrorCode.HISTORY_ALTERED, held);
    refuses(
      { ...good.rotating, author: d, wrapped: members(held) },
      ErrorCode.HISTORY_ALTERED,
      held,
    );
    accept(forge(held, { ...good.rotating, wrapped: members(held) }), held);
  });

  test("removing: nobody, a stranger, the author, one twice, one removed before", () => {
    refuses({ ...good.removing, change: removing(), wrapped: everybody });
    refuses({ ...good.removing, change: removing(d), wrapped: everybody });
    refuses({ ...good.removing, change: removing(b), wrapped: without(chain, b) });
    refuses({ ...good.removing, change: removing(c, c) });
    const removed = accept(forge(chain, good.removing));
    refuses({ ...good.removing, wrapped: members(removed) }, ErrorCode.HISTORY_ALTERED, removed);
  });

  test("removing: a closing place that is none", () => {
    const closing = (place: object): Change => ({
      case: "removing",
      value: { closings: [{ deviceId: c.deviceId, seq: 3n, link, ...place }] },
    });
    for (const place of [
      { link: link.subarray(1) },
      { link: zeroLink },
      { seq: 0n },
      { seq: 2n ** 53n },
      { deviceId: c.deviceId.subarray(1) },
    ]) {
      refuses({ ...good.removing, change: closing(place) });
    }
    accept(forge(chain, { ...good.removing, change: closing({ seq: 0n, link: zeroLink }) }));
  });

  test("renaming: a name that is none", () => {
    refuses({ ...good.renaming, change: { case: "renaming", value: { name: "" } } });
    const value = { name: "x".repeat(65) };
    refuses({ ...good.renaming, change: { case: "renaming", value } });
  });

  test("a statement that says nothing, and a second founding", () => {
    refuses({ ...good.renaming, change: { case: undefined } });
    const founder = deviceMessage(b, "b");
    const founding: Change = { case: "founding", value: { founder } };
    refuses({ ...good.rotating, change: founding });
  });
});

describe("SECURITY Membership: founding", () => {
  const empty = emptyChain(groupId);
  const founding = (change: object = {}): Change => ({
    case: "founding",
    value: { founder: { ...deviceMessage(a, "a"), ...change } },
  });
  const begins: Forgery = { author: a, change: founding(), opens: true, wrapped: [a] };
  const refusesFounding = (change: Partial<Forgery>, code = ErrorCode.HISTORY_ALTERED): void => {
    fails(code, () => accept(forge(empty, { ...begins, ...change }), empty));
  };

  test("is the first blob, of epoch 1, by its founder alone", () => {
    const next = accept(forge(empty, begins), empty);
    assert.deepEqual([next.version.count, next.epoch, next.devices.size], [1, 1, 1]);
    refusesFounding({ clear: { epoch: 2 } });
    refusesFounding({ clear: { previousHead: seeded("h")(32) } });
    refusesFounding({ wrapped: [a, b] });
    refusesFounding({ clear: { previousSecret: new Uint8Array(72) } });
    refusesFounding({ change: founding({ role: MemberRole.PAPER }) });
    refusesFounding({
      change: founding({ role: MemberRole.PAPER }),
      clear: { recoveryRecord: link },
    });
    refusesFounding({ change: founding({ name: "" }) });
    refusesFounding({ change: { case: "founding", value: {} } });
  });

  test("an author that is not the founder it names", () => {
    const change = founding({ deviceId: b.deviceId });
    refusesFounding({ change, wrapped: [{ ...b, deviceId: b.deviceId }, a] });
    // As it comes to a device that holds the epoch's secret already.
    const secret = seeded("founding secret")(32);
    const keyring = new Keyring();
    keyring.add(1, secret);
    const held = { ...empty, keyring };
    const named = { deviceId: b.deviceId, sealingKey: b.sealingKey };
    const forgery = { ...begins, secret, change: founding(named), wrapped: [b] };
    fails(ErrorCode.HISTORY_ALTERED, () => extendChain(held, forge(empty, forgery), { keys: c }));
    const right = { ...forgery, change: founding(), wrapped: [a] };
    extendChain(held, forge(empty, right), { keys: c });
    // Signed by the key it names, for the device it names, by another device.
    refusesFounding({ author: { ...b, deviceId: a.deviceId } });
  });

  test("anything else first", () => {
    refusesFounding({ change: rotating });
    refusesFounding({ change: renaming });
  });
});

describe("SECURITY Membership: reading a whole chain", () => {
  test("from the founding on, with the head the inviting device told", () => {
    const read = readChain(of.blobs, { groupId, keys: c, mustContain: chain.version.head });
    assert.deepEqual(read.version, chain.version);
    const mustContain = seeded("another head")(32);
    fails(ErrorCode.HISTORY_ALTERED, () => readChain(of.blobs, { groupId, keys: c, mustContain }));
  });

  test("a device without a wrap has no key; one without a place is unknown", () => {
    fails(ErrorCode.KEY_MISSING, () => readChain(of.blobs, { groupId, keys: d }));
    fails(ErrorCode.KEY_MISSING, () => readChain([], { groupId, keys: a }));
    const removed = [...of.blobs, forge(chain, good.removing)];
    fails(ErrorCode.KEY_MISSING, () => readChain(removed, { groupId, keys: c }));
    readChain(removed, { groupId, keys: a });
  });

  test("a blob left out, out of order, twice, or another group's", () => {
    const [one, two, three] = of.blobs;
    assert.ok(one !== undefined && two !== undefined && three !== undefined);
    for (const blobs of [
      [one, three],
      [one, three, two],
      [one, two, two, three],
      [two, three],
    ]) {
      assert.throws(() => readChain(blobs, { groupId, keys: c }), { name: "SyncError" });
    }
    const other = flipped(groupId);
    fails(ErrorCode.OPEN_FAILED, () => readChain(of.blobs, { groupId: other, keys: c }));
  });

  test("an addition under this device's id with another's keys is found by this device", () => {
    const blob = forge(chain, {
      ...good.adding,
      change: adding({ signingKey: device("e").signingKey }),
    });
    accept(blob);
    fails(ErrorCode.DEVICE_UNKNOWN, () => readChain([...of.blobs, blob], { groupId, keys: d }));
  });

  test("a joiner is told by the key check value where it was given a wrong secret", () => {
    const wrong = wrapFor(d, seeded("wrong")(32), { groupId, epoch: 1 });
    const blob = forge(chain, { ...good.adding, clear: { wraps: [wrong] } });
    fails(ErrorCode.WRONG_KEY, () => readChain([...of.blobs, blob], { groupId, keys: d }));
  });
});
