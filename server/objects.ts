/**
 * Objects: what a range, a reference and a drop do to them, decided from what is on disk and what
 * stands before in the same commit. Pure.
 */
import { create } from "@bufbuild/protobuf";
import { QuotaSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Draft } from "./draft.ts";
import { type PlanBounds, writeRefusal } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type { DraftObject } from "./life-draft.ts";
import { chunkBytes, type FoundObject, type ObjectRow } from "./store/life.ts";

/** A range, checked for everything that needs no state. */
export interface RangeRequest {
  readonly objectId: Uint8Array;
  readonly sizeBytes: number;
  readonly offset: number;
  readonly data: Uint8Array;
  readonly part: boolean;
}

/** What an object, and a manifest, count beside their bytes. */
export const lifeOverheadBytes = 256;

export function countedObject(row: ObjectRow): number {
  return row.sizeBytes + lifeOverheadBytes;
}

/**
 * Why bytes do not fit: log and objects stay within the quota; with them, snapshots within twice as
 * much, and within the store's limit and a quarter.
 */
export function spaceRefusal(
  draft: Draft,
  group: GroupEntry,
  bytes: number,
  ofSnapshot: boolean,
  bounds: PlanBounds,
): SyncError | undefined {
  const row = draft.group(group);
  const quota = row.quotaBytes > 0 ? row.quotaBytes : bounds.groupBytesMax;
  const [used, limit, storeLimit] = ofSnapshot
    ? [
        row.bytes + row.snapshotBytes,
        // It is told, and a peer takes no greater number.
        Math.min(2 * quota, Number.MAX_SAFE_INTEGER),
        1.25 * bounds.storeBytesMax,
      ]
    : [row.bytes, quota, bounds.storeBytesMax];
  const store = draft.storeBytes + bytes > storeLimit;
  if (!store && used + bytes <= limit) return undefined;
  return new SyncError(ErrorCode.QUOTA_EXCEEDED, {
    detail: {
      case: "quota",
      value: create(QuotaSchema, { usedBytes: BigInt(used), limitBytes: BigInt(limit), store }),
    },
  });
}

/** Takes a range; comes to the object as it is then. */
export function planRange(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
  request: RangeRequest,
  found: FoundObject | undefined,
  nextObjectKey: () => number,
  bounds: PlanBounds,
): ObjectRow | SyncError {
  const refusal = writeRefusal(draft, group, device);
  if (refusal !== undefined) return refusal;
  const { groupKey } = draft.group(group);
  let object = draft.life.object(groupKey, request.objectId, found);
  if (object !== undefined && object.row.sizeBytes !== request.sizeBytes) {
    return new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  const durable = object?.row.durableBytes ?? 0;
  if (object?.row.complete !== true && (request.offset !== durable || request.data.length === 0)) {
    // Nothing is made of an object by asking for what does not fit.
    return object?.row ?? absent(groupKey, request.objectId);
  }
  if (object === undefined) {
    const bytes = request.sizeBytes + lifeOverheadBytes;
    const tooMuch = spaceRefusal(draft, group, bytes, request.part, bounds);
    if (tooMuch !== undefined) return tooMuch;
    object = draft.life.addObject({
      objectKey: nextObjectKey(),
      groupKey,
      objectId: request.objectId,
      sizeBytes: request.sizeBytes,
      durableBytes: 0,
      complete: false,
      part: request.part,
      passing: true,
      storedAgeS: bounds.ageS,
    });
    count(draft, group, object.row, bytes);
  }
  object.holders.add(device.row.deviceKey);
  if (object.row.complete) return object.row;
  addChunks(draft, object, request);
  object.row = {
    ...object.row,
    durableBytes: durable + request.data.byteLength,
    storedAgeS: bounds.ageS,
  };
  return object.row;
}

/** What the relay has of an object that it has nothing of. */
export function absent(groupKey: number, objectId: Uint8Array): ObjectRow {
  return {
    objectKey: 0,
    groupKey,
    objectId,
    sizeBytes: 0,
    durableBytes: 0,
    complete: false,
    part: false,
    passing: false,
    storedAgeS: 0,
  };
}

function addChunks(draft: Draft, { row }: DraftObject, { offset, data }: RangeRequest): void {
  for (let place = 0; place < data.byteLength; place += chunkBytes) {
    draft.life.lists.chunks.push({
      objectKey: row.objectKey,
      number: (offset + place) / chunkBytes,
      data: data.subarray(place, place + chunkBytes),
    });
  }
}

function count(draft: Draft, group: GroupEntry, row: ObjectRow, bytes: number): void {
  const written = draft.writableGroup(group);
  if (row.part) draft.addSnapshotBytes(written, bytes);
  else draft.addBytes(written, bytes);
}

/** The object is whole and was hashed. */
export function planComplete(
  draft: Draft,
  group: GroupEntry,
  objectId: Uint8Array,
  found: FoundObject | undefined,
  right: boolean,
): ObjectRow | undefined {
  const object = draft.life.object(draft.group(group).groupKey, objectId, found);
  if (object === undefined || object.row.complete) return object?.row;
  if (!right) {
    dropObject(draft, group, object);
    return undefined;
  }
  object.row = { ...object.row, complete: true, passing: object.row.part };
  return object.row;
}

/** Ends a device's reference, and those of devices that were removed. */
export function planDrop(
  draft: Draft,
  group: GroupEntry,
  device: DeviceEntry,
  objectId: Uint8Array,
  found: FoundObject | undefined,
): void {
  const object = draft.life.object(draft.group(group).groupKey, objectId, found);
  if (object === undefined) return;
  for (const holder of object.holders) {
    const other = group.devicesByKey.get(holder);
    const gone = other !== undefined && draft.device(other).state === "removed";
    if (gone || holder === device.row.deviceKey) object.holders.delete(holder);
  }
  if (object.holders.size === 0) dropObject(draft, group, object);
}

/** Collects an object: what it counted is free at once, what it holds on disk by and by. */
export function dropObject(draft: Draft, group: GroupEntry, object: DraftObject): void {
  count(draft, group, object.row, -countedObject(object.row));
  draft.life.dropObject(object);
}
