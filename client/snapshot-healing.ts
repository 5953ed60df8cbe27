/** What a snapshot makes good: what was found wrong with entries that it holds. */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import type { OpenFinding } from "./findings.ts";
import type { Positions } from "./seal/history.ts";

const healed: ReadonlySet<FindingKind> = new Set([
  FindingKind.ALTERED,
  FindingKind.REORDERED,
  FindingKind.DROPPED,
  FindingKind.WITHHELD,
  FindingKind.FORKED,
  FindingKind.DEVICE_FORKED,
]);

/** Whether a state that is taken over holds what a finding is about. */
export function healedBy(
  { kind, sender, seq, cursor, logId }: OpenFinding,
  taken: { readonly logId: Uint8Array; readonly cursor: number; readonly frontier: Positions },
): boolean {
  if (!healed.has(kind)) return false;
  if (seq > 0) return seq <= (taken.frontier.get(sender)?.seq ?? 0);
  return cursor > 0 && cursor <= taken.cursor && equalBytes(logId, taken.logId);
}
