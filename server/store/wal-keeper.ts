/**
 * Keeps the write-ahead log short, beside the commits and not inside them.
 *
 * Left alone, SQLite moves the log into the database within the commit that
 * crosses a threshold, and everybody who waits for that commit waits for two more
 * syncs. Here a connection of its own does the moving while commits go on. Two
 * things then could keep the log from ever beginning anew: commits that never
 * pause, and readers that never pause. Where it has grown to its bound in spite
 * of the moving, both wait for the little that is left to be moved.
 */
import type { CommitBatch } from "./contract.ts";
import { SqliteConnection } from "./sqlite-connection.ts";
import { lifeLogBytes } from "./sqlite-life-commit.ts";

const pageBytes = 4096;

/** What PRAGMA wal_checkpoint answers. */
interface CheckpointColumns {
  /** 1 where readers or writers were in the way. */
  readonly busy: number;
  /** Pages in the log. */
  readonly log: number;
  /** Pages of them that are in the database. */
  readonly checkpointed: number;
}

export interface WalKeeperOptions {
  /** The database's path. */
  readonly path: string;
  readonly writer: SqliteConnection;
  readonly reader: SqliteConnection;
  /** What the log may hold before commits and readers wait for it to begin anew, in bytes. */
  readonly bytesMax: number;
  /** Moving failed: what was not moved is still in the log, where it is as safe. */
  readonly onFailed?: (error: unknown) => Promise<void>;
}

export class WalKeeper {
  readonly #options: WalKeeperOptions;
  readonly #mover: SqliteConnection;
  /** About what was written into the log since it was last moved. */
  #bytesSince = 0;
  /** Settles when no moving is under way; never rejects. */
  #moving: Promise<void> = Promise.resolve();
  #isMoving = false;
  /** Readers that stay at one moment of the store, so that the log cannot begin anew behind them. */
  #held = 0;

  private constructor(options: WalKeeperOptions, mover: SqliteConnection) {
    this.#options = options;
    this.#mover = mover;
  }

  static async open(options: WalKeeperOptions): Promise<WalKeeper> {
    await options.writer.exec(
      `PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = ${options.bytesMax}`,
    );
    const mover = await SqliteConnection.open(options.path);
    await mover.exec(`
      PRAGMA busy_timeout = 0;
      PRAGMA synchronous = FULL;
      PRAGMA checkpoint_fullfsync = ON;
    `);
    return new WalKeeper(options, mover);
  }

  /** Counts a commit, and moves the log when half its bound was written since the last time. */
  committed(batch: CommitBatch, bytes: number): void {
    const { groups, devices } = batch;
    // The counters' page and the last pages of table and index; then a row and an index page a group,
    // a page a device, and the bytes with what the tables put around them.
    const pages = 4 + 2 * groups.length + devices.length;
    const life = batch.life === undefined ? 0 : lifeLogBytes(batch.life);
    this.wrote(pages * pageBytes + 1.25 * bytes + life);
  }

  /** Counts what else was written into the log. */
  wrote(bytes: number): void {
    this.#bytesSince += bytes;
    if (this.#bytesSince < this.#options.bytesMax / 2 || this.#isMoving) return;
    this.#bytesSince = 0;
    this.#isMoving = true;
    // The next time tries again what failed.
    this.#moving = this.#move()
      .catch((error: unknown) => this.#options.onFailed?.(error))
      .then(() => {
        this.#isMoving = false;
      });
  }

  /**
   * Lets the log grow while somebody reads one moment of the store for long: commits would only wait
   * for a beginning anew that cannot be. Gives back what ends it.
   */
  hold(): () => void {
    this.#held += 1;
    let ended = false;
    return () => {
      if (!ended) this.#held -= 1;
      ended = true;
    };
  }

  /** Moves the whole log and cuts it short, where nobody stays at one moment of the store. */
  async shrink(): Promise<void> {
    await this.#moving;
    if (this.#held > 0) return;
    await this.#options.reader.exclusively(async () => {
      await this.#options.writer.query("PRAGMA wal_checkpoint(TRUNCATE)");
    });
  }

  /** Waits for the moving under way and ends. */
  async close(): Promise<void> {
    await this.#moving;
    await this.#mover.close();
  }

  async #move(): Promise<void> {
    const [moved] = await this.#mover.query<CheckpointColumns>("PRAGMA wal_checkpoint(PASSIVE)");
    if (moved === undefined || moved.log * pageBytes < this.#options.bytesMax) return;
    if (this.#held > 0) return;
    await this.#options.reader.exclusively(async () => {
      await this.#options.writer.exec("PRAGMA wal_checkpoint(RESTART)");
    });
  }
}
