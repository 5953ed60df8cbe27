/**
 * What it does that a person accepts a finding. The evidence stays, and the finding is open no longer.
 * Beyond that:
 *
 * - ALTERED, REORDERED, DROPPED, DEVICE_FORKED: the sender's chain goes on behind the gap, with its
 *   next entry that holds. What stood in the gap is lost to this device, and told as a `gap`.
 * - DROPPED of a device that was removed: nothing more of it is waited for, and what is held of it is
 *   let go: it cannot be proven to have been written before the removal.
 * - WITHHELD, STRANGER: the blob is let go.
 * - FORKED: the sender is applied again, on the branch that this device was shown.
 * - ROLLED_BACK: the device goes on from what the relay has now, as after a restore.
 * - The others stop nothing, and accepting them says only that somebody has seen them.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import type { OpenFinding } from "./findings.ts";
import type { Parts } from "./parts.ts";
import type { StateTransaction } from "./state-store.ts";
import { UsageError } from "./usage-error.ts";

/** Resolves when it is on disk; what it lets go on goes on by itself. */
export async function acceptFinding(parts: Parts, id: string): Promise<void> {
  const { core, reader, engine } = parts;
  if (core.findings.get(id) === undefined) throw new UsageError("there is no finding of that id");
  const finding = core.findings.open().find((each) => each.id === id);
  if (finding === undefined) return;
  await reader.alter(async (tx) => {
    const accepted = await core.findings.accept(tx, id);
    const goesOn = takesUp(parts, finding) ? core.takingUp.add(tx, finding.sender) : undefined;
    const letGo = writeLetGo(parts, tx, finding);
    return () => {
      accepted();
      goesOn?.();
      letGo();
    };
  });
  if (finding.kind === FindingKind.ROLLED_BACK) engine.retry();
}

const gaps: ReadonlySet<FindingKind> = new Set([
  FindingKind.ALTERED,
  FindingKind.REORDERED,
  FindingKind.DROPPED,
  FindingKind.DEVICE_FORKED,
]);

function takesUp(parts: Parts, { kind, sender }: OpenFinding): boolean {
  return gaps.has(kind) && sender !== "" && sender !== parts.core.deviceText;
}

/** Lets go what a finding was about, in a transaction. */
function writeLetGo(parts: Parts, tx: StateTransaction, finding: OpenFinding): () => void {
  const { core, refusals } = parts;
  const { kind, sender, cursor, logId } = finding;
  const removed = core.chain?.devices.get(sender)?.closing !== undefined;
  if (kind === FindingKind.DROPPED && removed) {
    return refusals.write(tx, [], refusals.pick(sender));
  }
  const passed = core.log.senders.get(sender)?.seq ?? 0;
  const here = cursor > 0 && equalBytes(logId, core.log.logId);
  switch (kind) {
    case FindingKind.ALTERED:
    case FindingKind.WITHHELD:
    case FindingKind.STRANGER:
      return refusals.write(tx, [], here ? [cursor] : []);
    case FindingKind.DEVICE_FORKED:
      return refusals.write(
        tx,
        [],
        refusals.pick(sender, (seq) => seq <= passed),
      );
    default:
      return () => undefined;
  }
}
