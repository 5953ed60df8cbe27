/** What is kept about the history with each page that is read, in the page's transaction. */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { deviceIdBytes, parseId } from "../wire/ids.ts";
import { type Comparing, claimFinding, compareClaim } from "./claims.ts";
import type { Core, Finding } from "./core.ts";
import { claimOf } from "./findings.ts";
import type { Judge, Judged } from "./judge.ts";
import type { Positions } from "./seal/history.ts";
import type { StateTransaction } from "./state-store.ts";

/** Writes it; what it returns takes it over. */
export async function keepHistory(
  tx: StateTransaction,
  core: Core,
  judge: Judge,
  judged: Judged,
): Promise<() => void> {
  const at = judge.comparing(judged.senders, judged.abandoned);
  const claims = core.claims.move(tx, { ...now(core), at, fresh: judged.held });
  const refused = judged.refusals.flatMap(({ finding }) =>
    finding === undefined ? [] : [finding],
  );
  const found = core.findings.write(tx, [
    ...refused,
    ...judged.findings,
    ...claims.findings,
    ...turnedOut(core, at),
  ]);
  const mended =
    judged.mended.length === 0
      ? undefined
      : await core.findings.heal(
          tx,
          ({ kind, sender, seq }) =>
            kind === FindingKind.WITHHELD &&
            judged.mended.some((each) => each.sender === sender && each.seq === seq),
        );
  const reread = core.changes.reread(tx, judged.rereading);
  const abandoned = core.abandoned.add(tx, judged.abandoned);
  const before = core.log.senders;
  const takenUp = core.takingUp.done(
    tx,
    [...core.takingUp.senders].filter(
      (sender) => judged.senders.get(sender) !== before.get(sender),
    ),
  );
  return () => {
    abandoned();
    reread();
    takenUp();
    claims.taken();
    mended?.();
    found();
  };
}

/** Holds what is held against what was read by now; what it returns takes it over. */
export function settleClaims(tx: StateTransaction, core: Core, at: Comparing): () => void {
  const claims = core.claims.move(tx, { ...now(core), at, atHead: true });
  const found = core.findings.write(tx, claims.findings);
  return () => {
    claims.taken();
    found();
  };
}

/**
 * A state is taken over that holds less than was read, of some senders: the relay must show that once
 * more, in this log up to its head, and in one that changed for as long as that excuses it. What it
 * returns takes it over.
 */
export function keepRead(
  tx: StateTransaction,
  core: Core,
  {
    before,
    at,
    here,
  }: { readonly before: Positions; readonly at: Comparing; readonly here: boolean },
): () => void {
  const fresh = [...before].flatMap(([sender, { seq, link }]) => {
    const deviceId = parseId(sender, deviceIdBytes);
    if (deviceId === undefined || compareClaim(at, sender, { seq, link }) !== "missing") return [];
    return [claimOf(core.keys.deviceId, { deviceId, seq: BigInt(seq), link })];
  });
  if (fresh.length === 0) return () => undefined;
  const untilMs = here ? 0 : core.changes.untilMs;
  const claims = core.claims.move(tx, { ...now(core), untilMs, at, fresh });
  const found = core.findings.write(tx, claims.findings);
  return () => {
    claims.taken();
    found();
  };
}

function now(core: Core) {
  return {
    self: core.keys.deviceId,
    nowMs: core.time.nowMs,
    untilMs: core.changes.untilMs,
    excuses: (sender: string) => core.changes.excuses(sender),
  };
}

/** What others had seen arrives, and is something else: then it is no entry that was left out. */
function turnedOut(core: Core, at: Comparing): Finding[] {
  if (core.findings.count === 0) return [];
  return core.findings.open().flatMap(({ kind, sender, seq, claimed, witness }) => {
    if (kind !== FindingKind.DROPPED || claimed === undefined || witness === undefined) return [];
    if (compareClaim(at, sender, { seq, link: claimed }) !== "different") return [];
    const deviceId = parseId(sender, deviceIdBytes);
    if (deviceId === undefined) return [];
    const claim = claimOf(witness, { deviceId, seq: BigInt(seq), link: claimed });
    return [claimFinding("different", claim, at.senders.get(sender))];
  });
}
