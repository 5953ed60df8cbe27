/**
 * Every figure of the relay, with its name, its unit and what it is: one list,
 * which `GET /metrics` and `MetricsService` both show. The values are read when
 * somebody asks; where things happen, only a number is raised.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Metric, MetricKind, MetricSchema } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { errorRow } from "../../wire/errors.ts";
import { softwareVersion } from "../../wire/protocol.ts";
import type { Refusal } from "../admission.ts";
import type { Histogram, Tally } from "../figures.ts";
import type { Relay } from "../relay.ts";
import type { StoreTotals } from "../store/contract.ts";
import type { ProcessFigures } from "./process-figures.ts";

/** What the figures are read from. */
export interface MetricSources {
  readonly relay: Relay;
  /** Handshakes in flight. */
  readonly handshakes: number;
  readonly totals: StoreTotals;
  readonly process: ProcessFigures;
  /** What the side API counts. */
  readonly admin: AdminCounters;
}

/** What the side API counts of itself. */
export interface AdminCounters {
  requests: number;
  /** Without a token, or with one that does not hold. */
  unauthenticated: number;
  /** With a token whose scope does not reach so far. */
  forbidden: number;
  /** Attempts with a wrong token that were over the rate. */
  limited: number;
}

type Sample = NonNullable<MessageInitShape<typeof MetricSchema>["samples"]>[number];

const refusals: readonly Refusal[] = ["sessions", "handshakes", "addressHandshakes", "addressRate"];

/** Every figure now, in a fixed order. */
export function readMetrics(sources: MetricSources): Metric[] {
  const { relay, totals, process, admin } = sources;
  const { counters, figures } = relay;
  let outboundBytes = 0;
  for (const session of relay.sessions) outboundBytes += session.port.outboundBytes;
  return [
    gauge("sync_relay_info", "Always 1; the version is a label.", "", [
      sample(1, { version: softwareVersion }),
    ]),
    gauge("sync_relay_uptime_seconds", "Time since the process started.", "seconds", [
      sample(process.uptimeS),
    ]),
    gauge("sync_relay_up", "1 while devices are served, 0 while the relay shuts down.", "", [
      sample(relay.draining ? 0 : 1),
    ]),

    counter(
      "sync_relay_connections_total",
      "Connections from devices, by what became of them.",
      "",
      [
        sample(counters.connectionsOpened, { outcome: "accepted" }),
        sample(counters.connectionsRefused, { outcome: "turned_away" }),
      ],
    ),
    counter(
      "sync_relay_connections_turned_away_total",
      "Connections that were turned away before their handshake, by the limit they met.",
      "",
      refusals.map((reason) => sample(figures.turnedAway.of(reason), { reason: snake(reason) })),
    ),
    counter("sync_relay_handshakes_total", "Handshakes, by outcome.", "", [
      sample(counters.handshakesFinished, { outcome: "finished" }),
      sample(counters.handshakesFailed, { outcome: "failed" }),
    ]),
    gauge("sync_relay_handshakes_in_flight", "Connections that have not authenticated yet.", "", [
      sample(sources.handshakes),
    ]),
    gauge("sync_relay_sessions", "Sessions now, by what they are for.", "", [
      sample(relay.sessionCount - relay.lobbyCount, { kind: "member" }),
      sample(relay.lobbyCount, { kind: "lobby" }),
    ]),
    counter(
      "sync_relay_sessions_ended_total",
      "Sessions that the relay ended, by error code.",
      "",
      [...byCode(figures.sessionsEnded)],
    ),
    gauge(
      "sync_relay_live_groups",
      "Groups in memory: somebody is connected, or was a moment ago.",
      "",
      [sample(relay.liveGroups)],
    ),
    gauge("sync_relay_mailboxes", "Pairing mailboxes that are open.", "", [
      sample(relay.mailboxes.size),
    ]),

    counter("sync_relay_received_bytes_total", "Bytes received from devices.", "bytes", [
      sample(counters.bytesReceived),
    ]),
    counter("sync_relay_sent_bytes_total", "Bytes sent to devices.", "bytes", [
      sample(counters.bytesSent),
    ]),
    counter("sync_relay_pushes_total", "Pushes, by outcome.", "", [
      sample(counters.pushesStored, { outcome: "stored" }),
      sample(counters.pushesRefused, { outcome: "refused" }),
    ]),
    counter("sync_relay_blobs_stored_total", "Blobs that were written into a log.", "", [
      sample(counters.blobsStored),
    ]),
    counter(
      "sync_relay_deliveries_total",
      "Commits that reached a session: their blobs were sent, or the device was told to pull.",
      "",
      [
        sample(counters.delivered, { how: "delivered" }),
        sample(counters.notified, { how: "notified" }),
      ],
    ),
    counter(
      "sync_relay_blobs_delivered_total",
      "Blobs that were sent as they were committed.",
      "",
      [sample(counters.blobsDelivered)],
    ),
    counter("sync_relay_pages_total", "Pages of the log that were read for pulls.", "", [
      sample(counters.pagesSent),
    ]),
    counter(
      "sync_relay_wake_ups_total",
      "Devices that were to be woken through their push services, by what became of it.",
      "",
      [
        sample(counters.wakeUpsSent, { outcome: "sent" }),
        sample(counters.wakeUpsRefused, { outcome: "refused" }),
        sample(counters.wakeUpsUnreachable, { outcome: "unreachable" }),
        sample(counters.wakeUpsGone, { outcome: "gone" }),
        sample(counters.wakeUpsDropped, { outcome: "dropped" }),
      ],
    ),
    gauge(
      "sync_relay_wake_ups_waiting",
      "Devices that are to be woken, or were and have not connected since.",
      "",
      [sample(relay.wakeUps?.waiting ?? 0)],
    ),
    counter(
      "sync_relay_dropped_blobs_total",
      "Blobs that went from logs with their headers, and bodies that went by themselves, by reason.",
      "",
      [
        sample(counters.headersTrimmed, { what: "trimmed" }),
        sample(counters.bodiesExpired, { what: "expired" }),
        sample(counters.bodiesDeleted, { what: "deleted" }),
      ],
    ),
    counter("sync_relay_trimmed_bytes_total", "What went from logs, in bytes.", "bytes", [
      sample(counters.bytesTrimmed),
    ]),
    counter("sync_relay_snapshots_stored_total", "Snapshots that were stored.", "", [
      sample(counters.snapshotsStored),
    ]),
    counter("sync_relay_objects_total", "Objects, by what became of them.", "", [
      sample(counters.objectsStored, { what: "stored" }),
      sample(counters.objectsCollected, { what: "collected" }),
    ]),
    counter("sync_relay_object_bytes_total", "Bytes of objects that were stored.", "bytes", [
      sample(counters.objectBytesStored),
    ]),
    counter(
      "sync_relay_put_off_total",
      "Times that something was not sent because too much waited already, by what was put off.",
      "",
      [
        sample(counters.notified, { what: "delivery" }),
        sample(counters.putOff, { what: "presence" }),
      ],
    ),
    counter("sync_relay_refusals_total", "Requests that were refused, by error code.", "", [
      ...byCode(figures.refusals),
    ]),
    counter(
      "sync_relay_protocol_faults_total",
      "Connections that were closed because of what they sent.",
      "",
      [sample(counters.protocolFaults)],
    ),
    gauge("sync_relay_outbound_bytes", "Bytes that wait to be sent, on all connections.", "bytes", [
      sample(outboundBytes),
    ]),

    counter("sync_relay_commits_total", "Commits, by outcome.", "", [
      sample(counters.commits, { outcome: "stored" }),
      sample(counters.commitsFailed, { outcome: "failed" }),
    ]),
    histogram("sync_relay_commit_blobs", "Blobs of one commit.", "", figures.commitBlobs),
    histogram(
      "sync_relay_commit_requests",
      "Requests that shared one commit.",
      "",
      figures.commitJobs,
    ),
    histogram(
      "sync_relay_commit_duration_seconds",
      "A commit, from the first look at the disk until everything is on it.",
      "seconds",
      figures.commitMs,
      1_000,
    ),
    gauge("sync_relay_commit_queue_requests", "Requests that wait for a commit.", "", [
      sample(relay.queuedJobs),
    ]),
    gauge("sync_relay_commit_queue_bytes", "Bytes of requests that wait for a commit.", "bytes", [
      sample(relay.queuedBytes),
    ]),

    gauge("sync_relay_store_groups", "Groups in the store.", "", [sample(totals.groups)]),
    gauge("sync_relay_store_blobs", "Blobs in the store.", "", [sample(totals.blobs)]),
    gauge("sync_relay_store_live_bytes", "Bytes that count towards quotas.", "bytes", [
      sample(totals.bytes),
    ]),
    gauge("sync_relay_store_limit_bytes", "The most live bytes the store may have.", "bytes", [
      sample(relay.options.limits.storeBytesMax),
    ]),
    gauge("sync_relay_store_file_bytes", "Bytes of the store's files on disk.", "bytes", [
      sample(totals.fileBytes),
    ]),
    gauge(
      "sync_relay_store_reclaimable_bytes",
      "Bytes inside the store's file that are free and can be given back.",
      "bytes",
      [sample(totals.reclaimableBytes)],
    ),

    counter("sync_relay_admin_requests_total", "Requests to the side API, by outcome.", "", [
      sample(admin.requests, { outcome: "admitted" }),
      sample(admin.unauthenticated, { outcome: "unauthenticated" }),
      sample(admin.forbidden, { outcome: "forbidden" }),
      sample(admin.limited, { outcome: "limited" }),
    ]),

    gauge(
      "sync_relay_event_loop_delay_seconds",
      "How late the event loop was, over the last ten seconds.",
      "seconds",
      [
        sample(process.delayP50S, { quantile: "0.5" }),
        sample(process.delayP99S, { quantile: "0.99" }),
        sample(process.delayMaxS, { quantile: "1" }),
      ],
    ),
    gauge(
      "sync_relay_event_loop_utilization",
      "Share of the last ten seconds that the event loop was busy.",
      "",
      [sample(process.utilization)],
    ),
    counter(
      "sync_relay_cpu_seconds_total",
      "Time that all processors spent on this process.",
      "seconds",
      [sample(process.cpuS)],
    ),
    gauge("sync_relay_resident_bytes", "Memory of the process.", "bytes", [
      sample(process.residentBytes),
    ]),
    gauge("sync_relay_heap_used_bytes", "Memory that JavaScript objects take.", "bytes", [
      sample(process.heapBytes),
    ]),
  ];
}

function sample(value: number, labels: Readonly<Record<string, string>> = {}): Sample {
  return { value, labels: { ...labels } };
}

function byCode(tally: Tally<number>): Sample[] {
  return [...tally.entries()]
    .toSorted(([a], [b]) => a - b)
    .map(([code, count]) => sample(count, { code: errorRow(code).name }));
}

function counter(name: string, help: string, unit: string, samples: readonly Sample[]): Metric {
  return create(MetricSchema, {
    name,
    help,
    unit,
    kind: MetricKind.COUNTER,
    samples: [...samples],
  });
}

function gauge(name: string, help: string, unit: string, samples: readonly Sample[]): Metric {
  return create(MetricSchema, { name, help, unit, kind: MetricKind.GAUGE, samples: [...samples] });
}

/** `per`: how many of the histogram's own units one shown unit has. */
function histogram(name: string, help: string, unit: string, values: Histogram, per = 1): Metric {
  return create(MetricSchema, {
    name,
    help,
    unit,
    kind: MetricKind.HISTOGRAM,
    samples: [
      {
        histogram: {
          bounds: values.bounds.map((bound) => bound / per),
          counts: Array.from(values.counts, (count) => BigInt(count)),
          sum: values.sum / per,
        },
      },
    ],
  });
}

function snake(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
