/** How the relay is, and what an operator should mend. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Health,
  HealthSchema,
  HealthStatus,
  ProblemKind,
  type ProblemSchema,
} from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { idText } from "../../wire/ids.ts";
import { softwareVersion } from "../../wire/protocol.ts";
import type { Relay } from "../relay.ts";

/** From this share of a limit on, somebody should know. */
const nearlyFull = 0.9;

type Problem = MessageInitShape<typeof ProblemSchema>;

export function readHealth(relay: Relay, address: string, uptimeS: number): Health {
  const problems = problemsOf(relay);
  return create(HealthSchema, {
    status: relay.draining
      ? HealthStatus.DRAINING
      : problems.length > 0
        ? HealthStatus.DEGRADED
        : HealthStatus.OK,
    problems,
    version: softwareVersion,
    uptimeS: BigInt(Math.floor(uptimeS)),
    address,
  });
}

function problemsOf(relay: Relay): Problem[] {
  const problems: Problem[] = [];
  const { storeFailure, storeBytes, sessionCount } = relay;
  const { storeBytesMax, sessionsMax } = relay.options.limits;
  if (storeFailure !== undefined) {
    problems.push({
      kind: ProblemKind.STORE_FAILING,
      message: `the last commit failed, so no pushes are taken: ${storeFailure.hint ?? storeFailure.message}`,
    });
  }
  if (storeBytes >= nearlyFull * storeBytesMax) {
    problems.push({
      kind: ProblemKind.STORE_NEARLY_FULL,
      message: `the store holds ${percent(storeBytes, storeBytesMax)} of limits.store_bytes_max: raise it, or delete groups that are not needed`,
    });
  }
  for (const { groupId, why } of relay.store.fence?.groups ?? []) {
    problems.push({
      kind: ProblemKind.GROUP_DAMAGED,
      message: `group ${idText(groupId)} is fenced off, its part of the store is damaged (${why}): its devices keep what they have; restore a backup, sync-relay restore --help`,
    });
  }
  if (sessionCount >= nearlyFull * sessionsMax) {
    problems.push({
      kind: ProblemKind.SESSIONS_NEARLY_FULL,
      message: `${percent(sessionCount, sessionsMax)} of limits.sessions_max are in use: raise it, and the limit of open files with it`,
    });
  }
  return problems;
}

function percent(value: number, limit: number): string {
  return `${Math.floor((100 * value) / limit)}%`;
}

/** The status as a word, for whoever asks over plain HTTP. */
export function statusWord(health: Health): "ok" | "degraded" | "draining" {
  if (health.status === HealthStatus.DRAINING) return "draining";
  return health.status === HealthStatus.OK ? "ok" : "degraded";
}
