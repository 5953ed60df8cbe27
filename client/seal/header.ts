/** A blob's header as devices read it: one that does not hold was altered. */
import { decodeHeader as decode, type Header } from "../../wire/blob-header.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { altered } from "./checks.ts";

export { encodeHeader, type Header } from "../../wire/blob-header.ts";

/** Reads a header. Throws HISTORY_ALTERED where it does not decode or breaks a bound. */
export function decodeHeader(bytes: Uint8Array): Header {
  const header = decode(bytes, ErrorCode.HISTORY_ALTERED);
  // The first blob follows nothing, and nothing else does.
  if ((header.seq === 1) !== header.previousLink.every(isNothing)) throw altered();
  return header;
}

/** Nothing of a header is secret: the first byte that is something ends the look. */
function isNothing(byte: number): boolean {
  return byte === 0;
}
