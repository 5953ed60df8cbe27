/** The library as a page gets it: bundled by esbuild, as a browser would be served it. */
import { gzipSync } from "node:zlib";
import { build, type Metafile } from "esbuild";

export interface Bundle {
  readonly code: string;
  readonly gzippedBytes: number;
  readonly inputs: Metafile["inputs"];
}

/** Bundles a file, or the text of one. */
export async function bundle(
  entry: { readonly file: string } | { readonly text: string; readonly folder: string },
  options: { readonly minify?: boolean } = {},
): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    ...("file" in entry
      ? { entryPoints: [entry.file] }
      : { stdin: { contents: entry.text, resolveDir: entry.folder, loader: "ts" as const } }),
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    minify: options.minify ?? false,
    metafile: true,
    write: false,
    logLevel: "silent",
  });
  const code = outputFiles[0]?.text ?? "";
  return { code, gzippedBytes: gzipSync(code, { level: 9 }).byteLength, inputs: metafile.inputs };
}
