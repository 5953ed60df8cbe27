/** Compiles what the runs start as processes: the two programs, the library, and `processes/`. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Files that a process of a run is started from. */
export interface Built {
  /** `sync-relay`. */
  readonly relay: string;
  readonly device: string;
  /** Loaded before either, where it is to end or fail at a chosen point. */
  readonly points: string;
  remove(): void;
}

/** Beside the checkout, where its packages are found, and of this run alone: others may build meanwhile. */
export function build(): Built {
  const cache = join(root, "node_modules", ".cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "sync-relay-chaos-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  try {
    execFileSync(
      join(root, "node_modules/.bin/tsc"),
      ["-p", join(root, "tests", "chaos"), "--outDir", folder],
      { cwd: root, stdio: ["ignore", "pipe", "inherit"] },
    );
  } catch (error) {
    remove();
    const { stdout } = error as { stdout?: Buffer };
    throw new Error(`what is to run does not compile\n${stdout?.toString() ?? ""}`, {
      cause: error,
    });
  }
  for (const data of ["server/store/migrations", "server/status-page/page"]) {
    cpSync(join(root, data), join(folder, data), { recursive: true });
  }
  writeFileSync(join(folder, "package.json"), '{"type":"module"}\n');
  process.once("exit", remove);
  return {
    relay: join(folder, "cli", "relay", "main.js"),
    device: join(folder, "tests", "chaos", "processes", "device.js"),
    points: join(folder, "tests", "chaos", "processes", "points.js"),
    remove,
  };
}
