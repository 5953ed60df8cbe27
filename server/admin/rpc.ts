/**
 * The side API's calls, over Connect, gRPC and gRPC-Web. Loaded with the first
 * call: these libraries and schemas are a large part of what an idle relay would hold.
 */
import type { DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Health as GrpcHealth } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { BackupService } from "../../gen/syncrelay/admin/v1/backup_pb.ts";
import { DeviceService } from "../../gen/syncrelay/admin/v1/device_pb.ts";
import { GroupService } from "../../gen/syncrelay/admin/v1/group_pb.ts";
import { HealthService, Scope } from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { InviteService } from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import { MaintenanceService } from "../../gen/syncrelay/admin/v1/maintenance_pb.ts";
import { MetricsService } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import type { Relay } from "../relay.ts";
import { backupService } from "./backup.ts";
import { deviceService } from "./devices.ts";
import { connectErrorOf } from "./errors.ts";
import { groupService } from "./groups.ts";
import { type Needs, needsOf } from "./guard.ts";
import { inviteService } from "./invites.ts";
import { maintenanceService } from "./maintenance.ts";
import { reflectionService } from "./reflection.ts";
import {
  grpcHealthService,
  healthService,
  metricsService,
  type StatusSources,
  scopeKey,
} from "./status.ts";
import { Watchers } from "./watch.ts";

/** Answers a call of either version of HTTP. */
export type CallHandler = ReturnType<typeof connectNodeAdapter>;

export interface RpcOptions {
  readonly relay: Relay;
  readonly health: StatusSources["health"];
  readonly metrics: StatusSources["metrics"];
  /** What whoever sent a request may do. */
  readonly scopeOf: (request: object) => Scope | undefined;
  /** Logs a defect; gives back the id to find it by. */
  readonly defect: (error: unknown) => string;
  readonly stop: AbortSignal;
}

/** A request or an answer larger than this, in bytes, is no use of this API. */
const readBytesMax = 64 * 1024;

const services: readonly DescService[] = [
  HealthService,
  MetricsService,
  InviteService,
  GroupService,
  DeviceService,
  BackupService,
  MaintenanceService,
  GrpcHealth,
  ServerReflection,
];

/** What each call asks for. */
export function rpcNeeds(): ReadonlyMap<string, Needs> {
  return needsOf(services);
}

/** What ends the streams of a relay that shuts down. */
export function drainingError(): ConnectError {
  return connectErrorOf(new SyncError(ErrorCode.DRAINING));
}

export function openRpc(options: RpcOptions): CallHandler {
  const calls = new Calls(options);
  return connectNodeAdapter({
    routes: (router) => calls.route(router),
    interceptors: [calls.translate],
    readMaxBytes: readBytesMax,
    // Nothing here is large enough; and what is not decompressed cannot grow.
    acceptCompression: [],
    shutdownSignal: options.stop,
    grpcWeb: true,
    contextValues: (request) =>
      createContextValues().set(scopeKey, options.scopeOf(request) ?? Scope.UNSPECIFIED),
  });
}

class Calls {
  readonly #options: RpcOptions;

  constructor(options: RpcOptions) {
    this.#options = options;
  }

  route(router: ConnectRouter): void {
    const { relay, health, metrics } = this.#options;
    const sources: StatusSources = {
      health,
      metrics,
      nowMs: relay.world.nowMs,
      watchers: new Watchers(),
    };
    router.service(HealthService, healthService(sources));
    router.service(MetricsService, metricsService(sources));
    router.service(InviteService, inviteService(relay));
    router.service(GroupService, groupService(relay));
    router.service(DeviceService, deviceService(relay));
    router.service(BackupService, backupService(relay));
    router.service(MaintenanceService, maintenanceService(relay));
    const served = new Set(services.map((service) => service.typeName));
    router.service(GrpcHealth, grpcHealthService(sources, served));
    router.service(ServerReflection, reflectionService(services, sources.watchers));
  }

  /** What handlers throw becomes what Connect tells: once, here. */
  readonly translate: Interceptor = (next) => async (request) => {
    const tellsHealth = [HealthService, GrpcHealth].some(
      (service) => service.typeName === request.service.typeName,
    );
    if (this.#options.relay.draining && !tellsHealth) {
      throw connectErrorOf(new SyncError(ErrorCode.DRAINING));
    }
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: this.#translateItems(response.message) };
    } catch (error) {
      throw this.#told(error);
    }
  };

  /** A stream may fail long after its call was answered. */
  async *#translateItems<Item>(items: AsyncIterable<Item>): AsyncGenerator<Item> {
    try {
      yield* items;
    } catch (error) {
      throw this.#told(error);
    }
  }

  #told(error: unknown): ConnectError {
    if (error instanceof ConnectError) return error;
    if (error instanceof SyncError) return connectErrorOf(error);
    // A caller that went away, or the relay that shuts down, ends what it waits for.
    if (error instanceof Error && error.name === "AbortError") {
      return new ConnectError("ended", Code.Canceled);
    }
    return new ConnectError(`internal error ${this.#options.defect(error)}`, Code.Internal);
  }
}
