/** Inputs that did something new in a long run, kept: one file a target, one input a line. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("corpus/", import.meta.url));
/** Inputs of one target; the shortest are kept, and a line is not longer than a page. */
const inputsMax = 150;
const inputBytesMax = 3_000;

export function readCorpus(target: string): Uint8Array[] {
  const path = `${folder}${target}.txt`;
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.slice(0, -1).map((line) => new Uint8Array(Buffer.from(line, "base64")));
}

/** Writes what is known and what is new; without the long ones. */
export function writeCorpus(target: string, inputs: readonly Uint8Array[]): void {
  const lines = new Set<string>();
  const byLength = inputs.toSorted((a, b) => a.byteLength - b.byteLength);
  for (const input of byLength) {
    if (input.byteLength > inputBytesMax || lines.size >= inputsMax) break;
    lines.add(Buffer.from(input).toString("base64"));
  }
  if (lines.size === 0) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}${target}.txt`, `${[...lines].join("\n")}\n`);
}
