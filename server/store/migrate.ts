/**
 * Brings a store to the schema this version knows: numbered SQL files, each in a
 * transaction of its own, the number kept in the file's `user_version`. Before
 * an existing store is changed it is copied beside itself; a store that is newer
 * than this version is refused, with the way back.
 */
import { open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { createFile, fileBytes, syncFolder } from "./private-files.ts";
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
 * Applies what is missing. Gives back the path of the copy that was made of an
 * existing store; undefined where nothing had to change or there was none.
 */
export async function migrate(
  connection: SqliteConnection,
  databasePath: string,
  folder: URL,
): Promise<string | undefined> {
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
    throw storeUnavailable(
      `${databasePath} was written by a newer version (schema ${from}, this one knows ${newest}): ` +
        `run that version again, or put the copy it made before (${copyName(databasePath, newest)}) in its place`,
    );
  }
  if (from === newest) return undefined;
  const copy = from > 0 ? await copyStore(connection, databasePath, from) : undefined;
  for (const migration of migrations) {
    if (migration.version > from) await apply(connection, migration);
  }
  return copy;
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

/** A whole copy, on disk before it gets its name: a copy that bears the name is complete. */
async function copyStore(
  connection: SqliteConnection,
  databasePath: string,
  version: number,
): Promise<string> {
  const partial = `${databasePath}.partial`;
  await rm(partial, { force: true });
  await createFile(partial);
  await connection.exec(`VACUUM INTO '${partial.replaceAll("'", "''")}'`);
  const file = await open(partial, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  const copy = await freeName(databasePath, version);
  await rename(partial, copy);
  await syncFolder(dirname(databasePath));
  return copy;
}

function copyName(databasePath: string, version: number): string {
  return `${databasePath}.schema-${version}`;
}

/** An earlier copy is never written over: it may be the one somebody wants back. */
async function freeName(databasePath: string, version: number): Promise<string> {
  const name = copyName(databasePath, version);
  for (let number = 1; ; number++) {
    const path = number === 1 ? name : `${name}.${number}`;
    if ((await fileBytes(path)) === 0) return path;
  }
}

async function pragma(connection: SqliteConnection, name: string): Promise<number> {
  const rows = await connection.query<Readonly<Record<string, number>>>(`PRAGMA ${name}`);
  return rows[0]?.[name] ?? 0;
}
