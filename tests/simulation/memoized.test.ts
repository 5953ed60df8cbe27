import assert from "node:assert/strict";
import { test } from "node:test";
import { sodium as native } from "../../wire/libsodium.ts";
import { sodium } from "./memoized-sodium.ts";

test("a signature that was remembered holds for its key and message, and for no other", () => {
  if (sodium === undefined || native === undefined) assert.fail("there is no libsodium here");
  const { crypto_sign_verify_detached: verify } = sodium;
  const seed = new Uint8Array(32).fill(7);
  const [publicKey, secretKey] = [new Uint8Array(32), new Uint8Array(64)];
  native.crypto_sign_seed_keypair(publicKey, secretKey, seed);
  const message = new Uint8Array([1, 2, 3]);
  const signature = new Uint8Array(64);
  native.crypto_sign_detached(signature, message, secretKey);
  const holds = (
    key: Uint8Array = publicKey,
    said: Uint8Array = message,
    by: Uint8Array = signature,
  ): boolean => verify(by, said, key);
  assert.equal(holds(), true);
  assert.equal(holds(), true);
  const changed = (bytes: Uint8Array): Uint8Array => {
    const other = new Uint8Array(bytes);
    other[1] = (other[1] ?? 0) ^ 1;
    return other;
  };
  assert.equal(holds(changed(publicKey)), false);
  assert.equal(holds(publicKey, changed(message)), false);
  assert.equal(holds(publicKey, message, changed(signature)), false);
  // What it was given may be written over.
  message[0] = 9;
  assert.equal(holds(), false);
  message[0] = 1;
  assert.equal(holds(), true);
});
