/** Snapshots: which are taken, when one trims, and which go then. Pure. */
import { equalBytes, toHex } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Draft } from "./draft.ts";
import { type PlanBounds, writeRefusal } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import { dropObject, lifeOverheadBytes, spaceRefusal } from "./objects.ts";
import type { FoundObject, SnapshotRow } from "./store/life.ts";

/** A snapshot, checked for everything that needs no state. */
export interface SnapshotRequest {
  /** BLAKE2b-256 of the manifest. */
  readonly snapshotId: Uint8Array;
  readonly manifest: Uint8Array;
  readonly signature: Uint8Array;
  readonly logId: Uint8Array;
  readonly replacesThrough: number;
  readonly link: Uint8Array;
  readonly parts: readonly Uint8Array[];
}

/** Seconds after which a snapshot that nobody has confirmed becomes effective. */
export const unconfirmedS = 7 * 86_400;

/** What the disk has of what a new snapshot names, and of the parts of those that may go for it. */
export interface FoundForSnapshot {
  readonly link: Uint8Array | undefined;
  readonly parts: readonly FoundObject[];
  readonly superseded: readonly FoundObject[];
}

/** Stores a snapshot, or tells why not. */
export function planSnapshot(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
  request: SnapshotRequest,
  found: FoundForSnapshot,
  nextSnapshotKey: () => number,
  bounds: PlanBounds,
): SyncError | undefined {
  const { life } = draft;
  const row = draft.group(group);
  if (life.snapshots(group).some((one) => equalBytes(one.snapshotId, request.snapshotId))) {
    return undefined;
  }
  const refusal = writeRefusal(draft, group, device);
  if (refusal !== undefined) return refusal;
  if (
    !equalBytes(request.logId, row.logId) ||
    request.replacesThrough <= row.replacedThrough ||
    (found.link !== undefined && !equalBytes(found.link, request.link))
  ) {
    return new SyncError(ErrorCode.LINK_CONFLICT);
  }
  if (found.link === undefined || request.replacesThrough > device.applied) {
    return new SyncError(ErrorCode.OUT_OF_ORDER);
  }
  const onDisk = new Map(found.parts.map((part) => [toHex(part.object.objectId), part]));
  const parts = request.parts.map((id) => life.object(row.groupKey, id, onDisk.get(toHex(id))));
  if (parts.some((part) => part?.row.complete !== true)) {
    return new SyncError(ErrorCode.OUT_OF_ORDER);
  }
  const bytes = request.manifest.byteLength + lifeOverheadBytes;
  const tooMuch = spaceRefusal(draft, group, bytes, true, bounds);
  if (tooMuch !== undefined) return tooMuch;

  const superseded = life
    .snapshots(group)
    .filter((one) => !one.effective && one.deviceKey === device.row.deviceKey);
  const snapshotKey = nextSnapshotKey();
  life.addSnapshot(
    group,
    {
      snapshotKey,
      groupKey: row.groupKey,
      snapshotId: request.snapshotId,
      deviceKey: device.row.deviceKey,
      replacesThrough: request.replacesThrough,
      storedAgeS: bounds.ageS,
      effective: false,
      confirmedBy: 0,
      manifestBytes: request.manifest.byteLength,
    },
    {
      manifest: request.manifest,
      signature: request.signature,
      confirmation: new Uint8Array(0),
    },
  );
  draft.addSnapshotBytes(draft.writableGroup(group), bytes);
  for (const part of parts) {
    if (part === undefined) continue;
    part.holders.add(-snapshotKey);
    if (!part.row.part) continue;
    part.holders.delete(device.row.deviceKey);
    part.row = { ...part.row, passing: false };
  }
  // Only now: the older one may hold the same parts, where its author asked again.
  for (const one of superseded) dropSnapshot(draft, group, one, found.superseded);
  return undefined;
}

/** Takes a confirmation. */
export function planConfirmation(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
  snapshotId: Uint8Array,
  signature: Uint8Array,
  parts: readonly FoundObject[],
  bounds: PlanBounds,
): SyncError | undefined {
  const refusal = writeRefusal(draft, group, device);
  if (refusal !== undefined) return refusal;
  const snapshot = draft.life
    .snapshots(group)
    .find((one) => equalBytes(one.snapshotId, snapshotId));
  if (snapshot === undefined) return new SyncError(ErrorCode.LINK_CONFLICT);
  if (snapshot.deviceKey === device.row.deviceKey) return new SyncError(ErrorCode.ENVELOPE_INVALID);
  if (snapshot.effective) return undefined;
  takeEffect(draft, group, snapshot, { device, signature }, parts, bounds);
  return undefined;
}

/** The snapshot that became effective by its age; undefined where none did. */
export function ripeSnapshot(rows: readonly SnapshotRow[], ageS: number): SnapshotRow | undefined {
  return rows
    .filter((one) => !one.effective && one.storedAgeS + unconfirmedS <= ageS)
    .sort((a, b) => b.replacesThrough - a.replacesThrough)[0];
}

/** Snapshots that go when one becomes effective: whatever does not replace more. */
export function supersededBy(
  rows: readonly SnapshotRow[],
  snapshot: SnapshotRow,
): readonly SnapshotRow[] {
  return rows.filter(
    (one) =>
      one.snapshotKey !== snapshot.snapshotKey &&
      (one.effective || one.replacesThrough <= snapshot.replacesThrough),
  );
}

/** A snapshot becomes effective: it replaces the log's beginning from this commit on. */
export function takeEffect(
  draft: Draft,
  group: GroupEntry,
  snapshot: SnapshotRow,
  by: { readonly device: DeviceEntry; readonly signature: Uint8Array } | undefined,
  parts: readonly FoundObject[],
  bounds: PlanBounds,
): void {
  draft.life.makeEffective(
    group,
    snapshot,
    by?.device.row.deviceKey ?? 0,
    by?.signature ?? new Uint8Array(0),
  );
  const row = draft.writableGroup(group);
  row.replacedThrough = Math.max(row.replacedThrough, snapshot.replacesThrough);
  row.snapshotAgeS = bounds.ageS;
  for (const one of supersededBy(draft.life.snapshots(group), snapshot)) {
    dropSnapshot(draft, group, one, parts);
  }
}

/** Collects the snapshots that are not effective. `found`: their parts on disk, among others. */
export function dropWaiting(draft: Draft, group: GroupEntry, found: readonly FoundObject[]): void {
  for (const one of draft.life.snapshots(group)) {
    if (!one.effective) dropSnapshot(draft, group, one, found);
  }
}

/** Collects a snapshot and what nobody else refers to of its parts. `found`: its parts on disk, among others. */
function dropSnapshot(
  draft: Draft,
  group: GroupEntry,
  snapshot: SnapshotRow,
  found: readonly FoundObject[],
): void {
  const { life } = draft;
  for (const part of found) life.object(part.object.groupKey, part.object.objectId, part);
  life.dropSnapshot(group, snapshot);
  draft.addSnapshotBytes(draft.writableGroup(group), -(snapshot.manifestBytes + lifeOverheadBytes));
  for (const part of life.heldBy(-snapshot.snapshotKey)) {
    part.holders.delete(-snapshot.snapshotKey);
    if (part.holders.size === 0) dropObject(draft, group, part);
  }
}
