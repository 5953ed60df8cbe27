/** BLAKE2b-256 (RFC 7693): the hash of links, control heads, entries and objects. */
import sodium from "sodium-universal";

/** Bytes of a hash. */
export const hashBytes = 32;

/** BLAKE2b-256 over the parts, one after another. 32 bytes. */
export function blake2b256(...parts: readonly Uint8Array[]): Uint8Array {
  const output = new Uint8Array(hashBytes);
  sodium.crypto_generichash_batch(output, parts);
  return output;
}
