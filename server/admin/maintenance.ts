/** `MaintenanceService`: what the relay does by itself in time, asked for now. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  MaintenanceService,
  MaintenanceServiceVacuumResponseSchema,
  MaintenanceServiceVerifyResponseSchema,
} from "../../gen/syncrelay/admin/v1/maintenance_pb.ts";
import { idText } from "../../wire/ids.ts";
import type { Relay } from "../relay.ts";
import type { VacuumProgress, Verification } from "../store/upkeep.ts";
import { upkeepOf } from "./backup.ts";
import { OneAtATime, reports, stopWith } from "./one-at-a-time.ts";

type VacuumPart = MessageInitShape<typeof MaintenanceServiceVacuumResponseSchema>;
type VerifyPart = MessageInitShape<typeof MaintenanceServiceVerifyResponseSchema>;

export function maintenanceService(relay: Relay): ServiceImpl<typeof MaintenanceService> {
  const one = new OneAtATime("maintenance");
  return {
    trim: () =>
      one.run(async () => {
        const { groups, blobs, bytes } = await relay.trimNow();
        return { groups: BigInt(groups), blobs: BigInt(blobs), bytes: BigInt(bytes) };
      }),
    vacuum: (_, { signal }) => one.stream(() => vacuum(relay, signal)),
    verify: (_, { signal }) => one.stream(() => verify(relay, signal)),
  };
}

async function* vacuum(relay: Relay, signal: AbortSignal): AsyncGenerator<VacuumPart> {
  const upkeep = upkeepOf(relay);
  const stop = stopWith(signal);
  let last: VacuumProgress | undefined;
  yield* reports<VacuumPart>(async (report) => {
    last = await upkeep.vacuum((progress) => report(vacuumPart(progress)), stop.signal);
  }, stop);
  if (last !== undefined) yield vacuumPart(last);
}

function vacuumPart({ givenBackBytes, leftBytes }: VacuumProgress): VacuumPart {
  return { givenBackBytes: BigInt(givenBackBytes), leftBytes: BigInt(leftBytes) };
}

async function* verify(relay: Relay, signal: AbortSignal): AsyncGenerator<VerifyPart> {
  const upkeep = upkeepOf(relay);
  const stop = stopWith(signal);
  let found: Verification | undefined;
  yield* reports<VerifyPart>(async (report) => {
    found = await upkeep.verify({
      signal: stop.signal,
      onProgress: (done, total) =>
        report({
          part: {
            case: "progress",
            value: { doneRows: BigInt(done), totalRows: BigInt(total) },
          },
        }),
    });
  }, stop);
  if (found === undefined) throw new Error("nothing was verified");
  yield {
    part: {
      case: "verification",
      value: {
        schema: found.schema,
        groups: BigInt(found.groups),
        devices: BigInt(found.devices),
        blobs: BigInt(found.blobs),
        controlBlobs: BigInt(found.controlBlobs),
        findings: found.findings.map(({ groupId, text }) => ({
          groupId: groupId === undefined ? "" : idText(groupId),
          message: text,
        })),
      },
    },
  };
}
