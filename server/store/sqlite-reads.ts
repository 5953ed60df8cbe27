/**
 * What the reading connection is asked, and how its rows become the contract's.
 *
 * A page of blobs comes back as one row: the numbers of all its blobs as JSON and
 * all their bytes joined, which are then cut into views. A row and a buffer for
 * every field would cost the event loop several times as much. Joining by
 * `group_concat` is safe for bytes: the file's encoding is UTF-8, so SQLite
 * carries them unread, and lengths, not ends, mark the parts.
 */
import type {
  BlobRow,
  ControlRow,
  DeviceGroup,
  DeviceRow,
  GroupListing,
  GroupRow,
  InviteListing,
  InviteRow,
  LoadedGroup,
  SenderPlace,
} from "./contract.ts";
import { roleOf, stateOf } from "./device-codes.ts";
import type { WakeUpRow } from "./life.ts";
import { snapshotRows, snapshotsColumn } from "./sqlite-life-reads.ts";

const groupLifeColumns = `g.replaced_through, g.trimmed_through, g.snapshot_age_s, g.snapshot_bytes,
  g.control_bytes, g.pushes_per_s, g.pushes_burst`;

interface GroupLifeColumns {
  readonly replaced_through: number;
  readonly trimmed_through: number;
  readonly snapshot_age_s: number;
  readonly snapshot_bytes: number;
  readonly control_bytes: number;
  readonly pushes_per_s: number;
  readonly pushes_burst: number;
}

function lifeOf(row: GroupLifeColumns) {
  return {
    replacedThrough: row.replaced_through,
    trimmedThrough: row.trimmed_through,
    snapshotAgeS: row.snapshot_age_s,
    snapshotBytes: row.snapshot_bytes,
    controlBytes: row.control_bytes,
    pushesPerS: row.pushes_per_s,
    pushesBurst: row.pushes_burst,
  };
}

/** A group with all its devices, one row a device, in one statement: one moment of the store. */
export const loadGroupSql = `
SELECT g.group_key, g.log_id, g.head, g.floor, g.bytes, g.blobs, g.quota_bytes, g.membership_count,
  g.membership_head, g.epoch, g.suspended, ${groupLifeColumns}, ${snapshotsColumn} AS snapshots,
  d.device_key, d.device_id, d.role, d.state, d.last_seq, d.last_link,
  d.last_cursor, d.applied, d.last_seen_ms, d.seen_age_s, w.counter, w.witness,
  u.endpoint, u.p256dh, u.auth
FROM groups g
LEFT JOIN devices d ON d.group_key = g.group_key
LEFT JOIN witnesses w ON w.device_key = d.device_key
LEFT JOIN wake_ups u ON u.device_key = d.device_key
WHERE g.group_id = ? ORDER BY d.device_key`;

export interface LoadGroupColumns extends GroupLifeColumns {
  readonly snapshots: string;
  readonly group_key: number;
  readonly log_id: Uint8Array;
  readonly head: number;
  readonly floor: number;
  readonly bytes: number;
  readonly blobs: number;
  readonly quota_bytes: number;
  readonly membership_count: number;
  readonly membership_head: Uint8Array;
  readonly epoch: number;
  readonly suspended: number;
  /** Null in the one row of a group without devices, with all that follow. */
  readonly device_key: number | null;
  readonly device_id: Uint8Array;
  readonly role: number;
  readonly state: number;
  readonly last_seq: number;
  readonly last_link: Uint8Array;
  readonly last_cursor: number;
  readonly applied: number;
  readonly last_seen_ms: number;
  readonly seen_age_s: number;
  readonly counter: number | null;
  readonly witness: Uint8Array | null;
  /** Null where the device is not woken, with the two that follow. */
  readonly endpoint: string | null;
  readonly p256dh: Uint8Array;
  readonly auth: Uint8Array;
}

export function loadedGroup(
  groupId: Uint8Array,
  rows: readonly LoadGroupColumns[],
): LoadedGroup | undefined {
  const first = rows[0];
  if (first === undefined) return undefined;
  const group: GroupRow = {
    groupKey: first.group_key,
    groupId: new Uint8Array(groupId),
    logId: plain(first.log_id),
    head: first.head,
    floor: first.floor,
    bytes: first.bytes,
    blobs: first.blobs,
    quotaBytes: first.quota_bytes,
    membershipCount: first.membership_count,
    membershipHead: plain(first.membership_head),
    epoch: first.epoch,
    suspended: first.suspended !== 0,
    ...lifeOf(first),
  };
  const devices: DeviceRow[] = [];
  const wakeUps: WakeUpRow[] = [];
  for (const row of rows) {
    if (row.device_key === null) continue;
    devices.push({
      deviceKey: row.device_key,
      groupKey: first.group_key,
      deviceId: plain(row.device_id),
      role: roleOf(row.role),
      state: stateOf(row.state),
      lastSeq: row.last_seq,
      lastLink: plain(row.last_link),
      lastCursor: row.last_cursor,
      applied: row.applied,
      lastSeenMs: row.last_seen_ms,
      seenAgeS: row.seen_age_s,
      witnessCounter: row.counter ?? 0,
      witness: row.witness === null ? new Uint8Array(0) : plain(row.witness),
    });
    const { device_key: deviceKey, endpoint } = row;
    if (endpoint === null) continue;
    wakeUps.push({ deviceKey, endpoint, p256dh: plain(row.p256dh), auth: plain(row.auth) });
  }
  return {
    group,
    devices,
    snapshots: snapshotRows(first.group_key, first.snapshots),
    ...(wakeUps.length === 0 ? {} : { wakeUps }),
  };
}

export const groupsOfDeviceSql = `
SELECT g.group_id, d.role, d.state, g.membership_count, g.membership_head
FROM devices d JOIN groups g ON g.group_key = d.group_key
WHERE d.device_id = ? ORDER BY d.group_key`;

export interface DeviceGroupColumns {
  readonly group_id: Uint8Array;
  readonly role: number;
  readonly state: number;
  readonly membership_count: number;
  readonly membership_head: Uint8Array;
}

export function deviceGroup(row: DeviceGroupColumns): DeviceGroup {
  return {
    groupId: plain(row.group_id),
    role: roleOf(row.role),
    state: stateOf(row.state),
    membershipCount: row.membership_count,
    membershipHead: plain(row.membership_head),
  };
}

/**
 * Group, after, through, rows at most, bytes at most. The sizes are summed first,
 * over the rows without their bytes (SQLite knows a field's length from the head
 * of its row), and only the blobs that fit are read.
 */
export const readBlobsSql = `
WITH candidates AS (
  SELECT rowid AS place, cursor, length(header) + length(signature) + length(body) AS size
  FROM blobs WHERE group_key = ?1 AND cursor > ?2 AND cursor <= ?3 ORDER BY cursor LIMIT ?4
), page AS (
  SELECT place, size, sum(size) OVER (ORDER BY cursor ROWS UNBOUNDED PRECEDING) AS total
  FROM candidates ORDER BY cursor LIMIT ?4
), rows AS (
  SELECT b.* FROM page CROSS JOIN blobs b ON b.rowid = page.place
  WHERE page.total <= ?5 OR page.total = page.size LIMIT ?4
)
SELECT json_group_array(json_array(cursor, device_key, seq, prior_cursor, epoch, body_state,
    stored_age_s, length(signature), length(header), length(body))) AS numbers,
  CAST(group_concat(link || blob_id || signature || header || body, '') AS BLOB) AS bytes
FROM rows`;

export interface BlobPageColumns {
  readonly numbers: string;
  /** Null where the page is empty. */
  readonly bytes: Uint8Array | null;
}

/** The blobs of a page. Their bytes are views of one array and live as long as any of them. */
export function blobPage(groupKey: number, columns: BlobPageColumns | undefined): BlobRow[] {
  if (columns === undefined || columns.bytes === null) return [];
  const numbers = JSON.parse(columns.numbers) as readonly BlobNumbers[];
  const { buffer, byteOffset } = columns.bytes;
  const blobs: BlobRow[] = [];
  let offset = byteOffset;
  for (const row of numbers) {
    const link = offset;
    const blobId = link + 32;
    const signature = blobId + 16;
    const header = signature + row[7];
    const body = header + row[8];
    offset = body + row[9];
    blobs.push({
      groupKey,
      cursor: row[0],
      deviceKey: row[1],
      seq: row[2],
      priorCursor: row[3],
      link: new Uint8Array(buffer, link, 32),
      blobId: new Uint8Array(buffer, blobId, 16),
      epoch: row[4],
      header: new Uint8Array(buffer, header, row[8]),
      signature: new Uint8Array(buffer, signature, row[7]),
      body: new Uint8Array(buffer, body, row[9]),
      bodyState: row[5],
      storedAgeS: row[6],
    });
  }
  return blobs;
}

/** The columns of `json_array` in `readBlobsSql`, in order. */
type BlobNumbers = readonly [
  cursor: number,
  deviceKey: number,
  seq: number,
  priorCursor: number,
  epoch: number,
  bodyState: number,
  storedAgeS: number,
  signatureBytes: number,
  headerBytes: number,
  bodyBytes: number,
];

export const linkAtSql = "SELECT link FROM blobs WHERE group_key = ? AND cursor = ?";

/** Group, the cursor to begin at, the seq to end at: a walk along `prior_cursor`. */
export const senderPlacesSql = `
WITH RECURSIVE places (seq, cursor, link, prior_cursor) AS (
  SELECT seq, cursor, link, prior_cursor FROM blobs
  WHERE group_key = ?1 AND cursor = ?2 AND seq >= ?3
  UNION ALL
  SELECT b.seq, b.cursor, b.link, b.prior_cursor FROM places p
  CROSS JOIN blobs b ON b.group_key = ?1 AND b.cursor = p.prior_cursor
  WHERE b.seq >= ?3 AND b.cursor < p.cursor
)
SELECT seq, cursor, link FROM places`;

export function senderPlace(row: SenderPlace): SenderPlace {
  return { seq: row.seq, cursor: row.cursor, link: plain(row.link) };
}

/** Control blobs looked at for one page; pages are bounded by bytes, this bounds the work. */
const controlRowsMax = 1_000;

/** Group, after, bytes at most. */
export const readControlSql = `
WITH candidates AS (
  SELECT rowid AS place, number, length(bytes) AS size
  FROM control WHERE group_key = ?1 AND number > ?2 ORDER BY number LIMIT ${controlRowsMax}
), page AS (
  SELECT place, size, sum(size) OVER (ORDER BY number ROWS UNBOUNDED PRECEDING) AS total
  FROM candidates ORDER BY number LIMIT ${controlRowsMax}
)
SELECT c.number, c.epoch, c.head, c.bytes FROM page CROSS JOIN control c ON c.rowid = page.place
WHERE page.total <= ?3 OR page.total = page.size ORDER BY c.number`;

export const controlByHeadSql =
  "SELECT number, epoch, head, bytes FROM control WHERE group_key = ? AND head = ?";

export interface ControlColumns {
  readonly number: number;
  readonly epoch: number;
  readonly head: Uint8Array;
  readonly bytes: Uint8Array;
}

export function controlRow(groupKey: number, row: ControlColumns): ControlRow {
  return {
    groupKey,
    number: row.number,
    head: plain(row.head),
    epoch: row.epoch,
    bytes: plain(row.bytes),
  };
}

export const findInviteSql = `
SELECT label, quota_bytes, expires_age_s, created_ms, used_by_group_key, revoked_ms
FROM invites WHERE invite_hash = ?`;

export interface InviteColumns {
  readonly label: string;
  readonly quota_bytes: number;
  readonly expires_age_s: number;
  readonly created_ms: number;
  readonly used_by_group_key: number;
  readonly revoked_ms: number;
}

export function inviteRow(inviteHash: Uint8Array, row: InviteColumns): InviteRow {
  return {
    inviteHash: new Uint8Array(inviteHash),
    label: row.label,
    quotaBytes: row.quota_bytes,
    expiresAgeS: row.expires_age_s,
    createdMs: row.created_ms,
    usedByGroupKey: row.used_by_group_key,
    revokedMs: row.revoked_ms,
  };
}

/** Hash to begin at, rows at most. */
export const listInvitesSql = `
SELECT i.invite_hash, i.label, i.quota_bytes, i.expires_age_s, i.created_ms, i.used_by_group_key,
  i.revoked_ms, g.group_id
FROM invites i LEFT JOIN groups g ON g.group_key = i.used_by_group_key
WHERE i.invite_hash >= ?1 ORDER BY i.invite_hash LIMIT ?2`;

export interface InviteListingColumns extends InviteColumns {
  readonly invite_hash: Uint8Array;
  readonly group_id: Uint8Array | null;
}

export function inviteListing(row: InviteListingColumns): InviteListing {
  return {
    invite: inviteRow(row.invite_hash, row),
    groupId: row.group_id === null ? undefined : plain(row.group_id),
  };
}

/** Key to begin after, rows at most. Devices of a group lie together, and are few. */
export const listGroupsSql = `
SELECT g.group_key, g.group_id, g.log_id, g.head, g.floor, g.bytes, g.blobs, g.quota_bytes,
  g.membership_count, g.membership_head, g.epoch, g.suspended, ${groupLifeColumns},
  (SELECT label FROM invites i WHERE i.used_by_group_key = g.group_key AND i.used_by_group_key <> 0)
    AS label,
  (SELECT count(*) FROM devices d WHERE d.group_key = g.group_key AND d.state = 0) AS active_devices,
  (SELECT max(last_seen_ms) FROM devices d WHERE d.group_key = g.group_key) AS last_seen_ms
FROM groups g WHERE g.group_key > ?1 ORDER BY g.group_key LIMIT ?2`;

export interface GroupListingColumns extends GroupLifeColumns {
  readonly group_key: number;
  readonly group_id: Uint8Array;
  readonly log_id: Uint8Array;
  readonly head: number;
  readonly floor: number;
  readonly bytes: number;
  readonly blobs: number;
  readonly quota_bytes: number;
  readonly membership_count: number;
  readonly membership_head: Uint8Array;
  readonly epoch: number;
  readonly suspended: number;
  readonly label: string | null;
  readonly active_devices: number;
  readonly last_seen_ms: number | null;
}

export function groupListing(row: GroupListingColumns): GroupListing {
  return {
    group: {
      groupKey: row.group_key,
      groupId: plain(row.group_id),
      logId: plain(row.log_id),
      head: row.head,
      floor: row.floor,
      bytes: row.bytes,
      blobs: row.blobs,
      quotaBytes: row.quota_bytes,
      membershipCount: row.membership_count,
      membershipHead: plain(row.membership_head),
      epoch: row.epoch,
      suspended: row.suspended !== 0,
      ...lifeOf(row),
    },
    label: row.label ?? "",
    activeDevices: row.active_devices,
    lastSeenMs: row.last_seen_ms ?? 0,
  };
}

export const relaySql = `
SELECT groups, blobs, bytes, last_group_key, last_device_key, last_snapshot_key, last_object_key,
  invites_made, age_s, clock_ms,
  (SELECT freelist_count FROM pragma_freelist_count) AS free_pages,
  (SELECT page_size FROM pragma_page_size) AS page_bytes
FROM relay`;

export interface RelayColumns {
  readonly groups: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly last_group_key: number;
  readonly last_device_key: number;
  readonly last_snapshot_key: number;
  readonly last_object_key: number;
  readonly clock_ms: number;
  readonly invites_made: number;
  readonly age_s: number;
  readonly free_pages: number;
  readonly page_bytes: number;
}

/** A `Buffer` of the library as the plain array the contract names. */
function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
