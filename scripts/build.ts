/**
 * Builds dist/: JavaScript and declarations from TypeScript, and every other file of the published
 * folders (SQL migrations, the status page) beside them, so that a path relative to
 * `import.meta.url` means the same in a checkout and in the package.
 */

import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folders that are published, the same ones tsconfig.build.json compiles. */
const publishedFolders = ["gen", "wire", "server", "client", "cli"];

/** True for what tsc leaves behind: assets, and hand-written declarations. */
function isCopied(path: string): boolean {
  // A folder's package.json speaks of sources; the package's own speaks of what is built.
  if (path.endsWith("package.json")) return false;
  return path.endsWith(".d.ts") || !/\.(ts|md)$/.test(path);
}

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);
// A file deleted from the sources must not live on in the package.
rmSync("dist", { recursive: true, force: true });
const compiler = spawnSync(
  process.execPath,
  ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"],
  {
    stdio: "inherit",
  },
);
if (compiler.status !== 0) process.exit(compiler.status ?? 1);
for (const folder of publishedFolders) {
  cpSync(folder, `dist/${folder}`, {
    recursive: true,
    filter: (path) => statSync(path).isDirectory() || isCopied(path),
  });
}
const { bin } = JSON.parse(readFileSync("package.json", "utf8")) as { bin: Record<string, string> };
// npm sets the bit when it installs; this is for whoever runs dist/ from the checkout.
for (const program of Object.values(bin)) {
  if (existsSync(program)) chmodSync(program, 0o755);
  else {
    process.stderr.write(`package.json names the program ${program}, which has no source\n`);
    process.exitCode = 1;
  }
}
