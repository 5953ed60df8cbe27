/** `sync-relay admin maintenance`: what a running relay does by itself in time, asked for now. */
import {
  MaintenanceService,
  type Verification,
} from "../../gen/syncrelay/admin/v1/maintenance_pb.ts";
import { CommandError, ExitCode } from "../exit-codes.ts";
import { count, formatBytes, printable } from "../output.ts";
import type { Context } from "../program.ts";
import type { SideClient } from "./side-client.ts";

/** Trims every group as far as its snapshots and devices allow. */
export async function trim({ output }: Context, client: SideClient): Promise<void> {
  const { groups, blobs, bytes } = await client.of(MaintenanceService).trim({});
  output.event(
    "trimmed",
    { groups, blobs, bytes },
    `${count(Number(blobs), "blob")} of ${count(Number(groups), "group")}, ${formatBytes(Number(bytes))}`,
  );
  output.note("give the space back to the disk: sync-relay admin maintenance vacuum");
}

/** Gives free pages of the store's file back to the disk. */
export async function vacuum({ output, signal }: Context, client: SideClient): Promise<void> {
  let given = 0;
  let left = 0;
  for await (const told of client.of(MaintenanceService).vacuum({}, { signal })) {
    given = Number(told.givenBackBytes);
    left = Number(told.leftBytes);
    output.progress(`given back ${formatBytes(given)}, ${formatBytes(left)} left`);
  }
  output.event(
    "vacuumed",
    { givenBackBytes: given, leftBytes: left },
    `${formatBytes(given)} given back`,
  );
}

/** Looks at every row of the live store. */
export async function verify({ output, signal }: Context, client: SideClient): Promise<void> {
  let found: Verification | undefined;
  for await (const { part } of client.of(MaintenanceService).verify({}, { signal })) {
    if (part.case === "verification") found = part.value;
    else if (part.case === "progress") {
      const { doneRows, totalRows } = part.value;
      output.progress(
        `verifying ${doneRows.toLocaleString("en-US")} of ${count(Number(totalRows), "row")}`,
      );
    }
  }
  if (found === undefined) {
    throw new CommandError(ExitCode.unreachable, "CUT_SHORT", "the relay did not finish looking", {
      hint: "run the command again",
    });
  }
  const { schema, groups, devices, blobs, controlBlobs } = found;
  const findings = found.findings.map(({ groupId, message }) => ({ groupId, message }));
  const fields = { schema, groups, devices, blobs, controlBlobs, findings };
  if (findings.length === 0) {
    const counts = [
      count(Number(groups), "group"),
      count(Number(devices), "device"),
      count(Number(blobs), "blob"),
      count(Number(controlBlobs), "membership change"),
    ];
    output.event("verified", fields, `whole: ${counts.join(", ")}`);
    return;
  }
  if (output.json) output.event("verified", fields);
  for (const { groupId, message } of findings) {
    output.note(printable(groupId === "" ? message : `group ${groupId}: ${message}`));
  }
  throw new CommandError(
    ExitCode.refused,
    "DAMAGED",
    `the store is damaged: ${count(findings.length, "finding")}`,
    { hint: "stop the relay and restore a backup: sync-relay restore --help" },
  );
}
