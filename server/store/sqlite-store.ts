/**
 * The store in one SQLite file: a connection that writes, in WAL with
 * `synchronous=FULL`, and one that reads beside it.
 *
 *   commit  → sqlite-commit.ts packs the batch → one statement → on disk
 *   read…   → sqlite-reads.ts: a statement each → rows of the contract
 */
import { join } from "node:path";
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceGroup,
  DeviceRow,
  GroupListing,
  InviteListing,
  InviteRow,
  LoadedGroup,
  PageBounds,
  SenderPlace,
  Store,
  StoreTotals,
} from "./contract.ts";
import { type FolderLock, lockFolder } from "./folder-lock.ts";
import { migrate, migrationsFolder } from "./migrate.ts";
import { createFile, createFolder, fileBytes } from "./private-files.ts";
import { fullError, Reserve, storesNothing } from "./reserve.ts";
import { commitSetup, commitStatement, lifeCommitStatement, packCommit } from "./sqlite-commit.ts";
import { SqliteConnection, type SqlStatement } from "./sqlite-connection.ts";
import { SqliteLife } from "./sqlite-life-reads.ts";
import * as reads from "./sqlite-reads.ts";
import { sweep, sweptLogBytes } from "./sqlite-sweep.ts";
import { SqliteUpkeep } from "./sqlite-upkeep.ts";
import { isDiskFull, isStatementError, storeError, storeUnavailable } from "./store-errors.ts";
import type { StoreUpkeep } from "./upkeep.ts";
import { WalKeeper } from "./wal-keeper.ts";

export interface SqliteStoreOptions {
  /** The data folder; made where there is none. One process at a time uses it. */
  readonly folder: string;
  /** Where migrations lie; for tests. */
  readonly migrations?: URL;
  /**
   * What the write-ahead log may hold before commits and readers wait for it to begin anew, in bytes.
   * The file grows to about half as much again.
   */
  readonly walBytesMax?: number;
  /** Room that is kept beside the database for trimming on a full disk, in bytes; by default none. */
  readonly reserveBytes?: number;
  /** Milliseconds since the Unix epoch: what a backup before a migration is named by; for tests. */
  readonly nowMs?: number;
}

export interface SqliteStore extends Store {
  readonly upkeep: StoreUpkeep;
  /** The backup that was made of the store before it was migrated at this opening. */
  readonly copyBeforeMigration: string | undefined;
}

/** The database's name in the data folder. */
export const databaseName = "relay.db";

const walBytesMaxDefault = 32 * 1024 * 1024;

/** Devices whose written witness is remembered. */
const witnessesRemembered = 10_000;

/** Opens the store of a folder, or makes it. */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  await createFolder(options.folder);
  const lock = await lockFolder(options.folder);
  const opened: SqliteConnection[] = [];
  let current = false;
  try {
    const path = join(options.folder, databaseName);
    await createFile(path);
    const writer = await SqliteConnection.open(path);
    opened.push(writer);
    // auto_vacuum counts only before the first page is written, which journal_mode does.
    await writer.exec(`
      PRAGMA busy_timeout = 250;
      PRAGMA auto_vacuum = INCREMENTAL;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA fullfsync = ON;
      PRAGMA checkpoint_fullfsync = ON;
      PRAGMA foreign_keys = OFF;
      PRAGMA temp_store = MEMORY;
    `);
    const copy = await migrate(
      writer,
      path,
      options.migrations ?? migrationsFolder,
      options.nowMs ?? Date.now(),
    );
    current = true;
    await writer.exec(commitSetup);
    const reader = await SqliteConnection.open(path);
    opened.push(reader);
    await reader.exec("PRAGMA busy_timeout = 250; PRAGMA query_only = ON");
    const [relay] = await reader.query<reads.RelayColumns>(reads.relaySql);
    if (relay === undefined)
      throw storeUnavailable("the store is damaged, its counters are gone: restore a backup");
    const walBytesMax = options.walBytesMax ?? walBytesMaxDefault;
    const reserve = new Reserve(`${path}-reserve`, options.reserveBytes ?? 0);
    return new OpenSqliteStore({
      folder: options.folder,
      path,
      lock,
      writer,
      reader,
      commit: await writer.prepare(commitStatement),
      lifeCommit: await writer.prepare(lifeCommitStatement),
      life: await SqliteLife.open(reader),
      reads: await prepareReads(reader),
      relay,
      copyBeforeMigration: copy,
      // The last step: what fails before it leaves no connection of its own behind.
      wal: await WalKeeper.open({
        path,
        writer,
        reader,
        bytesMax: walBytesMax,
        onFailed: async (error) => {
          if (isDiskFull(error)) await reserve.release();
        },
      }),
      reserve,
    });
  } catch (error) {
    for (const connection of opened.reverse()) await connection.close();
    await lock.release();
    // A file of this version has what our statements name, unless what describes its tables is damaged.
    if (current && isStatementError(error)) {
      throw storeUnavailable(
        "the store is damaged, its tables are others: restore a backup",
        error,
      );
    }
    throw storeError(error);
  }
}

type Reads = Awaited<ReturnType<typeof prepareReads>>;

async function prepareReads(reader: SqliteConnection): Promise<{
  readonly loadGroup: SqlStatement;
  readonly groupsOfDevice: SqlStatement;
  readonly readBlobs: SqlStatement;
  readonly linkAt: SqlStatement;
  readonly senderPlaces: SqlStatement;
  readonly readControl: SqlStatement;
  readonly controlByHead: SqlStatement;
  readonly findInvite: SqlStatement;
  readonly listGroups: SqlStatement;
  readonly listInvites: SqlStatement;
  readonly relay: SqlStatement;
}> {
  return {
    loadGroup: await reader.prepare(reads.loadGroupSql),
    groupsOfDevice: await reader.prepare(reads.groupsOfDeviceSql),
    readBlobs: await reader.prepare(reads.readBlobsSql),
    linkAt: await reader.prepare(reads.linkAtSql),
    senderPlaces: await reader.prepare(reads.senderPlacesSql),
    readControl: await reader.prepare(reads.readControlSql),
    controlByHead: await reader.prepare(reads.controlByHeadSql),
    findInvite: await reader.prepare(reads.findInviteSql),
    listGroups: await reader.prepare(reads.listGroupsSql),
    listInvites: await reader.prepare(reads.listInvitesSql),
    relay: await reader.prepare(reads.relaySql),
  };
}

interface Parts {
  readonly folder: string;
  readonly path: string;
  readonly wal: WalKeeper;
  readonly reserve: Reserve;
  readonly lock: FolderLock;
  readonly writer: SqliteConnection;
  readonly reader: SqliteConnection;
  readonly commit: SqlStatement;
  readonly lifeCommit: SqlStatement;
  readonly life: SqliteLife;
  readonly reads: Reads;
  readonly relay: reads.RelayColumns;
  readonly copyBeforeMigration: string | undefined;
}

class OpenSqliteStore implements SqliteStore {
  readonly opened: Store["opened"];
  readonly copyBeforeMigration: string | undefined;
  readonly upkeep: SqliteUpkeep;
  readonly #parts: Parts;
  readonly #reads: Reads;
  /**
   * The counters of the witnesses that are on disk, so that a witness is not written again with every
   * push of its device. What is not in here is only written once more than needed.
   */
  readonly #witnessed = new Map<number, number>();

  /** Something was swept since the log was last cut short. */
  #swept = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#reads = parts.reads;
    this.copyBeforeMigration = parts.copyBeforeMigration;
    this.upkeep = new SqliteUpkeep({ ...parts, database: parts.path });
    const { relay } = parts;
    this.opened = {
      nextGroupKey: relay.last_group_key + 1,
      nextDeviceKey: relay.last_device_key + 1,
      nextSnapshotKey: relay.last_snapshot_key + 1,
      nextObjectKey: relay.last_object_key + 1,
      ageS: relay.age_s,
      clockMs: relay.clock_ms,
      bytes: relay.bytes,
      fresh: relay.last_group_key === 0 && relay.invites_made === 0,
    };
  }

  async commit(batch: CommitBatch): Promise<void> {
    const witnessed = batch.devices.filter(
      (row) => this.#witnessed.get(row.deviceKey) !== row.witnessCounter,
    );
    const { values, bytes } = packCommit(batch, witnessed);
    const { commit, lifeCommit, reserve } = this.#parts;
    const frees = storesNothing(batch);
    if (reserve.released && !(await reserve.make()) && !frees) throw fullError();
    const statement = batch.life === undefined ? commit : lifeCommit;
    try {
      await statement.run(values);
    } catch (error) {
      if (!isDiskFull(error) || !(await reserve.release()) || !frees) throw error;
      await statement.run(values);
    }
    for (const row of witnessed) this.#rememberWitness(row);
    this.#parts.wal.committed(batch, bytes);
    await this.#keepLogSmall();
  }

  /** On a full disk the log gives back after each commit what it grew by. */
  async #keepLogSmall(): Promise<void> {
    const { reserve, wal } = this.#parts;
    // Where not all of it can be moved, the next commit tries again.
    if (reserve.released) await wal.shrink().catch(() => undefined);
  }

  async loadGroup(groupId: Uint8Array): Promise<LoadedGroup | undefined> {
    return reads.loadedGroup(
      groupId,
      await this.#reads.loadGroup.all<reads.LoadGroupColumns>([groupId]),
    );
  }

  async groupsOfDevice(deviceId: Uint8Array): Promise<readonly DeviceGroup[]> {
    const rows = await this.#reads.groupsOfDevice.all<reads.DeviceGroupColumns>([deviceId]);
    return rows.map(reads.deviceGroup);
  }

  async readBlobs(
    groupKey: number,
    after: number,
    through: number,
    bounds: PageBounds,
  ): Promise<readonly BlobRow[]> {
    const rows = await this.#reads.readBlobs.all<reads.BlobPageColumns>([
      groupKey,
      after,
      through,
      Math.max(1, bounds.rowsMax),
      bounds.bytesMax,
    ]);
    return reads.blobPage(groupKey, rows[0]);
  }

  async linkAt(groupKey: number, cursor: number): Promise<Uint8Array | undefined> {
    const rows = await this.#reads.linkAt.all<{ readonly link: Uint8Array }>([groupKey, cursor]);
    const link = rows[0]?.link;
    return link === undefined ? undefined : new Uint8Array(link);
  }

  async senderPlaces(
    groupKey: number,
    fromCursor: number,
    downToSeq: number,
  ): Promise<readonly SenderPlace[]> {
    const rows = await this.#reads.senderPlaces.all<SenderPlace>([groupKey, fromCursor, downToSeq]);
    return rows.map(reads.senderPlace);
  }

  async readControl(
    groupKey: number,
    after: number,
    bytesMax: number,
  ): Promise<readonly ControlRow[]> {
    const rows = await this.#reads.readControl.all<reads.ControlColumns>([
      groupKey,
      after,
      bytesMax,
    ]);
    return rows.map((row) => reads.controlRow(groupKey, row));
  }

  async controlByHead(groupKey: number, head: Uint8Array): Promise<ControlRow | undefined> {
    const [row] = await this.#reads.controlByHead.all<reads.ControlColumns>([groupKey, head]);
    return row === undefined ? undefined : reads.controlRow(groupKey, row);
  }

  async findInvite(inviteHash: Uint8Array): Promise<InviteRow | undefined> {
    const [row] = await this.#reads.findInvite.all<reads.InviteColumns>([inviteHash]);
    return row === undefined ? undefined : reads.inviteRow(inviteHash, row);
  }

  async listGroups(afterGroupKey: number, rowsMax: number): Promise<readonly GroupListing[]> {
    const rows = await this.#reads.listGroups.all<reads.GroupListingColumns>([
      afterGroupKey,
      rowsMax,
    ]);
    return rows.map(reads.groupListing);
  }

  async listInvites(fromHash: Uint8Array, rowsMax: number): Promise<readonly InviteListing[]> {
    const rows = await this.#reads.listInvites.all<reads.InviteListingColumns>([fromHash, rowsMax]);
    return rows.map(reads.inviteListing);
  }

  measureTrim(...of: Parameters<Store["measureTrim"]>): ReturnType<Store["measureTrim"]> {
    return this.#parts.life.measureTrim(...of);
  }

  blobIds(...of: Parameters<Store["blobIds"]>): ReturnType<Store["blobIds"]> {
    return this.#parts.life.blobIds(...of);
  }

  expired(...of: Parameters<Store["expired"]>): ReturnType<Store["expired"]> {
    return this.#parts.life.expired(...of);
  }

  pendingDeletes(...of: Parameters<Store["pendingDeletes"]>): ReturnType<Store["pendingDeletes"]> {
    return this.#parts.life.pendingDeletes(...of);
  }

  snapshotContent(key: number): ReturnType<Store["snapshotContent"]> {
    return this.#parts.life.snapshotContent(key);
  }

  groupsWithSnapshotsOf(ageS: number, rowsMax: number): Promise<readonly Uint8Array[]> {
    return this.#parts.life.groupsWithSnapshotsOf(ageS, rowsMax);
  }

  findObjects(...of: Parameters<Store["findObjects"]>): ReturnType<Store["findObjects"]> {
    return this.#parts.life.findObjects(...of);
  }

  partsOf(snapshotKey: number): ReturnType<Store["partsOf"]> {
    return this.#parts.life.partsOf(snapshotKey);
  }

  readObject(...of: Parameters<Store["readObject"]>): Promise<Uint8Array> {
    return this.#parts.life.readObject(...of);
  }

  passingObjects(...of: Parameters<Store["passingObjects"]>): ReturnType<Store["passingObjects"]> {
    return this.#parts.life.passingObjects(...of);
  }

  groupsToTrim(...of: Parameters<Store["groupsToTrim"]>): ReturnType<Store["groupsToTrim"]> {
    return this.#parts.life.groupsToTrim(...of);
  }

  async sweep(rowsMax: number): Promise<boolean> {
    const { writer, wal, reserve } = this.#parts;
    // Here and not at the opening: it takes a moment to be written, and nobody waits for a sweep.
    await reserve.make();
    const { wrote, more } = await sweep(writer, rowsMax, reserve.released).catch(
      async (error: unknown) => {
        if (!isDiskFull(error) || !(await reserve.release())) throw error;
        await this.#keepLogSmall();
        return await sweep(writer, rowsMax, true);
      },
    );
    if (wrote) {
      this.#swept = true;
      wal.wrote(sweptLogBytes);
    }
    if (!more && this.#swept) {
      // The file gets shorter only once the log has been moved into it, and the log by itself never.
      this.#swept = false;
      await wal.shrink();
    } else await this.#keepLogSmall();
    return more;
  }

  async totals(): Promise<StoreTotals> {
    const { path } = this.#parts;
    const [rows, database, wal, index] = await Promise.all([
      this.#reads.relay.all<reads.RelayColumns>([]),
      fileBytes(path),
      fileBytes(`${path}-wal`),
      fileBytes(`${path}-shm`),
    ]);
    const relay = rows[0] ?? this.#parts.relay;
    return {
      groups: relay.groups,
      blobs: relay.blobs,
      bytes: relay.bytes,
      fileBytes: database + wal + index,
      reclaimableBytes: relay.free_pages * relay.page_bytes,
    };
  }

  async close(): Promise<void> {
    await this.upkeep.close();
    await this.#parts.reserve.close();
    await this.#parts.wal.close();
    // The reader first: the last connection to close moves the write-ahead log into the database.
    await this.#parts.reader.close();
    await this.#parts.writer.close();
    await this.#parts.lock.release();
  }

  #rememberWitness(row: DeviceRow): void {
    if (this.#witnessed.size >= witnessesRemembered) this.#witnessed.clear();
    this.#witnessed.set(row.deviceKey, row.witnessCounter);
  }
}
