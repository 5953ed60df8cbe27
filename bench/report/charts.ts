/** Bars as SVG, readable on light and on dark. Pure. */
import { figure, shareOfTarget } from "../harness/table.ts";
import type { Figure } from "./figure.ts";

const width = 760;
const rowHeight = 22;
const left = 190;
const right = 150;

const style = `<style>
text { fill: #24292f; font: 12px sans-serif; }
.quiet { fill: #57606a; }
.met { fill: #2da44e; } .missed { fill: #d1783c; } .limit { fill: #8c959f; } .ours { fill: #2f6fd0; }
line { stroke: #57606a; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .quiet { fill: #9198a1; } line { stroke: #9198a1; }
}
</style>`;

interface Bar {
  readonly label: string;
  /** Its length, as a share of the chart's width. */
  readonly share: number;
  readonly kind: "met" | "missed" | "limit" | "ours";
  readonly text: string;
}

function chart(title: string, bars: readonly Bar[], mark: number | undefined): string {
  const across = width - left - right;
  const height = 36 + bars.length * rowHeight;
  const rows = bars.flatMap(({ label, share, kind, text }, i) => {
    const y = 30 + i * rowHeight;
    const length = Math.max(1, Math.min(1, share) * across);
    return [
      `<text x="${left - 8}" y="${y + 13}" text-anchor="end">${label}</text>`,
      `<rect class="${kind}" x="${left}" y="${y + 3}" width="${length.toFixed(1)}" height="13" rx="2"/>`,
      `<text class="quiet" x="${(left + length + 6).toFixed(1)}" y="${y + 13}">${text}</text>`,
    ];
  });
  const line =
    mark === undefined
      ? []
      : [
          `<line x1="${left + mark * across}" x2="${left + mark * across}" y1="28" y2="${height - 4}"/>`,
        ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">`,
    style,
    `<text x="8" y="18" font-weight="bold">${title}</text>`,
    ...rows,
    ...line,
    "</svg>",
    "",
  ].join("\n");
}

/** How far each question comes towards its target; the line is the target, and what is beyond twice is cut there. */
export function targetsChart(figures: readonly Figure[]): string {
  const bars = figures.flatMap((each): Bar[] => {
    const { ratio, target, wanted, met, question } = each;
    if (typeof ratio !== "number" || typeof target !== "number") return [];
    const reached = wanted === "at least" ? ratio / target : target / ratio;
    return [
      {
        label: question,
        share: reached / 2,
        kind: met === true ? "met" : "missed",
        text: `${ratio.toFixed(2)} (${shareOfTarget(each)})`,
      },
    ];
  });
  return chart("How far towards its target; longer is better, the line is the target", bars, 0.5);
}

const rates = ["L1", "L2", "L4", "push", "push-coalesced", "payload"];

/** Messages a second: what the limits do, and what the relay does. */
export function limitsChart(figures: readonly Figure[]): string {
  const known = rates.flatMap((name) => figures.filter(({ question }) => question === name));
  const most = Math.max(1, ...known.map(({ ours }) => ours)) * 1.02;
  const bars = known.map(
    ({ question, ours }): Bar => ({
      label: question,
      share: ours / most,
      kind: question.startsWith("L") ? "limit" : "ours",
      text: `${figure(ours)}/s`,
    }),
  );
  return chart(
    "Messages a second, 16 clients with 32 outstanding (payload: 4 KiB)",
    bars,
    undefined,
  );
}
