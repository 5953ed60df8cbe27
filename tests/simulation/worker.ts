/** A process that runs one seed after another, as `main.ts` tells it. */
import { shrink } from "./shrink.ts";
import { simulate } from "./simulation.ts";

/** What all seeds of a call have in common; the last argument of the process, as JSON. */
export interface Settings {
  readonly races: boolean;
  readonly verbose: boolean;
  readonly shrink: boolean;
  /** Steps that are left out. */
  readonly without: readonly number[];
}

/** What a seed came to. */
export interface Done {
  readonly seed: number;
  readonly events: number;
  readonly blobs: number;
  readonly ms: number;
  /** What this seed took of a processor, whatever else the machine did. */
  readonly cpuMs: number;
  readonly failures: readonly string[];
  readonly story: readonly string[];
  readonly without: readonly number[];
  readonly steps: number;
  readonly cut: boolean;
}

/** Seeds whose stories are made short, in each process; others only fail. */
const shrunkMax = 3;
let shrunk = 0;

const settings = JSON.parse(process.argv.at(-1) ?? "") as Settings;
const race = settings.races ? (await import("./races.ts")).race : undefined;

// What ends a terminal's processes reaches all; whoever leads stops.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => undefined);
process.on("message", (seed: number) => {
  run(seed).then(
    (done) => process.send?.(done),
    (error: unknown) => {
      process.stderr.write(`seed ${seed}: ${String(error)}\n`);
      process.exit(1);
    },
  );
});
process.send?.("ready");

async function run(seed: number): Promise<Done> {
  const beganMs = performance.now();
  const before = process.cpuUsage();
  const left = settings.without;
  let result =
    race === undefined
      ? await simulate(seed, { verbose: settings.verbose, without: new Set(left) })
      : { ...(await race(seed)), steps: 0, cut: false };
  const { events, blobs, steps, cut } = result;
  const { user, system } = process.cpuUsage(before);
  const cpuMs = (user + system) / 1000;
  const ms = performance.now() - beganMs;
  let without = left;
  const mayShrink = settings.shrink && race === undefined && left.length === 0;
  if (result.failures.length > 0 && mayShrink && shrunk < shrunkMax) {
    shrunk += 1;
    const shorter = await shrink(result);
    without = [...shorter.without];
    if (!settings.verbose) ({ result } = shorter);
  }
  const { failures } = result;
  const story = failures.length > 0 || settings.verbose ? result.story : [];
  return { seed, events, blobs, failures, story, without, steps, cut, ms, cpuMs };
}
