/**
 * A store in memory: for the simulation and for tests. It keeps the same
 * contract as the one on disk, and can be told to misbehave like a disk: to fail
 * the next commit, to take its time, and to lose what was not synced when the
 * relay crashes.
 */
import { strict as assert } from "node:assert";
import { compareBytes, toHex } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceGroup,
  DeviceRow,
  GroupListing,
  GroupRow,
  InviteListing,
  InviteRow,
  LoadedGroup,
  PageBounds,
  SenderPlace,
  Store,
  StoreTotals,
} from "./contract.ts";
import type {
  BlobIdRow,
  ExpiredRow,
  FoundObject,
  LifeWrites,
  PassingPlace,
  PendingDelete,
  SnapshotContent,
  TrimMeasure,
} from "./life.ts";
import { blobIdRow, MemoryLife, measure } from "./memory-life.ts";
import { storeUnavailable } from "./store-errors.ts";

/** Calls `synced` when the disk has written a commit: at once, or whenever the simulation says. */
export type SyncTime = (synced: () => void) => void;

/** What a crash does to a commit that was under way: the disk may have had it, or not. */
export type UnsyncedFate = "kept" | "lost";

export interface MemoryStore extends Store {
  /** The next commit leaves nothing behind and rejects, as on a full disk. Repeats for `times` commits. */
  failCommits(times?: number): void;
  /**
   * Ends this store as a crash of the process does: a commit under way is kept or
   * lost and never settles, later calls never settle either. Gives back what a
   * new process finds.
   */
  crash(unsynced: UnsyncedFate): MemoryStore;
  /** Ends this store and gives back what a new process finds. */
  reopen(): MemoryStore;
  /** A store as this one is now; what either writes later, the other does not have. Like a backup, restored. */
  copy(): MemoryStore;
}

/** An empty store. */
export function openMemoryStore(options: { readonly syncTime?: SyncTime } = {}): MemoryStore {
  return new OpenMemoryStore(new Disk(), options.syncTime ?? ((synced) => synced()));
}

interface Group {
  row: GroupRow;
  readonly devices: Map<number, DeviceRow>;
}

/** What one group has in its log and its control chain, ascending. */
interface Log {
  readonly blobs: BlobRow[];
  readonly control: ControlRow[];
}

class Disk {
  readonly groups = new Map<number, Group>();
  readonly groupKeys = new Map<string, number>();
  readonly logs = new Map<number, Log>();
  readonly invites = new Map<string, InviteRow>();
  life = new MemoryLife();
  ageS = 0;
  clockMs = 0;
  lastGroupKey = 0;
  lastDeviceKey = 0;
  blobs = 0;
  bytes = 0;

  copy(): Disk {
    const disk = new Disk();
    for (const [key, group] of this.groups) {
      disk.groups.set(key, { row: group.row, devices: new Map(group.devices) });
    }
    for (const [id, key] of this.groupKeys) disk.groupKeys.set(id, key);
    for (const [key, log] of this.logs) {
      disk.logs.set(key, { blobs: [...log.blobs], control: [...log.control] });
    }
    for (const [hash, invite] of this.invites) disk.invites.set(hash, invite);
    disk.life = this.life.copy();
    disk.ageS = this.ageS;
    disk.clockMs = this.clockMs;
    disk.lastGroupKey = this.lastGroupKey;
    disk.lastDeviceKey = this.lastDeviceKey;
    disk.blobs = this.blobs;
    disk.bytes = this.bytes;
    return disk;
  }

  /** Throws where the batch breaks a rule of the schema, before anything is written. */
  check(batch: CommitBatch): void {
    const seen = new Set<string>();
    const once = (name: string): void => {
      if (seen.has(name)) throw new Error(`twice in one commit: ${name}`);
      seen.add(name);
    };
    for (const row of batch.blobs) {
      once(`blob ${row.groupKey} ${row.cursor}`);
      const log = this.logs.get(row.groupKey);
      if (log !== undefined && find(log.blobs, row.cursor, cursorOf) !== undefined) {
        throw new Error(`cursor ${row.cursor} is taken`);
      }
    }
    for (const row of batch.control) {
      once(`control ${row.groupKey} ${row.number}`);
      const log = this.logs.get(row.groupKey);
      if (log !== undefined && find(log.control, row.number, numberOf) !== undefined) {
        throw new Error(`control blob ${row.number} is taken`);
      }
    }
    for (const row of batch.groups) {
      const key = this.groupKeys.get(toHex(row.groupId));
      if (key !== undefined && key !== row.groupKey) throw new Error("a group id has two keys");
    }
  }

  write(batch: CommitBatch): void {
    for (const row of batch.groups) this.#writeGroup(row);
    for (const row of batch.devices) {
      const group = this.groups.get(row.groupKey);
      assert(group !== undefined, "a device's group is written before it, or with it");
      group.devices.set(row.deviceKey, row);
      this.lastDeviceKey = Math.max(this.lastDeviceKey, row.deviceKey);
    }
    for (const row of batch.blobs) insert(this.#log(row.groupKey).blobs, row, cursorOf);
    for (const row of batch.control) insert(this.#log(row.groupKey).control, row, numberOf);
    for (const row of batch.invites) this.invites.set(toHex(row.inviteHash), row);
    if (batch.life !== undefined) this.life.write(batch.life, (key) => this.#log(key).blobs);
    for (const key of batch.deletedGroups ?? []) this.#deleteGroup(key);
    this.ageS = batch.ageS ?? this.ageS;
    this.clockMs = batch.clockMs ?? this.clockMs;
  }

  #writeGroup(row: GroupRow): void {
    const group = this.groups.get(row.groupKey);
    this.blobs += row.blobs - (group?.row.blobs ?? 0);
    this.bytes += bytesOf(row) - (group === undefined ? 0 : bytesOf(group.row));
    if (group !== undefined) {
      group.row = row;
      return;
    }
    this.groups.set(row.groupKey, { row, devices: new Map() });
    this.groupKeys.set(toHex(row.groupId), row.groupKey);
    this.lastGroupKey = Math.max(this.lastGroupKey, row.groupKey);
  }

  #deleteGroup(groupKey: number): void {
    const group = this.groups.get(groupKey);
    if (group === undefined) return;
    this.blobs -= group.row.blobs;
    this.bytes -= bytesOf(group.row);
    this.life.deleteGroup(groupKey);
    for (const deviceKey of group.devices.keys()) this.life.wakeUps.delete(deviceKey);
    this.groups.delete(groupKey);
    this.groupKeys.delete(toHex(group.row.groupId));
    this.logs.delete(groupKey);
  }

  #log(groupKey: number): Log {
    const log = this.logs.get(groupKey) ?? { blobs: [], control: [] };
    this.logs.set(groupKey, log);
    return log;
  }
}

function bytesOf(row: GroupRow): number {
  return row.bytes + row.snapshotBytes;
}

/** What a store is: running, or ended by a crash, or closed. */
type Life = "open" | "crashed" | "closed";

class OpenMemoryStore implements MemoryStore {
  readonly opened: Store["opened"];
  readonly #disk: Disk;
  readonly #syncTime: SyncTime;
  #life: Life = "open";
  #failures = 0;
  /** The commit under way. */
  #unsynced: { readonly batch: CommitBatch; readonly settled: Promise<void> } | undefined;

  constructor(disk: Disk, syncTime: SyncTime) {
    this.#disk = disk;
    this.#syncTime = syncTime;
    this.opened = {
      nextGroupKey: disk.lastGroupKey + 1,
      nextDeviceKey: disk.lastDeviceKey + 1,
      nextSnapshotKey: disk.life.lastSnapshotKey + 1,
      nextObjectKey: disk.life.lastObjectKey + 1,
      ageS: disk.ageS,
      clockMs: disk.clockMs,
      bytes: disk.bytes,
      fresh: disk.lastGroupKey === 0 && disk.invites.size === 0,
    };
  }

  failCommits(times = 1): void {
    this.#failures = times;
  }

  crash(unsynced: UnsyncedFate): MemoryStore {
    assert(this.#life === "open");
    this.#life = "crashed";
    if (this.#unsynced !== undefined && unsynced === "kept") this.#disk.write(this.#unsynced.batch);
    this.#unsynced = undefined;
    return new OpenMemoryStore(this.#disk, this.#syncTime);
  }

  reopen(): MemoryStore {
    assert(this.#unsynced === undefined, "a commit is under way: this would be a crash");
    this.#life = "closed";
    return new OpenMemoryStore(this.#disk, this.#syncTime);
  }

  copy(): MemoryStore {
    return new OpenMemoryStore(this.#disk.copy(), this.#syncTime);
  }

  async commit(batch: CommitBatch): Promise<void> {
    assert(this.#unsynced === undefined, "commits follow each other");
    const kept = copyBatch(batch);
    await this.#alive();
    try {
      this.#disk.check(kept);
    } catch (cause) {
      throw new SyncError(ErrorCode.INTERNAL, { cause });
    }
    if (this.#failures > 0) {
      this.#failures--;
      throw storeUnavailable("the disk is full: make room and the relay goes on by itself");
    }
    const settled = new Promise<void>((resolve) => {
      this.#syncTime(resolve);
    });
    this.#unsynced = { batch: kept, settled };
    await settled;
    // After a crash nobody is left to be told.
    await this.#alive();
    this.#disk.write(kept);
    this.#unsynced = undefined;
  }

  async loadGroup(groupId: Uint8Array): Promise<LoadedGroup | undefined> {
    await this.#alive();
    const group = this.#disk.groups.get(this.#disk.groupKeys.get(toHex(groupId)) ?? 0);
    if (group === undefined) return undefined;
    const devices = [...group.devices.values()].sort((a, b) => a.deviceKey - b.deviceKey);
    const { life } = this.#disk;
    const wakeUps = devices.flatMap(({ deviceKey }) => life.wakeUps.get(deviceKey) ?? []);
    return {
      group: group.row,
      devices,
      snapshots: life.snapshotsOf(group.row.groupKey),
      ...(wakeUps.length === 0 ? {} : { wakeUps }),
    };
  }

  async groupsOfDevice(deviceId: Uint8Array): Promise<readonly DeviceGroup[]> {
    await this.#alive();
    const groups = [...this.#disk.groups.values()].sort((a, b) => a.row.groupKey - b.row.groupKey);
    return groups.flatMap(({ row, devices }) =>
      [...devices.values()]
        .filter((device) => compareBytes(device.deviceId, deviceId) === 0)
        .map(({ role, state }) => ({
          groupId: row.groupId,
          role,
          state,
          membershipCount: row.membershipCount,
          membershipHead: row.membershipHead,
        })),
    );
  }

  async readBlobs(
    groupKey: number,
    after: number,
    through: number,
    bounds: PageBounds,
  ): Promise<readonly BlobRow[]> {
    await this.#alive();
    const blobs = this.#disk.logs.get(groupKey)?.blobs ?? [];
    const page: BlobRow[] = [];
    let bytes = 0;
    for (let i = firstAbove(blobs, after, cursorOf); i < blobs.length; i++) {
      const blob = blobs[i] as BlobRow;
      bytes += blob.header.byteLength + blob.signature.byteLength + blob.body.byteLength;
      const fits = page.length < bounds.rowsMax && bytes <= bounds.bytesMax;
      if (blob.cursor > through || (page.length > 0 && !fits)) break;
      page.push(blob);
    }
    return page;
  }

  async linkAt(groupKey: number, cursor: number): Promise<Uint8Array | undefined> {
    await this.#alive();
    return find(this.#disk.logs.get(groupKey)?.blobs ?? [], cursor, cursorOf)?.link;
  }

  async senderPlaces(
    groupKey: number,
    fromCursor: number,
    downToSeq: number,
  ): Promise<readonly SenderPlace[]> {
    await this.#alive();
    const blobs = this.#disk.logs.get(groupKey)?.blobs ?? [];
    const places: SenderPlace[] = [];
    let blob = find(blobs, fromCursor, cursorOf);
    while (blob !== undefined && blob.seq >= downToSeq) {
      const { seq, cursor, link, priorCursor } = blob;
      places.push({ seq, cursor, link });
      blob = priorCursor < cursor ? find(blobs, priorCursor, cursorOf) : undefined;
    }
    return places;
  }

  async readControl(
    groupKey: number,
    after: number,
    bytesMax: number,
  ): Promise<readonly ControlRow[]> {
    await this.#alive();
    const control = this.#disk.logs.get(groupKey)?.control ?? [];
    const page: ControlRow[] = [];
    let bytes = 0;
    for (const row of control.slice(firstAbove(control, after, numberOf))) {
      bytes += row.bytes.byteLength;
      if (page.length > 0 && bytes > bytesMax) break;
      page.push(row);
    }
    return page;
  }

  async controlByHead(groupKey: number, head: Uint8Array): Promise<ControlRow | undefined> {
    await this.#alive();
    const control = this.#disk.logs.get(groupKey)?.control ?? [];
    return control.find((row) => compareBytes(row.head, head) === 0);
  }

  async findInvite(inviteHash: Uint8Array): Promise<InviteRow | undefined> {
    await this.#alive();
    return this.#disk.invites.get(toHex(inviteHash));
  }

  async listGroups(afterGroupKey: number, rowsMax: number): Promise<readonly GroupListing[]> {
    await this.#alive();
    const invites = [...this.#disk.invites.values()];
    return [...this.#disk.groups.values()]
      .filter(({ row }) => row.groupKey > afterGroupKey)
      .sort((a, b) => a.row.groupKey - b.row.groupKey)
      .slice(0, rowsMax)
      .map(({ row, devices }) => ({
        group: row,
        label: invites.find((invite) => invite.usedByGroupKey === row.groupKey)?.label ?? "",
        activeDevices: [...devices.values()].filter(({ state }) => state === "active").length,
        lastSeenMs: Math.max(0, ...[...devices.values()].map(({ lastSeenMs }) => lastSeenMs)),
      }));
  }

  async listInvites(fromHash: Uint8Array, rowsMax: number): Promise<readonly InviteListing[]> {
    await this.#alive();
    return [...this.#disk.invites.values()]
      .filter((invite) => compareBytes(invite.inviteHash, fromHash) >= 0)
      .sort((a, b) => compareBytes(a.inviteHash, b.inviteHash))
      .slice(0, rowsMax)
      .map((invite) => ({
        invite,
        groupId: this.#disk.groups.get(invite.usedByGroupKey)?.row.groupId,
      }));
  }

  async measureTrim(
    groupKey: number,
    after: number,
    through: number,
    bounds: PageBounds,
  ): Promise<TrimMeasure> {
    await this.#alive();
    const blobs = this.#disk.logs.get(groupKey)?.blobs ?? [];
    return measure(blobs, firstAbove(blobs, after, cursorOf), after, through, bounds);
  }

  async blobIds(groupKey: number, below: number, rowsMax: number): Promise<readonly BlobIdRow[]> {
    await this.#alive();
    const blobs = this.#disk.logs.get(groupKey)?.blobs ?? [];
    const end = firstAbove(blobs, below - 1, cursorOf);
    return blobs
      .slice(Math.max(0, end - rowsMax), end)
      .reverse()
      .map(blobIdRow);
  }

  async expired(ageS: number, rowsMax: number): Promise<readonly ExpiredRow[]> {
    await this.#alive();
    return this.#disk.life.expiriesUpTo(ageS, rowsMax).map((row) => ({
      ...row,
      bodyBytes: this.#blobAt(row.groupKey, row.cursor)?.body.byteLength ?? 0,
      groupId: this.#disk.groups.get(row.groupKey)?.row.groupId,
    }));
  }

  async pendingDeletes(
    groupKey: number,
    after: number,
    rowsMax: number,
  ): Promise<readonly PendingDelete[]> {
    await this.#alive();
    return this.#disk.life.pendingDeletes(groupKey, after, rowsMax, (cursor) =>
      this.#blobAt(groupKey, cursor),
    );
  }

  async snapshotContent(snapshotKey: number): Promise<SnapshotContent | undefined> {
    await this.#alive();
    return this.#disk.life.snapshots.get(snapshotKey)?.content;
  }

  async groupsWithSnapshotsOf(ageS: number, rowsMax: number): Promise<readonly Uint8Array[]> {
    await this.#alive();
    const keys = this.#disk.life.waitingSince(ageS);
    const groups = [...this.#disk.groups.values()].filter(({ row }) => keys.has(row.groupKey));
    return groups.slice(0, rowsMax).map(({ row }) => row.groupId);
  }

  async findObjects(
    groupKey: number,
    objectIds: readonly Uint8Array[],
  ): Promise<readonly FoundObject[]> {
    await this.#alive();
    return this.#disk.life.findObjects(groupKey, objectIds);
  }

  async partsOf(snapshotKey: number): Promise<readonly FoundObject[]> {
    await this.#alive();
    return this.#disk.life.partsOf(snapshotKey);
  }

  async readObject(objectKey: number, offset: number, lengthMax: number): Promise<Uint8Array> {
    await this.#alive();
    return this.#disk.life.readObject(objectKey, offset, lengthMax);
  }

  async passingObjects(ageS: number, after: PassingPlace, rowsMax: number) {
    await this.#alive();
    return this.#disk.life.passing(ageS, after, rowsMax).flatMap((found) => {
      const group = this.#disk.groups.get(found.object.groupKey);
      return group === undefined ? [] : [{ ...found, groupId: group.row.groupId }];
    });
  }

  async groupsToTrim(afterGroupKey: number, rowsMax: number) {
    await this.#alive();
    return [...this.#disk.groups.values()]
      .map(({ row }) => row)
      .filter(
        (row) =>
          row.groupKey > afterGroupKey &&
          (row.floor < row.replacedThrough || this.#disk.life.hasDeletes(row.groupKey)),
      )
      .sort((a, b) => a.groupKey - b.groupKey)
      .slice(0, rowsMax)
      .map(({ groupKey, groupId }) => ({ groupKey, groupId }));
  }

  #blobAt(groupKey: number, cursor: number): BlobRow | undefined {
    return find(this.#disk.logs.get(groupKey)?.blobs ?? [], cursor, cursorOf);
  }

  async sweep(): Promise<boolean> {
    await this.#alive();
    return false;
  }

  async totals(): Promise<StoreTotals> {
    await this.#alive();
    const { groups, blobs, bytes } = this.#disk;
    return { groups: groups.size, blobs, bytes, fileBytes: bytes, reclaimableBytes: 0 };
  }

  async close(): Promise<void> {
    await this.#unsynced?.settled;
    this.#life = "closed";
  }

  /** After a crash nothing answers; after `close`, a call is a defect. */
  async #alive(): Promise<void> {
    assert(this.#life !== "closed", "the store is closed");
    if (this.#life === "crashed") await never();
  }
}

/** The caller may use its rows again before the disk has them. */
function copyBatch(batch: CommitBatch): CommitBatch {
  return {
    groups: batch.groups.map(copyRow),
    devices: batch.devices.map(copyRow),
    blobs: batch.blobs.map(copyRow),
    control: batch.control.map(copyRow),
    invites: batch.invites.map(copyRow),
    ...(batch.deletedGroups === undefined ? {} : { deletedGroups: [...batch.deletedGroups] }),
    ...(batch.life === undefined ? {} : { life: copyLife(batch.life) }),
    ...(batch.ageS === undefined ? {} : { ageS: batch.ageS }),
    ...(batch.clockMs === undefined ? {} : { clockMs: batch.clockMs }),
  };
}

function copyLife(life: LifeWrites): LifeWrites {
  return {
    ...life,
    snapshots: life.snapshots.map(copyRow),
    effective: life.effective.map(copyRow),
    objects: life.objects.map(copyRow),
    chunks: life.chunks.map(copyRow),
    wakeUps: life.wakeUps.map(copyRow),
  };
}

function copyRow<Row extends object>(row: Row): Row {
  const fields: readonly (readonly [string, unknown])[] = Object.entries(row);
  return Object.fromEntries(
    fields.map(([name, value]) => [
      name,
      value instanceof Uint8Array ? new Uint8Array(value) : value,
    ]),
  ) as Row;
}

async function never(): Promise<never> {
  return await new Promise<never>(() => undefined);
}

const cursorOf = (row: BlobRow): number => row.cursor;
const numberOf = (row: ControlRow): number => row.number;

/** Where the first row above a number stands, in rows ascending by it. */
function firstAbove<Row>(rows: readonly Row[], number: number, of: (row: Row) => number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (of(rows[middle] as Row) <= number) low = middle + 1;
    else high = middle;
  }
  return low;
}

function find<Row>(
  rows: readonly Row[],
  number: number,
  of: (row: Row) => number,
): Row | undefined {
  const row = rows[firstAbove(rows, number, of) - 1];
  return row !== undefined && of(row) === number ? row : undefined;
}

function insert<Row>(rows: Row[], row: Row, of: (row: Row) => number): void {
  rows.splice(firstAbove(rows, of(row), of), 0, row);
}
