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
  PresenceSchema,
  PresenceState,
} from "../gen/syncrelay/sync/v1/session_pb.ts";
import { toHex } from "../wire/bytes.ts";
import { decodeEnvelopes, type EnvelopeBody, toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText } from "../wire/ids.ts";
import { pageBytesMax, windowBlobsMax } from "../wire/limits.ts";
import type { ChangeJob, FoundingJob, Job, JobOwner, PushJob } from "./committer.ts";
import type { Counters } from "./counters.ts";
import { encodeRow } from "./fan-out.ts";
import type { ChangeOutcome, PushRequest } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type { Mailboxes } from "./mailboxes.ts";
import { envelopeBound, type RelayOptions } from "./options.ts";
import type { HelloRequest, MembershipRequest } from "./requests.ts";
import {
  type MailboxRequest,
  type PullUnderWay,
  Session,
  type SessionEffect,
  type SessionInput,
} from "./session.ts";
import type { Store } from "./store/contract.ts";
import { lobbyWelcome, logChanged, memberWelcome, witnessesOf } from "./welcome.ts";
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
  /** Stops and starts reading from the network. */
  pause(): void;
  resume(): void;
}

/** A group somebody is connected to, or was a moment ago. */
export interface LiveGroup {
  readonly entry: GroupEntry;
  readonly sessions: Set<SessionDriver>;
}

/** What a session asks of the relay. */
export interface SessionHost {
  readonly options: RelayOptions;
  readonly store: Store;
  readonly world: RelayWorld;
  readonly counters: Counters;
  readonly mailboxes: Mailboxes<SessionDriver>;
  /** A group, loaded where nobody was connected to it; undefined where there is none. */
  group(groupId: Uint8Array): Promise<LiveGroup | undefined>;
  /** A member's session begins: an older one of the same device ends. */
  join(session: SessionDriver, live: LiveGroup, device: DeviceEntry): void;
  /** A session ended. Once for each; further calls do nothing. */
  detach(session: SessionDriver): void;
  /** Puts a job into the next commit. */
  submit(job: Job, session?: SessionDriver): void;
  /** Tells a group's other sessions whether a device is there. */
  tellPresence(live: LiveGroup, device: DeviceEntry, state: PresenceState): void;
}

/** Bytes of one session's pushes that wait for a commit before it is read no further. */
const sessionQueuedBytesMax = 4 * 1024 * 1024;

export class SessionDriver {
  readonly port: Port;
  readonly deviceIdText: string;
  readonly address: string;
  live: LiveGroup | undefined;
  device: DeviceEntry | undefined;
  presence: PresenceState = PresenceState.ONLINE;
  readonly #relay: SessionHost;
  readonly #deviceId: Uint8Array;
  readonly #session: Session;
  readonly #envelopeBytesMax: number;
  #queuedBytes = 0;
  #paused = false;
  #ended = false;

  constructor(relay: SessionHost, port: Port, deviceId: Uint8Array, address: string) {
    this.#relay = relay;
    this.port = port;
    this.#deviceId = deviceId;
    this.deviceIdText = idText(deviceId);
    this.address = address;
    this.#session = new Session(deviceId, relay.options.limits);
    this.#envelopeBytesMax = envelopeBound(relay.options.limits);
  }

  /** What the session is: for figures and tests. */
  get kind(): string {
    return this.#session.state.kind;
  }

  /** Whether so much waits to be sent that the device should pull instead. */
  get crowded(): boolean {
    return this.port.outboundBytes >= this.#relay.options.limits.outboundBytesMax;
  }

  /** A record's plaintext arrived. */
  receive(plaintext: Uint8Array): void {
    try {
      for (const envelope of decodeEnvelopes(plaintext, this.#envelopeBytesMax)) {
        this.step({ kind: "envelope", envelope });
      }
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.end(error);
    }
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
    const output = this.#session.step(input, this.#relay.world.nowMs());
    for (const envelope of output.send) this.port.send(envelope);
    if (input.kind === "committed" && output.send.length > 0) {
      if (this.kind === "member" && !this.#isNotified) this.#relay.counters.delivered += 1;
      else this.#relay.counters.notified += 1;
    }
    for (const effect of output.effects) this.#carryOut(effect);
    if (output.close !== undefined) {
      this.#ended = true;
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
        this.#run(effect.pull.requestId, () => this.#readPage(effect.pull));
        return;
      case "ack":
        this.#ack(effect.requestId, effect.applied, effect.witness);
        return;
      case "presence":
        this.presence = effect.state;
        if (this.live !== undefined && this.device !== undefined) {
          this.#relay.tellPresence(this.live, this.device, effect.state);
        }
        this.#answer(effect.requestId, { case: "done", value: {} });
        return;
      case "change":
        this.#change(effect.requestId, effect.request);
        return;
      case "control":
        this.#run(effect.requestId, () => this.#readControl(effect.requestId, effect.after));
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
      this.end(new SyncError(ErrorCode.NOT_A_MEMBER));
      return;
    }
    const linkAtCursor =
      hello.read === undefined || hello.read.cursor === 0
        ? undefined
        : await store.linkAt(live.entry.row.groupKey, hello.read.cursor);
    if (this.#ended) return;
    // From here to the end nothing waits: what is told is what stands when the
    // session takes its place among those that commits are delivered to.
    if (device.row.state !== "active") {
      this.end(new SyncError(ErrorCode.DEVICE_REVOKED));
      return;
    }
    const { row } = live.entry;
    const changed = hello.read !== undefined && logChanged(row, hello.read, linkAtCursor);
    const cursor = changed ? 0 : (hello.read?.cursor ?? 0);
    const presence: Presence[] = [];
    for (const other of live.sessions) {
      if (other.device === undefined || other.device === device) continue;
      presence.push(
        create(PresenceSchema, {
          deviceId: other.device.row.deviceId,
          state: other.presence,
          lastSeenMs: BigInt(other.device.lastSeenMs),
        }),
      );
    }
    this.step({
      kind: "greeted",
      greeting: {
        kind: "member",
        groupId: row.groupId,
        deviceKey: device.row.deviceKey,
        sentThrough: cursor,
        welcome: memberWelcome(
          hello.version,
          options.limits,
          live.entry,
          device,
          { cursor, changed },
          presence,
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
      this.#queuedBytes -= job.bytes;
      if (this.#paused && this.#queuedBytes < sessionQueuedBytesMax / 2) {
        this.#paused = false;
        this.port.resume();
      }
      if (outcome instanceof SyncError) {
        this.#relay.counters.pushesRefused += 1;
        this.step({ kind: "refused", requestId: job.requestId, error: outcome });
      } else {
        this.step({ kind: "stored", requestId: job.requestId, cursors: outcome });
      }
    },
  };

  #push(requestId: number, push: PushRequest): void {
    const { live, device } = this;
    if (live === undefined || device === undefined) return;
    let bytes = 0;
    for (const blob of push.blobs) bytes += blob.body.byteLength + blob.header.byteLength + 256;
    this.#queuedBytes += bytes;
    if (!this.#paused && this.#queuedBytes > sessionQueuedBytesMax) {
      this.#paused = true;
      this.port.pause();
    }
    const job: PushJob = {
      kind: "push",
      owner: this.#pushOwner,
      requestId,
      group: live.entry,
      device,
      push,
      bytes,
    };
    this.#relay.submit(job, this);
  }

  async #readPage(pull: PullUnderWay): Promise<void> {
    const { live } = this;
    if (live === undefined) return;
    const bound = this.#relay.options.limits.outboundBytesMax;
    if (this.port.outboundBytes >= bound) {
      await new Promise<void>((resolve) => this.port.whenBelow(bound, resolve));
    }
    const { entry } = live;
    const last = pull.until === 0 ? entry.row.head : Math.min(pull.until, entry.row.head);
    const rows = await this.#relay.store.readBlobs(entry.row.groupKey, pull.after, last, {
      rowsMax: windowBlobsMax,
      bytesMax: Math.min(pageBytesMax, Math.max(1, pull.windowBytes)),
    });
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
    this.#relay.submit({
      kind: "device",
      requestId,
      device,
      counter: toNumber(witness.counter),
      witness: toBinary(SealedWitnessSchema, witness),
      owner: {
        settled: (_, outcome) => {
          if (outcome instanceof SyncError) {
            this.step({ kind: "refused", requestId, error: outcome });
            return;
          }
          this.#answer(requestId, { case: "done", value: {} });
          this.#passOnWitness(live, device, witness);
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
    for (const other of live.sessions) {
      if (other !== this) other.step({ kind: "tell", body });
    }
  }

  readonly #changeOwner: JobOwner<ChangeJob | FoundingJob, ChangeOutcome> = {
    settled: ({ requestId }, outcome) => {
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

  #change(requestId: number, request: MembershipRequest): void {
    const { live, device } = this;
    const { founding, change } = request;
    if (founding !== undefined) {
      this.#relay.submit({
        kind: "found",
        requestId,
        owner: this.#changeOwner,
        groupId: founding.groupId,
        founder: this.#deviceId,
        inviteHash: founding.invite.byteLength > 0 ? blake2b256(founding.invite) : undefined,
        change,
      });
    } else if (live !== undefined && device !== undefined) {
      this.#relay.submit({
        kind: "change",
        requestId,
        owner: this.#changeOwner,
        group: live.entry,
        device,
        change,
      });
    }
  }

  async #readControl(requestId: number, after: number): Promise<void> {
    const { live } = this;
    if (live === undefined) return;
    const { row } = live.entry;
    const rows = await this.#relay.store.readControl(row.groupKey, after, pageBytesMax);
    this.#answer(requestId, {
      case: "controlBlobs",
      value: {
        after: BigInt(after),
        controlBlobs: rows.map((control) => control.bytes),
        done: (rows.at(-1)?.number ?? after) >= live.entry.row.membershipCount,
      },
    });
  }

  #mailbox(requestId: number, request: MailboxRequest): void {
    const party = {
      session: this as SessionDriver,
      device: this.deviceIdText,
      address: this.address,
    };
    try {
      const { mailboxes, world } = this.#relay;
      const result = mailboxes.handle(request, party, world.nowMs());
      this.#answer(requestId, result.answer);
      for (const notice of result.notices) notice.to.step({ kind: "tell", body: notice.body });
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.step({ kind: "refused", requestId, error });
    }
  }
}

/** Whether the error says that the peer has a defect, or means harm. */
function isFault(error: SyncError): boolean {
  return Math.floor(Number(error.code) / 100) === 3;
}
