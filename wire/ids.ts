/**
 * Ids and what is derived from them on both ends. As text an id is base64url
 * without padding; as a map key it is that text.
 */
import { fromBase64url, toBase64url, utf8 } from "./bytes.ts";
import { blake2b256 } from "./hash.ts";

/** A device: its X25519 public key. */
export const deviceIdBytes = 32;
/** A group: random. */
export const groupIdBytes = 32;
/** A blob: random. */
export const blobIdBytes = 16;
/** A log: random, drawn anew when its store is restored. */
export const logIdBytes = 16;
/** A link. */
export const linkBytes = 32;
/** An Ed25519 signature. */
export const signatureBytes = 64;
/** A group invite. */
export const groupInviteBytes = 16;
/** A pairing mailbox. */
export const rendezvousIdBytes = 5;

/** The link before the first blob, and the control head before the founding. */
export const zeroLink: Uint8Array = new Uint8Array(linkBytes);

/** An id or key as text. */
export function idText(id: Uint8Array): string {
  return toBase64url(id);
}

/** Reads an id of a known length from its text; undefined where it is none. */
export function parseId(text: string, length: number): Uint8Array | undefined {
  // Four characters hold three bytes: what is longer or shorter is not read at all.
  if (text.length !== Math.ceil((length * 4) / 3)) return undefined;
  const bytes = fromBase64url(text);
  return bytes?.byteLength === length ? bytes : undefined;
}

/**
 * What people compare and what a refusal shows: the first 10 bytes of the key's
 * hash, in five groups of four hexadecimal digits.
 */
export function fingerprint(key: Uint8Array): string {
  const digits = Array.from(blake2b256(fingerprintLabel, key).subarray(0, 10), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  return digits.replace(/(.{4})(?=.)/g, "$1 ");
}

const fingerprintLabel = utf8("syncrelay/1 fingerprint");
const linkLabel = utf8("syncrelay/1 link");

/**
 * The link of a blob: H(label ‖ group ‖ sender ‖ blob id ‖ header bytes). Both
 * ends derive it; it never travels with the blob.
 */
export function blobLink(
  groupId: Uint8Array,
  sender: Uint8Array,
  blobId: Uint8Array,
  header: Uint8Array,
): Uint8Array {
  return blake2b256(linkLabel, groupId, sender, blobId, header);
}
