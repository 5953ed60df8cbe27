/**
 * Several envelopes as one input, and a number that says how they are used. Laid out as protobuf, so
 * that a change inside one leaves the rest readable.
 */
import { concatBytes } from "../../wire/bytes.ts";
import { sizeDelimited } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Fields } from "../../wire/fields.ts";

export interface Script {
  readonly head: number;
  readonly parts: readonly {
    /** Who says it. */
    readonly who: number;
    /** An envelope, size-delimited. */
    readonly envelope: Uint8Array;
  }[];
}

/** Envelopes of more than a few kinds say nothing new. */
const partsMax = 40;

/** `envelopes` are size-delimited. */
export function encodeScript(head: number, envelopes: readonly Uint8Array[], who = 0): Uint8Array {
  return concatBytes(
    Uint8Array.of(8, head & 0x7f),
    ...envelopes.flatMap((one) => [Uint8Array.of((2 + who) * 8 + 2), one]),
  );
}

/** Reads a script. Throws RECORD_INVALID where the bytes are none. */
export function readScript(input: Uint8Array): Script {
  const fields = new Fields(input, ErrorCode.RECORD_INVALID);
  const parts: { who: number; envelope: Uint8Array }[] = [];
  let head = 0;
  while (fields.next()) {
    if (fields.number === 1) head = fields.uint() & 0x7f;
    else if (parts.length < partsMax) {
      parts.push({ who: fields.number - 2, envelope: sizeDelimited(fields.bytes()) });
    } else throw new SyncError(ErrorCode.RECORD_INVALID);
  }
  return { head, parts };
}
