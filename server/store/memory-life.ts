/** The log's life in memory: what `memory-store.ts` keeps beside groups and logs. */
import { toHex } from "../../wire/bytes.ts";
import type { BlobRow } from "./contract.ts";
import type {
  BlobIdRow,
  ExpiryRow,
  FoundObject,
  LifeWrites,
  ObjectRow,
  PassingPlace,
  PendingDelete,
  SnapshotContent,
  SnapshotRow,
  TrimMeasure,
  WakeUpRow,
} from "./life.ts";
import { chunkBytes } from "./life.ts";

/** `BODY_STATE_TRIMMED` of the schema. */
const trimmed = 3;

interface StoredObject {
  row: ObjectRow;
  readonly holders: Set<number>;
  readonly chunks: Map<number, Uint8Array>;
}

const emptyBody = new Uint8Array(0);

export class MemoryLife {
  readonly snapshots = new Map<number, { row: SnapshotRow; content: SnapshotContent }>();
  readonly objects = new Map<number, StoredObject>();
  /** By device. */
  readonly wakeUps = new Map<number, WakeUpRow>();
  #expiries: ExpiryRow[] = [];
  readonly #deletes = new Map<number, Set<number>>();
  lastSnapshotKey = 0;
  lastObjectKey = 0;

  copy(): MemoryLife {
    const life = new MemoryLife();
    for (const [key, snapshot] of this.snapshots) life.snapshots.set(key, { ...snapshot });
    for (const [key, { row, holders, chunks }] of this.objects) {
      life.objects.set(key, { row, holders: new Set(holders), chunks: new Map(chunks) });
    }
    for (const [key, row] of this.wakeUps) life.wakeUps.set(key, row);
    life.#expiries = [...this.#expiries];
    for (const [key, cursors] of this.#deletes) life.#deletes.set(key, new Set(cursors));
    life.lastSnapshotKey = this.lastSnapshotKey;
    life.lastObjectKey = this.lastObjectKey;
    return life;
  }

  /** `blobsOf`: a group's log, which is changed in place. */
  write(writes: LifeWrites, blobsOf: (groupKey: number) => BlobRow[]): void {
    for (const { groupKey, after, through, headers } of writes.trims) {
      const blobs = blobsOf(groupKey);
      const within = (row: BlobRow): boolean => row.cursor > after && row.cursor <= through;
      if (headers) {
        const left = blobs.filter((row) => !within(row));
        blobs.splice(0, blobs.length, ...left);
      } else {
        dropBodies(blobs, within, trimmed);
      }
    }
    for (const drop of writes.drops) {
      dropBodies(blobsOf(drop.groupKey), (row) => row.cursor === drop.cursor, drop.bodyState);
    }
    this.#expiries.push(...writes.expiries);
    this.#expiries.sort(byExpiry);
    this.#expiries = this.#expiries.filter(
      (row) => !writes.expiriesDone.some((done) => byExpiry(row, done) === 0),
    );
    for (const { groupKey, cursor } of writes.deletes) {
      this.#deletes.set(groupKey, (this.#deletes.get(groupKey) ?? new Set()).add(cursor));
    }
    for (const { groupKey, cursor } of writes.deletesDone)
      this.#deletes.get(groupKey)?.delete(cursor);
    this.#writeSnapshots(writes);
    this.#writeObjects(writes);
    for (const row of writes.wakeUps) this.wakeUps.set(row.deviceKey, row);
    for (const key of writes.wakeUpsEnded) this.wakeUps.delete(key);
  }

  #writeSnapshots(writes: LifeWrites): void {
    for (const { row, ...content } of writes.snapshots) {
      this.snapshots.set(row.snapshotKey, { row, content });
      this.lastSnapshotKey = Math.max(this.lastSnapshotKey, row.snapshotKey);
    }
    for (const { snapshotKey, confirmedBy, confirmation } of writes.effective) {
      const known = this.snapshots.get(snapshotKey);
      if (known === undefined) continue;
      known.row = { ...known.row, effective: true, confirmedBy };
      known.content = { ...known.content, confirmation };
    }
    for (const key of writes.droppedSnapshots) {
      this.snapshots.delete(key);
      for (const { holders } of this.objects.values()) holders.delete(-key);
    }
  }

  #writeObjects(writes: LifeWrites): void {
    for (const row of writes.objects) {
      const known = this.objects.get(row.objectKey);
      if (known !== undefined) known.row = row;
      else this.objects.set(row.objectKey, { row, holders: new Set(), chunks: new Map() });
      this.lastObjectKey = Math.max(this.lastObjectKey, row.objectKey);
    }
    for (const { holder, objectKey } of writes.references) {
      this.objects.get(objectKey)?.holders.add(holder);
    }
    for (const { holder, objectKey } of writes.referencesEnded) {
      this.objects.get(objectKey)?.holders.delete(holder);
    }
    for (const { objectKey, number, data } of writes.chunks) {
      this.objects.get(objectKey)?.chunks.set(number, data);
    }
    for (const { objectKey } of writes.droppedObjects) this.objects.delete(objectKey);
  }

  deleteGroup(groupKey: number): void {
    for (const [key, { row }] of this.snapshots) {
      if (row.groupKey === groupKey) this.snapshots.delete(key);
    }
    for (const [key, { row }] of this.objects) {
      if (row.groupKey === groupKey) this.objects.delete(key);
    }
    this.#expiries = this.#expiries.filter((row) => row.groupKey !== groupKey);
    this.#deletes.delete(groupKey);
  }

  snapshotsOf(groupKey: number): SnapshotRow[] {
    return [...this.snapshots.values()]
      .map(({ row }) => row)
      .filter((row) => row.groupKey === groupKey)
      .sort((a, b) => a.snapshotKey - b.snapshotKey);
  }

  expiriesUpTo(ageS: number, rowsMax: number): readonly ExpiryRow[] {
    return this.#expiries.filter((row) => row.expiresAgeS <= ageS).slice(0, rowsMax);
  }

  hasDeletes(groupKey: number): boolean {
    return (this.#deletes.get(groupKey)?.size ?? 0) > 0;
  }

  pendingDeletes(
    groupKey: number,
    after: number,
    rowsMax: number,
    blobAt: (cursor: number) => BlobRow | undefined,
  ): readonly PendingDelete[] {
    return [...(this.#deletes.get(groupKey) ?? [])]
      .filter((cursor) => cursor > after)
      .sort((a, b) => a - b)
      .slice(0, rowsMax)
      .map((cursor) => ({ groupKey, cursor, blob: blobAt(cursor) }));
  }

  /** Ids of groups, by key, with a snapshot that waits since that age. */
  waitingSince(ageS: number): Set<number> {
    const rows = [...this.snapshots.values()].map(({ row }) => row);
    return new Set(
      rows.filter((row) => !row.effective && row.storedAgeS <= ageS).map((row) => row.groupKey),
    );
  }

  findObjects(groupKey: number, objectIds: readonly Uint8Array[]): FoundObject[] {
    const wanted = new Set(objectIds.map(toHex));
    return this.#found((row) => row.groupKey === groupKey && wanted.has(toHex(row.objectId)));
  }

  partsOf(snapshotKey: number): FoundObject[] {
    return this.#found((_, holders) => holders.has(-snapshotKey));
  }

  passing(ageS: number, after: PassingPlace, rowsMax: number): FoundObject[] {
    const order = (a: PassingPlace, b: PassingPlace): number =>
      a.storedAgeS - b.storedAgeS || a.objectKey - b.objectKey;
    return this.#found((row) => row.passing && row.storedAgeS <= ageS && order(row, after) > 0)
      .sort((a, b) => order(a.object, b.object))
      .slice(0, rowsMax);
  }

  readObject(objectKey: number, offset: number, lengthMax: number): Uint8Array {
    const { chunks } = this.objects.get(objectKey) ?? { chunks: new Map<number, Uint8Array>() };
    const first = Math.floor(offset / chunkBytes);
    const pieces = Array.from(
      { length: Math.ceil(lengthMax / chunkBytes) },
      (_, i) => chunks.get(first + i) ?? emptyBody,
    );
    const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
    let place = 0;
    for (const piece of pieces) {
      bytes.set(piece, place);
      place += piece.byteLength;
    }
    return bytes;
  }

  #found(is: (row: ObjectRow, holders: ReadonlySet<number>) => boolean): FoundObject[] {
    return [...this.objects.values()]
      .filter(({ row, holders }) => is(row, holders))
      .map(({ row, holders }) => ({ object: row, holders: [...holders].sort((a, b) => a - b) }));
  }
}

/** What trimming a slice of blobs, which begins at `from`, would come to. */
export function measure(
  blobs: readonly BlobRow[],
  from: number,
  after: number,
  through: number,
  bounds: { readonly rowsMax: number; readonly bytesMax: number },
): TrimMeasure {
  const slice = { through: after, blobs: 0, headerBytes: 0, bodyBytes: 0 };
  for (let i = from; i < blobs.length; i++) {
    const blob = blobs[i] as BlobRow;
    const head = blob.header.byteLength + blob.signature.byteLength;
    const bytes = slice.headerBytes + slice.bodyBytes + head + blob.body.byteLength;
    const fits = slice.blobs < Math.max(1, bounds.rowsMax) && bytes <= bounds.bytesMax;
    if (blob.cursor > through || (slice.blobs > 0 && !fits)) break;
    slice.through = blob.cursor;
    slice.blobs += 1;
    slice.headerBytes += head;
    slice.bodyBytes += blob.body.byteLength;
  }
  return slice;
}

export function blobIdRow(row: BlobRow): BlobIdRow {
  const { cursor, deviceKey, blobId, body } = row;
  return { cursor, deviceKey, blobId, bodyBytes: body.byteLength };
}

function dropBodies(blobs: BlobRow[], is: (row: BlobRow) => boolean, bodyState: number): void {
  for (const [i, row] of blobs.entries()) {
    if (is(row) && row.bodyState === 0) blobs[i] = { ...row, body: emptyBody, bodyState };
  }
}

function byExpiry(a: ExpiryRow, b: ExpiryRow): number {
  return a.expiresAgeS - b.expiresAgeS || a.groupKey - b.groupKey || a.cursor - b.cursor;
}
