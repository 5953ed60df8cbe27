/**
 * One process for one data folder. The lock is SQLite's exclusive lock on a file
 * of its own, held open for the life of the store: the kernel frees it however
 * the process ends, and there is no stale file to remove by hand.
 */
import { join } from "node:path";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { createFile } from "./private-files.ts";
import { SqliteConnection } from "./sqlite-connection.ts";
import { storeUnavailable } from "./store-errors.ts";

/** A folder that this process alone uses. */
export interface FolderLock {
  release(): Promise<void>;
}

/** Takes the folder, or fails with a STORE_UNAVAILABLE that says who to look for. */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, "lock");
  await createFile(path);
  const connection = await SqliteConnection.open(path);
  try {
    // Nothing is ever written to the file, so its journal needs no file of its own.
    await connection.exec("PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (error) {
    await connection.close();
    if (error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE && isBusy(error)) {
      throw storeUnavailable(
        `another relay uses the data folder ${folder}: stop it, or name another folder`,
        error.cause,
      );
    }
    throw error;
  }
  return {
    release: async () => {
      await connection.close();
    },
  };
}

function isBusy(error: SyncError): boolean {
  const { cause } = error;
  return cause instanceof Error && "code" in cause && cause.code === "SQLITE_BUSY";
}
