import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  deriveDeviceKeys,
  Keyring,
  keyCheckOf,
  openPreviousSecret,
  sealPreviousSecret,
  sealWrap,
  verifySignature,
  wrapBytes,
} from "../../client/seal/index.ts";
import * as labels from "../../client/seal/labels.ts";
import { isSealingKey } from "../../client/seal/primitives.ts";
import { fromUtf8, toHex, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { device, fails, flipped, seeded } from "./support.ts";

const groupId = seeded("keys")(32);
const secret = seeded("epoch secret")(32);

describe("SECURITY Keys: labels", () => {
  test("no two uses share a label, and none begins another", () => {
    const texts = Object.values(labels).map((label) => fromUtf8(label) ?? "");
    texts.push("syncrelay/1 link", "syncrelay/1 fingerprint");
    assert.equal(new Set(texts).size, texts.length);
    for (const text of texts) {
      assert.match(text, /^syncrelay\/1 /);
      assert.ok(!texts.some((other) => other !== text && other.startsWith(text)), text);
    }
  });
});

describe("SECURITY Keys: a device's keys", () => {
  test("follow from the seed alone, and all differ", () => {
    const again = deriveDeviceKeys(seeded("device a")(32));
    assert.deepEqual(again.deviceId, device("a").deviceId);
    assert.deepEqual(again.signingKey, device("a").signingKey);
    assert.deepEqual(again.sealingKey, device("a").sealingKey);
    assert.notDeepEqual(again.deviceId, device("b").deviceId);
    assert.notDeepEqual(again.signingKey, again.deviceId);
    assert.equal(again.sealingKey.byteLength, 1216);
  });

  test("are refused for a seed of another length", () => {
    assert.throws(() => deriveDeviceKeys(new Uint8Array(31)), RangeError);
  });

  test("sign, and a signature holds for that key and message alone", () => {
    const keys = device("a");
    const message = utf8("message");
    const signature = keys.sign(message);
    assert.ok(verifySignature(keys.signingKey, message, signature));
    assert.ok(!verifySignature(keys.signingKey, flipped(message), signature));
    assert.ok(!verifySignature(device("b").signingKey, message, signature));
    for (let i = 0; i < 64; i++) {
      assert.ok(!verifySignature(keys.signingKey, message, flipped(signature, i)));
    }
  });

  test("a signature or key of another length does not hold, and does not throw", () => {
    const keys = device("a");
    const signature = keys.sign(utf8("m"));
    assert.ok(!verifySignature(keys.signingKey, utf8("m"), signature.subarray(1)));
    assert.ok(!verifySignature(keys.signingKey.subarray(1), utf8("m"), signature));
    assert.ok(!verifySignature(new Uint8Array(32), utf8("m"), signature));
  });

  test("work no more once they are wiped", () => {
    const keys = deriveDeviceKeys(seeded("wiped")(32));
    const sealed = sealWrap(secret, keys, { groupId, epoch: 1, random: seeded("w") });
    assert.ok(sealed !== undefined);
    keys.wipe();
    assert.ok(!verifySignature(keys.signingKey, utf8("m"), keys.sign(utf8("m"))));
    fails(ErrorCode.OPEN_FAILED, () => keys.openWrap(sealed, { groupId, epoch: 1 }));
  });
});

describe("SECURITY Keys: wraps", () => {
  const sealed = sealWrap(secret, device("a"), { groupId, epoch: 3, random: seeded("wrap") });

  test("open for the device they are sealed to", () => {
    assert.ok(sealed !== undefined);
    assert.equal(sealed.byteLength, wrapBytes);
    assert.deepEqual(device("a").openWrap(sealed, { groupId, epoch: 3 }), secret);
  });

  test("open for no other device, group or epoch", () => {
    assert.ok(sealed !== undefined);
    fails(ErrorCode.OPEN_FAILED, () => device("b").openWrap(sealed, { groupId, epoch: 3 }));
    fails(ErrorCode.OPEN_FAILED, () => device("a").openWrap(sealed, { groupId, epoch: 4 }));
    fails(ErrorCode.OPEN_FAILED, () =>
      device("a").openWrap(sealed, { groupId: flipped(groupId), epoch: 3 }),
    );
  });

  test("open with no byte altered, at no other length", () => {
    assert.ok(sealed !== undefined);
    for (const i of [0, 500, 1087, 1088, 1119, 1120, 1143, 1144, wrapBytes - 1]) {
      fails(ErrorCode.OPEN_FAILED, () =>
        device("a").openWrap(flipped(sealed, i), { groupId, epoch: 3 }),
      );
    }
    for (const bytes of [sealed.subarray(1), new Uint8Array(0), new Uint8Array(wrapBytes)]) {
      fails(ErrorCode.OPEN_FAILED, () => device("a").openWrap(bytes, { groupId, epoch: 3 }));
    }
  });

  test("are not made for a key that is none", () => {
    const { deviceId } = device("a");
    const at = { groupId, epoch: 1, random: seeded("none") };
    const sealingKey = new Uint8Array(1216).fill(255);
    assert.equal(sealWrap(secret, { deviceId, sealingKey }, at), undefined);
    assert.ok(!isSealingKey(sealingKey));
    assert.ok(!isSealingKey(device("a").sealingKey.subarray(1)));
    // An X25519 half of small order.
    const small = new Uint8Array(device("a").sealingKey);
    small.fill(0, 1184);
    assert.ok(!isSealingKey(small));
    assert.ok(isSealingKey(device("a").sealingKey));
  });
});

describe("SECURITY Keys: the keyring", () => {
  test("keeps one secret for each epoch and knows the newest", () => {
    const keyring = new Keyring();
    assert.equal(keyring.newest, 0);
    keyring.add(2, secret);
    keyring.add(1, flipped(secret));
    keyring.add(2, secret);
    assert.equal(keyring.newest, 2);
    assert.ok(keyring.has(1) && !keyring.has(3));
    fails(ErrorCode.WRONG_KEY, () => {
      keyring.add(2, flipped(secret));
    });
    assert.deepEqual(keyring.secret(2), secret);
    assert.equal(keyring.bodyKey(3), undefined);
  });

  test("draws another key for each use and each epoch", () => {
    const keyring = new Keyring();
    keyring.add(1, secret);
    keyring.add(2, flipped(secret));
    const keys = [1, 2].flatMap((epoch) => [
      keyring.bodyKey(epoch),
      keyring.statementKey(epoch),
      keyring.witnessKey(epoch),
      keyring.secret(epoch),
    ]);
    assert.equal(new Set(keys.map((key) => toHex(key ?? new Uint8Array()))).size, 8);
    assert.equal(keyring.bodyKey(1), keyring.bodyKey(1));
  });

  test("a copy does not follow the original, nor the original the copy", () => {
    const keyring = new Keyring();
    keyring.add(1, secret);
    const copy = keyring.copy();
    copy.add(2, secret);
    assert.ok(!keyring.has(2));
    keyring.wipe();
    assert.deepEqual(copy.secret(1), secret);
    assert.ok(!keyring.has(1));
  });

  test("a key check value is of one secret, group and epoch", () => {
    const check = keyCheckOf(secret, { groupId, epoch: 1 });
    assert.deepEqual(keyCheckOf(secret, { groupId, epoch: 1 }), check);
    assert.notDeepEqual(keyCheckOf(flipped(secret), { groupId, epoch: 1 }), check);
    assert.notDeepEqual(keyCheckOf(secret, { groupId: flipped(groupId), epoch: 1 }), check);
    assert.notDeepEqual(keyCheckOf(secret, { groupId, epoch: 2 }), check);
  });

  test("a previous secret opens under the secret, in the group and epoch, it was sealed under", () => {
    const previous = flipped(secret, 3);
    const sealed = sealPreviousSecret(previous, secret, {
      groupId,
      epoch: 2,
      random: seeded("previous"),
    });
    assert.deepEqual(openPreviousSecret(sealed, secret, { groupId, epoch: 2 }), previous);
    for (const run of [
      () => openPreviousSecret(sealed, flipped(secret), { groupId, epoch: 2 }),
      () => openPreviousSecret(sealed, secret, { groupId, epoch: 3 }),
      () => openPreviousSecret(sealed, secret, { groupId: flipped(groupId), epoch: 2 }),
      () => openPreviousSecret(flipped(sealed), secret, { groupId, epoch: 2 }),
      () => openPreviousSecret(sealed.subarray(1), secret, { groupId, epoch: 2 }),
    ]) {
      fails(ErrorCode.OPEN_FAILED, run);
    }
  });
});
