/** What the reading connection is asked of the log's life. */
import { toHex } from "../../wire/bytes.ts";
import type {
  BlobIdRow,
  ExpiredRow,
  FoundObject,
  LifeReads,
  ObjectRow,
  PassingPlace,
  PendingDelete,
  SnapshotContent,
  SnapshotRow,
  TrimMeasure,
} from "./life.ts";
import { chunkBytes } from "./life.ts";
import type { SqliteConnection, SqlStatement } from "./sqlite-connection.ts";
import { chunksMax, chunksOf } from "./sqlite-life-commit.ts";

/** A group's snapshots as one value of a row: JSON, read by `snapshotRows`. */
export const snapshotsColumn = `(
  SELECT json_group_array(json_array(s.snapshot_key, hex(s.snapshot_id), s.device_key,
    s.replaces_through, s.stored_age_s, s.effective, s.confirmed_by, length(s.manifest)))
  FROM snapshots s WHERE s.group_key = g.group_key)`;

type SnapshotNumbers = readonly [
  snapshotKey: number,
  snapshotId: string,
  deviceKey: number,
  replacesThrough: number,
  storedAgeS: number,
  effective: number,
  confirmedBy: number,
  manifestBytes: number,
];

export function snapshotRows(groupKey: number, json: string): SnapshotRow[] {
  return (JSON.parse(json) as readonly SnapshotNumbers[])
    .map((row) => ({
      snapshotKey: row[0],
      groupKey,
      snapshotId: new Uint8Array(Buffer.from(row[1], "hex")),
      deviceKey: row[2],
      replacesThrough: row[3],
      storedAgeS: row[4],
      effective: row[5] !== 0,
      confirmedBy: row[6],
      manifestBytes: row[7],
    }))
    .sort((a, b) => a.snapshotKey - b.snapshotKey);
}

/** Group, after, through, rows at most, bytes at most; one row at least. */
const measureTrimSql = `
WITH candidates AS (
  SELECT cursor, length(header) + length(signature) AS head, length(body) AS body
  FROM blobs WHERE group_key = ?1 AND cursor > ?2 AND cursor <= ?3 ORDER BY cursor LIMIT ?4
), slice AS (
  SELECT cursor, head, body, sum(head + body) OVER (ORDER BY cursor ROWS UNBOUNDED PRECEDING) AS total
  FROM candidates ORDER BY cursor LIMIT ?4
)
SELECT count(*) AS blobs, coalesce(max(cursor), ?2) AS through, coalesce(sum(head), 0) AS header_bytes,
  coalesce(sum(body), 0) AS body_bytes
FROM slice WHERE total <= ?5 OR total = head + body`;

const blobIdsSql = `
SELECT cursor, device_key, blob_id, length(body) AS body_bytes
FROM blobs WHERE group_key = ?1 AND cursor < ?2 ORDER BY cursor DESC LIMIT ?3`;

const expiredSql = `
SELECT e.expires_age_s, e.group_key, e.cursor, g.group_id, coalesce(length(b.body), 0) AS body_bytes
FROM expiries e
LEFT JOIN groups g ON g.group_key = e.group_key
LEFT JOIN blobs b ON b.group_key = g.group_key AND b.cursor = e.cursor
WHERE e.expires_age_s <= ?1 ORDER BY e.expires_age_s, e.group_key, e.cursor LIMIT ?2`;

const pendingDeletesSql = `
SELECT d.cursor, b.device_key, b.header
FROM deletes d LEFT JOIN blobs b ON b.group_key = d.group_key AND b.cursor = d.cursor
WHERE d.group_key = ?1 AND d.cursor > ?2 ORDER BY d.cursor LIMIT ?3`;

const snapshotContentSql =
  "SELECT manifest, signature, confirmation FROM snapshots WHERE snapshot_key = ?1";

const waitingSql = `
SELECT DISTINCT g.group_id FROM snapshots s JOIN groups g ON g.group_key = s.group_key
WHERE s.effective = 0 AND s.stored_age_s <= ?1 LIMIT ?2`;

const objectColumns = `o.object_key, o.group_key, o.object_id, o.size_bytes, o.durable_bytes, o.complete,
  o.part, o.passing, o.stored_age_s,
  (SELECT json_group_array(r.holder) FROM object_references r WHERE r.object_key = o.object_key) AS holders`;

const findObjectsSql = `
SELECT ${objectColumns} FROM json_each(?2) j
CROSS JOIN objects o ON o.group_key = ?1 AND o.object_id = unhex(j.value)`;

const partsOfSql = `
SELECT ${objectColumns} FROM object_references p JOIN objects o ON o.object_key = p.object_key
WHERE p.holder = -?1`;

const passingSql = `
SELECT ${objectColumns}, g.group_id FROM objects o JOIN groups g ON g.group_key = o.group_key
WHERE o.passing <> 0 AND o.stored_age_s <= ?1 AND o.stored_age_s >= ?2
  AND (o.stored_age_s > ?2 OR o.object_key > ?3)
ORDER BY o.stored_age_s, o.object_key LIMIT ?4`;

const chunksSql =
  "SELECT data FROM object_chunks WHERE chunk_key >= ?1 AND chunk_key < ?2 ORDER BY chunk_key";

const groupsToTrimSql = `
SELECT group_key, group_id FROM groups g
WHERE group_key > ?1 AND (floor < replaced_through
  OR EXISTS (SELECT 1 FROM deletes d WHERE d.group_key = g.group_key))
ORDER BY group_key LIMIT ?2`;

interface ObjectColumns {
  readonly object_key: number;
  readonly group_key: number;
  readonly object_id: Uint8Array;
  readonly size_bytes: number;
  readonly durable_bytes: number;
  readonly complete: number;
  readonly part: number;
  readonly passing: number;
  readonly stored_age_s: number;
  readonly holders: string;
}

function foundObject(row: ObjectColumns): FoundObject {
  const object: ObjectRow = {
    objectKey: row.object_key,
    groupKey: row.group_key,
    objectId: new Uint8Array(row.object_id),
    sizeBytes: row.size_bytes,
    durableBytes: row.durable_bytes,
    complete: row.complete !== 0,
    part: row.part !== 0,
    passing: row.passing !== 0,
    storedAgeS: row.stored_age_s,
  };
  return { object, holders: JSON.parse(row.holders) as number[] };
}

const statements = {
  measureTrim: measureTrimSql,
  blobIds: blobIdsSql,
  expired: expiredSql,
  pendingDeletes: pendingDeletesSql,
  snapshotContent: snapshotContentSql,
  waiting: waitingSql,
  findObjects: findObjectsSql,
  partsOf: partsOfSql,
  passing: passingSql,
  chunks: chunksSql,
  groupsToTrim: groupsToTrimSql,
} as const;

type Statements = Readonly<Record<keyof typeof statements, SqlStatement>>;

export class SqliteLife implements LifeReads {
  readonly #sql: Statements;

  private constructor(sql: Statements) {
    this.#sql = sql;
  }

  static async open(reader: SqliteConnection): Promise<SqliteLife> {
    const prepared: [string, SqlStatement][] = [];
    for (const [name, sql] of Object.entries(statements)) {
      prepared.push([name, await reader.prepare(sql)]);
    }
    return new SqliteLife(Object.fromEntries(prepared) as Statements);
  }

  async measureTrim(
    groupKey: number,
    after: number,
    through: number,
    bounds: { readonly rowsMax: number; readonly bytesMax: number },
  ): Promise<TrimMeasure> {
    const [row] = await this.#sql.measureTrim.all<{
      readonly blobs: number;
      readonly through: number;
      readonly header_bytes: number;
      readonly body_bytes: number;
    }>([groupKey, after, through, Math.max(1, bounds.rowsMax), bounds.bytesMax]);
    if (row === undefined) return { through: after, blobs: 0, headerBytes: 0, bodyBytes: 0 };
    return {
      through: row.through,
      blobs: row.blobs,
      headerBytes: row.header_bytes,
      bodyBytes: row.body_bytes,
    };
  }

  async blobIds(groupKey: number, below: number, rowsMax: number): Promise<readonly BlobIdRow[]> {
    const rows = await this.#sql.blobIds.all<{
      readonly cursor: number;
      readonly device_key: number;
      readonly blob_id: Uint8Array;
      readonly body_bytes: number;
    }>([groupKey, below, rowsMax]);
    return rows.map((row) => ({
      cursor: row.cursor,
      deviceKey: row.device_key,
      blobId: new Uint8Array(row.blob_id),
      bodyBytes: row.body_bytes,
    }));
  }

  async expired(ageS: number, rowsMax: number): Promise<readonly ExpiredRow[]> {
    const rows = await this.#sql.expired.all<{
      readonly expires_age_s: number;
      readonly group_key: number;
      readonly cursor: number;
      readonly group_id: Uint8Array | null;
      readonly body_bytes: number;
    }>([ageS, rowsMax]);
    return rows.map((row) => ({
      expiresAgeS: row.expires_age_s,
      groupKey: row.group_key,
      cursor: row.cursor,
      groupId: row.group_id === null ? undefined : new Uint8Array(row.group_id),
      bodyBytes: row.body_bytes,
    }));
  }

  async pendingDeletes(
    groupKey: number,
    after: number,
    rowsMax: number,
  ): Promise<readonly PendingDelete[]> {
    const rows = await this.#sql.pendingDeletes.all<{
      readonly cursor: number;
      readonly device_key: number | null;
      readonly header: Uint8Array | null;
    }>([groupKey, after, rowsMax]);
    return rows.map((row) => ({
      groupKey,
      cursor: row.cursor,
      blob:
        row.device_key === null || row.header === null
          ? undefined
          : { deviceKey: row.device_key, header: new Uint8Array(row.header) },
    }));
  }

  async snapshotContent(snapshotKey: number): Promise<SnapshotContent | undefined> {
    const [row] = await this.#sql.snapshotContent.all<SnapshotContent>([snapshotKey]);
    if (row === undefined) return undefined;
    return {
      manifest: new Uint8Array(row.manifest),
      signature: new Uint8Array(row.signature),
      confirmation: new Uint8Array(row.confirmation),
    };
  }

  async groupsWithSnapshotsOf(ageS: number, rowsMax: number): Promise<readonly Uint8Array[]> {
    const rows = await this.#sql.waiting.all<{ readonly group_id: Uint8Array }>([ageS, rowsMax]);
    return rows.map((row) => new Uint8Array(row.group_id));
  }

  async findObjects(
    groupKey: number,
    objectIds: readonly Uint8Array[],
  ): Promise<readonly FoundObject[]> {
    const ids = JSON.stringify(objectIds.map(toHex));
    const rows = await this.#sql.findObjects.all<ObjectColumns>([groupKey, ids]);
    return rows.map(foundObject);
  }

  async partsOf(snapshotKey: number): Promise<readonly FoundObject[]> {
    const rows = await this.#sql.partsOf.all<ObjectColumns>([snapshotKey]);
    return rows.map(foundObject);
  }

  async readObject(objectKey: number, offset: number, lengthMax: number): Promise<Uint8Array> {
    const first = objectKey * chunksMax + Math.floor(offset / chunkBytes);
    const rows = await this.#sql.chunks.all<{ readonly data: Uint8Array }>([
      first,
      first + chunksOf(lengthMax),
    ]);
    const bytes = new Uint8Array(rows.reduce((sum, { data }) => sum + data.byteLength, 0));
    let place = 0;
    for (const { data } of rows) {
      bytes.set(data, place);
      place += data.byteLength;
    }
    return bytes;
  }

  async passingObjects(
    ageS: number,
    after: PassingPlace,
    rowsMax: number,
  ): Promise<readonly (FoundObject & { readonly groupId: Uint8Array })[]> {
    const rows = await this.#sql.passing.all<ObjectColumns & { readonly group_id: Uint8Array }>([
      ageS,
      after.storedAgeS,
      after.objectKey,
      rowsMax,
    ]);
    return rows.map((row) => ({ ...foundObject(row), groupId: new Uint8Array(row.group_id) }));
  }

  async groupsToTrim(
    afterGroupKey: number,
    rowsMax: number,
  ): Promise<readonly { readonly groupKey: number; readonly groupId: Uint8Array }[]> {
    const rows = await this.#sql.groupsToTrim.all<{
      readonly group_key: number;
      readonly group_id: Uint8Array;
    }>([afterGroupKey, rowsMax]);
    return rows.map((row) => ({
      groupKey: row.group_key,
      groupId: new Uint8Array(row.group_id),
    }));
  }
}
