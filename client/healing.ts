/** What makes a finding good: one rule for each kind, beside a person who accepts it. */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { type Comparing, compareClaim } from "./claims.ts";
import type { Core } from "./core.ts";
import type { OpenFinding } from "./findings.ts";

/** A control chain that goes on makes good what was wrong with what the relay showed of it. */
export function membershipHeals(core: Core): void {
  const count = core.chain?.version.count ?? 0;
  core.findings.healed(
    ({ kind, seq }) =>
      (kind === FindingKind.MEMBERSHIP_ALTERED || kind === FindingKind.MEMBERSHIP_WITHHELD) &&
      seq <= count,
  );
}

/** What is known when findings are looked at. */
export interface Healing {
  readonly at: Comparing;
  readonly logId: Uint8Array;
  /** Whether the blob at a cursor of this log is still refused. */
  refused(cursor: number): boolean;
  /** The last place that counts of a device that was removed. */
  closing(sender: string): number | undefined;
}

/** Whether what was read since has made a finding good. */
export function madeGood(finding: OpenFinding, now: Healing): boolean {
  const { kind, sender, seq, cursor, claimed, verified } = finding;
  const here = cursor > 0 && equalBytes(finding.logId, now.logId);
  const passed = seq > 0 && (now.at.senders.get(sender)?.seq ?? 0) >= seq;
  // Behind its closing place nothing of a removed device counts, shown or not.
  if (kind === FindingKind.DROPPED && seq > (now.closing(sender) ?? Number.POSITIVE_INFINITY)) {
    return true;
  }
  const abandoned = claimed !== undefined && now.at.abandoned(sender, claimed);
  switch (kind) {
    case FindingKind.ALTERED:
    case FindingKind.REORDERED:
      return here ? !now.refused(cursor) : passed;
    case FindingKind.STRANGER:
    case FindingKind.WITHHELD:
      // In another log, its entry is looked for by its place.
      return here && !now.refused(cursor);
    case FindingKind.DEVICE_FORKED:
      if (claimed !== undefined) return abandoned;
      return here ? !now.refused(cursor) : passed;
    case FindingKind.DROPPED:
      if (claimed !== undefined) {
        return compareClaim(now.at, sender, { seq, link: claimed }) === "met";
      }
      return here ? !now.refused(cursor) : passed;
    case FindingKind.FORKED:
      // Where this device stood in the other branch already, nothing that it reads leads out of it.
      if (claimed === undefined) return false;
      if ((verified?.seq ?? 0) >= seq) return abandoned;
      return compareClaim(now.at, sender, { seq, link: claimed }) === "met";
    default:
      return false;
  }
}
