/** The dashboard shows figures that there are, by labels that they have. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { MetricKind, MetricsService } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { ChainDevice } from "../support/devices.ts";
import { SideWorld } from "./support.ts";

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly type: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number };
    readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  }[];
  readonly templating: { readonly list: readonly { readonly query: string }[] };
}

test("every figure and label of the Grafana dashboard is one that the relay shows", async (t) => {
  const path = new URL("../../deploy/grafana/sync-relay.json", import.meta.url);
  const dashboard = JSON.parse(await readFile(path, "utf8")) as Dashboard;
  const side = await SideWorld.open(t);
  await side.world.found(new ChainDevice(1));
  const { metrics } = await side.client(MetricsService).get({});
  const known = new Map(metrics.map((metric) => [metric.name, metric]));
  const used = new Set<string>();
  const targets = dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map((target) => ({ title, ...target })),
  );
  assert.ok(targets.length > 20);
  for (const { title, expr, legendFormat } of targets) {
    const names = [...expr.matchAll(/sync_relay_[a-z_]+/g)].map(([name]) => name);
    assert.ok(names.length > 0, title);
    const labels = [
      ...[...expr.matchAll(/([a-z]+)="[^$"]*"/g)].map(([, label]) => label ?? ""),
      ...[...legendFormat.matchAll(/\{\{([a-z]+)\}\}/g)].map(([, label]) => label ?? ""),
    ];
    for (const name of names) {
      const metric = known.get(name) ?? known.get(name.replace(/_(bucket|sum|count)$/, ""));
      assert.ok(metric, `${title}: there is no ${name}`);
      used.add(metric.name);
      if (!known.has(name)) assert.equal(metric.kind, MetricKind.HISTOGRAM, name);
      // A figure that nothing has happened to yet has no samples, and shows no labels.
      if (metric.samples.length === 0) continue;
      for (const label of labels) {
        assert.ok(
          metric.samples.some((sample) => label in sample.labels),
          `${title}: ${name} has no label ${label}`,
        );
      }
    }
  }
  assert.match(dashboard.templating.list[1]?.query ?? "", /label_values\(sync_relay_info, job\)/);
  assert.ok(used.size >= 25, `${used.size} figures are shown`);
  for (const { gridPos } of dashboard.panels) assert.ok(gridPos.x + gridPos.w <= 24);
});
