/**
 * The joining side of a pairing, on a session without a group: runs the pairing machine over the
 * mailbox and keeps the admission. After that the device is being admitted, which outlives a restart:
 * it becomes a full member, or stays none.
 */

import type { PairingAdmission } from "../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { InviteCloseReason } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import type { LobbyWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { inviteMs } from "../wire/limits.ts";
import type { RelayAddress } from "../wire/relay-address.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import type { LobbyTask } from "./lobby.ts";
import { Mailbox } from "./mailbox.ts";
import { JoinerPairing, type PairingMeansName, type PairingStep } from "./seal/pairing.ts";

/**
 * How long the end of the mailbox is waited for before the relay is asked anew, in milliseconds; each
 * time twice as long.
 */
const lookMs = 3_000;
/** A mailbox that was there and is not: its owner may be on its way back. Milliseconds, and tries. */
const returnMs = 2_000;
const returnsMax = 10;

export interface JoiningOptions {
  readonly address: RelayAddress;
  readonly rendezvousId: Uint8Array;
  readonly means: PairingMeansName;
  /** The link's secret, or the psk of the code. */
  readonly secret: Uint8Array;
  readonly name: string;
  readonly onComparison: ((words: readonly string[]) => void) | undefined;
  /** Keeps the admission on disk. */
  readonly admitted: (admission: PairingAdmission) => Promise<void>;
  /** The inviting device took it back: this one is in no group. */
  readonly calledOff: () => Promise<void>;
  /** Once: without an error the group is to be tried now. */
  readonly finished: (error: unknown) => void;
}

export class Joining implements LobbyTask {
  readonly address: RelayAddress;
  readonly #core: Core;
  readonly #options: JoiningOptions;
  #mailbox: Mailbox;
  /** Whether the mailbox was there once. */
  #found = false;
  readonly #machine: JoinerPairing;
  readonly #cancelTimer: () => void;
  #cancelReturn: (() => void) | undefined;
  #session: Connection | undefined;
  #started = false;
  #admitted = false;
  #returns = 0;
  #looks = -1;
  #over = false;
  /** What arrives is taken in order, also where taking it waits for the disk. */
  #taking: Promise<unknown> = Promise.resolve();

  constructor(core: Core, options: JoiningOptions) {
    this.#core = core;
    this.#options = options;
    this.address = options.address;
    this.#mailbox = new Mailbox("join", options.rendezvousId);
    this.#machine = new JoinerPairing({
      rendezvousId: options.rendezvousId,
      relayKey: options.address.relayKey,
      keys: core.keys,
      name: options.name,
      means: options.means,
      secret: options.secret,
      random: core.host.random,
    });
    this.#cancelTimer = core.host.setTimer(inviteMs, () => this.#expired());
  }

  begin(session: Connection, welcome: LobbyWelcome): void {
    this.#session = session;
    const { groupId } = this.#core.device;
    if (this.#admitted && welcome.groups.some((group) => equalBytes(group.groupId, groupId))) {
      this.#finish(undefined);
      return;
    }
    this.#run(() => this.#join(session));
  }

  told(body: ReceivedBody): void {
    if (this.#over) return;
    if (body.case === "inviteMessage") {
      const data = this.#mailbox.take(body.value);
      if (data !== undefined) this.#take(() => this.#step(this.#machine.receive(data)));
    } else if (
      body.case === "closeInvite" &&
      equalBytes(body.value.rendezvousId, this.#options.rendezvousId)
    ) {
      const { reason } = body.value;
      this.#take(() => this.#closed(reason));
    }
  }

  async #closed(reason: InviteCloseReason): Promise<void> {
    const calledOff = reason === InviteCloseReason.CANCELLED || reason === InviteCloseReason.BURNT;
    if (this.#admitted && !calledOff) {
      // Added, or at least admitted: the group itself says which.
      this.#finish(undefined);
      return;
    }
    if (this.#admitted) await this.#options.calledOff();
    this.#fail(closeReasons[reason] ?? "the inviting device ended it");
  }

  #take(task: () => Promise<void>): void {
    this.#run(() => {
      const taken = this.#taking.then(() => (this.#over ? undefined : task()));
      this.#taking = taken.catch(() => undefined);
      return taken;
    });
  }

  end(): void {
    this.#session = undefined;
    this.#mailbox.end();
    this.#cancelReturn?.();
    this.#cancelReturn = undefined;
  }

  stopped(error: Error): void {
    this.#finish(error);
  }

  /** Called off by the app. */
  abort(reason: unknown): void {
    // Behind an admission that is on its way to the disk: it is kept, or it never was.
    this.#take(async () => this.#abort(reason));
  }

  #abort(reason: unknown): void {
    const session = this.#session;
    if (session?.open !== true || this.#admitted) {
      this.#finish(reason);
      return;
    }
    // The other side should know; whether it does changes nothing here.
    this.#close(session).then(
      () => this.#finish(reason),
      () => this.#finish(reason),
    );
  }

  async #join(session: Connection): Promise<void> {
    try {
      const { stored } = await this.#mailbox.begin(session);
      this.#found = true;
      if (!this.#started && stored > 0) {
        // An earlier process of this device began an attempt that nobody can finish.
        await this.#close(session);
        this.#mailbox = new Mailbox("join", this.#options.rendezvousId);
        this.#return(session);
        return;
      }
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      if (error.code === ErrorCode.RATE_LIMITED) {
        this.#return(session, error.retryAfterMs);
        return;
      }
      if (error.code !== ErrorCode.INVITE_INVALID) throw error;
      if (this.#admitted || (this.#found && this.#returns < returnsMax)) {
        // A restarted relay has forgotten the mailbox; the inviting device opens it again.
        this.#return(session);
      } else {
        this.#fail("check the code, or ask for a new one", error);
      }
      return;
    }
    if (!this.#started) {
      this.#started = true;
      await this.#step(this.#machine.start());
    } else if (this.#admitted) {
      this.#awaitClose();
    }
  }

  /** Looks for the mailbox again in a moment. */
  #return(session: Connection, advisedMs = 0): void {
    this.#returns += 1;
    // A relay counts misses: the longer it takes, the less often it is asked.
    const waitMs = Math.max(advisedMs, returnMs * Math.min(8, this.#returns));
    this.#cancelReturn?.();
    this.#cancelReturn = this.#core.host.setTimer(waitMs, () =>
      this.#run(() => this.#join(session)),
    );
  }

  /** Ends the attempt for the other side too, which opens the mailbox anew. */
  async #close(session: Connection): Promise<void> {
    await session.request({
      case: "closeInvite",
      value: {
        rendezvousId: this.#options.rendezvousId,
        reason: InviteCloseReason.UNSPECIFIED,
      },
    });
  }

  async #step(step: PairingStep): Promise<void> {
    for (const frame of step.send) await this.#mailbox.send(frame);
    const { event } = step;
    switch (event?.kind) {
      case "comparison":
        this.#options.onComparison?.(event.comparison);
        return;
      case "admitted":
        await this.#options.admitted(event.admission);
        this.#admitted = true;
        await this.#step(this.#machine.receipt());
        this.#awaitClose();
        return;
      case "failed":
        if (this.#session !== undefined) await this.#close(this.#session);
        this.#fail("check the code, or ask for a new one", event.error);
        return;
      case "introduced":
      case "receipted":
      case undefined:
        return;
    }
  }

  /**
   * The receipt is in the mailbox, which ends once this device was added. Where nobody says so, a new
   * session tells: the relay lists the groups that this device is in.
   */
  #awaitClose(): void {
    this.#looks += 1;
    const session = this.#session;
    this.#cancelReturn?.();
    this.#cancelReturn = this.#core.host.setTimer(lookMs * 2 ** Math.min(5, this.#looks), () =>
      session?.close(),
    );
  }

  #expired(): void {
    // From here on the group itself is asked, for as long as it takes.
    if (this.#admitted) this.#finish(undefined);
    else this.#fail("the invite expired");
  }

  #fail(hint: string, cause?: unknown): void {
    this.#finish(
      new SyncError(ErrorCode.INVITE_INVALID, cause === undefined ? { hint } : { hint, cause }),
    );
  }

  #finish(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancelTimer();
    this.#cancelReturn?.();
    this.#machine.close();
    this.#options.finished(error);
  }

  /** A lost connection is made good by the next; a refusal ends the attempt. */
  #run(task: () => Promise<void>): void {
    const session = this.#session;
    task().catch((error: unknown) => {
      const lost = error instanceof SyncError && session !== this.#session;
      if (lost || (error instanceof SyncError && session?.open !== true)) return;
      this.#finish(error);
    });
  }
}

const closeReasons: Readonly<Partial<Record<InviteCloseReason, string>>> = {
  [InviteCloseReason.UNSPECIFIED]: "check the code, or ask for a new one",
  [InviteCloseReason.CANCELLED]: "the inviting device called it off",
  [InviteCloseReason.EXPIRED]: "the invite expired",
  [InviteCloseReason.BURNT]: "three attempts failed; ask for a new code",
};
