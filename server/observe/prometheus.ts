/**
 * Figures as Prometheus reads them: text format 0.0.4. Written here rather than
 * by prom-client, which would keep a registry of its own beside the relay's
 * counters and bring OpenTelemetry with it, to save these forty lines.
 */
import {
  type Metric,
  MetricKind,
  type MetricSample,
} from "../../gen/syncrelay/admin/v1/metrics_pb.ts";

export const prometheusContentType = "text/plain; version=0.0.4; charset=utf-8";

const types: Readonly<Record<MetricKind, string>> = {
  [MetricKind.UNSPECIFIED]: "untyped",
  [MetricKind.COUNTER]: "counter",
  [MetricKind.GAUGE]: "gauge",
  [MetricKind.HISTOGRAM]: "histogram",
};

export function prometheusText(metrics: readonly Metric[]): string {
  let text = "";
  for (const metric of metrics) {
    text += `# HELP ${metric.name} ${escapeHelp(metric.help)}\n`;
    text += `# TYPE ${metric.name} ${types[metric.kind]}\n`;
    for (const sample of metric.samples) {
      text +=
        sample.histogram === undefined ? plain(metric.name, sample) : buckets(metric.name, sample);
    }
  }
  return text;
}

function plain(name: string, sample: MetricSample): string {
  return `${name}${labelsOf(sample.labels)} ${sample.value}\n`;
}

function buckets(name: string, sample: MetricSample): string {
  const { histogram } = sample;
  if (histogram === undefined) return "";
  let text = "";
  let below = 0n;
  for (const [at, count] of histogram.counts.entries()) {
    below += count;
    const le = histogram.bounds[at] === undefined ? "+Inf" : String(histogram.bounds[at]);
    text += `${name}_bucket${labelsOf({ ...sample.labels, le })} ${below}\n`;
  }
  text += `${name}_sum${labelsOf(sample.labels)} ${histogram.sum}\n`;
  text += `${name}_count${labelsOf(sample.labels)} ${below}\n`;
  return text;
}

function labelsOf(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
