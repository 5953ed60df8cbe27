/**
 * Every setting of the relay, read from the schema: its names, its type, its
 * bounds, its default. `config.proto` is the only place where one is declared.
 */
import { type DescEnumValue, type DescField, getOption, ScalarType } from "@bufbuild/protobuf";
import {
  LimitsConfigSchema,
  RelayConfigSchema,
  WebPushConfigSchema,
} from "../../gen/syncrelay/config/v1/config_pb.ts";
import { Setting_Form, setting } from "../../gen/syncrelay/config/v1/setting_pb.ts";
import { parseListen, RelayOptionsError } from "../options.ts";
import { isAddressRange } from "./address-range.ts";

/** A value as a person writes it. */
export type SettingValue = string | number | boolean | readonly string[];

export interface SettingRow {
  /** As in the file: `limits.blob_bytes_max`. */
  readonly key: string;
  /** As in the environment: `SYNC_RELAY_LIMITS_BLOB_BYTES_MAX`. */
  readonly environment: string;
  readonly type: "text" | "choice" | "number" | "switch" | "list";
  readonly form: Setting_Form;
  /** For numbers; of a list, how many items it may have. */
  readonly min: number;
  readonly max: number;
  /** For choices. */
  readonly choices: readonly string[];
  readonly default: SettingValue;
  /** Whether a running relay takes a changed value over. */
  readonly live: boolean;
  /** Whether the value is never printed. */
  readonly secret: boolean;
  readonly table: "relay" | "limits" | "web_push";
  readonly field: DescField;
}

/** Why a value cannot be: the end of a sentence that begins with the key. */
export class Mistake {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What the environment's names begin with. */
export const environmentPrefix = "SYNC_RELAY_";

/** Every setting, in the order of the schema. */
export const settings: readonly SettingRow[] = [
  ...RelayConfigSchema.fields
    .filter((field) => field.fieldKind !== "message")
    .map((field) => readRow(field, "relay")),
  ...LimitsConfigSchema.fields.map((field) => readRow(field, "limits")),
  ...WebPushConfigSchema.fields.map((field) => readRow(field, "web_push")),
];

const settingsByKey: ReadonlyMap<string, SettingRow> = new Map(
  settings.map((row) => [row.key, row]),
);

export function settingOf(key: string): SettingRow | undefined {
  return settingsByKey.get(key);
}

function readRow(field: DescField, table: SettingRow["table"]): SettingRow {
  const options = getOption(field, setting);
  const key = table === "relay" ? field.name : `${table}.${field.name}`;
  const row: Omit<SettingRow, "default"> = {
    key,
    environment: `${environmentPrefix}${key.toUpperCase().replaceAll(".", "_")}`,
    type: typeOf(field, options.choices),
    form: options.form,
    min: Number(options.min),
    max: Number(options.max),
    choices: field.fieldKind === "enum" ? enumChoices(field) : options.choices,
    live: options.live,
    secret: options.secret,
    table,
    field,
  };
  const value = readText(row, options.default);
  if (value instanceof Mistake) throw new Error(`the default of ${key} ${value.text}`);
  return { ...row, default: value };
}

function typeOf(field: DescField, choices: readonly string[]): SettingRow["type"] {
  if (field.fieldKind === "list") return "list";
  if (field.fieldKind === "enum") return "choice";
  if (field.fieldKind === "scalar") {
    if (field.scalar === ScalarType.STRING) return choices.length > 0 ? "choice" : "text";
    if (field.scalar === ScalarType.BOOL) return "switch";
    if (field.scalar === ScalarType.UINT32 || field.scalar === ScalarType.UINT64) return "number";
  }
  throw new Error(`no setting can have the type of ${field.name}`);
}

/** An enum's values as words: FOUNDING_POLICY_OPEN is `open`. */
function enumChoices(field: Extract<DescField, { fieldKind: "enum" }>): string[] {
  return field.enum.values.filter((value) => value.number !== 0).map((value) => choiceName(value));
}

function choiceName(value: DescEnumValue): string {
  return value.name.slice(value.parent.sharedPrefix?.length ?? 0).toLowerCase();
}

/** The number of an enum's word. */
export function choiceNumber(row: SettingRow, value: string): number {
  if (row.field.fieldKind !== "enum") throw new Error(`${row.key} has no numbers`);
  const found = row.field.enum.values.find((each) => choiceName(each) === value);
  if (found === undefined) throw new Error(`${row.key} has no value ${value}`);
  return found.number;
}

/** Reads a value from the environment or a flag. */
export function readText(row: Omit<SettingRow, "default">, text: string): SettingValue | Mistake {
  switch (row.type) {
    case "number":
      return readNumber(row, /^\d{1,16}$/.test(text) ? Number(text) : undefined);
    case "switch":
      if (text === "true" || text === "false") return text === "true";
      return new Mistake("must be true or false");
    case "list":
      return readList(
        row,
        text
          .split(",")
          .map((item) => item.trim())
          .filter((item) => item !== ""),
      );
    case "text":
    case "choice":
      return readString(row, text);
  }
}

/** Reads a value of a TOML document. */
export function readToml(row: SettingRow, value: unknown): SettingValue | Mistake {
  switch (row.type) {
    case "number":
      return readNumber(row, typeof value === "bigint" ? Number(value) : undefined);
    case "switch":
      return typeof value === "boolean" ? value : new Mistake("must be true or false");
    case "list":
      if (Array.isArray(value) && value.every((item) => typeof item === "string")) {
        return readList(row, value);
      }
      return new Mistake('must be a list of texts, as ["127.0.0.1/32"]');
    case "text":
    case "choice":
      return typeof value === "string"
        ? readString(row, value)
        : new Mistake(`must be ${what(row)}`);
  }
}

function readNumber(row: Omit<SettingRow, "default">, value: number | undefined) {
  if (value === undefined || value < row.min || value > row.max || !Number.isSafeInteger(value)) {
    return new Mistake(`must be ${what(row)}`);
  }
  return value;
}

function readList(row: Omit<SettingRow, "default">, items: readonly string[]) {
  if (items.length > row.max) return new Mistake(`must have at most ${row.max} items`);
  for (const item of items) {
    const value = readString(row, item);
    if (value instanceof Mistake) return value;
  }
  return items;
}

function readString(row: Omit<SettingRow, "default">, text: string): string | Mistake {
  return fits(row, text) ? text : new Mistake(`must be ${what(row)}`);
}

function fits(row: Omit<SettingRow, "default">, text: string): boolean {
  if (row.type === "choice") return row.choices.includes(text);
  switch (row.form) {
    case Setting_Form.UNSPECIFIED:
      return true;
    case Setting_Form.LISTEN:
      return isListen(text);
    case Setting_Form.LISTEN_OR_OFF:
      return text === "off" || isListen(text);
    case Setting_Form.URL:
      return text === "" || /^wss?:\/\/[^/?#]+\/?$/.test(text);
    case Setting_Form.CIDR:
      return isAddressRange(text);
    case Setting_Form.FOLDER:
      return text !== "" && !text.includes("\0");
    case Setting_Form.TOKEN:
      return text === "" || /^[A-Za-z0-9._~-]{32,128}$/.test(text);
    case Setting_Form.CONTACT:
      return text === "" || isContact(text);
  }
}

function isContact(text: string): boolean {
  return text.length <= 256 && /^(mailto:[^\s@]+@[^\s@]+|https:\/\/\S+)$/.test(text);
}

function isListen(text: string): boolean {
  try {
    parseListen(text);
    return true;
  } catch (error) {
    if (error instanceof RelayOptionsError) return false;
    throw error;
  }
}

/** What a setting may be, in words. */
export function what(row: Omit<SettingRow, "default">): string {
  if (row.type === "number") {
    return `a whole number from ${grouped(row.min)} to ${grouped(row.max)}`;
  }
  if (row.type === "switch") return "true or false";
  if (row.type === "choice") return `one of ${row.choices.join(", ")}`;
  switch (row.form) {
    case Setting_Form.LISTEN:
      return "HOST:PORT, as 127.0.0.1:8080 or [::1]:8080";
    case Setting_Form.LISTEN_OR_OFF:
      return "HOST:PORT, as 127.0.0.1:8081 or [::1]:8081, or off";
    case Setting_Form.URL:
      return "an address like wss://sync.example.com/, or empty";
    case Setting_Form.CIDR:
      return "an address or a range, as 10.0.0.0/8 or fd00::/8";
    case Setting_Form.FOLDER:
      return "the path of a folder";
    case Setting_Form.TOKEN:
      return "empty, or 32 to 128 characters of A-Z a-z 0-9 . _ ~ -";
    case Setting_Form.CONTACT:
      return "an address like mailto:you@example.com or https://example.com/contact, or empty";
    case Setting_Form.UNSPECIFIED:
      return "a text";
  }
}

function grouped(number: number): string {
  return number.toLocaleString("en-US");
}
