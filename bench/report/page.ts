/** The part of the page that is made of the figures. Pure. */
import { figure, ratioRange, shareOfTarget, targetText } from "../harness/table.ts";
import type { Figure } from "./figure.ts";

const begin = "<!-- figures: written by `npm run bench -- --report` -->";
const end = "<!-- end of figures -->";

/** The page with its figures put between the marks. */
export function pageWith(page: string, figures: readonly Figure[]): string {
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from === -1 || to < from) throw new Error("the page has lost the marks of its figures");
  return `${page.slice(0, from)}${begin}\n\n${figuresText(figures)}\n\n${page.slice(to)}`;
}

function figuresText(figures: readonly Figure[]): string {
  const compared = figures.filter(({ ratio }) => ratio !== undefined && ratio !== null);
  const alone = figures.filter((each) => !compared.includes(each));
  return [
    ...machines(figures),
    table(
      ["question", "what", "ours", "limit", "unit", "ratio", "range", "target", ""],
      compared.map((each) => [
        `\`${each.question}\``,
        each.what,
        figure(each.ours),
        figure(each.limit ?? 0),
        each.unit,
        (each.ratio ?? 0).toFixed(2),
        ratioRange(each),
        targetText(each),
        shareOfTarget(each),
      ]),
    ),
    "What is measured alone:",
    table(
      ["question", "what", "median", "range", "unit"],
      alone.map((each) => [
        `\`${each.question}\``,
        each.what,
        figure(each.ours),
        range(each),
        each.unit,
      ]),
    ),
  ].join("\n\n");
}

/** One line for each machine and day. */
function machines(figures: readonly Figure[]): string[] {
  const lines = new Map<string, string[]>();
  for (const { machine, day, provisional, question } of figures) {
    const line = `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; ${machine.system}; Node ${machine.node}, SQLite ${machine.sqlite}; ${day}${provisional ? ". **Provisional: measured while the machine was busy with other work**" : ""}`;
    const [name = ""] = question.split("/");
    const known = lines.get(line) ?? [];
    if (!known.includes(name)) known.push(name);
    lines.set(line, known);
  }
  if (lines.size === 1) return [`Measured on: ${[...lines.keys()].join("")}.`];
  return [...lines].map(([line, names]) => `Measured on: ${line} (${names.join(", ")}).`);
}

function range({ runs }: Figure): string {
  const all = runs.map(({ ours }) => ours);
  const least = Math.min(...all);
  const most = Math.max(...all);
  return least === most ? "" : `${figure(least)}–${figure(most)}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  // Padded as the formatter of the repository pads it.
  const lines = [head, ...rows];
  const widths = head.map((_, at) => Math.max(3, ...lines.map((line) => (line[at] ?? "").length)));
  const written = (cells: readonly string[]): string =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  return [
    written(head),
    `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`,
    ...rows.map(written),
  ].join("\n");
}
