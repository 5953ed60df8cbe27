/**
 * Small operations on byte arrays that every room needs. Text forms come from
 * `@scure/base`; nothing here allocates more than its result.
 */
import { base64urlnopad, hex } from "@scure/base";

/** No bytes. */
export const emptyBytes: Uint8Array = new Uint8Array(0);

/** The parts, one after another, in a new array. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.byteLength;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.byteLength;
  }
  return whole;
}

/** A copy that shares no memory with the original. */
export function copyBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}

/**
 * Whether two arrays hold the same bytes. Takes the same time wherever they
 * differ; only their lengths, which are never secret here, end it early, and that
 * both are one array.
 */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  // Asked for once: it is a call where arrays of several kinds come by.
  const { byteLength } = a;
  if (byteLength !== b.byteLength) return false;
  let difference = 0;
  let i = 0;
  for (const strides = byteLength - 3; i < strides; i += 4) {
    difference |=
      ((a[i] as number) ^ (b[i] as number)) |
      ((a[i + 1] as number) ^ (b[i + 1] as number)) |
      ((a[i + 2] as number) ^ (b[i + 2] as number)) |
      ((a[i + 3] as number) ^ (b[i + 3] as number));
  }
  for (; i < byteLength; i++) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}

/** Whether every byte is zero. Takes the same time whatever the bytes are. */
export function isZero(bytes: Uint8Array): boolean {
  const { byteLength } = bytes;
  let any = 0;
  for (let i = 0; i < byteLength; i++) any |= bytes[i] as number;
  return any === 0;
}

/** Orders two arrays as unsigned bytes, the shorter first where one begins the other. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.byteLength, b.byteLength);
  for (let i = 0; i < shared; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.byteLength - b.byteLength;
}

const digits = Array.from(
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
  (digit) => digit.charCodeAt(0),
);
const shortBytesMax = 48;

/** Base64url without padding: the text form of ids and keys. */
export function toBase64url(bytes: Uint8Array): string {
  const { byteLength } = bytes;
  if (byteLength > shortBytesMax) return base64urlnopad.encode(bytes);
  // An id: every entry has one, and the library takes ten times as long.
  const codes: number[] = [];
  for (let at = 0; at < byteLength; at += 3) {
    const three =
      ((bytes[at] as number) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    codes.push(digits[three >>> 18] as number, digits[(three >>> 12) & 63] as number);
    if (at + 1 < byteLength) codes.push(digits[(three >>> 6) & 63] as number);
    if (at + 2 < byteLength) codes.push(digits[three & 63] as number);
  }
  return String.fromCharCode(...codes);
}

/** Reads base64url without padding; undefined where the text is anything else. */
export function fromBase64url(text: string): Uint8Array | undefined {
  try {
    return base64urlnopad.decode(text);
  } catch {
    // The library's text would quote the input, which may be a secret.
    return undefined;
  }
}

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  return hex.encode(bytes);
}

/** Reads hexadecimal. Throws where the text is anything else: for vectors, not for input. */
export function fromHex(text: string): Uint8Array {
  return hex.decode(text);
}

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", {
  fatal: true,
  // Without it a leading byte order mark would vanish, and two byte strings read as one text.
  ignoreBOM: true,
});

/** The UTF-8 bytes of a text. */
export function utf8(text: string): Uint8Array {
  return utf8Encoder.encode(text);
}

/** Reads UTF-8; undefined where the bytes are anything else. */
export function fromUtf8(bytes: Uint8Array): string | undefined {
  try {
    return utf8Decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * An unsigned 64-bit number, big-endian: the form in which numbers are hashed and
 * authenticated. Refuses what two numbers could share a form with.
 */
export function u64be(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError("not an unsigned integer");
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}
