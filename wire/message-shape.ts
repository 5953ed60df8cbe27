/**
 * Walks encoded messages before they are decoded. Two bytes of protobuf can ask
 * for an object of several hundred, so a bound in bytes does not bound memory:
 * what is counted here does. The walk allocates nothing, and is strict where the
 * decoder is lenient (a field that ends behind its message, a wire type that is
 * not the field's, groups), so that both see the same structure.
 */
import { type DescMessage, fromBinary, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { emptyBytes } from "./bytes.ts";
import { ErrorCode, SyncError } from "./errors.ts";
import { partItemsMax } from "./limits.ts";

/** What the walk must know of one field. */
interface FieldShape {
  /** Its wire type when it is written singly. */
  readonly wireType: number;
  /** Whether many of it may also stand in one length-delimited run. */
  readonly packable: boolean;
  /** Whether each one becomes an item of a list. */
  readonly list: boolean;
  /** What is inside, where it is a message. */
  readonly inside: Shape | undefined;
}

/** The fields of a message by their number. */
type Shape = readonly (FieldShape | undefined)[];

const varint = 0;
const bit64 = 1;
const lengthDelimited = 2;
const bit32 = 5;

function wireTypeOf(scalar: ScalarType): number {
  switch (scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return lengthDelimited;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return bit64;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return bit32;
    default:
      return varint;
  }
}

const shapes = new WeakMap<DescMessage, Shape>();

/** No message of the protocol contains itself, so this ends; a test holds the schema to that. */
function shapeOf(message: DescMessage): Shape {
  const made = shapes.get(message);
  if (made !== undefined) return made;
  const fields: (FieldShape | undefined)[] = [];
  for (const field of message.fields) {
    const wireType =
      field.message === undefined && field.scalar !== undefined
        ? wireTypeOf(field.scalar)
        : field.message === undefined
          ? varint
          : lengthDelimited;
    const list = field.fieldKind === "list";
    fields[field.number] = {
      wireType,
      list,
      packable: list && wireType !== lengthDelimited,
      inside: field.message === undefined ? undefined : shapeOf(field.message),
    };
  }
  shapes.set(message, fields);
  return fields;
}

/** Counts the items of messages, such as a record's envelopes, one after another. */
export class ItemCounter {
  #bytes: Uint8Array = emptyBytes;
  #offset = 0;
  #left: number;

  constructor(itemsMax: number) {
    this.#left = itemsMax;
  }

  /**
   * Walks one encoded message. Throws ENVELOPE_INVALID where its structure does
   * not hold, or where all messages so far hold more messages and list items
   * than they may.
   */
  count(schema: DescMessage, bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#offset = 0;
    this.take(1);
    this.#walk(shapeOf(schema), bytes.byteLength);
  }

  #walk(shape: Shape, end: number): void {
    while (this.#offset < end) {
      const tag = this.#number(end);
      const wireType = tag % 8;
      const number = (tag - wireType) / 8;
      if (number === 0 || tag > 0xffff_ffff) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      const field = shape[number];
      if (field === undefined) {
        this.#skip(wireType, end);
        continue;
      }
      if (wireType === field.wireType) {
        if (field.list || field.inside !== undefined) this.take(1);
        if (field.inside === undefined) this.#skip(wireType, end);
        else this.#walk(field.inside, this.#lengthEnd(end));
      } else if (field.packable && wireType === lengthDelimited) {
        const runEnd = this.#lengthEnd(end);
        while (this.#offset < runEnd) {
          this.take(1);
          this.#skip(field.wireType, runEnd);
        }
      } else {
        throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      }
    }
  }

  /** Items that may still come. */
  get left(): number {
    return this.#left;
  }

  /** Counts items: the walk's own, and what was decoded without it. */
  take(items: number): void {
    this.#left -= items;
    if (this.#left < 0) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }

  #skip(wireType: number, end: number): void {
    if (wireType === varint) {
      for (let i = 0; ; i++) {
        if (i === 10 || this.#offset >= end) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
        if ((this.#bytes[this.#offset++] as number) < 0x80) return;
      }
    }
    if (wireType === lengthDelimited) {
      this.#offset = this.#lengthEnd(end);
      return;
    }
    if (wireType !== bit64 && wireType !== bit32) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    this.#offset += wireType === bit64 ? 8 : 4;
    if (this.#offset > end) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }

  /** Reads a length, and returns where what it measures ends. */
  #lengthEnd(end: number): number {
    const length = this.#number(end);
    if (length > end - this.#offset) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    return this.#offset + length;
  }

  /** A varint of at most five bytes: all that tags and lengths need. */
  #number(end: number): number {
    let value = 0;
    let weight = 1;
    for (let i = 0; i < 5; i++) {
      if (this.#offset >= end) break;
      const byte = this.#bytes[this.#offset++] as number;
      if (byte < 0x80) return value + byte * weight;
      value += (byte - 0x80) * weight;
      weight *= 128;
    }
    throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
}

/** What a newer peer says and this version does not know is ignored, so it is not kept either. */
export const decoding = { readUnknownFields: false } as const;

/**
 * Decodes a message that a peer made and that stands in another as bytes: a
 * header, a control blob, an opened entry. Throws ENVELOPE_INVALID where it does
 * not decode or holds more items than any such message may. Its byte fields share
 * the memory of `bytes`.
 */
export function decodePart<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
): MessageShape<Desc> {
  new ItemCounter(partItemsMax).count(schema, bytes);
  try {
    return fromBinary(schema, bytes, decoding);
  } catch (cause) {
    throw new SyncError(ErrorCode.ENVELOPE_INVALID, { cause });
  }
}
