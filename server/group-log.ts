/**
 * The group log: what a push or a membership change does to a group, decided
 * from what is on disk and what stands before it in the same commit. Pure: a
 * `Draft` collects the rows of one commit; nothing in memory changes until that
 * commit is on disk, so a commit that fails leaves nothing to undo.
 *
 * Jobs are planned only when the commit before has settled. A push that repeats
 * one of the commit under way therefore meets it on disk, and is a duplicate.
 */
import { create } from "@bufbuild/protobuf";
import {
  MembershipDetailSchema,
  MembershipVersionSchema,
  QuotaSchema,
  RevocationSchema,
  SenderPositionSchema,
} from "../gen/syncrelay/sync/v1/error_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText, zeroLink } from "../wire/ids.ts";
import { membersMax } from "../wire/limits.ts";
import { type DeviceEntry, GroupEntry } from "./group-state.ts";
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceRole,
  DeviceRow,
  DeviceState,
  GroupRow,
  InviteRow,
  SenderPlace,
} from "./store/contract.ts";

/** A blob of a push, its header read and its link derived. */
export interface PushBlob {
  readonly seq: number;
  readonly previousLink: Uint8Array;
  readonly link: Uint8Array;
  readonly blobId: Uint8Array;
  readonly epoch: number;
  readonly header: Uint8Array;
  readonly signature: Uint8Array;
  readonly body: Uint8Array;
}

/** A push, checked for everything that needs no state. At least one blob; seqs rise by one. */
export interface PushRequest {
  readonly blobs: readonly PushBlob[];
  readonly resume: boolean;
}

/** A member of the group after a change. */
export interface ChangedMember {
  readonly deviceId: Uint8Array;
  readonly role: DeviceRole;
}

/** The last position of a removed device that its remover saw. */
export interface ClosingClaim {
  readonly deviceId: Uint8Array;
  readonly seq: number;
  readonly link: Uint8Array;
}

/** A membership change, checked for everything that needs no state. */
export interface ChangeRequest {
  readonly expectedCount: number;
  readonly expectedHead: Uint8Array;
  /** As it is stored; `head` is its hash. */
  readonly controlBlob: Uint8Array;
  readonly head: Uint8Array;
  /** From the control blob. */
  readonly author: Uint8Array;
  readonly previousHead: Uint8Array;
  readonly controlEpoch: number;
  readonly members: readonly ChangedMember[];
  readonly epoch: number;
  readonly closings: readonly ClosingClaim[];
}

/** What the plan needs to know beside the group. */
export interface PlanBounds {
  readonly groupBytesMax: number;
  readonly storeBytesMax: number;
  /** Milliseconds since the Unix epoch: shown to people. */
  readonly nowMs: number;
  /** Milliseconds that only rise. */
  readonly monotonicMs: number;
  readonly ageS: number;
}

/** What a change came to. */
export interface ChangeOutcome {
  readonly count: number;
  readonly head: Uint8Array;
  readonly epoch: number;
  readonly logId: Uint8Array;
}

/** How long a device is held after a removal found it further than the remover knew. */
const heldMs = 60_000;

/**
 * How far below a sender's last seq a repeated one is looked for. Whoever repeats
 * older ones has missed what `Welcome` told; without a bound, one push would
 * read a whole chain.
 */
const repeatedSeqsMax = 4_096;

/** What a blob counts towards the quota beside its parts: ids, link and row. */
const blobOverheadBytes = 96;

export function countedBytes(blob: {
  readonly header: Uint8Array;
  readonly signature: Uint8Array;
  readonly body: Uint8Array;
}): number {
  return (
    blob.header.byteLength + blob.signature.byteLength + blob.body.byteLength + blobOverheadBytes
  );
}

/** A row of a draft, which nobody else holds. */
export type Writable<Row> = { -readonly [Key in keyof Row]: Row[Key] };

/** One commit being planned. */
export class Draft {
  readonly #groups = new Map<GroupEntry, GroupRow>();
  readonly #devices = new Map<DeviceEntry, DeviceRow>();
  readonly #newDevices = new Map<GroupEntry, DeviceRow[]>();
  readonly #founded: GroupEntry[] = [];
  readonly #blobs: BlobRow[] = [];
  readonly #control: ControlRow[] = [];
  readonly #invites: InviteRow[] = [];
  readonly #deleted = new Set<GroupEntry>();
  #storeBytes: number;

  constructor(storeBytes: number) {
    this.#storeBytes = storeBytes;
  }

  get empty(): boolean {
    return (
      this.#groups.size === 0 &&
      this.#devices.size === 0 &&
      this.#founded.length === 0 &&
      this.#invites.length === 0 &&
      this.#deleted.size === 0
    );
  }

  /** Bytes that count towards the store's limit after this commit. */
  get storeBytes(): number {
    return this.#storeBytes;
  }

  /** Rows of blobs so far. */
  get blobs(): readonly BlobRow[] {
    return this.#blobs;
  }

  group(entry: GroupEntry): GroupRow {
    return this.#groups.get(entry) ?? entry.row;
  }

  device(entry: DeviceEntry): DeviceRow {
    return this.#devices.get(entry) ?? entry.row;
  }

  /** The groups that this commit changes, founded ones too. */
  get touched(): Iterable<GroupEntry> {
    return this.#groups.keys();
  }

  /** The group's row in this commit, to be changed in place: copied once a commit, not once a push. */
  writableGroup(entry: GroupEntry): Writable<GroupRow> {
    const row = this.#groups.get(entry);
    if (row !== undefined && row !== entry.row) return row;
    const copy = { ...entry.row };
    this.#groups.set(entry, copy);
    return copy;
  }

  /** The device's row in this commit, to be changed in place. */
  writableDevice(entry: DeviceEntry): Writable<DeviceRow> {
    const row = this.#devices.get(entry);
    if (row !== undefined && row !== entry.row) return row;
    const copy = { ...entry.row };
    this.#devices.set(entry, copy);
    return copy;
  }

  /** Counts bytes that a group's row was given in place. */
  addBytes(group: Writable<GroupRow>, bytes: number): void {
    group.bytes += bytes;
    this.#storeBytes += bytes;
  }

  setGroup(entry: GroupEntry, row: GroupRow): void {
    this.#storeBytes += row.bytes - this.group(entry).bytes;
    this.#groups.set(entry, row);
  }

  setDevice(entry: DeviceEntry, row: DeviceRow): void {
    this.#devices.set(entry, row);
  }

  addDevice(group: GroupEntry, row: DeviceRow): void {
    const added = this.#newDevices.get(group);
    if (added === undefined) this.#newDevices.set(group, [row]);
    else added.push(row);
  }

  newDevices(group: GroupEntry): readonly DeviceRow[] {
    return this.#newDevices.get(group) ?? [];
  }

  /** Writes a row of a device that is in the group already, or that this commit adds. */
  replaceDevice(group: GroupEntry, row: DeviceRow): void {
    const entry = group.devicesByKey.get(row.deviceKey);
    if (entry !== undefined) {
      this.setDevice(entry, row);
      return;
    }
    const added = this.#newDevices.get(group) ?? [];
    this.#newDevices.set(
      group,
      added.map((known) => (known.deviceKey === row.deviceKey ? row : known)),
    );
  }

  found(group: GroupEntry): void {
    this.#founded.push(group);
    this.#groups.set(group, group.row);
  }

  foundedGroup(groupIdText: string): GroupEntry | undefined {
    return this.#founded.find((group) => group.idText === groupIdText);
  }

  addBlob(row: BlobRow): void {
    this.#blobs.push(row);
  }

  addControl(row: ControlRow): void {
    this.#control.push(row);
  }

  control(groupKey: number, head: Uint8Array): ControlRow | undefined {
    return this.#control.find((row) => row.groupKey === groupKey && equalBytes(row.head, head));
  }

  setInvite(row: InviteRow): void {
    this.#invites.push(row);
  }

  /** An invite as this commit leaves it so far; undefined where it does not touch it. */
  invite(inviteHash: Uint8Array): InviteRow | undefined {
    return this.#invites.findLast((row) => equalBytes(row.inviteHash, inviteHash));
  }

  /** Takes a group away, with whatever this commit wrote of it before. */
  deleteGroup(entry: GroupEntry): void {
    this.#storeBytes -= this.group(entry).bytes;
    this.#groups.delete(entry);
    this.#deleted.add(entry);
  }

  /** Whether a group was deleted, by this commit or one before. */
  gone(entry: GroupEntry): boolean {
    return entry.gone || this.#deleted.has(entry);
  }

  /** Whether a device's group was deleted, by this commit or one before. */
  deviceGone(entry: DeviceEntry): boolean {
    if (entry.gone) return true;
    for (const group of this.#deleted) {
      if (group.devicesByKey.get(entry.row.deviceKey) === entry) return true;
    }
    return false;
  }

  /** The place of a sender's blob that stands in this commit. */
  placeOf(groupKey: number, deviceKey: number, seq: number): SenderPlace | undefined {
    // From the end: what repeats is nearly always the newest.
    for (let i = this.#blobs.length - 1; i >= 0; i--) {
      const row = this.#blobs[i] as BlobRow;
      if (row.groupKey === groupKey && row.deviceKey === deviceKey && row.seq === seq) return row;
    }
    return undefined;
  }

  /** What the store is asked to write. Ends the planning. */
  batch(ageS: number): CommitBatch {
    for (const [entry, row] of this.#devices) {
      this.#devices.set(entry, {
        ...row,
        applied: entry.applied,
        lastSeenMs: entry.lastSeenMs,
      });
    }
    return {
      groups: [...this.#groups.values()],
      devices: [...this.#devices.values(), ...[...this.#newDevices.values()].flat()],
      blobs: this.#blobs,
      control: this.#control,
      // The newest of each: a row is written once.
      invites: this.#invites.filter((row) => this.invite(row.inviteHash) === row),
      ...(this.#deleted.size === 0
        ? {}
        : { deletedGroups: [...this.#deleted].map((entry) => entry.row.groupKey) }),
      ageS,
    };
  }

  /** Takes over, after the commit is on disk, what it wrote. */
  apply(): void {
    for (const [entry, row] of this.#groups) entry.row = row;
    for (const [entry, row] of this.#devices) {
      entry.row = row;
      entry.soft = entry.applied !== row.applied;
    }
    for (const [group, rows] of this.#newDevices) for (const row of rows) group.put(row);
    for (const entry of this.#deleted) {
      entry.gone = true;
      for (const device of entry.devices.values()) device.gone = true;
    }
  }
}

/** Where a sender stands, as an error's detail. */
function senderPosition(seq: number, link: Uint8Array) {
  return create(SenderPositionSchema, { seq: BigInt(seq), link });
}

function membershipDetail(group: GroupRow) {
  return create(MembershipDetailSchema, {
    version: create(MembershipVersionSchema, {
      count: BigInt(group.membershipCount),
      head: group.membershipHead,
    }),
    epoch: BigInt(group.epoch),
  });
}

function chainError(code: ErrorCode, device: DeviceRow): SyncError {
  return new SyncError(code, {
    detail: { case: "senderPosition", value: senderPosition(device.lastSeq, device.lastLink) },
  });
}

function membershipError(code: ErrorCode, group: GroupRow): SyncError {
  return new SyncError(code, {
    detail: { case: "membership", value: membershipDetail(group) },
  });
}

/** Why a device is served no more: a member removed it, or an operator refuses it. */
export function revokedError(state: DeviceState | undefined): SyncError {
  return new SyncError(ErrorCode.DEVICE_REVOKED, {
    detail: {
      case: "revocation",
      value: create(RevocationSchema, { byOperator: state === "refused" }),
    },
  });
}

/** Down to which seq planning this push needs the sender's places from disk; undefined: not at all. */
export function placesNeeded(device: DeviceEntry, push: PushRequest): number | undefined {
  const first = push.blobs[0] as PushBlob;
  const last = device.row.lastSeq;
  // The last one itself stands in the row.
  if (first.seq >= last || last - first.seq > repeatedSeqsMax) return undefined;
  return first.seq;
}

const noPlaces: ReadonlyMap<number, SenderPlace> = new Map();

/**
 * Plans a push: all its blobs or none. Returns their cursors, or why not.
 *
 * The order of the checks is the protocol's: what is in the log already is
 * answered with its cursor before the epoch, the quota or anything else is
 * looked at, so that a device whose acknowledgement was lost is never told to
 * seal again what it has stored.
 */
export function planPush(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
  push: PushRequest,
  places: readonly SenderPlace[],
  bounds: PlanBounds,
): readonly number[] | SyncError {
  const groupRow = draft.group(group);
  const deviceRow = draft.device(device);
  const cursors: number[] = [];
  const fresh: PushBlob[] = [];
  const known = places.length === 0 ? noPlaces : new Map(places.map((place) => [place.seq, place]));
  for (const blob of push.blobs) {
    if (blob.seq > deviceRow.lastSeq) {
      fresh.push(blob);
      continue;
    }
    const cursor = cursorOfKnown(draft, groupRow.groupKey, device, blob, known);
    if (cursor === undefined) return chainError(ErrorCode.LINK_CONFLICT, deviceRow);
    cursors.push(cursor);
  }
  if (fresh.length === 0) return cursors;

  // The relay serves a session's device only while it is active; a removal in
  // this same commit, before this push, is seen here.
  if (deviceRow.state !== "active") return revokedError(deviceRow.state);
  // A recovery phrase adds a device and writes nothing else.
  if (deviceRow.role === "paper" || groupRow.suspended) return new SyncError(ErrorCode.READ_ONLY);
  const first = fresh[0] as PushBlob;
  const resumes = push.resume && first.seq > deviceRow.lastSeq + 1;
  if (first.seq !== deviceRow.lastSeq + 1 && !resumes) {
    return chainError(ErrorCode.OUT_OF_ORDER, deviceRow);
  }
  if (!resumes && !equalBytes(first.previousLink, deviceRow.lastLink)) {
    return chainError(ErrorCode.LINK_CONFLICT, deviceRow);
  }
  let bytes = 0;
  let previousLink = first.previousLink;
  for (const blob of fresh) {
    if (!equalBytes(blob.previousLink, previousLink)) {
      return chainError(ErrorCode.LINK_CONFLICT, deviceRow);
    }
    previousLink = blob.link;
    if (blob.epoch < groupRow.epoch) return membershipError(ErrorCode.EPOCH_STALE, groupRow);
    if (blob.epoch > groupRow.epoch) return membershipError(ErrorCode.EPOCH_AHEAD, groupRow);
    bytes += countedBytes(blob);
  }
  if (device.heldUntilMs > bounds.monotonicMs) {
    return new SyncError(ErrorCode.RATE_LIMITED, {
      retryAfterMs: device.heldUntilMs - bounds.monotonicMs,
    });
  }
  const quotaError = quotaRefusal(draft, groupRow, bytes, bounds);
  if (quotaError !== undefined) return quotaError;

  const groupWritten = draft.writableGroup(group);
  const deviceWritten = draft.writableDevice(device);
  for (const blob of fresh) {
    groupWritten.head += 1;
    draft.addBlob({
      groupKey: groupRow.groupKey,
      cursor: groupWritten.head,
      deviceKey: deviceRow.deviceKey,
      seq: blob.seq,
      priorCursor: deviceWritten.lastCursor,
      link: blob.link,
      blobId: blob.blobId,
      epoch: blob.epoch,
      header: blob.header,
      signature: blob.signature,
      body: blob.body,
      bodyState: 0,
      storedAgeS: bounds.ageS,
    });
    deviceWritten.lastSeq = blob.seq;
    deviceWritten.lastLink = blob.link;
    deviceWritten.lastCursor = groupWritten.head;
    cursors.push(groupWritten.head);
  }
  draft.addBytes(groupWritten, bytes);
  groupWritten.blobs += fresh.length;
  return cursors;
}

/** The first cursor of a blob that the sender's chain has passed, where it is the same blob. */
function cursorOfKnown(
  draft: Draft,
  groupKey: number,
  device: DeviceEntry,
  blob: PushBlob,
  places: ReadonlyMap<number, SenderPlace>,
): number | undefined {
  // The last one of the commit so far, then the last one on disk: neither is looked up.
  for (const row of [draft.device(device), device.row]) {
    if (blob.seq !== row.lastSeq) continue;
    return equalBytes(blob.link, row.lastLink) ? row.lastCursor : undefined;
  }
  const place = places.get(blob.seq) ?? draft.placeOf(groupKey, device.row.deviceKey, blob.seq);
  return place !== undefined && equalBytes(place.link, blob.link) ? place.cursor : undefined;
}

function quotaRefusal(
  draft: Draft,
  group: GroupRow,
  bytes: number,
  bounds: PlanBounds,
): SyncError | undefined {
  const groupLimit = group.quotaBytes > 0 ? group.quotaBytes : bounds.groupBytesMax;
  const store = draft.storeBytes + bytes > bounds.storeBytesMax;
  if (!store && group.bytes + bytes <= groupLimit) return undefined;
  return new SyncError(ErrorCode.QUOTA_EXCEEDED, {
    detail: {
      case: "quota",
      value: create(QuotaSchema, {
        usedBytes: BigInt(group.bytes),
        limitBytes: BigInt(groupLimit),
        store,
      }),
    },
  });
}

/** The first answer to control bytes that stand in the chain already. */
export function repeatedChange(
  draft: Draft,
  group: GroupEntry,
  request: ChangeRequest,
  onDisk: ControlRow | undefined,
): ChangeOutcome | undefined {
  const row = onDisk ?? draft.control(group.row.groupKey, request.head);
  if (row === undefined) return undefined;
  return { count: row.number, head: row.head, epoch: row.epoch, logId: group.row.logId };
}

/**
 * Plans a change of an existing group's membership. `nextDeviceKey` draws keys
 * for devices that are new.
 */
export function planChange(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
  request: ChangeRequest,
  nextDeviceKey: () => number,
  bounds: PlanBounds,
): ChangeOutcome | SyncError {
  const groupRow = draft.group(group);
  const { state } = draft.device(device);
  if (state !== "active") return revokedError(state);
  if (groupRow.suspended) return new SyncError(ErrorCode.READ_ONLY);
  if (
    request.expectedCount !== groupRow.membershipCount ||
    !equalBytes(request.expectedHead, groupRow.membershipHead) ||
    !equalBytes(request.previousHead, groupRow.membershipHead)
  ) {
    return membershipError(ErrorCode.MEMBERSHIP_CONFLICT, groupRow);
  }
  // Members resubmit one another's control blobs after a restore, so the author
  // need not be the session's device; it must be one the relay serves, or did
  // when the change was made; this commit may have added it.
  const roster = rosterOf(draft, group);
  if (!roster.has(idText(request.author))) return new SyncError(ErrorCode.NOT_A_MEMBER);
  const opensEpoch = request.epoch === groupRow.epoch + 1;
  if (request.epoch !== request.controlEpoch || !(opensEpoch || request.epoch === groupRow.epoch)) {
    return new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  const membersError = checkMembers(request.members, roster);
  if (membersError !== undefined) return membersError;

  const stays = new Map(request.members.map((member) => [idText(member.deviceId), member]));
  const removed = [...roster].filter(([text, row]) => row.state !== "removed" && !stays.has(text));
  if (removed.length > 0 && !opensEpoch) return new SyncError(ErrorCode.ENVELOPE_INVALID);
  const claims = new Map(request.closings.map((claim) => [idText(claim.deviceId), claim]));
  for (const [text, row] of removed) {
    const claim = claims.get(text);
    if (claim === undefined) return new SyncError(ErrorCode.ENVELOPE_INVALID);
    if (claim.seq === row.lastSeq && equalBytes(claim.link, row.lastLink)) continue;
    const entry = group.devices.get(text);
    if (entry !== undefined) entry.heldUntilMs = bounds.monotonicMs + heldMs;
    const detail = membershipDetail(groupRow);
    detail.closing = senderPosition(row.lastSeq, row.lastLink);
    detail.closingDevice = row.deviceId;
    return new SyncError(ErrorCode.MEMBERSHIP_CONFLICT, {
      detail: { case: "membership", value: detail },
    });
  }

  for (const [, row] of removed) draft.replaceDevice(group, { ...row, state: "removed" });
  for (const [text, member] of stays) {
    const row = roster.get(text);
    if (row === undefined) {
      draft.addDevice(group, newDevice(groupRow.groupKey, nextDeviceKey(), member, bounds.nowMs));
    } else if (row.role !== member.role) {
      draft.replaceDevice(group, { ...row, role: member.role });
    }
  }
  return commitControl(draft, group, groupRow, request);
}

/** Plans the founding of a group that does not exist. The caller has checked the policy. */
export function planFounding(
  draft: Draft,
  founding: {
    readonly groupKey: number;
    readonly groupId: Uint8Array;
    readonly logId: Uint8Array;
    readonly quotaBytes: number;
    readonly founder: Uint8Array;
  },
  request: ChangeRequest,
  nextDeviceKey: () => number,
  bounds: PlanBounds,
): ChangeOutcome | SyncError {
  if (
    request.expectedCount !== 0 ||
    !equalBytes(request.previousHead, zeroLink) ||
    request.epoch !== 1 ||
    request.controlEpoch !== 1 ||
    request.closings.length > 0 ||
    !equalBytes(request.author, founding.founder) ||
    !request.members.some((member) => equalBytes(member.deviceId, founding.founder))
  ) {
    return new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  const membersError = checkMembers(request.members, new Map());
  if (membersError !== undefined) return membersError;
  const group = new GroupEntry({
    group: {
      groupKey: founding.groupKey,
      groupId: founding.groupId,
      logId: founding.logId,
      head: 0,
      floor: 0,
      bytes: 0,
      blobs: 0,
      quotaBytes: founding.quotaBytes,
      membershipCount: 0,
      membershipHead: zeroLink,
      epoch: 0,
      suspended: false,
    },
    devices: [],
  });
  draft.found(group);
  for (const member of request.members) {
    draft.addDevice(group, newDevice(founding.groupKey, nextDeviceKey(), member, bounds.nowMs));
  }
  return commitControl(draft, group, group.row, request);
}

function commitControl(
  draft: Draft,
  group: GroupEntry,
  groupRow: GroupRow,
  request: ChangeRequest,
): ChangeOutcome {
  const count = groupRow.membershipCount + 1;
  draft.addControl({
    groupKey: groupRow.groupKey,
    number: count,
    head: request.head,
    epoch: request.epoch,
    bytes: request.controlBlob,
  });
  draft.setGroup(group, {
    ...draft.group(group),
    membershipCount: count,
    membershipHead: request.head,
    epoch: request.epoch,
  });
  return { count, head: request.head, epoch: request.epoch, logId: groupRow.logId };
}

/** Every device of the group as this commit leaves it so far. */
function rosterOf(draft: Draft, group: GroupEntry): Map<string, DeviceRow> {
  const roster = new Map<string, DeviceRow>();
  for (const entry of group.devices.values()) roster.set(entry.idText, draft.device(entry));
  for (const row of draft.newDevices(group)) roster.set(idText(row.deviceId), row);
  return roster;
}

function checkMembers(
  members: readonly ChangedMember[],
  roster: ReadonlyMap<string, DeviceRow>,
): SyncError | undefined {
  const texts = new Set(members.map((member) => idText(member.deviceId)));
  if (members.length === 0 || members.length > membersMax || texts.size !== members.length) {
    return new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  // A removed device id never comes back.
  for (const text of texts) {
    if (roster.get(text)?.state === "removed") return new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  return undefined;
}

function newDevice(
  groupKey: number,
  deviceKey: number,
  member: ChangedMember,
  nowMs: number,
): DeviceRow {
  return {
    deviceKey,
    groupKey,
    deviceId: member.deviceId,
    role: member.role,
    state: "active",
    lastSeq: 0,
    lastLink: zeroLink,
    lastCursor: 0,
    applied: 0,
    lastSeenMs: nowMs,
    witnessCounter: 0,
    witness: new Uint8Array(0),
  };
}
