import assert from "node:assert/strict";
import { mock, test } from "node:test";
import Noise from "noise-handshake";
import curve from "noise-handshake/dh.js";
import { copyBytes, fromHex, utf8 } from "../../wire/bytes.ts";
import { checkedCurve, Handshake, keyPairOf } from "../../wire/channel.ts";
import { handshakeBytesMax } from "../../wire/limits.ts";
import { prologue } from "../../wire/protocol.ts";
import { channel, filled, handshakeFailed, patterns, side, sides } from "./support.ts";

/** Payloads of the three messages: every part of a message is there to be altered. */
const payloads = [utf8("one"), utf8("two"), utf8("three")] as const;

/** The three messages of an undisturbed handshake. */
function messagesOf(psk: Uint8Array | undefined): Uint8Array[] {
  const { initiator, responder } = sides(psk);
  const first = initiator.write(payloads[0]);
  responder.read(first);
  const second = responder.write(payloads[1]);
  initiator.read(second);
  return [first, second, initiator.write(payloads[2])];
}

/** Runs a handshake whose message `index` is replaced, and says which sides finish. */
function finishing(psk: Uint8Array | undefined, index: number, message: Uint8Array): string[] {
  const { initiator, responder } = sides(psk);
  try {
    for (const i of [0, 1, 2]) {
      const [writer, reader] = i === 1 ? [responder, initiator] : [initiator, responder];
      const written = writer.write(payloads[i] as Uint8Array);
      reader.read(i === index ? message : written);
    }
  } catch (error) {
    handshakeFailed(error);
  }
  return Object.entries({ initiator, responder })
    .filter(([, handshake]) => {
      try {
        handshake.finish();
        return true;
      } catch (error) {
        return !handshakeFailed(error);
      }
    })
    .map(([name]) => name);
}

const alterations: readonly ((byte: number) => number)[] = [
  (byte) => byte ^ 0x01,
  (byte) => byte ^ 0x80,
  () => 0x00,
  () => 0xff,
];

for (const { pattern, psk } of patterns) {
  test(`2.4 ${pattern}: an undisturbed handshake finishes on both sides`, () => {
    for (const [i, message] of messagesOf(psk).entries()) {
      assert.deepEqual(finishing(psk, i, message), ["initiator", "responder"]);
    }
  });

  for (const index of [0, 1, 2]) {
    test(`2.10 ${pattern}: no altered byte of message ${index + 1} is accepted`, () => {
      const original = messagesOf(psk)[index] as Uint8Array;
      for (let offset = 0; offset < original.byteLength; offset++) {
        for (const alter of alterations) {
          const message = copyBytes(original);
          message[offset] = alter(message[offset] as number);
          if (message[offset] === original[offset]) continue;
          const finished = finishing(psk, index, message);
          // Message 3 leaves its writer no way to notice; nobody else is ever done.
          const allowed = index === 2 ? ["initiator"] : [];
          assert.deepEqual(finished, allowed, `offset ${offset}, byte ${message[offset]}`);
        }
      }
    });

    test(`2.7 ${pattern}: message ${index + 1} cut at any length or with a byte more is refused`, () => {
      const original = messagesOf(psk)[index] as Uint8Array;
      const longer = new Uint8Array(original.byteLength + 1);
      longer.set(original);
      const variants: Uint8Array[] = [longer];
      for (let length = 0; length < original.byteLength; length++) {
        variants.push(original.subarray(0, length));
      }
      for (const message of variants) {
        const finished = finishing(psk, index, message);
        assert.deepEqual(finished, index === 2 ? ["initiator"] : []);
      }
    });
  }

  test(`2.10 ${pattern}: an altered message is refused by whoever reads it, but for message 1 of XX`, () => {
    const [first, second, third] = messagesOf(psk) as [Uint8Array, Uint8Array, Uint8Array];
    const altered = (message: Uint8Array): Uint8Array => {
      const copy = copyBytes(message);
      copy[0] = (copy[0] as number) ^ 1;
      return copy;
    };
    const responder = side("responder", psk);
    if (psk === undefined) {
      // Nothing authenticates an ephemeral key yet: the initiator notices at message 2.
      responder.read(altered(first));
      const initiator = side("initiator");
      initiator.write(payloads[0]);
      assert.throws(() => initiator.read(responder.write(payloads[1])), handshakeFailed);
    } else {
      assert.throws(() => responder.read(altered(first)), handshakeFailed);
    }
    const initiator = side("initiator", psk);
    initiator.write(payloads[0]);
    assert.throws(() => initiator.read(altered(second)), handshakeFailed);
    const reader = side("responder", psk);
    reader.read(first);
    reader.write(payloads[1]);
    assert.throws(() => reader.read(altered(third)), handshakeFailed);
  });

  test(`2.10 ${pattern}: after a failure a handshake refuses even what was right`, () => {
    const [, second] = messagesOf(psk) as [Uint8Array, Uint8Array];
    const initiator = side("initiator", psk);
    initiator.write(payloads[0]);
    assert.throws(() => initiator.read(second.subarray(1)), handshakeFailed);
    assert.throws(() => initiator.read(second), handshakeFailed);
    assert.throws(() => initiator.write(payloads[2]), handshakeFailed);
    assert.throws(() => initiator.finish(), handshakeFailed);
    assert.equal(initiator.remoteKey, undefined);
  });

  test(`2.10 ${pattern}: a call out of turn ends the handshake`, () => {
    const [first] = messagesOf(psk) as [Uint8Array];
    const wrongTurns: ((handshake: Handshake) => void)[] = [
      (initiator) => initiator.read(first),
      (initiator) => {
        initiator.write(payloads[0]);
        initiator.write(payloads[0]);
      },
      (initiator) => initiator.finish(),
    ];
    for (const wrong of wrongTurns) {
      const initiator = side("initiator", psk);
      assert.throws(() => wrong(initiator), handshakeFailed);
      assert.throws(() => initiator.write(payloads[0]), handshakeFailed);
      assert.throws(() => initiator.read(first), handshakeFailed);
    }
    const responder = side("responder", psk);
    assert.throws(() => responder.write(payloads[0]), handshakeFailed);
    assert.throws(() => responder.read(first), handshakeFailed);
  });

  test(`2.4 ${pattern}: a handshake becomes one transport and no second`, () => {
    const { initiator, responder } = sides(psk);
    responder.read(initiator.write(payloads[0]));
    initiator.read(responder.write(payloads[1]));
    assert.deepEqual(initiator.remoteKey, keyPairOf(filled(0x22)).publicKey);
    assert.equal(initiator.next, "write");
    responder.read(initiator.write(payloads[2]));
    assert.equal(initiator.next, "finished");
    assert.equal(responder.next, "finished");
    initiator.finish();
    assert.throws(() => initiator.finish(), handshakeFailed);
    assert.throws(() => initiator.write(payloads[0]), handshakeFailed);
  });

  test(`2.7 ${pattern}: a message of ${handshakeBytesMax} bytes passes, one more does not, either way`, () => {
    const overhead = messagesOf(psk)[0]?.byteLength ?? 0;
    const fits = handshakeBytesMax - (overhead - payloads[0].byteLength);
    const { initiator, responder } = sides(psk);
    const largest = initiator.write(filled(1, fits));
    assert.equal(largest.byteLength, handshakeBytesMax);
    assert.deepEqual(responder.read(largest), filled(1, fits));

    const writer = side("initiator", psk);
    assert.throws(() => writer.write(filled(1, fits + 1)), handshakeFailed);
    const reader = side("responder", psk);
    assert.throws(() => reader.read(filled(1, handshakeBytesMax + 1)), handshakeFailed);
    assert.throws(() => reader.read(largest), handshakeFailed);
  });

  test(`2.10 ${pattern}: another prologue or role on one side is refused`, () => {
    const initiator = side("initiator", psk, { prologue: utf8("syncrelay/2") });
    const responder = side("responder", psk);
    assert.throws(() => {
      responder.read(initiator.write(payloads[0]));
      initiator.read(responder.write(payloads[1]));
    }, handshakeFailed);
    const one = side("initiator", psk);
    const other = side("initiator", psk);
    one.write(payloads[0]);
    assert.throws(() => one.read(other.write(payloads[0])), handshakeFailed);
  });

  test(`SECURITY Keys: ${pattern}: what is handed in is not modified, and what comes out is plain and shares no memory with it`, () => {
    const keyPair = keyPairOf(filled(0x11));
    const inputs = {
      publicKey: copyBytes(keyPair.publicKey),
      secretKey: copyBytes(keyPair.secretKey),
      prologue: copyBytes(prologue),
      ephemeralSecret: filled(0x33),
      ...(psk === undefined ? {} : { psk: copyBytes(psk) }),
    };
    const before = structuredClone(inputs);
    const initiator = new Handshake({ ...inputs, role: "initiator", keyPair: inputs });
    const responder = side("responder", psk);
    const given: [Uint8Array, Uint8Array][] = [];
    const results: (Uint8Array | undefined)[] = [keyPair.publicKey, keyPair.secretKey];
    for (const i of [0, 1, 2]) {
      const [writer, reader] = i === 1 ? [responder, initiator] : [initiator, responder];
      const payload = copyBytes(payloads[i] as Uint8Array);
      const message = writer.write(payload);
      given.push([payload, copyBytes(payload)], [message, copyBytes(message)]);
      results.push(message, reader.read(message), reader.remoteKey);
    }
    for (const transport of [initiator.finish(), responder.finish()]) {
      results.push(transport.remoteKey, transport.handshakeHash);
      results.push(transport.encrypt(payloads[0]));
    }
    assert.deepEqual(inputs, before);
    for (const [now, then] of given) assert.deepEqual(now, then);
    for (const result of results) {
      if (result === undefined) continue;
      assert.equal(Object.getPrototypeOf(result), Uint8Array.prototype);
      // Not a view into a pool that other data shares.
      assert.equal(result.buffer.byteLength, result.byteLength);
    }
  });

  test(`SECURITY Keys: ${pattern}: a failed handshake wipes its keys, a finished one the library's copies`, () => {
    for (const fails of [true, false]) {
      const captured: Noise[] = [];
      const original = Noise.prototype.initialise;
      const capture = mock.method(
        Noise.prototype,
        "initialise",
        function (this: Noise, bytes: Uint8Array) {
          captured.push(this);
          original.call(this, bytes);
        },
      );
      const { initiator, responder } = sides(psk);
      capture.mock.restore();
      const noise = captured[0] as Noise;
      responder.read(initiator.write(payloads[0]));
      initiator.read(responder.write(payloads[1]));
      const secrets = [noise.s.secretKey, noise.e?.secretKey, noise.key, noise.chainingKey];
      if (psk !== undefined) secrets.push(noise.psk);
      for (const secret of secrets) assert.notDeepEqual(secret, filled(0, secret?.byteLength));
      if (fails) {
        assert.throws(() => initiator.read(payloads[0]), handshakeFailed);
      } else {
        responder.read(initiator.write(payloads[2]));
        secrets.push(noise.tx, noise.rx);
        initiator.finish();
      }
      // The key and chaining key of before message 3 were replaced, not kept, where it went on.
      const wiped = fails ? secrets : secrets.filter((_, i) => i !== 2 && i !== 3);
      for (const secret of wiped) {
        assert.ok(secret?.every((byte) => byte === 0));
      }
    }
  });
}

test("SECURITY Pairing: a psk that is not exactly 32 bytes is refused before anything is sent", () => {
  for (const length of [0, 1, 16, 31, 33, 64]) {
    assert.throws(() => side("initiator", filled(1, length)), RangeError);
  }
});

test("SECURITY Pairing: XX and XXpsk0 do not meet, nor do two psks", () => {
  for (const [a, b] of [
    [undefined, filled(1)],
    [filled(1), undefined],
    [filled(1), filled(2)],
    [filled(0), filled(1)],
  ]) {
    const initiator = side("initiator", a);
    const responder = side("responder", b);
    assert.throws(() => {
      responder.read(initiator.write(payloads[0]));
      initiator.read(responder.write(payloads[1]));
    }, handshakeFailed);
  }
});

test("2.4 keys of a wrong length are refused when the handshake is made", () => {
  for (const length of [0, 31, 33]) {
    assert.throws(() => keyPairOf(filled(1, length)), RangeError);
    const good = keyPairOf(filled(1));
    for (const keyPair of [
      { ...good, publicKey: filled(1, length) },
      { ...good, secretKey: filled(1, length) },
    ]) {
      assert.throws(() => side("initiator", undefined, { keyPair }), RangeError);
    }
    assert.throws(
      () => side("initiator", undefined, { ephemeralSecret: filled(1, length) }),
      RangeError,
    );
  }
});

test("2.4 a handshake draws a fresh ephemeral key unless one is given", () => {
  const messages = [0, 1].map(() => {
    const initiator = new Handshake({
      role: "initiator",
      keyPair: keyPairOf(filled(0x11)),
      prologue,
    });
    return initiator.write(payloads[0]).subarray(0, 32);
  });
  assert.notDeepEqual(messages[0], messages[1]);
});

/** Every encoding of a point of small order on Curve25519 and its twist; bit 255 is ignored (RFC 7748, section 5). */
const smallOrderPoints = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
].flatMap((text) => {
  const high = fromHex(text);
  high[31] = (high[31] as number) | 0x80;
  return [fromHex(text), high];
});

for (const zeroResult of [false, true]) {
  const by = zeroResult ? "where the library's curve returns zero" : "by the library in use";

  test(`2.9 remote keys of small order are refused in every place, ${by}`, () => {
    const original = curve.dh;
    // What `sodium-javascript` does in browsers: the zero result instead of an exception.
    const substitute = mock.method(
      curve,
      "dh",
      (publicKey: Uint8Array, pair: { publicKey: Uint8Array; secretKey: Uint8Array }) =>
        zeroResult && smallOrderPoints.some((point) => Buffer.compare(point, publicKey) === 0)
          ? new Uint8Array(32)
          : original(publicKey, pair),
    );
    try {
      for (const point of smallOrderPoints) {
        assert.throws(() => checkedCurve.dh(point, keyPairOf(filled(0x11))));

        // As the initiator's ephemeral key.
        const responder = side("responder");
        responder.read(point);
        assert.throws(() => responder.write(payloads[1]), handshakeFailed);

        // As the responder's ephemeral key.
        const initiator = side("initiator");
        initiator.write(payloads[0]);
        const second = copyBytes(messagesOf(undefined)[1] as Uint8Array);
        second.set(point);
        assert.throws(() => initiator.read(second), handshakeFailed);

        // As a static key, by a peer whose messages are otherwise right.
        const keyPair = { publicKey: point, secretKey: filled(0x22) };
        const toLiar = side("initiator");
        const liar = side("responder", undefined, { keyPair });
        liar.read(toLiar.write(payloads[0]));
        assert.throws(() => toLiar.read(liar.write(payloads[1])), handshakeFailed);

        const victim = side("responder");
        const other = side("initiator", undefined, { keyPair });
        victim.read(other.write(payloads[0]));
        other.read(victim.write(payloads[1]));
        assert.throws(() => victim.read(other.write(payloads[2])), handshakeFailed);
      }
    } finally {
      substitute.mock.restore();
    }
  });
}

test("2.9 the checked curve refuses a zero result, and passes any other on", () => {
  const pair = keyPairOf(filled(0x11));
  const results = [new Uint8Array(32), filled(1)];
  const substitute = mock.method(curve, "dh", () => results.shift() as Uint8Array);
  try {
    assert.throws(() => checkedCurve.dh(filled(9), pair), handshakeFailed);
    assert.deepEqual(checkedCurve.dh(filled(9), pair), filled(1));
  } finally {
    substitute.mock.restore();
  }
});

test("2.4 both sides bind to the same channel and to no other", () => {
  const one = channel();
  assert.deepEqual(one.device.handshakeHash, one.relay.handshakeHash);
  assert.notDeepEqual(channel(filled(1)).device.handshakeHash, one.device.handshakeHash);
});
