/**
 * Files and folders that only the relay's user may read, whatever the umask.
 * SQLite gives its journals the mode of the database, so that making the
 * database file first is enough.
 *
 * A file that exists is never opened here: closing it again would drop the locks
 * that SQLite holds on it for this process.
 */
import { chmod, mkdir, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { storeError } from "./store-errors.ts";

/** Makes a folder, 0700, where there is none. One that exists keeps its mode. */
export async function createFolder(path: string): Promise<void> {
  try {
    const made = await mkdir(path, { recursive: true, mode: 0o700 });
    // The umask may have taken bits away that the relay itself needs.
    if (made !== undefined) await chmod(path, 0o700);
  } catch (error) {
    throw storeError(error);
  }
}

/** Makes an empty file, 0600, where there is none, and makes its name last through a power cut. */
export async function createFile(path: string): Promise<void> {
  try {
    const file = await open(path, "wx", 0o600);
    try {
      await file.chmod(0o600);
      await file.sync();
    } finally {
      await file.close();
    }
    await syncFolder(dirname(path));
  } catch (error) {
    if (isCode(error, "EEXIST")) return;
    throw storeError(error);
  }
}

/** Makes the names in a folder last through a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A file's size in bytes; 0 where there is none. */
export async function fileBytes(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isCode(error, "ENOENT")) return 0;
    throw storeError(error);
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
