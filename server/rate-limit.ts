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

  /** Takes a token: 0 where there was one, else how many milliseconds until there is. */
  take(rate: BucketRate, nowMs: number): number {
    const waitMs = this.waitMs(rate, nowMs);
    if (waitMs === 0) this.#tokens -= 1;
    return waitMs;
  }

  /** How many milliseconds until there is a token; 0 where there is one. */
  waitMs(rate: BucketRate, nowMs: number): number {
    this.#refill(rate, nowMs);
    if (this.#tokens >= 1) return 0;
    return Math.max(1, Math.ceil(((1 - this.#tokens) * 1000) / rate.perS));
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
