/** How many blobs are verified at once, where a page must not stall: found out by how long they take. */
import { windowBlobsMax } from "../wire/limits.ts";
import type { Host } from "./host.ts";

/** Fewer cost more in transactions than they spare. */
const blobsMin = 16;

export class Slice {
  readonly #host: Host;
  #blobs: number;

  constructor(host: Host) {
    this.#host = host;
    this.#blobs = host.sliceMs === undefined ? windowBlobsMax : blobsMin;
  }

  /** The most blobs of the next slice. */
  get blobs(): number {
    return this.#blobs;
  }

  /** Does a slice, and learns from it. */
  time<T>(blobs: number, run: () => T): T {
    const { sliceMs } = this.#host;
    if (sliceMs === undefined) return run();
    const beganMs = this.#host.monotonicMs();
    const result = run();
    const tookMs = this.#host.monotonicMs() - beganMs;
    if (tookMs > sliceMs) {
      const fit = Math.floor((blobs * sliceMs) / tookMs);
      this.#blobs = Math.max(blobsMin, Math.min(this.#blobs, fit));
    } else if (blobs >= this.#blobs && tookMs < sliceMs / 2) {
      this.#blobs = Math.min(windowBlobsMax, this.#blobs * 2);
    }
    return result;
  }
}
