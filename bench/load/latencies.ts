/**
 * An open loop: sends at a fixed rate whatever comes back, and takes the time
 * until each thing sent has arrived somewhere else. What is sent first arrives
 * first, so that counting is enough to match them.
 */
export class OpenLoop {
  readonly #sentMs: number[] = [];
  readonly #latenciesMs: number[] = [];
  #arrived = 0;

  /** Counts arrivals. */
  arrive(count: number): void {
    const nowMs = performance.now();
    for (let i = 0; i < count; i++) {
      this.#latenciesMs.push(nowMs - (this.#sentMs[this.#arrived++] as number));
    }
  }

  /** Sends `total` at the rate, waits until all have arrived, and returns the latencies in order. */
  async run(perSecond: number, total: number, send: () => void): Promise<number[]> {
    await paced(perSecond, total, () => {
      this.#sentMs.push(performance.now());
      send();
    });
    while (this.#arrived < total) await new Promise((resolve) => setTimeout(resolve, 1));
    return this.#latenciesMs;
  }
}

/** Calls `send` at a rate, `total` times. What fell due while the loop was busy is made up for at once. */
export function paced(perSecond: number, total: number, send: () => void): Promise<void> {
  return new Promise((resolve) => {
    const startedMs = performance.now();
    let sent = 0;
    const tick = (): void => {
      const due = Math.min(
        total,
        Math.floor(((performance.now() - startedMs) / 1_000) * perSecond) + 1,
      );
      while (sent < due) {
        sent += 1;
        send();
      }
      if (sent === total) resolve();
      else setTimeout(tick, 1);
    };
    tick();
  });
}
