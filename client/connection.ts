/**
 * One connection to a relay: the handshake as initiator, `Hello`, records, requests and their
 * answers, pings. It ends once, for one reason, and is then of no use.
 *
 *     connecting ── handshaking ── greeting ── open ── closed
 *
 * The relay's static key is compared with the address after message 2, before message 3 would show
 * who this device is.
 */
import type { Welcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { concatBytes, emptyBytes, equalBytes } from "../wire/bytes.ts";
import { Handshake, type KeyPair, type Transport } from "../wire/channel.ts";
import {
  decodeEnvelopes,
  type Envelope,
  type EnvelopeBody,
  encodeEnvelope,
  toNumber,
} from "../wire/envelope.ts";
import {
  closeCodeOf,
  ErrorCode,
  errorOfCloseCode,
  errorOfMessage,
  SyncError,
} from "../wire/errors.ts";
import { fingerprint } from "../wire/ids.ts";
import {
  blobBytesDefault,
  envelopeBytesMax,
  handshakeMsMax,
  pingIntervalMs,
  recordBytesMax,
} from "../wire/limits.ts";
import { prologue } from "../wire/protocol.ts";
import { openRecord, sealRecord } from "../wire/records.ts";
import type { RelayAddress } from "../wire/relay-address.ts";
import type { Host, Socket } from "./host.ts";
import type { ConnectionEnd } from "./reconnect.ts";
import { atTurnEnd } from "./turn.ts";

/** From opening the socket to `Welcome`, in milliseconds: twice what the relay allows itself. */
const welcomeMsMax = 2 * handshakeMsMax;
/** An answer to a request, in milliseconds. */
const answerMsMax = 60_000;
/** Pings without anything heard that end a connection. */
const missedMax = 2;

/** The body of a received envelope. */
export type ReceivedBody = Envelope["body"];

/** The bounds of a session, as `Welcome` states them. */
export interface SessionLimits {
  readonly blobBytesMax: number;
  readonly envelopeBytesMax: number;
  readonly batchBlobsMax: number;
}

export interface ConnectionOptions {
  readonly host: Host;
  readonly address: RelayAddress;
  readonly keyPair: KeyPair;
  /** `Hello`, encoded. */
  readonly hello: Uint8Array;
  /** A request that changes nothing: asked where the platform cannot ping. */
  readonly probe?: () => EnvelopeBody | undefined;
}

export interface ConnectionHandlers {
  welcome(welcome: Welcome): void;
  /** What the relay says by itself. */
  told(body: ReceivedBody): void;
  /** Once, at the end. */
  closed(end: ConnectionEnd): void;
}

type State =
  | { readonly kind: "connecting" }
  | { readonly kind: "handshaking"; readonly handshake: Handshake }
  | { readonly kind: "greeting"; readonly transport: Transport }
  | { readonly kind: "open"; readonly transport: Transport }
  | { readonly kind: "closed" };

/** A request that waits. */
interface Pending {
  /** Takes an answer; true: more will come under the same id. */
  readonly take: (body: ReceivedBody) => boolean;
  readonly lost: (error: SyncError) => void;
  /** Undefined: it may take as long as it likes. */
  readonly untilMs: number | undefined;
}

export class Connection {
  readonly #host: Host;
  readonly #options: ConnectionOptions;
  readonly #handlers: ConnectionHandlers;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  #state: State = { kind: "connecting" };
  #limits: SessionLimits = {
    blobBytesMax: blobBytesDefault,
    envelopeBytesMax: envelopeBytesMax(blobBytesDefault),
    batchBlobsMax: 1,
  };
  #nextId = 1;
  #outgoing: Uint8Array[] = [];
  #heard = false;
  #missed = 0;
  #cancelTimer: () => void;

  constructor(options: ConnectionOptions, handlers: ConnectionHandlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#host = options.host;
    this.#cancelTimer = this.#host.setTimer(welcomeMsMax, () =>
      this.#end(new SyncError(ErrorCode.TIMED_OUT)),
    );
    this.#socket = this.#host.connect(options.address.url, {
      open: () => this.#guard(() => this.#opened()),
      message: (bytes) => this.#guard(() => this.#message(bytes)),
      alive: () => {
        this.#heard = true;
      },
      closed: (code, error) => this.#socketClosed(code, error),
    });
  }

  /** What the relay allows; before `Welcome` the least that any does. */
  get limits(): SessionLimits {
    return this.#limits;
  }

  get open(): boolean {
    return this.#state.kind === "open";
  }

  /** Bytes on their way out. */
  get bufferedBytes(): number {
    return this.#socket.bufferedBytes;
  }

  /** An id for `post`. */
  nextId(): number {
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  /** Asks, and resolves with the answer. Rejects with the relay's refusal, or with why none will come. */
  request(body: EnvelopeBody): Promise<ReceivedBody> {
    const id = this.nextId();
    return new Promise((resolve, reject) => {
      this.post(id, encodeEnvelope(id, body), {
        take: (answer) => {
          if (answer.case === "error") reject(errorOfMessage(answer.value));
          else resolve(answer);
          return false;
        },
        lost: reject,
      });
    });
  }

  /** Sends an encoded request. What is sent in one turn shares a record. */
  post(
    id: number,
    envelope: Uint8Array,
    answer: {
      readonly take: (body: ReceivedBody) => boolean;
      readonly lost: (error: SyncError) => void;
      /** Answers may take as long as they like. */
      readonly patient?: boolean;
    },
  ): void {
    if (this.#state.kind !== "open") {
      answer.lost(new SyncError(ErrorCode.CONNECTION_LOST));
      return;
    }
    this.#pending.set(id, {
      take: answer.take,
      lost: answer.lost,
      untilMs: answer.patient === true ? undefined : this.#host.monotonicMs() + answerMsMax,
    });
    this.#send(envelope);
  }

  /** Sends something under the id of a request that is under way. */
  add(envelope: Uint8Array): void {
    if (this.#state.kind === "open") this.#send(envelope);
  }

  /** Ends it: this side is done, or found the other at fault. */
  close(error: SyncError = new SyncError(ErrorCode.CONNECTION_LOST)): void {
    this.#end(error, true);
  }

  #opened(): void {
    if (this.#state.kind !== "connecting") return;
    const handshake = new Handshake({
      role: "initiator",
      keyPair: this.#options.keyPair,
      prologue,
    });
    this.#state = { kind: "handshaking", handshake };
    this.#socket.send(handshake.write(emptyBytes));
  }

  #message(bytes: Uint8Array): void {
    this.#heard = true;
    const state = this.#state;
    switch (state.kind) {
      case "connecting":
        throw new SyncError(ErrorCode.HANDSHAKE_FAILED);
      case "handshaking":
        this.#handshakeMessage(state.handshake, bytes);
        return;
      case "greeting":
      case "open":
        this.#record(state.transport, bytes);
        return;
      case "closed":
        return;
    }
  }

  #handshakeMessage(handshake: Handshake, bytes: Uint8Array): void {
    const { relayKey } = this.#options.address;
    handshake.read(bytes);
    const key = handshake.remoteKey;
    if (key === undefined || !equalBytes(key, relayKey)) {
      const hint =
        `the relay shows ${key === undefined ? "no key" : fingerprint(key)}, ` +
        `its address says ${fingerprint(relayKey)}; either the relay was set up anew, ` +
        "and its new address is needed, or somebody stands in between";
      this.#end(new SyncError(ErrorCode.RELAY_KEY_MISMATCH, { hint }), true);
      return;
    }
    const message = handshake.write(this.#options.hello);
    this.#state = { kind: "greeting", transport: handshake.finish() };
    this.#socket.send(message);
  }

  #record(transport: Transport, bytes: Uint8Array): void {
    const plaintext = openRecord(transport, bytes, recordBytesMax(this.#limits.blobBytesMax));
    for (const envelope of decodeEnvelopes(plaintext, this.#limits.envelopeBytesMax)) {
      this.#envelope(envelope);
      if (this.#isClosed()) return;
    }
    if (transport.aging) {
      this.#end(new SyncError(ErrorCode.CONNECTION_LOST), true, true);
    }
  }

  #envelope(envelope: Envelope): void {
    const id = toNumber(envelope.requestId);
    const { body } = envelope;
    if (this.#state.kind === "greeting") {
      this.#greeted(id, body);
      return;
    }
    if (id === 0) {
      // A refusal that answers nothing is the last word of the session.
      if (body.case === "error") this.#end(errorOfMessage(body.value), true);
      else this.#handlers.told(body);
      return;
    }
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    if (!pending.take(body)) this.#pending.delete(id);
  }

  #greeted(id: number, body: ReceivedBody): void {
    const state = this.#state;
    if (state.kind !== "greeting") return;
    if (body.case === "error") {
      this.#end(errorOfMessage(body.value), true);
      return;
    }
    if (id !== 0 || body.case !== "welcome") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    const limits = body.value.limits;
    if (limits !== undefined && limits.blobBytesMax > 0) {
      this.#limits = {
        blobBytesMax: limits.blobBytesMax,
        envelopeBytesMax: Math.max(limits.envelopeBytesMax, envelopeBytesMax(limits.blobBytesMax)),
        batchBlobsMax: Math.max(1, limits.batchBlobsMax),
      };
    }
    this.#state = { kind: "open", transport: state.transport };
    this.#cancelTimer();
    this.#schedulePing();
    this.#handlers.welcome(body.value);
  }

  #send(envelope: Uint8Array): void {
    this.#outgoing.push(envelope);
    if (this.#outgoing.length === 1) atTurnEnd(() => this.#guard(() => this.#flush()));
  }

  #flush(): void {
    const state = this.#state;
    const envelopes = this.#outgoing;
    this.#outgoing = [];
    if (state.kind !== "open") return;
    let from = 0;
    let bytes = 0;
    for (let to = 0; to < envelopes.length; to++) {
      bytes += (envelopes[to] as Uint8Array).byteLength;
      // A record is closed once it holds one envelope's worth: the receiver's bound is twice that.
      if (bytes < this.#limits.envelopeBytesMax && to < envelopes.length - 1) continue;
      this.#socket.send(sealRecord(state.transport, concatBytes(...envelopes.slice(from, to + 1))));
      from = to + 1;
      bytes = 0;
    }
  }

  #schedulePing(): void {
    // Jitter, so that devices that came together do not ping together.
    const ms = pingIntervalMs * (0.75 + this.#host.uniform() / 2);
    this.#cancelTimer = this.#host.setTimer(ms, () => this.#guard(() => this.#ping()));
  }

  #ping(): void {
    if (this.#state.kind !== "open") return;
    this.#missed = this.#heard ? 0 : this.#missed + 1;
    this.#heard = false;
    const nowMs = this.#host.monotonicMs();
    let late = this.#missed > missedMax;
    for (const pending of this.#pending.values()) {
      late ||= pending.untilMs !== undefined && pending.untilMs <= nowMs;
    }
    if (late) {
      this.#end(new SyncError(ErrorCode.TIMED_OUT));
      return;
    }
    if (this.#socket.ping !== undefined) this.#socket.ping();
    else this.#probe();
    this.#schedulePing();
  }

  #probe(): void {
    const body = this.#options.probe?.();
    if (body === undefined) return;
    const id = this.nextId();
    this.post(id, encodeEnvelope(id, body), { take: () => false, lost: () => undefined });
  }

  #socketClosed(code: number, error: SyncError | undefined): void {
    const told = errorOfCloseCode(code);
    if (error !== undefined) this.#end(error);
    else if (told !== undefined) this.#end(new SyncError(told));
    else if (this.#state.kind === "connecting") this.#end(new SyncError(ErrorCode.UNREACHABLE));
    else if (this.#state.kind === "handshaking")
      this.#end(new SyncError(ErrorCode.HANDSHAKE_FAILED));
    else this.#end(new SyncError(ErrorCode.CONNECTION_LOST));
  }

  /** What the other side can cause ends the connection, and nothing else. */
  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#end(error);
    }
  }

  #isClosed(): boolean {
    return this.#state.kind === "closed";
  }

  #end(error: SyncError, certain = false, renew = false): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "closed" };
    this.#cancelTimer();
    this.#outgoing = [];
    if (state.kind === "greeting" || state.kind === "open") state.transport.close();
    this.#socket.close(closeCodeFor(error));
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { lost } of pending) lost(error);
    this.#handlers.closed({ error, certain, renew });
  }
}

/** Our own findings are nobody else's business; only protocol faults are told. */
function closeCodeFor(error: SyncError): number {
  const faults = error.code >= 300 && error.code < 400;
  return faults ? closeCodeOf(error.code) : 1000;
}
