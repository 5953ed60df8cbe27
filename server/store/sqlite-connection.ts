/**
 * One connection of `sqlite3` as promises, with the library's two surprises
 * taken out:
 *
 * - Statements of one connection race each other through the thread pool
 *   (`serialize()` orders only their preparation), and one that waits for the
 *   connection blocks a thread of the pool. Here a connection does one thing at
 *   a time, in the order it was asked.
 * - `get` leaves its statement open after the first row, and with it a snapshot
 *   that no checkpoint can pass. Here rows are always read to the end.
 */
import sqlite3 from "sqlite3";
import { storeError, storeUnavailable } from "./store-errors.ts";

/** What a statement can be given. Numbers beyond 32 bits are bound as doubles, exact up to 2^53. */
export type SqlValue = number | string | Uint8Array | null;

/** A prepared statement of a connection, used again and again. */
export interface SqlStatement {
  run(values: readonly SqlValue[]): Promise<void>;
  /** All rows. The caller names their shape, which follows from the statement's text. */
  all<Row>(values: readonly SqlValue[]): Promise<readonly Row[]>;
}

/** The library's copying, which its types leave out. */
interface CopySource {
  backup(path: string, opened: (error: Error | null) => void): CopyInProgress;
}

interface CopyInProgress {
  readonly failed: boolean;
  readonly remaining: number;
  readonly pageCount: number;
  step(pages: number, done: (error: Error | null, completed: boolean) => void): unknown;
  finish(done: () => void): unknown;
}

/** A connection to one database file. */
export class SqliteConnection {
  readonly #database: sqlite3.Database;
  readonly #statements: sqlite3.Statement[] = [];
  /** Settles when everything asked so far is done; never rejects. */
  #last: Promise<void> = Promise.resolve();

  private constructor(database: sqlite3.Database) {
    this.#database = database;
    // An error that belongs to no call would otherwise end the process; every call has its callback.
    database.on("error", () => undefined);
  }

  /** Opens a file that exists. `readOnly`: leaves it and its folder as they are. */
  static async open(
    path: string,
    options: { readonly readOnly?: boolean } = {},
  ): Promise<SqliteConnection> {
    const access = options.readOnly === true ? sqlite3.OPEN_READONLY : sqlite3.OPEN_READWRITE;
    const mode = access | sqlite3.OPEN_FULLMUTEX;
    return await new Promise((resolve, reject) => {
      const database = new sqlite3.Database(path, mode, (error) => {
        if (error === null) resolve(new SqliteConnection(database));
        else reject(storeError(error));
      });
    });
  }

  /** Runs a task when everything asked before it is done, and holds back what is asked after it. */
  async exclusively<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(task);
    this.#last = result.then(
      () => undefined,
      () => undefined,
    );
    return await result;
  }

  /** Runs statements that give no rows. Stops at the first that fails. */
  async exec(sql: string): Promise<void> {
    await this.exclusively(
      async () =>
        await new Promise<void>((resolve, reject) => {
          this.#database.exec(sql, (error) => {
            if (error === null) resolve();
            else reject(storeError(error));
          });
        }),
    );
  }

  async prepare(sql: string): Promise<SqlStatement> {
    const statement = await this.exclusively(
      async () =>
        await new Promise<sqlite3.Statement>((resolve, reject) => {
          const prepared = this.#database.prepare(sql, (error: Error | null) => {
            if (error === null) resolve(prepared);
            else reject(storeError(error));
          });
        }),
    );
    this.#statements.push(statement);
    return {
      run: async (values) =>
        await this.exclusively(
          async () =>
            await new Promise<void>((resolve, reject) => {
              statement.run(values, (error: Error | null) => {
                if (error === null) resolve();
                else reject(storeError(error));
              });
            }),
        ),
      all: async <Row>(values: readonly SqlValue[]) =>
        await this.exclusively(
          async () =>
            await new Promise<readonly Row[]>((resolve, reject) => {
              statement.all<Row>(values, (error, rows) => {
                if (error === null) resolve(rows);
                else reject(storeError(error));
              });
            }),
        ),
    };
  }

  /** Rows of a statement that is used once. */
  async query<Row>(sql: string): Promise<readonly Row[]> {
    return await this.exclusively(
      async () =>
        await new Promise<readonly Row[]>((resolve, reject) => {
          this.#database.all<Row>(sql, (error, rows) => {
            if (error === null) resolve(rows);
            else reject(storeError(error));
          });
        }),
    );
  }

  /**
   * Copies the database into an empty file, some pages at a time. `onSlice` is told after each how far
   * it is, and ends the copying by throwing.
   */
  async copyTo(
    path: string,
    pagesPerSlice: number,
    onSlice: (donePages: number, allPages: number) => void,
  ): Promise<void> {
    await this.exclusively(async () => {
      const copying = await new Promise<CopyInProgress>((resolve, reject) => {
        const source = this.#database as unknown as CopySource;
        const started = source.backup(path, (error) => {
          if (error === null) resolve(started);
          else reject(storeError(error));
        });
      });
      try {
        for (;;) {
          const done = await new Promise<boolean>((resolve, reject) => {
            copying.step(pagesPerSlice, (error, completed) => {
              if (error === null) resolve(completed);
              else reject(storeError(error));
            });
          });
          // A copy that never began tells no error, only this.
          if (copying.failed) throw storeUnavailable("the copy's file cannot be written");
          onSlice(copying.pageCount - copying.remaining, copying.pageCount);
          if (done) return;
        }
      } finally {
        await new Promise<void>((resolve) => copying.finish(() => resolve()));
      }
    });
  }

  /** Waits for what is under way and closes. */
  async close(): Promise<void> {
    await this.exclusively(async () => {
      for (const statement of this.#statements.splice(0)) {
        await new Promise<void>((resolve) => {
          // It tells only the statement's last error, which its own call has told already.
          statement.finalize(() => resolve());
        });
      }
      await new Promise<void>((resolve, reject) => {
        this.#database.close((error) => {
          if (error === null) resolve();
          else reject(storeError(error));
        });
      });
    });
  }
}
