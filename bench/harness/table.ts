/** The results as people read them. */
import type { Machine } from "./machine.ts";
import type { Result } from "./measure.ts";

/** The machine, the table, and what each side is. */
export function formatResults(machine: Machine, results: readonly Result[]): string {
  const rows = [
    ["question", "ours", "limit", "unit", "ratio", "range", "target", "met"],
    ...results.map((result) => [
      result.question,
      figure(result.ours),
      result.limit === undefined ? "" : figure(result.limit),
      result.unit,
      result.ratio === undefined ? "" : result.ratio.toFixed(2),
      ratioRange(result),
      targetText(result),
      shareOfTarget(result),
    ]),
  ];
  return [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; ${machine.system}`,
    `Node ${machine.node}, SQLite ${machine.sqlite}; fdatasync ${machine.fdatasyncMs.toFixed(2)} ms; load before the first run ${machine.load.toFixed(1)}`,
    "",
    ...columns(rows),
    "",
    ...results.flatMap((result) => [
      `${result.question}: ${result.what}`,
      `  runs, ours${result.limit === undefined ? "" : " / limit"}: ${runs(result)}`,
      `  ours: ${result.sides.ours}`,
      ...(result.sides.limit === undefined ? [] : [`  limit: ${result.sides.limit}`]),
    ]),
    "",
  ].join("\n");
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, at) =>
    Math.max(...rows.map((row) => (row[at] ?? "").length)),
  );
  return rows.map((row) =>
    row
      .map((cell, at) =>
        at === 0 || at === 3 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
}

function runs(result: Result): string {
  return result.runs
    .map((run) =>
      run.limit === undefined ? figure(run.ours) : `${figure(run.ours)} / ${figure(run.limit)}`,
    )
    .join(", ");
}

/** The bound a ratio is held to. */
export function targetText({ target, wanted }: Result): string {
  if (typeof target !== "number") return "";
  return `${wanted === "at least" ? "≥" : "≤"} ${target}`;
}

/** Whether the target is met, and where not, how far off it is. */
export function shareOfTarget({ target, ratio, wanted, met }: Result): string {
  if (typeof target !== "number" || typeof ratio !== "number") return "";
  if (met === true) return "met";
  const share = ratio / target;
  return wanted === "at least"
    ? `${Math.floor(share * 100)}% of target`
    : `${share.toFixed(2)} × target`;
}

/** The lowest and highest ratio of any one repetition. */
export function ratioRange(result: Result): string {
  const ratios = result.runs.flatMap((run) =>
    run.limit === undefined ? [] : [run.ours / run.limit],
  );
  if (ratios.length === 0) return "";
  return `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`;
}

export function figure(value: number): string {
  if (value >= 1_000) return Math.round(value).toLocaleString("en-US");
  return value.toPrecision(3);
}
