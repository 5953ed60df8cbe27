/** What the relay counts, as Prometheus and as `MetricsService` show it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  HealthService,
  HealthStatus,
  ProblemKind,
} from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { MetricKind, MetricsService } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { Histogram } from "../../server/figures.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { ChainDevice } from "../support/devices.ts";
import { settled } from "../support/relay-world.ts";
import { SideWorld } from "./support.ts";

/** The values of a Prometheus text, by name with labels. */
async function scrape(side: SideWorld): Promise<Map<string, number>> {
  const response = await side.fetch("/metrics", { token: side.tokens.read });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const values = new Map<string, number>();
  for (const line of (await response.text()).split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, name = "", value = ""] = /^(\S+(?:\{.*\})?) (\S+)$/.exec(line) ?? [];
    assert.notEqual(name, "", line);
    assert(!values.has(name), `twice: ${name}`);
    values.set(name, Number(value));
  }
  return values;
}

test("every figure has help and a type before its values, a unit in its name, and no value is missing", async (t) => {
  const side = await SideWorld.open(t);
  const text = await (await side.fetch("/metrics")).text();
  const types = new Map<string, string>();
  const helped = new Set<string>();
  let current = "";
  for (const line of text.trimEnd().split("\n")) {
    const help = /^# HELP (\S+) (.+)$/.exec(line);
    const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    if (help !== null) {
      assert.match(help[2] ?? "", /^[A-Z0-9].*\.$/);
      helped.add(help[1] ?? "");
      continue;
    }
    if (type !== null) {
      current = type[1] ?? "";
      assert(helped.has(current) && !types.has(current));
      types.set(current, type[2] ?? "");
      continue;
    }
    assert(!line.startsWith("#"), line);
    const name = /^[a-z_]+/.exec(line)?.[0] ?? "";
    assert(name === current || name.replace(/_(bucket|sum|count)$/, "") === current, line);
    assert(Number.isFinite(Number(line.split(" ").at(-1))), line);
  }
  for (const [name, type] of types) {
    assert.match(name, /^sync_relay_[a-z_]+$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
  }
  const { metrics } = await side.client(MetricsService).get({});
  assert.deepEqual(
    metrics.map((metric) => metric.name),
    [...types.keys()],
  );
  for (const { name, unit } of metrics) {
    if (unit !== "") assert.match(name, new RegExp(`_${unit}(_total)?$`));
  }
});

test("pushes, deliveries, commits, refusals and bytes move their figures", async (t) => {
  const side = await SideWorld.open(t, { limits: { pushesPerS: 1, pushesBurst: 2 } });
  const ada = new ChainDevice(1);
  const bob = new ChainDevice(2);
  await side.world.found(ada, bob);
  const peer = await side.world.member(ada);
  await side.world.member(bob);
  const before = await scrape(side);
  peer.push(ada.run(3));
  await settled();
  peer.push(ada.run(1));
  await settled();
  peer.push([ada.make()]);
  await settled();
  const after = await scrape(side);
  const moved = (name: string): number => (after.get(name) ?? 0) - (before.get(name) ?? 0);
  assert.equal(moved('sync_relay_pushes_total{outcome="stored"}'), 2);
  assert.equal(moved("sync_relay_blobs_stored_total"), 4);
  assert.equal(moved('sync_relay_commits_total{outcome="stored"}'), 2);
  // To both devices, the sender told as its own.
  assert.equal(moved('sync_relay_deliveries_total{how="delivered"}'), 4);
  assert.equal(moved("sync_relay_blobs_delivered_total"), 8);
  assert.equal(moved('sync_relay_refusals_total{code="RATE_LIMITED"}'), 1);
  assert.equal(moved("sync_relay_commit_blobs_count"), 2);
  assert.equal(moved("sync_relay_commit_blobs_sum"), 4);
  assert.equal(moved('sync_relay_commit_blobs_bucket{le="2"}'), 1);
  assert.equal(moved('sync_relay_commit_blobs_bucket{le="5"}'), 2);
  assert.equal(moved('sync_relay_commit_blobs_bucket{le="+Inf"}'), 2);
  assert.equal(moved("sync_relay_commit_duration_seconds_count"), 2);
  assert.equal(after.get('sync_relay_sessions{kind="member"}'), 2);
  assert.equal(after.get("sync_relay_store_live_bytes"), side.world.relay.storeBytes);
  assert.equal(after.get("sync_relay_store_blobs"), 4);
  assert.equal(after.get("sync_relay_store_groups"), 1);
});

test("what the relay ends is counted by its reason", async (t) => {
  const side = await SideWorld.open(t);
  const ada = new ChainDevice(1);
  await side.world.found(ada);
  await side.world.member(ada);
  await side.world.member(ada);
  const values = await scrape(side);
  assert.equal(values.get('sync_relay_sessions_ended_total{code="REPLACED"}'), 1);
});

test("a histogram puts a value at a bound below it, and one above all into the last range", () => {
  const histogram = new Histogram([1, 10]);
  for (const value of [0, 1, 1.5, 10, 11]) histogram.observe(value);
  assert.deepEqual([...histogram.counts], [2, 2, 1]);
  assert.equal(histogram.sum, 23.5);
});

test("watched figures come at once, then again; a wrong interval is refused", async (t) => {
  const side = await SideWorld.open(t);
  const stop = new AbortController();
  const stream = side.client(MetricsService).watch({ intervalMs: 1_000 }, { signal: stop.signal });
  for await (const { metrics } of stream) {
    assert.equal(metrics[0]?.kind, MetricKind.GAUGE);
    break;
  }
  stop.abort();
  const wrong = side.client(MetricsService).watch({ intervalMs: 10 });
  await assert.rejects(async () => {
    for await (const _ of wrong) break;
  }, /interval_ms/);
});

test("streams are bounded: the seventeenth is refused, and one that ends makes room", async (t) => {
  const side = await SideWorld.open(t);
  const client = side.client(HealthService, "grpc");
  const stops: AbortController[] = [];
  const begin = async (): Promise<void> => {
    const stop = new AbortController();
    stops.push(stop);
    const stream = client.watch({}, { signal: stop.signal })[Symbol.asyncIterator]();
    await stream.next();
  };
  for (let i = 0; i < 16; i++) await begin();
  await assert.rejects(begin(), /too many streams/);
  for (const stop of stops) stop.abort();
});

test("watched health is told at once, and again only when it changes", async (t) => {
  const side = await SideWorld.open(t);
  const ada = new ChainDevice(1);
  await side.world.found(ada);
  const peer = await side.world.member(ada);
  const told: HealthStatus[] = [];
  for await (const { health } of side.client(HealthService, "grpc-web").watch({})) {
    told.push(health?.status ?? HealthStatus.UNSPECIFIED);
    if (told.length === 2) break;
    side.world.store.failCommits(1);
    peer.push([ada.make()]);
  }
  assert.deepEqual(told, [HealthStatus.OK, HealthStatus.DEGRADED]);
});

test("health: ok, then what is wrong and what to do, and ok again", async (t) => {
  const side = await SideWorld.open(t, { limits: { storeBytesMax: 1_000 } });
  const client = side.client(HealthService);
  assert.equal((await client.check({})).health?.status, HealthStatus.OK);
  const ada = new ChainDevice(1);
  await side.world.found(ada);
  const peer = await side.world.member(ada);

  side.world.store.failCommits(1);
  peer.push(ada.run(1));
  await settled();
  const failing = (await client.check({})).health;
  assert.equal(failing?.status, HealthStatus.DEGRADED);
  assert.deepEqual(
    failing?.problems.map((problem) => problem.kind),
    [ProblemKind.STORE_FAILING],
  );
  assert.match(failing?.problems[0]?.message ?? "", /disk is full/);
  assert.equal((await side.fetch("/health")).status, 200);

  ada.seq = 0;
  ada.link = new Uint8Array(32);
  peer.push(ada.run(1, { bodyBytes: 700 }));
  await settled();
  assert.equal(peer.last("pushAck").cursors.length, 1);
  const full = (await client.check({})).health;
  assert.deepEqual(
    full?.problems.map((problem) => problem.kind),
    [ProblemKind.STORE_NEARLY_FULL],
  );
  peer.push([ada.make({ bodyBytes: 700 })]);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.QUOTA_EXCEEDED);
});
