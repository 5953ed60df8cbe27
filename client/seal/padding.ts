/**
 * Padding, so that a size tells little of the content: PADMÉ (Nikitin et al.,
 * "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
 * section 4) with a floor of 256 bytes. A sealed plaintext is the content's
 * length as a varint, the content, and zeros.
 */

/** The least a sealed plaintext takes. */
export const paddedBytesMin = 256;
/** Bytes of a length prefix at most: 28 bits hold more than any limit allows. */
const prefixBytesMax = 4;

/**
 * What a length becomes: as many of its low bits are zero as its size can spare,
 * at most 12% more and mostly far less.
 */
export function padmeBytes(length: number): number {
  if (length <= paddedBytesMin) return paddedBytesMin;
  const exponent = Math.floor(Math.log2(length));
  const significant = Math.floor(Math.log2(exponent)) + 1;
  const step = 2 ** (exponent - significant);
  return Math.ceil(length / step) * step;
}

/** The whole padded size of a content. */
export function paddedBytes(contentBytes: number): number {
  return padmeBytes(varintBytes(contentBytes) + contentBytes);
}

/** The parts, joined as one content, padded. */
export function pad(...parts: readonly Uint8Array[]): Uint8Array {
  let contentBytes = 0;
  for (const part of parts) contentBytes += part.byteLength;
  const padded = new Uint8Array(paddedBytes(contentBytes));
  let offset = writeVarint(padded, 0, contentBytes);
  for (const part of parts) {
    padded.set(part, offset);
    offset += part.byteLength;
  }
  return padded;
}

/** The content of a padded plaintext, not copied; undefined where it is not one. */
export function unpad(padded: Uint8Array): Uint8Array | undefined {
  let length = 0;
  let offset = 0;
  for (let i = 0; ; i++) {
    const byte = padded[offset];
    if (byte === undefined || i === prefixBytesMax) return undefined;
    offset += 1;
    length += (byte & 0x7f) << (7 * i);
    if (byte < 0x80) break;
  }
  const end = offset + length;
  if (end > padded.byteLength) return undefined;
  // Anything but zeros would be a place to hide something beside what was hashed.
  const { byteLength } = padded;
  for (let i = end; i < byteLength; i++) if (padded[i] !== 0) return undefined;
  return padded.subarray(offset, end);
}

/** Bytes of a length as a varint. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

/** Writes a length as a varint and returns the offset behind it. */
export function writeVarint(output: Uint8Array, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  while (rest >= 0x80) {
    output[at++] = (rest & 0x7f) | 0x80;
    rest = Math.floor(rest / 128);
  }
  output[at++] = rest;
  return at;
}
