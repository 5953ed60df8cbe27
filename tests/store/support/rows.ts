/** Rows to fill a store with; what a test does not name has a plain value. */
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceRow,
  GroupRow,
  InviteRow,
} from "../../../server/store/contract.ts";

/** So many bytes, different for every seed. */
export function bytes(length: number, seed: number): Uint8Array {
  const made = new Uint8Array(length);
  for (let i = 0; i < length; i++) made[i] = (seed * 131 + i * 7 + (seed >> 8)) & 255;
  if (length >= 4) new DataView(made.buffer).setUint32(0, seed);
  return made;
}

export function group(groupKey: number, changes: Partial<GroupRow> = {}): GroupRow {
  return {
    groupKey,
    groupId: bytes(32, groupKey),
    logId: bytes(16, groupKey),
    head: 0,
    floor: 0,
    replacedThrough: 0,
    trimmedThrough: 0,
    snapshotAgeS: 0,
    bytes: 0,
    snapshotBytes: 0,
    controlBytes: 0,
    blobs: 0,
    quotaBytes: 0,
    pushesPerS: 0,
    pushesBurst: 0,
    membershipCount: 1,
    membershipHead: bytes(32, 1_000 + groupKey),
    epoch: 1,
    suspended: false,
    ...changes,
  };
}

export function device(
  groupKey: number,
  deviceKey: number,
  changes: Partial<DeviceRow> = {},
): DeviceRow {
  return {
    deviceKey,
    groupKey,
    deviceId: bytes(32, 2_000 + deviceKey),
    role: "device",
    state: "active",
    lastSeq: 0,
    lastLink: new Uint8Array(32),
    lastCursor: 0,
    applied: 0,
    lastSeenMs: 1_700_000_000_000,
    seenAgeS: 0,
    witnessCounter: 0,
    witness: new Uint8Array(0),
    ...changes,
  };
}

export function blob(groupKey: number, cursor: number, changes: Partial<BlobRow> = {}): BlobRow {
  return {
    groupKey,
    cursor,
    deviceKey: groupKey,
    seq: cursor,
    priorCursor: cursor - 1,
    link: bytes(32, 3_000 + cursor),
    blobId: bytes(16, 4_000 + cursor),
    epoch: 1,
    header: bytes(60, 5_000 + cursor),
    signature: bytes(64, 6_000 + cursor),
    body: bytes(276, 7_000 + cursor),
    bodyState: 0,
    storedAgeS: 10,
    ...changes,
  };
}

export function control(
  groupKey: number,
  number: number,
  changes: Partial<ControlRow> = {},
): ControlRow {
  return {
    groupKey,
    number,
    head: bytes(32, 8_000 + number),
    epoch: number,
    bytes: bytes(1_000, number),
    ...changes,
  };
}

export function invite(seed: number, changes: Partial<InviteRow> = {}): InviteRow {
  return {
    inviteHash: bytes(32, 9_000 + seed),
    label: "",
    quotaBytes: 0,
    expiresAgeS: 0,
    createdMs: 1_700_000_000_000,
    usedByGroupKey: 0,
    revokedMs: 0,
    ...changes,
  };
}

export function batch(changes: Partial<CommitBatch>): CommitBatch {
  return { groups: [], devices: [], blobs: [], control: [], invites: [], ...changes };
}

/** The cursors from one to another, both included. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
