/** BLAKE2b-256 (RFC 7693): the hash of links, control heads, entries and objects. */
import sodium from "sodium-universal";

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

/** BLAKE2b-256 over the parts, one after another. 32 bytes. */
export function blake2b256(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.byteLength;
  if (length <= joinedBytesMax) {
    let offset = 0;
    for (const part of parts) {
      scratch.set(part, offset);
      offset += part.byteLength;
    }
    sodium.crypto_generichash(output, scratch.subarray(0, length));
  } else {
    sodium.crypto_generichash_batch(output, parts);
  }
  return new Uint8Array(output);
}
