/**
 * A backup: one SQLite file, the store at one moment, with a table of its own
 * that says what it is and, where that was asked for, holds the relay's key.
 *
 * It is copied by SQLite's online backup in slices, from a connection that stays
 * in one read transaction: what is committed meanwhile goes into the write-ahead
 * log beside it, so the copy is one moment of the store, no commit waits for it,
 * and it never begins anew. The file gets its name when all of it is on disk.
 */
import { open, readdir, rename, rm, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { softwareVersion } from "../../wire/protocol.ts";
import { createFile, fileBytes, syncFolder } from "./private-files.ts";
import { SqliteConnection } from "./sqlite-connection.ts";
import { storeError, storeUnavailable } from "./store-errors.ts";
import type { OnCopied } from "./upkeep.ts";

/** Pages of one slice: about a megabyte. */
const pagesPerSlice = 256;
/** What must stay free on the disk beside a copy, in bytes. */
const spareBytes = 8 * 1024 * 1024;

export interface BackupOptions {
  /** The store's file. */
  readonly source: string;
  /** Where the backup goes; nothing may be there. */
  readonly target: string;
  /** The relay's key as its file holds it, to be put into the backup. */
  readonly identity?: string | undefined;
  /** Milliseconds since the Unix epoch, for people. */
  readonly madeMs: number;
  readonly onCopied?: OnCopied;
  readonly signal?: AbortSignal;
}

/** What a backup says of itself. */
export interface BackupNote {
  readonly madeMs: number;
  /** The version that made it. */
  readonly version: string;
  readonly identity: string | undefined;
}

/** Makes a backup; resolves when it is on disk under its name. */
export async function makeBackup(options: BackupOptions): Promise<void> {
  const { source, target, signal } = options;
  const partial = partialName(target);
  await insistOnSpace(dirname(target), await storeBytes(source));
  await rm(partial, { force: true });
  await createFile(partial);
  try {
    await copyMoment(source, partial, (done, all) => {
      signal?.throwIfAborted();
      options.onCopied?.(done, all);
    });
    await writeNote(partial, options);
    await syncFile(partial);
    signal?.throwIfAborted();
    await rename(partial, target);
    await syncFolder(dirname(target));
  } catch (error) {
    await removeDatabase(partial);
    throw error;
  }
}

/** What copies are called before they are whole; and what a process that was killed leaves behind. */
function partialName(target: string): string {
  return `${target}.partial`;
}

/** What copies on their way to somebody are called in a data folder; `name`: 16 hexadecimal digits. */
export function passingName(name: string): string {
  return `backup-${name}`;
}

/** Only what can be nobody else's: an operator may keep backups of his own in the same folder. */
const passing = /^backup-[0-9a-f]{16}(?:\.partial)?(?:-journal|-wal|-shm)?$/;

/** Removes what killed processes left of copies on their way in a data folder. */
export async function removePassing(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (passing.test(name)) await rm(join(folder, name), { force: true });
  }
}

async function copyMoment(source: string, target: string, onCopied: OnCopied): Promise<void> {
  const connection = await SqliteConnection.open(source);
  try {
    const [page] = await connection.query<{ readonly page_size: number }>("PRAGMA page_size");
    const pageBytes = page?.page_size ?? 4_096;
    await connection.exec("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON; BEGIN");
    // The moment is that of the first look, not of BEGIN.
    await connection.query("SELECT count(*) FROM sqlite_schema");
    await connection.copyTo(target, pagesPerSlice, (done, all) =>
      onCopied(done * pageBytes, all * pageBytes),
    );
    await connection.exec("COMMIT");
  } finally {
    await connection.close();
  }
}

/** Makes the copy one file that needs no others, and writes into it what it is. */
async function writeNote(path: string, options: BackupOptions): Promise<void> {
  const connection = await SqliteConnection.open(path);
  try {
    await connection.exec(`
      PRAGMA journal_mode = DELETE;
      PRAGMA synchronous = FULL;
      CREATE TABLE backup (
        id        INTEGER PRIMARY KEY CHECK (id = 1),
        made_ms   INTEGER NOT NULL,
        version   TEXT NOT NULL,
        identity  TEXT
      ) STRICT;
    `);
    const insert = await connection.prepare("INSERT INTO backup VALUES (1, ?, ?, ?)");
    await insert.run([options.madeMs, softwareVersion, options.identity ?? null]);
  } finally {
    await connection.close();
  }
}

/** What a file says of itself; undefined where it is no backup. */
export async function readNote(connection: SqliteConnection): Promise<BackupNote | undefined> {
  if (!(await isBackup(connection))) return undefined;
  const [row] = await connection.query<{
    readonly made_ms: number;
    readonly version: string;
    readonly identity: string | null;
  }>("SELECT made_ms, version, identity FROM backup");
  if (row === undefined) return undefined;
  return { madeMs: row.made_ms, version: row.version, identity: row.identity ?? undefined };
}

/** Whether a store is a backup, which devices must not meet before it was restored. */
export async function isBackup(connection: SqliteConnection): Promise<boolean> {
  const rows = await connection.query(
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'backup'",
  );
  return rows.length > 0;
}

/** The bytes of a store's files. */
async function storeBytes(path: string): Promise<number> {
  const bytes = await fileBytes(path);
  if (bytes === 0) throw storeUnavailable(`no store is at ${path}: name a relay's folder`);
  return bytes + (await fileBytes(`${path}-wal`));
}

/** Refuses where a disk has not so much room: better before than in the middle. */
export async function insistOnSpace(folder: string, bytes: number): Promise<void> {
  let free: number;
  try {
    const disk = await statfs(folder);
    free = disk.bavail * disk.bsize;
  } catch (error) {
    throw storeError(error);
  }
  if (free >= bytes + spareBytes) return;
  const short = Math.ceil((bytes + spareBytes - free) / 1024 ** 2);
  throw storeUnavailable(
    `a copy of the store does not fit on the disk of ${folder}: make ${short} MiB more room`,
  );
}

/** Waits until a file is on disk. */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Removes a database and what SQLite keeps beside it. */
export async function removeDatabase(path: string): Promise<void> {
  for (const end of ["", "-journal", "-wal", "-shm"]) await rm(`${path}${end}`, { force: true });
}

/** A time as a part of a file's name: `20261124T143000Z`. */
export function stamp(ms: number): string {
  return new Date(ms).toISOString().replaceAll(/[-:]|\.\d+/g, "");
}
