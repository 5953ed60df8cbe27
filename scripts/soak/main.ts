/**
 * A relay under load for long: `npm run soak`.
 *
 *     npm run soak -- --minutes 60                  three groups of three devices, at a steady rate
 *     npm run soak -- --minutes 10 --rate 200       so many pushes a second, all devices together
 *     npm run soak -- --chart soak.svg              memory, descriptors and latencies over time
 *     npm run soak -- --json                        every sample, for machines
 *
 * Every few seconds it looks at the relay's process: resident memory, descriptors, processor; and at
 * how long a push took from the call to the relay's acknowledgement. Groups keep their logs short by
 * snapshots, so that what grows is a leak. Ends with 1 where an entry is missing or came twice
 * anywhere, where memory drifts by more than 5% an hour, or descriptors grow.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { build } from "../../tests/chaos/build.ts";
import type { Device } from "../../tests/chaos/device-process.ts";
import { World } from "../../tests/chaos/world.ts";
import { chart, type Panel } from "./chart.ts";
import { drift, type Sample, summary } from "./samples.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    groups: { type: "string", default: "3" },
    devices: { type: "string", default: "3" },
    rate: { type: "string", default: "150" },
    seconds: { type: "string", default: "5" },
    chart: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

function number(name: "minutes" | "groups" | "devices" | "rate" | "seconds"): number {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value > 0) return value;
  process.stderr.write(`soak: --${name} takes a number above 0\n`);
  process.exit(2);
}

const minutes = number("minutes");
const everyMs = number("seconds") * 1_000;
const rate = number("rate");
const settings = { groups: number("groups"), devices: number("devices") };

const built = build();
const worlds: World[] = [];
const samples: Sample[] = [];
let failure: unknown;
try {
  await soak();
} catch (error) {
  failure = error;
} finally {
  for (const world of worlds.toReversed()) await world.end();
}
if (values.chart !== undefined) writeFileSync(values.chart, chart(panels()));
const found = summary(samples);
if (values.json) process.stdout.write(`${JSON.stringify({ ...settings, rate, samples, found })}\n`);
else process.stdout.write(`${found.text}\n`);
if (failure !== undefined) {
  process.stderr.write(`soak: ${failure instanceof Error ? failure.message : "failed"}\n`);
}
process.exitCode = failure !== undefined || !found.steady ? 1 : 0;

async function soak(): Promise<void> {
  const tell = (text: string): void => void process.stderr.write(`${text}\n`);
  const first = new World({ built, seed: 1, tell, short: false });
  worlds.push(first);
  const relay = await first.startRelay();
  const all: Device[] = [];
  for (let i = 0; i < settings.groups; i++) {
    const world = i === 0 ? first : new World({ built, seed: i + 1, tell, short: false });
    if (i > 0) {
      worlds.push(world);
      world.shareRelay(relay);
    }
    all.push(...(await world.group(settings.devices, { speed: 1, snapshots: true })));
  }
  const intervalMs = (1_000 * all.length) / rate;
  await Promise.all(
    all.map((device) =>
      device.call("load", { count: 1, bytes: 300, window: 50, everyMs: intervalMs }),
    ),
  );
  const beganMs = performance.now();
  const ticks = Math.ceil((minutes * 60_000) / everyMs);
  for (let i = 0; i < ticks; i++) {
    await new Promise((resolve) =>
      setTimeout(resolve, Math.max(0, beganMs + (i + 1) * everyMs - performance.now())),
    );
    samples.push(await look(relay.pid ?? 0, all, performance.now() - beganMs));
    if (i % Math.ceil(60_000 / everyMs) === 0) tell(describe(samples.at(-1) as Sample));
  }
  await Promise.all(all.map((device) => device.call("endLoad")));
  // The relay is one, so it is stopped by the world that has it, behind the others.
  for (const world of worlds.toReversed()) await world.conclude({ anyOrder: true });
}

async function look(pid: number, devices: readonly Device[], atMs: number): Promise<Sample> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kib = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
  const took = (
    await Promise.all(devices.map((device) => device.call<number[]>("latencies")))
  ).flat();
  took.sort((a, b) => a - b);
  const at = (share: number): number => took[Math.floor(took.length * share)] ?? 0;
  return {
    atS: atMs / 1_000,
    rssMiB: kib / 1_024,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    pushes: took.length,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    worstMs: took.at(-1) ?? 0,
  };
}

function describe({ atS, rssMiB, descriptors, pushes, p50Ms, p99Ms }: Sample): string {
  return `${atS.toFixed(0)} s: ${rssMiB.toFixed(1)} MiB, ${descriptors} descriptors, ${pushes} pushes, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`;
}

function panels(): Panel[] {
  const line = (label: string, of: (sample: Sample) => number) => ({
    label,
    points: samples.map((sample) => [sample.atS / 60, of(sample)] as const),
  });
  const { slopeMiBPerHour } = drift(samples);
  return [
    {
      title: `resident memory of the relay, MiB (${slopeMiBPerHour.toFixed(1)} MiB an hour)`,
      lines: [line("MiB", ({ rssMiB }) => rssMiB)],
    },
    { title: "descriptors", lines: [line("open", ({ descriptors }) => descriptors)] },
    {
      title: "from push to acknowledgement, ms",
      lines: [line("p50", ({ p50Ms }) => p50Ms), line("p99", ({ p99Ms }) => p99Ms)],
    },
  ];
}
