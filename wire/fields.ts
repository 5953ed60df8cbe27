/**
 * The fields of an encoded message, one after another: for the few messages
 * that every blob is read through, where the generic decoder would cost more
 * than all the cryptography. Tests hold what is decoded here to the generic
 * decoder, so the schema stays the only source of the shapes.
 *
 * Unknown fields are passed over, as everywhere; the obsolete groups, and a
 * field whose wire type is not the schema's, are refused.
 */
import { type ErrorCode, SyncError } from "./errors.ts";

/** A number above 2^53 - 1 reads as this: no bound admits it. */
const tooLarge = Number.POSITIVE_INFINITY;

/**
 * Walks over the fields of an encoded message, one after another, without making an object of it. What
 * is no message is a `SyncError`.
 */
export class Fields {
  /** The current field's number. */
  number = 0;
  #wireType = 0;
  #value = 0;
  #offset = 0;
  readonly #length: number;
  readonly #bytes: Uint8Array;
  readonly #code: ErrorCode;

  /** Throws `SyncError` with `code` wherever the bytes are no message. */
  constructor(bytes: Uint8Array, code: ErrorCode) {
    this.#bytes = bytes;
    this.#length = bytes.byteLength;
    this.#code = code;
  }

  /** Goes to the next field; false at the end. The field before must have been read or skipped. */
  next(): boolean {
    if (this.#offset >= this.#length) return false;
    const tag = this.#varint();
    // Five bytes of tag at most, of which the field number has 29 bits.
    if (tag > 0xffff_ffff || tag < 8) throw this.#invalid();
    this.number = Math.floor(tag / 8);
    this.#wireType = tag % 8;
    return true;
  }

  /** The field as a number; infinite above 2^53 - 1. */
  uint(): number {
    if (this.#wireType !== 0) throw this.#invalid();
    return this.#varint();
  }

  /** The field as bytes: a view, not a copy. */
  bytes(): Uint8Array {
    if (this.#wireType !== 2) throw this.#invalid();
    const start = this.#offset + this.#varintAhead();
    const end = start + this.#value;
    if (end > this.#length) throw this.#invalid();
    this.#offset = end;
    return this.#bytes.subarray(start, end);
  }

  /** Passes over an unknown field. */
  skip(): void {
    switch (this.#wireType) {
      case 0:
        this.#varint();
        return;
      case 1:
        this.#offset += 8;
        break;
      case 2:
        this.bytes();
        return;
      case 5:
        this.#offset += 4;
        break;
      default:
        throw this.#invalid();
    }
    if (this.#offset > this.#length) throw this.#invalid();
  }

  #varint(): number {
    this.#offset += this.#varintAhead();
    return this.#value;
  }

  /** Reads a varint at the offset into `#value` and returns how many bytes it takes. */
  #varintAhead(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      const byte = this.#bytes[this.#offset + i];
      if (byte === undefined) throw this.#invalid();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        this.#value = value > Number.MAX_SAFE_INTEGER ? tooLarge : value;
        return i + 1;
      }
      scale *= 128;
    }
    throw this.#invalid();
  }

  #invalid(): SyncError {
    return new SyncError(this.#code);
  }
}
