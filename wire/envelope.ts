/**
 * Envelopes inside a record: size-delimited protobuf, bounded before it is
 * believed. The few messages that carry the load have encoders of their own in
 * `hot-encoders.ts`, held to these by tests.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Envelope, EnvelopeSchema } from "../gen/syncrelay/sync/v1/envelope_pb.ts";
import { ErrorCode, errorMessageOf, SyncError } from "./errors.ts";
import { decodeHotEnvelope } from "./hot-decoders.ts";
import { recordItemsMax, sizePrefixBytesMax } from "./limits.ts";
import { decoding, ItemCounter } from "./message-shape.ts";

export type { Envelope };

/** What an envelope says: the schema's oneof, as it is given to `create`. */
export type EnvelopeBody = NonNullable<MessageInitShape<typeof EnvelopeSchema>["body"]>;

/** One envelope, size-delimited. Request id 0: not an answer. */
export function encodeEnvelope(requestId: number, body: EnvelopeBody): Uint8Array {
  return sizeDelimited(
    toBinary(EnvelopeSchema, create(EnvelopeSchema, { requestId: BigInt(requestId), body })),
  );
}

/** An error, as an envelope. */
export function encodeError(requestId: number, error: SyncError): Uint8Array {
  return encodeEnvelope(requestId, { case: "error", value: errorMessageOf(error) });
}

/** Bytes behind their length as a varint. */
export function sizeDelimited(bytes: Uint8Array): Uint8Array {
  let prefix = 1;
  for (let rest = bytes.byteLength; rest >= 0x80; rest = Math.floor(rest / 128)) prefix += 1;
  const whole = new Uint8Array(prefix + bytes.byteLength);
  let rest = bytes.byteLength;
  for (let i = 0; i < prefix; i++) {
    whole[i] = i === prefix - 1 ? rest : (rest % 128) + 0x80;
    rest = Math.floor(rest / 128);
  }
  whole.set(bytes, prefix);
  return whole;
}

/**
 * The envelopes of a record's plaintext, in order. Throws ENVELOPE_INVALID
 * where the bytes are not whole envelopes or hold more items than a record may,
 * or TOO_LARGE where one declares more than `envelopeBytesMax`; length and items
 * are checked before anything is decoded. Their byte fields share the
 * plaintext's memory.
 */
export function decodeEnvelopes(plaintext: Uint8Array, envelopeBytesMax: number): Envelope[] {
  let envelopes: Envelope[] | undefined;
  const items = new ItemCounter(recordItemsMax);
  let offset = 0;
  while (offset < plaintext.byteLength) {
    let length = 0;
    let weight = 1;
    for (let i = 0; ; i++) {
      const byte = plaintext[offset];
      if (byte === undefined || i === sizePrefixBytesMax) {
        throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      }
      offset += 1;
      length += (byte & 0x7f) * weight;
      weight *= 128;
      if (byte < 0x80) break;
    }
    if (length > envelopeBytesMax) throw new SyncError(ErrorCode.TOO_LARGE);
    if (offset + length > plaintext.byteLength) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    const envelope =
      decodeHotEnvelope(plaintext, items, offset, offset + length) ??
      decodeAny(plaintext.subarray(offset, offset + length), items);
    offset += length;
    // Most records hold one: a list that is made with it has no room for more.
    if (envelopes === undefined) envelopes = [envelope];
    else envelopes.push(envelope);
  }
  return envelopes ?? [];
}

function decodeAny(encoded: Uint8Array, items: ItemCounter): Envelope {
  items.count(EnvelopeSchema, encoded);
  try {
    return fromBinary(EnvelopeSchema, encoded, decoding);
  } catch (cause) {
    throw new SyncError(ErrorCode.ENVELOPE_INVALID, { cause });
  }
}

/**
 * A 64-bit number from a message as an ordinary one. Throws ENVELOPE_INVALID
 * above 2^53 - 1: no cursor, seq or size of an honest peer comes near.
 */
export function toNumber(value: bigint): number {
  // What is above becomes 2^53 or more, which is not safe; comparing big numbers costs more.
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  return number;
}
