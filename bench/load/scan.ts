/**
 * Reads what the relay says just far enough to count it: decoding whole
 * messages would make the generator a part of what is measured. It trusts the
 * relay to send valid protobuf; the tests are what checks that.
 */
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { unexpected } from "./relay-device.ts";

/** Fields of `Envelope` that are counted. */
export const bodyField = { error: 2, pushAck: 21, blobs: 24, deliver: 25, notify: 26 } as const;

/** What a run of envelopes adds up to. */
export interface Counted {
  /** Pushes acknowledged. */
  acknowledged: number;
  /** Blobs delivered or pulled, own ones too. */
  blobs: number;
  /** The last page of a pull was among them. */
  done: boolean;
  /** The head of the log as a `Notify` told it, where one did: above what was delivered, the connection is behind. */
  notifiedHead: number;
}

/** Counts a record's envelopes. Throws where one of them is a refusal. */
export function countRecord(plaintext: Uint8Array): Counted {
  const counted: Counted = { acknowledged: 0, blobs: 0, done: false, notifiedHead: 0 };
  const cursor = new Cursor(plaintext);
  while (cursor.at < plaintext.byteLength) {
    const start = cursor.at;
    const length = cursor.varint();
    const end = cursor.at + length;
    let tag = cursor.varint();
    if (tag === 8) {
      cursor.varint();
      tag = cursor.varint();
    }
    switch (tag >>> 3) {
      case bodyField.pushAck:
        counted.acknowledged += 1;
        break;
      case bodyField.blobs:
      case bodyField.deliver:
        cursor.varint();
        countPage(cursor, end, counted);
        break;
      case bodyField.notify:
        cursor.varint();
        // The head is its first field, and there once anything was stored.
        if (cursor.varint() === 1 * 8) counted.notifiedHead = cursor.varint();
        break;
      case bodyField.error:
        throw unexpected(decodeEnvelopes(plaintext.subarray(start, end), plaintext.byteLength)[0]);
    }
    cursor.at = end;
  }
  return counted;
}

/** `Blobs` and `Deliver`: both say after (1) and through (2), and what lies between has no holes here. */
function countPage(cursor: Cursor, end: number, counted: Counted): void {
  let after = 0;
  let through = 0;
  while (cursor.at < end) {
    const tag = cursor.varint();
    const value = cursor.varint();
    if (tag === 1 * 8) after = value;
    else if (tag === 2 * 8) through = value;
    else if (tag === 4 * 8) counted.done = true;
    else if ((tag & 7) === 2) cursor.at += value;
  }
  counted.blobs += through - after;
}

class Cursor {
  at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.at++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }
}
