/** The figures that `docs/PERFORMANCE.md` shows: kept as JSON beside it, question by question. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../harness/build.ts";
import type { Machine } from "../harness/machine.ts";
import type { Result } from "../harness/measure.ts";
import { limitsChart, targetsChart } from "./charts.ts";
import type { Figure } from "./figure.ts";
import { pageWith } from "./page.ts";

const folder = join(root, "docs", "performance");
const file = join(folder, "figures.json");
const page = join(root, "docs", "PERFORMANCE.md");

/** Takes results into the file, each in place of an older one of its question, and draws everything anew. */
export function keep(
  machine: Machine,
  results: readonly Result[],
  order: readonly string[],
  provisional: boolean,
): void {
  const known: Figure[] = existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as Figure[])
    : [];
  const day = new Date().toISOString().slice(0, 10);
  const asked = new Set(results.map(({ question }) => roomOf(question, order)));
  const kept = known.filter(({ question }) => !asked.has(roomOf(question, order)));
  const added = results.map((result) => ({ ...result, machine, day, provisional }));
  const place = ({ question }: Figure): number => order.indexOf(roomOf(question, order) ?? "");
  const figures = [...kept, ...added].toSorted((a, b) => place(a) - place(b));
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    file,
    `[\n${figures.map((figure) => JSON.stringify(figure, rounded)).join(",\n")}\n]\n`,
  );
  draw();
}

/** Draws charts and table from the file. */
export function draw(): void {
  const figures = JSON.parse(readFileSync(file, "utf8")) as Figure[];
  writeFileSync(join(folder, "targets.svg"), targetsChart(figures));
  writeFileSync(join(folder, "limits.svg"), limitsChart(figures));
  writeFileSync(page, pageWith(readFileSync(page, "utf8"), figures));
}

/** The name of the question that a result answers: those of the limits are named by themselves. */
function roomOf(question: string, order: readonly string[]): string | undefined {
  const [first = ""] = question.split("/");
  if (/^L\d$/.test(first)) return "limits";
  return order.find((name) => name === first);
}

function rounded(_: string, value: unknown): unknown {
  if (typeof value === "number") return Number(value.toPrecision(5));
  return value;
}
