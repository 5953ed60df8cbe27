/**
 * Pairing: how a device that holds a code or a link becomes known to a member.
 * Two machines, one for each side, that take frames and return frames; the
 * mailbox carries them in order, and time is somebody else's.
 *
 *   joiner                                   inviting device
 *   start()      — noise 1 ───────────────→
 *                ←─ noise 2, commitment ───
 *                — noise 3, introduction ─→  "introduced": ask the person
 *   "comparison" ←─ reveal ────────────────
 *   "admitted"   ←─ admission ─────────────  admit(): a person said yes
 *   receipt()    — receipt ───────────────→  "receipted": submit the addition
 *
 * The handshake is Noise XXpsk0 (Noise specification, sections 7.5 and 9.4); the
 * psk says that the joiner holds the secret, and the prologue which mailbox and
 * relay it is for. Whatever a peer sends ends at worst in a "failed" event, and
 * the machine is then of no more use.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import type { Device } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import {
  type PairingAdmission,
  PairingAdmissionSchema,
  PairingCommitmentSchema,
  PairingIntroductionSchema,
  PairingMeans,
  PairingReceiptSchema,
  PairingRevealSchema,
} from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { emptyBytes, equalBytes } from "../../wire/bytes.ts";
import type { Handshake, Transport } from "../../wire/channel.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256, hashBytes } from "../../wire/hash.ts";
import { groupIdBytes } from "../../wire/ids.ts";
import { inviteMessageBytesMax } from "../../wire/limits.ts";
import { decodeMessage, isName } from "./checks.ts";
import { comparisonWords } from "./comparison.ts";
import {
  checkedDevice,
  decryptFrame,
  frameOf,
  handshakeOf,
  openFrame,
  type PairingOptions,
  pskOfLink,
  relayKeyOf,
  sealFrame,
} from "./pairing-frames.ts";
import { wipe } from "./primitives.ts";

/** Each side's share of the comparison string. */
const nonceBytes = 16;

/** How a joiner got its secret. */
export type PairingMeansName = "link" | "code";

/** What a machine tells whoever drives it. */
export type PairingEvent =
  /** The inviting device: somebody who holds the secret asks to join. */
  | {
      readonly kind: "introduced";
      readonly device: Device;
      readonly comparison: readonly string[];
      readonly means: PairingMeansName;
    }
  /** The joiner: what the person may compare. */
  | { readonly kind: "comparison"; readonly comparison: readonly string[] }
  /** The joiner: keep the admission, then call `receipt`. */
  | { readonly kind: "admitted"; readonly admission: PairingAdmission }
  /** The inviting device: the joiner has kept it, submit the addition. */
  | { readonly kind: "receipted" }
  /** It is over, and counts as an attempt. */
  | { readonly kind: "failed"; readonly error: SyncError };

/** Frames to send, and what happened. */
export interface PairingStep {
  readonly send: readonly Uint8Array[];
  readonly event?: PairingEvent;
}

/** What the inviting device starts from. */
export interface InviterOptions extends PairingOptions {
  /** The secret in the link, 32 bytes. */
  readonly linkSecret: Uint8Array;
  /** The psk of the short code, from `pskOfCode`. */
  readonly codePsk: Uint8Array;
}

/** What the joiner starts from. */
export interface JoinerOptions extends PairingOptions {
  /** What people will call this device. */
  readonly name: string;
  readonly means: PairingMeansName;
  /** The link's secret as it stands there, or the code's psk, from `pskOfCode`. */
  readonly secret: Uint8Array;
}

type InviterState =
  | { readonly at: "waiting"; readonly linkPsk: Uint8Array; readonly codePsk: Uint8Array }
  | {
      readonly at: "committed";
      readonly handshake: Handshake;
      readonly nonce: Uint8Array;
      readonly means: PairingMeansName;
    }
  | { readonly at: "introduced"; readonly transport: Transport }
  | { readonly at: "admitted"; readonly transport: Transport }
  | { readonly at: "done" }
  | { readonly at: "failed"; readonly error: SyncError };

/** The inviting device's side of one attempt. A further attempt takes a new machine. */
export class InviterPairing {
  readonly #options: PairingOptions;
  #state: InviterState;

  constructor(options: InviterOptions) {
    this.#options = options;
    this.#state = {
      at: "waiting",
      linkPsk: pskOfLink(options.linkSecret),
      codePsk: new Uint8Array(options.codePsk),
    };
  }

  /** Takes the joiner's next frame. Never throws for what it holds. */
  receive(frame: Uint8Array): PairingStep {
    return stepOf(
      () => this.#receive(frame),
      (error) => {
        this.close(error);
      },
    );
  }

  /** A person said yes. Throws where nobody was introduced. */
  admit(admission: PairingAdmission): PairingStep {
    if (this.#state.at !== "introduced") throw new Error("nobody waits to be admitted");
    const { transport } = this.#state;
    const send = [sealFrame(transport, PairingAdmissionSchema, admission)];
    this.#state = { at: "admitted", transport };
    return { send };
  }

  /** Ends it and wipes what it holds. */
  close(error: SyncError = new SyncError(ErrorCode.INVITE_INVALID)): void {
    if (this.#state.at === "waiting") wipe(this.#state.linkPsk, this.#state.codePsk);
    if (this.#state.at === "introduced" || this.#state.at === "admitted") {
      this.#state.transport.close();
    }
    this.#state = { at: "failed", error };
  }

  #receive(bytes: Uint8Array): PairingStep {
    const state = this.#state;
    switch (state.at) {
      case "waiting":
        return this.#begin(openFrame(bytes), state.linkPsk, state.codePsk);
      case "committed":
        return this.#introduce(openFrame(bytes).noise, state);
      case "introduced":
        // The joiner has nothing to say before it is admitted.
        throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
      case "admitted":
        decryptFrame(state.transport, PairingReceiptSchema, openFrame(bytes).noise);
        state.transport.close();
        this.#state = { at: "done" };
        return { send: [], event: { kind: "receipted" } };
      case "done":
        return { send: [] };
      case "failed":
        throw state.error;
    }
  }

  /** Noise 1 in, noise 2 with the commitment out. */
  #begin(
    frame: { means: PairingMeans; noise: Uint8Array },
    linkPsk: Uint8Array,
    codePsk: Uint8Array,
  ): PairingStep {
    const means = meansNames[frame.means];
    if (means === undefined) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    const handshake = handshakeOf("responder", means === "link" ? linkPsk : codePsk, this.#options);
    const payload = handshake.read(frame.noise);
    if (payload.byteLength !== 0) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    const nonce = this.#options.random(nonceBytes);
    const commitment = toBinary(
      PairingCommitmentSchema,
      create(PairingCommitmentSchema, { commitment: blake2b256(nonce) }),
    );
    const reply = handshake.write(commitment);
    wipe(linkPsk, codePsk);
    this.#state = { at: "committed", handshake, nonce, means };
    return { send: [frameOf(reply)] };
  }

  /** Noise 3 in, the reveal out: the joiner is authenticated as the holder of its key. */
  #introduce(noise: Uint8Array, state: Extract<InviterState, { at: "committed" }>): PairingStep {
    const payload = state.handshake.read(noise);
    const transport = state.handshake.finish();
    const introduction = decodeMessage(
      PairingIntroductionSchema,
      payload,
      inviteMessageBytesMax,
      ErrorCode.ENVELOPE_INVALID,
    );
    if (introduction.nonce.byteLength !== nonceBytes) {
      throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    }
    const device = checkedDevice({
      deviceId: transport.remoteKey,
      signingKey: introduction.signingKey,
      sealingKey: introduction.sealingKey,
      name: introduction.name,
    });
    const comparison = comparisonWords(transport.handshakeHash, state.nonce, introduction.nonce);
    const reveal = create(PairingRevealSchema, { nonce: state.nonce });
    const send = [sealFrame(transport, PairingRevealSchema, reveal)];
    this.#state = { at: "introduced", transport };
    return { send, event: { kind: "introduced", device, comparison, means: state.means } };
  }
}

type JoinerState =
  | { readonly at: "ready"; readonly handshake: Handshake }
  | { readonly at: "started"; readonly handshake: Handshake }
  | {
      readonly at: "introduced";
      readonly transport: Transport;
      readonly commitment: Uint8Array;
      readonly nonce: Uint8Array;
    }
  | { readonly at: "compared"; readonly transport: Transport }
  | { readonly at: "admitted"; readonly transport: Transport }
  | { readonly at: "done" }
  | { readonly at: "failed"; readonly error: SyncError };

/** The joiner's side of one attempt. */
export class JoinerPairing {
  readonly #options: JoinerOptions;
  #state: JoinerState;

  constructor(options: JoinerOptions) {
    if (!isName(options.name)) throw new RangeError("a device's name has 1 to 64 bytes");
    this.#options = options;
    const psk = options.means === "link" ? pskOfLink(options.secret) : options.secret;
    this.#state = { at: "ready", handshake: handshakeOf("initiator", psk, options) };
    if (options.means === "link") wipe(psk);
  }

  /** The first frame. Once only. */
  start(): PairingStep {
    if (this.#state.at !== "ready") throw new Error("a pairing starts once");
    const { handshake } = this.#state;
    const means = this.#options.means === "link" ? PairingMeans.LINK : PairingMeans.CODE;
    const send = [frameOf(handshake.write(emptyBytes), means)];
    this.#state = { at: "started", handshake };
    return { send };
  }

  /** Takes the inviting device's next frame. Never throws for what it holds. */
  receive(frame: Uint8Array): PairingStep {
    return stepOf(
      () => this.#receive(frame),
      (error) => {
        this.close(error);
      },
    );
  }

  /** The admission is kept. Throws where none came. */
  receipt(): PairingStep {
    if (this.#state.at !== "admitted") throw new Error("there is no admission to receipt");
    const { transport } = this.#state;
    const send = [sealFrame(transport, PairingReceiptSchema, create(PairingReceiptSchema))];
    transport.close();
    this.#state = { at: "done" };
    return { send };
  }

  /** Ends it and wipes what it holds. */
  close(error: SyncError = new SyncError(ErrorCode.INVITE_INVALID)): void {
    const state = this.#state;
    if (state.at === "introduced" || state.at === "compared" || state.at === "admitted") {
      state.transport.close();
    }
    this.#state = { at: "failed", error };
  }

  #receive(bytes: Uint8Array): PairingStep {
    const state = this.#state;
    switch (state.at) {
      case "started":
        return this.#introduce(openFrame(bytes).noise, state.handshake);
      case "introduced":
        return this.#compare(openFrame(bytes).noise, state);
      case "compared":
        return this.#admitted(openFrame(bytes).noise, state.transport);
      case "ready":
      case "admitted":
        throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
      case "done":
        return { send: [] };
      case "failed":
        throw state.error;
    }
  }

  /** Noise 2 with the commitment in, noise 3 with the introduction out. */
  #introduce(noise: Uint8Array, handshake: Handshake): PairingStep {
    const payload = handshake.read(noise);
    const { commitment } = decodeMessage(
      PairingCommitmentSchema,
      payload,
      inviteMessageBytesMax,
      ErrorCode.ENVELOPE_INVALID,
    );
    if (commitment.byteLength !== hashBytes) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    const { keys, name, random } = this.#options;
    const nonce = random(nonceBytes);
    const introduction = create(PairingIntroductionSchema, {
      signingKey: keys.signingKey,
      sealingKey: keys.sealingKey,
      name,
      nonce,
    });
    const message = handshake.write(toBinary(PairingIntroductionSchema, introduction));
    this.#state = { at: "introduced", transport: handshake.finish(), commitment, nonce };
    return { send: [frameOf(message)] };
  }

  /** The reveal must be what was committed to before this side's nonce was known. */
  #compare(noise: Uint8Array, state: Extract<JoinerState, { at: "introduced" }>): PairingStep {
    const { nonce } = decryptFrame(state.transport, PairingRevealSchema, noise);
    if (nonce.byteLength !== nonceBytes || !equalBytes(blake2b256(nonce), state.commitment)) {
      throw new SyncError(ErrorCode.HANDSHAKE_FAILED);
    }
    const comparison = comparisonWords(state.transport.handshakeHash, nonce, state.nonce);
    this.#state = { at: "compared", transport: state.transport };
    return { send: [], event: { kind: "comparison", comparison } };
  }

  #admitted(noise: Uint8Array, transport: Transport): PairingStep {
    const admission = decryptFrame(transport, PairingAdmissionSchema, noise);
    const inviter = checkedDevice(admission.inviter);
    if (
      admission.groupId.byteLength !== groupIdBytes ||
      admission.controlHead.byteLength !== hashBytes ||
      // Who invites is who this channel is with, and through the relay it goes by.
      !equalBytes(inviter.deviceId, transport.remoteKey) ||
      !equalBytes(relayKeyOf(admission.relayAddress), this.#options.relayKey)
    ) {
      throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    }
    this.#state = { at: "admitted", transport };
    return { send: [], event: { kind: "admitted", admission } };
  }
}

const meansNames: Readonly<Partial<Record<PairingMeans, PairingMeansName>>> = {
  [PairingMeans.LINK]: "link",
  [PairingMeans.CODE]: "code",
};

/** One step; a failure becomes the event that says so. Anything but a `SyncError` is a defect. */
function stepOf(run: () => PairingStep, fail: (error: SyncError) => void): PairingStep {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    fail(error);
    return { send: [], event: { kind: "failed", error } };
  }
}
