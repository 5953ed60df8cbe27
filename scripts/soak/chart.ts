/** Lines over time as an SVG, one panel below the other. Pure. */

export interface Panel {
  readonly title: string;
  readonly lines: readonly {
    readonly label: string;
    readonly points: readonly (readonly [minute: number, value: number])[];
  }[];
}

const width = 820;
const panelHeight = 180;
const left = 60;
const right = 60;
const top = 28;
const bottom = 26;
const colours = ["#2563eb", "#d97706", "#059669"];

export function chart(panels: readonly Panel[]): string {
  const height = panels.length * panelHeight;
  const body = panels.map((panel, i) => drawn(panel, i * panelHeight)).join("\n");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="#fff"/>
${body}
</svg>
`;
}

function drawn({ title, lines }: Panel, y: number): string {
  const all = lines.flatMap(({ points }) => points);
  const minutes = Math.max(0.1, ...all.map(([minute]) => minute));
  const most = Math.max(1e-9, ...all.map(([, value]) => value)) * 1.1;
  const across = width - left - right;
  const up = panelHeight - top - bottom;
  const x = (minute: number): number => left + (minute / minutes) * across;
  const at = (value: number): number => y + top + up - (value / most) * up;
  const grid = [0, 0.5, 1].map((share) => {
    const value = most * share;
    return `<line x1="${left}" x2="${width - right}" y1="${at(value)}" y2="${at(value)}" stroke="#ddd"/><text x="${left - 6}" y="${at(value) + 4}" text-anchor="end">${shown(value)}</text>`;
  });
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const minute = minutes * share;
    return `<text x="${x(minute)}" y="${y + panelHeight - 8}" text-anchor="middle">${shown(minute)} min</text>`;
  });
  const paths = lines.map(({ label, points }, i) => {
    const colour = colours[i % colours.length];
    const path = points.map(([minute, value]) => `${x(minute).toFixed(1)},${at(value).toFixed(1)}`);
    const [, last = 0] = points.at(-1) ?? [];
    return `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${path.join(" ")}"/><text x="${width - right + 6}" y="${at(last) + 4}" fill="${colour}">${label}</text>`;
  });
  return [
    `<text x="${left}" y="${y + 18}" font-weight="bold">${title}</text>`,
    ...grid,
    ...ticks,
    ...paths,
  ].join("\n");
}

function shown(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
