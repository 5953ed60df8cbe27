/** What the status page makes of the relay's figures, and how it writes them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MetricsService } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import {
  percentile,
  readFigures,
  speedsBetween,
  Trail,
} from "../../server/status-page/page/figures.js";
import * as words from "../../server/status-page/page/words.js";
import { SideWorld } from "../admin/support.ts";

const nothing = readFigures({}, 0);

test("every figure the page reads is one the relay has", async (t) => {
  const side = await SideWorld.open(t);
  const { metrics } = await side.client(MetricsService).get({});
  const names = new Set(metrics.map((metric) => metric.name));
  const asked: string[] = [];
  // A list that notes what is looked up in it.
  const answer = {
    metrics: [...names].map((name) => ({
      name,
      get samples() {
        asked.push(name);
        return [{ labels: { kind: "member", outcome: "stored", quantile: "0.99" }, value: 7 }];
      },
    })),
  };
  const reading = readFigures(answer, 1);
  const { atMs: _, commits, lobby, ...read } = reading;
  assert.deepEqual(new Set(Object.values(read)), new Set([7]));
  assert.deepEqual([lobby, commits], [0, { bounds: [], counts: [] }]);
  assert.equal(asked.length, 18);
});

test("what the relay answers in JSON is read: numbers as text, zeros left out", async (t) => {
  const side = await SideWorld.open(t);
  const response = await side.fetch("/syncrelay.admin.v1.MetricsService/Get", {
    method: "POST",
    body: "{}",
  });
  const reading = readFigures((await response.json()) as { metrics?: object[] }, 5);
  assert.equal(reading.limitBytes, side.world.relay.options.limits.storeBytesMax);
  assert.ok(reading.residentBytes > 0);
  assert.equal(reading.commits.counts.length, reading.commits.bounds.length + 1);
  assert.equal(reading.stored, 0);
});

test("speeds are what came in between, per second", () => {
  const before = { ...nothing, atMs: 1_000, uptimeS: 5, stored: 10, sentBytes: 100 };
  const after = { ...before, atMs: 3_000, uptimeS: 7, stored: 30, sentBytes: 100 };
  const speeds = speedsBetween(before, after);
  assert.equal(speeds?.stored, 10);
  assert.equal(speeds?.sentBytes, 0);
  assert.equal(speeds?.median, undefined);
});

test("a relay that was restarted has no speed, not a negative one", () => {
  const before = { ...nothing, atMs: 1_000, uptimeS: 500, stored: 1_000 };
  assert.equal(speedsBetween(before, { ...nothing, atMs: 3_000, uptimeS: 1 }), undefined);
  assert.equal(speedsBetween(before, before), undefined);
});

test("commit times are those of the commits in between", () => {
  const before = { ...nothing, atMs: 0, commits: { bounds: [1, 2], counts: [1_000, 0, 0] } };
  const after = { ...nothing, atMs: 1_000, commits: { bounds: [1, 2], counts: [1_000, 10, 0] } };
  assert.equal(speedsBetween(before, after)?.median, 1.5);
});

test("percentiles lie in the range that holds them", () => {
  const bounds = [1, 2, 4];
  assert.equal(percentile({ bounds, counts: [0, 0, 0, 0] }, 0.5), undefined);
  assert.equal(percentile({ bounds, counts: [2, 2, 0, 0] }, 0.5), 1);
  assert.equal(percentile({ bounds, counts: [0, 0, 4, 0] }, 0.25), 2.5);
  assert.equal(percentile({ bounds, counts: [0, 0, 0, 3] }, 0.99), 4);
  assert.equal(percentile({ bounds, counts: [99, 0, 1, 0] }, 0.99), 1);
});

test("a trail keeps so many points, and a gap where nothing is known", () => {
  const trail = new Trail(2, 3);
  for (let at = 1; at <= 4; at++) trail.add(at * 1_000, [at, at === 3 ? undefined : at * 10]);
  assert.deepEqual(trail.columns, [
    [2, 3, 4],
    [2, 3, 4],
    [20, null, 40],
  ]);
});

test("sizes are written as they are read", () => {
  const { sizeText, readSize } = words;
  assert.deepEqual([0, 1_023, 1_024, 1_500_000, 2 ** 40].map(sizeText), [
    "0 B",
    "1023 B",
    "1 KiB",
    "1.43 MiB",
    "1 TiB",
  ]);
  for (const [text, bytes] of [
    ["65536", 65_536],
    ["2GiB", 2 ** 31],
    [" 2 gib ", 2 ** 31],
    ["1.5 MB", 1_500_000],
    ["500 K", 500_000],
    ["7 b", 7],
  ] as const) {
    assert.equal(readSize(text), bytes, text);
  }
  for (const text of ["", "GiB", "-1", "1e9", "1 GiBs", "1,5 MB", "99999999 PiB", "0x10"]) {
    assert.equal(readSize(text), undefined, text);
  }
});

test("times, shares and counts are written for people", () => {
  assert.deepEqual([0.0005, 0.012, 1.234].map(words.waitText), ["0.5 ms", "12 ms", "1.23 s"]);
  assert.deepEqual(
    [0, 61, 7_300, 90_000].map((seconds) => words.spanText(seconds)),
    ["less than a minute", "1 minute", "2 hours", "1 day"],
  );
  assert.equal(words.spanText(604_790, Math.round), "7 days");
  assert.equal(words.agoText(0, 5), "never");
  assert.equal(words.agoText(1_000, 2_000), "just now");
  assert.equal(words.agoText(1_000, 181_000), "3 minutes ago");
  assert.deepEqual(
    [
      [0, 10],
      [1, 1_000],
      [999, 1_000],
      [5, 0],
    ].map(([part, whole]) => words.percentText(part ?? 0, whole ?? 0)),
    ["0 %", "< 1 %", "99 %", "0 %"],
  );
  assert.equal(words.counted(1, "group"), "1 group");
  assert.equal(words.counted(12_000, "group"), "12,000 groups");
});
