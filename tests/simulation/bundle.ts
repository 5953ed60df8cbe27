/**
 * The simulation as one file of JavaScript, for the processes that run seeds. It is loaded at once, its
 * functions do not define their own names each time they are made, as they do under tsx, and what is slow
 * of the client's primitives remembers what it has computed (`memoized-*.ts`). The code is the same.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));

/** What the client's primitives import, and what they get in its place. */
const memoized = [
  [/^@noble\/post-quantum\/hybrid\.js$/, "memoized-x-wing.ts"],
  [/\/wire\/libsodium\.ts$/, "memoized-sodium.ts"],
] as const;

export interface Bundle {
  readonly path: string;
  remove(): void;
}

/** Bundles a file of this folder. Packages stay where they are: the result must lie below them. */
export async function bundleWorker(name: string): Promise<Bundle> {
  const cache = join(root, "node_modules/.cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "sync-relay-simulation-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const path = join(folder, "worker.mjs");
  try {
    await build({
      entryPoints: [join(here, name)],
      outfile: path,
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
      packages: "external",
      sourcemap: "linked",
      sourcesContent: false,
      logLevel: "error",
      plugins: [
        {
          name: "memoized",
          setup: ({ onResolve }) => {
            for (const [filter, file] of memoized) {
              onResolve({ filter }, ({ importer }) =>
                importer.endsWith("/client/seal/primitives.ts")
                  ? { path: join(here, file) }
                  : undefined,
              );
            }
          },
        },
      ],
    });
  } catch (error) {
    remove();
    throw error;
  }
  return { path, remove };
}
