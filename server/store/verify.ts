/**
 * Looks at every row of a store: whether the file is whole, whether the chains
 * that devices rely on hold, and whether the counters say what is there. It
 * recomputes what can be computed without a key: the hash of every control blob
 * and every object, and the link of every blob.
 *
 * A store that is in use is looked at as of one moment, beside the commits.
 */
import { decodeHeader } from "../../wire/blob-header.ts";
import { equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { blobLink, zeroLink } from "../../wire/ids.ts";
import { SqliteConnection, type SqlStatement } from "./sqlite-connection.ts";
import type { Finding, Verification, VerifyOptions } from "./upkeep.ts";
import { verifyLife } from "./verify-life.ts";

/** Findings that are told; who has so many needs no more. */
export const findingsMax = 100;

/** What a blob and a control blob count beside their bytes. */
const overheadBytes = 96;
/** Rows read at a time: between two the event loop is free. */
const pageRows = 500;

/** Verifies the store at a path. A file that is no database at all is an error, everything else a finding. */
export async function verifyStore(
  path: string,
  options: VerifyOptions & { readonly readOnly?: boolean } = {},
): Promise<Verification> {
  const connection = await SqliteConnection.open(path, { readOnly: options.readOnly === true });
  try {
    await connection.exec("PRAGMA busy_timeout = 5000; BEGIN");
    return await new Verifier(connection, options).run();
  } finally {
    await connection.close();
  }
}

interface GroupColumns {
  readonly group_key: number;
  readonly group_id: Uint8Array;
  readonly head: number;
  readonly floor: number;
  readonly bytes: number;
  readonly snapshot_bytes: number;
  readonly control_bytes: number;
  readonly replaced_through: number;
  readonly blobs: number;
  readonly membership_count: number;
  readonly membership_head: Uint8Array;
  readonly epoch: number;
}

interface DeviceColumns {
  readonly device_key: number;
  readonly device_id: Uint8Array;
  readonly last_seq: number;
  readonly last_link: Uint8Array;
  readonly last_cursor: number;
}

interface BlobColumns {
  readonly cursor: number;
  readonly device_key: number;
  readonly seq: number;
  readonly prior_cursor: number;
  readonly link: Uint8Array;
  readonly blob_id: Uint8Array;
  readonly header: Uint8Array;
  readonly bytes: number;
}

interface ControlColumns {
  readonly number: number;
  readonly epoch: number;
  readonly head: Uint8Array;
  readonly bytes: Uint8Array;
}

/** Where a sender's chain stands. */
interface Place {
  readonly seq: number;
  readonly cursor: number;
  readonly link: Uint8Array;
}

class Verifier {
  readonly #connection: SqliteConnection;
  readonly #options: VerifyOptions;
  readonly #findings: Finding[] = [];
  #control: SqlStatement | undefined;
  #log: SqlStatement | undefined;
  #devices = 0;
  #blobs = 0;
  #controlBlobs = 0;
  #doneRows = 0;
  #allRows = 0;

  constructor(connection: SqliteConnection, options: VerifyOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  async run(): Promise<Verification> {
    const schema = await this.#number("PRAGMA user_version", "user_version");
    await this.#guarded(undefined, "the file's structure", () => this.#structure());
    let groups: readonly GroupColumns[] = [];
    await this.#guarded(undefined, "the groups", async () => {
      groups = await this.#connection.query<GroupColumns>(
        `SELECT group_key, group_id, head, floor, bytes, ${
          schema < 2
            ? "0 AS snapshot_bytes, 0 AS control_bytes, 0 AS replaced_through"
            : "snapshot_bytes, control_bytes, replaced_through"
        }, blobs, membership_count, membership_head, epoch FROM groups ORDER BY group_key`,
      );
      this.#allRows = groups.reduce((sum, row) => sum + row.blobs + row.membership_count, 0);
    });
    for (const group of groups) {
      const counted = { log: 0, control: 0 };
      await this.#guarded(group.group_id, "its membership", async () => {
        counted.control = await this.#readControl(group);
      });
      await this.#guarded(group.group_id, "its log", async () => {
        counted.log = await this.#readLog(group);
      });
      if (schema < 2) continue;
      await this.#guarded(group.group_id, "its objects and snapshots", () =>
        verifyLife(
          this.#connection,
          group,
          counted,
          (text) => this.#find(group.group_id, text),
          () => this.#advance(0),
        ),
      );
    }
    await this.#guarded(undefined, "the counters", () => this.#counters(groups));
    return {
      schema,
      groups: groups.length,
      devices: this.#devices,
      blobs: this.#blobs,
      controlBlobs: this.#controlBlobs,
      findings: this.#findings,
    };
  }

  #find(groupId: Uint8Array | undefined, text: string): void {
    if (this.#findings.length >= findingsMax) return;
    this.#findings.push({
      groupId: groupId === undefined ? undefined : new Uint8Array(groupId),
      text,
    });
  }

  /** Runs a part; where the file cannot be read there, that is what was found. */
  async #guarded(
    groupId: Uint8Array | undefined,
    what: string,
    part: () => Promise<void>,
  ): Promise<void> {
    try {
      await part();
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      if (error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE) {
        const cause = error.cause instanceof Error ? error.cause.message : error.message;
        this.#find(groupId, `${what} cannot be read: ${cause}`);
      } else if (error instanceof RangeError || error instanceof SyncError) {
        this.#find(groupId, `${what} holds what no version wrote: ${error.message}`);
      } else throw error;
    }
  }

  async #number(sql: string, name: string): Promise<number> {
    const [row] = await this.#connection.query<Readonly<Record<string, number>>>(sql);
    return row?.[name] ?? 0;
  }

  async #structure(): Promise<void> {
    const rows = await this.#connection.query<{ readonly integrity_check: string }>(
      `PRAGMA integrity_check(${findingsMax})`,
    );
    for (const { integrity_check: text } of rows) {
      if (text !== "ok") this.#find(undefined, `the file is damaged: ${text}`);
    }
  }

  /** Gives back what the chain counts, in bytes. */
  async #readControl(group: GroupColumns): Promise<number> {
    this.#control ??= await this.#connection.prepare(
      `SELECT number, epoch, head, bytes FROM control
        WHERE group_key = ? AND number > ? ORDER BY number LIMIT 100`,
    );
    let number = 0;
    let bytes = 0;
    let last: ControlColumns | undefined;
    for (;;) {
      const rows = await this.#control.all<ControlColumns>([group.group_key, number]);
      for (const row of rows) {
        number += 1;
        bytes += row.bytes.byteLength + overheadBytes;
        if (row.number !== number) {
          this.#find(group.group_id, `membership change ${number} is missing`);
          number = row.number;
        }
        if (!equalBytes(blake2b256(row.bytes), row.head)) {
          this.#find(group.group_id, `membership change ${number} was altered`);
        }
        if (last !== undefined && row.epoch < last.epoch) {
          this.#find(group.group_id, `membership change ${number} goes back to an older epoch`);
        }
        last = row;
      }
      this.#controlBlobs += rows.length;
      this.#advance(rows.length);
      if (rows.length === 0) break;
    }
    if (number !== group.membership_count) {
      this.#find(
        group.group_id,
        `it has ${number} membership changes and says ${group.membership_count}`,
      );
    } else if (last !== undefined) {
      if (!equalBytes(last.head, group.membership_head) || last.epoch !== group.epoch) {
        this.#find(group.group_id, "it names another newest membership change than it has");
      }
    }
    return bytes;
  }

  /** Gives back what the log counts, in bytes. */
  async #readLog(group: GroupColumns): Promise<number> {
    const { group_id: groupId, group_key: groupKey } = group;
    const devices = await this.#connection.query<DeviceColumns>(
      `SELECT device_key, device_id, last_seq, last_link, last_cursor FROM devices
        WHERE group_key = ${groupKey}`,
    );
    this.#devices += devices.length;
    const senders = new Map(devices.map((row) => [row.device_key, row]));
    const places = new Map<number, Place>();
    this.#log ??= await this.#connection.prepare(
      `SELECT cursor, device_key, seq, prior_cursor, link, blob_id, header,
          length(header) + length(signature) + length(body) AS bytes FROM blobs
        WHERE group_key = ? AND cursor > ? ORDER BY cursor LIMIT ${pageRows}`,
    );
    let rows = 0;
    let bytes = 0;
    let cursor = 0;
    for (;;) {
      const page = await this.#log.all<BlobColumns>([groupKey, cursor]);
      for (const row of page) {
        // What was trimmed lies at or below the floor; above it nothing is ever left out.
        if (row.cursor > group.floor && row.cursor !== Math.max(cursor, group.floor) + 1) {
          this.#find(
            groupId,
            `blobs are missing between cursor ${Math.max(cursor, group.floor)} and ${row.cursor}`,
          );
        }
        cursor = row.cursor;
        bytes += row.bytes + overheadBytes;
        this.#blob(group, row, senders.get(row.device_key), places);
      }
      rows += page.length;
      this.#advance(page.length);
      if (page.length === 0) break;
    }
    this.#blobs += rows;
    if (Math.max(cursor, group.floor) !== group.head) {
      this.#find(groupId, `its log ends at cursor ${cursor} and says ${group.head}`);
    }
    if (rows !== group.blobs) this.#find(groupId, `it has ${rows} blobs and says ${group.blobs}`);
    for (const [deviceKey, place] of places) {
      const sender = senders.get(deviceKey);
      if (sender === undefined) continue;
      if (
        sender.last_seq !== place.seq ||
        sender.last_cursor !== place.cursor ||
        !equalBytes(sender.last_link, place.link)
      ) {
        this.#find(groupId, `a device's row and its newest blob (cursor ${place.cursor}) differ`);
      }
    }
    for (const sender of devices) {
      if (sender.last_cursor > group.floor && !places.has(sender.device_key)) {
        this.#find(
          groupId,
          `the newest blob of a device (cursor ${sender.last_cursor}) is missing`,
        );
      }
    }
    return bytes;
  }

  #blob(
    group: GroupColumns,
    row: BlobColumns,
    sender: DeviceColumns | undefined,
    places: Map<number, Place>,
  ): void {
    const { group_id: groupId } = group;
    if (sender === undefined) {
      this.#find(groupId, `the sender of the blob at cursor ${row.cursor} is not in the group`);
      return;
    }
    const header = decodeHeader(row.header, ErrorCode.ENVELOPE_INVALID);
    const link = blobLink(groupId, sender.device_id, row.blob_id, row.header);
    const altered = header.seq !== row.seq || !equalBytes(link, row.link);
    if (altered) this.#find(groupId, `the blob at cursor ${row.cursor} was altered`);
    const before = places.get(row.device_key);
    if (before !== undefined) {
      // A sender may resume higher after a restore; it never goes back, and steps of one are chained.
      const chained =
        row.prior_cursor === before.cursor &&
        row.seq > before.seq &&
        (row.seq !== before.seq + 1 || equalBytes(header.previousLink, before.link));
      if (!chained) this.#find(groupId, `a sender's chain breaks at cursor ${row.cursor}`);
    } else if (row.seq === 1 && !equalBytes(header.previousLink, zeroLink)) {
      this.#find(groupId, `a sender's first blob, at cursor ${row.cursor}, follows another`);
    } else if (row.prior_cursor > group.floor) {
      this.#find(groupId, `the blob before that at cursor ${row.cursor} is missing`);
    }
    places.set(row.device_key, { seq: row.seq, cursor: row.cursor, link: row.link });
  }

  async #counters(groups: readonly GroupColumns[]): Promise<void> {
    const [relay] = await this.#connection.query<{
      readonly groups: number;
      readonly blobs: number;
      readonly bytes: number;
      readonly last_group_key: number;
      readonly last_device_key: number;
    }>("SELECT groups, blobs, bytes, last_group_key, last_device_key FROM relay");
    if (relay === undefined) {
      this.#find(undefined, "the row of the store's counters is missing");
      return;
    }
    const sum = (of: (group: GroupColumns) => number): number =>
      groups.reduce((total, group) => total + of(group), 0);
    for (const [what, says, is] of [
      ["groups", relay.groups, groups.length],
      ["blobs", relay.blobs, sum((group) => group.blobs)],
      ["bytes", relay.bytes, sum((group) => group.bytes + group.snapshot_bytes)],
    ] as const) {
      if (says !== is) this.#find(undefined, `the store counts ${says} ${what} and has ${is}`);
    }
    const highest = await this.#number("SELECT max(device_key) AS key FROM devices", "key");
    if (highest > relay.last_device_key || (groups.at(-1)?.group_key ?? 0) > relay.last_group_key) {
      this.#find(undefined, "keys were given that the store does not know of");
    }
    const strays = await this.#number(
      `SELECT count(*) AS rows FROM (SELECT 1 FROM blobs
        WHERE group_key NOT IN (SELECT group_key FROM groups)
          AND group_key NOT IN (SELECT group_key FROM deleted_groups) LIMIT 1)`,
      "rows",
    );
    if (strays > 0) this.#find(undefined, "blobs of no group are in the store");
  }

  #advance(rows: number): void {
    this.#options.signal?.throwIfAborted();
    this.#doneRows += rows;
    this.#options.onProgress?.(Math.min(this.#doneRows, this.#allRows), this.#allRows);
  }
}
