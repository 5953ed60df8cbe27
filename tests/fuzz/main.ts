/**
 * Feeds bad input, for as long as it is asked to.
 *
 *     npm run fuzz -- --inputs 1000000             all targets
 *     npm run fuzz -- --inputs 100000 --seed 7 envelopes toml
 *     npm run fuzz -- --inputs 100000 --keep       what did something new goes into tests/fuzz/corpus
 *     npm run fuzz -- --workers 2                  processes at once; one for each core by default
 *
 * The same seed and workers feed the same inputs. Ends with 1 at the first finding, and prints it.
 */
import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { readCorpus, writeCorpus } from "./corpus.ts";
import { Coverage } from "./coverage.ts";
import { Finding, Run } from "./engine.ts";
import { targets } from "./targets.ts";
import { Watchdog } from "./watchdog.ts";

/** An input takes a millisecond, or a second on a machine that is busy. */
const hangMs = 120_000;
/** How often it is told how far it is. */
const tellMs = 30_000;
/** Each target's turn, in inputs for each unit of its weight. */
const turnInputs = 1_000;

interface Result {
  readonly inputs: number;
  readonly parts: number;
  readonly rows: readonly {
    readonly name: string;
    readonly inputs: number;
    readonly outcomes: readonly (readonly [string, number])[];
    readonly kept: readonly string[];
  }[];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    inputs: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    workers: { type: "string", default: String(availableParallelism()) },
    keep: { type: "boolean", default: false },
    child: { type: "boolean", default: false },
  },
});
const inputs = Number(values.inputs);
const seed = Number(values.seed);
const chosen = targets.filter(
  ({ name }) => positionals.length === 0 || positionals.some((word) => name.startsWith(word)),
);

if (chosen.length === 0 || !(inputs > 0) || !Number.isInteger(seed)) {
  process.stderr.write(`targets: ${targets.map(({ name }) => name).join(" ")}\n`);
  process.exitCode = 2;
} else if (values.child) {
  // Nobody is left to tell.
  process.on("disconnect", () => process.exit());
  const result = await work();
  // Leaving before it is taken would lose it.
  process.send?.({ result }, () => process.disconnect());
} else {
  await lead();
}

/** One process's share. */
async function work(): Promise<Result> {
  const coverage = new Coverage(/\/(?:wire|client|server|gen|cli)\/[^?]*\.ts/);
  const watchdog = new Watchdog(hangMs);
  const runs = chosen.map(
    (target) => new Run(target, seed, readCorpus(target.name), coverage, watchdog),
  );
  let total = 0;
  try {
    for (const run of runs) {
      process.send?.({ at: run.target.name });
      await run.begin();
    }
    while (total < inputs) {
      for (const run of runs) {
        process.send?.({ at: run.target.name });
        await run.go(Math.min(run.target.weight * turnInputs, Math.ceil(inputs / 20)));
      }
      total = runs.reduce((sum, run) => sum + run.inputs, 0);
      process.send?.({ result: resultOf(runs, coverage) });
      watchdog.alive();
    }
  } catch (error) {
    if (!(error instanceof Finding)) throw error;
    const input = Buffer.from(error.input).toString("base64");
    process.send?.({ finding: `${error.message}\n\ninput, base64: ${input}` });
  }
  return resultOf(runs, coverage);
}

/** What it came to so far: told after each round, so that a run that is cut short still tells. */
function resultOf(runs: readonly Run[], coverage: Coverage): Result {
  return {
    inputs: runs.reduce((sum, run) => sum + run.inputs, 0),
    parts: coverage.parts,
    rows: runs.map((run) => ({
      name: run.target.name,
      inputs: run.inputs,
      outcomes: [...run.outcomes].toSorted((a, b) => b[1] - a[1]),
      kept: run.kept.map((input) => Buffer.from(input).toString("base64")),
    })),
  };
}

async function lead(): Promise<void> {
  const startedMs = performance.now();
  const workers = Math.max(1, Number(values.workers));
  const told: Result[] = [];
  const telling = setInterval(() => {
    const sum = told.reduce((sum, { inputs }) => sum + inputs, 0);
    const s = (performance.now() - startedMs) / 1_000;
    process.stderr.write(`fuzz: ${sum} of ${inputs} inputs, ${s.toFixed(0)} s\n`);
  }, tellMs);
  const results = await Promise.all(
    Array.from({ length: workers }, (_, at) => child(at, workers, told)),
  );
  clearInterval(telling);
  const names = chosen.map(({ name }) => name);
  for (const name of names) {
    const rows = results.flatMap((result) => result.rows.filter((row) => row.name === name));
    const outcomes = new Map<string, number>();
    for (const [outcome, count] of rows.flatMap((row) => row.outcomes)) {
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + count);
    }
    const count = rows.reduce((sum, row) => sum + row.inputs, 0);
    const said = [...outcomes]
      .toSorted((a, b) => b[1] - a[1])
      .map(([outcome, times]) => `${outcome} ${times}`);
    const more = said.length > 8 ? `, and ${said.length - 8} more` : "";
    process.stdout.write(
      `${name.padEnd(20)}${String(count).padStart(10)}  ${said.slice(0, 8).join(", ")}${more}\n`,
    );
    if (values.keep) {
      const kept = rows.flatMap((row) => row.kept.map((text) => Buffer.from(text, "base64")));
      writeCorpus(name, [...readCorpus(name), ...kept]);
    }
  }
  const all = results.reduce((sum, result) => sum + result.inputs, 0);
  const parts = Math.max(...results.map((result) => result.parts));
  const seconds = (performance.now() - startedMs) / 1000;
  process.stdout.write(
    `${all} inputs, ${parts} parts of the code run, ${seconds.toFixed(1)} s, ` +
      `${Math.round(all / seconds)} a second: ${process.exitCode === 1 ? "FINDINGS" : "no findings"}\n`,
  );
}

/** What the process came to; where it ended before its time, that is said, and what it came to until then. */
function child(at: number, workers: number, told: Result[]): Promise<Result> {
  return new Promise((resolve) => {
    const args = ["--child", "--inputs", String(Math.ceil(inputs / workers))];
    const worker = fork(
      fileURLToPath(import.meta.url),
      [...args, "--seed", String(seed * 1_000 + at), ...positionals],
      { execArgv: [...process.execArgv, "--max-old-space-size=1024"] },
    );
    let last = "the start";
    worker.on("message", (message: Record<string, unknown>) => {
      if (typeof message["at"] === "string") last = message["at"];
      if (typeof message["finding"] === "string") {
        process.stdout.write(`${message["finding"]}\n\n`);
        process.exitCode = 1;
      }
      if (message["result"] !== undefined) told[at] = message["result"] as Result;
    });
    worker.on("exit", (code, signal) => {
      if (code !== 0) {
        process.stdout.write(`a process at ${last} ended with ${code ?? signal}\n`);
        process.exitCode = 1;
      }
      resolve(told[at] ?? { inputs: 0, parts: 0, rows: [] });
    });
  });
}
