/**
 * `relay.toml` as keys, values and the lines they stand in. The library parses;
 * where a key stands it does not say, so the lines are looked for afterwards, in
 * a text that is known to be whole.
 */
import { parse, TomlError } from "smol-toml";

/** A leaf of the document. */
export interface TomlEntry {
  /** Dotted, as `limits.blob_bytes_max`. */
  readonly key: string;
  readonly value: unknown;
  /** From 1. */
  readonly line: number;
}

/** The document is none: where it breaks off, and why. */
export class TomlMistake extends Error {
  readonly line: number;

  constructor(line: number, message: string, cause: unknown) {
    super(message, { cause });
    this.line = line;
  }
}

/** The leaves of a document, in its order. Tables without anything in them are leaves too. */
export function readTomlEntries(text: string): readonly TomlEntry[] {
  const lines = keyLines(text);
  const entries: TomlEntry[] = [];
  const walk = (table: object, path: readonly string[]): void => {
    for (const [name, value] of Object.entries(table) as [string, unknown][]) {
      const here = [...path, name];
      if (isTable(value) && Object.keys(value).length > 0) walk(value, here);
      else entries.push({ key: here.join("."), value, line: lineOf(lines, here) });
    }
  };
  walk(parseToml(text), []);
  return entries;
}

function parseToml(text: string): object {
  try {
    return parse(text, { integersAsBigInt: true });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [first = ""] = error.message.split("\n");
    const reason = first.replace(/^Invalid TOML document: /, "");
    throw new TomlMistake(error.line, reason, error);
  }
}

function isTable(value: unknown): value is object {
  return Object.prototype.toString.call(value) === "[object Object]";
}

/** The line of every key that begins one, by its whole path. */
function keyLines(text: string): Map<string, number> {
  const lines = new Map<string, number>();
  let table = "";
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    const header = /^\s*\[{1,2}\s*([^[\]]+?)\s*\]{1,2}\s*(#.*)?$/.exec(line)?.[1];
    if (header !== undefined) {
      table = `${plainKey(header)}.`;
      setFirst(lines, plainKey(header), at + 1);
      continue;
    }
    const key = /^\s*([A-Za-z0-9_."' -]+?)\s*=/.exec(line)?.[1];
    if (key !== undefined) setFirst(lines, `${table}${plainKey(key)}`, at + 1);
  }
  return lines;
}

/** A later line that looks the same is the inside of a text: a key cannot be set twice. */
function setFirst(lines: Map<string, number>, key: string, line: number): void {
  if (!lines.has(key)) lines.set(key, line);
}

function plainKey(key: string): string {
  return key
    .split(".")
    .map((part) => part.trim().replace(/^(["'])(.*)\1$/, "$2"))
    .join(".");
}

/** The line of a key, or of the table that it stands in on one line. */
function lineOf(lines: ReadonlyMap<string, number>, path: readonly string[]): number {
  for (let length = path.length; length > 0; length--) {
    const line = lines.get(path.slice(0, length).join("."));
    if (line !== undefined) return line;
  }
  return 1;
}
