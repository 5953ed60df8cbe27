/**
 * The least durable log: SQLite through `sqlite3` with WAL and
 * `synchronous=FULL`, rows appended in rowid order with one index on (group,
 * cursor). What arrives while a commit runs goes into the next one.
 *
 * A commit is one statement, and with that one trip to the thread pool: the
 * payloads lie end to end in one buffer, and the statement cuts it up. That is
 * faster here than multi-row prepared statements, which bind four values a row.
 */
import sqlite3 from "sqlite3";

/** Rows that travel together. */
export interface Rows {
  /** Group, cursor and sender of each, as `place` packs them. */
  readonly places: readonly number[];
  /** The payloads, one slot each, of which the last `payloadBytes` are stored. */
  readonly slots: Buffer;
  readonly slotBytes: number;
}

/** A row as a page holds it. */
export interface StoredRow {
  readonly cursor: number;
  readonly payload: Buffer;
}

/** Group (8 bits), sender (13 bits) and cursor (32 bits) in one number that JSON carries exactly. */
export function place(group: number, sender: number, cursor: number): number {
  return (group * 2 ** 13 + sender) * 2 ** 32 + cursor;
}

const settings = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA cache_size = -65536;
  PRAGMA wal_autocheckpoint = 4000;
`;

/**
 * What a row is. `lean`: where it stands and its payload, all that L4 needs.
 * `full`: the columns and their sizes as in the relay's own store, of which the
 * payload is the body.
 */
export type RowShape = "lean" | "full";

/** In a `full` slot, before the payload: link (32), blob id (16), signature (64), header (74). */
export const fullHeaderBytes = 186;

const tables: Readonly<Record<RowShape, string>> = {
  lean: `
    CREATE TABLE blobs (
      group_key INTEGER NOT NULL, cursor INTEGER NOT NULL, device_key INTEGER NOT NULL,
      body BLOB NOT NULL
    ) STRICT;
  `,
  full: `
    CREATE TABLE blobs (
      group_key INTEGER NOT NULL, cursor INTEGER NOT NULL, device_key INTEGER NOT NULL,
      seq INTEGER NOT NULL, prior_cursor INTEGER NOT NULL, epoch INTEGER NOT NULL,
      body_state INTEGER NOT NULL, stored_age_s INTEGER NOT NULL,
      link BLOB NOT NULL, blob_id BLOB NOT NULL, signature BLOB NOT NULL, header BLOB NOT NULL,
      body BLOB NOT NULL
    ) STRICT;
  `,
};

const index = "CREATE UNIQUE INDEX blobs_by_cursor ON blobs (group_key, cursor);";

const inserts: Readonly<Record<RowShape, string>> = {
  lean: `
    INSERT INTO blobs
    SELECT value >> 45, value & 0xffffffff, (value >> 32) & 0x1fff,
      substr(?2, key * ?3 + 1 + ?3 - ?4, ?4)
    FROM json_each(?1)
  `,
  full: `
    INSERT INTO blobs
    SELECT value >> 45, value & 0xffffffff, (value >> 32) & 0x1fff,
      value & 0xffffffff, (value & 0xffffffff) - 1, 1, 0, 0,
      substr(?2, key * ?3 + 1, 32), substr(?2, key * ?3 + 33, 16),
      substr(?2, key * ?3 + 49, 64), substr(?2, key * ?3 + 113, 74),
      substr(?2, key * ?3 + 1 + ?3 - ?4, ?4)
    FROM json_each(?1)
  `,
};

/** The store of a limit. One commit at a time. */
export class LimitStore {
  readonly #writer: sqlite3.Database;
  readonly #reader: sqlite3.Database;
  readonly #insert: sqlite3.Statement;
  readonly #page: sqlite3.Statement;

  private constructor(
    writer: sqlite3.Database,
    reader: sqlite3.Database,
    insert: sqlite3.Statement,
    page: sqlite3.Statement,
  ) {
    this.#writer = writer;
    this.#reader = reader;
    this.#insert = insert;
    this.#page = page;
  }

  /** Makes a store in a new file. */
  static async create(file: string, shape: RowShape): Promise<LimitStore> {
    const writer = await openDatabase(file);
    await settled((done) => writer.exec(settings + tables[shape] + index, done));
    const reader = await openDatabase(file);
    return new LimitStore(
      writer,
      reader,
      await prepare(writer, inserts[shape]),
      await prepare(
        reader,
        "SELECT cursor, body AS payload FROM blobs WHERE group_key = ? AND cursor > ? ORDER BY cursor LIMIT 1000",
      ),
    );
  }

  /** Stores the rows; on disk when `done` is called. */
  append(rows: Rows, payloadBytes: number, done: (error: Error | null) => void): void {
    this.#insert.run(`[${rows.places.join(",")}]`, rows.slots, rows.slotBytes, payloadBytes, done);
  }

  /** The next 1,000 rows of a group. */
  read(group: number, after: number): Promise<StoredRow[]> {
    return new Promise((resolve, reject) => {
      this.#page.all<StoredRow>([group, after], (error, rows) => {
        if (error === null) resolve(rows);
        else reject(error);
      });
    });
  }

  /** Closes the store. */
  async close(): Promise<void> {
    for (const statement of [this.#insert, this.#page]) {
      await settled((done) => statement.finalize(done));
    }
    for (const database of [this.#writer, this.#reader]) {
      await settled((done) => database.close(done));
    }
  }
}

function settled(start: (done: (error?: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => {
      if (error === null || error === undefined) resolve();
      else reject(error);
    });
  });
}

function openDatabase(file: string): Promise<sqlite3.Database> {
  return new Promise((resolve, reject) => {
    const database = new sqlite3.Database(file, (error) => {
      if (error === null) resolve(database);
      else reject(error);
    });
  });
}

function prepare(database: sqlite3.Database, sql: string): Promise<sqlite3.Statement> {
  return new Promise((resolve, reject) => {
    const statement = database.prepare(sql, (error) => {
      if (error === null) resolve(statement);
      else reject(error);
    });
  });
}
