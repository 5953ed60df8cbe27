/**
 * Runs the tests with Node's own runner.
 *
 *     npm test                    every tests/**\/*.test.ts outside the heavy rooms
 *     npm test -- wire store      only files whose path contains "wire" or "store"
 *     npm test -- chaos           a heavy room, because it is named
 *     npm test -- wire --test-name-pattern=nonce     what starts with "-" goes to node
 *
 * Node 20's `--test` takes no globs, so the files are collected here. Nothing is printed after the
 * runner: its own summary stays the last word.
 */

import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism, constants } from "node:os";
import { fileURLToPath } from "node:url";

/** Rooms under tests/ that need minutes or a browser; each runs only when it is named. */
const heavyRooms = ["browser", "chaos", "mutants", "simulation-long", "soak", "webkit"];

/** A file that is still running after this long hangs: tests inject time and never sleep. */
const fileTimeoutMs = 180_000;

/** The test files an `npm test` with these words runs, in a stable order. */
export function selectTestFiles(files: readonly string[], words: readonly string[]): string[] {
  const wanted = words.map((word) => word.replace(/^\.\//, ""));
  return files
    .filter((file) => {
      const room = file.split("/")[1] ?? "";
      const named = wanted.some((word) => word.replace(/^tests\//, "").startsWith(room));
      return named || !heavyRooms.includes(room);
    })
    .filter((file) => wanted.length === 0 || wanted.some((word) => file.includes(word)))
    .toSorted();
}

/** Every test file below `root`, as a path with "/" that starts with "tests/". */
export function collectTestFiles(root: string): string[] {
  return readdirSync(`${root}/tests`, { recursive: true, encoding: "utf8" })
    .map((path) => `tests/${path.replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".test.ts") && !path.includes("/node_modules/"));
}

function main(): void {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const args = process.argv.slice(2);
  const words = args.filter((arg) => !arg.startsWith("-"));
  const files = selectTestFiles(collectTestFiles(root), words);
  if (files.length === 0) {
    process.stderr.write(`no test file matches ${words.join(" ") || "tests/**/*.test.ts"}\n`);
    process.exitCode = 1;
    return;
  }
  const child = spawn(
    process.execPath,
    [
      "--import",
      "tsx",
      "--test",
      "--test-reporter=spec",
      // A test file mostly waits for its own process to start, so two at once pay even on one core;
      // one for each core keeps tests that measure waiting from starving each other.
      `--test-concurrency=${Math.max(2, availableParallelism())}`,
      `--test-timeout=${fileTimeoutMs}`,
      ...args.filter((arg) => arg.startsWith("-")),
      ...files,
    ],
    { cwd: root, stdio: "inherit" },
  );
  // Ctrl-C reaches the whole process group; waiting here lets the runner print its summary.
  process.on("SIGINT", () => {});
  child.on("error", (error) => {
    process.stderr.write(`cannot start the test runner: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
