/** `HealthService`, `MetricsService` and gRPC's own health: how the relay is. */
import { clone, equals } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextKey, type ServiceImpl } from "@connectrpc/connect";
import {
  type Health as GrpcHealth,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../gen/grpc/health/v1/health_pb.ts";
import {
  type Health,
  HealthSchema,
  type HealthService,
  HealthStatus,
  Scope,
} from "../../gen/syncrelay/admin/v1/health_pb.ts";
import type { Metric, MetricsService } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { invalid } from "./errors.ts";
import { type Watchers, waited } from "./watch.ts";

/** What these services show. */
export interface StatusSources {
  readonly health: () => Health;
  readonly metrics: () => Promise<Metric[]>;
  readonly nowMs: () => number;
  readonly watchers: Watchers;
}

/** What whoever calls may do, as the side listener found it. */
export const scopeKey = createContextKey<Scope>(Scope.UNSPECIFIED, { description: "scope" });

/** How often a watched state is looked at, in milliseconds. */
const lookMs = 1_000;
const intervalMsDefault = 5_000;
const intervalMsMax = 3_600_000;

export function healthService(sources: StatusSources): ServiceImpl<typeof HealthService> {
  return {
    check: (_, { values }) => ({ health: sources.health(), scope: values.get(scopeKey) }),
    watch: (_, { signal }) =>
      sources.watchers.run(async function* () {
        let told: Health | undefined;
        do {
          const health = sources.health();
          if (told === undefined || !sameHealth(told, health)) yield { health };
          told = health;
        } while (await waited(lookMs, signal));
      }),
  };
}

/** Whether something changed but the time. */
function sameHealth(a: Health, b: Health): boolean {
  const later = clone(HealthSchema, b);
  later.uptimeS = a.uptimeS;
  return equals(HealthSchema, a, later);
}

export function metricsService(sources: StatusSources): ServiceImpl<typeof MetricsService> {
  return {
    get: async () => ({ metrics: await sources.metrics() }),
    watch: (request, { signal }) => {
      const intervalMs = request.intervalMs === 0 ? intervalMsDefault : request.intervalMs;
      if (intervalMs < lookMs || intervalMs > intervalMsMax) {
        throw invalid(`interval_ms must be ${lookMs} to ${intervalMsMax}`);
      }
      return sources.watchers.run(async function* () {
        do {
          const metrics = await sources.metrics();
          yield { metrics, takenMs: BigInt(Math.floor(sources.nowMs())) };
        } while (await waited(intervalMs, signal));
      });
    },
  };
}

/** `served`: the full names of all services. */
export function grpcHealthService(
  sources: StatusSources,
  served: ReadonlySet<string>,
): ServiceImpl<typeof GrpcHealth> {
  const serving = (): ServingStatus =>
    sources.health().status === HealthStatus.DRAINING
      ? ServingStatus.NOT_SERVING
      : ServingStatus.SERVING;
  return {
    check: (request) => {
      if (request.service !== "" && !served.has(request.service)) {
        throw new ConnectError("no such service", Code.NotFound);
      }
      return { status: serving() };
    },
    watch: (request, { signal }) =>
      sources.watchers.run(async function* () {
        const known = request.service === "" || served.has(request.service);
        let told: ServingStatus | undefined;
        do {
          const status = known ? serving() : ServingStatus.SERVICE_UNKNOWN;
          if (status !== told) yield { status };
          told = status;
        } while (await waited(lookMs, signal));
      }),
  };
}
