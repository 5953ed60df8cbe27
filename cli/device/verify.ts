/** `verify`: everything the relay still holds, checked anew. */
import type { SyncClient, VerificationReport, VerifiedSnapshot } from "../../client/index.ts";
import { CommandError, ExitCode } from "../exit-codes.ts";
import { count, formatTable, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { withMember } from "./device.ts";
import { reached, whileReachable } from "./waiting.ts";

/** `verify`: exit code 7 where anything is not as it should be. */
export async function verify(context: Context, options: { readonly state: string }): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    const report = await whileReachable(
      client,
      signal,
      client.verify({
        signal,
        onProgress: ({ done, total }) => {
          output.progress(
            `verified ${done.toLocaleString("en-US")} of ${count(total, "entry", "entries")}`,
          );
        },
      }),
    );
    output.event("verified", { ...report }, reportText(client, report));
    if (report.ok) return;
    throw new CommandError(
      ExitCode.sealing,
      "HISTORY_ALTERED",
      `the relay holds ${count(report.problemCount, "thing")} that cannot be right`,
      {
        hint: "keep what shows it: sync-cli export --evidence FILE; nothing of it was applied here",
      },
    );
  });
}

function reportText(client: SyncClient, report: VerificationReport): string {
  const { missing } = report;
  const names = new Map(client.devices().map(({ deviceId, name }) => [deviceId, name]));
  const rows: string[][] = [
    ["membership", `${count(report.controlBlobs, "change")}, from the founding on`],
    ["log", `cursors ${report.after + 1} to ${report.through}`],
    [
      "entries",
      `${count(report.headers, "header")} in their chains, ${count(report.bodies, "body", "bodies")} opened`,
    ],
    [
      "gone",
      `${missing.deleted} deleted, ${missing.expired} expired, ${missing.trimmed} in a snapshot`,
    ],
    ...(report.snapshot === undefined ? [] : [["snapshot", snapshotText(report.snapshot, names)]]),
    ...report.senders.map(({ deviceId, firstSeq, lastSeq, headers }) => [
      "device",
      `${printable(names.get(deviceId) ?? "a former device")}: ${count(headers, "entry", "entries")}, numbers ${firstSeq} to ${lastSeq}`,
    ]),
    ...report.problems.map(({ finding, sender, seq, cursor }) => [
      "WRONG",
      [
        finding.toLowerCase().replaceAll("_", " "),
        ...(sender === undefined ? [] : [`of ${printable(names.get(sender) ?? sender)}`]),
        ...(seq === undefined ? [] : [`number ${seq}`]),
        ...(cursor === undefined ? [] : [`cursor ${cursor}`]),
      ].join(", "),
    ]),
    [
      "verdict",
      report.ok ? "everything is as its senders wrote it" : "not as its senders wrote it",
    ],
  ];
  return formatTable(rows);
}

function snapshotText(
  { author, replacesThrough, confirmed }: VerifiedSnapshot,
  names: ReadonlyMap<string, string>,
): string {
  const by = printable(names.get(author) ?? "a former device");
  const word = confirmed ? "confirmed by another" : "confirmed by nobody";
  return `of ${by}, for everything up to cursor ${replacesThrough}, ${word}`;
}
