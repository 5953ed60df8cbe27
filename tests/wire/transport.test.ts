import assert from "node:assert/strict";
import { test } from "node:test";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { concatBytes, copyBytes } from "../../wire/bytes.ts";
import { Transport, type TransportKeys } from "../../wire/channel.ts";
import {
  noiseMessageBytesMax,
  noiseMessagesMax,
  noisePlaintextBytesMax,
  noiseTagBytes,
} from "../../wire/limits.ts";
import { channel, filled, recordInvalid } from "./support.ts";

/** A transport that talks to itself, its keys within reach. */
function loop(counts?: { sent: number; received: number }): {
  transport: Transport;
  keys: TransportKeys;
} {
  const keys = {
    sendKey: filled(0x77),
    receiveKey: filled(0x77),
    remoteKey: filled(1),
    handshakeHash: filled(2, 64),
  };
  return { transport: new Transport(keys, counts), keys };
}

function assertDead(transport: Transport, keys: TransportKeys): void {
  assert.deepEqual(keys.sendKey, filled(0));
  assert.deepEqual(keys.receiveKey, filled(0));
  assert.throws(() => transport.encrypt(filled(1)), recordInvalid);
  assert.throws(() => transport.decrypt(filled(1)), recordInvalid);
}

test("3.1 transport messages of every edge size pass", () => {
  const { device, relay } = channel();
  for (const length of [0, 1, 15, 16, 17, noisePlaintextBytesMax - 1, noisePlaintextBytesMax]) {
    const message = device.encrypt(filled(length % 256, length));
    assert.equal(message.byteLength, length + noiseTagBytes);
    assert.deepEqual(relay.decrypt(message), filled(length % 256, length));
  }
});

test("3.1 both directions count and encrypt by themselves", () => {
  const { device, relay } = channel();
  const toRelay = [1, 2, 3].map((byte) => device.encrypt(filled(byte)));
  const toDevice = [1, 2].map((byte) => relay.encrypt(filled(byte)));
  assert.notDeepEqual(toRelay[0], toDevice[0]);
  assert.deepEqual(
    toDevice.map((message) => device.decrypt(message)),
    [filled(1), filled(2)],
  );
  assert.deepEqual(
    toRelay.map((message) => relay.decrypt(message)),
    [filled(1), filled(2), filled(3)],
  );
});

test("3.1 equal plaintexts never make equal messages", () => {
  const { transport } = loop();
  const messages = new Set<string>();
  for (let i = 0; i < 300; i++) messages.add(transport.encrypt(filled(0)).join());
  assert.equal(messages.size, 300);
});

test("3.1 no altered byte of a transport message is accepted, and the keys are wiped", () => {
  const original = loop().transport.encrypt(filled(9, 40));
  for (let offset = 0; offset < original.byteLength; offset++) {
    for (const altered of [(original[offset] as number) ^ 1, 0, 0xff]) {
      if (altered === original[offset]) continue;
      const message = copyBytes(original);
      message[offset] = altered;
      const { transport, keys } = loop();
      assert.throws(() => transport.decrypt(message), recordInvalid);
      assertDead(transport, keys);
    }
  }
});

test("3.1 a cut, empty, longer, repeated, swapped or left-out message ends the channel", () => {
  const { transport: writer } = loop();
  const first = writer.encrypt(filled(1, 40));
  const second = writer.encrypt(filled(2, 40));
  const sequences: Uint8Array[][] = [
    ...Array.from({ length: first.byteLength }, (_, length) => [first.subarray(0, length)]),
    [concatBytes(first, filled(0, 1))],
    [concatBytes(first, second)],
    [filled(0, noiseMessageBytesMax)],
    [filled(0, noiseMessageBytesMax + 1)],
    [first, first],
    [first, second, first],
    [second],
    [second, first],
  ];
  for (const sequence of sequences) {
    const { transport, keys } = loop();
    for (const message of sequence.slice(0, -1)) {
      // In the swapped order the channel ends at the first already.
      if (message === second && sequence[0] === second) {
        assert.throws(() => transport.decrypt(message), recordInvalid);
      } else transport.decrypt(message);
    }
    assert.throws(() => transport.decrypt(sequence.at(-1) as Uint8Array), recordInvalid);
    assertDead(transport, keys);
  }
});

test("3.1 one direction's message is not accepted in the other", () => {
  const { device } = channel();
  assert.throws(() => device.decrypt(device.encrypt(filled(1))), recordInvalid);
});

test("3.1 a message above 65,535 bytes costs no memory", () => {
  const { transport } = loop();
  // Nothing of this size is allocated again: an array of such a length throws RangeError.
  const huge = { byteLength: Number.MAX_SAFE_INTEGER } as Uint8Array;
  assert.throws(() => transport.decrypt(huge), recordInvalid);
  assert.throws(() => loop().transport.encrypt(huge), {
    name: "RangeError",
    message: "plaintext too large",
  });
});

test("3.1 a plaintext too large, or too little room, is refused before a nonce is used", () => {
  const { transport } = loop();
  const { transport: reader } = loop();
  assert.throws(() => transport.encrypt(filled(0, noisePlaintextBytesMax + 1)), RangeError);
  assert.throws(() => transport.encryptInto(filled(1, 20), filled(0, 35), 0), RangeError);
  assert.throws(() => transport.encryptInto(filled(1, 20), filled(0, 36), 1), RangeError);
  const message = transport.encrypt(filled(1, 20));
  assert.throws(() => reader.decryptInto(message, filled(0, 19), 0), RangeError);
  assert.deepEqual(reader.decrypt(message), filled(1, 20));
});

test("3.1 messages are written and read in place, and nothing beside them", () => {
  const { device, relay } = channel();
  const room = filled(0xee, 60);
  assert.equal(device.encryptInto(filled(1, 20), room, 10), 36);
  assert.deepEqual(room.subarray(0, 10), filled(0xee, 10));
  assert.deepEqual(room.subarray(46), filled(0xee, 14));
  const message = room.slice(10, 46);
  const before = copyBytes(message);
  const output = filled(0xdd, 40);
  assert.equal(relay.decryptInto(message, output, 5), 20);
  assert.deepEqual(output, concatBytes(filled(0xdd, 5), filled(1, 20), filled(0xdd, 15)));
  assert.deepEqual(message, before);
});

test("3.1 the nonce is 4 zero bytes and the count, little-endian, in its last 31 bits too", () => {
  for (const count of [0, 1, 255, 256, 65_536, 2 ** 24, 2 ** 30, noiseMessagesMax - 1]) {
    const { transport } = loop({ sent: count, received: count });
    const message = transport.encrypt(filled(3));
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setBigUint64(4, BigInt(count), true);
    assert.deepEqual(message, chacha20poly1305(filled(0x77), nonce).encrypt(filled(3)));
    assert.deepEqual(transport.decrypt(message), filled(3));
    const { transport: other } = loop({ sent: 0, received: count === 0 ? 1 : count - 1 });
    assert.throws(() => other.decrypt(message), recordInvalid);
  }
});

test("3.11 the last nonce is used, and no message follows it, either way", () => {
  const last = loop({ sent: noiseMessagesMax - 1, received: noiseMessagesMax - 1 });
  assert.deepEqual(last.transport.decrypt(last.transport.encrypt(filled(1))), filled(1));
  assert.throws(() => last.transport.encrypt(filled(1)), recordInvalid);
  assertDead(last.transport, last.keys);

  const sender = loop({ sent: 2 ** 31, received: 0 });
  const receiver = loop({ sent: 0, received: noiseMessagesMax });
  assert.throws(() => receiver.transport.decrypt(filled(1, 48)), recordInvalid);
  assertDead(receiver.transport, receiver.keys);
  assert.throws(() => sender.transport.encrypt(filled(1)), recordInvalid);
  assertDead(sender.transport, sender.keys);
});

test("3.11 a channel is aging once half of the messages of one direction are used", () => {
  const half = noiseMessagesMax / 2;
  assert.equal(loop().transport.aging, false);
  assert.equal(loop({ sent: half - 1, received: half - 1 }).transport.aging, false);
  assert.equal(loop({ sent: half, received: 0 }).transport.aging, true);
  assert.equal(loop({ sent: 0, received: half }).transport.aging, true);
  const { transport } = loop({ sent: half - 1, received: 0 });
  transport.encrypt(filled(1));
  assert.equal(transport.aging, true);
});

test("SECURITY Keys: a closed channel has no keys left and refuses every call", () => {
  const { transport, keys } = loop();
  transport.encrypt(filled(1));
  transport.close();
  assertDead(transport, keys);
  transport.close();
  assertDead(transport, keys);
});
