/**
 * One WebSocket connection: the handshake, then records. It holds the channel
 * and knows nothing of what envelopes mean.
 *
 * What is queued in one turn leaves as one record in one write: the
 * acknowledgements of a commit, the deliveries of a fan-out.
 */
import type { WebSocket } from "ws";
import { concatBytes, emptyBytes } from "../../wire/bytes.ts";
import { Handshake, type KeyPair, type Transport } from "../../wire/channel.ts";
import { encodeError } from "../../wire/envelope.ts";
import { closeCodeOf, ErrorCode, errorRow, SyncError } from "../../wire/errors.ts";
import { pingIntervalMs, recordEnvelopesMax } from "../../wire/limits.ts";
import { prologue } from "../../wire/protocol.ts";
import { openOwnRecord, sealRecord } from "../../wire/records.ts";
import type { Counters } from "../counters.ts";
import type { Outbound } from "../outbound.ts";
import { readHello } from "../requests.ts";
import type { Port, SessionDriver } from "../session-driver.ts";

/** What a connection needs of its listener. */
export interface ConnectionOptions {
  readonly socket: WebSocket;
  readonly identity: KeyPair;
  readonly recordBytesMax: number;
  /** A record takes no further envelope once it holds so much. */
  readonly recordBytesTarget: number;
  readonly counters: Counters;
  /** What waits to be sent on all connections; this one keeps its share of it. */
  readonly outbound: Outbound;
  readonly nowMs: () => number;
  readonly handshakeMsMax: number;
  /** The channel stands and `Hello` is read: the session it becomes. */
  readonly onHello: (
    port: Port,
    deviceId: Uint8Array,
    hello: ReturnType<typeof readHello>,
  ) => SessionDriver;
  /** The handshake ended, once. */
  readonly onHandshake: (outcome: "finished" | "failed") => void;
  /** The session became a member's, once. */
  readonly onWelcomed: () => void;
  /** The connection is gone, once. */
  readonly onClosed: () => void;
}

type ConnectionState =
  | { readonly kind: "handshaking"; readonly handshake: Handshake; readonly deadlineMs: number }
  | { readonly kind: "open"; readonly transport: Transport; readonly session: SessionDriver }
  | { readonly kind: "closing"; readonly deadlineMs: number }
  | { readonly kind: "closed" };

/** How long a peer may take to answer a close before its socket is destroyed, in milliseconds. */
const closingMsMax = 2_000;
/** Pings that may go unanswered. */
const missedPingsMax = 2;
/** The same while a pong could not come: the ping stands behind other bytes, or nothing is read. */
const missedPingsBusyMax = 6;

export class Connection implements Port {
  readonly #options: ConnectionOptions;
  #state: ConnectionState;
  #transport: Transport | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Its share of what waits on all connections, as last told. */
  #countedBytes = 0;
  #flushing = false;
  #pauses = 0;
  #waiting: { bytes: number; run: () => void }[] = [];
  #nextPingMs: number;
  #missedPings = 0;
  /** Bytes stood before the last ping. */
  #pingWaits = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const nowMs = options.nowMs();
    this.#nextPingMs = nowMs + pingIntervalMs;
    this.#state = {
      kind: "handshaking",
      handshake: new Handshake({ role: "responder", keyPair: options.identity, prologue }),
      deadlineMs: nowMs + options.handshakeMsMax,
    };
    const { socket } = options;
    socket.on("message", (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on("pong", () => {
      this.#missedPings = 0;
    });
    socket.on("close", () => this.#closed());
    // What `ws` found wrong with the peer's frames. It closes by itself, but would wait
    // long for an answer.
    socket.on("error", () => this.#fault(ErrorCode.RECORD_INVALID));
  }

  get outboundBytes(): number {
    return this.#queuedBytes + this.#options.socket.bufferedAmount;
  }

  send(envelope: Uint8Array): void {
    if (this.#transport === undefined) return;
    this.#queue.push(envelope);
    this.#queuedBytes += envelope.byteLength;
    this.#count(this.#countedBytes + envelope.byteLength);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  close(error: SyncError): void {
    this.#flush();
    this.#close(error.code);
  }

  whenBelow(bytes: number, run: () => void): void {
    this.#waiting.push({ bytes, run });
    this.#wake();
  }

  pause(): void {
    this.#pauses += 1;
    this.#options.socket.pause();
  }

  resume(): void {
    this.#pauses = Math.max(0, this.#pauses - 1);
    if (this.#pauses === 0) this.#options.socket.resume();
  }

  welcomed(): void {
    this.#options.onWelcomed();
  }

  /** The relay ends: a peer that was not told yet is told now. */
  shut(): void {
    const state = this.#state;
    if (state.kind === "open") state.session.end(new SyncError(ErrorCode.DRAINING));
    if (state.kind !== "handshaking") return;
    this.#options.onHandshake("failed");
    this.#close(ErrorCode.DRAINING);
  }

  /** Ends at once, without waiting for the peer's answer. */
  terminate(): void {
    this.#options.socket.terminate();
  }

  /** Once a second: deadlines and pings. `jitterMs` spreads the pings. */
  tick(nowMs: number, jitterMs: number): void {
    const state = this.#state;
    switch (state.kind) {
      case "handshaking":
        if (nowMs >= state.deadlineMs) this.#fail();
        return;
      case "closing":
        if (nowMs >= state.deadlineMs) this.#options.socket.terminate();
        return;
      case "open": {
        if (state.transport.aging) {
          // The device makes a new connection and goes on; long before nonces end.
          state.session.end(new SyncError(ErrorCode.DRAINING));
          return;
        }
        if (nowMs < this.#nextPingMs) return;
        this.#pingWaits = this.outboundBytes > 0;
        const busy = this.#pingWaits || this.#pauses > 0;
        if (this.#missedPings >= (busy ? missedPingsBusyMax : missedPingsMax)) {
          this.#options.socket.terminate();
          return;
        }
        this.#missedPings += 1;
        this.#nextPingMs = nowMs + pingIntervalMs - jitterMs;
        this.#options.socket.ping();
        return;
      }
      case "closed":
        return;
    }
  }

  #receive(data: Buffer, isBinary: boolean): void {
    const state = this.#state;
    this.#missedPings = 0;
    this.#options.counters.bytesReceived += data.byteLength;
    if (!isBinary) {
      this.#fault(ErrorCode.RECORD_INVALID);
      return;
    }
    if (state.kind === "handshaking") this.#handshake(state.handshake, data);
    else if (state.kind === "open") this.#record(state, data);
  }

  #handshake(handshake: Handshake, message: Uint8Array): void {
    try {
      const payload = handshake.read(message);
      if (handshake.next === "write") {
        this.#options.socket.send(handshake.write(emptyBytes));
        return;
      }
      const transport = handshake.finish();
      this.#transport = transport;
      this.#options.counters.handshakesFinished += 1;
      const hello = this.#readHello(payload, transport);
      if (hello === undefined) return;
      this.#options.onHandshake("finished");
      const session = this.#options.onHello(this, transport.remoteKey, hello);
      // A session that was refused at once has closed the connection already.
      if (this.#state.kind === "handshaking") this.#state = { kind: "open", transport, session };
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#fail();
    }
  }

  /** `Hello`, or undefined where it was refused, and its device told why. */
  #readHello(payload: Uint8Array, transport: Transport): ReturnType<typeof readHello> | undefined {
    try {
      return readHello(payload);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#options.onHandshake("failed");
      this.#options.counters.protocolFaults += 1;
      this.#options.socket.send(sealRecord(transport, encodeError(0, error)));
      this.#close(error.code);
      return undefined;
    }
  }

  #record(state: Extract<ConnectionState, { kind: "open" }>, record: Uint8Array): void {
    let plaintext: Uint8Array;
    try {
      plaintext = openOwnRecord(state.transport, record, this.#options.recordBytesMax);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#fault(error.code);
      return;
    }
    state.session.receive(plaintext);
  }

  #flush(): void {
    this.#flushing = false;
    const transport = this.#transport;
    if (this.#queue.length === 0 || transport === undefined) return;
    if (this.#state.kind === "closed" || this.#state.kind === "closing") return;
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    let first = 0;
    let bytes = 0;
    for (const [i, envelope] of queue.entries()) {
      bytes += envelope.byteLength;
      const full = bytes >= this.#options.recordBytesTarget || i + 1 - first === recordEnvelopesMax;
      if (!full && i < queue.length - 1) continue;
      const plaintext = i === first ? envelope : concatBytes(...queue.slice(first, i + 1));
      const record = sealRecord(transport, plaintext);
      this.#options.counters.bytesSent += record.byteLength;
      this.#options.socket.send(record, this.#onSent);
      first = i + 1;
      bytes = 0;
    }
    this.#count(this.outboundBytes);
  }

  #count(bytes: number): void {
    this.#options.outbound.bytes += bytes - this.#countedBytes;
    this.#countedBytes = bytes;
  }

  /** A failed write is followed by `close`, which does what there is to do. */
  readonly #onSent = (): void => {
    // Not otherwise: what the system's buffers take says nothing of the peer.
    if (this.#pingWaits) this.#missedPings = 0;
    if (this.#state.kind !== "closed") this.#count(this.outboundBytes);
    this.#wake();
  };

  #wake(): void {
    if (this.#waiting.length === 0) return;
    const outbound = this.outboundBytes;
    const ready = this.#waiting.filter(({ bytes }) => outbound < bytes / 2);
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter(({ bytes }) => outbound >= bytes / 2);
    for (const { run } of ready) run();
  }

  /** The handshake did not come about: one answer for every cause. */
  #fail(): void {
    if (this.#state.kind !== "handshaking") return;
    this.#options.counters.handshakesFailed += 1;
    this.#options.onHandshake("failed");
    this.#close(ErrorCode.HANDSHAKE_FAILED);
  }

  /** The peer sent what no device sends: the connection ends without an envelope. */
  #fault(code: ErrorCode): void {
    if (this.#state.kind === "handshaking") {
      this.#fail();
      return;
    }
    this.#options.counters.protocolFaults += 1;
    this.#close(code);
  }

  #close(code: ErrorCode): void {
    const state = this.#state;
    if (state.kind === "closed" || state.kind === "closing") return;
    this.#state = { kind: "closing", deadlineMs: this.#options.nowMs() + closingMsMax };
    this.#transport?.close();
    this.#transport = undefined;
    this.#options.socket.close(closeCodeOf(code), errorRow(code).message);
    if (state.kind === "open") state.session.lost();
  }

  #closed(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "closed" };
    this.#count(0);
    this.#transport?.close();
    this.#transport = undefined;
    if (state.kind === "open") state.session.lost();
    if (state.kind === "handshaking") {
      this.#options.counters.handshakesFailed += 1;
      this.#options.onHandshake("failed");
    }
    // Whoever waits for room finds the session gone.
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { run } of waiting) run();
    this.#options.onClosed();
  }
}
