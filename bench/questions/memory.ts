/**
 * What a relay holds on to: idle, with idle connections, and while a device does not read or floods it.
 * The first two in processes of the container's memory settings, beside a bare `ws` server of the same.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { inDataFolder, root } from "../harness/build.ts";
import {
  amount,
  compare,
  type Figures,
  type Question,
  type Result,
  type Settings,
} from "../harness/measure.ts";
import { withParts } from "../harness/part.ts";

const connections = 10_000;
/** As the container sets them. */
const memorySettings = { MALLOC_ARENA_MAX: "1", NODE_OPTIONS: "--max-semi-space-size=2" };
const payloadBytes = 4_096;
/** Pushes of 4 KiB: 32 MiB, and then 128 MiB more. */
const backlog = { first: 8_192, more: 32_768 };
const settledMs = 2_000;

interface Measured {
  readonly bareEmptyBytes: number;
  readonly bareEmptyOwnBytes: number;
  readonly relayEmptyBytes: number;
  readonly relayEmptyOwnBytes: number;
  readonly perConnectionBytes: number;
  readonly barePerConnectionBytes: number;
}

/** The built program, as an operator starts it. */
function buildProgram(settings: Settings): void {
  if (settings.short && existsSync(`${root}/dist/cli/relay/main.js`)) return;
  settings.progress("building the program");
  execFileSync("node_modules/.bin/tsx", ["scripts/build.ts"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
}

function connect(count: number): Measured {
  const script = "ulimit -n $(ulimit -Hn); exec node_modules/.bin/tsx bench/connections.ts";
  const text = execFileSync("sh", ["-c", `${script} --json --count ${count}`], {
    cwd: root,
    stdio: ["ignore", "pipe", 2],
    env: { ...process.env, ...memorySettings },
  });
  return JSON.parse(text.toString()) as Measured;
}

/** Resident memory with a little waiting for who does not read, and with five times as much. */
async function underPressure(settings: Settings, deaf: "reader" | "writer"): Promise<Figures[]> {
  const figures: Figures[] = [];
  const first = amount(settings, backlog.first);
  const more = amount(settings, backlog.more);
  for (let i = 0; i < settings.repetitions; i++) {
    settings.progress(`a deaf ${deaf}, repetition ${i + 1} of ${settings.repetitions}`);
    figures.push(
      await inDataFolder((folder) =>
        withParts(["harness/relay", "load/pressure"] as const, async (relay, load) => {
          const { port } = await relay.call<{ port: number }>("start", { folder });
          await load.call("open", { port, payloadBytes, pushes: first + more, deaf });
          const after = async (pushes: number): Promise<number> => {
            await load.call("push", { pushes });
            await new Promise<void>((resolve) => setTimeout(resolve, settledMs));
            return await relay.call<number>("residentBytes");
          };
          return { little: await after(first), much: await after(more) };
        }),
      ),
    );
  }
  return figures;
}

async function pressure(
  settings: Settings,
  question: string,
  what: string,
  deaf: "reader" | "writer",
): Promise<Result> {
  const figures = await underPressure(settings, deaf);
  return compare(
    {
      question,
      what,
      unit: "B",
      target: 1.1,
      wanted: "at most",
      sides: { ours: "resident memory after 160 MiB", limit: "the same process after 32 MiB" },
    },
    figures.map((each) => ({
      ours: { it: each["much"] as number },
      limit: { it: each["little"] as number },
    })),
    "it",
  );
}

export const memory: Question = {
  name: "memory",
  what: "resident memory: idle, with 10,000 idle connections, with a reader that is slow, under a flood",
  ask: async (settings) => {
    buildProgram(settings);
    const count = amount(settings, connections);
    const measured: Measured[] = [];
    for (let i = 0; i < settings.repetitions; i++) {
      settings.progress(`${count} connections, repetition ${i + 1} of ${settings.repetitions}`);
      measured.push(connect(count));
    }
    const against = (
      question: string,
      what: string,
      target: number | undefined,
      ours: keyof Measured,
      limit: keyof Measured,
    ): Result =>
      compare(
        {
          question,
          what,
          unit: "B",
          wanted: "at most",
          ...(target === undefined ? {} : { target }),
          sides: {
            ours: "the built program with the container's memory settings",
            limit: "a bare ws server with the same settings",
          },
        },
        measured.map((each) => ({ ours: { it: each[ours] }, limit: { it: each[limit] } })),
        "it",
      );
    return [
      against("memory/idle", "resident, idle", 1.25, "relayEmptyBytes", "bareEmptyBytes"),
      against(
        "memory/idle-own",
        "the same without mapped files, as Node's own program",
        undefined,
        "relayEmptyOwnBytes",
        "bareEmptyOwnBytes",
      ),
      against(
        "memory/connection",
        `for each of ${count.toLocaleString("en-US")} idle connections, authenticated here and bare there`,
        1.3,
        "perConnectionBytes",
        "barePerConnectionBytes",
      ),
      await pressure(
        settings,
        "memory/slow-reader",
        "a device that reads nothing while another pushes 4 KiB blobs",
        "reader",
      ),
      await pressure(
        settings,
        "memory/flood",
        "a device that pushes 4 KiB blobs as fast as it can and reads no answer",
        "writer",
      ),
    ];
  },
};
