import assert from "node:assert/strict";
import { test } from "node:test";
import { concatBytes, copyBytes } from "../../wire/bytes.ts";
import { chacha, portableChaCha } from "../../wire/chacha.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { noiseMessageBytesMax, noisePlaintextBytesMax } from "../../wire/limits.ts";
import { openOwnRecord, openRecord, sealRecord } from "../../wire/records.ts";
import { channel, filled, recordInvalid, syncError } from "./support.ts";

const plenty = 1 << 20;
const counted = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + 1);

test("3.1 a record is a run of Noise messages of 65,535 bytes each but the last", () => {
  const sizes: [plaintext: number, record: number][] = [
    [1, 17],
    [255, 271],
    [65_518, 65_534],
    [65_519, 65_535],
    [65_520, 65_552],
    [131_037, 131_069],
    [131_038, 131_070],
    [131_039, 131_087],
    [500_000, 500_128],
  ];
  const { device, relay } = channel();
  for (const [plaintextBytes, recordBytes] of sizes) {
    const plaintext = counted(plaintextBytes);
    const record = sealRecord(device, plaintext);
    assert.equal(record.byteLength, recordBytes);
    assert.deepEqual(openRecord(relay, record, recordBytes), plaintext);
  }
});

test("3.1 a record's messages are those of the channel, one after another", () => {
  const { device } = channel();
  const { relay } = channel();
  const record = sealRecord(device, counted(noisePlaintextBytesMax + 5));
  const first = relay.decrypt(record.subarray(0, noiseMessageBytesMax));
  const second = relay.decrypt(record.subarray(noiseMessageBytesMax));
  assert.deepEqual(concatBytes(first, second), counted(noisePlaintextBytesMax + 5));
});

test("3.1 an empty plaintext makes no record", () => {
  assert.throws(() => sealRecord(channel().device, filled(0, 0)), RangeError);
});

test("3.3 a record of the limit passes, one byte more is TOO_LARGE", () => {
  const { device, relay } = channel();
  const record = sealRecord(device, counted(1000));
  assert.throws(
    () => openRecord(relay, record, record.byteLength - 1),
    syncError(ErrorCode.TOO_LARGE),
  );
  assert.deepEqual(openRecord(relay, record, record.byteLength), counted(1000));
});

test("3.1 a record of 0 to 16 bytes is RECORD_INVALID", () => {
  for (let length = 0; length <= 16; length++) {
    assert.throws(() => openRecord(channel().relay, filled(0, length), plenty), recordInvalid);
  }
  // An empty message is authentic, and still no record.
  const { device, relay } = channel();
  assert.throws(() => openRecord(relay, device.encrypt(filled(0, 0)), plenty), recordInvalid);
});

test("3.1 a last message that carries nothing, or is no message, is RECORD_INVALID before anything is opened", () => {
  for (let tail = 1; tail <= 16; tail++) {
    const { device, relay } = channel();
    const full = sealRecord(device, counted(noisePlaintextBytesMax));
    const empty = device.encrypt(filled(0, 0));
    const record = concatBytes(full, empty.subarray(0, tail));
    assert.throws(() => openRecord(relay, record, plenty), recordInvalid);
    // Refused by its length alone, so the channel itself still stands.
    assert.deepEqual(openRecord(relay, full, plenty), counted(noisePlaintextBytesMax));
  }
});

test("3.1 messages shorter than 65,535 bytes before the last are refused", () => {
  const { device, relay } = channel();
  const record = concatBytes(device.encrypt(counted(100)), device.encrypt(counted(100)));
  assert.throws(() => openRecord(relay, record, plenty), recordInvalid);
});

test("3.1 an altered, cut, repeated or reordered record ends the channel", () => {
  const alterations: ((record: Uint8Array, next: Uint8Array) => Uint8Array[])[] = [
    (record) => [record.subarray(1)],
    (record) => [record.subarray(0, -1)],
    (record) => [record.subarray(0, noiseMessageBytesMax), record],
    (record) => [record.subarray(noiseMessageBytesMax)],
    (record) => [record, record],
    (_, next) => [next],
    (record, next) => [concatBytes(record, next)],
    ...[0, 40_000, noiseMessageBytesMax, 70_000].map((offset) => (record: Uint8Array) => {
      const altered = copyBytes(record);
      altered[offset] = (altered[offset] as number) ^ 0x40;
      return [altered];
    }),
  ];
  for (const alter of alterations) {
    const { device, relay } = channel();
    const record = sealRecord(device, counted(noisePlaintextBytesMax + 9000));
    const next = sealRecord(device, counted(10));
    const received = alter(record, next);
    for (const one of received.slice(0, -1)) openRecord(relay, one, plenty);
    assert.throws(() => openRecord(relay, received.at(-1) as Uint8Array, plenty), recordInvalid);
    assert.throws(() => openRecord(relay, next, plenty), recordInvalid);
    assert.throws(() => sealRecord(relay, counted(1)), recordInvalid);
  }
});

test("3.1 who owns a record opens it where it lies, to the same plaintext and with the same refusals", () => {
  for (const length of [1, 300, noisePlaintextBytesMax, noisePlaintextBytesMax + 1, 200_000]) {
    const { device, relay } = channel();
    const record = sealRecord(device, counted(length));
    // As it comes from a socket: in the midst of other bytes, which stay what they are.
    const read = concatBytes(filled(9, 5), record, filled(9, 5));
    const own = openOwnRecord(relay, read.subarray(5, 5 + record.byteLength), plenty);
    assert.deepEqual(own, counted(length));
    assert.deepEqual(read.subarray(0, 5), filled(9, 5));
    assert.deepEqual(read.subarray(5 + record.byteLength), filled(9, 5));
    assert.equal(own.buffer === read.buffer, length <= noisePlaintextBytesMax);
  }
  for (const wrong of [0, 16, 17, 300]) {
    const { relay } = channel();
    assert.throws(() => openOwnRecord(relay, filled(3, wrong), plenty), recordInvalid);
  }
  const { device, relay } = channel();
  const record = sealRecord(device, counted(100));
  assert.throws(() => openOwnRecord(relay, record, 50), syncError(ErrorCode.TOO_LARGE));
});

test("3.1 both ciphers open a message where it lies", () => {
  const key = filled(1, 32);
  const nonce = filled(2, 12);
  for (const length of [1, 64, 65, 256, 4_096, 65_519]) {
    const sealed = new Uint8Array(length + 16);
    portableChaCha.seal(key, nonce, counted(length), sealed);
    for (const cipher of [chacha, portableChaCha]) {
      const memory = copyBytes(sealed);
      cipher.open(key, nonce, memory, memory.subarray(0, length));
      assert.deepEqual(memory.subarray(0, length), counted(length));
      const altered = copyBytes(sealed);
      altered[0] = (altered[0] as number) ^ 1;
      assert.throws(() => cipher.open(key, nonce, altered, altered.subarray(0, length)));
    }
  }
});

test("3.3 records leave what they are given as it was", () => {
  const { device, relay } = channel();
  const plaintext = counted(70_000);
  const record = sealRecord(device, plaintext);
  const before = copyBytes(record);
  const opened = openRecord(relay, record, plenty);
  assert.deepEqual(plaintext, counted(70_000));
  assert.deepEqual(record, before);
  assert.equal(Object.getPrototypeOf(opened), Uint8Array.prototype);
});
