/**
 * How much of an object is sent, or asked for, at once. As much as may be, unless it takes long: while one
 * range is on its way nothing else is heard of the other side, which after a while counts as gone. On a
 * line of a few kilobytes a second a whole range would never arrive.
 */

/** Chunks of a range at most. */
const chunksMax = 16;
/** A range that takes longer is followed by half of it; one that takes less than that, by twice as much. */
const longMs = 20_000;
const shortMs = 5_000;

export class RangeSize {
  #chunks = chunksMax;

  /** Chunks of the next range. */
  get chunks(): number {
    return this.#chunks;
  }

  /** Sends or asks for a range, and learns from how long that took. */
  async timed<T>(
    session: { readonly open: boolean },
    clock: { readonly nowMs: number },
    ask: () => Promise<T>,
  ): Promise<T> {
    const beganMs = clock.nowMs;
    try {
      const answer = await ask();
      this.arrived(clock.nowMs - beganMs);
      return answer;
    } catch (error) {
      if (!session.open) this.lost();
      throw error;
    }
  }

  /** A range has arrived. */
  arrived(ms: number): void {
    if (ms > longMs) this.#chunks = Math.max(1, this.#chunks >>> 1);
    else if (ms < shortMs) this.#chunks = Math.min(chunksMax, this.#chunks << 1);
  }

  /** A session ended before one had. */
  lost(): void {
    this.#chunks = Math.max(1, this.#chunks >>> 2);
  }
}
