/**
 * Puts a backup in place of a store, or where none is. Every group gets a new
 * log id, so that its devices see that the log is another one, and bring what it
 * lacks. What was there before is kept beside.
 *
 *   copy into the folder → verify → new log ids → keep the old beside → rename
 *
 * Only the last step changes what a relay would find; before it, everything can
 * fail and nothing has happened.
 */
import { copyFile, link, mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { identityText, writeIdentity } from "../identity.ts";
import {
  type BackupNote,
  insistOnSpace,
  readNote,
  removeDatabase,
  stamp,
  syncFile,
} from "./backup.ts";
import { type FolderLock, lockFolder } from "./folder-lock.ts";
import { insistOnSchema, migrationsFolder } from "./migrate.ts";
import { createFile, createFolder, fileBytes, syncFolder } from "./private-files.ts";
import { SqliteConnection } from "./sqlite-connection.ts";
import { databaseName } from "./sqlite-store.ts";
import { storeError, storeUnavailable } from "./store-errors.ts";
import type { Verification, VerifyOptions } from "./upkeep.ts";
import { verifyStore } from "./verify.ts";

export interface RestoreOptions extends VerifyOptions {
  /** The backup, not encrypted. */
  readonly backup: string;
  /** The data folder; made where there is none. */
  readonly folder: string;
  /** Puts it in place of a store that is there, which is kept beside. */
  readonly replace?: boolean;
  /** Names what is kept beside. */
  readonly nowMs: number;
}

/** What was restored. */
export interface Restored {
  readonly note: BackupNote;
  readonly verification: Verification;
  /** Where the store that was there is kept; undefined where there was none. */
  readonly kept: string | undefined;
  /**
   * Which key the relay has now: the backup's, the one that was there, or none, so that the first start
   * draws one and every device must be given a new address.
   */
  readonly identity: "from backup" | "kept" | "none";
}

/** A backup that does not verify: nothing was changed. */
export class DamagedBackupError extends Error {
  override readonly name = "DamagedBackupError";
  readonly verification: Verification;

  constructor(verification: Verification) {
    super("the backup is damaged");
    this.verification = verification;
  }
}

/** Restores a backup into a data folder that no relay uses. */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const { backup, folder } = options;
  await createFolder(folder);
  const lock: FolderLock = await lockFolder(folder);
  try {
    const database = join(folder, databaseName);
    const there = (await fileBytes(database)) > 0;
    if (there && options.replace !== true) {
      throw storeUnavailable(
        `${folder} holds a store already: name another folder with --data, or add --replace, which keeps the old one beside`,
      );
    }
    const incoming = `${database}.incoming`;
    try {
      await bringIn(backup, incoming, folder);
      const verification = await verifyStore(incoming, options);
      if (verification.findings.length > 0) throw new DamagedBackupError(verification);
      const note = await becomeStore(incoming);
      await syncFile(incoming);
      const kept = there ? await keepBeside(folder, options.nowMs) : undefined;
      const identity = await placeIdentity(folder, note, kept);
      await rename(incoming, database);
      await syncFolder(folder);
      return { note, verification, kept, identity };
    } catch (error) {
      await removeDatabase(incoming);
      throw error;
    }
  } finally {
    await lock.release();
  }
}

/** Copies a backup into the folder, and insists that it is one that this version can read. */
async function bringIn(backup: string, incoming: string, folder: string): Promise<void> {
  await insistOnSpace(folder, await sizeOf(backup));
  await removeDatabase(incoming);
  await createFile(incoming);
  await copyFile(backup, incoming);
  const connection = await SqliteConnection.open(incoming);
  try {
    await insistOnSchema(connection, backup, migrationsFolder);
    if ((await readNote(connection)) === undefined) {
      throw storeUnavailable(`${backup} is no backup: name a file that sync-relay backup made`);
    }
  } finally {
    await connection.close();
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    throw storeError(error);
  }
}

/** Makes a store of a backup: without its note, with a new log id for each group. */
async function becomeStore(path: string): Promise<BackupNote> {
  const connection = await SqliteConnection.open(path);
  try {
    const note = await readNote(connection);
    if (note === undefined) throw new Error("the backup has lost its note");
    // One of an older version is migrated when the relay starts on it.
    const lives = (await connection.query("PRAGMA table_info(snapshots)")).length > 0;
    // SQLite seeds its generator from the system's; each row gets bytes of its own.
    await connection.exec(`
      PRAGMA synchronous = FULL;
      PRAGMA secure_delete = ON;
      BEGIN IMMEDIATE;
      UPDATE groups SET log_id = randomblob(16);
      ${lives ? withoutWaitingSnapshots : ""}
      DROP TABLE backup;
      COMMIT;
    `);
    return note;
  } finally {
    await connection.close();
  }
}

/** Who made a snapshot that is not effective made it of the log that was. */
const withoutWaitingSnapshots = `
  UPDATE groups SET snapshot_bytes = snapshot_bytes - (
    SELECT coalesce(sum(length(manifest) + 256), 0) FROM snapshots s
    WHERE s.group_key = groups.group_key AND s.effective = 0);
  DELETE FROM object_references WHERE holder IN (
    SELECT -snapshot_key FROM snapshots WHERE effective = 0);
  DELETE FROM snapshots WHERE effective = 0;
  UPDATE objects SET passing = 1 WHERE part = 1 AND NOT EXISTS (
    SELECT 1 FROM object_references r WHERE r.object_key = objects.object_key);`;

/** Keeps the store that is there, whole, in a folder of its own beside it. */
async function keepBeside(folder: string, nowMs: number): Promise<string> {
  const database = join(folder, databaseName);
  // Closing it moves its write-ahead log into it; where it is damaged the log is kept as it is.
  await settle(database).catch(() => undefined);
  const kept = await newFolder(join(folder, `replaced-${stamp(nowMs)}`));
  const beside = join(kept, databaseName);
  // By a second name, so that there is a store at every moment; some file systems have only one.
  await link(database, beside).catch(async () => await copyFile(database, beside));
  for (const end of ["-wal", "-shm"]) {
    // An old log would be applied to the new store.
    if ((await fileBytes(`${database}${end}`)) > 0) {
      await rename(`${database}${end}`, `${beside}${end}`);
    }
  }
  await removeLogs(database);
  await syncFolder(kept);
  return kept;
}

/** A folder of that name, or of the next one that is free: what was kept before stays. */
async function newFolder(name: string): Promise<string> {
  for (let number = 1; ; number++) {
    const path = number === 1 ? name : `${name}-${number}`;
    try {
      await mkdir(path, { mode: 0o700 });
      return path;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
  }
}

async function settle(database: string): Promise<void> {
  const connection = await SqliteConnection.open(database);
  try {
    await connection.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } finally {
    await connection.close();
  }
}

async function removeLogs(database: string): Promise<void> {
  await Promise.all(["-wal", "-shm"].map((end) => removeDatabase(`${database}${end}`)));
}

/** The key of the backup where it holds one, else the one that is there. */
async function placeIdentity(
  folder: string,
  note: BackupNote,
  kept: string | undefined,
): Promise<Restored["identity"]> {
  const present = await identityText(folder);
  if (note.identity === undefined) return present === undefined ? "none" : "kept";
  if (present === note.identity) return "from backup";
  if (present !== undefined) {
    if (kept === undefined) {
      throw storeUnavailable(
        `${folder} holds the key of another relay: name another folder with --data`,
      );
    }
    await writeIdentity(kept, present);
  }
  await writeIdentity(folder, note.identity);
  return "from backup";
}
