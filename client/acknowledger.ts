/**
 * Tells the relay how far the app has applied the log, and the other devices, by a signed and sealed
 * witness, what this one has verified: when it has caught up, and at least daily. Both are gathered:
 * the newest says all that the ones before said.
 */

import type { SealedWitness } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { logIdBytes } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import { Retry } from "./retry.ts";
import type { Positions } from "./seal/history.ts";
import type { ControlChain } from "./seal/membership.ts";
import { sealWitness, type WitnessClaims } from "./seal/witness.ts";
import { StateStoreError } from "./state-store.ts";

/** Between two acknowledgements, in milliseconds. */
const ackEveryMs = 500;
/** Between two witnesses, in milliseconds. */
const witnessEveryMs = 5_000;
/** The longest without a witness, in milliseconds. */
const witnessLatestMs = 24 * 60 * 60 * 1000;

export interface AcknowledgerHooks {
  caughtUp(): boolean;
  nextWitnessCounter(): Promise<number>;
  /** Whether a restored relay still lacks what it had of this device: it says nothing of that log until then. */
  owes(): boolean;
}

export class Acknowledger {
  readonly #core: Core;
  readonly #hooks: AcknowledgerHooks;
  #session: Connection | undefined;
  #cancelTimer: (() => void) | undefined;
  #busy = false;
  #again = false;
  readonly #retry: Retry;
  /** The relay refused the last one: the next waits, each time longer. */
  #refused = false;
  /** What the relay was told. */
  #acked = -1;
  #ackedAtMs = Number.NEGATIVE_INFINITY;
  #witnessed = -1;
  #witnessedVersion = 0;
  #witnessedAtMs = Number.NEGATIVE_INFINITY;

  constructor(core: Core, hooks: AcknowledgerHooks) {
    this.#core = core;
    this.#hooks = hooks;
    this.#retry = new Retry(core.host);
  }

  begin(session: Connection): void {
    this.#session = session;
    this.#acked = -1;
    this.#refused = false;
    this.check();
  }

  end(): void {
    this.#session = undefined;
    this.#retry.reset();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  /** Something may have to be told. */
  check(): void {
    if (this.#session === undefined || this.#refused) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    const waitMs = this.#dueInMs();
    if (waitMs === undefined) return;
    if (waitMs > 0) {
      this.#cancelTimer?.();
      this.#cancelTimer = this.#core.host.setTimer(waitMs, () => {
        this.#cancelTimer = undefined;
        this.check();
      });
      return;
    }
    this.#busy = true;
    this.#tell()
      .then(() => this.#retry.reset())
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#busy = false;
        if (this.#again) {
          this.#again = false;
          this.check();
        } else {
          this.#scheduleDaily();
        }
      });
  }

  /** Milliseconds until the next acknowledgement; undefined: nothing to say. */
  #dueInMs(): number | undefined {
    const nowMs = this.#core.host.monotonicMs();
    const waits: number[] = [];
    if (this.#core.app.applied > this.#acked) waits.push(this.#ackedAtMs + ackEveryMs - nowMs);
    if (this.#witnessNeeded()) waits.push(this.#witnessedAtMs + witnessEveryMs - nowMs);
    return waits.length === 0 ? undefined : Math.max(0, Math.min(...waits));
  }

  #witnessNeeded(): boolean {
    const { app, chain, host } = this.#core;
    if (chain === undefined) return false;
    if (host.monotonicMs() - this.#witnessedAtMs >= witnessLatestMs) return !this.#hooks.owes();
    const says = app.applied > this.#witnessed || chain.version.count > this.#witnessedVersion;
    return says && this.#hooks.caughtUp() && !this.#hooks.owes();
  }

  async #tell(): Promise<void> {
    const core = this.#core;
    const session = this.#session;
    if (session === undefined) return;
    const nowMs = core.host.monotonicMs();
    const { applied } = core.app;
    const withWitness =
      this.#witnessNeeded() && nowMs - this.#witnessedAtMs >= witnessEveryMs && core.chain;
    this.#ackedAtMs = nowMs;
    if (!withWitness) {
      await session.request({ case: "ack", value: { applied: BigInt(applied) } });
      this.#acked = Math.max(this.#acked, applied);
      return;
    }
    const chain = withWitness;
    // Applied positions are those read, where everything read is applied; else it claims less.
    const positions = applied === core.log.read ? this.#places() : new Map();
    const { logId } = core.log;
    const witness = await this.#witness(chain, { logId, applied, positions });
    await session.request({ case: "ack", value: { applied: BigInt(applied), witness } });
    this.#acked = Math.max(this.#acked, applied);
    this.#witnessed = applied;
    this.#witnessedVersion = chain.version.count;
    this.#witnessedAtMs = nowMs;
  }

  /**
   * Tells the others what this device cannot push again, and nothing else: before its chain goes on
   * behind that, so that nobody takes the gap for a lie.
   */
  async tellLacking(session: Connection): Promise<void> {
    const { chain } = this.#core;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const witness = await this.#witness(chain, {
      logId: new Uint8Array(logIdBytes),
      applied: 0,
      positions: new Map(),
    });
    await session.request({ case: "ack", value: { applied: 0n, witness } });
  }

  async #witness(
    chain: ControlChain,
    claims: Pick<WitnessClaims, "logId" | "applied" | "positions">,
  ): Promise<SealedWitness> {
    const { keys, host, own } = this.#core;
    const { groupId, epoch, keyring, version: membership } = chain;
    const witnessKey = keyring.witnessKey(epoch);
    if (witnessKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const counter = await this.#hooks.nextWitnessCounter();
    const madeMs = Math.floor(host.nowMs());
    const { lackingSeq } = own;
    return sealWitness(
      { ...claims, counter, madeMs, membership, lackingSeq },
      { groupId, keys, epoch, witnessKey, random: host.random },
    );
  }

  /**
   * Where senders stand. Of a removed one, in this log: what that has lost nobody can push again. Of
   * others also what a log before it had: they learn by that what they have lost themselves.
   */
  #places(): Positions {
    const { log, changes, chain } = this.#core;
    const { rereading } = changes;
    if (rereading.size === 0) return log.senders;
    const removed = (id: string): boolean => chain?.devices.get(id)?.closing !== undefined;
    return new Map([...log.senders].filter(([id]) => !(rereading.has(id) && removed(id))));
  }

  #scheduleDaily(): void {
    if (this.#session === undefined || this.#cancelTimer !== undefined || this.#refused) return;
    const dueMs = this.#dueInMs();
    const waitMs = dueMs ?? this.#witnessedAtMs + witnessLatestMs - this.#core.host.monotonicMs();
    // A moment at least: what was just refused is not said again at once.
    this.#cancelTimer = this.#core.host.setTimer(Math.max(ackEveryMs, waitMs), () => {
      this.#cancelTimer = undefined;
      this.check();
    });
  }

  #failed(error: unknown): void {
    if (error instanceof SyncError) {
      // A refused acknowledgement loses nothing: a later one says more. The session's end is told elsewhere.
      if (this.#session === undefined) return;
      this.#refused = true;
      this.#retry.after(error.retryAfterMs, () => {
        this.#refused = false;
        this.check();
      });
      return;
    }
    if (error instanceof StateStoreError) {
      if (error.problem !== "closed") this.#core.failed(error);
      return;
    }
    throw error;
  }
}
