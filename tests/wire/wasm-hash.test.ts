/** The hash of a page's WebAssembly is the hash of everything else. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { blake2b256, portableBlake2b256 } from "../../wire/hash.ts";
import { loadWasmHash, wasmBlake2b256 } from "../../wire/wasm-hash.ts";

/** What is loaded by now. */
const loaded = (): typeof wasmBlake2b256 => wasmBlake2b256;

test("BLAKE2b-256 in WebAssembly gives the bytes that libsodium and JavaScript give", async () => {
  assert.equal(loaded(), undefined);
  assert.equal(await loadWasmHash(), true);
  const lengths = [0, 1, 127, 128, 129, 1_024, 32_767, 32_768, 32_769, 100_000];
  for (const length of lengths) {
    const parts = [length, 40].map((size) => new Uint8Array(randomBytes(size)));
    const portable = portableBlake2b256();
    for (const part of parts) portable.update(part);
    const hash = loaded()?.(parts);
    assert.deepEqual(hash, blake2b256(...parts));
    assert.deepEqual(hash, portable.digest());
  }
  // What was given out is not written to again.
  const first = loaded()?.([Uint8Array.of(1)]);
  loaded()?.([Uint8Array.of(2)]);
  assert.deepEqual(first, blake2b256(Uint8Array.of(1)));
});
