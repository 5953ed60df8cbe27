/**
 * The real relay, with a liar inside: it holds the relay's key, so it ends the channel itself, reads every
 * envelope on its way to a device, and may put others in its place. The relay behind it stays honest, so that
 * a test can let it tell the truth again and see what heals.
 */
import type { Envelope } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import type { StoredBlob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { readOptions } from "../../server/options.ts";
import { Relay } from "../../server/relay.ts";
import { readHello } from "../../server/requests.ts";
import type { Port, SessionDriver } from "../../server/session-driver.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { emptyBytes } from "../../wire/bytes.ts";
import { Handshake, keyPairOf, type Transport } from "../../wire/channel.ts";
import { decodeEnvelopes, encodeEnvelope } from "../../wire/envelope.ts";
import { closeCodeOf, type ErrorCode, type SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { blobBytesDefault, recordBytesMax } from "../../wire/limits.ts";
import { prologue } from "../../wire/protocol.ts";
import { openRecord, sealRecord } from "../../wire/records.ts";
import { formatRelayAddress, parseRelayAddress } from "../../wire/relay-address.ts";
import type { FakeRelay } from "../client/support/fake-relay.ts";
import type { ServerHandlers, ServerSocket, World } from "../client/support/world.ts";

export type Body = Envelope["body"];

/** What the liar says instead of an envelope: others under the same request id, or nothing. */
export type Lie = (body: Body, session: LyingSession) => readonly Body[];

export const honest: Lie = (body) => [body];

/** A lie about blobs, wherever they are shown. */
export function aboutBlobs(change: (blobs: StoredBlob[]) => StoredBlob[]): Lie {
  return (body) => {
    if (body.case === "blobs" || body.case === "deliver")
      body.value.blobs = change(body.value.blobs);
    return [body];
  };
}

/** A lie about what a device is welcomed with. */
export function aboutWelcome(
  change: (
    group: Extract<
      Extract<Body, { case: "welcome" }>["value"]["scope"],
      { case: "group" }
    >["value"],
  ) => void,
): Lie {
  return (body) => {
    if (body.case === "welcome" && body.value.scope.case === "group")
      change(body.value.scope.value);
    return [body];
  };
}

export class LyingRelay {
  readonly world: World;
  readonly address: string;
  readonly sessions = new Set<LyingSession>();
  /** Told to the one whom it is for; everybody else hears the truth. */
  readonly lies = new Map<string, Lie>();
  /** What is answered to a request instead of asking the relay behind; undefined: it is asked. */
  readonly answers = new Map<string, (request: Body) => readonly Body[] | undefined>();
  readonly relay: Relay;
  readonly defects: unknown[] = [];

  constructor(world: World) {
    this.world = world;
    const identity = keyPairOf(world.random(32));
    this.address = formatRelayAddress("ws://liar.test/", identity.publicKey);
    this.relay = new Relay(readOptions({ founding: "open" }), openMemoryStore(), {
      nowMs: () => Math.floor(world.epochMs + world.clockMs),
      monotonicMs: () => world.clockMs,
      random: (length) => world.random(length),
      onDefect: (error) => this.defects.push(error),
      onStoreFailure: (error) => this.defects.push(error),
    });
    const { url } = parseRelayAddress(this.address);
    world.listeners.set(url, (socket) => new LyingSession(this, socket, identity));
    const tick = (): void => {
      this.relay.tick();
      world.after(5_000, tick);
    };
    tick();
  }

  /** For helpers that know relays by their world and address. */
  get asKnown(): FakeRelay {
    return this as unknown as FakeRelay;
  }

  /** The sessions of a device. */
  of(deviceId: string): LyingSession[] {
    return [...this.sessions].filter(({ device }) => device === deviceId);
  }
}

export class LyingSession implements ServerHandlers, Port {
  readonly relay: LyingRelay;
  readonly outboundBytes = 0;
  device = "";
  readonly #socket: ServerSocket;
  #handshake: Handshake | undefined;
  #transport: Transport | undefined;
  #session: SessionDriver | undefined;

  constructor(relay: LyingRelay, socket: ServerSocket, keyPair: ReturnType<typeof keyPairOf>) {
    this.relay = relay;
    this.#socket = socket;
    this.#handshake = new Handshake({ role: "responder", keyPair, prologue });
  }

  message(bytes: Uint8Array): void {
    const handshake = this.#handshake;
    if (handshake !== undefined) {
      const payload = handshake.read(bytes);
      if (handshake.next === "write") {
        this.#socket.send(handshake.write(emptyBytes));
        return;
      }
      this.#handshake = undefined;
      this.#transport = handshake.finish();
      this.device = idText(this.#transport.remoteKey);
      this.relay.sessions.add(this);
      const { remoteKey } = this.#transport;
      this.#session = this.relay.relay.attach(this, remoteKey, this.device, readHello(payload));
      return;
    }
    if (this.#transport === undefined) return;
    this.#ask(openRecord(this.#transport, bytes, recordBytesMax(blobBytesDefault)));
  }

  /** Passes requests on, but for those that the liar answers itself. */
  #ask(plaintext: Uint8Array): void {
    const answer = this.relay.answers.get(this.device);
    if (answer === undefined) {
      this.#session?.receive(plaintext);
      return;
    }
    for (const { requestId, body } of decodeEnvelopes(new Uint8Array(plaintext), 2 ** 30)) {
      const answers = answer(body);
      if (answers === undefined) this.#session?.receive(encodeEnvelope(Number(requestId), body));
      else for (const each of answers) this.tell(each, Number(requestId));
    }
  }

  closed(): void {
    this.relay.sessions.delete(this);
    this.#transport = undefined;
    this.#session?.lost();
  }

  /** Of the relay behind: every envelope passes the liar. */
  send(bytes: Uint8Array): void {
    const lie = this.relay.lies.get(this.device) ?? honest;
    for (const { requestId, body } of decodeEnvelopes(new Uint8Array(bytes), 2 ** 30)) {
      for (const told of lie(body, this)) this.tell(told, Number(requestId));
    }
  }

  /** Says something by itself. */
  tell(body: Body, requestId = 0): void {
    this.raw(encodeEnvelope(requestId, body));
  }

  /** Sends any plaintext. */
  raw(plaintext: Uint8Array): void {
    if (this.#transport !== undefined) this.#socket.send(sealRecord(this.#transport, plaintext));
  }

  /** Ends the session as an error would. */
  end(code: ErrorCode): void {
    this.#socket.close(closeCodeOf(code));
  }

  close(error: SyncError): void {
    this.#socket.close(closeCodeOf(error.code));
  }

  whenBelow(_: number, run: () => void): void {
    run();
  }

  pause(): void {}
  resume(): void {}
  welcomed(): void {}
}
