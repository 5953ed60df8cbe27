/**
 * The one place where the programs write. Data goes to stdout and everything
 * else to stderr; with --json stdout holds one JSON object a line and stderr
 * stays for warnings. Colours and the progress line appear only on a terminal.
 */
import type { Failure } from "./exit-codes.ts";

/** Where text goes; what Node's standard streams are. */
export interface Sink {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** What an `Output` is made from. */
export interface OutputOptions {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** One JSON object a line instead of text for people. */
  readonly json: boolean;
}

/** A JSON value, as far as the programs print it. */
export type Fields = Readonly<Record<string, unknown>>;

/** `screen` is bright on black, whatever the terminal's own colours: a QR code must not come out inverted. */
type Style = "bold" | "dim" | "red" | "yellow" | "screen";

const styles: Readonly<Record<Style, readonly [on: string, off: string]>> = {
  bold: ["1", "22"],
  dim: ["2", "22"],
  red: ["31", "39"],
  yellow: ["33", "39"],
  screen: ["97;40", "39;49"],
};

/** Everything a program says. */
export class Output {
  readonly json: boolean;
  readonly #stdout: Sink;
  readonly #stderr: Sink;
  readonly #env: OutputOptions["env"];
  #progressShown = false;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.#stdout = options.stdout;
    this.#stderr = options.stderr;
    this.#env = options.env;
  }

  /** Whether a person reads stdout. */
  get interactive(): boolean {
    return this.#stdout.isTTY === true && !this.json;
  }

  /**
   * What happened: with --json an object with `event` first, else the text. Where
   * there is no text, people are told nothing.
   */
  event(event: string, fields: Fields, text?: string): void {
    this.#clearProgress();
    if (this.json) this.#stdout.write(`${JSON.stringify({ event, ...fields }, jsonValue)}\n`);
    else if (text !== undefined) this.#stdout.write(`${text}\n`);
  }

  /** A remark for people, on stderr; silent with --json. */
  note(text: string): void {
    if (this.json) return;
    this.#clearProgress();
    this.#stderr.write(`${text}\n`);
  }

  /** Something that went otherwise than asked, though the command goes on. */
  warn(text: string): void {
    this.#clearProgress();
    this.#stderr.write(`${this.#paint(this.#stderr, "yellow", "warning:")} ${printable(text)}\n`);
  }

  /** The end of a command that failed: on stderr for people; with --json on stdout, as the last object. */
  fail(failure: Failure): void {
    this.#clearProgress();
    if (this.json) {
      const { code, name, message, hint } = failure;
      this.event("error", { error: { code, name, message, hint } });
      return;
    }
    const label = this.#paint(this.#stderr, "red", "error:");
    this.#stderr.write(`${label} ${printable(failure.message)}\n`);
    if (failure.hint !== "") {
      this.#stderr.write(
        `${this.#paint(this.#stderr, "dim", "hint:")} ${printable(failure.hint)}\n`,
      );
    }
  }

  /** Shows how far a long command is, in place; only on a terminal. */
  progress(text: string): void {
    if (this.#stderr.isTTY !== true || this.json) return;
    const width = Math.max(20, (this.#stderr.columns ?? 80) - 1);
    this.#stderr.write(`\r\u001b[2K${printable(text).slice(0, width)}`);
    this.#progressShown = true;
  }

  /** Puts a style around a text for stdout. */
  paint(style: Style, text: string): string {
    return this.#paint(this.#stdout, style, text);
  }

  #paint(sink: Sink, style: Style, text: string): string {
    if (sink.isTTY !== true || this.json) return text;
    // no-color.org: any value but an empty one turns colours off.
    if ((this.#env["NO_COLOR"] ?? "") !== "" || this.#env["TERM"] === "dumb") return text;
    const [on, off] = styles[style];
    return `\u001b[${on}m${text}\u001b[${off}m`;
  }

  #clearProgress(): void {
    if (!this.#progressShown) return;
    this.#progressShown = false;
    this.#stderr.write("\r\u001b[2K");
  }
}

function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}

/**
 * A text of somebody else's making, fit to be shown: control characters, which
 * could move a terminal's cursor or rename its window, and direction marks,
 * which could make one name look like another, appear as their numbers.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`,
  );
}

/** Rows as aligned columns, the last one left ragged. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  }
  return rows
    .map((row) =>
      row
        .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** A number of bytes for people. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (value < 1024 || unit === "GiB") return `${value.toFixed(1)} ${unit}`;
  }
  return `${bytes} B`;
}

/** A length of time for people. */
export function formatDuration(ms: number): string {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

/** A number with its noun. */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number.toLocaleString("en-US")} ${number === 1 ? noun : plural}`;
}
