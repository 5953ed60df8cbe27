/**
 * One session: what a device's envelopes ask for, and what it is told. Pure:
 * `step` takes an input and returns what to send, what the relay should do, and
 * whether the session ends. Its driver is `relay.ts`.
 *
 *     greeting ── member ──┐
 *        │                 ├── draining ── closed
 *        └────── lobby ────┘
 *
 * A member speaks for one device in one group. A lobby session has proven a key
 * and nothing more: it is told that key's groups, may found one, and may join a
 * pairing mailbox.
 */
import type { Envelope } from "../gen/syncrelay/sync/v1/envelope_pb.ts";
import type { InviteCloseReason } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import type { SealedWitness } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { PresenceState } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { type EnvelopeBody, encodeEnvelope, encodeError, toNumber } from "../wire/envelope.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { encodeBlobs, encodePushAck } from "../wire/hot-encoders.ts";
import { rendezvousIdBytes, signatureBytes } from "../wire/ids.ts";
import {
  inviteMessageBytesMax,
  inviteMessagesMax,
  pullWindowBytesMax,
  witnessBytesMax,
} from "../wire/limits.ts";
import type { Writable } from "./draft.ts";
import type { PushRequest } from "./group-log.ts";
import { isLifeBody, type LifeBody, type LifeRequest, readLife } from "./life-requests.ts";
import type { RelayLimits } from "./options.ts";
import { type BucketRate, pushRateOf, TokenBucket } from "./rate-limit.ts";
import { type HelloRequest, type MembershipRequest, readChange, readPush } from "./requests.ts";
import type { LifeNotice } from "./retention.ts";
import {
  isWakeUpBody,
  readWakeUp,
  type WakeUpBody,
  type WakeUpRequest,
} from "./wake-up-requests.ts";

/** A pull under way. */
export interface PullUnderWay {
  readonly requestId: number;
  /** The cursor that pages continue after. */
  after: number;
  /** 0: up to the head, and delivery goes on from there. */
  readonly until: number;
  /** Bytes that may still be sent unasked. */
  windowBytes: number;
  /** A page is being read. */
  reading: boolean;
}

/** A page of the log, its blobs encoded as they are sent. */
export interface Page {
  readonly through: number;
  readonly fields: readonly Uint8Array[];
  readonly bytes: number;
}

/** What a commit added to the session's group. */
export interface CommittedBlobs {
  /** The head before, and after. */
  readonly after: number;
  readonly through: number;
  /** The encoded `Deliver`s for a device: without the bodies of its own blobs. */
  deliverTo(deviceKey: number): readonly Uint8Array[];
}

export type SessionState =
  | { readonly kind: "greeting" }
  | MemberState
  | LobbyState
  | { readonly kind: "draining" }
  | { readonly kind: "closed" };

/** What a device on a session without a group may bring back to a group. */
export interface Returning {
  readonly groupId: Uint8Array;
  readonly inviteHash: Uint8Array;
}

export interface LobbyState {
  readonly kind: "lobby";
  readonly changes: TokenBucket;
  readonly returning: Returning | undefined;
}

export interface MemberState {
  readonly kind: "member";
  readonly groupId: Uint8Array;
  readonly deviceKey: number;
  readonly pushes: TokenBucket;
  /** The cursor up to which this connection was sent everything. */
  sentThrough: number;
  /** It was told to pull and has not yet. */
  notified: boolean;
  pull: PullUnderWay | undefined;
}

/** What the relay found for a `Hello`. */
export type Greeting =
  | {
      readonly kind: "member";
      readonly groupId: Uint8Array;
      readonly deviceKey: number;
      /** The device's, which all its sessions take from. */
      readonly pushes: TokenBucket;
      /** The device's read cursor where it belongs to this log, else 0. */
      readonly sentThrough: number;
      readonly welcome: EnvelopeBody;
      readonly witnesses: readonly EnvelopeBody[];
    }
  | {
      readonly kind: "lobby";
      readonly welcome: EnvelopeBody;
      readonly returning?: Returning;
    };

export type SessionInput =
  | { readonly kind: "hello"; readonly hello: HelloRequest }
  | { readonly kind: "greeted"; readonly greeting: Greeting }
  | { readonly kind: "envelope"; readonly envelope: Envelope }
  /** A push is on disk. */
  | { readonly kind: "stored"; readonly requestId: number; readonly cursors: readonly number[] }
  /** Any other request was carried out. */
  | { readonly kind: "answer"; readonly requestId: number; readonly body: EnvelopeBody }
  | { readonly kind: "refused"; readonly requestId: number; readonly error: SyncError }
  | {
      readonly kind: "page";
      readonly pull: PullUnderWay;
      readonly page: Page;
      readonly head: number;
    }
  | {
      readonly kind: "committed";
      readonly blobs: CommittedBlobs;
      /** Whether the connection has more waiting than it may. */
      readonly crowded: boolean;
      /** What a `Notify` says beside the head. */
      readonly notice: () => LifeNotice;
    }
  /** A snapshot stands in place of what the pull would have gone on with. */
  | {
      readonly kind: "replaced";
      readonly pull: PullUnderWay;
      readonly snapshot: EnvelopeBody;
      readonly through: number;
    }
  /** What the relay says by itself: a membership change, presence, witnesses, mailbox. */
  | {
      readonly kind: "tell";
      readonly body: EnvelopeBody;
      /** The envelope, where it is the same for many and was encoded for one of them. */
      readonly encoded?: Uint8Array | undefined;
    }
  | { readonly kind: "drain" }
  /** Ends the session; the error is told, as the last envelope. */
  | { readonly kind: "end"; readonly error: SyncError };

/** What the relay should do; answers come back as inputs. */
export type SessionEffect =
  | { readonly kind: "greet"; readonly hello: HelloRequest }
  | { readonly kind: "push"; readonly requestId: number; readonly push: PushRequest }
  | { readonly kind: "read"; readonly pull: PullUnderWay }
  | {
      readonly kind: "ack";
      readonly requestId: number;
      readonly applied: number;
      readonly witness: SealedWitness | undefined;
    }
  | { readonly kind: "presence"; readonly requestId: number; readonly state: PresenceState }
  | {
      readonly kind: "change";
      readonly requestId: number;
      readonly request: MembershipRequest;
      /** Set where a device brings it back that is not in the group. */
      readonly returning?: Returning;
    }
  | { readonly kind: "control"; readonly requestId: number; readonly after: number }
  | { readonly kind: "life"; readonly requestId: number; readonly request: LifeRequest }
  | { readonly kind: "wakeUp"; readonly requestId: number; readonly request: WakeUpRequest }
  | { readonly kind: "mailbox"; readonly requestId: number; readonly request: MailboxRequest };

/** What is asked of a pairing mailbox. */
export type MailboxRequest =
  | { readonly kind: "open"; readonly rendezvousId: Uint8Array; readonly received: number }
  | { readonly kind: "join"; readonly rendezvousId: Uint8Array; readonly received: number }
  | {
      readonly kind: "message";
      readonly rendezvousId: Uint8Array;
      readonly number: number;
      readonly data: Uint8Array;
    }
  | {
      readonly kind: "close";
      readonly rendezvousId: Uint8Array;
      readonly reason: InviteCloseReason;
    };

export interface SessionOutput {
  /** Encoded envelopes, in order. */
  readonly send: Uint8Array[];
  readonly effects: SessionEffect[];
  /** Set where the session ends: after `send` was sent. */
  close?: SyncError;
  /** What a request was refused with: for figures. */
  refused?: ErrorCode;
}

/** Foundings one lobby session may try: whoever asks for one has shown no more than a key. */
const foundingRate = { perS: 0.1, burst: 5 };
/** Control blobs that a device may bring back: it has shown an invite. */
const returnRate = { perS: 10, burst: 1_000 };

/** Shared by the outputs that ask for nothing. */
const none: SessionEffect[] = [];
Object.freeze(none);

export class Session {
  #state: SessionState = { kind: "greeting" };
  readonly #deviceId: Uint8Array;
  readonly #limits: RelayLimits;
  readonly #wakesDevices: boolean;
  #pushRate: BucketRate;

  /** A session of the device whose key the handshake proved. `wakesDevices`: whether the relay announces that. */
  constructor(deviceId: Uint8Array, limits: RelayLimits, wakesDevices = false) {
    this.#deviceId = deviceId;
    this.#limits = limits;
    this.#wakesDevices = wakesDevices;
    this.#pushRate = pushRateOf(undefined, limits);
  }

  /** Takes another rate of pushes over. */
  takePushRate(rate: BucketRate): void {
    this.#pushRate = rate;
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Takes one input. A session that is closed does nothing. */
  step(input: SessionInput, nowMs: number): SessionOutput {
    // The acknowledgements of a commit come one after another: nothing more is made for each than it takes.
    if (input.kind === "stored") {
      const send =
        this.#state.kind === "closed" ? [] : [encodePushAck(input.requestId, input.cursors)];
      return { send, effects: none };
    }
    const output: Writable<SessionOutput> = { send: [], effects: [] };
    try {
      this.#take(input, nowMs, output);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#end(error, output);
    }
    return output;
  }

  #take(
    input: Exclude<SessionInput, { kind: "stored" }>,
    nowMs: number,
    output: Writable<SessionOutput>,
  ): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    switch (input.kind) {
      case "hello":
        if (state.kind !== "greeting") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
        output.effects.push({ kind: "greet", hello: input.hello });
        return;
      case "greeted":
        if (state.kind === "greeting") this.#greeted(input.greeting, nowMs, output);
        return;
      case "envelope":
        this.#envelope(input.envelope, nowMs, output);
        return;
      case "answer":
        if (input.requestId !== 0) output.send.push(encodeEnvelope(input.requestId, input.body));
        return;
      case "refused":
        this.#refuse(input.requestId, input.error, output);
        return;
      case "page":
        if (state.kind === "member") this.#page(state, input, output);
        return;
      case "committed":
        if (state.kind === "member") deliver(state, input, output);
        return;
      case "replaced":
        if (state.kind === "member") replace(state, input, output);
        return;
      case "tell":
        if (state.kind !== "greeting")
          output.send.push(input.encoded ?? encodeEnvelope(0, input.body));
        return;
      case "drain":
        this.#state = { kind: "draining" };
        return;
      case "end":
        this.#end(input.error, output);
        return;
    }
  }

  #greeted(greeting: Greeting, nowMs: number, output: SessionOutput): void {
    output.send.push(encodeEnvelope(0, greeting.welcome));
    if (greeting.kind === "lobby") {
      const { returning } = greeting;
      const changes = new TokenBucket(changeRate(returning), nowMs);
      this.#state = { kind: "lobby", changes, returning };
      return;
    }
    for (const witnesses of greeting.witnesses) output.send.push(encodeEnvelope(0, witnesses));
    this.#state = {
      kind: "member",
      groupId: greeting.groupId,
      deviceKey: greeting.deviceKey,
      pushes: greeting.pushes,
      sentThrough: greeting.sentThrough,
      notified: false,
      pull: undefined,
    };
  }

  #envelope(envelope: Envelope, nowMs: number, output: Writable<SessionOutput>): void {
    const requestId = toNumber(envelope.requestId);
    const state = this.#state;
    switch (state.kind) {
      // A device speaks once it was welcomed.
      case "greeting":
        throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
      case "draining":
        this.#refuseOnly(requestId, new SyncError(ErrorCode.DRAINING), output);
        return;
      case "member":
        this.#memberEnvelope(state, requestId, envelope.body, nowMs, output);
        return;
      case "lobby":
        this.#lobbyEnvelope(state, requestId, envelope.body, nowMs, output);
        return;
      case "closed":
        return;
    }
  }

  #memberEnvelope(
    state: MemberState,
    requestId: number,
    body: Envelope["body"],
    nowMs: number,
    output: Writable<SessionOutput>,
  ): void {
    switch (body.case) {
      case "push": {
        needsId(requestId);
        const waitMs = state.pushes.take(this.#pushRate, nowMs);
        if (waitMs > 0) {
          const error = new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: waitMs });
          this.#refuseOnly(requestId, error, output);
          return;
        }
        const push = this.#readPush(state, requestId, body.value, output);
        if (push !== undefined) output.effects = [{ kind: "push", requestId, push }];
        return;
      }
      case "pull": {
        needsId(requestId);
        const pull: PullUnderWay = {
          requestId,
          after: toNumber(body.value.after),
          until: toNumber(body.value.until),
          windowBytes: Math.min(body.value.windowBytes, pullWindowBytesMax),
          reading: true,
        };
        if (pull.until !== 0 && pull.until <= pull.after) {
          throw new SyncError(ErrorCode.ENVELOPE_INVALID);
        }
        state.pull = pull;
        if (pull.until === 0) {
          state.sentThrough = pull.after;
          state.notified = false;
        }
        output.effects.push({ kind: "read", pull });
        return;
      }
      case "pullMore": {
        const { pull } = state;
        // A window for a pull that is done, or was replaced, has come too late.
        if (pull === undefined || pull.requestId !== requestId) return;
        const wasClosed = pull.windowBytes <= 0;
        pull.windowBytes = Math.min(pull.windowBytes + body.value.windowBytes, pullWindowBytesMax);
        if (wasClosed && pull.windowBytes > 0 && !pull.reading) {
          pull.reading = true;
          output.effects.push({ kind: "read", pull });
        }
        return;
      }
      case "ack": {
        const { witness } = body.value;
        if (witness !== undefined) checkWitness(witness);
        output.effects.push({
          kind: "ack",
          requestId,
          applied: toNumber(body.value.applied),
          witness,
        });
        return;
      }
      case "presence": {
        const presence = body.value.state;
        if (presence !== PresenceState.ONLINE && presence !== PresenceState.AWAY) {
          throw new SyncError(ErrorCode.ENVELOPE_INVALID);
        }
        output.effects.push({ kind: "presence", requestId, state: presence });
        return;
      }
      case "changeMembership": {
        needsId(requestId);
        const request = readChange(body.value);
        if (request.founding !== undefined) throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
        output.effects.push({ kind: "change", requestId, request });
        return;
      }
      case "pullControl":
        needsId(requestId);
        output.effects.push({ kind: "control", requestId, after: toNumber(body.value.after) });
        return;
      case "openInvite":
        needsId(requestId);
        output.effects.push({
          kind: "mailbox",
          requestId,
          request: {
            kind: "open",
            rendezvousId: rendezvousId(body.value.rendezvousId),
            received: body.value.received,
          },
        });
        return;
      case "inviteMessage":
      case "closeInvite":
        output.effects.push(mailboxEffect(requestId, body));
        return;
      default:
        if (isLifeBody(body)) this.#life(requestId, body, output);
        else if (isWakeUpBody(body)) this.#wakeUp(requestId, body, output);
        else this.#unexpected(requestId, body.case, output);
    }
  }

  #lobbyEnvelope(
    state: LobbyState,
    requestId: number,
    body: Envelope["body"],
    nowMs: number,
    output: SessionOutput,
  ): void {
    switch (body.case) {
      case "changeMembership": {
        needsId(requestId);
        const request = readChange(body.value);
        const { returning } = state;
        // Without a group to come back to, a group can only be founded; with one, no other.
        const legal =
          request.founding === undefined
            ? returning !== undefined
            : returning === undefined || equalBytes(request.founding.groupId, returning.groupId);
        if (!legal) throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
        const waitMs = state.changes.take(changeRate(returning), nowMs);
        if (waitMs > 0) {
          const error = new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: waitMs });
          this.#refuseOnly(requestId, error, output);
          return;
        }
        output.effects.push({
          kind: "change",
          requestId,
          request,
          ...(returning === undefined ? {} : { returning }),
        });
        return;
      }
      case "joinInvite":
        needsId(requestId);
        output.effects.push({
          kind: "mailbox",
          requestId,
          request: {
            kind: "join",
            rendezvousId: rendezvousId(body.value.rendezvousId),
            received: body.value.received,
          },
        });
        return;
      case "inviteMessage":
      case "closeInvite":
        output.effects.push(mailboxEffect(requestId, body));
        return;
      default:
        this.#unexpected(requestId, body.case, output);
    }
  }

  /** What is asked of objects and snapshots. An object over the limit is refused alone. */
  #life(requestId: number, body: LifeBody, output: SessionOutput): void {
    needsId(requestId);
    try {
      output.effects.push({ kind: "life", requestId, request: readLife(body, this.#deviceId) });
    } catch (error) {
      if (!(error instanceof SyncError) || error.code !== ErrorCode.TOO_LARGE) throw error;
      this.#refuseOnly(requestId, error, output);
    }
  }

  /** What is asked about being woken: of a relay that does not announce it, nothing that it knows. */
  #wakeUp(requestId: number, body: WakeUpBody, output: SessionOutput): void {
    if (!this.#wakesDevices) {
      this.#unexpected(requestId, undefined, output);
      return;
    }
    needsId(requestId);
    output.effects.push({ kind: "wakeUp", requestId, request: readWakeUp(body) });
  }

  /** A blob over the limit is refused alone; every other fault in a push ends the session. */
  #readPush(
    state: MemberState,
    requestId: number,
    push: Parameters<typeof readPush>[0],
    output: SessionOutput,
  ): PushRequest | undefined {
    try {
      return readPush(push, state.groupId, this.#deviceId, this.#limits.blobBytesMax);
    } catch (error) {
      if (!(error instanceof SyncError) || error.code !== ErrorCode.TOO_LARGE) throw error;
      this.#refuseOnly(requestId, error, output);
      return undefined;
    }
  }

  /**
   * A body that this version does not know is a newer device's; one it knows
   * and does not serve here is a defect, and ends the session.
   */
  #unexpected(requestId: number, known: string | undefined, output: SessionOutput): void {
    const error = new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    if (known !== undefined) throw error;
    this.#refuseOnly(requestId, error, output);
  }

  #page(
    state: MemberState,
    input: Extract<SessionInput, { kind: "page" }>,
    output: SessionOutput,
  ): void {
    const { pull, page, head } = input;
    // A page of a pull that was replaced meanwhile.
    if (state.pull !== pull) return;
    pull.reading = false;
    const last = pull.until === 0 ? head : Math.min(pull.until, head);
    const done = page.through >= last;
    output.send.push(
      encodeBlobs(
        pull.requestId,
        { after: pull.after, through: page.through, done, head },
        page.fields,
      ),
    );
    pull.after = page.through;
    pull.windowBytes -= page.bytes;
    if (pull.until === 0) state.sentThrough = page.through;
    if (done) {
      state.pull = undefined;
    } else if (pull.windowBytes > 0) {
      pull.reading = true;
      output.effects.push({ kind: "read", pull });
    }
  }

  #refuse(requestId: number, error: SyncError, output: SessionOutput): void {
    if (errorRow(error.code).ends === "session") {
      this.#state = { kind: "closed" };
      output.close = error;
      output.send.push(encodeError(requestId, error));
      return;
    }
    const state = this.#state;
    if (state.kind === "member" && state.pull?.requestId === requestId) state.pull = undefined;
    this.#refuseOnly(requestId, error, output);
  }

  #refuseOnly(requestId: number, error: SyncError, output: SessionOutput): void {
    output.refused = error.code;
    if (requestId !== 0) output.send.push(encodeError(requestId, error));
  }

  #end(error: SyncError, output: SessionOutput): void {
    this.#state = { kind: "closed" };
    output.send.push(encodeError(0, error));
    output.close = error;
  }
}

/**
 * New blobs reach a connection that was sent everything before them and has
 * room; any other is told once to pull, at its own pace. A pull up to the head
 * that is under way comes to them by itself.
 */
function deliver(
  state: MemberState,
  { blobs, crowded, notice }: Extract<SessionInput, { kind: "committed" }>,
  output: SessionOutput,
): void {
  if (state.pull !== undefined && state.pull.until === 0) return;
  // Read from disk, or greeted, between the commit and this telling of it.
  if (blobs.through === state.sentThrough) return;
  if (state.sentThrough === blobs.after && !crowded) {
    output.send.push(...blobs.deliverTo(state.deviceKey));
    state.sentThrough = blobs.through;
    return;
  }
  if (state.notified) return;
  state.notified = true;
  const value = { head: BigInt(blobs.through), ...notice() };
  output.send.push(encodeEnvelope(0, { case: "notify", value }));
}

/** A pull that would go on below what a snapshot replaced is told the snapshot, and goes on behind it. */
function replace(
  state: MemberState,
  { pull, snapshot, through }: Extract<SessionInput, { kind: "replaced" }>,
  output: SessionOutput,
): void {
  if (state.pull !== pull || pull.after >= through) return;
  output.send.push(encodeEnvelope(pull.requestId, snapshot));
  pull.after = through;
  state.sentThrough = through;
  output.effects.push({ kind: "read", pull });
}

function changeRate(returning: Returning | undefined): BucketRate {
  return returning === undefined ? foundingRate : returnRate;
}

function needsId(requestId: number): void {
  if (requestId === 0) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
}

function rendezvousId(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength !== rendezvousIdBytes) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  return bytes;
}

function checkWitness(witness: SealedWitness): void {
  if (
    witness.counter === 0n ||
    witness.sealed.byteLength > witnessBytesMax ||
    witness.signature.byteLength !== signatureBytes
  ) {
    throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
}

function mailboxEffect(
  requestId: number,
  body: Extract<Envelope["body"], { case: "inviteMessage" | "closeInvite" }>,
): SessionEffect {
  needsId(requestId);
  if (body.case === "closeInvite") {
    const request = {
      kind: "close",
      rendezvousId: rendezvousId(body.value.rendezvousId),
      reason: body.value.reason,
    } as const;
    return { kind: "mailbox", requestId, request };
  }
  const { number, data } = body.value;
  if (number < 1 || number > inviteMessagesMax || data.byteLength > inviteMessageBytesMax) {
    throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  return {
    kind: "mailbox",
    requestId,
    request: {
      kind: "message",
      rendezvousId: rendezvousId(body.value.rendezvousId),
      number,
      data,
    },
  };
}
