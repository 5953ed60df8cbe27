/** A content that is as large as one likes, for what moves objects. */
import { createHash } from "node:crypto";
import type { ObjectSource } from "../../client/index.ts";

/** A content of so many bytes that takes no memory: a block, and its number in it. */
export function contentOf(bytes: number): ObjectSource {
  const block = new Uint8Array(65_536).map((_, i) => (i * 167) & 0xff);
  return {
    async *open(from) {
      for (let at = from; at < bytes; ) {
        const number = Math.floor(at / block.byteLength);
        const whole = Uint8Array.from(block);
        new DataView(whole.buffer).setUint32(0, number);
        const start = at - number * block.byteLength;
        const piece = whole.subarray(start, Math.min(block.byteLength, start + bytes - at));
        at += piece.byteLength;
        yield piece;
      }
    },
  };
}

/** The SHA-256 of what comes in pieces, in hexadecimal. */
export async function hashOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}
