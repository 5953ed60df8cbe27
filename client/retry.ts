/**
 * One more try, later: each wait twice as long as the one before, never shorter than the relay
 * advised, and spread out, so that devices refused together do not ask together.
 */
import type { Host } from "./host.ts";

/** The first wait, in milliseconds. */
export const retryFirstMs = 1_000;
/** The longest one that the relay has not asked for, in milliseconds. */
export const retryMostMs = 60_000;

export class Retry {
  readonly #host: Host;
  #tries = 0;
  #cancel: (() => void) | undefined;

  constructor(host: Host) {
    this.#host = host;
  }

  /** Runs once, in a while, in place of what was to run before. `slowly`: as seldom as it gets. */
  after(advisedMs: number, run: () => void, slowly = false): void {
    this.cancel();
    const ownMs = slowly
      ? retryMostMs
      : Math.min(retryMostMs, retryFirstMs * 2 ** Math.min(this.#tries, 20));
    this.#tries += 1;
    const ms = Math.max(advisedMs, ownMs) * (1 + this.#host.uniform() / 4);
    this.#cancel = this.#host.setTimer(ms, () => {
      this.#cancel = undefined;
      run();
    });
  }

  /** Nothing runs. */
  cancel(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** It went well: the next wait is a short one again. */
  reset(): void {
    this.cancel();
    this.#tries = 0;
  }
}
