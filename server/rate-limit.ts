/** A token bucket. Pure: time is an argument. */
export interface BucketRate {
  /** Tokens gained per second. */
  readonly perS: number;
  /** The most the bucket holds, and what it begins with. */
  readonly burst: number;
}

/** How fast a device may push: as its group says, where that has a rate of its own, else as the relay does. */
export function pushRateOf(
  group: { readonly pushesPerS: number; readonly pushesBurst: number } | undefined,
  limits: { readonly pushesPerS: number; readonly pushesBurst: number },
): BucketRate {
  const { pushesPerS, pushesBurst } = group !== undefined && group.pushesPerS > 0 ? group : limits;
  return { perS: pushesPerS, burst: pushesBurst };
}

export class TokenBucket {
  #tokens: number;
  #atMs: number;

  constructor(rate: BucketRate, nowMs: number) {
    this.#tokens = rate.burst;
    this.#atMs = nowMs;
  }

  /** Takes tokens: 0 where there were as many, else how many milliseconds until there are. */
  take(rate: BucketRate, nowMs: number, count = 1): number {
    const waitMs = this.waitMs(rate, nowMs, count);
    if (waitMs === 0) this.#tokens -= count;
    return waitMs;
  }

  /** How many milliseconds until there are so many tokens; 0 where there are. */
  waitMs(rate: BucketRate, nowMs: number, count = 1): number {
    this.#refill(rate, nowMs);
    if (this.#tokens >= count) return 0;
    return Math.max(1, Math.ceil(((count - this.#tokens) * 1000) / rate.perS));
  }

  /** Gives a token back that was taken for nothing. */
  giveBack(rate: BucketRate): void {
    this.#tokens = Math.min(rate.burst, this.#tokens + 1);
  }

  /** Whether it is as full as a new one: it can be forgotten. */
  full(rate: BucketRate, nowMs: number): boolean {
    this.#refill(rate, nowMs);
    return this.#tokens >= rate.burst;
  }

  #refill(rate: BucketRate, nowMs: number): void {
    // A clock that was set back gives nothing and takes nothing.
    const passedMs = Math.max(0, nowMs - this.#atMs);
    this.#atMs = nowMs;
    this.#tokens = Math.min(rate.burst, this.#tokens + (passedMs / 1000) * rate.perS);
  }
}
