/**
 * The client as a page gets it: bundled and minified, it holds nothing of Node, and no more than its budget.
 */
import { relative } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Minified and gzipped, in bytes: what it is, and a little. It is to come down to 90,000. Never raised. */
export const pageBudget = {
  /** What a page loads before it runs. */
  first: 139_000,
  /** With what is loaded when it is needed, if it is; in files of their own, which compress a little less well. */
  whole: 161_000,
};

/** What may stand in no page: by the name of the package, or of the folder. */
const foreign =
  /^(?:(?:.*\/)?node_modules\/(sodium-native|sodium-universal|noise-handshake|sqlite3|ws|pino|commander|age-encryption|@connectrpc)\/|(?:.*\/)?(server|cli|platform\/node)\/)/;

export interface PageBundle {
  /** What a page loads before it runs. */
  readonly firstBytes: number;
  /** With what is loaded when it is needed. */
  readonly wholeBytes: number;
  /** What does not belong in a page, each in one line. */
  readonly problems: readonly string[];
}

/** Bundles what imports this. Built-ins of Node cannot be resolved, and are problems. */
export async function bundlePage(
  contents: string,
  folder: string,
  splitting = true,
): Promise<PageBundle> {
  try {
    const { outputFiles, metafile } = await build({
      stdin: { contents, resolveDir: folder, loader: "ts", sourcefile: "page.ts" },
      absWorkingDir: folder,
      outdir: "page",
      bundle: true,
      splitting,
      minify: true,
      format: "esm",
      platform: "browser",
      target: "es2022",
      treeShaking: true,
      metafile: true,
      write: false,
      logLevel: "silent",
    });
    const bytes = new Map(
      outputFiles.map(({ path, contents }) => [
        relative(folder, path),
        gzipSync(contents, { level: 9 }).byteLength,
      ]),
    );
    const first = new Set<string>();
    const load = (path: string): void => {
      if (first.has(path)) return;
      first.add(path);
      for (const { path: next, kind } of metafile.outputs[path]?.imports ?? []) {
        if (kind === "import-statement") load(next);
      }
    };
    load("page/stdin.js");
    const sum = (paths: Iterable<string>): number =>
      [...paths].reduce((total, path) => total + (bytes.get(path) ?? 0), 0);
    const inputs = Object.values(metafile.outputs).flatMap((output) =>
      Object.entries(output.inputs),
    );
    return {
      firstBytes: sum(first),
      wholeBytes: sum(bytes.keys()),
      problems: inputs.flatMap(([path, { bytesInOutput }]) =>
        bytesInOutput > 0 && foreign.test(path) ? [`does not belong in a page: ${path}`] : [],
      ),
    };
  } catch (error) {
    const { errors } = error as { errors?: readonly { readonly text: string }[] };
    if (errors === undefined) throw error;
    return { firstBytes: 0, wholeBytes: 0, problems: errors.map(({ text }) => text) };
  }
}
