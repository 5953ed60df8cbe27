/** Counts what is done, and measures the rate once it has settled. */
export class Throughput {
  /** Per second, once everything was counted. */
  readonly result: Promise<number>;
  readonly #warmup: number;
  readonly #last: number;
  #done = 0;
  #startedMs = 0;
  #finish: (perSecond: number) => void = () => undefined;

  /** The first `warmup` are not measured; the `measured` after them are. */
  constructor(warmup: number, measured: number) {
    this.#warmup = warmup;
    this.#last = warmup + measured;
    this.result = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  count(done: number): void {
    const before = this.#done;
    this.#done += done;
    if (before < this.#warmup && this.#done >= this.#warmup) {
      this.#startedMs = performance.now();
      // What this call counted above the warm-up was done before the clock started.
      this.#counted = this.#done;
    }
    if (before < this.#last && this.#done >= this.#last) {
      const seconds = (performance.now() - this.#startedMs) / 1_000;
      this.#finish((this.#done - this.#counted) / seconds);
    }
  }

  #counted = 0;
}
