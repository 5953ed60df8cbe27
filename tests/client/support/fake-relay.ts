/**
 * A small relay in memory, by docs/PROTOCOL.md alone: frames in, frames out, at once. It commits before
 * it acknowledges, and acknowledges before it delivers. Tests may stand between it and a device, and
 * may take its state back in time.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import type { Envelope } from "../../../gen/syncrelay/sync/v1/envelope_pb.ts";
import {
  MembershipDetailSchema,
  QuotaSchema,
  SenderPositionSchema,
} from "../../../gen/syncrelay/sync/v1/error_pb.ts";
import { InviteCloseReason } from "../../../gen/syncrelay/sync/v1/invite_pb.ts";
import {
  BlobHeaderSchema,
  BodyState,
  type Push,
  type SealedWitness,
} from "../../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  type ChangeMembership,
  ControlBlobSchema,
  ControlClearSchema,
} from "../../../gen/syncrelay/sync/v1/membership_pb.ts";
import {
  FoundingPolicy,
  type Hello,
  HelloSchema,
  PresenceState,
} from "../../../gen/syncrelay/sync/v1/session_pb.ts";
import { emptyBytes, equalBytes } from "../../../wire/bytes.ts";
import { Handshake, type KeyPair, keyPairOf, type Transport } from "../../../wire/channel.ts";
import {
  decodeEnvelopes,
  type EnvelopeBody,
  encodeEnvelope,
  encodeError,
} from "../../../wire/envelope.ts";
import { closeCodeOf, ErrorCode, type ErrorDetail, SyncError } from "../../../wire/errors.ts";
import { blake2b256 } from "../../../wire/hash.ts";
import {
  encodeBlobs,
  encodeDeliver,
  encodePushAck,
  encodeStoredBlobField,
  type StoredBlobParts,
} from "../../../wire/hot-encoders.ts";
import { blobLink, idText, zeroLink } from "../../../wire/ids.ts";
import { envelopeBytesMax, inviteMs, recordBytesMax } from "../../../wire/limits.ts";
import { prologue } from "../../../wire/protocol.ts";
import { openRecord, sealRecord } from "../../../wire/records.ts";
import { formatRelayAddress, parseRelayAddress } from "../../../wire/relay-address.ts";
import { FakeRetention } from "./fake-retention.ts";
import type { ServerHandlers, ServerSocket, World } from "./world.ts";

export interface FakeBlob extends StoredBlobParts {
  readonly seq: number;
  readonly link: Uint8Array;
}

export interface FakeGroup {
  groupId: Uint8Array;
  logId: Uint8Array;
  control: Uint8Array[];
  epoch: number;
  members: Set<string>;
  removed: Set<string>;
  blobs: FakeBlob[];
  senders: Map<string, { seq: number; link: Uint8Array }>;
  witnesses: Map<string, SealedWitness>;
  applied: Map<string, number>;
  retention: FakeRetention;
}

interface Mailbox {
  readonly rendezvousId: Uint8Array;
  readonly sides: [MailboxSide, MailboxSide];
}

interface MailboxSide {
  device: string | undefined;
  session: FakeSession | undefined;
  readonly sent: Uint8Array[];
}

export interface FakeLimits {
  blobBytesMax: number;
  batchBlobsMax: number;
  groupBytesMax: number;
}

/** What a test puts between the relay and its devices. */
export interface Meddler {
  /** Before a request is looked at: an error answers it, "lost" forgets it. */
  request?(session: FakeSession, envelope: Envelope): SyncError | "lost" | undefined;
  /** Before an envelope leaves: another one in its place, or none. */
  reply?(session: FakeSession, envelope: Uint8Array): Uint8Array | undefined;
  /** Before a page or a delivery is encoded. */
  blobs?(session: FakeSession, blobs: FakeBlob[]): FakeBlob[];
}

export class FakeRelay {
  readonly world: World;
  readonly identity: KeyPair;
  readonly address: string;
  readonly limits: FakeLimits = {
    blobBytesMax: 1024 * 1024,
    batchBlobsMax: 1_000,
    groupBytesMax: Number.MAX_SAFE_INTEGER,
  };
  groups = new Map<string, FakeGroup>();
  founding: "open" | "invite" | "closed" = "open";
  readonly invites = new Set<string>();
  readonly sessions = new Set<FakeSession>();
  readonly mailboxes = new Map<string, Mailbox>();
  meddler: Meddler = {};
  /** Requests taken, by what they ask. */
  readonly counts = new Map<string, number>();

  constructor(world: World, origin = "ws://relay.test/", identity = world.random(32)) {
    this.world = world;
    this.identity = keyPairOf(identity);
    this.address = formatRelayAddress(origin, this.identity.publicKey);
    this.start();
  }

  /** Begins to listen. */
  start(): void {
    const { url } = parseRelayAddress(this.address);
    this.world.listeners.set(url, (socket) => new FakeSession(this, socket));
  }

  /** The process is gone: connections, mailboxes, and nothing that was committed. */
  stop(): void {
    this.world.listeners.delete(parseRelayAddress(this.address).url);
    this.mailboxes.clear();
    for (const session of this.sessions) session.socket.close(1006);
    this.sessions.clear();
  }

  /** The one group of most tests. */
  get group(): FakeGroup {
    const [group] = this.groups.values();
    if (group === undefined) throw new Error("no group was founded");
    return group;
  }

  count(kind: string): number {
    return this.counts.get(kind) ?? 0;
  }

  /** A copy of everything on disk. */
  backup(): Map<string, FakeGroup> {
    return new Map([...this.groups].map(([id, group]) => [id, copyGroup(group)]));
  }

  /** Goes on from a backup, with new log ids. */
  restore(backup: Map<string, FakeGroup>): void {
    this.groups = new Map([...backup].map(([id, group]) => [id, copyGroup(group)]));
    for (const group of this.groups.values()) group.logId = this.world.random(16);
  }

  /** Commits a change, answers it, and tells everybody. */
  change(group: FakeGroup, change: ChangeMembership, answer: () => void = () => undefined): void {
    group.control.push(change.controlBlob);
    group.epoch = Number(change.epoch);
    const members = new Set(change.members.map(({ deviceId }) => idText(deviceId)));
    for (const member of group.members) if (!members.has(member)) group.removed.add(member);
    group.members = members;
    this.groups.set(idText(group.groupId), group);
    answer();
    for (const session of this.sessionsOf(group)) {
      if (!members.has(session.device)) {
        session.end(new SyncError(ErrorCode.DEVICE_REVOKED));
        continue;
      }
      session.tell({
        case: "notify",
        value: {
          head: BigInt(group.blobs.length),
          membership: versionOf(group),
          epoch: BigInt(group.epoch),
        },
      });
    }
  }

  sessionsOf(group: FakeGroup): FakeSession[] {
    return [...this.sessions].filter((session) => session.group === group);
  }
}

function copyGroup(group: FakeGroup): FakeGroup {
  return {
    ...group,
    control: [...group.control],
    members: new Set(group.members),
    removed: new Set(group.removed),
    blobs: [...group.blobs],
    senders: new Map(group.senders),
    witnesses: new Map(group.witnesses),
    applied: new Map(group.applied),
    retention: group.retention.copy(),
  };
}

interface PullUnderWay {
  readonly id: number;
  after: number;
  readonly until: number;
  window: number;
}

export class FakeSession implements ServerHandlers {
  readonly relay: FakeRelay;
  readonly socket: ServerSocket;
  device = "";
  deviceId: Uint8Array = emptyBytes;
  group: FakeGroup | undefined;
  #handshake: Handshake | undefined;
  #transport: Transport | undefined;
  #sentThrough = 0;
  #notified = false;
  #pull: PullUnderWay | undefined;
  #ended = false;

  constructor(relay: FakeRelay, socket: ServerSocket) {
    this.relay = relay;
    this.socket = socket;
    this.#handshake = new Handshake({ role: "responder", keyPair: relay.identity, prologue });
  }

  message(bytes: Uint8Array): void {
    if (this.#ended) return;
    try {
      if (this.#handshake !== undefined) this.#shake(this.#handshake, bytes);
      else this.#record(bytes);
    } catch (error) {
      if (!(error instanceof SyncError)) {
        this.relay.world.failures.push(error);
        return;
      }
      if (this.#transport === undefined) this.#close(error.code);
      else this.end(error);
    }
  }

  closed(): void {
    this.#ended = true;
    const was = this.relay.sessions.delete(this);
    for (const mailbox of this.relay.mailboxes.values()) {
      for (const side of mailbox.sides) if (side.session === this) side.session = undefined;
    }
    if (was && this.group !== undefined) this.#tellPresence(PresenceState.OFFLINE);
  }

  /** The session's last words. */
  end(error: SyncError): void {
    this.sendRaw(encodeError(0, error));
    this.#close(error.code);
  }

  tell(body: EnvelopeBody): void {
    this.sendRaw(encodeEnvelope(0, body));
  }

  sendRaw(envelope: Uint8Array): void {
    const transport = this.#transport;
    if (transport === undefined || this.#ended) return;
    const meddled = this.relay.meddler.reply;
    const bytes = meddled === undefined ? envelope : meddled(this, envelope);
    if (bytes !== undefined) this.socket.send(sealRecord(transport, bytes));
  }

  #close(code: ErrorCode): void {
    if (this.#ended) return;
    this.socket.close(closeCodeOf(code));
    this.closed();
  }

  #shake(handshake: Handshake, bytes: Uint8Array): void {
    const payload = handshake.read(bytes);
    if (handshake.next === "write") {
      this.socket.send(handshake.write(emptyBytes));
      return;
    }
    this.#transport = handshake.finish();
    this.#handshake = undefined;
    this.deviceId = this.#transport.remoteKey;
    this.device = idText(this.deviceId);
    this.#hello(fromBinary(HelloSchema, payload));
  }

  #hello(hello: Hello): void {
    const { relay } = this;
    relay.sessions.add(this);
    const limits = {
      blobBytesMax: relay.limits.blobBytesMax,
      envelopeBytesMax: envelopeBytesMax(relay.limits.blobBytesMax),
      batchBlobsMax: relay.limits.batchBlobsMax,
    };
    const common = { version: 1, relay: "fake", limits };
    if (hello.groupId.byteLength === 0) {
      const groups = [...relay.groups.values()].filter((group) => group.members.has(this.device));
      this.tell({
        case: "welcome",
        value: {
          ...common,
          scope: {
            case: "lobby",
            value: {
              groups: groups.map(({ groupId }) => ({ groupId })),
              founding: FoundingPolicy.OPEN,
            },
          },
        },
      });
      return;
    }
    const group = relay.groups.get(idText(hello.groupId));
    if (group?.removed.has(this.device)) throw new SyncError(ErrorCode.DEVICE_REVOKED);
    if (group === undefined || !group.members.has(this.device)) {
      throw new SyncError(ErrorCode.NOT_A_MEMBER);
    }
    for (const other of relay.sessionsOf(group)) {
      if (other.device === this.device) other.end(new SyncError(ErrorCode.REPLACED));
    }
    this.group = group;
    const cursor = Number(hello.read?.cursor ?? 0n);
    const at = group.blobs[cursor - 1];
    const changed =
      hello.read !== undefined &&
      (!equalBytes(hello.read.logId, group.logId) ||
        cursor > group.blobs.length ||
        (cursor > 0 && !equalBytes(at?.link ?? emptyBytes, hello.read.link)));
    this.#sentThrough = changed ? 0 : cursor;
    const own = group.senders.get(this.device) ?? { seq: 0, link: zeroLink };
    this.tell({
      case: "welcome",
      value: {
        ...common,
        scope: {
          case: "group",
          value: {
            logId: group.logId,
            logChanged: changed,
            head: BigInt(group.blobs.length),
            floor: BigInt(group.retention.floor),
            urgency: group.retention.urgency,
            unconfirmed: group.retention.waitsFor(this.device),
            replacedThrough: BigInt(group.retention.replacedThrough),
            membership: versionOf(group),
            epoch: BigInt(group.epoch),
            own: { seq: BigInt(own.seq), link: own.link },
            pending: BigInt(group.blobs.length - this.#sentThrough),
            presence: relay
              .sessionsOf(group)
              .filter((other) => other !== this)
              .map(({ deviceId }) => ({
                deviceId,
                state: PresenceState.ONLINE,
                lastSeenMs: 1n,
              })),
          },
        },
      },
    });
    const witnesses = [...group.witnesses].filter(([device]) => device !== this.device);
    if (witnesses.length > 0) {
      this.tell({
        case: "witnesses",
        value: { witnesses: witnesses.map(([device, witness]) => witnessOf(device, witness)) },
      });
    }
    this.#tellPresence(PresenceState.ONLINE);
  }

  #tellPresence(state: PresenceState): void {
    if (this.group === undefined) return;
    for (const other of this.relay.sessionsOf(this.group)) {
      if (other === this) continue;
      other.tell({
        case: "presence",
        value: { deviceId: this.deviceId, state, lastSeenMs: 1n },
      });
    }
  }

  #record(bytes: Uint8Array): void {
    const { blobBytesMax } = this.relay.limits;
    const transport = this.#transport;
    if (transport === undefined) return;
    const plaintext = openRecord(transport, bytes, recordBytesMax(blobBytesMax));
    for (const envelope of decodeEnvelopes(plaintext, envelopeBytesMax(blobBytesMax))) {
      if (!this.#ended) this.#envelope(envelope);
    }
  }

  #envelope(envelope: Envelope): void {
    const kind = envelope.body.case ?? "none";
    this.relay.counts.set(kind, this.relay.count(kind) + 1);
    const id = Number(envelope.requestId);
    const meddled = this.relay.meddler.request?.(this, envelope);
    if (meddled === "lost") return;
    if (meddled !== undefined) {
      this.sendRaw(encodeError(id, meddled));
      return;
    }
    try {
      this.#request(id, envelope.body);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      if (error.code >= 300 && error.code < 400) throw error;
      this.sendRaw(encodeError(id, error));
    }
  }

  #request(id: number, body: Envelope["body"]): void {
    const { group } = this;
    switch (body.case) {
      case "push":
        this.#push(id, body.value);
        return;
      case "pull":
        this.#pull = {
          id,
          after: Number(body.value.after),
          until: Number(body.value.until),
          window: body.value.windowBytes,
        };
        if (this.#pull.until === 0) {
          this.#sentThrough = this.#pull.after;
          this.#notified = false;
        }
        this.#sendPages();
        return;
      case "pullMore":
        if (this.#pull?.id !== id) return;
        this.#pull.window += body.value.windowBytes;
        this.#sendPages();
        return;
      case "ack": {
        const applied = Number(body.value.applied);
        if (group === undefined) throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
        group.applied.set(this.device, Math.max(group.applied.get(this.device) ?? 0, applied));
        const { witness } = body.value;
        const held = group.witnesses.get(this.device);
        if (witness !== undefined && witness.counter > (held?.counter ?? 0n)) {
          group.witnesses.set(this.device, witness);
          for (const other of this.relay.sessionsOf(group)) {
            if (other === this) continue;
            other.tell({
              case: "witnesses",
              value: { witnesses: [witnessOf(this.device, witness)] },
            });
          }
        }
        this.#answer(id, { case: "done", value: {} });
        return;
      }
      case "presence":
        this.#tellPresence(body.value.state);
        this.#answer(id, { case: "done", value: {} });
        return;
      case "changeMembership":
        this.#change(id, body.value);
        return;
      case "pullControl": {
        const after = Number(body.value.after);
        this.#answer(id, {
          case: "controlBlobs",
          value: {
            after: BigInt(after),
            // Two at a time, so that asking again is always met.
            controlBlobs: group?.control.slice(after, after + 2) ?? [],
            done: (group?.control.length ?? 0) <= after + 2,
          },
        });
        return;
      }
      case "openInvite":
      case "joinInvite":
        this.#openMailbox(id, body.case, body.value.rendezvousId, body.value.received);
        return;
      case "inviteMessage":
        this.#mail(id, body.value.rendezvousId, body.value.number, body.value.data);
        return;
      case "closeInvite":
        this.#closeMailbox(body.value.rendezvousId, body.value.reason);
        this.#answer(id, { case: "done", value: {} });
        return;
      default: {
        const answers = group?.retention.answer(group, this, body);
        // PROTOCOL 3.9: a body that belongs to no capability of this relay ends nothing.
        if (answers === undefined) {
          this.sendRaw(encodeError(id, new SyncError(ErrorCode.ENVELOPE_UNEXPECTED)));
          return;
        }
        for (const answer of answers) this.#answer(id, answer);
        if (
          group !== undefined &&
          (body.case === "putSnapshot" || body.case === "confirmSnapshot")
        ) {
          for (const session of this.relay.sessionsOf(group)) session.tellRetention();
        }
      }
    }
  }

  #answer(id: number, body: EnvelopeBody): void {
    this.sendRaw(encodeEnvelope(id, body));
  }

  #push(id: number, push: Push): void {
    const { group, relay } = this;
    if (group === undefined) throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    const last = group.senders.get(this.device) ?? { seq: 0, link: zeroLink };
    const place = (code: ErrorCode): SyncError =>
      refusal(code, {
        case: "senderPosition",
        value: create(SenderPositionSchema, { seq: BigInt(last.seq), link: last.link }),
      });
    const cursors: number[] = [];
    const fresh: FakeBlob[] = [];
    let { seq, link } = last;
    let bytes = group.blobs.reduce((sum, each) => sum + each.body.byteLength, 0);
    for (const blob of push.blobs) {
      const header = fromBinary(BlobHeaderSchema, blob.header);
      const its = blobLink(group.groupId, this.deviceId, blob.blobId, blob.header);
      const number = Number(header.seq);
      if (number <= last.seq) {
        const known = group.blobs.find((each) => each.seq === number && this.#isOwn(each));
        if (known === undefined || !equalBytes(known.link, its)) {
          throw place(ErrorCode.LINK_CONFLICT);
        }
        cursors.push(known.cursor);
        continue;
      }
      const resumes = push.resume && fresh.length === 0 && number > seq + 1;
      if (number !== seq + 1 && !resumes) throw place(ErrorCode.OUT_OF_ORDER);
      if (!resumes && !equalBytes(header.previousLink, link)) throw place(ErrorCode.LINK_CONFLICT);
      if (Number(blob.epoch) !== group.epoch) {
        const stale = Number(blob.epoch) < group.epoch;
        throw refusal(stale ? ErrorCode.EPOCH_STALE : ErrorCode.EPOCH_AHEAD, {
          case: "membership",
          value: create(MembershipDetailSchema, {
            version: versionOf(group),
            epoch: BigInt(group.epoch),
          }),
        });
      }
      bytes += blob.body.byteLength;
      if (bytes > relay.limits.groupBytesMax) {
        throw refusal(ErrorCode.QUOTA_EXCEEDED, {
          case: "quota",
          value: create(QuotaSchema, {
            usedBytes: BigInt(bytes),
            limitBytes: BigInt(relay.limits.groupBytesMax),
          }),
        });
      }
      const cursor = group.blobs.length + fresh.length + 1;
      fresh.push({
        cursor,
        sender: this.deviceId,
        seq: number,
        link: its,
        blobId: blob.blobId,
        header: blob.header,
        signature: blob.signature,
        epoch: Number(blob.epoch),
        body: blob.body,
        bodyState: BodyState.UNSPECIFIED,
      });
      cursors.push(cursor);
      [seq, link] = [number, its];
    }
    const before = group.blobs.length;
    group.blobs.push(...fresh);
    if (fresh.length > 0) group.senders.set(this.device, { seq, link });
    this.sendRaw(encodePushAck(id, cursors));
    if (fresh.length > 0) {
      for (const session of relay.sessionsOf(group)) session.deliver(before, fresh);
    }
  }

  #isOwn(blob: FakeBlob): boolean {
    return equalBytes(blob.sender, this.deviceId);
  }

  deliver(after: number, blobs: readonly FakeBlob[]): void {
    if (this.#pull !== undefined && this.#pull.until === 0) return;
    const through = after + blobs.length;
    if (this.#sentThrough === after) {
      const others = blobs.filter((blob) => !this.#isOwn(blob));
      this.sendRaw(
        encodeDeliver(
          after,
          through,
          this.#meddled(others).map(encodeStoredBlobField),
          blobs.filter((blob) => this.#isOwn(blob)),
        ),
      );
      this.#sentThrough = through;
      return;
    }
    if (this.#notified) return;
    this.#notified = true;
    this.tell({ case: "notify", value: { head: BigInt(through) } });
  }

  /** How much a snapshot is wanted, and what there is. */
  tellRetention(): void {
    if (this.group === undefined) return;
    const { retention, blobs } = this.group;
    this.tell({
      case: "notify",
      value: {
        head: BigInt(blobs.length),
        urgency: retention.urgency,
        unconfirmed: retention.waitsFor(this.device),
        replacedThrough: BigInt(retention.replacedThrough),
      },
    });
  }

  /** The relay may fall back to `Notify` whenever a connection is slow. */
  forgetDelivery(): void {
    this.#sentThrough = -1;
  }

  #meddled(blobs: FakeBlob[]): FakeBlob[] {
    return this.relay.meddler.blobs?.(this, blobs) ?? blobs;
  }

  #sendPages(): void {
    const { group } = this;
    for (;;) {
      const pull = this.#pull;
      if (pull === undefined || group === undefined) return;
      const head = group.blobs.length;
      const { retention } = group;
      if (pull.until === 0 && pull.after < retention.replacedThrough) {
        this.#answer(pull.id, retention.shown);
        pull.after = retention.replacedThrough;
        this.#sentThrough = pull.after;
      }
      const last = pull.until === 0 ? head : Math.min(head, pull.until);
      const page: FakeBlob[] = [];
      let bytes = 0;
      // Headers at or below the floor are gone.
      for (const blob of group.blobs.slice(Math.max(pull.after, retention.floor), last)) {
        bytes += encodeStoredBlobField(blob).byteLength;
        if (page.length > 0 && (bytes > 64 * 1024 || page.length === 100)) break;
        page.push(blob);
      }
      const through = Math.max(pull.after, page.at(-1)?.cursor ?? last);
      const done = through >= last;
      const fields = this.#meddled(page).map(encodeStoredBlobField);
      this.sendRaw(encodeBlobs(pull.id, { after: pull.after, through, done, head }, fields));
      pull.after = through;
      pull.window -= bytes;
      if (pull.until === 0) this.#sentThrough = through;
      if (done) this.#pull = undefined;
      if (done || pull.window <= 0) return;
    }
  }

  #change(id: number, change: ChangeMembership): void {
    const { relay } = this;
    const control = fromBinary(ControlBlobSchema, change.controlBlob);
    const clear = fromBinary(ControlClearSchema, control.clear);
    const count = Number(change.expected?.count ?? 0n);
    const group = count === 0 ? relay.groups.get(idText(change.groupId)) : this.group;
    const known = group?.control.findIndex((each) => equalBytes(each, change.controlBlob)) ?? -1;
    if (group !== undefined && known >= 0) {
      this.#answer(id, {
        case: "membershipAck",
        value: {
          membership: versionOf({ ...group, control: group.control.slice(0, known + 1) }),
          epoch: BigInt(group.epoch),
          logId: group.logId,
        },
      });
      return;
    }
    const made = group ?? this.#found(change);
    const head = versionOf(made).head;
    if (count !== made.control.length || !equalBytes(clear.previousHead, head)) {
      throw refusal(ErrorCode.MEMBERSHIP_CONFLICT, {
        case: "membership",
        value: create(MembershipDetailSchema, {
          version: versionOf(made),
          epoch: BigInt(made.epoch),
        }),
      });
    }
    for (const { deviceId, position } of change.closings) {
      const last = made.senders.get(idText(deviceId)) ?? { seq: 0, link: zeroLink };
      if (position?.seq === BigInt(last.seq) && equalBytes(position.link, last.link)) continue;
      throw refusal(ErrorCode.MEMBERSHIP_CONFLICT, {
        case: "membership",
        value: create(MembershipDetailSchema, {
          version: versionOf(made),
          epoch: BigInt(made.epoch),
          closing: create(SenderPositionSchema, { seq: BigInt(last.seq), link: last.link }),
          closingDevice: deviceId,
        }),
      });
    }
    relay.change(made, change, () =>
      this.#answer(id, {
        case: "membershipAck",
        value: { membership: versionOf(made), epoch: BigInt(made.epoch), logId: made.logId },
      }),
    );
  }

  #found(change: ChangeMembership): FakeGroup {
    const { relay } = this;
    if (relay.founding === "closed") throw new SyncError(ErrorCode.REGISTRATION_CLOSED);
    if (relay.founding === "invite") {
      if (change.groupInvite.byteLength === 0) throw new SyncError(ErrorCode.REGISTRATION_CLOSED);
      if (!relay.invites.delete(idText(change.groupInvite))) {
        throw new SyncError(ErrorCode.INVITE_INVALID);
      }
    }
    return {
      groupId: change.groupId,
      logId: relay.world.random(16),
      control: [],
      epoch: 0,
      members: new Set(),
      removed: new Set(),
      blobs: [],
      senders: new Map(),
      witnesses: new Map(),
      applied: new Map(),
      retention: new FakeRetention(),
    };
  }

  #openMailbox(
    id: number,
    kind: "openInvite" | "joinInvite",
    rendezvousId: Uint8Array,
    received: number,
  ): void {
    const key = idText(rendezvousId);
    let mailbox = this.relay.mailboxes.get(key);
    if (mailbox === undefined) {
      if (kind === "joinInvite") throw new SyncError(ErrorCode.INVITE_INVALID);
      mailbox = {
        rendezvousId,
        sides: [
          { device: this.device, session: this, sent: [] },
          { device: undefined, session: undefined, sent: [] },
        ],
      };
      this.relay.mailboxes.set(key, mailbox);
      const opened = mailbox;
      this.relay.world.after(inviteMs, () => {
        if (this.relay.mailboxes.get(key) === opened) {
          this.#endMailbox(opened, InviteCloseReason.EXPIRED, undefined);
        }
      });
    }
    const [side, other] =
      kind === "openInvite" ? mailbox.sides : [mailbox.sides[1], mailbox.sides[0]];
    if (side.device !== undefined && side.device !== this.device) {
      throw new SyncError(ErrorCode.INVITE_INVALID);
    }
    side.device = this.device;
    side.session = this;
    this.#answer(id, {
      case: "inviteOpened",
      value: { expiresInMs: inviteMs, stored: side.sent.length },
    });
    for (const [i, data] of other.sent.entries()) {
      if (i >= received) {
        this.tell({ case: "inviteMessage", value: { rendezvousId, number: i + 1, data } });
      }
    }
  }

  #sides(rendezvousId: Uint8Array): [Mailbox, MailboxSide, MailboxSide] {
    const mailbox = this.relay.mailboxes.get(idText(rendezvousId));
    const own = mailbox?.sides.find((side) => side.session === this);
    if (mailbox === undefined || own === undefined) throw new SyncError(ErrorCode.INVITE_INVALID);
    const other = mailbox.sides.find((side) => side !== own) as MailboxSide;
    return [mailbox, own, other];
  }

  #mail(id: number, rendezvousId: Uint8Array, number: number, data: Uint8Array): void {
    const [, own, other] = this.#sides(rendezvousId);
    if (number > own.sent.length) {
      if (number !== own.sent.length + 1 || number > 8) {
        throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      }
      own.sent.push(data);
      other.session?.tell({ case: "inviteMessage", value: { rendezvousId, number, data } });
    }
    this.#answer(id, { case: "done", value: {} });
  }

  #closeMailbox(rendezvousId: Uint8Array, reason: InviteCloseReason): void {
    const [mailbox] = this.#sides(rendezvousId);
    this.#endMailbox(mailbox, reason, this);
  }

  #endMailbox(mailbox: Mailbox, reason: InviteCloseReason, by: FakeSession | undefined): void {
    this.relay.mailboxes.delete(idText(mailbox.rendezvousId));
    for (const { session } of mailbox.sides) {
      if (session === by) continue;
      session?.tell({
        case: "closeInvite",
        value: { rendezvousId: mailbox.rendezvousId, reason },
      });
    }
  }
}

function versionOf(group: Pick<FakeGroup, "control">): { count: bigint; head: Uint8Array } {
  const last = group.control.at(-1);
  return {
    count: BigInt(group.control.length),
    head: last === undefined ? zeroLink : blake2b256(last),
  };
}

function witnessOf(device: string, witness: SealedWitness) {
  return { deviceId: Uint8Array.from(Buffer.from(device, "base64url")), witness };
}

function refusal(code: ErrorCode, detail: ErrorDetail): SyncError {
  return new SyncError(code, { detail });
}
