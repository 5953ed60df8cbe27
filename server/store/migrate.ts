/**
 * Brings a store to the schema this version knows: numbered SQL files, each in a
 * transaction of its own, the number kept in the file's `user_version`. Before
 * an existing store is changed a backup of it is made beside it; a store that is
 * newer than this version is refused, with the way back.
 */
import { readdir, readFile, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { isBackup, makeBackup, stamp } from "./backup.ts";
import { fileBytes } from "./private-files.ts";
import type { SqliteConnection } from "./sqlite-connection.ts";
import { storeError, storeUnavailable } from "./store-errors.ts";

/** "SynR": what the first migration marks a store with. */
const applicationId = 0x53796e52;

interface Migration {
  readonly version: number;
  readonly sql: string;
}

/** Where the migrations of this version lie. */
export const migrationsFolder: URL = new URL("./migrations/", import.meta.url);

/**
 * Applies what is missing. Gives back the path of the backup that was made of an
 * existing store; undefined where nothing had to change or there was none.
 */
export async function migrate(
  connection: SqliteConnection,
  databasePath: string,
  folder: URL,
  nowMs: number,
): Promise<string | undefined> {
  const { migrations, from, newest } = await insistOnSchema(connection, databasePath, folder);
  if (from > 0 && (await isBackup(connection))) {
    throw storeUnavailable(
      `${databasePath} is a backup that was copied here: restore it with sync-relay restore FILE --data ${dirname(databasePath)}, so that devices notice`,
    );
  }
  if (from === newest) return undefined;
  const copy = from > 0 ? await copyStore(databasePath, from, nowMs) : undefined;
  for (const migration of migrations) {
    if (migration.version > from) await apply(connection, migration);
  }
  return copy;
}

interface KnownSchema {
  readonly migrations: readonly Migration[];
  /** The schema of the file; 0 where it is empty. */
  readonly from: number;
  /** The newest one of this version. */
  readonly newest: number;
}

/** Refuses a file that is no store, or one of a newer version. */
export async function insistOnSchema(
  connection: SqliteConnection,
  databasePath: string,
  folder: URL,
): Promise<KnownSchema> {
  const migrations = await readMigrations(folder);
  const newest = migrations.at(-1)?.version ?? 0;
  const from = await pragma(connection, "user_version");
  const marked = await pragma(connection, "application_id");
  if (from > 0 && marked !== applicationId) {
    throw storeUnavailable(
      `${databasePath} is not a store of this relay: name another data folder`,
    );
  }
  if (from > newest) {
    const copy = await newestCopy(databasePath, newest);
    const back =
      copy === undefined
        ? "run that version again, or restore a backup that this version made"
        : `run that version again, or go back with sync-relay restore ${copy} --data ${dirname(databasePath)} --replace`;
    throw storeUnavailable(
      `${databasePath} was written by a newer version (schema ${from}, this one knows ${newest}): ${back}`,
    );
  }
  return { migrations, from, newest };
}

async function readMigrations(folder: URL): Promise<readonly Migration[]> {
  const names = (await readdir(folder)).filter((name) => /^\d{4}-[a-z0-9-]+\.sql$/.test(name));
  return await Promise.all(
    names.sort().map(async (name) => ({
      version: Number(name.slice(0, 4)),
      sql: await readFile(new URL(name, folder), "utf8"),
    })),
  );
}

async function apply(connection: SqliteConnection, migration: Migration): Promise<void> {
  try {
    await connection.exec(
      `BEGIN IMMEDIATE;\n${migration.sql}\n;PRAGMA user_version = ${migration.version};\nCOMMIT`,
    );
  } catch (error) {
    // Some failures have rolled back already, and then there is nothing left to roll back.
    await connection.exec("ROLLBACK").catch(() => undefined);
    throw storeError(error);
  }
}

/** A backup, named by the schema and the time, beside the store. An earlier one is never written over. */
async function copyStore(databasePath: string, version: number, nowMs: number): Promise<string> {
  await removePartialCopies(databasePath);
  const name = `${databasePath}.schema-${version}-${stamp(nowMs)}`;
  let copy = name;
  for (let number = 2; (await fileBytes(copy)) > 0; number++) copy = `${name}-${number}`;
  await makeBackup({ source: databasePath, target: copy, madeMs: nowMs });
  return copy;
}

/** Removes what copies that were cut short by a kill have left: nobody ever goes on with one. */
async function removePartialCopies(databasePath: string): Promise<void> {
  const folder = dirname(databasePath);
  const prefix = `${basename(databasePath)}.schema-`;
  for (const name of await readdir(folder)) {
    if (name.startsWith(prefix) && /\.partial(?:-journal|-wal|-shm)?$/.test(name)) {
      await rm(join(folder, name), { force: true });
    }
  }
}

/** The newest copy that was made of a schema; undefined where none is there. */
async function newestCopy(databasePath: string, version: number): Promise<string | undefined> {
  const prefix = `${basename(databasePath)}.schema-${version}-`;
  const names = (await readdir(dirname(databasePath))).filter(
    (name) => name.startsWith(prefix) && !name.includes(".partial"),
  );
  const newest = names.sort().at(-1);
  return newest === undefined ? undefined : join(dirname(databasePath), newest);
}

async function pragma(connection: SqliteConnection, name: string): Promise<number> {
  const rows = await connection.query<Readonly<Record<string, number>>>(`PRAGMA ${name}`);
  return rows[0]?.[name] ?? 0;
}
