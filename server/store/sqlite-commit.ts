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
import type { SqlValue } from "./sqlite-connection.ts";

/** Makes the view and its trigger on the connection that writes. */
export const commitSetup = `
CREATE TEMP VIEW commits (groups, devices, witnesses, blobs, control, invites,
    deleted_groups, age_s, bytes)
  AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL;

CREATE TEMP TRIGGER commits_inserted INSTEAD OF INSERT ON commits BEGIN
  INSERT INTO main.groups (group_key, head, floor, bytes, blobs, quota_bytes, membership_count,
      epoch, suspended, group_id, log_id, membership_head)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      value->>8,
      substr(new.bytes, value->>9, 32),
      substr(new.bytes, (value->>9) + 32, 16),
      substr(new.bytes, (value->>9) + 48, 32)
    FROM json_each(new.groups) WHERE true
    ON CONFLICT (group_key) DO UPDATE SET head = excluded.head, floor = excluded.floor,
      bytes = excluded.bytes, blobs = excluded.blobs, quota_bytes = excluded.quota_bytes,
      membership_count = excluded.membership_count, epoch = excluded.epoch,
      suspended = excluded.suspended, log_id = excluded.log_id, membership_head = excluded.membership_head;

  INSERT INTO main.devices (group_key, device_key, role, state, last_seq, last_cursor, applied,
      last_seen_ms, device_id, last_link)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      substr(new.bytes, value->>8, 32),
      substr(new.bytes, (value->>8) + 32, 32)
    FROM json_each(new.devices) WHERE true
    ON CONFLICT (group_key, device_key) DO UPDATE SET role = excluded.role, state = excluded.state,
      last_seq = excluded.last_seq, last_cursor = excluded.last_cursor, applied = excluded.applied,
      last_seen_ms = excluded.last_seen_ms, last_link = excluded.last_link;

  INSERT OR REPLACE INTO main.witnesses (device_key, counter, witness)
    SELECT value->>0, value->>1, substr(new.bytes, value->>2, value->>3)
    FROM json_each(new.witnesses);

  INSERT INTO main.blobs (group_key, cursor, device_key, seq, prior_cursor, epoch, body_state,
      stored_age_s, link, blob_id, signature, header, body)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7,
      substr(new.bytes, value->>8, 32),
      substr(new.bytes, (value->>8) + 32, 16),
      substr(new.bytes, (value->>8) + 48, value->>9),
      substr(new.bytes, value->>10, value->>11),
      substr(new.bytes, value->>12, value->>13)
    FROM json_each(new.blobs);

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

  UPDATE main.relay SET age_s = new.age_s WHERE new.age_s IS NOT NULL;
END;
`;

/** The statement that writes a commit. */
export const commitStatement = "INSERT INTO temp.commits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

export interface PackedCommit {
  /** What `commitStatement` is given. */
  readonly values: readonly SqlValue[];
  /** The size of all rows' bytes together. */
  readonly bytes: number;
}

/** Packs a batch. `witnessed` are those of its devices whose witness is to be written. */
export function packCommit(batch: CommitBatch, witnessed: readonly DeviceRow[]): PackedCommit {
  const length = bytesOf(batch, witnessed);
  const bytes = new BytePacker(length);
  const values = [
    numbersOf(batch.groups, (row) => groupNumbers(row, bytes)),
    numbersOf(batch.devices, (row) => deviceNumbers(row, bytes)),
    numbersOf(witnessed, (row) => witnessNumbers(row, bytes)),
    numbersOf(batch.blobs, (row) => blobNumbers(row, bytes)),
    numbersOf(batch.control, (row) => controlNumbers(row, bytes)),
    numbersOf(batch.invites, (row) => inviteNumbers(row, bytes)),
    (batch.deletedGroups?.length ?? 0) > 0 ? JSON.stringify(batch.deletedGroups) : null,
    batch.ageS ?? null,
    bytes.packed,
  ];
  return { values, bytes: length };
}

/** One array of numbers a row, as JSON; null where there are no rows. */
function numbersOf<Row>(rows: readonly Row[], one: (row: Row) => string): string | null {
  if (rows.length === 0) return null;
  let text = "[";
  for (const row of rows) text += text.length === 1 ? `[${one(row)}]` : `,[${one(row)}]`;
  return `${text}]`;
}

/** Puts arrays one after another and tells where each begins, counted from 1 as `substr` counts. */
class BytePacker {
  readonly packed: Uint8Array;
  #offset = 0;

  constructor(length: number) {
    // SQLite takes an empty array for NULL, of which no part can be taken.
    this.packed = new Uint8Array(length + 1);
  }

  put(bytes: Uint8Array): number {
    const start = this.#offset;
    this.packed.set(bytes, start);
    this.#offset = start + bytes.byteLength;
    return start + 1;
  }

  /** For a field of fixed length, which the trigger cuts without being told. */
  putFixed(bytes: Uint8Array, length: number): number {
    if (bytes.byteLength !== length) {
      throw new RangeError(`a field of ${length} bytes has ${bytes.byteLength}`);
    }
    return this.put(bytes);
  }
}

function bytesOf(batch: CommitBatch, witnessed: readonly DeviceRow[]): number {
  let length = batch.groups.length * 80 + batch.devices.length * 64 + batch.invites.length * 32;
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
  return `${row.groupKey},${row.head},${row.floor},${row.bytes},${row.blobs},${row.quotaBytes},${row.membershipCount},${row.epoch},${Number(row.suspended)},${start}`;
}

function deviceNumbers(row: DeviceRow, bytes: BytePacker): string {
  const start = bytes.putFixed(row.deviceId, 32);
  bytes.putFixed(row.lastLink, 32);
  return `${row.groupKey},${row.deviceKey},${roleNumber(row.role)},${stateNumber(row.state)},${row.lastSeq},${row.lastCursor},${row.applied},${row.lastSeenMs},${start}`;
}

function witnessNumbers(row: DeviceRow, bytes: BytePacker): string {
  return `${row.deviceKey},${row.witnessCounter},${bytes.put(row.witness)},${row.witness.byteLength}`;
}

function blobNumbers(row: BlobRow, bytes: BytePacker): string {
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
