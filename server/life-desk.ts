/**
 * Answers what devices ask about objects and snapshots: reads, gives plans to the committer, and hashes
 * objects when they are whole. It knows no session: what it answers goes back to whoever asked.
 */
import { create } from "@bufbuild/protobuf";
import { SnapshotSchema } from "../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import type { EnvelopeBody } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { objectRangeBytesMax } from "../wire/limits.ts";
import type { Counters } from "./counters.ts";
import type { Draft } from "./draft.ts";
import type { PlanBounds } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import { heldBytes, type LifeRequest } from "./life-requests.ts";
import { ObjectHashes } from "./object-hashes.ts";
import { absent, planComplete, planDrop, planRange, type RangeRequest } from "./objects.ts";
import { urgencyOf } from "./retention.ts";
import { planConfirmation, planSnapshot, type SnapshotRequest, supersededBy } from "./snapshots.ts";
import type { Store } from "./store/contract.ts";
import {
  chunkBytes,
  type FoundObject,
  type ObjectRow,
  type SnapshotContent,
  type SnapshotRow,
} from "./store/life.ts";

/** Something to be written in the next commit. */
export interface Task<Found, Result> {
  /** The group it is about: damage that it meets is that group's. */
  readonly group?: GroupEntry;
  readonly lookUp?: () => Promise<Found>;
  readonly plan: (draft: Draft, found: Found, bounds: PlanBounds) => Result | SyncError;
  /** What it holds on to while it waits. */
  readonly bytes?: number;
}

/** Writes in the next commit; rejects with the `SyncError` that the plan or the store came to. */
export type RunTask = <Found, Result>(task: Task<Found, Result>) => Promise<Result>;

/** What the desk needs of the relay. */
export interface DeskHost {
  readonly store: Store;
  readonly counters: Counters;
  readonly groupBytesMax: number;
  readonly run: RunTask;
  ageS(): number;
  /** Resolves when what dropped objects still hold on disk is little. */
  swept(): Promise<void>;
}

export class LifeDesk {
  readonly #host: DeskHost;
  readonly #hashes: ObjectHashes;
  #nextObjectKey: number;
  #nextSnapshotKey: number;
  #busy = 0;

  constructor(host: DeskHost) {
    this.#host = host;
    this.#hashes = new ObjectHashes(host.store);
    this.#nextObjectKey = host.store.opened.nextObjectKey;
    this.#nextSnapshotKey = host.store.opened.nextSnapshotKey;
  }

  /** Whether a request is under way: it holds on to its group. */
  get busy(): boolean {
    return this.#busy > 0;
  }

  /** Carries a request of a member out. Rejects with the `SyncError` it is refused with. */
  async answer(
    group: GroupEntry,
    device: DeviceEntry,
    request: LifeRequest,
  ): Promise<EnvelopeBody> {
    this.#busy += 1;
    try {
      return await this.#answer(group, device, request);
    } catch (error) {
      // What is read by the key of an object or a snapshot is this group's, too.
      throw this.#host.store.fence?.met(group.row.groupKey, group.row.groupId, error) ?? error;
    } finally {
      this.#busy -= 1;
    }
  }

  async #answer(
    group: GroupEntry,
    device: DeviceEntry,
    request: LifeRequest,
  ): Promise<EnvelopeBody> {
    switch (request.kind) {
      case "range":
        return stateOf(await this.#put(group, device, request.range, heldBytes(request)));
      case "stat":
        return stateOf(await this.#stat(group, request.objectId));
      case "get":
        return await this.#get(group, request);
      case "drop":
        await this.#host.run({
          group,
          lookUp: () => this.#find(group, request.objectId),
          plan: (draft, found: FoundObject | undefined) =>
            draft.gone(group)
              ? notThere()
              : planDrop(draft, group, device, request.objectId, found),
        });
        return { case: "done", value: {} };
      case "snapshot":
        await this.#snapshot(group, device, request.snapshot, heldBytes(request));
        return { case: "done", value: {} };
      case "confirm":
        await this.#confirm(group, device, request.snapshotId, request.signature);
        return { case: "done", value: {} };
      case "newest":
        return (await this.newest(group, () => pick(group, device, request))).body;
    }
  }

  /** A snapshot as it is told, and its row; an empty one where there is none. */
  async newest(
    group: GroupEntry,
    choose: () => SnapshotRow | undefined,
  ): Promise<{ readonly body: EnvelopeBody; readonly row: SnapshotRow | undefined }> {
    const { store } = this.#host;
    for (;;) {
      const row = choose();
      const content = row === undefined ? undefined : await store.snapshotContent(row.snapshotKey);
      if (row === undefined || content !== undefined || group.gone) {
        return { body: this.#told(group, row, content), row };
      }
      // It went while it was read. What took its place is known once that commit has settled.
      await this.#host.run({ group, plan: () => undefined });
      if (choose() === row) return { body: this.#told(group, undefined, undefined), row };
    }
  }

  #told(
    group: GroupEntry,
    row: SnapshotRow | undefined,
    content: SnapshotContent | undefined,
  ): EnvelopeBody {
    const { groupBytesMax } = this.#host;
    const urgency = urgencyOf(group.row, groupBytesMax, this.#host.ageS());
    if (row === undefined || content === undefined) {
      return { case: "snapshot", value: create(SnapshotSchema, { urgency }) };
    }
    const confirmedBy = row.confirmedBy === 0 ? undefined : group.deviceId(row.confirmedBy);
    return {
      case: "snapshot",
      value: create(SnapshotSchema, {
        manifest: content.manifest,
        signature: content.signature,
        effective: row.effective,
        urgency,
        ...(confirmedBy === undefined ? {} : { confirmedBy, confirmation: content.confirmation }),
      }),
    };
  }

  async #find(group: GroupEntry, objectId: Uint8Array): Promise<FoundObject | undefined> {
    return (await this.#host.store.findObjects(group.row.groupKey, [objectId]))[0];
  }

  async #put(
    group: GroupEntry,
    device: DeviceEntry,
    range: RangeRequest,
    bytes: number,
  ): Promise<ObjectRow> {
    await this.#host.swept();
    const before = { durableBytes: 0 };
    const row = await this.#host.run({
      group,
      lookUp: () => this.#find(group, range.objectId),
      plan: (draft, found: FoundObject | undefined, bounds) => {
        if (draft.gone(group)) return notThere();
        const known = draft.life.object(group.row.groupKey, range.objectId, found);
        before.durableBytes = known?.row.durableBytes ?? 0;
        const next = (): number => this.#nextObjectKey++;
        return planRange(draft, group, device, range, found, next, bounds);
      },
      bytes,
    });
    if (row.durableBytes > before.durableBytes) {
      this.#hashes.stored(row.objectKey, before.durableBytes, range.data);
      this.#host.counters.objectBytesStored += row.durableBytes - before.durableBytes;
    }
    return await this.#completed(group, row);
  }

  async #stat(group: GroupEntry, objectId: Uint8Array): Promise<ObjectRow> {
    const found = await this.#find(group, objectId);
    if (found === undefined) return absent(group.row.groupKey, objectId);
    return await this.#completed(group, found.object);
  }

  /** Hashes an object that is whole and was not looked at yet. */
  async #completed(group: GroupEntry, row: ObjectRow): Promise<ObjectRow> {
    if (row.complete || row.sizeBytes === 0 || row.durableBytes < row.sizeBytes) return row;
    const hash = await this.#hashes.hash(row);
    const right = equalBytes(hash, row.objectId);
    const completed = await this.#host.run({
      group,
      lookUp: () => this.#find(group, row.objectId),
      plan: (draft, found: FoundObject | undefined) => {
        if (draft.gone(group)) return notThere();
        // What was dropped and begun anew meanwhile is another one.
        if (found !== undefined && found.object.objectKey !== row.objectKey) return undefined;
        return planComplete(draft, group, row.objectId, found, right);
      },
    });
    if (!right) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    this.#host.counters.objectsStored += 1;
    return completed ?? absent(group.row.groupKey, row.objectId);
  }

  async #get(
    group: GroupEntry,
    request: Extract<LifeRequest, { kind: "get" }>,
  ): Promise<EnvelopeBody> {
    const { offset } = request;
    const object = (await this.#find(group, request.objectId))?.object;
    const size = object?.complete === true ? object.sizeBytes : 0;
    const wanted = request.length === 0 ? objectRangeBytesMax : request.length;
    const length = Math.max(0, Math.min(wanted, objectRangeBytesMax, size - offset));
    let data = new Uint8Array(0);
    if (object !== undefined && length > 0) {
      const skip = offset % chunkBytes;
      const read = await this.#host.store.readObject(
        object.objectKey,
        offset - skip,
        skip + length,
      );
      data = new Uint8Array(read.subarray(skip, skip + length));
    }
    return {
      case: "objectData",
      value: { offset: BigInt(offset), data, done: true, sizeBytes: BigInt(size) },
    };
  }

  async #snapshot(
    group: GroupEntry,
    device: DeviceEntry,
    request: SnapshotRequest,
    bytes: number,
  ): Promise<void> {
    const { store, counters } = this.#host;
    let stored = false;
    await this.#host.run({
      group,
      lookUp: async () => ({
        link: await store.linkAt(group.row.groupKey, request.replacesThrough),
        parts: await store.findObjects(group.row.groupKey, request.parts),
        superseded: await this.#partsOf(
          group.snapshots.filter((one) => !one.effective && one.deviceKey === device.row.deviceKey),
        ),
      }),
      plan: (draft, found, bounds) => {
        if (draft.gone(group)) return notThere();
        const known = draft.life.snapshots(group);
        const next = (): number => this.#nextSnapshotKey++;
        const error = planSnapshot(draft, group, device, request, found, next, bounds);
        stored = draft.life.snapshots(group) !== known;
        return error;
      },
      bytes,
    });
    if (stored) counters.snapshotsStored += 1;
  }

  async #confirm(
    group: GroupEntry,
    device: DeviceEntry,
    snapshotId: Uint8Array,
    signature: Uint8Array,
  ): Promise<void> {
    const isIt = (one: SnapshotRow): boolean => equalBytes(one.snapshotId, snapshotId);
    let early = true;
    while (early) {
      await this.#host.run({
        group,
        lookUp: () => {
          const row = group.snapshots.find(isIt);
          return this.#partsOf(row === undefined ? [] : supersededBy(group.snapshots, row));
        },
        plan: (draft, found: readonly FoundObject[], bounds) => {
          if (draft.gone(group)) return notThere();
          // One that this same commit stores: what goes for it was not looked up, so it waits for the next.
          early = draft.life.snapshots(group).some(isIt) && !group.snapshots.some(isIt);
          if (early) return undefined;
          return planConfirmation(draft, group, device, snapshotId, signature, found, bounds);
        },
      });
    }
  }

  /** The parts of the snapshots that are not effective. */
  waitingParts(group: GroupEntry): Promise<readonly FoundObject[]> {
    return this.#partsOf(group.snapshots.filter((one) => !one.effective));
  }

  async #partsOf(rows: readonly SnapshotRow[]): Promise<readonly FoundObject[]> {
    const parts: FoundObject[] = [];
    for (const row of rows) parts.push(...(await this.#host.store.partsOf(row.snapshotKey)));
    return parts;
  }
}

/** The snapshot that is asked for. */
function pick(
  group: GroupEntry,
  device: DeviceEntry,
  request: Extract<LifeRequest, { kind: "newest" }>,
): SnapshotRow | undefined {
  if (!request.unconfirmed) return effectiveOf(group);
  const { before } = request;
  const waiting = group.snapshots.filter((one) => !one.effective);
  const bound =
    before === undefined
      ? undefined
      : group.snapshots.find((one) => equalBytes(one.snapshotId, before));
  // One that is gone meanwhile bounds nothing any more.
  return waiting.findLast(
    (one) =>
      one.deviceKey !== device.row.deviceKey &&
      (bound === undefined || one.snapshotKey < bound.snapshotKey),
  );
}

/** The snapshot that replaces the log's beginning. */
export function effectiveOf(group: GroupEntry): SnapshotRow | undefined {
  return group.snapshots.find((one) => one.effective);
}

function stateOf(row: ObjectRow): EnvelopeBody {
  return {
    case: "objectState",
    value: {
      sizeBytes: BigInt(row.sizeBytes),
      durableBytes: BigInt(row.durableBytes),
      complete: row.complete,
    },
  };
}

function notThere(): SyncError {
  return new SyncError(ErrorCode.NOT_A_MEMBER);
}
