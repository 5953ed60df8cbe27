/**
 * The device's state in one SQLite file: one connection that holds the file for itself, a table per
 * name, WAL with `synchronous=FULL`, so that what a transaction wrote is on disk when it resolves.
 *
 * The folder is made for this user only, and the file is readable by this user only, because the
 * device's seed stands in it.
 */
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import sqlite3 from "sqlite3";
import {
  type KeyOf,
  numberTables,
  type StateKey,
  type StateRow,
  type StateStore,
  StateStoreError,
  type StateStoreProblem,
  type StateTransaction,
  type TableName,
  textTables,
} from "../../state-store.ts";

/** The schema this version writes. A file with a higher number is refused. */
const schemaVersion = 1;
/** Rows of one INSERT; SQLite takes 32,766 parameters, two a row. */
const rowsPerInsert = [256, 16, 1] as const;

/** What tests may narrow. */
export interface SqliteStoreOptions {
  /** The most pages the file may have: a full disk, on demand. */
  readonly pagesMax?: number;
}

/** Opens the state in a folder, making both where they are not there. Throws `StateStoreError`. */
export async function openSqliteStore(
  folder: string,
  options: SqliteStoreOptions = {},
): Promise<StateStore> {
  const file = join(folder, "device.sqlite");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // Made before SQLite does, which would ask the umask; its journal takes over the mode.
    closeSync(openSync(file, "a", 0o600));
    chmodSync(file, 0o600);
  } catch (cause) {
    throw new StateStoreError("unavailable", `the folder ${folder} cannot be written`, cause);
  }
  const database = await Database.open(file, folder);
  try {
    await prepare(database, folder, options);
  } catch (error) {
    await database.close();
    throw error;
  }
  return new SqliteStore(database);
}

async function prepare(
  database: Database,
  folder: string,
  options: SqliteStoreOptions,
): Promise<void> {
  // Exclusive before anything else touches the file: WAL then needs no shared memory, and a second
  // process cannot come in between.
  await database.exec("PRAGMA locking_mode=EXCLUSIVE");
  await database.exec("PRAGMA busy_timeout=0");
  await database.exec("PRAGMA journal_mode=WAL");
  await database.exec("PRAGMA synchronous=FULL");
  await database.exec("BEGIN IMMEDIATE");
  const [row] = await database.all("PRAGMA user_version", []);
  const found = Number(row?.["user_version"]);
  if (found > schemaVersion) {
    await database.exec("ROLLBACK");
    throw new StateStoreError(
      "newer",
      `the state in ${folder} was written by a newer version (schema ${found}, this one knows ${schemaVersion}); update this one`,
    );
  }
  for (const name of numberTables) {
    await database.exec(
      `CREATE TABLE IF NOT EXISTS "${name}" (key INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT`,
    );
  }
  for (const name of textTables) {
    await database.exec(
      `CREATE TABLE IF NOT EXISTS "${name}" (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID`,
    );
  }
  await database.exec(`PRAGMA user_version=${schemaVersion}`);
  await database.exec("COMMIT");
  if (options.pagesMax !== undefined) {
    await database.exec(`PRAGMA max_page_count=${options.pagesMax}`);
  }
}

class SqliteStore implements StateStore {
  readonly #database: Database;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(database: Database) {
    this.#database = database;
  }

  transaction<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    if (this.#closed) {
      return Promise.reject(new StateStoreError("closed", "the device's state was closed"));
    }
    const result = this.#last.then(() => this.#run(run));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#last;
    await this.#database.close();
  }

  async #run<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    const database = this.#database;
    await database.run("BEGIN IMMEDIATE");
    const transaction = new SqliteTransaction(database);
    try {
      const result = await run(transaction);
      await transaction.write();
      await database.run("COMMIT");
      return result;
    } catch (error) {
      // A full disk may have rolled back by itself already; then this says so, and nothing is lost by it.
      await database.run("ROLLBACK").catch(() => undefined);
      throw error;
    } finally {
      transaction.end();
    }
  }
}

/** Writes are gathered, and sent as rows of few statements before a read or the commit. */
class SqliteTransaction implements StateTransaction {
  readonly #database: Database;
  readonly #puts = new Map<TableName, Map<StateKey, Uint8Array>>();
  readonly #deletes: { table: TableName; sql: string; parameters: unknown[] }[] = [];
  #open = true;

  constructor(database: Database) {
    this.#database = database;
  }

  end(): void {
    this.#open = false;
  }

  async get<T extends TableName>(table: T, key: KeyOf<T>): Promise<Uint8Array | undefined> {
    await this.write();
    const [row] = await this.#database.all(`SELECT value FROM "${table}" WHERE key = ?`, [key]);
    return row === undefined ? undefined : bytesOf(row["value"]);
  }

  async range<T extends TableName>(
    table: T,
    from: KeyOf<T>,
    to?: KeyOf<T>,
    limit?: number,
  ): Promise<StateRow<KeyOf<T>>[]> {
    await this.write();
    const rows = await this.#database.all(
      `SELECT key, value FROM "${table}" WHERE key >= ?${to === undefined ? "" : " AND key < ?"} ORDER BY key LIMIT ?`,
      [from, ...(to === undefined ? [] : [to]), limit ?? -1],
    );
    return rows.map((row) => ({ key: row["key"] as KeyOf<T>, value: bytesOf(row["value"]) }));
  }

  async last<T extends TableName>(table: T): Promise<StateRow<KeyOf<T>> | undefined> {
    await this.write();
    const [row] = await this.#database.all(
      `SELECT key, value FROM "${table}" ORDER BY key DESC LIMIT 1`,
      [],
    );
    return row === undefined
      ? undefined
      : { key: row["key"] as KeyOf<T>, value: bytesOf(row["value"]) };
  }

  put<T extends TableName>(table: T, key: KeyOf<T>, value: Uint8Array): void {
    this.#check();
    let rows = this.#puts.get(table);
    if (rows === undefined) {
      rows = new Map();
      this.#puts.set(table, rows);
    }
    rows.set(key, value);
  }

  delete<T extends TableName>(table: T, key: KeyOf<T>): void {
    this.#check();
    this.#puts.get(table)?.delete(key);
    this.#deletes.push({
      table,
      sql: `DELETE FROM "${table}" WHERE key = ?`,
      parameters: [key],
    });
  }

  deleteRange<T extends TableName>(table: T, from: KeyOf<T>, to?: KeyOf<T>): void {
    this.#check();
    const puts = this.#puts.get(table);
    for (const key of puts?.keys() ?? []) {
      if (below(from, key) && (to === undefined || !below(to, key))) puts?.delete(key);
    }
    this.#deletes.push({
      table,
      sql: `DELETE FROM "${table}" WHERE key >= ?${to === undefined ? "" : " AND key < ?"}`,
      parameters: to === undefined ? [from] : [from, to],
    });
  }

  /** Sends what was gathered: deletions first, since a later put has taken its key out of them. */
  async write(): Promise<void> {
    this.#check();
    for (const { sql, parameters } of this.#deletes.splice(0)) {
      await this.#database.run(sql, parameters);
    }
    for (const [table, rows] of this.#puts) {
      const parameters: unknown[] = [];
      for (const [key, value] of rows) parameters.push(key, value);
      this.#puts.delete(table);
      let row = 0;
      for (const count of rowsPerInsert) {
        while (rows.size - row >= count) {
          await this.#database.run(
            `INSERT OR REPLACE INTO "${table}" (key, value) VALUES ${"(?,?),".repeat(count).slice(0, -1)}`,
            parameters.slice(2 * row, 2 * (row + count)),
          );
          row += count;
        }
      }
    }
  }

  #check(): void {
    if (!this.#open) throw new StateStoreError("closed", "the transaction has ended");
  }
}

/** Whether `low` is not above `key`. Texts compare as SQLite compares them: by their UTF-8 bytes. */
function below(low: StateKey, key: StateKey): boolean {
  if (typeof low === "number" && typeof key === "number") return low <= key;
  return Buffer.compare(Buffer.from(String(low)), Buffer.from(String(key))) <= 0;
}

function bytesOf(value: unknown): Uint8Array {
  const buffer = value as Buffer;
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

type Row = Readonly<Record<string, unknown>>;

/** `sqlite3` with promises, its statements kept, and its errors translated. */
class Database {
  readonly #database: sqlite3.Database;
  readonly #folder: string;
  readonly #statements = new Map<string, sqlite3.Statement>();

  private constructor(database: sqlite3.Database, folder: string) {
    this.#database = database;
    this.#folder = folder;
  }

  static open(file: string, folder: string): Promise<Database> {
    return new Promise((resolve, reject) => {
      const database = new sqlite3.Database(file, (error) => {
        if (error === null) resolve(new Database(database, folder));
        else reject(translate(error, folder));
      });
    });
  }

  run(sql: string, parameters: unknown[] = []): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#statement(sql).run(parameters, (error: Error | null) => {
        if (error === null) resolve();
        else reject(translate(error, this.#folder));
      });
    });
  }

  /** Runs statements once, to their ends: a pragma that answers would else stay open. */
  exec(sql: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#database.exec(sql, (error) => {
        if (error === null) resolve();
        else reject(translate(error, this.#folder));
      });
    });
  }

  all(sql: string, parameters: unknown[]): Promise<Row[]> {
    return new Promise((resolve, reject) => {
      this.#statement(sql).all(parameters, (error: Error | null, rows: unknown[]) => {
        if (error === null) resolve(rows as Row[]);
        else reject(translate(error, this.#folder));
      });
    });
  }

  close(): Promise<void> {
    for (const statement of this.#statements.values()) statement.finalize();
    this.#statements.clear();
    return new Promise((resolve, reject) => {
      this.#database.close((error) => {
        if (error === null) resolve();
        else reject(translate(error, this.#folder));
      });
    });
  }

  #statement(sql: string): sqlite3.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** The one place where SQLite's errors become ours. */
function translate(cause: Error, folder: string): StateStoreError {
  const name = "code" in cause ? String(cause.code) : "";
  const says = (problem: StateStoreProblem, message: string): StateStoreError =>
    new StateStoreError(problem, message, cause);
  switch (name) {
    case "SQLITE_BUSY":
    case "SQLITE_LOCKED":
      return says("locked", `another process uses the state in ${folder}; close it first`);
    case "SQLITE_FULL":
      return says("full", `no space is left for the state in ${folder}; nothing was written`);
    case "SQLITE_CORRUPT":
    case "SQLITE_NOTADB":
      return says("damaged", `the state in ${folder} is damaged`);
    default:
      return says("unavailable", `the state in ${folder} cannot be read or written now`);
  }
}
