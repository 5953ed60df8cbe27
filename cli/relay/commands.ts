/** `sync-relay`: the commands of whoever runs a relay. */
import { Command, Option } from "commander";
import { changedSettings } from "../../server/config/config.ts";
import { RelayOptionsError } from "../../server/options.ts";
import { errorRow, SyncError } from "../../wire/errors.ts";
import { softwareVersion } from "../../wire/protocol.ts";
import { CommandError, ExitCode, exitCodesHelp, usageError } from "../exit-codes.ts";
import type { Context } from "../program.ts";
import { adminCommand } from "./admin.ts";
import { backupCommands } from "./backup.ts";
import {
  type ConfigOptions,
  configCommand,
  configFile,
  loadSettings,
  readSettings,
  setSetting,
} from "./config.ts";
import { healthCommand } from "./health.ts";

const listen = (): Option =>
  new Option("--listen <host:port>", "where devices connect (default: 127.0.0.1:8080)");
const listenAdmin = (): Option =>
  new Option(
    "--listen-admin <host:port>",
    "where the side API listens, or off (default: 127.0.0.1:8081)",
  );
const data = (): Option =>
  new Option(
    "--data <dir>",
    "the folder of the store, the relay's identity and its invites (default: ./data)",
  );
const publicUrl = (): Option =>
  new Option(
    "--public-url <url>",
    "what devices reach the relay by, as wss://sync.example.com/ (default: ws:// and where it listens)",
  );
const json = (): Option => new Option("--json", "print JSON objects, one a line, errors too");

/** Declares the commands of `sync-relay`. */
export function relayProgram(context: Context): Command {
  const program = new Command("sync-relay")
    .description("A relay for end-to-end-encrypted sync: it orders and keeps what it cannot read.")
    .version(softwareVersion, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .showHelpAfterError(false)
    .addHelpText(
      "after",
      `
Examples:
  sync-relay serve
  sync-relay serve --listen 0.0.0.0:8080 --data /var/lib/sync-relay --public-url wss://sync.example.com/
  sync-relay address --data /var/lib/sync-relay --public-url wss://sync.example.com/

${exitCodesHelp}`,
    );

  program
    .command("serve")
    .description("run the relay until SIGTERM or SIGINT")
    .addOption(configFile())
    .addOption(listen())
    .addOption(listenAdmin())
    .addOption(data())
    .addOption(publicUrl())
    .addOption(
      new Option("--founding <who>", "who may found a group (default: invite)").choices([
        "open",
        "invite",
        "closed",
      ]),
    )
    .addOption(
      new Option("--log-level <level>", "how much is logged to stderr (default: info)").choices([
        "debug",
        "info",
        "warn",
        "error",
        "silent",
      ]),
    )
    .addOption(setSetting())
    .addOption(json())
    .helpOption("-h, --help", "print this help")
    .addHelpText(
      "after",
      `
Prints its address to stdout once it accepts devices, and the first group invite: the code itself on
a terminal, else the path of the file that holds it, which only its owner can read. Logs go to
stderr. SIGTERM or SIGINT finishes what is being written, tells the devices, and ends. SIGHUP reads the
configuration again: limits hold at once, no connection drops.`,
    )
    .action((options: ConfigOptions) => serve(context, options));

  program
    .command("address")
    .description("print the relay's address without starting it")
    .addOption(configFile())
    .addOption(data())
    .addOption(publicUrl())
    .addOption(listen())
    .addOption(json())
    .helpOption("-h, --help", "print this help")
    .addHelpText(
      "after",
      `
The address holds the relay's public key, which devices insist on. It is no secret. The identity is
made when the relay starts for the first time.`,
    )
    .action((options: ConfigOptions) => address(context, options));

  configCommand(context, program, () => [
    configFile(),
    listen(),
    listenAdmin(),
    data(),
    publicUrl(),
    setSetting(),
    json(),
  ]);
  healthCommand(context, program, [configFile(), listen(), json()]);
  backupCommands(context, program);
  adminCommand(context, program);
  return program;
}

async function serve(context: Context, options: ConfigOptions): Promise<void> {
  const { world, output, signal } = context;
  const started = await readSettings(context, options);
  // Loaded only here: the other commands are short-lived and do without a relay.
  const { startRelay } = await import("../../server/index.ts");
  const relay = await startRelay(started.options);
  relay.warn(started.warnings);
  let current = started;
  world.onReload?.(() => {
    const load = async () => {
      const next = await loadSettings(world.env, options);
      const { live } = changedSettings(current, next);
      const { restart } = changedSettings(started, next);
      current = next;
      return { ...next, changed: { live, restart } };
    };
    relay.reload(load).catch((error: unknown) => {
      // A defect, not a mistake in the configuration: those are logged.
      queueMicrotask(() => {
        throw error;
      });
    });
  });
  const { address, firstInvite } = relay;
  output.event("serving", { address }, address);
  if (firstInvite !== undefined) {
    const { code, file } = firstInvite;
    // Only a person at a terminal sees the code: output that goes elsewhere tends to be kept.
    if (output.interactive)
      output.event("invite", {}, `${output.paint("dim", "first invite:")} ${code}`);
    else output.event("invite", { file }, `first invite in ${file}`);
  }
  if (output.interactive && relay.adminUrl !== undefined) {
    output.note(`status page at ${relay.adminUrl}/, with the token that lies in the data folder`);
    output.note(`side API at ${relay.adminUrl}: sync-relay admin --help`);
  }
  await stopped(signal);
  // A disk that does not answer must not keep the process: what was not acknowledged was not promised.
  let kept = false;
  const late = setTimeout(() => {
    // Who was not told by now finds the connection gone, and loses nothing by it.
    if (kept) process.exit(ExitCode.done);
    output.warn("the store did not answer in time; what was not acknowledged is not kept");
    process.exit(ExitCode.unreachable);
  }, drainMsMax);
  await relay.drain(() => {
    kept = true;
  });
  clearTimeout(late);
}

/** How long shutting down may take, in milliseconds: below the ten seconds that supervisors give. */
const drainMsMax = 9_500;

async function address(context: Context, options: ConfigOptions): Promise<void> {
  const { output } = context;
  const { relayAddress } = await import("../../server/index.ts");
  const text = await relayAddress((await readSettings(context, options)).options);
  if (text === undefined) {
    throw new CommandError(ExitCode.usage, "NO_IDENTITY", "this folder holds no relay yet", {
      hint: "start it once with the same --data: sync-relay serve",
    });
  }
  output.event("address", { address: text }, text);
}

/** Resolves when the signal is given. */
function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * What keeps a relay from starting, as something its operator can mend: the
 * table's sentences speak to devices, the hint says what is the matter here.
 */
export function explainRelayError(error: unknown): unknown {
  if (error instanceof RelayOptionsError) {
    return usageError(error.message, "see: sync-relay serve --help");
  }
  if (!(error instanceof SyncError) || error.hint === undefined) return error;
  const [, message = error.hint, hint = ""] = /^(.*?): (.*)$/.exec(error.hint) ?? [];
  return new CommandError(errorRow(error.code).exit as ExitCode, error.codeName, message, {
    hint,
    cause: error,
  });
}
