/** The files a push is asked for: found, named and looked at before anything is queued. */
import type { Stats } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, isAbsolute, join, relative, resolve, sep } from "node:path";
import { usageError } from "../exit-codes.ts";
import type { SyncedFile } from "./file-entry.ts";
import { pathProblem } from "./file-path.ts";

/** A file to be pushed. */
export interface Source {
  /** Where it is on this machine. */
  readonly file: string;
  /** Where it will stand in a receiver's folder. */
  readonly path: string;
  readonly bytes: number;
  readonly executable: boolean;
  readonly modifiedMs: number;
}

/** How files are found. */
export interface CollectOptions {
  /** What paths are relative to. A file outside it goes by its name alone. */
  readonly base: string;
  /** Whether folders are pushed with all they hold. */
  readonly recursive: boolean;
  /** Told of what a folder holds that is no file. */
  readonly skipped: (file: string, why: string) => void;
}

/** Finds every file that these arguments name, in a stable order. Throws where one cannot be pushed. */
export async function collectSources(
  names: readonly string[],
  options: CollectOptions,
): Promise<Source[]> {
  const sources: Source[] = [];
  for (const name of names) {
    const found = await stat(name);
    if (found.isFile()) {
      sources.push(
        sourceOf(name, insideBase(name, options.base) ?? basename(resolve(name)), found),
      );
    } else if (found.isDirectory()) {
      if (!options.recursive) {
        throw usageError(`${name}: a folder`, "push it with all it holds: sync-cli push -r FOLDER");
      }
      await collectFolder(name, options, sources);
    } else {
      throw usageError(`${name}: neither a file nor a folder`);
    }
  }
  return withoutDuplicates(sources);
}

/** Reads a file whole. */
export async function readSource(source: Source): Promise<SyncedFile> {
  const { path, executable, modifiedMs } = source;
  return { path, executable, modifiedMs, data: await readFile(source.file) };
}

async function collectFolder(
  folder: string,
  options: CollectOptions,
  into: Source[],
): Promise<void> {
  const name = basename(resolve(folder));
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .map((entry) => ({ entry, file: join(entry.parentPath, entry.name) }))
    .toSorted((left, right) => (left.file < right.file ? -1 : 1));
  for (const { entry, file } of files) {
    if (entry.isFile()) {
      const path = insideBase(file, options.base) ?? `${name}/${posix(relative(folder, file))}`;
      into.push(sourceOf(file, path, await stat(file)));
    } else if (!entry.isDirectory()) {
      // A link could lead anywhere, also out of the folder that was named.
      options.skipped(file, entry.isSymbolicLink() ? "a symbolic link" : "not a file");
    }
  }
}

function sourceOf(file: string, path: string, found: Stats): Source {
  const problem = pathProblem(path);
  if (problem !== undefined)
    throw usageError(`${file}: ${problem}`, "push it from within its folder, or with --base");
  return {
    file,
    path,
    bytes: found.size,
    executable: (found.mode & 0o100) !== 0,
    modifiedMs: Math.max(0, Math.trunc(found.mtimeMs)),
  };
}

/** The path below `base`; undefined for a file outside. */
function insideBase(file: string, base: string): string | undefined {
  const path = relative(resolve(base), resolve(file));
  const outside = path === "" || path === ".." || path.startsWith(`..${sep}`) || isAbsolute(path);
  return outside ? undefined : posix(path);
}

function posix(path: string): string {
  return path.split(sep).join("/");
}

/** A file named twice goes once; two files that would take one place are refused. */
function withoutDuplicates(sources: readonly Source[]): Source[] {
  const byPath = new Map<string, Source>();
  for (const source of sources) {
    const other = byPath.get(source.path);
    if (other !== undefined && resolve(other.file) !== resolve(source.file)) {
      throw usageError(
        `${other.file} and ${source.file} would both be ${source.path}`,
        "push them from a folder that holds both, or with --base",
      );
    }
    byPath.set(source.path, source);
  }
  return [...byPath.values()];
}
