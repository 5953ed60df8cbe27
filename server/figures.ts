/**
 * What the relay counts beyond plain counters: spreads of values, and counts by
 * reason. Kept where things happen, so adding a value costs a few operations and
 * allocates nothing; shown by `observe/`.
 */
import type { ErrorCode } from "../wire/errors.ts";
import type { Refusal } from "./admission.ts";

/** How values are spread over fixed ranges. */
export class Histogram {
  /** Upper ends of the ranges, ascending; values above the last fall into one more. */
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    let at = 0;
    while (at < this.bounds.length && value > (this.bounds[at] as number)) at += 1;
    this.counts[at] = (this.counts[at] as number) + 1;
    this.sum += value;
  }
}

/** Counts by reason, from a closed list. */
export class Tally<Reason> {
  readonly #counts = new Map<Reason, number>();

  add(reason: Reason): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  of(reason: Reason): number {
    return this.#counts.get(reason) ?? 0;
  }

  entries(): Iterable<readonly [Reason, number]> {
    return this.#counts;
  }
}

export class Figures {
  /** Blobs of one commit. */
  readonly commitBlobs = new Histogram([
    0, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000,
  ]);
  /** Requests of one commit. */
  readonly commitJobs = new Histogram([1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000]);
  /** A commit, from the first look at the disk until it is on it, in milliseconds. */
  readonly commitMs = new Histogram([
    0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000,
  ]);
  /** Requests that were refused, by code. */
  readonly refusals = new Tally<ErrorCode>();
  /** Sessions that the relay ended, by code. */
  readonly sessionsEnded = new Tally<ErrorCode>();
  /** Connections that were turned away before their handshake. */
  readonly turnedAway = new Tally<Refusal>();
}
