/** Where a benchmark's compiled code and its stores lie, and the compiling. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Compiled, this file lies four folders deeper than its source does.
const here = fileURLToPath(new URL(".", import.meta.url));
const cacheName = join("node_modules", ".cache", "sync-relay-bench");
const compiledAt = here.indexOf(cacheName);
export const root =
  compiledAt === -1 ? fileURLToPath(new URL("../..", import.meta.url)) : here.slice(0, compiledAt);

/** Beside the checkout and not in the temporary folder, which may be memory: an fsync must mean something. */
const cacheFolder = join(root, cacheName);
/** Holds `bench/`, `server/`, `wire/` and `gen/` as JavaScript. */
export const buildFolder = join(cacheFolder, "build");

/** Compiles both sides. Fails with the compiler's words where they do not compile. */
export function build(): void {
  rmSync(buildFolder, { recursive: true, force: true });
  try {
    execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", join(root, "bench")], {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
    });
  } catch (error) {
    const { stdout } = error as { stdout?: Buffer };
    throw new Error(`the benchmark does not compile\n${stdout?.toString() ?? ""}`, {
      cause: error,
    });
  }
  // The compiler leaves the migrations where they are.
  const migrations = join("server", "store", "migrations");
  cpSync(join(root, migrations), join(buildFolder, migrations), { recursive: true });
}

/** Gives `work` an empty folder on the checkout's disk that is gone afterwards. */
export async function inDataFolder<Result>(
  work: (folder: string) => Promise<Result>,
): Promise<Result> {
  mkdirSync(cacheFolder, { recursive: true });
  const folder = mkdtempSync(join(cacheFolder, "data-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
