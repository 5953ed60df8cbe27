/** A file of JSON lines. A line is one write: it outlives the process from then on, whole. */
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";

export class Journal {
  readonly #fd: number;

  constructor(path: string) {
    // What a full disk or a kill left of a last line is none.
    if (existsSync(path)) {
      const bytes = readFileSync(path);
      truncateSync(path, bytes.lastIndexOf(10) + 1);
    }
    this.#fd = openSync(path, "a", 0o600);
  }

  write(line: unknown): void {
    writeSync(this.#fd, `${JSON.stringify(line)}\n`);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** The whole lines of a journal; none where there is no file. */
export function readJournal<Line>(path: string): Line[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
}
