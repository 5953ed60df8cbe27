/** BLAKE2b-256 (RFC 7693): the hash of links, control heads, entries and objects. */
import { blake2b } from "@noble/hashes/blake2.js";
import { equalBytes } from "./bytes.ts";
import { sodium } from "./libsodium.ts";
import { wasmBlake2b256 } from "./wasm-hash.ts";

/** Bytes of a hash. */
export const hashBytes = 32;

/**
 * Parts of at most so many bytes together are joined before they are hashed:
 * copying a few hundred bytes costs less than a native call for each part.
 */
const joinedBytesMax = 1_024;
// The native library makes a small array that it writes to pinned memory of its
// own, which the collector then has to free: so it writes to one array, always.
const scratch = new Uint8Array(joinedBytesMax + hashBytes);
const output = scratch.subarray(joinedBytesMax);
const joinedOf: (Uint8Array | undefined)[] = [];

/** BLAKE2b-256 over the parts, one after another. 32 bytes. */
export function blake2b256(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(hashed(parts));
}

/** Whether the bytes have that BLAKE2b-256: the same, without an array for what is only compared. */
export function hasBlake2b256(bytes: Uint8Array, hash: Uint8Array): boolean {
  return equalBytes(hashed([bytes]), hash);
}

/** The hash, in an array that the next one overwrites. */
function hashed(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.byteLength;
  if (length <= joinedBytesMax) {
    let offset = 0;
    for (const part of parts) {
      scratch.set(part, offset);
      offset += part.byteLength;
    }
    // Nearly all are links, of a few lengths: a view of each is made once.
    const joined = (joinedOf[length] ??= scratch.subarray(0, length));
    if (sodium === undefined)
      return wasmBlake2b256?.([joined]) ?? blake2b(joined, { dkLen: hashBytes });
    sodium.crypto_generichash(output, joined);
  } else if (sodium === undefined) {
    return wasmBlake2b256?.(parts) ?? hashParts(parts);
  } else {
    sodium.crypto_generichash_batch(output, parts);
  }
  return output;
}

function hashParts(parts: readonly Uint8Array[]): Uint8Array {
  const hash = portableBlake2b256();
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** BLAKE2b-256 of content that comes piece by piece, however long it is. */
export interface StreamingHash {
  /** Takes the next piece of what is hashed. */
  update(piece: Uint8Array): void;
  /** The hash, 32 bytes. Nothing can follow. */
  digest(): Uint8Array;
}

/** Begins such a hash: by libsodium where there is one. */
export function streamingBlake2b256(): StreamingHash {
  const native = sodium;
  if (native === undefined) return portableBlake2b256();
  const state = new Uint8Array(native.crypto_generichash_STATEBYTES);
  native.crypto_generichash_init(state, null, hashBytes);
  return {
    update: (piece) => native.crypto_generichash_update(state, piece),
    digest: () => {
      native.crypto_generichash_final(state, output);
      return new Uint8Array(output);
    },
  };
}

/** The same in JavaScript: for pages. */
export function portableBlake2b256(): StreamingHash {
  const hash = blake2b.create({ dkLen: hashBytes });
  return {
    update: (piece) => {
      hash.update(piece);
    },
    digest: () => hash.digest(),
  };
}
