/** `sync-relay config`: what the relay goes by, and where each value came from. */
import { type Command, Option } from "commander";
import {
  ConfigError,
  type ConfigFlag,
  type ConfigValue,
  type LoadedConfig,
  originText,
} from "../../server/config/config.ts";
import { loadConfig } from "../../server/config/load.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { count, formatTable, printable } from "../output.ts";
import type { Context } from "../program.ts";

/** The options of every command that reads the configuration. */
export interface ConfigOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly listen?: string;
  readonly listenAdmin?: string;
  readonly data?: string;
  readonly publicUrl?: string;
  readonly founding?: string;
  readonly logLevel?: string;
}

export const configFile = (): Option =>
  new Option(
    "--config <file>",
    "relay.toml with the settings (default: SYNC_RELAY_CONFIG, else none)",
  );

export const setSetting = (): Option =>
  new Option("--set <key=value>", "any setting, as limits.sessions_max=500; may be repeated")
    .argParser((text: string, before: readonly string[] | undefined) => [...(before ?? []), text])
    .default(undefined);

/** Which option is which setting. */
const flagKeys: Readonly<Record<string, { readonly name: string; readonly key: string }>> = {
  listen: { name: "--listen", key: "listen" },
  listenAdmin: { name: "--listen-admin", key: "listen_admin" },
  data: { name: "--data", key: "data" },
  publicUrl: { name: "--public-url", key: "public_url" },
  founding: { name: "--founding", key: "founding" },
  logLevel: { name: "--log-level", key: "log_level" },
};

/** Reads the configuration; tells every mistake in it. */
export async function readSettings(
  { world, output }: Context,
  options: ConfigOptions,
): Promise<LoadedConfig> {
  try {
    return await loadSettings(world.env, options);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const hint = "what is set where: sync-relay config --help";
    const [only] = error.problems;
    if (error.problems.length === 1 && only !== undefined) {
      throw new CommandError(ExitCode.usage, "CONFIG", only, { hint, cause: error });
    }
    for (const problem of error.problems) {
      if (output.json) output.event("problem", { problem });
      else output.note(printable(problem));
    }
    const mistakes = count(error.problems.length, "mistake");
    throw new CommandError(ExitCode.usage, "CONFIG", `${mistakes} in the configuration`, {
      hint,
      cause: error,
    });
  }
}

/** The configuration from everywhere. Throws `ConfigError`. */
export async function loadSettings(
  env: Context["world"]["env"],
  options: ConfigOptions,
): Promise<LoadedConfig> {
  const path = options.config ?? env["SYNC_RELAY_CONFIG"];
  return await loadConfig({
    ...(path === undefined || path === "" ? {} : { path }),
    environment: env,
    flags: flagsOf(options),
  });
}

function flagsOf(options: ConfigOptions): ConfigFlag[] {
  const flags: ConfigFlag[] = [];
  for (const text of options.set ?? []) {
    const at = text.indexOf("=");
    if (at < 1) throw usageError("--set must look like limits.sessions_max=500");
    flags.push({ name: "--set", key: text.slice(0, at).trim(), value: text.slice(at + 1).trim() });
  }
  for (const [option, value] of Object.entries(options) as [string, unknown][]) {
    const flag = flagKeys[option];
    if (flag !== undefined && typeof value === "string") flags.push({ ...flag, value });
  }
  return flags;
}

/** Declares `config check` and `config print`. */
export function configCommand(
  context: Context,
  program: Command,
  shared: () => readonly Option[],
): void {
  const config = program
    .command("config")
    .description("check and show the configuration")
    .helpOption("-h, --help", "print this help")
    .addHelpText(
      "after",
      `
Flags come before the environment (SYNC_RELAY_LIMITS_SESSIONS_MAX=500), the environment before the
file ([limits] sessions_max = 500), the file before the defaults. A running relay takes the settings
marked "live" over at SIGHUP.`,
    );
  const check = config
    .command("check")
    .description("say whether a relay would start with this configuration")
    .helpOption("-h, --help", "print this help")
    .action((options: ConfigOptions) => checkConfig(context, options));
  const print = config
    .command("print")
    .description("show every setting, and where its value came from; secrets stay hidden")
    .helpOption("-h, --help", "print this help")
    .action((options: ConfigOptions) => printConfig(context, options));
  for (const option of shared()) {
    check.addOption(option);
    print.addOption(option);
  }
}

async function checkConfig(context: Context, options: ConfigOptions): Promise<void> {
  const { warnings } = await readSettings(context, options);
  for (const warning of warnings) context.output.warn(warning);
  context.output.event("config", { ok: true }, "the configuration is right");
}

async function printConfig(context: Context, options: ConfigOptions): Promise<void> {
  const { output } = context;
  const { values, warnings } = await readSettings(context, options);
  for (const warning of warnings) output.warn(warning);
  if (output.json) {
    for (const value of values) {
      const { setting, origin } = value;
      output.event("setting", {
        key: setting.key,
        value: shown(value),
        from: originText(origin),
        live: setting.live,
      });
    }
    return;
  }
  const rows = values.map((value) => [
    value.setting.key,
    printable(JSON.stringify(shown(value))),
    value.setting.live ? "live" : "",
    printable(originText(value.origin)),
  ]);
  output.event("settings", {}, formatTable([["SETTING", "VALUE", "", "FROM"], ...rows]));
}

function shown({ setting, value }: ConfigValue): ConfigValue["value"] {
  return setting.secret && value !== "" ? "(hidden)" : value;
}
