/**
 * A whole relay over the memory store, without sockets: connections that record
 * what they are sent, time that stands until a test moves it, and randomness
 * that counts.
 */
import assert from "node:assert/strict";
import type { Envelope } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import type { RelayLimits, RelayOptionsInput } from "../../server/options.ts";
import { readOptions } from "../../server/options.ts";
import { Relay } from "../../server/relay.ts";
import type { HelloRequest } from "../../server/requests.ts";
import type { Port, SessionDriver } from "../../server/session-driver.ts";
import type { Store } from "../../server/store/contract.ts";
import { type MemoryStore, openMemoryStore } from "../../server/store/memory-store.ts";
import type { WakeUpSender } from "../../server/wake-ups.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { decodeEnvelopes, type EnvelopeBody, encodeEnvelope } from "../../wire/envelope.ts";
import type { SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import {
  type ChainDevice,
  foundingOf,
  groupId,
  type MadeBlob,
  pushOf,
  type Version,
} from "./devices.ts";

export type Body = Envelope["body"];
export type Case = NonNullable<Body["case"]>;

/** What an envelope of a kind holds. */
export type ValueOf<Kind extends Case> = Extract<Body, { case: Kind }>["value"];

/** A connection that records what it is sent. */
export class FakePort implements Port {
  readonly sent: Envelope[] = [];
  closed: SyncError | undefined;
  pauses = 0;
  resumes = 0;
  welcomes = 0;
  /** What the network has not taken, as the relay sees it. */
  stuckBytes = 0;
  /** Whether what is sent stays waiting. */
  stuck = false;
  #read = 0;
  #waiting: { bytes: number; run: () => void }[] = [];

  send(envelope: Uint8Array): void {
    assert(this.closed === undefined, "nothing is sent to a connection that is closed");
    if (this.stuck) this.stuckBytes += envelope.byteLength;
    this.sent.push(...decodeEnvelopes(envelope, 32 * 1024 * 1024));
  }

  close(error: SyncError): void {
    assert(this.closed === undefined, "a connection is closed once");
    this.closed = error;
  }

  get outboundBytes(): number {
    return this.stuckBytes;
  }

  whenBelow(bytes: number, run: () => void): void {
    this.#waiting.push({ bytes, run });
    this.#wake();
  }

  /** The network takes everything that waits. */
  drain(): void {
    this.stuck = false;
    this.stuckBytes = 0;
    this.#wake();
  }

  pause(): void {
    this.pauses += 1;
  }

  resume(): void {
    this.resumes += 1;
  }

  get paused(): boolean {
    return this.pauses > this.resumes;
  }

  welcomed(): void {
    this.welcomes += 1;
  }

  #wake(): void {
    const ready = this.#waiting.filter(({ bytes }) => this.stuckBytes < bytes / 2);
    this.#waiting = this.#waiting.filter(({ bytes }) => this.stuckBytes >= bytes / 2);
    for (const { run } of ready) run();
  }

  /** What was sent since the last call. */
  take(): Envelope[] {
    const taken = this.sent.slice(this.#read);
    this.#read = this.sent.length;
    return taken;
  }
}

/** What an envelope says, shortly: for lists that are compared. */
export function said(envelope: Envelope): string {
  const id = envelope.requestId === 0n ? "" : `#${envelope.requestId} `;
  const { body } = envelope;
  switch (body.case) {
    case "error":
      return `${id}error ${body.value.code}`;
    case "pushAck":
      return `${id}pushAck ${body.value.cursors.join(",")}`;
    case "deliver":
    case "blobs":
      return `${id}${body.case} ${body.value.after}-${body.value.through}`;
    case "notify":
      return `${id}notify ${body.value.head}${
        body.value.membership === undefined ? "" : ` v${body.value.membership.count}`
      }`;
    case "presence":
      return `${id}presence ${body.value.state}`;
    default:
      return `${id}${body.case ?? "nothing"}`;
  }
}

/** A connection and its session. */
export class Peer {
  readonly port: FakePort;
  readonly session: SessionDriver;
  #nextId = 1;

  constructor(port: FakePort, session: SessionDriver) {
    this.port = port;
    this.session = session;
  }

  /** Sends envelopes in one record. */
  record(...envelopes: readonly { id: number; body: EnvelopeBody }[]): void {
    this.session.receive(concatBytes(...envelopes.map(({ id, body }) => encodeEnvelope(id, body))));
  }

  /** Sends one request under the next id, which it returns. */
  ask(body: EnvelopeBody): number {
    const id = this.#nextId++;
    this.record({ id, body });
    return id;
  }

  push(blobs: readonly MadeBlob[], resume = false): number {
    return this.ask({ case: "push", value: pushOf(blobs, resume) });
  }

  /** What came since the last call, shortly. */
  said(): string[] {
    return this.port.take().map(said);
  }

  /** Every body of one kind that ever came. */
  all<Kind extends Case>(kind: Kind): ValueOf<Kind>[] {
    return this.port.sent.flatMap(({ body }) =>
      body.case === kind ? [body.value as ValueOf<Kind>] : [],
    );
  }

  last<Kind extends Case>(kind: Kind): ValueOf<Kind> {
    const value = this.all(kind).at(-1);
    assert(value !== undefined, `no ${kind} came`);
    return value;
  }

  /** The code that ended the session; undefined while it goes on. */
  get endedWith(): number | undefined {
    return this.port.closed?.code;
  }

  /** The connection breaks. */
  cut(): void {
    this.session.lost();
  }
}

export interface RelayWorldOptions {
  readonly options?: Omit<RelayOptionsInput, "limits">;
  readonly limits?: Partial<RelayLimits>;
  readonly store?: MemoryStore;
  /** A relay over another store; waiting for it is up to the test. */
  readonly disk?: Store;
  /** What the clock says first. */
  readonly nowMs?: number;
  /** Left out: devices are not woken. */
  readonly wakeUps?: WakeUpSender;
}

/** A relay and everything around it. */
export class RelayWorldUnderTest {
  readonly store: MemoryStore;
  readonly relay: Relay;
  nowMs = 1_700_000_000_000;
  monotonicMs = 5_000.25;
  readonly defects: unknown[] = [];
  storeFailures = 0;
  #random = 1;

  constructor(choices: RelayWorldOptions = {}) {
    this.store = choices.store ?? openMemoryStore();
    this.nowMs = choices.nowMs ?? this.nowMs;
    const options = readOptions({
      founding: "open",
      ...choices.options,
      limits: choices.limits ?? {},
    });
    this.relay = new Relay(options, choices.disk ?? this.store, {
      nowMs: () => this.nowMs,
      monotonicMs: () => this.monotonicMs,
      random: (length) => {
        const made = new Uint8Array(length);
        new DataView(made.buffer).setUint8(0, this.#random++ & 255);
        return made;
      },
      onDefect: (error) => this.defects.push(error),
      onStoreFailure: () => {
        this.storeFailures += 1;
      },
      wakeUps: choices.wakeUps,
    });
  }

  /** Lets time pass, and the relay notice. */
  pass(ms: number): void {
    this.nowMs += ms;
    this.monotonicMs += ms;
    this.relay.tick();
  }

  /** A session begins; nothing has happened yet. */
  attach(deviceId: Uint8Array, hello: Partial<HelloRequest> = {}, address = "192.0.2.1"): Peer {
    const port = new FakePort();
    const session = this.relay.attach(port, deviceId, address, {
      version: 1,
      groupId: undefined,
      read: undefined,
      ...hello,
    });
    return new Peer(port, session);
  }

  /** A session without a group, welcomed. */
  async lobby(deviceId: Uint8Array, address?: string): Promise<Peer> {
    const peer = this.attach(deviceId, {}, address);
    await settled();
    return peer;
  }

  /** A member's session, welcomed. */
  async member(
    device: { readonly id: Uint8Array },
    read?: HelloRequest["read"],
    group: Uint8Array = groupId,
  ): Promise<Peer> {
    const peer = this.attach(device.id, { groupId: group, read });
    await settled();
    return peer;
  }

  /** Founds the group of `devices`, of which the first founds it. */
  async found(...devices: readonly ChainDevice[]): Promise<Version> {
    const [founder] = devices;
    assert(founder !== undefined);
    const lobby = await this.lobby(founder.id);
    const { change, after } = foundingOf(
      founder.id,
      devices.map(({ id }) => id),
      { groupId: founder.group },
    );
    lobby.ask({ case: "changeMembership", value: change });
    await settled();
    assert.equal(lobby.last("membershipAck").membership?.count, 1n);
    lobby.cut();
    return after;
  }

  /** Keeps a group invite. */
  async invite(invite: Uint8Array, changes: { quotaBytes?: number; expiresAgeS?: number } = {}) {
    await this.relay.addInvite({
      inviteHash: blake2b256(invite),
      label: "",
      quotaBytes: 0,
      expiresAgeS: 0,
      createdMs: this.nowMs,
      usedByGroupKey: 0,
      revokedMs: 0,
      ...changes,
    });
  }
}

/** Resolves when everything that was set going and waits for nothing outside has come to rest. */
export async function settled(): Promise<void> {
  // The memory store answers in microtasks; a turn of the event loop lets all of them run.
  await new Promise<void>((resolve) => setImmediate(resolve));
  await new Promise<void>((resolve) => setImmediate(resolve));
}

/** A store whose commits wait until they are let through. */
export function gatedStore(): {
  store: MemoryStore;
  release: () => Promise<void>;
  open: () => void;
} {
  let waiting: (() => void)[] = [];
  let gated = true;
  const store = openMemoryStore({
    syncTime: (synced) => {
      if (gated) waiting.push(synced);
      else synced();
    },
  });
  const letThrough = (): void => {
    const ready = waiting;
    waiting = [];
    for (const synced of ready) synced();
  };
  return {
    store,
    release: async () => {
      letThrough();
      await settled();
    },
    open: () => {
      gated = false;
      letThrough();
    },
  };
}
