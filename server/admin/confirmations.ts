/**
 * Confirmations of what cannot be undone: a token that names what it is for and
 * when it ends, authenticated with a key that this process alone has. Nothing is
 * remembered for those that are never used.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { concatBytes, fromBase64url, toBase64url, u64be } from "../../wire/bytes.ts";
import type { RelayWorld } from "../world.ts";

const validMs = 300_000;
const endBytes = 8;
const macBytes = 16;

export class Confirmations {
  readonly #key: Uint8Array;
  readonly #monotonicMs: () => number;

  constructor(world: Pick<RelayWorld, "random" | "monotonicMs">) {
    this.#key = world.random(32);
    this.#monotonicMs = world.monotonicMs;
  }

  make(subject: Uint8Array): string {
    const end = u64be(Math.ceil(this.#monotonicMs()) + validMs);
    return toBase64url(concatBytes(end, this.#mac(subject, end)));
  }

  holds(subject: Uint8Array, token: string): boolean {
    const bytes = token.length > 64 ? undefined : fromBase64url(token);
    if (bytes === undefined || bytes.byteLength !== endBytes + macBytes) return false;
    const end = bytes.subarray(0, endBytes);
    if (!timingSafeEqual(this.#mac(subject, end), bytes.subarray(endBytes))) return false;
    const endMs = new DataView(end.buffer, end.byteOffset).getBigUint64(0);
    return BigInt(Math.floor(this.#monotonicMs())) <= endMs;
  }

  #mac(subject: Uint8Array, end: Uint8Array): Uint8Array {
    return createHmac("sha256", this.#key)
      .update(end)
      .update(subject)
      .digest()
      .subarray(0, macBytes);
  }
}
