/**
 * Real processes on a bad day: `npm run chaos`.
 *
 *     npm run chaos                         every scenario
 *     npm run chaos -- --list               their names
 *     npm run chaos -- "half-open"          those with that in their names
 *     npm run chaos -- --seed 7             with other faults; what is drawn follows from the seed
 *     npm run chaos -- --verbose            with the story of each
 *     npm run chaos -- kills --kills 200    that many kills of the relay, and of a device
 *     npm run chaos -- backups --seconds 60 a backup every second, under load
 *
 * Ends with 1 where anything did not hold; what this machine does not permit is left out, loudly.
 */
import { inspect, parseArgs } from "node:util";
import { backups } from "./backups.ts";
import { bounded } from "./bounded.ts";
import { build } from "./build.ts";
import { kills } from "./kills.ts";
import type { Scenario } from "./scenario.ts";
import { scenarios } from "./scenarios.ts";
import { describeCounted } from "./truth.ts";
import { NotHere, World } from "./world.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    list: { type: "boolean", default: false },
    seed: { type: "string", default: "1" },
    verbose: { type: "boolean", default: false },
    kills: { type: "string", default: "200" },
    seconds: { type: "string", default: "60" },
  },
});

function number(name: "seed" | "kills" | "seconds"): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  process.stderr.write(`chaos: --${name} takes a whole number from 1\n`);
  process.exit(2);
}

const seed = number("seed");
const all: readonly Scenario[] = [...scenarios, kills(number("kills")), backups(number("seconds"))];
/** A whole name is that scenario alone; a part of one is all that have it. */
function named(word: string): readonly Scenario[] {
  const exact = all.filter(({ name }) => name === word);
  return exact.length > 0 ? exact : all.filter(({ name }) => name.includes(word));
}
const wanted = new Set(positionals.flatMap(named));
const chosen = positionals.length === 0 ? scenarios : all.filter((each) => wanted.has(each));

/** A scenario that takes longer hangs: the longest takes some minutes on a busy machine. */
const scenarioMs = 20 * 60_000;
/** These take as long as they are told to. */
const runMs = 6 * 3_600_000;

/** The run that is under way: its processes end with this one. */
let current: World | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    const exit = (): never => process.exit(130);
    if (current === undefined) exit();
    else current.end().then(exit, exit);
  });
}

if (values.list) {
  process.stdout.write(`${all.map(({ name }) => name).join("\n")}\n`);
} else if (chosen.length === 0) {
  process.stderr.write("chaos: no scenario is called so; --list names them\n");
  process.exitCode = 2;
} else {
  process.exitCode = await runAll(chosen);
}

async function runAll(run: readonly Scenario[]): Promise<number> {
  const beganMs = performance.now();
  const built = build();
  let failed = 0;
  let entries = 0;
  const left: string[] = [];
  for (const [i, scenario] of run.entries()) {
    const startMs = performance.now();
    const tell = (text: string): void => {
      if (values.verbose) process.stdout.write(`${text}\n`);
    };
    const world = new World({ built, seed, tell, short: false });
    current = world;
    const head = `${String(i + 1).padStart(String(run.length).length)}/${run.length}`;
    let outcome = "ok";
    try {
      const ms = scenarios.includes(scenario) ? scenarioMs : runMs;
      await bounded(scenario.run(world), ms, () => `${scenario.name} is over`);
      if (world.counted === undefined) throw new Error("nobody judged what it came to");
      entries += world.counted.queued;
      outcome = `ok  ${describeCounted(world.counted)}`;
    } catch (error) {
      if (error instanceof NotHere) {
        outcome = `NOT TESTED: ${error.message}`;
        left.push(scenario.name);
      } else {
        failed += 1;
        outcome = "FAILED";
        process.stdout.write(
          `\n${scenario.name}\n${values.verbose ? "" : `${world.story.join("\n")}\n`}${inspect(error)}\n` +
            `    npm run chaos -- "${scenario.name}" --seed ${seed} --verbose\n\n`,
        );
      }
    }
    await world.end();
    const s = ((performance.now() - startMs) / 1_000).toFixed(1);
    process.stdout.write(`${head}  ${scenario.name.padEnd(64)} ${s.padStart(6)} s  ${outcome}\n`);
  }
  const s = ((performance.now() - beganMs) / 1_000).toFixed(0);
  const skipped = left.length === 0 ? "" : `, ${left.length} NOT TESTED (${left.join(", ")})`;
  process.stdout.write(
    `${run.length} scenarios, ${failed} failures${skipped}; ${entries} entries, seed ${seed}, ${s} s\n`,
  );
  return failed > 0 ? 1 : 0;
}
