/**
 * Work that outlives connections: asks on the session there is, waits for the next one where it was
 * cut, and goes on from what the relay says is done.
 */
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import type { Inbox } from "./inbox.ts";
import { closedHint } from "./receipt.ts";

/** Sessions without any progress, after which the fault is not the road's. */
const fruitlessMax = 8;
/** Where the relay says "later" and not when, in milliseconds. */
const laterMs = 1_000;

export class SessionWait {
  readonly #core: Core;
  readonly #inbox: Inbox;
  readonly #signal: AbortSignal | undefined;
  #fruitless = 0;

  constructor(core: Core, inbox: Inbox, signal: AbortSignal | undefined) {
    this.#core = core;
    this.#inbox = inbox;
    this.#signal = signal;
  }

  /** The device's own time, in milliseconds. */
  get nowMs(): number {
    return this.#core.host.monotonicMs();
  }

  /** The session, once there is one. Rejects where the app gave up, or the client was closed. */
  async session(): Promise<Connection> {
    return await this.until(() => this.#core.session);
  }

  /** What is looked for, once it is there. Rejects where the app gave up, or the client was closed. */
  async until<T>(look: () => T | undefined): Promise<T> {
    const wake = (): void => this.#inbox.wake();
    this.#signal?.addEventListener("abort", wake);
    try {
      for (;;) {
        this.#signal?.throwIfAborted();
        if (this.#inbox.closed) throw new SyncError(ErrorCode.CONNECTION_LOST, closedHint);
        const found = look();
        if (found !== undefined) return found;
        await this.#inbox.changed();
      }
    } finally {
      this.#signal?.removeEventListener("abort", wake);
    }
  }

  /** Something got further: what fails from now on fails anew. */
  progressed(): void {
    this.#fruitless = 0;
  }

  /**
   * Runs something on a session, and again on the next one where that was cut or the relay asks to
   * come back later. Rejects with the relay's refusal where waiting does not help.
   */
  async run<T>(work: (session: Connection) => Promise<T>): Promise<T> {
    for (;;) {
      const session = await this.session();
      try {
        return await work(session);
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        const later = session.open && mayWait.has(error.code);
        if (session.open && !later) throw error;
        this.#fruitless += 1;
        if (this.#fruitless > fruitlessMax) throw error;
        if (later) await this.#pause(Math.max(error.retryAfterMs, laterMs));
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      let cancel = (): void => undefined;
      const end = (): void => {
        cancel();
        this.#signal?.removeEventListener("abort", end);
        resolve();
      };
      cancel = this.#core.host.setTimer(ms * (1 + this.#core.host.uniform() / 4), end);
      this.#signal?.addEventListener("abort", end);
    });
  }
}

const mayWait: ReadonlySet<ErrorCode> = new Set([
  ErrorCode.RATE_LIMITED,
  ErrorCode.STORE_UNAVAILABLE,
  ErrorCode.DRAINING,
]);
