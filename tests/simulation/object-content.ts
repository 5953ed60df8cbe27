/** Contents of objects: nothing but a number each, so that an app can put one again after a restart. */
import { Chance } from "./chance.ts";

/** A content that an app puts, under its name. */
export interface Content {
  readonly name: string;
  readonly seed: number;
  readonly bytes: number;
}

const blockBytes = 4_096;

/** The bytes of it: a block again and again, each with its number. */
export function bytesOf({ seed, bytes }: Content): Uint8Array {
  const block = new Chance(seed).bytes(blockBytes);
  const all = new Uint8Array(bytes);
  const view = new DataView(all.buffer);
  for (let at = 0; at < bytes; at += blockBytes) {
    all.set(block.subarray(0, bytes - at), at);
    if (at + 4 <= bytes) view.setUint32(at, at / blockBytes);
  }
  return all;
}
