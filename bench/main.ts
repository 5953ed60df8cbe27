/**
 * Measures the relay against the limits of its kind.
 *
 *     npm run bench                      every question
 *     npm run bench -- push catch-up     only these
 *     npm run bench -- --json            for machines: an array of results
 *     npm run bench -- --runs 5          repetitions of each side; 3 where not said
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
import type { Question, Result } from "./harness/measure.ts";
import { formatResults } from "./harness/table.ts";
import { browser } from "./questions/browser.ts";
import { catchUp } from "./questions/catch-up.ts";
import { delivery } from "./questions/delivery.ts";
import { fanOut } from "./questions/fan-out.ts";
import { limits } from "./questions/limits.ts";
import { payload } from "./questions/payload.ts";
import { push, pushCoalesced } from "./questions/push.ts";
import { pushBatch } from "./questions/push-batch.ts";
import { retention } from "./questions/retention.ts";
import { verification } from "./questions/verification.ts";

const questions: readonly Question[] = [
  limits,
  push,
  pushCoalesced,
  pushBatch,
  payload,
  delivery,
  fanOut,
  catchUp,
  retention,
  verification,
  browser,
];

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
      runs: { type: "string", default: "3" },
      profile: { type: "string" },
      entries: { type: "string" },
      "page-profile": { type: "string" },
    },
  });
  const unknown = positionals.filter((name) => !questions.some((known) => known.name === name));
  if (unknown.length > 0) return usage(`no question is called ${unknown.join(", ")}`);
  const repetitions = Number(values.runs);
  if (!Number.isInteger(repetitions) || repetitions < 1) return usage("--runs takes a number");
  const entries = values.entries === undefined ? undefined : Number(values.entries);
  if (entries !== undefined && !(Number.isInteger(entries) && entries > 0)) {
    return usage("--entries takes a number");
  }
  const pageProfile = values["page-profile"];
  const asked = questions.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  build();
  const machine = await describeMachine();
  const results: Result[] = [];
  for (const question of asked) {
    const settings = {
      repetitions,
      relayOptions:
        values.profile === undefined
          ? []
          : ["--cpu-prof", `--cpu-prof-dir=${resolve(values.profile)}`],
      ...(entries === undefined ? {} : { entries }),
      ...(pageProfile === undefined ? {} : { pageProfile: resolve(pageProfile) }),
      progress: (text: string) => process.stderr.write(`${question.name}: ${text}\n`),
    };
    results.push(...(await question.ask(settings)));
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
  return 0;
}

process.exitCode = await main();
