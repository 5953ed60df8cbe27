/**
 * The relay's configuration, from everywhere it may come from, with where each
 * value came from: flags before the environment, the environment before the
 * file, the file before the defaults. Pure: texts in, options or every mistake
 * at once out.
 */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import {
  type LimitsConfig,
  type RelayConfig,
  RelayConfigSchema,
  type WebPushConfig,
} from "../../gen/syncrelay/config/v1/config_pb.ts";
import { FoundingPolicy } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import {
  type Founding,
  type RelayLimits,
  type RelayOptions,
  RelayOptionsError,
  readOptions,
  type WebPushOptions,
} from "../options.ts";
import { nearest } from "./nearest.ts";
import {
  choiceNumber,
  environmentPrefix,
  Mistake,
  readText,
  readToml,
  type SettingRow,
  type SettingValue,
  settingOf,
  settings,
} from "./settings.ts";
import { readTomlEntries, TomlMistake } from "./toml.ts";

/** Where values may come from. */
export interface ConfigSources {
  readonly file?: { readonly path: string; readonly text: string };
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly flags?: readonly ConfigFlag[];
}

/** A value from the command line. */
export interface ConfigFlag {
  /** As it was written, for whoever asks where a value came from: `--listen`. */
  readonly name: string;
  readonly key: string;
  readonly value: string;
}

/** Where a value came from. */
export type Origin =
  | { readonly kind: "default" }
  | { readonly kind: "file"; readonly path: string; readonly line: number }
  | { readonly kind: "environment"; readonly name: string }
  | { readonly kind: "flag"; readonly name: string };

export interface ConfigValue {
  readonly setting: SettingRow;
  readonly value: SettingValue;
  readonly origin: Origin;
}

/** The whole configuration. */
export interface LoadedConfig {
  /** With every field set. */
  readonly config: RelayConfig;
  readonly options: RelayOptions;
  /** Every setting, in the order of the schema. */
  readonly values: readonly ConfigValue[];
  /** What is strange and no mistake. */
  readonly warnings: readonly string[];
}

/** The configuration cannot be: every mistake, each with its place and its key. */
export class ConfigError extends RelayOptionsError {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

/** Names in the environment that are the programs' own and no settings. */
const otherNames = new Set(["SYNC_RELAY_CONFIG", "SYNC_RELAY_URL", "SYNC_RELAY_TOKEN_FILE"]);

/** Reads the configuration whole. Throws `ConfigError` with everything that is wrong. */
export function readConfig(sources: ConfigSources): LoadedConfig {
  const problems: string[] = [];
  const warnings: string[] = [];
  const values = new Map<string, ConfigValue>();
  for (const setting of settings) {
    values.set(setting.key, { setting, value: setting.default, origin: { kind: "default" } });
  }
  const take = (setting: SettingRow, value: SettingValue | Mistake, origin: Origin): void => {
    if (value instanceof Mistake) {
      problems.push(`${nameAt(setting, origin)} ${value.text}`);
    } else {
      values.set(setting.key, { setting, value, origin });
    }
  };
  takeFile(sources, take, problems);
  takeEnvironment(sources, take, warnings);
  for (const flag of sources.flags ?? []) {
    const setting = settingOf(flag.key);
    if (setting === undefined) problems.push(`${flag.name} ${unknown(flag.key)}`);
    else take(setting, readText(setting, flag.value), { kind: "flag", name: flag.name });
  }
  if (problems.length > 0) throw new ConfigError(problems);
  const all = [...values.values()];
  const config = messageOf(all);
  const chosen = values.get("listen_admin")?.origin.kind !== "default";
  return { config, options: optionsOf(config, !chosen), values: all, warnings };
}

type Take = (setting: SettingRow, value: SettingValue | Mistake, origin: Origin) => void;

function takeFile({ file }: ConfigSources, take: Take, problems: string[]): void {
  if (file === undefined) return;
  try {
    for (const { key, value, line } of readTomlEntries(file.text)) {
      const setting = settingOf(key);
      if (setting !== undefined) {
        take(setting, readToml(setting, value), { kind: "file", path: file.path, line });
      } else if (!tables.has(key)) {
        problems.push(`${file.path}:${line}: ${unknown(key)}`);
      } else if (Object.prototype.toString.call(value) !== "[object Object]") {
        problems.push(`${file.path}:${line}: ${key} must be a table: write [${key}]`);
      }
    }
  } catch (error) {
    if (!(error instanceof TomlMistake)) throw error;
    problems.push(`${file.path}:${error.line}: not TOML: ${error.message}`);
  }
}

const tables: ReadonlySet<string> = new Set(
  settings.filter((row) => row.table !== "relay").map((row) => row.table),
);

function takeEnvironment({ environment }: ConfigSources, take: Take, warnings: string[]): void {
  if (environment === undefined) return;
  for (const setting of settings) {
    const text = environment[setting.environment];
    if (text === undefined) continue;
    take(setting, readText(setting, text), { kind: "environment", name: setting.environment });
  }
  const known = settings.map((row) => row.environment);
  for (const name of Object.keys(environment)) {
    if (!name.startsWith(environmentPrefix) || known.includes(name) || otherNames.has(name)) {
      continue;
    }
    // No mistake: container platforms set such names by themselves for a service of that name.
    const meant = nearest(name, known);
    warnings.push(
      `${name} in the environment is no setting${meant === undefined ? "" : `; did you mean ${meant}?`}`,
    );
  }
}

function unknown(key: string): string {
  const meant = nearest(
    key,
    settings.map((row) => row.key),
  );
  return `${key.slice(0, 128)} is no setting${meant === undefined ? "" : `; did you mean ${meant}?`}`;
}

/** Where a value came from, in words. */
export function originText(origin: Origin): string {
  switch (origin.kind) {
    case "default":
      return "default";
    case "file":
      return `${origin.path}:${origin.line}`;
    case "environment":
      return "environment";
    case "flag":
      return "command line";
  }
}

/** A setting as it is called where its value came from, and where that is. */
function nameAt(setting: SettingRow, origin: Origin): string {
  switch (origin.kind) {
    case "default":
      return setting.key;
    case "file":
      return `${originText(origin)}: ${setting.key}`;
    case "environment":
      return origin.name;
    case "flag":
      return origin.name === "--set" ? `--set ${setting.key}` : origin.name;
  }
}

/** The values as the message of the schema, which reads JSON by the same names. */
function messageOf(values: readonly ConfigValue[]): RelayConfig {
  const tables = { relay: {}, limits: {}, web_push: {} } satisfies Record<string, JsonValue>;
  for (const { setting, value } of values) {
    const target: Record<string, JsonValue> = tables[setting.table];
    target[setting.field.name] =
      setting.field.fieldKind === "enum" ? choiceNumber(setting, value as string) : jsonOf(value);
  }
  const { relay, ...rest } = tables;
  return fromJson(RelayConfigSchema, { ...relay, ...rest });
}

function jsonOf(value: SettingValue): JsonValue {
  return typeof value === "object" ? [...value] : value;
}

const foundings: Readonly<Record<FoundingPolicy, Founding>> = {
  [FoundingPolicy.UNSPECIFIED]: "invite",
  [FoundingPolicy.OPEN]: "open",
  [FoundingPolicy.INVITE]: "invite",
  [FoundingPolicy.CLOSED]: "closed",
};

/** What the relay goes by. Every field is set; a field without a value is a defect of `messageOf`. */
function optionsOf(config: RelayConfig, adminPortFallback: boolean): RelayOptions {
  return readOptions({
    listen: config.listen as string,
    listenAdmin: config.listenAdmin === "off" ? "" : (config.listenAdmin as string),
    adminPortFallback,
    data: config.data as string,
    publicUrl: config.publicUrl as string,
    founding: foundings[config.founding as FoundingPolicy],
    logLevel: config.logLevel as RelayOptions["logLevel"],
    trustedProxies: config.trustedProxies,
    adminWithoutToken: config.adminWithoutToken as boolean,
    adminToken: config.adminToken as string,
    readToken: config.readToken as string,
    limits: limitsOf(config.limits as LimitsConfig),
    webPush: webPushOf(config.webPush as WebPushConfig),
  });
}

function limitsOf(limits: LimitsConfig): RelayLimits {
  return {
    blobBytesMax: limits.blobBytesMax as number,
    groupBytesMax: Number(limits.groupBytesMax),
    storeBytesMax: Number(limits.storeBytesMax),
    sessionsMax: limits.sessionsMax as number,
    outboundBytesMax: limits.outboundBytesMax as number,
    handshakesMax: limits.handshakesMax as number,
    handshakeMsMax: limits.handshakeMsMax as number,
    pushesPerS: limits.pushesPerS as number,
    pushesBurst: limits.pushesBurst as number,
    addressConnectionsPerMin: limits.addressConnectionsPerMin as number,
    addressHandshakesMax: limits.addressHandshakesMax as number,
  };
}

function webPushOf(config: WebPushConfig): WebPushOptions {
  return {
    enabled: config.enabled as boolean,
    subject: config.subject as string,
    allowPrivateAddresses: config.allowPrivateAddresses as boolean,
  };
}

/** The settings that differ, by key: those a running relay can take over, and those it cannot. */
export function changedSettings(
  before: LoadedConfig,
  after: LoadedConfig,
): { readonly live: readonly string[]; readonly restart: readonly string[] } {
  const live: string[] = [];
  const restart: string[] = [];
  for (const [at, { setting, value }] of after.values.entries()) {
    if (JSON.stringify(value) === JSON.stringify(before.values[at]?.value)) continue;
    (setting.live ? live : restart).push(setting.key);
  }
  return { live, restart };
}
