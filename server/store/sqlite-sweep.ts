/**
 * Gives back what deleted groups and dropped objects hold on disk, and the pages
 * that trimming freed, piece by piece: each piece is a transaction of its own,
 * between the commits that ask for the connection too.
 */
import type { SqliteConnection } from "./sqlite-connection.ts";
import { chunksMax } from "./sqlite-life-commit.ts";

/** Free pages that one piece gives back to the file system. */
const vacuumPages = 1_000;
/**
 * Free pages that may stay in the file: a log that is trimmed as it grows would else be cut short and
 * made longer all the time. A sixteenth of the file, so that a small store stays small; where there are
 * more, all of them go.
 */
const spare = { share: 1 / 16, pagesMin: 8, pagesMax: 256 };
/** Chunks that one piece takes away: four megabytes. */
const sweepChunks = 64;

/**
 * The tables that hold what a group leaves behind; what lies in objects goes by `dropped_objects`, and
 * expiries, which stand in the order of time, are looked through once, at the end.
 */
const tables = ["blobs", "control", "deletes", "snapshots"];

/** About what a piece adds to the write-ahead log, in bytes: a page that moves takes others with it. */
export const sweptLogBytes: number = 2 * (vacuumPages + spare.pagesMax) * 4_096;

/** What a piece came to: whether it wrote anything, and whether there is more. */
export interface SweptPiece {
  readonly wrote: boolean;
  readonly more: boolean;
}

/** One piece. `small`: the log has little room to grow. */
export async function sweep(
  writer: SqliteConnection,
  rowsMax: number,
  small = false,
): Promise<SweptPiece> {
  const found = (await sweepGroup(writer, rowsMax)) || (await sweepObject(writer));
  const { wrote, more } = await giveBack(writer, small, found);
  return { wrote: wrote || found, more: more || found };
}

async function sweepGroup(writer: SqliteConnection, rowsMax: number): Promise<boolean> {
  const [next] = await writer.query<{ readonly group_key: number }>(
    "SELECT group_key FROM deleted_groups LIMIT 1",
  );
  if (next === undefined) return false;
  const key = next.group_key;
  for (const table of tables) {
    const [left] = await writer.query(`SELECT 1 FROM ${table} WHERE group_key = ${key} LIMIT 1`);
    if (left === undefined) continue;
    if (table === "deletes" || table === "snapshots") {
      await writer.exec(`
        DELETE FROM object_references WHERE holder IN (
          SELECT -snapshot_key FROM snapshots WHERE group_key = ${key});
        DELETE FROM ${table} WHERE group_key = ${key}`);
    } else {
      await writer.exec(`DELETE FROM ${table} WHERE rowid IN
        (SELECT rowid FROM ${table} WHERE group_key = ${key} LIMIT ${Math.max(1, rowsMax)})`);
    }
    return true;
  }
  // Each by itself, in an order that may end anywhere and begins again.
  await writer.exec(`
    DELETE FROM expiries WHERE group_key = ${key};
    INSERT OR IGNORE INTO dropped_objects SELECT object_key, durable_bytes FROM objects
      WHERE group_key = ${key};
    DELETE FROM object_references WHERE object_key IN (
      SELECT object_key FROM objects WHERE group_key = ${key});
    DELETE FROM objects WHERE group_key = ${key};
    DELETE FROM deleted_groups WHERE group_key = ${key}`);
  return true;
}

async function sweepObject(writer: SqliteConnection): Promise<boolean> {
  const [next] = await writer.query<{ readonly object_key: number }>(
    "SELECT object_key FROM dropped_objects LIMIT 1",
  );
  if (next === undefined) return false;
  const first = next.object_key * chunksMax;
  const within = `chunk_key >= ${first} AND chunk_key < ${first + chunksMax}`;
  const [left] = await writer.query(`SELECT 1 FROM object_chunks WHERE ${within} LIMIT 1`);
  await writer.exec(
    left === undefined
      ? `DELETE FROM dropped_objects WHERE object_key = ${next.object_key}`
      : `DELETE FROM object_chunks WHERE chunk_key IN
          (SELECT chunk_key FROM object_chunks WHERE ${within} LIMIT ${sweepChunks})`,
  );
  return true;
}

/** Gives a piece of the free pages back, where there are more than may stay, or `all` are to go. */
async function giveBack(
  writer: SqliteConnection,
  small: boolean,
  all: boolean,
): Promise<SweptPiece> {
  const [row] = await writer.query<{ readonly free: number; readonly pages: number }>(
    `SELECT (SELECT freelist_count FROM pragma_freelist_count) AS free,
      (SELECT page_count FROM pragma_page_count) AS pages`,
  );
  const { free, pages } = row ?? { free: 0, pages: 0 };
  const mayStay = Math.min(
    Math.max(Math.floor((pages - free) * spare.share), spare.pagesMin),
    spare.pagesMax,
  );
  if (free <= (all ? 0 : mayStay)) return { wrote: false, more: false };
  // The last piece takes what would stay behind it.
  const most = small ? vacuumPages / 10 : vacuumPages;
  const piece = free <= most + mayStay ? free : most;
  await writer.exec(`PRAGMA incremental_vacuum(${piece})`);
  return { wrote: true, more: free > piece };
}
