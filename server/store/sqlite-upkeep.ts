/** The upkeep of the store in one SQLite file. */
import { join } from "node:path";
import { identityText } from "../identity.ts";
import { makeBackup, passingName, removePassing } from "./backup.ts";
import type { SqliteConnection } from "./sqlite-connection.ts";
import type {
  BackupRequest,
  StoreUpkeep,
  VacuumProgress,
  Verification,
  VerifyOptions,
} from "./upkeep.ts";
import { verifyStore } from "./verify.ts";
import type { WalKeeper } from "./wal-keeper.ts";

/** Pages given back at a time: about four megabytes. */
const vacuumPages = 1_000;

export class SqliteUpkeep implements StoreUpkeep {
  readonly #folder: string;
  readonly #database: string;
  readonly #writer: SqliteConnection;
  readonly #wal: WalKeeper;
  /** Given when the store closes: what is under way ends. */
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(parts: {
    readonly folder: string;
    readonly database: string;
    readonly writer: SqliteConnection;
    readonly wal: WalKeeper;
  }) {
    this.#folder = parts.folder;
    this.#database = parts.database;
    this.#writer = parts.writer;
    this.#wal = parts.wal;
  }

  async backup(request: BackupRequest): Promise<string> {
    const target = join(this.#folder, passingName(request.name));
    return await this.#run(request.signal, async (signal) => {
      const identity = request.withIdentity ? await identityText(this.#folder) : undefined;
      await makeBackup({ ...request, source: this.#database, target, identity, signal });
      return target;
    });
  }

  async clear(): Promise<void> {
    await removePassing(this.#folder);
  }

  async verify(options: VerifyOptions): Promise<Verification> {
    return await this.#run(
      options.signal,
      async (signal) => await verifyStore(this.#database, { ...options, signal }),
    );
  }

  async vacuum(
    onProgress: (progress: VacuumProgress) => void,
    given?: AbortSignal,
  ): Promise<VacuumProgress> {
    return await this.#run(given, (signal) => this.#vacuum(onProgress, signal));
  }

  /** Ends what is under way, and waits for its end. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#underWay);
  }

  /** Runs a piece of work for which the log stays as it is. */
  async #run<Result>(
    given: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    const signals = given === undefined ? [] : [given];
    const release = this.#wal.hold();
    const running = work(AbortSignal.any([this.#closing.signal, ...signals])).finally(release);
    this.#underWay.add(running);
    try {
      return await running;
    } finally {
      this.#underWay.delete(running);
    }
  }

  async #vacuum(
    onProgress: (progress: VacuumProgress) => void,
    signal: AbortSignal,
  ): Promise<VacuumProgress> {
    const first = await this.#freeBytes();
    for (let left = first; ; ) {
      const progress = { givenBackBytes: Math.max(0, first - left), leftBytes: left };
      if (left === 0) {
        // The file shrinks when the log has been moved into it.
        await this.#writer.query("PRAGMA wal_checkpoint(TRUNCATE)");
        return progress;
      }
      signal.throwIfAborted();
      onProgress(progress);
      await this.#writer.exec(`PRAGMA incremental_vacuum(${vacuumPages})`);
      const now = await this.#freeBytes();
      // Commits may have freed more meanwhile; what cannot be given back is not asked for for ever.
      if (now >= left) return { givenBackBytes: Math.max(0, first - now), leftBytes: now };
      left = now;
    }
  }

  async #freeBytes(): Promise<number> {
    const [row] = await this.#writer.query<{ readonly pages: number; readonly bytes: number }>(
      `SELECT (SELECT freelist_count FROM pragma_freelist_count) AS pages,
        (SELECT page_size FROM pragma_page_size) AS bytes`,
    );
    return row === undefined ? 0 : row.pages * row.bytes;
  }
}
