/** That the benchmark works, in its short mode: its figures say nothing here. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import type { Machine } from "../../bench/harness/machine.ts";
import { alone, compare, type Result, within } from "../../bench/harness/measure.ts";
import { shareOfTarget, targetText } from "../../bench/harness/table.ts";
import { limitsChart, targetsChart } from "../../bench/report/charts.ts";
import type { Figure } from "../../bench/report/figure.ts";
import { pageWith } from "../../bench/report/page.ts";

const sides = { ours: "this", limit: "that" };
const asked = { question: "push", what: "pushes", unit: "pushes/s", sides };
const pairs = (...rates: readonly (readonly [number, number])[]) =>
  rates.map(([ours, limit]) => ({ ours: { rate: ours }, limit: { rate: limit } }));

test("a result is the ratio of medians, and says how far it is from its target", () => {
  const runs = pairs([60, 100], [90, 100], [70, 110]);
  const met = compare({ ...asked, target: 0.7 }, runs, "rate");
  assert.deepEqual([met.ours, met.limit, met.ratio, met.met], [70, 100, 0.7, true]);
  assert.deepEqual([targetText(met), shareOfTarget(met)], ["≥ 0.7", "met"]);
  const missed = compare({ ...asked, target: 1 }, runs, "rate");
  assert.equal(shareOfTarget(missed), "70% of target");
  const slow = within({ ...asked, target: 1, wanted: "at most" }, [1_500], 1_000);
  assert.deepEqual([targetText(slow), shareOfTarget(slow)], ["≤ 1", "1.50 × target"]);
  assert.equal(shareOfTarget(alone(asked, [1])), "");
});

const machine: Machine = {
  cpu: "a processor",
  cores: 2,
  memoryGiB: 4,
  system: "linux",
  node: "v20",
  sqlite: "3",
  fdatasyncMs: 0.1,
  load: 0,
};

function kept(result: Result, provisional = false): Figure {
  return { ...result, machine, day: "2026-01-02", provisional };
}

test("the page gets its figures between its marks, and keeps the rest", () => {
  const begin = "<!-- figures: written by `npm run bench -- --report` -->";
  const page = `before\n${begin}\nold\n<!-- end of figures -->\nafter\n`;
  const figures = [
    kept(compare({ ...asked, target: 0.7 }, pairs([60, 100]), "rate"), true),
    kept(alone({ ...asked, question: "L1" }, [5, 7, 6])),
  ];
  const written = pageWith(page, figures);
  assert.match(written, /^before\n/);
  assert.match(written, /<!-- end of figures -->\nafter\n$/);
  assert.doesNotMatch(written, /old/);
  assert.match(written, /`push` +\| pushes \| 60\.0 \| 100 .*85% of target/);
  assert.match(written, /Provisional: measured while the machine was busy.*\(push\)/);
  assert.match(written, /`L1` +\| pushes \| 6\.00 +\| 5\.00–7\.00/);
  assert.equal(pageWith(written, figures), written);
  assert.throws(() => pageWith("no marks", figures));
  for (const chart of [targetsChart(figures), limitsChart(figures)]) {
    assert.match(chart, /^<svg .*<\/svg>\n$/s);
    assert.match(chart, /prefers-color-scheme: dark/);
  }
  assert.match(targetsChart(figures), /class="missed"/);
});

test("questions of every kind are answered in the short mode", () => {
  const text = execFileSync(
    "node_modules/.bin/tsx",
    "bench/main.ts --short --json push start bytes bundle".split(" "),
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  const results = JSON.parse(text.toString()) as (Result & { machine: Machine })[];
  const named = new Set(results.map(({ question }) => question.split("/")[0]));
  assert.deepEqual([...named], ["push", "start", "bytes", "bundle"]);
  for (const result of results) {
    assert.ok(result.ours > 0 && Number.isFinite(result.ours), result.question);
    assert.ok(result.runs.length === 1 && result.sides.ours !== "", result.question);
    assert.ok(result.machine.cores > 0);
  }
});
