/** What seals in a page gives the bytes that libsodium gives, and refuses what it refuses. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import {
  portableXChaCha,
  signEd25519,
  signingKeyPair,
  sodiumXChaCha,
  verifyEd25519,
  verifyPortably,
} from "../../client/seal/primitives.ts";
import { portableChaCha, sodiumChaCha } from "../../wire/chacha.ts";
import { sodium } from "../../wire/libsodium.ts";
import { sodium as pageSodium } from "../../wire/libsodium-page.ts";

const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

test("Node has the native library, and a page has none", () => {
  assert.ok(sodium);
  assert.equal(pageSodium, undefined);
});

assert.ok(sodium);
const nativeChaCha = sodiumChaCha(sodium);
const nativeXChaCha = sodiumXChaCha(sodium);

for (const length of [0, 1, 63, 64, 65, 1_000, 65_519]) {
  test(`ChaCha20-Poly1305 and XChaCha20-Poly1305 of ${length} bytes are the same in JavaScript`, () => {
    const [key, nonce, plaintext, associated] = [bytes(32), bytes(24), bytes(length), bytes(20)];
    const [ours, theirs] = [new Uint8Array(length + 16), new Uint8Array(length + 16)];
    const opened = new Uint8Array(length);
    portableChaCha.seal(key, nonce.subarray(12), plaintext, ours);
    nativeChaCha.seal(key, nonce.subarray(12), plaintext, theirs);
    assert.deepEqual(ours, theirs);
    portableChaCha.open(key, nonce.subarray(12), theirs, opened);
    assert.deepEqual(opened, plaintext);
    portableXChaCha.seal(key, nonce, associated, plaintext, ours);
    nativeXChaCha.seal(key, nonce, associated, plaintext, theirs);
    assert.deepEqual(ours, theirs);
    portableXChaCha.open(key, nonce, associated, theirs, opened.fill(0));
    assert.deepEqual(opened, plaintext);
    theirs[length] = (theirs[length] ?? 0) ^ 1;
    assert.throws(() => portableXChaCha.open(key, nonce, associated, theirs, opened));
    assert.throws(() => portableChaCha.open(key, nonce.subarray(12), theirs, opened));
  });
}

test("signatures are judged the same in JavaScript", () => {
  const { publicKey, secretKey } = signingKeyPair(bytes(32));
  const message = bytes(100);
  const signature = signEd25519(message, secretKey);
  assert.ok(verifyPortably(publicKey, message, signature));
  for (const at of [0, 31, 32, 63]) {
    const wrong = Uint8Array.from(signature);
    wrong[at] = (wrong[at] ?? 0) ^ 1;
    assert.equal(verifyPortably(publicKey, message, wrong), false);
  }
  // Keys of small order, and one that is no point, sign nothing for either.
  for (const key of [
    new Uint8Array(32),
    new Uint8Array(32).fill(255),
    Uint8Array.of(1, ...new Uint8Array(31)),
  ]) {
    for (const candidate of [signature, new Uint8Array(64)]) {
      assert.equal(verifyEd25519(key, message, candidate), false);
      assert.equal(verifyPortably(key, message, candidate), false);
    }
  }
});
