/**
 * Bounds, checked before anything is believed: what a peer sends is decoded and
 * measured here, and what does not fit becomes one `SyncError`.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { nameBytesMax } from "../../wire/limits.ts";
import { decodePart } from "../../wire/message-shape.ts";

/** The most a sequence number, epoch, count or time may be: 2^53 - 1. */
const safeMax = BigInt(Number.MAX_SAFE_INTEGER);

/** History that does not hold: the one code of this room for what was altered or made wrongly. */
export function altered(cause?: unknown): SyncError {
  return new SyncError(ErrorCode.HISTORY_ALTERED, { cause });
}

/** A message of at most `bytesMax`, decoded. Throws `code`, whatever is wrong with the bytes. */
export function decodeMessage<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
  bytesMax: number,
  code: ErrorCode,
): MessageShape<Desc> {
  if (bytes.byteLength > bytesMax) throw new SyncError(code);
  try {
    return decodePart(schema, bytes);
  } catch (cause) {
    throw new SyncError(code, { cause });
  }
}

/** A 64-bit number from a message as an ordinary one; undefined where it is below `min` or above 2^53 - 1. */
export function safeNumber(value: bigint, min: number): number | undefined {
  if (value > safeMax) return undefined;
  const number = Number(value);
  return number < min ? undefined : number;
}

/** Whether a text is a name: 1 to 64 bytes of UTF-8. */
export function isName(name: string): boolean {
  // A code unit is at least one byte, so a text longer than the bound need not be encoded.
  if (name.length === 0 || name.length > nameBytesMax) return false;
  return utf8(name).byteLength <= nameBytesMax;
}

/** Whether a text takes at most so many bytes of UTF-8. */
export function fitsUtf8(text: string, bytesMax: number): boolean {
  // A code unit takes at most three bytes, so most texts need not be encoded.
  if (text.length * 3 <= bytesMax) return true;
  return text.length <= bytesMax && utf8(text).byteLength <= bytesMax;
}
