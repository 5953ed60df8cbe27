/**
 * The folder that received files go to. Every write is whole or not there: a
 * temporary file beside the target, synced, then renamed over it. Nothing is
 * written outside, whatever path an entry names: names are checked first, and no
 * symbolic link below the folder is followed.
 *
 * The checks look at the folder as it stands when a file is written. Somebody
 * who may change the folder at that very moment could write there anyway.
 */
import { randomBytes } from "node:crypto";
import { lstat, mkdir, open, readFile, realpath, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { SyncedFile } from "./file-entry.ts";
import { pathProblem } from "./file-path.ts";

/** Where a file went. */
export interface Placed {
  /** Below the folder, names joined by "/". */
  readonly path: string;
  /** False where the folder already held exactly these bytes. */
  readonly written: boolean;
}

/** The folder has no place for that path: a person or another device made something else there. */
export class PlaceRefused extends Error {
  override readonly name = "PlaceRefused";
}

/** A folder that files are received into. */
export class ReceivingFolder {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Opens the folder, which is made where it does not exist. */
  static async open(folder: string): Promise<ReceivingFolder> {
    await mkdir(folder, { recursive: true });
    // The folder itself may be a link: it is the user's word. Links below it are not.
    return new ReceivingFolder(await realpath(folder));
  }

  /** Puts a file in its place; on disk when it resolves. Throws `PlaceRefused` for a path that has no place here. */
  async put(file: SyncedFile): Promise<Placed> {
    const problem = pathProblem(file.path);
    if (problem !== undefined) throw new PlaceRefused(problem);
    const names = file.path.split("/");
    const name = names.pop() ?? "";
    const folder = await this.#enter(names);
    const target = join(folder, name);
    const there = await lstat(target).catch(nothingThere);
    if (there?.isDirectory() === true) throw new PlaceRefused("a folder stands there");
    if (there?.isFile() === true && there.size === file.data.byteLength) {
      const same = (await readFile(target)).equals(file.data);
      if (same && (there.mode & 0o100) === (file.executable ? 0o100 : 0)) {
        return { path: file.path, written: false };
      }
    }
    await replaceFile(folder, target, file);
    return { path: file.path, written: true };
  }

  /** Goes down through folders, making those that miss, and through nothing else. */
  async #enter(names: readonly string[]): Promise<string> {
    let folder = this.#root;
    for (const name of names) {
      const parent = folder;
      folder = join(folder, name);
      const there = await lstat(folder).catch(nothingThere);
      if (there === undefined) {
        await mkdir(folder);
        await syncFolder(parent);
      } else if (there.isSymbolicLink()) {
        throw new PlaceRefused("a symbolic link stands in the way");
      } else if (!there.isDirectory()) {
        throw new PlaceRefused("a file stands where a folder is needed");
      }
    }
    return folder;
  }
}

async function replaceFile(folder: string, target: string, file: SyncedFile): Promise<void> {
  const temporary = join(folder, `.sync-cli-${randomBytes(8).toString("hex")}.part`);
  try {
    // "wx": never through a link that waits under that name. The umask takes away what it takes.
    const handle = await open(temporary, "wx", file.executable ? 0o777 : 0o666);
    try {
      await handle.writeFile(file.data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    const modified = new Date(file.modifiedMs);
    if (file.modifiedMs > 0 && !Number.isNaN(modified.getTime())) {
      await utimes(temporary, modified, modified);
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** Makes a folder's list of names durable. */
async function syncFolder(folder: string): Promise<void> {
  // Windows knows no such call and keeps names by itself.
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function nothingThere(error: NodeJS.ErrnoException): undefined {
  if (error.code === "ENOENT") return undefined;
  throw error;
}
