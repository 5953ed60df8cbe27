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
import { controlChainBytesMax, membersMax } from "../wire/limits.ts";
import type { Draft, Writable } from "./draft.ts";
import { type DeviceEntry, GroupEntry } from "./group-state.ts";
import type {
  ControlRow,
  DeviceRole,
  DeviceRow,
  DeviceState,
  GroupRow,
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
  /** How long the body is kept, in seconds; 0: until it is trimmed. */
  readonly ttlS: number;
  /** Whether it names others whose bodies are to go. */
  readonly deletes: boolean;
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
export const blobOverheadBytes = 96;

export function countedBytes(blob: {
  readonly header: Uint8Array;
  readonly signature: Uint8Array;
  readonly body: Uint8Array;
}): number {
  return (
    blob.header.byteLength + blob.signature.byteLength + blob.body.byteLength + blobOverheadBytes
  );
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

/** Why a device may write nothing to its group; undefined where it may. */
export function writeRefusal(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
): SyncError | undefined {
  const { state, role } = draft.device(device);
  // The relay serves a session's device only while it is active; a removal in
  // this same commit, before this request, is seen here.
  if (state !== "active") return revokedError(state);
  // A recovery phrase adds a device and writes nothing else.
  const readOnly = role === "paper" || draft.group(group).suspended;
  return readOnly ? new SyncError(ErrorCode.READ_ONLY) : undefined;
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
  const { blobs } = push;
  const cursors: number[] = [];
  const known = places.length === 0 ? noPlaces : new Map(places.map((place) => [place.seq, place]));
  // Seqs rise, so what is known comes before what is new.
  let from = 0;
  for (; from < blobs.length; from++) {
    const blob = blobs[from] as PushBlob;
    if (blob.seq > deviceRow.lastSeq) break;
    const cursor = cursorOfKnown(draft, groupRow.groupKey, device, blob, known);
    if (cursor === undefined) return chainError(ErrorCode.LINK_CONFLICT, deviceRow);
    cursors.push(cursor);
  }
  if (from === blobs.length) return cursors;

  const refusal = writeRefusal(draft, group, device);
  if (refusal !== undefined) return refusal;
  const first = blobs[from] as PushBlob;
  const resumes = push.resume && first.seq > deviceRow.lastSeq + 1;
  if (first.seq !== deviceRow.lastSeq + 1 && !resumes) {
    return chainError(ErrorCode.OUT_OF_ORDER, deviceRow);
  }
  if (!resumes && !equalBytes(first.previousLink, deviceRow.lastLink)) {
    return chainError(ErrorCode.LINK_CONFLICT, deviceRow);
  }
  let bytes = 0;
  let previousLink = first.previousLink;
  for (let i = from; i < blobs.length; i++) {
    const blob = blobs[i] as PushBlob;
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
  draft.addBytes(groupWritten, bytes);
  groupWritten.blobs += blobs.length - from;
  // One cursor needs no list with room for more.
  if (blobs.length === 1)
    return [planBlob(draft, group, groupWritten, deviceWritten, first, bounds)];
  for (let i = from; i < blobs.length; i++) {
    const blob = blobs[i] as PushBlob;
    cursors.push(planBlob(draft, group, groupWritten, deviceWritten, blob, bounds));
  }
  return cursors;
}

/** Gives a blob the next cursor, which it returns. */
function planBlob(
  draft: Draft,
  group: GroupEntry,
  groupWritten: Writable<GroupRow>,
  deviceWritten: Writable<DeviceRow>,
  blob: PushBlob,
  bounds: PlanBounds,
): number {
  const cursor = groupWritten.head + 1;
  groupWritten.head = cursor;
  draft.addBlob({
    groupKey: groupWritten.groupKey,
    cursor,
    deviceKey: deviceWritten.deviceKey,
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
  if (blob.ttlS > 0 || blob.deletes) planEnd(draft, group, cursor, blob, bounds);
  deviceWritten.lastSeq = blob.seq;
  deviceWritten.lastLink = blob.link;
  deviceWritten.lastCursor = cursor;
  return cursor;
}

/** Notes what is to be done about a blob later. */
function planEnd(
  draft: Draft,
  group: GroupEntry,
  cursor: number,
  blob: PushBlob,
  bounds: PlanBounds,
): void {
  const { lists, deleting } = draft.life;
  const { groupKey } = group.row;
  // What ends behind every age that can be counted has no end.
  const expiresAgeS = bounds.ageS + blob.ttlS;
  if (blob.ttlS > 0 && Number.isSafeInteger(expiresAgeS)) {
    lists.expiries.push({ groupKey, cursor, expiresAgeS });
  }
  if (!blob.deletes) return;
  lists.deletes.push({ groupKey, cursor });
  deleting.add(group);
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

/** What a device is in a group, as this commit leaves it so far; undefined where it never was in it. */
export function stateOf(
  draft: Draft,
  group: GroupEntry,
  deviceId: Uint8Array,
): DeviceState | undefined {
  const entry = group.devices.get(idText(deviceId));
  if (entry !== undefined) return draft.device(entry).state;
  return draft.newDevices(group).find((row) => equalBytes(row.deviceId, deviceId))?.state;
}

/**
 * Plans a change of an existing group's membership, which a device may ask for
 * that is not in it: the caller has checked that. `nextDeviceKey` draws keys for
 * devices that are new.
 */
export function planChange(
  draft: Draft,
  group: GroupEntry,
  request: ChangeRequest,
  nextDeviceKey: () => number,
  bounds: PlanBounds,
): ChangeOutcome | SyncError {
  const groupRow = draft.group(group);
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

  const added = [...stays.keys()].some((text) => !roster.has(text));
  const boundError = controlRefusal(groupRow, request, removed.length > 0 && !added);
  if (boundError !== undefined) return boundError;

  for (const [, row] of removed) draft.replaceDevice(group, { ...row, state: "removed" });
  for (const [text, member] of stays) {
    const row = roster.get(text);
    if (row === undefined) {
      draft.addDevice(group, newDevice(groupRow.groupKey, nextDeviceKey(), member, bounds));
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
      replacedThrough: 0,
      trimmedThrough: 0,
      snapshotAgeS: bounds.ageS,
      bytes: 0,
      snapshotBytes: 0,
      controlBytes: 0,
      blobs: 0,
      quotaBytes: founding.quotaBytes,
      pushesPerS: 0,
      pushesBurst: 0,
      membershipCount: 0,
      membershipHead: zeroLink,
      epoch: 0,
      suspended: false,
    },
    devices: [],
    snapshots: [],
  });
  draft.found(group);
  for (const member of request.members) {
    draft.addDevice(group, newDevice(founding.groupKey, nextDeviceKey(), member, bounds));
  }
  return commitControl(draft, group, group.row, request);
}

/** What a control blob counts towards the bound of its group. */
function controlRowBytes(request: ChangeRequest): number {
  return request.controlBlob.byteLength + blobOverheadBytes;
}

/**
 * Control blobs are never trimmed, so they have a bound of their own. Somebody who fills it must not
 * thereby keep the others from removing him: what only removes goes on, up to twice the bound.
 */
function controlRefusal(
  group: GroupRow,
  request: ChangeRequest,
  onlyRemoves: boolean,
): SyncError | undefined {
  const limit = onlyRemoves ? 2 * controlChainBytesMax : controlChainBytesMax;
  if (group.controlBytes + controlRowBytes(request) <= limit) return undefined;
  return new SyncError(ErrorCode.QUOTA_EXCEEDED, {
    detail: {
      case: "quota",
      value: create(QuotaSchema, {
        usedBytes: BigInt(group.controlBytes),
        limitBytes: BigInt(controlChainBytesMax),
      }),
    },
  });
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
    controlBytes: draft.group(group).controlBytes + controlRowBytes(request),
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
  bounds: PlanBounds,
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
    lastSeenMs: bounds.nowMs,
    seenAgeS: bounds.ageS,
    witnessCounter: 0,
    witness: new Uint8Array(0),
  };
}
