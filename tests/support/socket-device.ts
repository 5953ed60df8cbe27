/** A device over a real socket, as far as a test wants to go: it may stop anywhere, and lie. */
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import WebSocket from "ws";
import type { Envelope } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { concatBytes, copyBytes, emptyBytes } from "../../wire/bytes.ts";
import { Handshake, type KeyPair, keyPairOf, type Transport } from "../../wire/channel.ts";
import { decodeEnvelopes, type EnvelopeBody, encodeEnvelope } from "../../wire/envelope.ts";
import { prologue, subprotocol } from "../../wire/protocol.ts";
import { openRecord, sealRecord } from "../../wire/records.ts";
import { bytes } from "./devices.ts";

/** A key pair of a device, different for every seed. */
export function deviceKeys(seed: number): KeyPair {
  return keyPairOf(bytes(32, 90_000 + seed));
}

export function hello(groupId?: Uint8Array): Uint8Array {
  return toBinary(
    HelloSchema,
    create(HelloSchema, {
      versions: { min: 1, max: 1 },
      ...(groupId === undefined ? {} : { groupId }),
    }),
  );
}

/** How a connection ended. */
export interface Ending {
  readonly code: number;
  readonly reason: string;
}

export class SocketDevice {
  readonly socket: WebSocket;
  readonly keys: KeyPair;
  readonly closed: Promise<Ending>;
  transport: Transport | undefined;
  #arrived: Uint8Array[] = [];
  #waiting: (() => void)[] = [];
  #over = false;

  constructor(port: number, seed: number, path = "/v1/sync", protocol: string[] = [subprotocol]) {
    this.keys = deviceKeys(seed);
    this.socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocol, {
      perMessageDeflate: false,
    });
    this.socket.on("message", (data: Buffer) => {
      this.#arrived.push(copyBytes(data));
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => {
        this.#over = true;
        this.#wake();
        resolve({ code, reason: reason.toString() });
      });
    });
    // What went wrong shows in how it ends.
    this.socket.on("error", () => undefined);
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const run of waiting) run();
  }

  async opened(): Promise<this> {
    if (this.socket.readyState === WebSocket.CONNECTING) {
      await new Promise((resolve) => {
        this.socket.once("open", resolve);
        this.socket.once("close", resolve);
      });
    }
    return this;
  }

  /** The next message; undefined where the connection ended first. */
  async next(): Promise<Uint8Array | undefined> {
    while (this.#arrived.length === 0 && !this.#over) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.#arrived.shift();
  }

  /** The envelopes of the next record. */
  async record(): Promise<Envelope[]> {
    const message = await this.next();
    assert(message !== undefined && this.transport !== undefined, "the connection ended");
    return decodeEnvelopes(openRecord(this.transport, message, 1 << 26), 1 << 26);
  }

  /** Waits for an envelope of one kind; what came before it is left out. */
  async envelope(kind: NonNullable<Envelope["body"]["case"]>): Promise<Envelope> {
    for (;;) {
      const found = (await this.record()).find(({ body }) => body.case === kind);
      if (found !== undefined) return found;
    }
  }

  /** The whole handshake. Nothing was received behind it yet. */
  async handshake(payload: Uint8Array): Promise<this> {
    await this.opened();
    const handshake = new Handshake({ role: "initiator", keyPair: this.keys, prologue });
    this.socket.send(handshake.write(emptyBytes));
    const second = await this.next();
    assert(second !== undefined, "the relay did not answer");
    handshake.read(second);
    this.socket.send(handshake.write(payload));
    this.transport = handshake.finish();
    return this;
  }

  /** Sends requests in one record. */
  send(...requests: readonly { id: number; body: EnvelopeBody }[]): void {
    this.sendPlaintext(concatBytes(...requests.map(({ id, body }) => encodeEnvelope(id, body))));
  }

  sendPlaintext(plaintext: Uint8Array): void {
    assert(this.transport !== undefined);
    this.socket.send(sealRecord(this.transport, plaintext));
  }
}
