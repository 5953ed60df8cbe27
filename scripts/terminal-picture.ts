/**
 * Draws what a program printed as a picture of a terminal:
 *
 *     npm run -s demo | npx tsx scripts/terminal-picture.ts 'npm run demo' > docs/demo.svg
 *
 * Long lines are broken between words. The picture needs no font of its own and
 * follows the reader's light or dark scheme.
 */
import { text } from "node:stream/consumers";

const columns = 104;
const lineHeight = 20;
const charWidth = 8.1;
const padding = 16;

function wrapped(line: string): string[] {
  const lines: string[] = [];
  let rest = line;
  while (rest.length > columns) {
    const at = rest.lastIndexOf(" ", columns);
    const end = at > 12 ? at : columns;
    lines.push(rest.slice(0, end));
    rest = `         ${rest.slice(end).trimStart()}`;
  }
  return [...lines, rest];
}

function escaped(line: string): string {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

const command = process.argv[2] ?? "";
const output = (await text(process.stdin)).trimEnd().split("\n");
const lines = [`$ ${command}`, ...output.flatMap(wrapped)];
const width = Math.ceil(columns * charWidth + 2 * padding);
const height = lines.length * lineHeight + 2 * padding;
const rows = lines.map((line, i) => {
  const kind = i === 0 ? "command" : line.startsWith("identical") ? "good" : "line";
  const y = padding + (i + 0.7) * lineHeight;
  return `  <text class="${kind}" x="${padding}" y="${y}" xml:space="preserve">${escaped(line)}</text>`;
});
process.stdout.write(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="What ${escaped(command)} prints">
  <style>
    rect { fill: #f6f8fa; stroke: #d0d7de; }
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; }
    .command { fill: #57606a; }
    .good { fill: #1a7f37; font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      rect { fill: #0d1117; stroke: #30363d; }
      text { fill: #e6edf3; }
      .command { fill: #8b949e; }
      .good { fill: #3fb950; }
    }
  </style>
  <rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>
${rows.join("\n")}
</svg>
`);
