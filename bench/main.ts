/**
 * Measures the relay against the limits of its kind.
 *
 *     npm run bench                      every question
 *     npm run bench -- push catch-up     only these
 *     npm run bench -- --json            for machines: an array of results
 *     npm run bench -- --runs 5          repetitions of each side; 3 where not said
 *     npm run bench -- --short           a fiftieth of everything, once: whether it works, not how fast
 *     npm run bench -- --report          what docs/PERFORMANCE.md shows, and writes it there; all of it, or some by name
 *     npm run bench -- --report --provisional     the same, said to be measured on a busy machine
 *     npm run bench -- --draw            draws that page's charts and tables again
 *     npm run bench -- push --profile DIR     leaves a profile of the relay's process in DIR
 *     npm run bench -- browser --entries 20000    a shorter log; 100,000 where not said
 *     npm run bench -- browser --page-profile FILE     leaves a profile of a page in Chromium
 *
 * Figures are shares of a limit measured in the same run on the same machine:
 * absolute ones drift. The table goes to standard output, all else to standard
 * error.
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { build } from "./harness/build.ts";
import { describeMachine } from "./harness/machine.ts";
import type { Question, Result, Settings } from "./harness/measure.ts";
import { formatResults } from "./harness/table.ts";
import { browser } from "./questions/browser.ts";
import { bundle } from "./questions/bundle.ts";
import { bytes } from "./questions/bytes.ts";
import { catchUp } from "./questions/catch-up.ts";
import { delivery } from "./questions/delivery.ts";
import { fanOut } from "./questions/fan-out.ts";
import { growth } from "./questions/growth.ts";
import { limits } from "./questions/limits.ts";
import { memory } from "./questions/memory.ts";
import { payload } from "./questions/payload.ts";
import { push, pushCoalesced } from "./questions/push.ts";
import { pushBatch } from "./questions/push-batch.ts";
import { retention } from "./questions/retention.ts";
import { startUp } from "./questions/start-up.ts";
import { verification } from "./questions/verification.ts";
import { draw, keep } from "./report/figures.ts";

const questions: readonly Question[] = [
  limits,
  push,
  pushCoalesced,
  pushBatch,
  payload,
  delivery,
  fanOut,
  catchUp,
  growth,
  startUp,
  memory,
  bytes,
  bundle,
  browser,
  retention,
  verification,
];

/** What the page of figures shows; the others are told where they belong. */
const reported = questions.filter(
  (question) => question !== retention && question !== verification,
);
const reportedNames = reported.map(({ name }) => name);
/** Entries of a page's log there: all of it takes longer than everything else. */
const reportedEntries = 20_000;

function usage(problem: string): number {
  const names = questions.map(({ name, what }) => `  ${name.padEnd(16)} ${what}`).join("\n");
  process.stderr.write(`bench: ${problem}; there are\n${names}\n`);
  return 2;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      runs: { type: "string" },
      short: { type: "boolean", default: false },
      report: { type: "boolean", default: false },
      provisional: { type: "boolean", default: false },
      draw: { type: "boolean", default: false },
      profile: { type: "string" },
      entries: { type: "string" },
      "page-profile": { type: "string" },
    },
  });
  const unknown = positionals.filter((name) => !questions.some((known) => known.name === name));
  if (unknown.length > 0) return usage(`no question is called ${unknown.join(", ")}`);
  const repetitions = Number(values.runs ?? (values.short ? 1 : 3));
  if (!Number.isInteger(repetitions) || repetitions < 1) return usage("--runs takes a number");
  if (values.draw) {
    draw();
    return 0;
  }
  const entries = Number(values.entries ?? (values.report ? reportedEntries : 100_000));
  if (!Number.isInteger(entries) || entries < 1) {
    return usage("--entries takes a number");
  }
  const pageProfile = values["page-profile"];
  const asked = (values.report ? reported : questions).filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  build();
  const machine = await describeMachine();
  const results: Result[] = [];
  let failed = false;
  for (const question of asked) {
    const settings = {
      repetitions,
      relayOptions:
        values.profile === undefined
          ? []
          : ["--cpu-prof", `--cpu-prof-dir=${resolve(values.profile)}`],
      short: values.short,
      entries,
      ...(pageProfile === undefined ? {} : { pageProfile: resolve(pageProfile) }),
      progress: (text: string) => process.stderr.write(`${question.name}: ${text}\n`),
    };
    const began = performance.now();
    const answered = await tried(question, settings);
    if (answered === undefined) {
      failed = true;
      continue;
    }
    results.push(...answered);
    settings.progress(`took ${Math.round((performance.now() - began) / 1_000)} s`);
    // One by one: what was measured is not lost where a later question fails.
    if (values.report) keep(machine, answered, reportedNames, values.provisional);
  }
  process.stdout.write(
    values.json
      ? `${JSON.stringify(
          results.map((result) => ({ ...result, machine })),
          (_, value: unknown) => (value === undefined ? null : value),
          2,
        )}\n`
      : formatResults(machine, results),
  );
  return failed ? 1 : 0;
}

/** A question's answer, asked once more where it came to nothing: a busy machine breaks what a run must keep to. */
async function tried(question: Question, settings: Settings): Promise<Result[] | undefined> {
  for (let attempt = 1; attempt <= 2; attempt++) {
    try {
      return await question.ask(settings);
    } catch (error) {
      settings.progress(`came to nothing: ${String(error)}`);
    }
  }
  settings.progress("is NOT answered");
  return undefined;
}

process.exitCode = await main();
