/**
 * When to try again after a connection ended. Pure: time and chance are arguments.
 *
 * Full jitter: the wait is drawn evenly below a ceiling that doubles with each failure, so that
 * devices cut off together do not come back together. A relay's `retry_after_ms` is waited for, with
 * some jitter behind it. A connection that held for a while starts the count anew.
 */
import { ErrorCode, errorRow, type SyncError } from "../wire/errors.ts";

/** The ceiling of the first wait, in milliseconds. */
export const reconnectFirstMs = 500;
/** The highest ceiling, in milliseconds. */
export const reconnectMostMs = 60_000;
/** How long a connection must hold to count as well again, in milliseconds. */
export const reconnectStableMs = 30_000;

/** How a connection ended. */
export interface ConnectionEnd {
  readonly error: SyncError;
  /**
   * Whether the relay itself said so, inside the channel, or this device found it. Anything else is
   * a hint, which anybody on the way can give, and never stops a device from trying again.
   */
  readonly certain: boolean;
  /** The channel only needs new keys: back at once. */
  readonly renew?: boolean;
}

export class Backoff {
  #failures = 0;
  #openSinceMs: number | undefined;

  /** A connection was welcomed. */
  opened(nowMs: number): void {
    this.#openSinceMs = nowMs;
  }

  /** Starts the count anew: a person asked. */
  reset(): void {
    this.#failures = 0;
    this.#openSinceMs = undefined;
  }

  /** Milliseconds to wait before the next try; undefined: not by itself. */
  ended(end: ConnectionEnd, nowMs: number, uniform: number): number | undefined {
    const { error } = end;
    if (end.certain && neverAgain(error)) return undefined;
    const openSinceMs = this.#openSinceMs;
    this.#openSinceMs = undefined;
    if (openSinceMs !== undefined && nowMs - openSinceMs >= reconnectStableMs) this.#failures = 0;
    if (end.renew === true) return 0;
    const ceiling = Math.min(reconnectMostMs, reconnectFirstMs * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 30);
    // What helps only once something differs is asked for seldom, but asked for.
    const wait =
      end.certain && errorRow(error.code).again !== "later"
        ? reconnectMostMs * (0.5 + uniform / 2)
        : ceiling * uniform;
    const advised = end.certain ? error.retryAfterMs : 0;
    return advised > 0 ? Math.max(wait, advised + uniform * Math.min(advised, 1_000)) : wait;
  }
}

/** What no waiting mends. */
function neverAgain(error: SyncError): boolean {
  return (
    error.code === ErrorCode.REPLACED ||
    error.code === ErrorCode.DEVICE_REVOKED ||
    error.code === ErrorCode.RELAY_KEY_MISMATCH
  );
}
