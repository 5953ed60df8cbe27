/**
 * Reads what the relay says just far enough to count it: decoding whole
 * messages would make the generator a part of what is measured.
 */
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { unexpected } from "./relay-device.ts";

/** Tags of Envelope's body fields (field * 8 + 2), as two-byte varints read little-endian by 7 bits. */
const pushAckTag = 21 * 8 + 2;
const errorTag = 2 * 8 + 2;

/** How many pushes a record acknowledges. Throws where it refuses anything. */
export function acknowledgedPushes(plaintext: Uint8Array): number {
  let acknowledged = 0;
  let offset = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = plaintext[offset++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (offset < plaintext.byteLength) {
    const start = offset;
    const end = varint() + offset;
    let tag = varint();
    if (tag === 8) {
      varint();
      tag = varint();
    }
    if (tag === pushAckTag) acknowledged += 1;
    else if (tag === errorTag) {
      throw unexpected(decodeEnvelopes(plaintext.subarray(start, end), plaintext.byteLength)[0]);
    }
    offset = end;
  }
  return acknowledged;
}
