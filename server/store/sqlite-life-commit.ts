/** What a commit of the log's life adds to `sqlite-commit.ts`: its columns, statements and values. */
import { utf8 } from "../../wire/bytes.ts";
import { chunkBytes, type LifeWrites, type ObjectRow } from "./life.ts";
import { type BytePacker, numbersOf } from "./packing.ts";
import type { SqlValue } from "./sqlite-connection.ts";

/** Chunk keys of one object: 2^20 chunks are more than the largest object has. */
export const chunksMax = 1_048_576;

export const lifeColumns: readonly string[] = [
  "trims",
  "drops",
  "expiries",
  "expiries_done",
  "deletes",
  "deletes_done",
  "snapshots",
  "effective",
  "dropped_snapshots",
  "objects",
  "refs",
  "refs_ended",
  "chunks",
  "dropped_objects",
  "wake_ups",
  "wake_ups_ended",
];

export const lifeStatements = `
  DELETE FROM main.blobs WHERE rowid IN (
    SELECT b.rowid FROM json_each(new.trims) t
    CROSS JOIN main.blobs b ON b.group_key = t.value->>0 AND b.cursor > t.value->>1
      AND b.cursor <= t.value->>2
    WHERE t.value->>3 = 1);
  UPDATE main.blobs SET body = x'', body_state = 3 WHERE body_state = 0 AND rowid IN (
    SELECT b.rowid FROM json_each(new.trims) t
    CROSS JOIN main.blobs b ON b.group_key = t.value->>0 AND b.cursor > t.value->>1
      AND b.cursor <= t.value->>2
    WHERE t.value->>3 = 0);
  UPDATE main.blobs SET body = x'', body_state = (
      SELECT d.value->>2 FROM json_each(new.drops) d
      WHERE d.value->>0 = blobs.group_key AND d.value->>1 = blobs.cursor)
    WHERE body_state = 0 AND rowid IN (
      SELECT b.rowid FROM json_each(new.drops) d
      CROSS JOIN main.blobs b ON b.group_key = d.value->>0 AND b.cursor = d.value->>1);

  INSERT INTO main.expiries (group_key, cursor, expires_age_s)
    SELECT value->>0, value->>1, value->>2 FROM json_each(new.expiries);
  DELETE FROM main.expiries WHERE (expires_age_s, group_key, cursor) IN (
    SELECT value->>2, value->>0, value->>1 FROM json_each(new.expiries_done));
  INSERT INTO main.deletes (group_key, cursor) SELECT value->>0, value->>1 FROM json_each(new.deletes);
  DELETE FROM main.deletes WHERE (group_key, cursor) IN (
    SELECT value->>0, value->>1 FROM json_each(new.deletes_done));

  INSERT INTO main.snapshots (snapshot_key, group_key, device_key, replaces_through, stored_age_s,
      effective, confirmed_by, snapshot_id, signature, confirmation, manifest)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6,
      substr(new.bytes, value->>7, 32),
      substr(new.bytes, value->>8, value->>9),
      substr(new.bytes, value->>10, value->>11),
      substr(new.bytes, value->>12, value->>13)
    FROM json_each(new.snapshots);
  UPDATE main.snapshots SET effective = 1, confirmed_by = e.confirmed_by,
      confirmation = substr(new.bytes, e.place, e.size)
    FROM (SELECT value->>0 AS snapshot_key, value->>1 AS confirmed_by, value->>2 AS place,
      value->>3 AS size FROM json_each(new.effective)) e
    WHERE e.snapshot_key = snapshots.snapshot_key;
  DELETE FROM main.snapshots WHERE snapshot_key IN (SELECT value FROM json_each(new.dropped_snapshots));
  DELETE FROM main.object_references WHERE holder IN (
    SELECT -value FROM json_each(new.dropped_snapshots));

  INSERT INTO main.objects (object_key, group_key, size_bytes, durable_bytes, complete, part, passing,
      stored_age_s, object_id)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      substr(new.bytes, value->>8, 32)
    FROM json_each(new.objects) WHERE true
    ON CONFLICT (object_key) DO UPDATE SET durable_bytes = excluded.durable_bytes,
      complete = excluded.complete, passing = excluded.passing, stored_age_s = excluded.stored_age_s;
  INSERT OR IGNORE INTO main.object_references (holder, object_key)
    SELECT value->>0, value->>1 FROM json_each(new.refs);
  DELETE FROM main.object_references WHERE (holder, object_key) IN (
    SELECT value->>0, value->>1 FROM json_each(new.refs_ended));
  INSERT INTO main.object_chunks (chunk_key, data)
    SELECT value->>0, substr(new.bytes, value->>1, value->>2) FROM json_each(new.chunks);
  INSERT INTO main.dropped_objects (object_key, size_bytes)
    SELECT value->>0, value->>1 FROM json_each(new.dropped_objects);
  DELETE FROM main.object_references WHERE object_key IN (
    SELECT value->>0 FROM json_each(new.dropped_objects));
  DELETE FROM main.objects WHERE object_key IN (
    SELECT value->>0 FROM json_each(new.dropped_objects));

  INSERT OR REPLACE INTO main.wake_ups (device_key, endpoint, p256dh, auth)
    SELECT value->>0, CAST(substr(new.bytes, value->>1, value->>2) AS TEXT),
      substr(new.bytes, value->>3, value->>4), substr(new.bytes, value->>5, value->>6)
    FROM json_each(new.wake_ups);
  DELETE FROM main.wake_ups WHERE device_key IN (SELECT value FROM json_each(new.wake_ups_ended));
`;

/** The values of `lifeColumns`. */
export function lifeValues(life: LifeWrites, bytes: BytePacker): SqlValue[] {
  return [
    numbersOf(
      life.trims,
      (row) => `${row.groupKey},${row.after},${row.through},${Number(row.headers)}`,
    ),
    numbersOf(life.drops, (row) => `${row.groupKey},${row.cursor},${row.bodyState}`),
    numbersOf(life.expiries, (row) => `${row.groupKey},${row.cursor},${row.expiresAgeS}`),
    numbersOf(life.expiriesDone, (row) => `${row.groupKey},${row.cursor},${row.expiresAgeS}`),
    numbersOf(life.deletes, (row) => `${row.groupKey},${row.cursor}`),
    numbersOf(life.deletesDone, (row) => `${row.groupKey},${row.cursor}`),
    numbersOf(life.snapshots, ({ row, signature, confirmation, manifest }) => {
      const id = bytes.putFixed(row.snapshotId, 32);
      const places = [signature, confirmation, manifest].map(
        (part) => `${bytes.put(part)},${part.byteLength}`,
      );
      return `${row.snapshotKey},${row.groupKey},${row.deviceKey},${row.replacesThrough},${row.storedAgeS},${Number(row.effective)},${row.confirmedBy},${id},${places.join(",")}`;
    }),
    numbersOf(
      life.effective,
      (row) =>
        `${row.snapshotKey},${row.confirmedBy},${bytes.put(row.confirmation)},${row.confirmation.byteLength}`,
    ),
    life.droppedSnapshots.length === 0 ? null : JSON.stringify(life.droppedSnapshots),
    numbersOf(life.objects, (row) => objectNumbers(row, bytes)),
    numbersOf(life.references, (row) => `${row.holder},${row.objectKey}`),
    numbersOf(life.referencesEnded, (row) => `${row.holder},${row.objectKey}`),
    numbersOf(
      life.chunks,
      (row) =>
        `${row.objectKey * chunksMax + row.number},${bytes.put(row.data)},${row.data.byteLength}`,
    ),
    numbersOf(life.droppedObjects, (row) => `${row.objectKey},${row.durableBytes}`),
    numbersOf(life.wakeUps, ({ deviceKey, endpoint, p256dh, auth }) => {
      const places = [utf8(endpoint), p256dh, auth].map(
        (part) => `${bytes.put(part)},${part.byteLength}`,
      );
      return `${deviceKey},${places.join(",")}`;
    }),
    life.wakeUpsEnded.length === 0 ? null : JSON.stringify(life.wakeUpsEnded),
  ];
}

function objectNumbers(row: ObjectRow, bytes: BytePacker): string {
  const id = bytes.putFixed(row.objectId, 32);
  return `${row.objectKey},${row.groupKey},${row.sizeBytes},${row.durableBytes},${Number(row.complete)},${Number(row.part)},${Number(row.passing)},${row.storedAgeS},${id}`;
}

/** The size of all bytes that `lifeValues` packs. */
export function lifeBytes(life: LifeWrites | undefined): number {
  if (life === undefined) return 0;
  let length = life.objects.length * 32;
  for (const { signature, confirmation, manifest } of life.snapshots) {
    length += 32 + signature.byteLength + confirmation.byteLength + manifest.byteLength;
  }
  for (const row of life.effective) length += row.confirmation.byteLength;
  for (const row of life.chunks) length += row.data.byteLength;
  for (const { endpoint, p256dh, auth } of life.wakeUps) {
    length += utf8(endpoint).byteLength + p256dh.byteLength + auth.byteLength;
  }
  return length;
}

/** About what the statement adds to the write-ahead log beside packed bytes, in bytes. */
export function lifeLogBytes(life: LifeWrites): number {
  // A body that goes rewrites its page; a whole blob that goes touches it and its place in the index.
  const trimmed = life.trims.reduce((sum, row) => sum + (row.through - row.after), 0);
  const pages = life.chunks.length + life.wakeUps.length + life.wakeUpsEnded.length + 8;
  return (trimmed + life.drops.length * 2) * 1_024 + pages * 4_096;
}

/** Chunks that a range of bytes fills, from a chunk's beginning on. */
export function chunksOf(bytes: number): number {
  return Math.ceil(bytes / chunkBytes);
}
