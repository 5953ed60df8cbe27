/**
 * The simulation from the command line.
 *
 *     npm run sim -- --seeds 1000              seeds 1 to 1,000
 *     npm run sim -- --seeds 1 --from 17 --verbose
 *     npm run sim -- --seeds 1 --from 17 --without 3,7-12     without some of its steps
 *
 *     npm run sim -- --seeds 1000 --stop       until one fails
 *     npm run sim -- --races --seeds 10000     members who change their group at the same moment
 *
 * Seeds are spread over as many processes as there are cores. Ends with 1 where a seed fails, after
 * the story of the fewest steps that fail in the same way; `--no-shrink` tells it as it was. An
 * interrupt ends it early: the last line tells what ran.
 */
import { fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { bundleWorker } from "./bundle.ts";
import type { Done, Settings } from "./worker.ts";

/**
 * What makes workers fast. Nearly all that a seed allocates is gone soon after: a wide nursery is collected
 * seldom. Collectors that run beside would take the cores of the other workers.
 */
const workerFlags = ["--enable-source-maps", "--max-semi-space-size=32", "--single-threaded-gc"];

const { values } = parseArgs({
  allowNegative: true,
  options: {
    seeds: { type: "string", default: "100" },
    from: { type: "string", default: "1" },
    jobs: { type: "string", default: String(availableParallelism()) },
    verbose: { type: "boolean", default: false },
    stop: { type: "boolean", default: false },
    without: { type: "string", default: "" },
    shrink: { type: "boolean", default: true },
    races: { type: "boolean", default: false },
  },
});

const seeds = Number(values.seeds);
const from = Number(values.from);
if (!Number.isSafeInteger(seeds) || seeds < 1 || !Number.isSafeInteger(from) || from < 0) {
  process.stderr.write("--seeds and --from take whole numbers\n");
  process.exit(2);
}

const { races, verbose, shrink } = values;
const settings: Settings = { races, verbose, shrink, without: stepsOf(values.without) };
const bundle = await bundleWorker("worker.ts");
try {
  await lead();
} finally {
  bundle.remove();
}

/** `3,7-9` as numbers. */
function stepsOf(text: string): number[] {
  return text
    .split(",")
    .filter((part) => part !== "")
    .flatMap((part) => {
      const [first = 0, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
}

/** Numbers as `3,7-9`. */
function rangesOf(numbers: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([a, b]) => (a === b ? String(a) : `${a}-${b}`)).join(",");
}

async function lead(): Promise<void> {
  const beganMs = performance.now();
  const jobs = Math.min(Math.max(1, Number(values.jobs)), seeds);
  let next = from;
  let end = from + seeds;
  let failed = 0;
  let events = 0;
  let blobs = 0;
  let cpuMs = 0;
  let steps = 0;
  let cut = 0;
  let slowest: Done | undefined;
  const take = (done: Done): void => {
    events += done.events;
    blobs += done.blobs;
    cpuMs += done.cpuMs;
    steps += done.steps;
    if (done.cut) cut += 1;
    if (slowest === undefined || done.ms > slowest.ms) slowest = done;
    if (done.failures.length === 0 && done.story.length === 0) return;
    process.stdout.write(`\nseed ${done.seed}\n${done.story.join("\n")}\n`);
    if (done.failures.length === 0) return;
    failed += 1;
    if (values.stop) end = next;
    const without = done.without.length === 0 ? "" : ` --without ${rangesOf(done.without)}`;
    process.stdout.write(
      `\nseed ${done.seed} failed: ${done.failures[0]}\n` +
        `    npm run sim -- ${races ? "--races " : ""}--seeds 1 --from ${done.seed}${without} --verbose\n`,
    );
  };
  // What has begun ends, and what ran is told.
  const stop = (): void => {
    end = next;
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  await Promise.all(Array.from({ length: jobs }, () => worker()));
  const s = (performance.now() - beganMs) / 1000;
  process.stdout.write(
    `${blobs} entries, ${events} events, ${cut} groups in two; ${s.toFixed(1)} s, ${((next - from) / s).toFixed(1)} seeds/s, ` +
      `${(cpuMs / Math.max(1, next - from)).toFixed(0)} ms of processor a seed; slowest: seed ${slowest?.seed} with ${Math.round(slowest?.ms ?? 0)} ms\n` +
      `${next - from} seeds, ${steps} steps, ${failed} with findings\n`,
  );
  process.exitCode = failed > 0 ? 1 : 0;

  function worker(): Promise<void> {
    return new Promise((resolve, reject) => {
      const child = fork(bundle.path, [JSON.stringify(settings)], { execArgv: workerFlags });
      child.on("message", (message: Done | "ready") => {
        if (message !== "ready") take(message);
        if (next < end) child.send(next++);
        else child.disconnect();
      });
      child.on("exit", (code) => {
        if (code === 0) resolve();
        else reject(new Error(`a worker ended with ${code}`));
      });
    });
  }
}
