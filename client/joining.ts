/**
 * The joining side of a pairing, on a session without a group: runs the pairing machine over the
 * mailbox and keeps the admission. After that the device is being admitted, which outlives a restart:
 * it becomes a full member, or stays none.
 */
import type { PairingAdmission } from "../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { InviteCloseReason } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { inviteMs } from "../wire/limits.ts";
import type { RelayAddress } from "../wire/relay-address.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import type { LobbyTask } from "./lobby.ts";
import { Mailbox } from "./mailbox.ts";
import { JoinerPairing, type PairingMeansName, type PairingStep } from "./seal/pairing.ts";

/** How long the end of the mailbox is waited for before the group is tried, in milliseconds. */
const closeMsMax = 3_000;
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
  #cancelTimer: () => void;
  #cancelReturn: (() => void) | undefined;
  #session: Connection | undefined;
  #started = false;
  #admitted = false;
  #returns = 0;
  #over = false;

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
    this.#cancelTimer = core.host.setTimer(inviteMs, () => this.#fail("the invite expired"));
  }

  begin(session: Connection): void {
    this.#session = session;
    this.#run(() => this.#join(session));
  }

  told(body: ReceivedBody): void {
    if (this.#over) return;
    if (body.case === "inviteMessage") {
      const data = this.#mailbox.take(body.value);
      if (data !== undefined) this.#run(() => this.#step(this.#machine.receive(data)));
    } else if (
      body.case === "closeInvite" &&
      equalBytes(body.value.rendezvousId, this.#options.rendezvousId)
    ) {
      // Added, or at least admitted: the group itself says which.
      if (this.#admitted) this.#finish(undefined);
      else this.#fail(closeReasons[body.value.reason] ?? "the inviting device ended it");
    }
  }

  end(): void {
    this.#session = undefined;
    this.#mailbox.end();
    this.#cancelReturn?.();
    this.#cancelReturn = undefined;
  }

  /** Called off by the app. */
  abort(reason: unknown): void {
    this.#finish(reason);
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
      if (!(error instanceof SyncError) || error.code !== ErrorCode.INVITE_INVALID) throw error;
      if (this.#admitted) {
        this.#finish(undefined);
      } else if (this.#found && this.#returns < returnsMax) {
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
  #return(session: Connection): void {
    this.#returns += 1;
    this.#cancelReturn = this.#core.host.setTimer(returnMs, () =>
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

  /** The receipt is in the mailbox, which will end soon; where it does not, the group is tried anyway. */
  #awaitClose(): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#core.host.setTimer(closeMsMax, () => this.#finish(undefined));
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
