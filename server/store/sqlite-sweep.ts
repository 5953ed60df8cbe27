/**
 * Gives back what deleted groups hold on disk, piece by piece: each piece is a
 * transaction of its own, between the commits that ask for the connection too.
 */
import type { SqliteConnection } from "./sqlite-connection.ts";

/** Free pages that one piece gives back to the file system. */
const vacuumPages = 1_000;

/** One piece. True where there is more. */
export async function sweepDeleted(writer: SqliteConnection, rowsMax: number): Promise<boolean> {
  const [next] = await writer.query<{ readonly group_key: number }>(
    "SELECT group_key FROM deleted_groups LIMIT 1",
  );
  if (next === undefined) return false;
  const key = next.group_key;
  const [left] = await writer.query<{ readonly blobs: number; readonly control: number }>(`
    SELECT (SELECT count(*) FROM (SELECT 1 FROM blobs WHERE group_key = ${key} LIMIT 1)) AS blobs,
      (SELECT count(*) FROM (SELECT 1 FROM control WHERE group_key = ${key} LIMIT 1)) AS control`);
  if (left !== undefined && left.blobs > 0) {
    await writer.exec(`DELETE FROM blobs WHERE rowid IN
      (SELECT rowid FROM blobs WHERE group_key = ${key} LIMIT ${Math.max(1, rowsMax)})`);
  } else if (left !== undefined && left.control > 0) {
    await writer.exec(`DELETE FROM control WHERE rowid IN
      (SELECT rowid FROM control WHERE group_key = ${key} LIMIT ${Math.max(1, rowsMax)})`);
  } else {
    await writer.exec(`DELETE FROM deleted_groups WHERE group_key = ${key}`);
  }
  await writer.exec(`PRAGMA incremental_vacuum(${vacuumPages})`);
  return true;
}
