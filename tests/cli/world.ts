/** A program's world inside the test process: what it prints is remembered, and nothing is started. */
import { Readable } from "node:stream";
import { deviceProgram } from "../../cli/device/commands.ts";
import { explainDeviceError } from "../../cli/device/device.ts";
import { runProgram, type World } from "../../cli/program.ts";
import { explainRelayError, relayProgram } from "../../cli/relay/commands.ts";

/** What a program printed, and how it ended. */
export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of a run. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly terminal?: boolean;
  /** What standard input holds. */
  readonly input?: string | Uint8Array;
}

/** Runs a `sync-cli` command in this process. */
export function runDevice(argv: readonly string[], options: RunOptions = {}): Promise<Run> {
  return run(argv, options, deviceProgram, explainDeviceError);
}

/** Runs a `sync-relay` command in this process. */
export function runRelay(argv: readonly string[], options: RunOptions = {}): Promise<Run> {
  return run(argv, options, relayProgram, explainRelayError);
}

async function run(
  argv: readonly string[],
  options: RunOptions,
  build: Parameters<typeof runProgram>[1],
  explain: Parameters<typeof runProgram>[2],
): Promise<Run> {
  const written = { stdout: "", stderr: "" };
  const sink = (name: keyof typeof written): World["stdout"] => ({
    isTTY: options.terminal === true,
    write: (text: string) => void (written[name] += text),
  });
  const code = await runProgram(
    {
      argv,
      env: options.env ?? {},
      stdin: Readable.from(options.input === undefined ? [] : [Buffer.from(options.input)]),
      stdout: sink("stdout"),
      stderr: sink("stderr"),
      onStop: () => undefined,
    },
    build,
    explain,
  );
  return { code, ...written };
}
