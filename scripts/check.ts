/**
 * Runs what continuous integration runs, step by step.
 *
 *     npm run check                       every step
 *     npm run check -- lint types         only these
 *     npm run check -- --without tests    every step but these
 *
 * Every step runs even after one has failed, so that one run names everything there is to mend. A
 * step's output is shown when it fails; that of the tests always.
 */

import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { compareFolders, listFiles } from "./files.ts";
import { findViolations, readSources } from "./import-graph.ts";
import { type Manifest, packageProblems } from "./package-content.ts";
import { bundlePage, pageBudget } from "./page-bundle.ts";
import { readReference } from "./reference.ts";

/** A step failed, and its text says how. */
class StepFailure extends Error {}

/** What a step tells beside "ok": a word on what it did, or why there was nothing to do. */
type Remark = string | undefined;

interface Step {
  readonly name: string;
  readonly what: string;
  readonly run: () => Promise<Remark> | Remark;
}

/** What an application has installed with the package, or beside it. */
interface Dependencies {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

const root = fileURLToPath(new URL("..", import.meta.url));

/** Runs a program in the checkout and resolves with all it printed, or fails with that. */
function run(command: string, args: readonly string[], show = false, cwd = root): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      stdio: show ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        // Colours are for terminals; this text is shown later, if at all, and may end up in a log.
        // oxlint takes CI for a terminal that shows colours, whatever NO_COLOR says.
        ...(show ? {} : { NO_COLOR: "1", FORCE_COLOR: undefined, CI: undefined }),
        PATH: `${join(root, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`,
      },
    });
    let output = "";
    const collect = (chunk: Buffer): void => void (output += chunk.toString());
    child.stdout?.on("data", collect);
    child.stderr?.on("data", collect);
    child.on("error", (error) => reject(new StepFailure(`${command}: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code === 0) resolve(output);
      else
        reject(new StepFailure(`${output.trimEnd()}\n${command}: exit ${code ?? signal}`.trim()));
    });
  });
}

/** A step that is one program and its exit code. */
function program(name: string, what: string, command: string, ...args: string[]): Step {
  return {
    name,
    what,
    run: async () => {
      await run(command, args);
      return undefined;
    },
  };
}

/** Gives `work` an empty folder that is gone afterwards. */
async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "sync-relay-check-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checkImports(): Remark {
  const sources = readSources(root);
  const violations = findViolations(sources);
  if (violations.length > 0) throw new StepFailure(violations.join("\n"));
  return `${sources.size} files`;
}

/**
 * Compares the schema with the newest one others may already build on. A clone made for one commit
 * may know the main branch under another name or not at all, hence the list.
 */
async function checkBreaking(): Promise<Remark> {
  for (const ref of ["origin/main", "main", "HEAD~"]) {
    const commit = await run("git", ["rev-parse", "--verify", "--quiet", `${ref}^{commit}`]).then(
      (output) => output.trim(),
      () => undefined,
    );
    if (commit === undefined) continue;
    const files = await run("git", ["ls-tree", "-r", "--name-only", commit, "proto", "buf.yaml"]);
    if (!files.includes(".proto\n") || !files.includes("buf.yaml\n")) continue;
    return inTemporaryFolder(async (folder) => {
      // An archive, not buf's own git input: that one cannot clone a shallow or a linked work tree.
      await run("git", [
        "archive",
        "--output",
        join(folder, "old.tar"),
        commit,
        "proto",
        "buf.yaml",
      ]);
      mkdirSync(join(folder, "old"));
      await run("tar", ["-xf", join(folder, "old.tar"), "-C", join(folder, "old")]);
      await run("buf", ["breaking", "--against", join(folder, "old")]);
      return `against ${ref}, ${commit.slice(0, 10)}`;
    });
  }
  return "skipped: neither origin/main, main nor HEAD~ holds a schema to compare with";
}

function checkGenerated(): Promise<Remark> {
  return inTemporaryFolder(async (folder) => {
    await run("buf", ["generate", "--output", folder]);
    const differences = compareFolders(join(folder, "gen"), join(root, "gen"));
    if (differences.length > 0) {
      throw new StepFailure(
        `${differences.map((path) => `gen/${path} is not what proto/ generates`).join("\n")}\nrun: npm run generate`,
      );
    }
    return undefined;
  });
}

/**
 * Packs the package as npm would and looks at it from outside: its content, its metadata, its types
 * and, in a folder of its own, whether everything it exports can be imported.
 */
function checkPackage(): Promise<Remark> {
  return inTemporaryFolder(async (folder) => {
    if (!existsSync(join(root, "dist"))) await run("npm", ["run", "build"]);
    // The step "build" has just built; prepack would do it again.
    await run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder]);
    const [tarball] = listFiles(folder);
    if (tarball === undefined) throw new StepFailure("npm pack wrote no file");
    const archive = join(folder, tarball);
    const installed = join(folder, "node_modules/sync-relay");
    mkdirSync(installed, { recursive: true });
    await run("tar", ["-xf", archive, "-C", installed, "--strip-components=1"]);
    const content = listFiles(installed);
    const sources = ["gen", "wire", "server", "client", "cli"].flatMap((name) =>
      listFiles(join(root, name)).map((path) => `${name}/${path}`),
    );
    const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Manifest &
      Dependencies;
    const problems = packageProblems(manifest, content, sources);
    if (problems.length > 0) throw new StepFailure(problems.join("\n"));
    await run("publint", ["run", archive, "--strict"]);
    await run("attw", [archive, "--profile", "esm-only", "--no-emoji"]);
    await checkInstalled(folder, content, manifest);
    return `${content.length} files`;
  });
}

/**
 * Uses the package as an application would: imports every entry, compiles against every entry, runs
 * both programs. Only the declared dependencies are within reach, so one that package.json calls a
 * development dependency is found missing here and not by the first user.
 */
async function checkInstalled(
  folder: string,
  content: readonly string[],
  manifest: Manifest & Dependencies,
): Promise<void> {
  const { dependencies, peerDependencies } = manifest;
  for (const name of [...Object.keys({ ...dependencies, ...peerDependencies }), "@types/node"]) {
    const link = join(folder, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, "node_modules", name), link, "dir");
  }
  const entries = [
    ...Object.keys(manifest.exports).filter((name) => !/[*]|\.json$/.test(name)),
    ...content
      .map((path) => /^dist\/gen\/syncrelay\/(.+)_pb\.js$/.exec(path)?.[1])
      .filter((path) => path !== undefined)
      .map((path) => `./gen/${path}`),
  ];
  const source = [
    ...entries.map((entry, at) => `import * as entry${at} from "sync-relay${entry.slice(1)}";`),
    `export const entries = [${entries.map((_, at) => `entry${at}`).join(", ")}];`,
  ].join("\n");
  writeFileSync(join(folder, "application.mts"), source);
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      // Declarations that a strict application could not compile are our fault, not its own.
      compilerOptions: {
        strict: true,
        module: "nodenext",
        target: "es2023",
        types: ["node"],
        skipLibCheck: false,
      },
      files: ["application.mts"],
    }),
  );
  await run("tsc", ["-p", "."], false, folder);
  await run(process.execPath, ["application.mjs"], false, folder);
  for (const program of Object.values(manifest.bin)) {
    const file = join("node_modules/sync-relay", program);
    if (!readFileSync(join(folder, file), "utf8").startsWith("#!/usr/bin/env node\n")) {
      throw new StepFailure(`${program} must start with #!/usr/bin/env node`);
    }
    await run(process.execPath, [file, "--help"], false, folder);
  }
}

/** Whether the public API is what docs/api/ says, and all of it is explained: the step "build" has just built it. */
function checkApi(): Remark {
  const { stale, silent } = readReference();
  if (silent.length > 0) throw new StepFailure(`${silent.join("\n")}\nexported without a comment`);
  if (stale.length > 0) {
    throw new StepFailure(`${stale.join("\n")}\nnot what is declared; run: npm run api`);
  }
  return undefined;
}

/** What a page gets of the client: nothing of Node, within its budget, and only what it imports. */
async function checkPage(): Promise<Remark> {
  const whole = await bundlePage('export * from "./client/platform/browser/index.ts";', root);
  const tauri = await bundlePage('export * from "./client/platform/tauri/index.ts";', root);
  const one = await bundlePage(
    'import { readableStatus } from "./client/index.ts"; console.log(readableStatus);',
    root,
    false,
  );
  const problems = [...whole.problems, ...tauri.problems, ...one.problems];
  for (const { firstBytes, wholeBytes } of [whole, tauri]) {
    if (firstBytes > pageBudget.first || wholeBytes > pageBudget.whole) {
      problems.push(
        `a page loads ${firstBytes} bytes first, of ${pageBudget.first}, and ${wholeBytes} in all, of ${pageBudget.whole}`,
      );
    }
  }
  if (one.firstBytes > 1_000) problems.push("one function brings others along: no tree-shaking");
  if (problems.length > 0) throw new StepFailure(problems.join("\n"));
  return `${whole.firstBytes} bytes gzipped first, ${whole.wholeBytes} in all`;
}

const steps: readonly Step[] = [
  program("format", "biome: formatting and import order", "biome", "ci", "--colors=off"),
  program("lint", "oxlint: mistakes, promises, who may import whom", "npm", "run", "lint"),
  { name: "imports", what: "the import graph, further than one step", run: checkImports },
  program("types", "tsc: types", "tsc", "--noEmit"),
  program("types-example", "tsc: types of the example", "tsc", "-p", "examples/cashtable"),
  program("schema", "buf: lint of the schema", "buf", "lint"),
  program(
    "schema-format",
    "buf: formatting of the schema",
    "buf",
    "format",
    "--diff",
    "--exit-code",
  ),
  { name: "breaking", what: "buf: no change that breaks a peer", run: checkBreaking },
  { name: "generated", what: "gen/ is what the schema generates", run: checkGenerated },
  {
    name: "tests",
    what: "npm test",
    run: async () => {
      await run("npm", ["test"], true);
      return undefined;
    },
  },
  program("build", "dist/", "npm", "run", "build"),
  { name: "api", what: "the public API is what docs/api/ says, and has comments", run: checkApi },
  { name: "page", what: "the client as a page gets it", run: checkPage },
  { name: "package", what: "the package as npm would publish it", run: checkPackage },
];

/** The steps that these arguments ask for, or a text on what is wrong with them. */
function selectSteps(args: readonly string[]): readonly Step[] | string {
  const leaveOut = args[0] === "--without";
  const names = leaveOut ? args.slice(1) : args;
  const unknown = names.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0 || (leaveOut && names.length === 0)) {
    const known = steps.map((step) => `  ${step.name.padEnd(14)} ${step.what}`).join("\n");
    return `${unknown.length > 0 ? `no step is called ${unknown.join(", ")}` : "without what?"}; there are\n${known}`;
  }
  if (names.length === 0) return steps;
  return steps.filter((step) => names.includes(step.name) !== leaveOut);
}

/** Runs one step, prints its line and says whether it passed. */
async function report(step: Step): Promise<boolean> {
  const startedMs = performance.now();
  const line = (verdict: string, remark: Remark): string => {
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(6);
    return `${verdict.padEnd(6)} ${step.name.padEnd(14)}${seconds} s  ${remark ?? step.what}\n`;
  };
  try {
    const remark = await step.run();
    process.stdout.write(line("ok", remark));
    return true;
  } catch (error) {
    if (!(error instanceof StepFailure)) throw error;
    process.stdout.write(`${line("FAILED", undefined)}\n${error.message}\n\n`);
    return false;
  }
}

async function main(): Promise<void> {
  const selected = selectSteps(process.argv.slice(2));
  if (typeof selected === "string") {
    process.stderr.write(`${selected}\n`);
    process.exitCode = 2;
    return;
  }
  const failed: string[] = [];
  for (const step of selected) if (!(await report(step))) failed.push(step.name);
  if (failed.length > 0) {
    process.stdout.write(`\ncheck failed: ${failed.join(", ")} (of ${selected.length} steps)\n`);
    process.exitCode = 1;
  } else {
    process.stdout.write(`\ncheck passed: ${selected.length} steps\n`);
  }
}

await main();
