/**
 * What both programs share: parsing with commander, and the one place where a
 * failure becomes output and an exit code.
 */
import { type Command, CommanderError } from "commander";
import { ExitCode, failureOf, usageError } from "./exit-codes.ts";
import { Output, printable, type Sink } from "./output.ts";

/** The outside, as a program sees it. */
export interface World {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: Sink;
  readonly stderr: Sink;
  /** Runs `stop` at SIGINT and SIGTERM; the second signal ends the process at once. */
  onStop(stop: (signal: NodeJS.Signals) => void): void;
  /** Runs `reload` at SIGHUP. A world without it never asks. */
  onReload?(reload: () => void): void;
}

/** What an action of a command gets. */
export interface Context {
  readonly world: World;
  readonly output: Output;
  /** Aborted when somebody asks the program to stop. */
  readonly signal: AbortSignal;
}

/** The process as a program's world. */
export function processWorld(): World {
  // `… | head` closes the pipe early: that is the reader's choice and no failure.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(ExitCode.done);
      throw error;
    });
  }
  return {
    argv: process.argv.slice(2),
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    onReload: (reload) => {
      process.on("SIGHUP", reload);
    },
    onStop: (stop) => {
      let asked = false;
      for (const signal of ["SIGINT", "SIGTERM"] as const) {
        process.on(signal, () => {
          if (asked) process.exit(ExitCode.interrupted);
          asked = true;
          stop(signal);
        });
      }
    },
  };
}

/**
 * Parses the arguments, acts, and resolves with the exit code. `build` declares
 * the commands; their actions get the context. `translate` turns the errors that
 * only one program knows into those that all know.
 */
export async function runProgram(
  world: World,
  build: (context: Context) => Command,
  translate: (error: unknown) => unknown,
): Promise<number> {
  const output = new Output({
    stdout: world.stdout,
    stderr: world.stderr,
    env: world.env,
    // Looked for before parsing, so that wrong usage too is told in the form that was asked for.
    json: argumentsBeforeDashes(world.argv).includes("--json"),
  });
  const stopping = new AbortController();
  world.onStop(() => stopping.abort());
  const program = build({ world, output, signal: stopping.signal });
  for (const command of withSubcommands(program)) {
    command.exitOverride().configureOutput({
      writeOut: (text) => void world.stdout.write(text),
      writeErr: (text) => void world.stderr.write(text),
      // Shown once, by `fail` below.
      outputError: () => undefined,
    });
  }
  try {
    await program.parseAsync(world.argv, { from: "user" });
    return ExitCode.done;
  } catch (error) {
    if (stopping.signal.aborted && isAbort(error)) return ExitCode.interrupted;
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return ExitCode.done;
      // Help that was not asked for: no command was named, and the help has just said which there are.
      if (error.code === "commander.help") return ExitCode.usage;
    }
    const failure = failureOf(
      error instanceof CommanderError ? usageOf(error, program, world.argv) : translate(error),
    );
    if (world.env["SYNC_DEBUG"] === "1" && error instanceof Error) {
      world.stderr.write(`${printable(debugText(error)).replaceAll("\\u000a", "\n")}\n`);
    }
    output.fail(failure);
    return failure.exit;
  }
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

function usageOf(error: CommanderError, program: Command, argv: readonly string[]): Error {
  const message = error.message
    .replace(/^error: /, "")
    .replace(/\.$/, "")
    .replaceAll("\n", " ");
  const command = program.commands.find((each) => argv.includes(each.name()));
  const words = command === undefined ? program.name() : `${program.name()} ${command.name()}`;
  return usageError(message, `see: ${words} --help`);
}

function debugText(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${debugText(error.cause)}` : "";
  return `${error.stack ?? error.message}${cause}`;
}

function argumentsBeforeDashes(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf("--");
  return end === -1 ? argv : argv.slice(0, end);
}
