/**
 * The inviting side of a pairing: opens a mailbox, runs the pairing machine over it, asks the person,
 * and sees the addition through. Ten minutes by this device's own timer; three failures burn it.
 */
import { create } from "@bufbuild/protobuf";
import type { Device } from "../gen/syncrelay/sealed/v1/membership_pb.ts";
import { PairingAdmissionSchema } from "../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { type CloseInvite, InviteCloseReason } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { fingerprint, idText, rendezvousIdBytes } from "../wire/ids.ts";
import { inviteFailuresMax, inviteMs } from "../wire/limits.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import type { Additions } from "./additions.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import { Mailbox } from "./mailbox.ts";
import { Retry } from "./retry.ts";
import { deviceMessage } from "./seal/membership.ts";
import { InviterPairing, type PairingStep } from "./seal/pairing.ts";
import { formatPairingLink } from "./seal/pairing-link.ts";
import type { CodeCost } from "./seal/primitives.ts";
import { codeSecretBytes, formatCode, pskOfCode } from "./seal/short-code.ts";
import type { JoinerInfo } from "./types.ts";

export interface InvitingOptions {
  readonly confirm: (joiner: JoinerInfo) => boolean | Promise<boolean>;
  readonly origin: string | undefined;
  readonly codeCost: CodeCost | undefined;
}

/** One open invite. */
export class Inviting {
  readonly code: string;
  readonly link: string;
  readonly expiresAtMs: number;
  /** The device that was added. */
  readonly done: Promise<Uint8Array>;
  readonly #core: Core;
  readonly #additions: Additions;
  readonly #options: InvitingOptions;
  readonly #rendezvousId: Uint8Array;
  /** One attempt is one life of a mailbox. */
  #mailbox: Mailbox;
  readonly #linkSecret: Uint8Array;
  readonly #codePsk: Uint8Array;
  readonly #relayKey: Uint8Array;
  readonly #cancelTimer: () => void;
  readonly #retry: Retry;
  #machine: InviterPairing;
  #failures = 0;
  #device: Device | undefined;
  #receipted = false;
  #over = false;
  #resolve: (deviceId: Uint8Array) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;
  /** Called once, when it is over. */
  ended: () => void = () => undefined;

  private constructor(
    core: Core,
    additions: Additions,
    options: InvitingOptions,
    secrets: {
      readonly rendezvousId: Uint8Array;
      readonly linkSecret: Uint8Array;
      readonly codePsk: Uint8Array;
      readonly code: string;
    },
  ) {
    this.#core = core;
    this.#additions = additions;
    this.#retry = new Retry(core.host);
    this.#options = options;
    this.#linkSecret = secrets.linkSecret;
    this.#codePsk = secrets.codePsk;
    this.code = secrets.code;
    this.#rendezvousId = secrets.rendezvousId;
    this.#mailbox = new Mailbox("open", secrets.rendezvousId);
    const address = parseRelayAddress(core.device.relayAddress);
    this.#relayKey = address.relayKey;
    this.link = formatPairingLink(
      {
        rendezvousId: secrets.rendezvousId,
        relayAddress: address.text,
        secret: secrets.linkSecret,
      },
      options.origin,
    );
    this.expiresAtMs = core.host.nowMs() + inviteMs;
    this.#cancelTimer = core.host.setTimer(inviteMs, () =>
      this.#run(() => this.#finish(InviteCloseReason.EXPIRED, "it expired")),
    );
    this.#machine = this.#newMachine();
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Whoever does not listen is told by the status of the invite, not by the end of the process.
    this.done.catch(() => undefined);
  }

  /** Draws the secrets and opens the mailbox. */
  static async open(core: Core, additions: Additions, options: InvitingOptions): Promise<Inviting> {
    const { random } = core.host;
    const short = { rendezvousId: random(rendezvousIdBytes), secret: random(codeSecretBytes) };
    const { relayKey } = parseRelayAddress(core.device.relayAddress);
    return new Inviting(core, additions, options, {
      rendezvousId: short.rendezvousId,
      linkSecret: random(32),
      codePsk:
        core.host.pskOfCode === undefined
          ? await pskOfCode(short, relayKey, options.codeCost)
          : await core.host.pskOfCode(short, relayKey),
      code: formatCode(short),
    });
  }

  /** Opens the mailbox for the first time. Rejects where the relay does not take it. */
  async begin(session: Connection): Promise<void> {
    if (!this.#over) await this.#mailbox.begin(session);
  }

  /**
   * Returns to the mailbox on another session, or opens it for another attempt. A relay that does not
   * take it is asked again, for as long as the invite lives.
   */
  resume(session: Connection): void {
    this.#run(async () => {
      const mailbox = this.#mailbox;
      try {
        await this.begin(session);
        this.#retry.reset();
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        const old = session !== this.#core.session || mailbox !== this.#mailbox;
        if (old || !session.open || this.#over) return;
        if (errorRow(error.code).again !== "later") this.#core.failed(error);
        this.#retry.after(error.retryAfterMs, () => this.resume(session));
      }
    });
  }

  end(): void {
    this.#retry.cancel();
    this.#mailbox.end();
  }

  /** This device lets nobody in any more: it is closed, or no member. */
  giveUp(error: SyncError): void {
    this.#run(() => this.#finish(undefined, error.hint ?? "it ended", error));
  }

  /** A message through the mailbox, or its end. */
  told(body: ReceivedBody): void {
    if (this.#over) return;
    if (body.case === "inviteMessage") {
      const data = this.#mailbox.take(body.value);
      if (data !== undefined) this.#run(() => this.#step(this.#machine.receive(data)));
    } else if (body.case === "closeInvite") {
      this.#closed(body.value);
    }
  }

  /** Calls it off. Once the joiner holds its admission it is too late: then the device is added. */
  async cancel(): Promise<void> {
    if (this.#receipted) return;
    await this.#finish(InviteCloseReason.CANCELLED, "it was cancelled");
  }

  #newMachine(): InviterPairing {
    return new InviterPairing({
      rendezvousId: this.#rendezvousId,
      relayKey: this.#relayKey,
      keys: this.#core.keys,
      linkSecret: this.#linkSecret,
      codePsk: this.#codePsk,
      random: this.#core.host.random,
    });
  }

  async #step(step: PairingStep): Promise<void> {
    const { event } = step;
    for (const frame of step.send) this.#send(frame);
    switch (event?.kind) {
      case "introduced":
        await this.#introduced(event.device, event.comparison, event.means);
        return;
      case "receipted":
        await this.#submit();
        return;
      case "failed":
        await this.#failed();
        return;
      case "admitted":
      case "comparison":
      case undefined:
        return;
    }
  }

  /** Asks the person. Only a yes goes on, and it is kept before the joiner hears of it. */
  async #introduced(
    device: Device,
    comparison: readonly string[],
    means: "link" | "code",
  ): Promise<void> {
    const machine = this.#machine;
    const yes = await this.#options.confirm({
      deviceId: idText(device.deviceId),
      name: device.name,
      fingerprint: fingerprint(device.deviceId),
      comparison,
      means,
    });
    const { chain, device: self } = this.#core;
    if (this.#over || machine !== this.#machine) return;
    if (!yes || chain === undefined) {
      await this.#finish(InviteCloseReason.CANCELLED, "it was declined");
      return;
    }
    await this.#additions.keep(device, this.#rendezvousId);
    if (this.#over || machine !== this.#machine) {
      await this.#additions.forget(device.deviceId);
      return;
    }
    this.#device = device;
    const admission = create(PairingAdmissionSchema, {
      groupId: self.groupId,
      relayAddress: self.relayAddress,
      controlHead: chain.version.head,
      inviter: deviceMessage(this.#core.keys, self.name),
    });
    await this.#step(machine.admit(admission));
  }

  /** The joiner holds its admission: from here on nothing but the relay's answer is waited for. */
  async #submit(): Promise<void> {
    const device = this.#device;
    if (device === undefined) return;
    this.#receipted = true;
    this.#cancelTimer();
    await this.#additions.receipted(device, (error) => {
      this.#run(() =>
        error === undefined
          ? this.#finish(InviteCloseReason.COMPLETED)
          : this.#finish(
              InviteCloseReason.CANCELLED,
              error.hint ?? "the device was removed meanwhile",
              error,
            ),
      );
    });
  }

  async #failed(): Promise<void> {
    this.#failures += 1;
    if (this.#device !== undefined) {
      await this.#additions.forget(this.#device.deviceId);
      this.#device = undefined;
    }
    if (this.#failures >= inviteFailuresMax) {
      await this.#finish(InviteCloseReason.BURNT, "three attempts failed");
      return;
    }
    // The joiner learns that the attempt is over; a further one finds the mailbox empty again.
    this.#machine = this.#newMachine();
    this.#mailbox.end();
    this.#mailbox = new Mailbox("open", this.#rendezvousId);
    const { session } = this.#core;
    if (session === undefined) return;
    try {
      await session.request({
        case: "closeInvite",
        value: { rendezvousId: this.#rendezvousId, reason: InviteCloseReason.UNSPECIFIED },
      });
    } catch (error) {
      // The joiner has closed it already.
      if (!(error instanceof SyncError) || error.code !== ErrorCode.INVITE_INVALID) throw error;
    }
    this.resume(session);
  }

  #closed(close: CloseInvite): void {
    if (!equalBytes(close.rendezvousId, this.#rendezvousId) || this.#receipted) return;
    this.#run(() =>
      close.reason === InviteCloseReason.EXPIRED
        ? this.#finish(undefined, "it expired")
        : this.#failed(),
    );
  }

  /** Over, one way or the other; the relay is told where it does not know. */
  async #finish(
    reason: InviteCloseReason | undefined,
    why?: string,
    error = new SyncError(ErrorCode.INVITE_INVALID, { hint: why ?? "it ended" }),
  ): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#cancelTimer();
    this.#retry.cancel();
    this.#machine.close();
    this.#linkSecret.fill(0);
    this.#codePsk.fill(0);
    const device = this.#device;
    const { session } = this.#core;
    this.ended();
    if (why === undefined && device !== undefined) this.#resolve(device.deviceId);
    else this.#reject(error);
    // Without the joiner's receipt nobody is added, whatever the person said.
    if (device !== undefined && !this.#receipted) {
      await this.#additions.forget(device.deviceId);
    }
    if (reason === undefined || session === undefined) return;
    try {
      await session.request({
        case: "closeInvite",
        value: { rendezvousId: this.#rendezvousId, reason },
      });
    } catch (error) {
      // It never opened there, or is closed already.
      if (!(error instanceof SyncError) || error.code !== ErrorCode.INVITE_INVALID) throw error;
    }
  }

  #send(frame: Uint8Array): void {
    this.#run(() => this.#mailbox.send(frame));
  }

  /** A refusal or a lost connection is made good by the next session; the app's own errors are not. */
  #run(task: () => Promise<void>): void {
    task().catch((error: unknown) => {
      if (error instanceof SyncError) return;
      this.#reject(error);
      this.#run(() => this.#finish(InviteCloseReason.CANCELLED, "it was called off"));
    });
  }
}
