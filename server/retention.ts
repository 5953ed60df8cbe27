/**
 * What may go from a group's log, and how much the relay wants a snapshot: decided from counters and
 * acknowledgements alone. Pure.
 */
import { SnapshotUrgency } from "../gen/syncrelay/sync/v1/session_pb.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type { GroupRow } from "./store/contract.ts";
import type { TrimRange } from "./store/life.ts";

/** Seconds without a connection after which a device holds nothing back. */
export const dormantS = 90 * 86_400;

/** Blobs, and seconds, since the last snapshot from which the relay asks for one. */
const lowBlobs = 500;
const lowS = 14 * 86_400;
/** And the same with urgency. */
const highBlobs = 750;
const highS = 21 * 86_400;
/** The part of the quota that makes it urgent. */
const highShare = 0.8;

/** Whether a device's acknowledgement is waited for. */
export function counts(device: DeviceEntry, connected: boolean, ageS: number): boolean {
  const { row } = device;
  if (row.state !== "active" || row.role === "paper") return false;
  return connected || ageS - device.seenAgeS < dormantS;
}

/** The cursor that every device that counts has acknowledged; without such a device, everything. */
export function acknowledgedByAll(
  group: GroupEntry,
  connected: (device: DeviceEntry) => boolean,
  ageS: number,
): number {
  let lowest = Number.MAX_SAFE_INTEGER;
  for (const device of group.devices.values()) {
    if (counts(device, connected(device), ageS)) lowest = Math.min(lowest, device.applied);
  }
  return lowest;
}

/** The next range that may go; undefined where nothing may. Headers first: with them the bodies go at once. */
export function nextTrim(row: GroupRow, acknowledged: number): TrimRange | undefined {
  const { groupKey, floor, replacedThrough } = row;
  const headers = Math.min(replacedThrough, acknowledged);
  if (floor < headers) return { groupKey, after: floor, through: headers, headers: true };
  const after = Math.max(floor, row.trimmedThrough);
  if (after < replacedThrough) return { groupKey, after, through: replacedThrough, headers: false };
  return undefined;
}

/** How much a snapshot is wanted. */
export function urgencyOf(row: GroupRow, groupBytesMax: number, ageS: number): SnapshotUrgency {
  const blobs = row.head - row.replacedThrough;
  if (blobs <= 0) return SnapshotUrgency.UNSPECIFIED;
  const sinceS = ageS - row.snapshotAgeS;
  const quota = row.quotaBytes > 0 ? row.quotaBytes : groupBytesMax;
  if (blobs >= highBlobs || sinceS >= highS || row.bytes >= highShare * quota) {
    return SnapshotUrgency.HIGH;
  }
  if (blobs >= lowBlobs || sinceS >= lowS) return SnapshotUrgency.LOW;
  return SnapshotUrgency.UNSPECIFIED;
}

/** What a session is told of the log's life. */
export interface LifeNotice {
  readonly urgency: SnapshotUrgency;
  readonly unconfirmed: boolean;
  readonly replacedThrough: bigint;
}

/** What a device is told now. */
export function lifeNotice(
  group: GroupEntry,
  deviceKey: number,
  groupBytesMax: number,
  ageS: number,
): LifeNotice {
  return {
    urgency: urgencyOf(group.row, groupBytesMax, ageS),
    unconfirmed: group.snapshots.some((one) => !one.effective && one.deviceKey !== deviceKey),
    replacedThrough: BigInt(group.row.replacedThrough),
  };
}
