/**
 * Plants known bugs, one at a time, in a copy of the tree, and runs the proof that must find each.
 *
 *     npm run mutants                     all of them
 *     npm run mutants -- cursor epoch     those whose names contain one of these words
 *
 * The last line is `N of N found`; ends with 1 where one is not.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { trustBugs } from "../tests/malicious-relay/planted.ts";
import { lieBugs } from "../tests/malicious-relay/planted-lies.ts";
import { wakeUpBugs } from "../tests/relay/planted.ts";
import { type PlantedBug, plantedBugs } from "../tests/simulation/planted.ts";

/** A proof that runs longer has found nothing. */
const proofMsMax = 600_000;

const root = fileURLToPath(new URL("..", import.meta.url));

/** A copy that bugs can be planted in. */
function copyTree(): string {
  const folder = mkdtempSync(join(tmpdir(), "sync-relay-mutants-"));
  for (const part of ["client", "gen", "scripts", "server", "tests", "wire"]) {
    cpSync(join(root, part), join(folder, part), { recursive: true });
  }
  for (const file of ["package.json", "tsconfig.json"]) {
    cpSync(join(root, file), join(folder, file));
  }
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return folder;
}

/** What a proof came to: its exit code, and the line that says why. */
function run(folder: string, args: readonly string[]): Promise<{ code: number; why: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", ...args], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: proofMsMax,
    });
    let output = "";
    const collect = (chunk: Buffer): void => void (output += chunk.toString());
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", reject);
    child.on("exit", (code) => {
      const lines = output.split("\n");
      const why =
        lines.find((line) => /^seed \d+ failed: /.test(line)) ??
        lines.find((line) => line.trimStart().startsWith("✖")) ??
        lines.filter((line) => line !== "").at(-1) ??
        "";
      resolve({ code: code ?? -1, why: why.trim() });
    });
  });
}

function proofOf(bug: PlantedBug): string[] {
  return "seeds" in bug.proof
    ? [
        "tests/simulation/main.ts",
        "--stop",
        "--no-shrink",
        `--seeds=${bug.proof.seeds}`,
        `--from=${bug.proof.from ?? 1}`,
      ]
    : ["scripts/test.ts", ...bug.proof.tests];
}

async function plant(folder: string, bug: PlantedBug): Promise<boolean> {
  const path = join(folder, bug.file);
  const source = readFileSync(path, "utf8");
  if (source.split(bug.from).length !== 2) {
    process.stdout.write(`??     ${bug.name}: its text does not stand once in ${bug.file}\n`);
    return false;
  }
  writeFileSync(
    path,
    source.replace(bug.from, () => bug.to),
  );
  try {
    const { code, why } = await run(folder, proofOf(bug));
    const found = code > 0;
    process.stdout.write(
      `${found ? "found " : "MISSED"} ${bug.name}\n       ${why.slice(0, 160)}\n`,
    );
    return found;
  } finally {
    writeFileSync(path, source);
  }
}

const words = process.argv.slice(2);
const bugs = [...plantedBugs, ...trustBugs, ...lieBugs, ...wakeUpBugs].filter(
  ({ name }) => words.length === 0 || words.some((word) => name.includes(word)),
);
const folder = copyTree();
let found = 0;
try {
  for (const bug of bugs) if (await plant(folder, bug)) found += 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.stdout.write(`${found} of ${bugs.length} found\n`);
process.exitCode = found === bugs.length ? 0 : 1;
