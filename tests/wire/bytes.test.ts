import assert from "node:assert/strict";
import { test } from "node:test";
import { blake2b } from "@noble/hashes/blake2.js";
import { base64urlnopad } from "@scure/base";
import fc from "fast-check";
import {
  compareBytes,
  concatBytes,
  copyBytes,
  equalBytes,
  fromHex,
  isZero,
  toBase64url,
  toHex,
  u64be,
} from "../../wire/bytes.ts";
import { blake2b256, portableBlake2b256, streamingBlake2b256 } from "../../wire/hash.ts";
import { filled } from "./support.ts";

const bytes = fc.uint8Array({ maxLength: 40 });

test("bytes: one byte that differs is seen wherever it stands", () => {
  for (let length = 1; length <= 40; length++) {
    for (let at = 0; at < length; at++) {
      const a = filled(7, length);
      const b = copyBytes(a);
      b[at] = 8;
      assert.equal(equalBytes(a, b), false, `${at} of ${length}`);
    }
  }
});

test("bytes: comparing, joining and copying agree with Node's own", () => {
  fc.assert(
    fc.property(bytes, bytes, (a, b) => {
      assert.equal(Math.sign(compareBytes(a, b)), Buffer.compare(a, b));
      assert.equal(equalBytes(a, b), Buffer.compare(a, b) === 0);
      assert.ok(equalBytes(a, copyBytes(a)));
      assert.deepEqual(concatBytes(a, b), new Uint8Array(Buffer.concat([a, b])));
      assert.equal(toHex(a), Buffer.from(a).toString("hex"));
      assert.deepEqual(fromHex(toHex(a)), a);
      assert.equal(
        isZero(a),
        a.every((byte) => byte === 0),
      );
    }),
  );
  assert.ok(isZero(filled(0)));
});

test("bytes: a copy is plain and shares nothing, of a Buffer too", () => {
  const buffer = Buffer.from([1, 2, 3]);
  const copy = copyBytes(buffer);
  buffer[0] = 9;
  assert.deepEqual(copy, Uint8Array.of(1, 2, 3));
  assert.equal(Object.getPrototypeOf(copy), Uint8Array.prototype);
  for (const result of [concatBytes(buffer), fromHex("0102"), blake2b256(buffer), u64be(1)]) {
    assert.equal(Object.getPrototypeOf(result), Uint8Array.prototype);
  }
});

test("SECURITY A blob: numbers are authenticated as 64 bits, big-endian, each in a form of its own", () => {
  assert.equal(toHex(u64be(0)), "0000000000000000");
  assert.equal(toHex(u64be(258)), "0000000000000102");
  assert.equal(toHex(u64be(2 ** 53 - 1)), "001fffffffffffff");
  for (const value of [-1, 0.5, 2 ** 53, Number.NaN, Infinity]) {
    assert.throws(() => u64be(value), RangeError);
  }
});

test("SECURITY A blob: the hash is BLAKE2b with 32 bytes, over the parts joined", () => {
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 5 }), (parts) => {
      const expected = new Uint8Array(blake2b(concatBytes(...parts), { dkLen: 32 }));
      assert.deepEqual(blake2b256(...parts), expected);
    }),
  );
  for (const lengths of [
    [1022],
    [1024],
    [1025],
    [1000, 24],
    [1000, 25],
    [0, 5000, 0],
    [1, 1, 1022],
  ]) {
    const parts = lengths.map((length, i) => filled(i + 1, length));
    const before = blake2b256(...parts);
    assert.deepEqual(before, new Uint8Array(blake2b(concatBytes(...parts), { dkLen: 32 })));
    // A result stays what it was when the next is made.
    const copy = copyBytes(before);
    blake2b256(filled(9, 100));
    assert.deepEqual(before, copy);
  }
});

test("hash: piece by piece it is the same hash, by either library", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 3_000 }), { maxLength: 6 }), (pieces) => {
      const whole = blake2b256(...pieces);
      for (const hash of [streamingBlake2b256(), portableBlake2b256()]) {
        for (const piece of pieces) hash.update(piece);
        assert.deepEqual(hash.digest(), whole);
      }
    }),
  );
});

test("short base64url is what the library writes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (some) => {
      assert.equal(toBase64url(some), base64urlnopad.encode(some));
    }),
  );
});
