/**
 * The client as a page gets it: bundled and minified, it holds nothing of Node, and no more than its budget.
 */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/**
 * Minified and gzipped, in bytes: what it is, and a little. It is to come down to 90,000; libsodium's
 * stand-in for pages and the protobuf runtime are more than half of it. Never raised.
 */
export const pageBudgetBytes = 195_000;

/** What may stand in no page: by the name of the package, or of the folder. */
const foreign =
  /^(?:(?:.*\/)?node_modules\/(sodium-native|sqlite3|ws|pino|commander|age-encryption|@connectrpc)\/|(?:.*\/)?(server|cli|platform\/node)\/)/;

export interface PageBundle {
  readonly gzippedBytes: number;
  /** What does not belong in a page, each in one line. */
  readonly problems: readonly string[];
}

/** Bundles what imports this. Built-ins of Node cannot be resolved, and are problems. */
export async function bundlePage(contents: string, folder: string): Promise<PageBundle> {
  try {
    const { outputFiles, metafile } = await build({
      stdin: { contents, resolveDir: folder, loader: "ts" },
      bundle: true,
      minify: true,
      format: "esm",
      platform: "browser",
      target: "es2022",
      treeShaking: true,
      metafile: true,
      write: false,
      logLevel: "silent",
    });
    const code = outputFiles[0]?.contents ?? new Uint8Array(0);
    const inputs = Object.values(metafile.outputs)[0]?.inputs ?? {};
    return {
      gzippedBytes: gzipSync(code, { level: 9 }).byteLength,
      problems: Object.entries(inputs).flatMap(([path, { bytesInOutput }]) =>
        bytesInOutput > 0 && foreign.test(path) ? [`does not belong in a page: ${path}`] : [],
      ),
    };
  } catch (error) {
    const { errors } = error as { errors?: readonly { readonly text: string }[] };
    if (errors === undefined) throw error;
    return { gzippedBytes: 0, problems: errors.map(({ text }) => text) };
  }
}
