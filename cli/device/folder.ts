/**
 * The folder that received files go to. Every write is whole or not there: a
 * temporary file in the folder, synced, then renamed over its target; what a
 * killed process left of one is removed when the folder is opened again. Nothing is
 * written outside, whatever path an entry names: names are checked first, and no
 * symbolic link below the folder is followed.
 *
 * The checks look at the folder as it stands when a file is written. Somebody
 * who may change the folder at that very moment could write there anyway.
 */
import { randomBytes } from "node:crypto";
import {
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  utimes,
} from "node:fs/promises";
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
    const root = await realpath(folder);
    for (const name of await readdir(root)) {
      const owner = temporaryName.exec(name)?.[1];
      if (owner !== undefined && !isRunning(Number(owner))) {
        await rm(join(root, name), { force: true });
      }
    }
    return new ReceivingFolder(root);
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
    await replaceFile(this.#root, folder, target, file);
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

/** A temporary file's name, with the process that writes it. */
const temporaryName = /^\.sync-cli-(\d+)-[0-9a-f]{16}\.part$/;

function isRunning(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    // Somebody else's process is there too.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function replaceFile(
  root: string,
  folder: string,
  target: string,
  file: SyncedFile,
): Promise<void> {
  const random = randomBytes(8).toString("hex");
  const temporary = join(root, `.sync-cli-${process.pid}-${random}.part`);
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
