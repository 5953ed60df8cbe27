/**
 * Drives one session: gives it what arrives, carries out what it asks, and hands
 * its envelopes to the connection.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { IncidentSchema, MembershipVersionSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import {
  DeviceWitnessSchema,
  type SealedWitness,
  SealedWitnessSchema,
} from "../gen/syncrelay/sync/v1/log_pb.ts";
import {
  type Presence,
  PresenceState,
  type SnapshotUrgency,
} from "../gen/syncrelay/sync/v1/session_pb.ts";
import { toHex } from "../wire/bytes.ts";
import { decodeEnvelopes, type EnvelopeBody, encodeEnvelope, toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText } from "../wire/ids.ts";
import { pageBytesMax, windowBlobsMax } from "../wire/limits.ts";
import type { ChangeJob, FoundingJob, Job, JobOwner, PushJob, ReturnJob } from "./committer.ts";
import type { Counters } from "./counters.ts";
import { encodeRow } from "./fan-out.ts";
import type { Figures } from "./figures.ts";
import { type ChangeOutcome, type PushRequest, revokedError } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import { effectiveOf, type LifeDesk } from "./life-desk.ts";
import { heldBytes, type LifeRequest } from "./life-requests.ts";
import type { Mailboxes } from "./mailboxes.ts";
import { envelopeBound, type RelayOptions } from "./options.ts";
import type { Outbound } from "./outbound.ts";
import { type PresenceNews, presenceOf } from "./presence-news.ts";
import { pushRateOf, TokenBucket } from "./rate-limit.ts";
import type { HelloRequest, MembershipRequest, ReadPosition } from "./requests.ts";
import type { LifeNotice } from "./retention.ts";
import type { Return } from "./returns.ts";
import {
  type MailboxRequest,
  type PullUnderWay,
  type Returning,
  Session,
  type SessionEffect,
  type SessionInput,
} from "./session.ts";
import type { Store } from "./store/contract.ts";
import type { SnapshotRow } from "./store/life.ts";
import { type WakeUpDesk, wakeUpRequestBytes } from "./wake-up-desk.ts";
import type { WakeUpRequest } from "./wake-up-requests.ts";
import {
  lobbyWelcome,
  logChanged,
  memberWelcome,
  returningWelcome,
  witnessesOf,
} from "./welcome.ts";
import type { RelayWorld } from "./world.ts";

/** A connection, as the relay sees it. */
export interface Port {
  /** Queues an encoded envelope; what is queued in one turn is sent together. */
  send(envelope: Uint8Array): void;
  /** Sends what is queued and closes. */
  close(error: SyncError): void;
  /** Bytes queued or not yet taken by the network. */
  readonly outboundBytes: number;
  /** Calls back, once, when less than half of `bytes` is waiting. */
  whenBelow(bytes: number, run: () => void): void;
  /** Stops and starts reading from the network; as many resumes as pauses. */
  pause(): void;
  resume(): void;
  /** The session is a member's now: its address has shown more than a key. */
  welcomed(): void;
}

/** A group somebody is connected to, or was a moment ago. */
export interface LiveGroup {
  readonly entry: GroupEntry;
  readonly sessions: Set<SessionDriver>;
  /** Who is about to join or to change it: the group is not forgotten meanwhile. */
  held: number;
  /** What its sessions were told of its life. */
  told: {
    readonly urgency: SnapshotUrgency;
    readonly snapshots: readonly SnapshotRow[];
    readonly replacedThrough: number;
  };
}

/** What a session asks of the relay. */
export interface SessionHost {
  readonly options: RelayOptions;
  readonly store: Store;
  readonly world: RelayWorld;
  readonly counters: Counters;
  readonly figures: Figures;
  readonly mailboxes: Mailboxes<SessionDriver>;
  /** A group, loaded where nobody was connected to it; undefined where there is none. */
  group(groupId: Uint8Array): Promise<LiveGroup | undefined>;
  /** A member's session begins: an older one of the same device ends. */
  join(session: SessionDriver, live: LiveGroup, device: DeviceEntry): void;
  /** Whether a device may come back to a group by the invite it shows. */
  mayReturn(by: Return): Promise<boolean>;
  /** Gives a group's log another id where a member has read what it does not have under this one. */
  renewLog(live: LiveGroup, read: ReadPosition, link: Uint8Array | undefined): Promise<void>;
  /** A session ended. Once for each; further calls do nothing. */
  detach(session: SessionDriver): void;
  /** Puts a job into the next commit. */
  submit(job: Job, session?: SessionDriver): void;
  /** Objects and snapshots. */
  readonly desk: LifeDesk;
  /** Undefined where devices are not woken. */
  readonly wakeUps: WakeUpDesk | undefined;
  /** What a device is told of its group's life. */
  notice(live: LiveGroup, device: DeviceEntry): LifeNotice;
  /** Tells a group's other sessions whether a device is there. */
  readonly presence: PresenceNews;
  /** What waits to be sent on all connections. */
  readonly outbound: Outbound;
}

/** Bytes of one session's requests that wait for a commit before it is read no further. */
const sessionQueuedBytesMax = 4 * 1024 * 1024;
/** Requests for control blobs, objects and snapshots that wait before the session is read no further. */
const asksQueuedMax = 32;
/** What may wait to be sent to a session without a group: answers, and the few messages of a pairing. */
const lobbyOutboundBytesMax = 256 * 1024;
/** What a stored blob takes in a page beside its header, signature and body, in bytes. */
const storedBlobOverheadBytes = 96;

/** Why a session is not read from: each is taken back by itself. */
type Hold = "queued" | "asks" | "replies";

/** A request that is answered after those before it, when there is room for the answer. */
interface Ask {
  readonly requestId: number;
  readonly bytes: number;
  readonly answer: () => Promise<EnvelopeBody>;
}

export class SessionDriver {
  readonly port: Port;
  readonly deviceIdText: string;
  readonly address: string;
  /** Whether it is a session without a group, or may become one; and when it began. */
  lobby: boolean;
  readonly beganMs: number;
  live: LiveGroup | undefined;
  device: DeviceEntry | undefined;
  /** The group's head when it became a member's. */
  joinedHead = 0;
  presence: PresenceState = PresenceState.ONLINE;
  readonly #relay: SessionHost;
  readonly #deviceId: Uint8Array;
  readonly #session: Session;
  readonly #envelopeBytesMax: number;
  readonly #holds = new Set<Hold>();
  #queuedBytes = 0;
  /** Bytes of the record being taken that no job answers for yet. */
  #recordBytes = 0;
  /** What the record being taken lies in: a read of the socket, which may hold others beside it. */
  #recordMemory: ArrayBufferLike | undefined;
  /** The memory that a job which waits answers for. */
  #heldMemory: ArrayBufferLike | undefined;
  #reading = false;
  #nextRead: PullUnderWay | undefined;
  #asks: Ask[] = [];
  /** Settles when no request of that kind is being answered. */
  asking: Promise<void> = Promise.resolve();
  #putOff = false;
  /** It is to be told of its group's life with the rest that was put off. */
  #lifeChanged = false;
  #ended = false;

  constructor(
    relay: SessionHost,
    port: Port,
    deviceId: Uint8Array,
    address: string,
    lobby: boolean,
  ) {
    this.lobby = lobby;
    this.beganMs = relay.world.monotonicMs();
    this.#relay = relay;
    this.port = port;
    this.#deviceId = deviceId;
    this.deviceIdText = idText(deviceId);
    this.address = address;
    this.#session = new Session(deviceId, relay.options.limits, relay.wakeUps !== undefined);
    this.#envelopeBytesMax = envelopeBound(relay.options.limits);
  }

  /** What the session is: for figures and tests. */
  get kind(): string {
    return this.#session.state.kind;
  }

  /** Whether so much waits to be sent that the device should pull instead. */
  get crowded(): boolean {
    return this.port.outboundBytes >= this.#outboundBytesMax;
  }

  get #outboundBytesMax(): number {
    return this.#relay.outbound.boundOf(this.#relay.options.limits.outboundBytesMax);
  }

  /** Takes over what the relay, or its group, allows now; sizes stay as the device was told them. */
  takeLimits(): void {
    this.#session.takePushRate(pushRateOf(this.live?.entry.row, this.#relay.options.limits));
  }

  /** A record's plaintext arrived. */
  receive(plaintext: Uint8Array): void {
    this.#recordBytes = plaintext.byteLength;
    this.#recordMemory = plaintext.buffer;
    try {
      for (const envelope of decodeEnvelopes(plaintext, this.#envelopeBytesMax)) {
        this.step({ kind: "envelope", envelope });
      }
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.end(error);
    }
    this.#recordMemory = undefined;
    this.#waitForReader();
  }

  /**
   * Who asks and does not read the answers is not read from either. Twice what
   * pages and deliveries stop at, so that only answers come so far.
   */
  #waitForReader(): void {
    const bytesMax = this.lobby ? lobbyOutboundBytesMax : 2 * this.#outboundBytesMax;
    if (this.#ended || this.#holds.has("replies") || this.port.outboundBytes < bytesMax) return;
    this.#hold("replies");
    this.port.whenBelow(bytesMax, () => this.#release("replies"));
  }

  #hold(reason: Hold): void {
    if (this.#holds.size === 0) this.port.pause();
    this.#holds.add(reason);
  }

  #release(reason: Hold): void {
    if (this.#holds.delete(reason) && this.#holds.size === 0) this.port.resume();
  }

  /** Puts a job into the next commit, and answers for its bytes until it is settled. */
  #submit(job: Job): void {
    this.#queuedBytes += job.bytes;
    if (this.#queuedBytes > sessionQueuedBytesMax) this.#hold("queued");
    this.#relay.submit(job, this);
  }

  #settled(job: { readonly bytes: number }): void {
    this.#queuedBytes -= job.bytes;
    if (this.#queuedBytes === 0) this.#heldMemory = undefined;
    if (this.#queuedBytes < sessionQueuedBytesMax / 2) this.#release("queued");
  }

  /**
   * What a job holds on to: its byte fields are views into the record they came
   * in, and that into what was read from the socket with it. So the first job of a
   * record answers for all of it, and the first of a read for all that was read.
   */
  #bytesOf(bytes: number): number {
    const memory = this.#recordMemory;
    let held = Math.max(bytes, this.#recordBytes);
    this.#recordBytes = 0;
    if (memory !== undefined && memory !== this.#heldMemory) {
      this.#heldMemory = memory;
      held = Math.max(held, memory.byteLength);
    }
    return held;
  }

  /**
   * Tells what only the newest of counts; a crowded connection is told all of it later. `encoded`: the
   * envelope, where others are told the same.
   */
  tellNewest(body: EnvelopeBody, encoded?: Uint8Array): void {
    if (body.case === "notify") this.#lifeChanged = this.#putOff || this.crowded;
    if (this.#putOff) return;
    if (!this.crowded) {
      this.step({ kind: "tell", body, encoded });
      return;
    }
    this.#putOff = true;
    this.#relay.counters.putOff += 1;
    this.port.whenBelow(this.#outboundBytesMax, () => {
      this.#putOff = false;
      this.#tellAllNewest();
    });
  }

  #tellAllNewest(): void {
    const { live, device } = this;
    if (live === undefined || device === undefined) return;
    const states = new Map<DeviceEntry, PresenceState>();
    for (const other of live.sessions) {
      if (other.device !== undefined) states.set(other.device, other.presence);
    }
    for (const other of live.entry.devices.values()) {
      if (other === device || other.row.state === "removed") continue;
      const state = states.get(other) ?? PresenceState.OFFLINE;
      this.step({ kind: "tell", body: { case: "presence", value: presenceOf(other, state) } });
    }
    for (const body of witnessesOf(live.entry.devices.values(), device)) {
      this.step({ kind: "tell", body });
    }
    if (!this.#lifeChanged) return;
    this.#lifeChanged = false;
    const value = { head: BigInt(live.entry.row.head), ...this.#relay.notice(live, device) };
    this.step({ kind: "tell", body: { case: "notify", value } });
  }

  /** The session ends, and its device is told why. */
  end(error: SyncError): void {
    this.step({ kind: "end", error });
  }

  /** The connection is gone. */
  lost(): void {
    this.#ended = true;
    this.#relay.detach(this);
  }

  step(input: SessionInput): void {
    if (this.#ended) return;
    const output = this.#session.step(input, this.#relay.world.monotonicMs());
    for (const envelope of output.send) this.port.send(envelope);
    if (input.kind === "committed" && output.send.length > 0) {
      const { counters } = this.#relay;
      if (this.kind === "member" && !this.#isNotified) {
        counters.delivered += 1;
        counters.blobsDelivered += input.blobs.through - input.blobs.after;
      } else {
        counters.notified += 1;
      }
    }
    if (output.refused !== undefined) this.#relay.figures.refusals.add(output.refused);
    for (const effect of output.effects) this.#carryOut(effect);
    if (output.close !== undefined) {
      this.#ended = true;
      this.#relay.figures.sessionsEnded.add(output.close.code);
      if (isFault(output.close)) this.#relay.counters.protocolFaults += 1;
      this.port.close(output.close);
      this.#relay.detach(this);
    }
  }

  get #isNotified(): boolean {
    const { state } = this.#session;
    return state.kind === "member" && state.notified;
  }

  #carryOut(effect: SessionEffect): void {
    switch (effect.kind) {
      case "greet":
        this.#run(0, () => this.#greet(effect.hello));
        return;
      case "push":
        this.#push(effect.requestId, effect.push);
        return;
      case "read":
        this.#read(effect.pull);
        return;
      case "ack":
        this.#ack(effect.requestId, effect.applied, effect.witness);
        return;
      case "presence":
        if (this.presence !== effect.state) {
          this.presence = effect.state;
          if (this.live !== undefined && this.device !== undefined) {
            this.#relay.presence.changed(this.live, this.device);
          }
        }
        this.#answer(effect.requestId, { case: "done", value: {} });
        return;
      case "change":
        this.#change(effect.requestId, effect.request, effect.returning);
        return;
      case "control":
        this.#ask(effect.requestId, 0, () => this.#readControl(effect.after));
        return;
      case "life":
        this.#life(effect.requestId, effect.request);
        return;
      case "wakeUp":
        this.#wakeUp(effect.requestId, effect.request);
        return;
      case "mailbox":
        this.#mailbox(effect.requestId, effect.request);
        return;
    }
  }

  /** Runs what takes time; a refusal is told, and a defect ends the session with an id to find it by. */
  #run(requestId: number, work: () => Promise<void>): void {
    work().catch((error: unknown) => {
      if (error instanceof SyncError) {
        // Without a request there is nothing to refuse but the session.
        if (requestId === 0) this.end(error);
        else this.step({ kind: "refused", requestId, error });
        return;
      }
      const incident = toHex(this.#relay.world.random(6));
      this.#relay.world.onDefect(error, incident);
      this.end(
        new SyncError(ErrorCode.INTERNAL, {
          detail: { case: "incident", value: create(IncidentSchema, { id: incident }) },
        }),
      );
    });
  }

  #answer(requestId: number, body: EnvelopeBody): void {
    this.step({ kind: "answer", requestId, body });
  }

  async #greet(hello: HelloRequest): Promise<void> {
    const { options, store } = this.#relay;
    if (hello.groupId === undefined) {
      const groups = await store.groupsOfDevice(this.#deviceId);
      this.step({
        kind: "greeted",
        greeting: {
          kind: "lobby",
          welcome: lobbyWelcome(hello.version, options.limits, options.founding, groups),
        },
      });
      return;
    }
    const live = await this.#relay.group(hello.groupId);
    const device = live?.entry.devices.get(this.deviceIdText);
    // Whether the group exists is told to nobody who is not in it.
    if (live === undefined || device === undefined) {
      if (hello.invite === undefined) this.end(new SyncError(ErrorCode.NOT_A_MEMBER));
      else await this.#greetReturning(hello.version, hello.groupId, hello.invite, live);
      return;
    }
    live.held += 1;
    try {
      await this.#greetMember(hello, live, device);
    } finally {
      live.held -= 1;
    }
  }

  /** A device that the group does not know, or a group that the relay does not: it was restored. */
  async #greetReturning(
    version: number,
    groupId: Uint8Array,
    invite: Uint8Array,
    live: LiveGroup | undefined,
  ): Promise<void> {
    const { options } = this.#relay;
    const returning = { groupId, inviteHash: blake2b256(invite) };
    const may = await this.#relay.mayReturn({ ...returning, deviceId: this.#deviceId });
    if (this.#ended) return;
    if (!may) {
      this.end(new SyncError(ErrorCode.INVITE_INVALID));
      return;
    }
    this.step({
      kind: "greeted",
      greeting: {
        kind: "lobby",
        welcome: returningWelcome(
          version,
          options.limits,
          options.founding,
          groupId,
          live?.entry.row,
        ),
        returning,
      },
    });
  }

  async #greetMember(hello: HelloRequest, live: LiveGroup, device: DeviceEntry): Promise<void> {
    const { options, store } = this.#relay;
    const linkAtCursor =
      hello.read === undefined || hello.read.cursor === 0
        ? undefined
        : await store.linkAt(live.entry.row.groupKey, hello.read.cursor);
    // A device that is removed or refused moves nobody.
    if (hello.read !== undefined && device.row.state === "active") {
      await this.#relay.renewLog(live, hello.read, linkAtCursor);
    }
    if (this.#ended) return;
    if (live.entry.gone) {
      this.end(new SyncError(ErrorCode.NOT_A_MEMBER));
      return;
    }
    // From here to the end nothing waits: what is told is what stands when the
    // session takes its place among those that commits are delivered to.
    if (device.row.state !== "active") {
      this.end(revokedError(device.row.state));
      return;
    }
    const { row } = live.entry;
    const changed = hello.read !== undefined && logChanged(row, hello.read, linkAtCursor);
    const cursor = changed ? 0 : (hello.read?.cursor ?? 0);
    const presence: Presence[] = refusedOf(live.entry, device);
    for (const other of live.sessions) {
      if (other.device === undefined || other.device === device) continue;
      presence.push(presenceOf(other.device, other.presence));
    }
    const rate = pushRateOf(row, options.limits);
    this.#session.takePushRate(rate);
    device.pushes ??= new TokenBucket(rate, this.#relay.world.monotonicMs());
    this.step({
      kind: "greeted",
      greeting: {
        kind: "member",
        groupId: row.groupId,
        deviceKey: device.row.deviceKey,
        pushes: device.pushes,
        sentThrough: cursor,
        welcome: memberWelcome(
          hello.version,
          options.limits,
          live.entry,
          device,
          { cursor, changed },
          presence,
          this.#relay.notice(live, device),
          this.#relay.wakeUps !== undefined,
        ),
        witnesses: witnessesOf(live.entry.devices.values(), device),
      },
    });
    if (this.kind !== "member") return;
    this.live = live;
    this.device = device;
    this.#relay.join(this, live, device);
  }

  readonly #pushOwner: JobOwner<PushJob, readonly number[]> = {
    settled: (job, outcome) => {
      this.#settled(job);
      if (outcome instanceof SyncError) {
        this.#relay.counters.pushesRefused += 1;
        this.step({ kind: "refused", requestId: job.requestId, error: outcome });
      } else {
        this.#relay.counters.pushesStored += 1;
        this.step({ kind: "stored", requestId: job.requestId, cursors: outcome });
      }
    },
  };

  #push(requestId: number, push: PushRequest): void {
    const { live, device } = this;
    if (live === undefined || device === undefined) return;
    let bytes = 0;
    for (const blob of push.blobs) bytes += blob.body.byteLength + blob.header.byteLength + 256;
    this.#submit({
      kind: "push",
      owner: this.#pushOwner,
      requestId,
      group: live.entry,
      device,
      push,
      bytes: this.#bytesOf(bytes),
    });
  }

  /** Reads a page; one at a time, however many pulls replace each other meanwhile. */
  #read(pull: PullUnderWay): void {
    if (this.#reading) {
      this.#nextRead = pull;
      return;
    }
    this.#reading = true;
    this.#run(pull.requestId, async () => {
      try {
        await this.#readPage(pull);
      } finally {
        this.#reading = false;
        const next = this.#nextRead;
        this.#nextRead = undefined;
        if (next !== undefined) this.#read(next);
      }
    });
  }

  /** Resolves when no more waits to be sent than may. */
  async #room(): Promise<void> {
    const bound = this.#outboundBytesMax;
    if (this.port.outboundBytes < bound) return;
    await new Promise<void>((resolve) => this.port.whenBelow(bound, resolve));
  }

  async #readPage(pull: PullUnderWay): Promise<void> {
    const { live } = this;
    if (live === undefined) return;
    await this.#room();
    const { state } = this.#session;
    if (state.kind !== "member" || state.pull !== pull) return;
    const { entry } = live;
    if (pull.until === 0 && pull.after < entry.row.replacedThrough) {
      const { body, row } = await this.#relay.desk.newest(entry, () => effectiveOf(entry));
      const through = row?.replacesThrough ?? entry.row.replacedThrough;
      // The next page is asked for when this is told.
      this.step({ kind: "replaced", pull, snapshot: body, through });
      return;
    }
    const lastNow = (): number =>
      pull.until === 0 ? entry.row.head : Math.min(pull.until, entry.row.head);
    const last = lastNow();
    const rows = await this.#relay.store.readBlobs(entry.row.groupKey, pull.after, last, {
      rowsMax: windowBlobsMax,
      bytesMax: Math.min(
        this.#relay.outbound.boundOf(pageBytesMax - windowBlobsMax * storedBlobOverheadBytes),
        Math.max(1, pull.windowBytes),
      ),
    });
    const replaced = pull.until === 0 && pull.after < entry.row.replacedThrough;
    if (replaced || (rows.length === 0 && last < lastNow())) {
      // Committed while the store was read: an empty page that is not the last says nothing, and one
      // whose bodies a snapshot took says nothing of that snapshot.
      await this.#readPage(pull);
      return;
    }
    const fields = rows.map((row) => encodeRow(row, (key) => entry.deviceId(key)));
    let bytes = 0;
    for (const field of fields) bytes += field.byteLength;
    this.#relay.counters.pagesSent += 1;
    const through = rows.at(-1)?.cursor ?? Math.max(pull.after, last);
    this.step({ kind: "page", pull, page: { through, fields, bytes }, head: entry.row.head });
  }

  #ack(requestId: number, applied: number, witness: SealedWitness | undefined): void {
    const { live, device } = this;
    if (live === undefined || device === undefined) return;
    const bounded = Math.min(applied, live.entry.row.head);
    if (bounded > device.applied) {
      device.applied = bounded;
      device.soft = true;
    }
    if (witness === undefined) {
      this.#answer(requestId, { case: "done", value: {} });
      return;
    }
    const encoded = toBinary(SealedWitnessSchema, witness);
    this.#submit({
      kind: "device",
      requestId,
      device,
      counter: toNumber(witness.counter),
      witness: encoded,
      bytes: this.#bytesOf(encoded.byteLength + 1_024),
      owner: {
        settled: (job, outcome) => {
          this.#settled(job);
          if (outcome instanceof SyncError) {
            this.step({ kind: "refused", requestId, error: outcome });
            return;
          }
          this.#answer(requestId, { case: "done", value: {} });
          if (outcome) this.#passOnWitness(live, device, witness);
        },
      },
    });
  }

  #passOnWitness(live: LiveGroup, device: DeviceEntry, witness: SealedWitness): void {
    const body: EnvelopeBody = {
      case: "witnesses",
      value: {
        witnesses: [create(DeviceWitnessSchema, { deviceId: device.row.deviceId, witness })],
      },
    };
    const encoded = encodeEnvelope(0, body);
    for (const other of live.sessions) {
      if (other !== this) other.tellNewest(body, encoded);
    }
  }

  readonly #changeOwner: JobOwner<ChangeJob | FoundingJob | ReturnJob, ChangeOutcome> = {
    settled: (job, outcome) => {
      const { requestId } = job;
      this.#settled(job);
      if (outcome instanceof SyncError) {
        this.step({ kind: "refused", requestId, error: outcome });
        return;
      }
      this.#answer(requestId, {
        case: "membershipAck",
        value: {
          membership: create(MembershipVersionSchema, {
            count: BigInt(outcome.count),
            head: outcome.head,
          }),
          epoch: BigInt(outcome.epoch),
          logId: outcome.logId,
        },
      });
    },
  };

  #change(requestId: number, request: MembershipRequest, returning: Returning | undefined): void {
    const { live, device } = this;
    const { founding, change } = request;
    const bytes = change.controlBlob.byteLength + 1_024;
    if (returning !== undefined) {
      this.#submit({
        kind: "return",
        requestId,
        owner: this.#changeOwner,
        ...returning,
        deviceId: this.#deviceId,
        change,
        bytes: this.#bytesOf(bytes),
      });
    } else if (founding !== undefined) {
      this.#submit({
        kind: "found",
        requestId,
        owner: this.#changeOwner,
        groupId: founding.groupId,
        founder: this.#deviceId,
        inviteHash: founding.invite.byteLength > 0 ? blake2b256(founding.invite) : undefined,
        change,
        bytes: this.#bytesOf(bytes),
      });
    } else if (live !== undefined && device !== undefined) {
      this.#submit({
        kind: "change",
        requestId,
        owner: this.#changeOwner,
        group: live.entry,
        device,
        change,
        bytes: this.#bytesOf(bytes),
      });
    }
  }

  #life(requestId: number, request: LifeRequest): void {
    const { live, device } = this;
    if (live === undefined || device === undefined) return;
    this.#ask(requestId, this.#bytesOf(heldBytes(request)), () =>
      this.#relay.desk.answer(live.entry, device, request),
    );
  }

  #wakeUp(requestId: number, request: WakeUpRequest): void {
    const { live, device } = this;
    const { wakeUps } = this.#relay;
    if (live === undefined || device === undefined || wakeUps === undefined) return;
    this.#ask(requestId, this.#bytesOf(wakeUpRequestBytes), () =>
      wakeUps.answer(live.entry, device, request),
    );
  }

  /** Queues a request that is answered after those before it; `bytes` is what it holds on to. */
  #ask(requestId: number, bytes: number, answer: () => Promise<EnvelopeBody>): void {
    this.#asks.push({ requestId, bytes, answer });
    this.#queuedBytes += bytes;
    if (this.#queuedBytes > sessionQueuedBytesMax) this.#hold("queued");
    if (this.#asks.length > asksQueuedMax) this.#hold("asks");
    if (this.#asks.length === 1) this.#nextAsk();
  }

  /** Answers one after another, as there is room. */
  #nextAsk(): void {
    const next = this.#asks[0];
    if (next === undefined) return;
    this.#run(next.requestId, async () => {
      this.asking = this.#answerAsk(next);
      try {
        await this.asking;
      } finally {
        this.#settled(next);
        if (this.#ended) this.#asks = [];
        else this.#asks.shift();
        if (this.#asks.length < asksQueuedMax / 2) this.#release("asks");
        this.#nextAsk();
      }
    });
  }

  async #answerAsk(ask: Ask): Promise<void> {
    await this.#room();
    if (this.#ended) return;
    const body = await ask.answer();
    this.#answer(ask.requestId, body);
  }

  async #readControl(after: number): Promise<EnvelopeBody> {
    const { live } = this;
    if (live === undefined) throw new SyncError(ErrorCode.NOT_A_MEMBER);
    const { row } = live.entry;
    const rows = await this.#relay.store.readControl(row.groupKey, after, pageBytesMax);
    return {
      case: "controlBlobs",
      value: {
        after: BigInt(after),
        controlBlobs: rows.map((control) => control.bytes),
        done: (rows.at(-1)?.number ?? after) >= live.entry.row.membershipCount,
      },
    };
  }

  #mailbox(requestId: number, request: MailboxRequest): void {
    const party = {
      session: this as SessionDriver,
      device: this.deviceIdText,
      address: this.address,
      group: this.live?.entry.idText ?? "",
    };
    try {
      const { mailboxes, world } = this.#relay;
      const result = mailboxes.handle(request, party, world.monotonicMs());
      this.#answer(requestId, result.answer);
      for (const notice of result.notices) notice.to.step({ kind: "tell", body: notice.body });
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.step({ kind: "refused", requestId, error });
    }
  }
}

/** Refused devices, as the others are told: whether somebody of the group is connected or not. */
function refusedOf(entry: GroupEntry, except: DeviceEntry): Presence[] {
  return [...entry.devices.values()]
    .filter((other) => other !== except && other.row.state === "refused")
    .map((other) => presenceOf(other, PresenceState.OFFLINE));
}

/** Whether the error says that the peer has a defect, or means harm. */
function isFault(error: SyncError): boolean {
  return Math.floor(error.code / 100) === 3;
}
