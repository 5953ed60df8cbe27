/**
 * A commit as one statement.
 *
 * The batch is packed into a few values: the numbers of each table's rows as
 * JSON, all bytes one after another in one array, to which the numbers point.
 * They are inserted into a view that holds nothing; its trigger unpacks them
 * into the tables. Both are temporary, so they belong to the program and not to
 * the file.
 *
 * Why not rows of bound parameters between BEGIN and COMMIT: SQLite runs a
 * single statement whole or not at all, so there is no half of a commit to roll
 * back and no error that could slip past a COMMIT; one statement crosses to the
 * thread pool once, where every BEGIN, INSERT and COMMIT would cross for itself;
 * and `sqlite3` spends 0.3 to 0.8 µs of the event loop on each bound parameter,
 * of which a blob alone has thirteen.
 */
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceRow,
  GroupRow,
  InviteRow,
} from "./contract.ts";
import { roleNumber, stateNumber } from "./device-codes.ts";
import { BytePacker, digitsOfNumber, numbersOf } from "./packing.ts";
import type { SqlValue } from "./sqlite-connection.ts";
import { lifeBytes, lifeColumns, lifeStatements, lifeValues } from "./sqlite-life-commit.ts";

const statements = `
  INSERT INTO main.groups (group_key, head, floor, bytes, blobs, quota_bytes, membership_count,
      epoch, suspended, replaced_through, trimmed_through, snapshot_age_s, snapshot_bytes,
      control_bytes, pushes_per_s, pushes_burst, group_id, log_id, membership_head)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, value->>15,
      substr(new.bytes, value->>16, 32),
      substr(new.bytes, (value->>16) + 32, 16),
      substr(new.bytes, (value->>16) + 48, 32)
    FROM json_each(new.groups) WHERE true
    ON CONFLICT (group_key) DO UPDATE SET head = excluded.head, floor = excluded.floor,
      replaced_through = excluded.replaced_through, trimmed_through = excluded.trimmed_through,
      snapshot_age_s = excluded.snapshot_age_s, snapshot_bytes = excluded.snapshot_bytes,
      control_bytes = excluded.control_bytes, pushes_per_s = excluded.pushes_per_s,
      pushes_burst = excluded.pushes_burst,
      bytes = excluded.bytes, blobs = excluded.blobs, quota_bytes = excluded.quota_bytes,
      membership_count = excluded.membership_count, epoch = excluded.epoch,
      suspended = excluded.suspended, log_id = excluded.log_id, membership_head = excluded.membership_head;

  INSERT INTO main.devices (group_key, device_key, role, state, last_seq, last_cursor, applied,
      last_seen_ms, seen_age_s, device_id, last_link)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      value->>8,
      substr(new.bytes, value->>9, 32),
      substr(new.bytes, (value->>9) + 32, 32)
    FROM json_each(new.devices) WHERE true
    ON CONFLICT (group_key, device_key) DO UPDATE SET role = excluded.role, state = excluded.state,
      last_seq = excluded.last_seq, last_cursor = excluded.last_cursor, applied = excluded.applied,
      last_seen_ms = excluded.last_seen_ms, seen_age_s = excluded.seen_age_s,
      last_link = excluded.last_link;

  INSERT OR REPLACE INTO main.witnesses (device_key, counter, witness)
    SELECT value->>0, value->>1, substr(new.bytes, value->>2, value->>3)
    FROM json_each(new.witnesses);

  INSERT INTO main.blobs (group_key, cursor, device_key, seq, prior_cursor, epoch, body_state,
      stored_age_s, link, blob_id, signature, header, body)
    SELECT keys >> 24, cursor, keys & 0xffffff, seq, prior, epoch >> 35, epoch >> 32 & 7,
      epoch & 0xffffffff,
      substr(new.bytes, start + 96, 32),
      substr(new.bytes, start + 128, 16),
      substr(new.bytes, start + 144, 64),
      substr(new.bytes, start + 208, sizes & 0x3fff),
      substr(new.bytes, start + 208 + (sizes & 0x3fff), sizes >> 14)
    -- The limit keeps the numbers from being read anew at each use.
    FROM (
      SELECT value AS start,
        CAST(substr(new.bytes, value, 16) AS INTEGER) AS keys,
        CAST(substr(new.bytes, value + 16, 16) AS INTEGER) AS cursor,
        CAST(substr(new.bytes, value + 32, 16) AS INTEGER) AS seq,
        CAST(substr(new.bytes, value + 48, 16) AS INTEGER) AS prior,
        CAST(substr(new.bytes, value + 64, 16) AS INTEGER) AS epoch,
        CAST(substr(new.bytes, value + 80, 16) AS INTEGER) AS sizes
      FROM json_each(new.blobs)
      LIMIT -1 OFFSET 0
    );

  INSERT INTO main.blobs (group_key, cursor, device_key, seq, prior_cursor, epoch, body_state,
      stored_age_s, link, blob_id, signature, header, body)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      substr(new.bytes, value->>8, 32),
      substr(new.bytes, (value->>8) + 32, 16),
      substr(new.bytes, (value->>8) + 48, value->>9),
      substr(new.bytes, value->>10, value->>11),
      substr(new.bytes, value->>12, value->>13)
    FROM json_each(new.wide_blobs);

  INSERT INTO main.control (group_key, number, epoch, head, bytes)
    SELECT value->>0, value->>1, value->>2,
      substr(new.bytes, value->>3, 32),
      substr(new.bytes, (value->>3) + 32, value->>4)
    FROM json_each(new.control);

  INSERT INTO main.invites (quota_bytes, expires_age_s, created_ms, used_by_group_key, revoked_ms,
      label, invite_hash)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5,
      substr(new.bytes, value->>6, 32)
    FROM json_each(new.invites) WHERE true
    ON CONFLICT (invite_hash) DO UPDATE SET quota_bytes = excluded.quota_bytes,
      expires_age_s = excluded.expires_age_s, created_ms = excluded.created_ms,
      used_by_group_key = excluded.used_by_group_key, revoked_ms = excluded.revoked_ms,
      label = excluded.label;

  INSERT OR IGNORE INTO main.deleted_groups (group_key)
    SELECT value FROM json_each(new.deleted_groups);
  DELETE FROM main.witnesses WHERE device_key IN (
    SELECT device_key FROM main.devices
    WHERE group_key IN (SELECT value FROM json_each(new.deleted_groups)));
  DELETE FROM main.devices WHERE group_key IN (SELECT value FROM json_each(new.deleted_groups));
  DELETE FROM main.groups WHERE group_key IN (SELECT value FROM json_each(new.deleted_groups));

  UPDATE main.relay SET age_s = new.age_s, clock_ms = coalesce(new.clock_ms, clock_ms)
    WHERE new.age_s IS NOT NULL;
`;

const columns = [
  "groups",
  "devices",
  "witnesses",
  "blobs",
  "wide_blobs",
  "control",
  "invites",
  "deleted_groups",
  "age_s",
  "clock_ms",
  "bytes",
];

/**
 * Makes the views and their triggers on the connection that writes. Two: most commits are of pushes
 * alone, and each statement of a trigger costs also where it has nothing to do.
 */
export const commitSetup = `
${viewOf("commits", columns, statements)}
${viewOf("life_commits", [...columns, ...lifeColumns], statements + lifeStatements)}`;

function viewOf(name: string, names: readonly string[], body: string): string {
  return `
CREATE TEMP VIEW ${name} (${names.join(", ")}) AS SELECT ${names.map(() => "NULL").join(", ")};
CREATE TEMP TRIGGER ${name}_inserted INSTEAD OF INSERT ON ${name} BEGIN ${body} END;`;
}

/** The statement that writes a commit. */
export const commitStatement = insertInto("commits", columns);
/** The one for a commit with more than pushes and membership. */
export const lifeCommitStatement = insertInto("life_commits", [...columns, ...lifeColumns]);

function insertInto(view: string, names: readonly string[]): string {
  return `INSERT INTO temp.${view} VALUES (${names.map(() => "?").join(", ")})`;
}

export interface PackedCommit {
  /** What the statement is given. */
  readonly values: readonly SqlValue[];
  /** The size of all rows' bytes together. */
  readonly bytes: number;
}

/** Packs a batch. `witnessed` are those of its devices whose witness is to be written. */
export function packCommit(batch: CommitBatch, witnessed: readonly DeviceRow[]): PackedCommit {
  const length = bytesOf(batch, witnessed);
  const allNarrow = batch.blobs.every(isNarrow);
  const wide = allNarrow ? [] : batch.blobs.filter((row) => !isNarrow(row));
  const narrow = allNarrow ? batch.blobs : batch.blobs.filter(isNarrow);
  const bytes = new BytePacker(length + narrow.length * narrowNumbersBytes);
  const values = [
    numbersOf(batch.groups, (row) => groupNumbers(row, bytes)),
    numbersOf(batch.devices, (row) => deviceNumbers(row, bytes)),
    numbersOf(witnessed, (row) => witnessNumbers(row, bytes)),
    narrowBlobs(narrow, bytes),
    numbersOf(wide, (row) => wideBlobNumbers(row, bytes)),
    numbersOf(batch.control, (row) => controlNumbers(row, bytes)),
    numbersOf(batch.invites, (row) => inviteNumbers(row, bytes)),
    (batch.deletedGroups?.length ?? 0) > 0 ? JSON.stringify(batch.deletedGroups) : null,
    batch.ageS ?? null,
    batch.clockMs ?? null,
    bytes.packed,
  ];
  if (batch.life !== undefined) values.push(...lifeValues(batch.life, bytes));
  return { values, bytes: length };
}

function bytesOf(batch: CommitBatch, witnessed: readonly DeviceRow[]): number {
  let length = lifeBytes(batch.life);
  length += batch.groups.length * 80 + batch.devices.length * 64 + batch.invites.length * 32;
  for (const row of witnessed) length += row.witness.byteLength;
  for (const row of batch.control) length += 32 + row.bytes.byteLength;
  for (const row of batch.blobs) {
    length += 48 + row.signature.byteLength + row.header.byteLength + row.body.byteLength;
  }
  return length;
}

function groupNumbers(row: GroupRow, bytes: BytePacker): string {
  const start = bytes.putFixed(row.groupId, 32);
  bytes.putFixed(row.logId, 16);
  bytes.putFixed(row.membershipHead, 32);
  return `${row.groupKey},${row.head},${row.floor},${row.bytes},${row.blobs},${row.quotaBytes},${row.membershipCount},${row.epoch},${Number(row.suspended)},${row.replacedThrough},${row.trimmedThrough},${row.snapshotAgeS},${row.snapshotBytes},${row.controlBytes},${row.pushesPerS},${row.pushesBurst},${start}`;
}

function deviceNumbers(row: DeviceRow, bytes: BytePacker): string {
  const start = bytes.putFixed(row.deviceId, 32);
  bytes.putFixed(row.lastLink, 32);
  return `${row.groupKey},${row.deviceKey},${roleNumber(row.role)},${stateNumber(row.state)},${row.lastSeq},${row.lastCursor},${row.applied},${row.lastSeenMs},${row.seenAgeS},${start}`;
}

function witnessNumbers(row: DeviceRow, bytes: BytePacker): string {
  return `${row.deviceKey},${row.witnessCounter},${bytes.put(row.witness)},${row.witness.byteLength}`;
}

/** Six numbers of sixteen digits each, before a blob's bytes. */
const narrowNumbersBytes = 6 * digitsOfNumber;

/**
 * Where each blob begins, as JSON; its numbers stand there as digits, before its bytes. To take them out of
 * JSON, row for row, costs SQLite more than writing the row. Those that are small are together in one.
 */
function narrowBlobs(rows: readonly BlobRow[], bytes: BytePacker): string | null {
  if (rows.length === 0) return null;
  let starts = "";
  for (const row of rows) {
    const start = bytes.putNumber(row.groupKey * 2 ** 24 + row.deviceKey);
    starts += starts === "" ? `[${start}` : `,${start}`;
    bytes.putNumber(row.cursor);
    bytes.putNumber(row.seq);
    bytes.putNumber(row.priorCursor);
    bytes.putNumber((row.epoch * 8 + row.bodyState) * 2 ** 32 + row.storedAgeS);
    bytes.putNumber(row.body.byteLength * 2 ** 14 + row.header.byteLength);
    bytes.putFixed(row.link, 32);
    bytes.putFixed(row.blobId, 16);
    bytes.putFixed(row.signature, 64);
    bytes.put(row.header);
    bytes.put(row.body);
  }
  return `${starts}]`;
}

/** Whether a row's numbers fit together as `blobNumbers` packs them: nearly all do. */
function isNarrow(row: BlobRow): boolean {
  return (
    row.groupKey < 2 ** 29 &&
    row.deviceKey < 2 ** 24 &&
    row.epoch < 2 ** 18 &&
    row.bodyState < 8 &&
    row.storedAgeS < 2 ** 32 &&
    row.signature.byteLength === 64 &&
    row.header.byteLength < 2 ** 14
  );
}

function wideBlobNumbers(row: BlobRow, bytes: BytePacker): string {
  const start = bytes.putFixed(row.link, 32);
  bytes.putFixed(row.blobId, 16);
  bytes.put(row.signature);
  const header = bytes.put(row.header);
  const body = bytes.put(row.body);
  return `${row.groupKey},${row.cursor},${row.deviceKey},${row.seq},${row.priorCursor},${row.epoch},${row.bodyState},${row.storedAgeS},${start},${row.signature.byteLength},${header},${row.header.byteLength},${body},${row.body.byteLength}`;
}

function controlNumbers(row: ControlRow, bytes: BytePacker): string {
  const start = bytes.putFixed(row.head, 32);
  bytes.put(row.bytes);
  return `${row.groupKey},${row.number},${row.epoch},${start},${row.bytes.byteLength}`;
}

function inviteNumbers(row: InviteRow, bytes: BytePacker): string {
  const start = bytes.putFixed(row.inviteHash, 32);
  return `${row.quotaBytes},${row.expiresAgeS},${row.createdMs},${row.usedByGroupKey},${row.revokedMs},${JSON.stringify(row.label)},${start}`;
}
