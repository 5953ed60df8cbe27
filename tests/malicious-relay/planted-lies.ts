/**
 * For each lie, the check that notices it, taken out: its own test must fail then. Run with the others
 * by `npm run mutants -- trust`; those alone by `npm run mutants -- lie:`.
 */
import type { PlantedBug } from "../simulation/planted.ts";

/** A check that is taken out, and the lie that nothing then notices. */
interface Plant {
  readonly lie: string;
  readonly what: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const judge = "client/judge.ts";
const reader = "client/reader.ts";
const history = "client/seal/history.ts";

/** What does not open is passed over, and its sender goes on. */
const unopened = {
  what: "a body that does not open is passed over",
  file: judge,
  from: "              judged.refusals.push(refusal(stored, error, FindingKind.ALTERED, verdict.place));",
  to: "",
};

/** A blob that comes again is passed over. */
const again = {
  what: "a blob that comes again is passed over",
  file: judge,
  from: "          if (!this.#reread(judged, sender, verdict.header.seq)) {",
  to: "          if (this.#reread(judged, sender, verdict.header.seq)) {",
};

/** No signature of a blob is verified, together or by itself. */
const unsigned = {
  what: "no blob's signature is verified",
  file: "client/seal/blob.ts",
  from: "  return verifySignature(signingKey, signedLink(link), signature);",
  to: "  return verifySignature(signingKey, signedLink(link), signature) || link.byteLength > 0;",
};

/** The relay's word for why a body is missing is taken. */
const believed = (state: string) => ({
  what: `the relay's word is taken that a body is missing for a reason (${state})`,
  file: judge,
  from: "    const { stored, header } = verdict;\n    if (explainsItself(header)) {",
  to: `    const { stored, header } = verdict;\n    if (stored.bodyState === ${state} || explainsItself(header)) {`,
});

/** A witness whose seal does not open is told as something else. */
const unsealed = {
  what: "a witness's seal need not open",
  file: "client/seal/witness.ts",
  from: "  if (bytes === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);",
  to: "  if (bytes === undefined) throw altered();",
};

const inLog: readonly Plant[] = [
  { lie: "bit flip", ...unopened },
  { lie: "truncation", ...unopened },
  { lie: "other epoch", ...unopened },
  { lie: "altered header", ...unsigned },
  { lie: "swapped sender", ...unsigned },
  {
    lie: "ghost device",
    what: "what a stranger sends waits, and nothing is said",
    file: history,
    from: "      verdicts[base + index] = refused(stored, FindingKind.STRANGER);",
    to: '      verdicts[base + index] = { kind: "held", stored };',
  },
  { lie: "replay", ...again },
  { lie: "put in its mouth", ...unsigned },
  {
    lie: "reorder",
    what: "another order is not told from a gap",
    file: history,
    from: "    ? FindingKind.REORDERED",
    to: "    ? FindingKind.DROPPED",
  },
  {
    lie: "drop",
    what: "a seq may be left out",
    file: history,
    from: "  return header.seq === place.seq + 1 && equalBytes(header.previousLink, place.link);",
    to: "  return header.seq > place.seq;",
  },
  {
    lie: "withhold",
    what: "what is still missing at the head is no finding",
    file: reader,
    from: "this.#refusals.atHead();",
    to: "void 0;",
  },
  { lie: "false trim", ...believed("3") },
  { lie: "invented delete", ...believed("2") },
  { lie: "false expiry", ...believed("1") },
  {
    lie: "hiding through",
    what: "a page may reach further than its blobs",
    file: reader,
    from: "    checkDense(page.blobs, after, through);",
    to: "",
  },
  {
    lie: "rollback",
    what: "a log that ends before what was read is taken for one that grew",
    file: "client/log-meeting.ts",
    from: "    if (head >= before.read) {",
    to: "    if (head >= 0) {",
  },
  {
    lie: "false log change",
    what: "a log that shows what was read may have changed",
    file: "client/log-meeting.ts",
    from: "  } else if (sameId && head >= before.read && (await showsPlace(core, session, gone))) {",
    to: "  } else if (sameId && head < 0 && (await showsPlace(core, session, gone))) {",
  },
  {
    lie: "wrong log id",
    what: "the log's id is not compared",
    file: "client/log-meeting.ts",
    from: "  const sameId = equalBytes(before.logId, welcome.logId);",
    to: "  const sameId = before.logId.byteLength === welcome.logId.byteLength;",
  },
  {
    lie: "invented own place",
    what: "a last own entry that is named and not shown is no finding",
    file: "client/outbox.ts",
    from: `      this.#core.found({
        kind: FindingKind.DROPPED,
        error,
        sender: this.#core.keys.deviceId,
        seq: stage.relay.seq,
      });`,
    to: "",
  },
  {
    lie: "oversized answer",
    what: "a record may have any size",
    file: "client/connection.ts",
    from: "    for (const envelope of decodeEnvelopes(plaintext, this.#limits.envelopeBytesMax)) {",
    to: "    for (const envelope of decodeEnvelopes(plaintext, 2 ** 31)) {",
  },
  {
    lie: "endless pages",
    what: "an empty page may be followed by more",
    file: reader,
    from: "    if (through === after && !page.done) throw new SyncError(ErrorCode.ENVELOPE_INVALID);",
    to: "",
  },
];

const aboutMembers: readonly Plant[] = [
  {
    lie: "forged removal",
    what: "a membership that does not hold is not named",
    file: "client/group.ts",
    from: "        this.#core.found({ kind: FindingKind.MEMBERSHIP_ALTERED, error, seq, controlBlobs });",
    to: "        void [FindingKind.MEMBERSHIP_ALTERED, seq, controlBlobs];",
  },
  {
    lie: "other membership",
    what: "the relay's membership is not compared",
    file: "client/group.ts",
    from: "    this.#core.found({ kind: FindingKind.MEMBERSHIP_FORKED, error, controlBlobs });",
    to: "    void [FindingKind.MEMBERSHIP_FORKED, controlBlobs];",
  },
  {
    lie: "longer membership",
    what: "a longer chain that parts from the verified one is taken for an altered one",
    file: "client/group.ts",
    from: "    if (control !== undefined && followsOther(chain, control)) throw this.#forked([blob]);",
    to: "    void followsOther;",
  },
  {
    lie: "hidden change",
    what: "a higher membership that a witness tells of is not asked for",
    file: "client/witnesses.ts",
    from: "        kind: FindingKind.MEMBERSHIP_WITHHELD,",
    to: "        kind: FindingKind.MEMBERSHIP_FORKED,",
  },
  {
    lie: "invented closing",
    what: "what a removed device is said to have written beyond what is shown is no finding",
    file: "client/membership-changes.ts",
    from: "    if (place.seq <= read || this.#hooks.refusedOf(id)) return;",
    to: "    return;",
  },
  {
    lie: "endless control blobs",
    what: "an empty page of the control chain may be followed by more",
    file: "client/group.ts",
    from: "      if (toNumber(after) !== count || (controlBlobs.length === 0 && !done)) {",
    to: "      if (toNumber(after) !== count) {",
  },
  { lie: "altered witness", ...unsealed },
  { lie: "swapped witness", ...unsealed },
  {
    lie: "fork",
    what: "what a witness has applied beyond the head that is shown is passed over",
    file: "client/witnesses.ts",
    from: "    if (claims.applied > core.log.read) return this.#ahead(waiting);",
    to: "    if (claims.applied > core.log.read) return true;",
  },
  {
    lie: "false refusal",
    what: "an operator's refusal is taken for a removal by the group",
    file: "client/engine.ts",
    from: "    if (isByOperator(error)) return;",
    to: "",
  },
  {
    lie: "early expiry",
    what: "a lifetime does not explain that a body is missing: a false alarm",
    file: "client/missing-bodies.ts",
    from: "  return ttlS > 0;",
    to: "  return ttlS < 0;",
  },
];

const inDeliveries: readonly Plant[] = [
  {
    lie: "hole in a delivery",
    what: "a delivery may leave out a place",
    file: reader,
    from: "    checkDense(named, after, through);",
    to: "",
  },
  {
    lie: "lost delivery",
    what: "a delivery need not join on to what was read",
    file: reader,
    from: "    if (after !== this.#received || this.#inbox.full) {",
    to: "    if (this.#inbox.full) {",
  },
  { lie: "repeated delivery", ...again },
  {
    lie: "invented own entry",
    what: "an own entry that is named and not kept here is taken for one that is",
    file: reader,
    from: "        if (blob === undefined || !equalBytes(blob.link, link)) {",
    to: "        if (blob === undefined) continue;\n        if (!equalBytes(blob.link, link)) {",
  },
  {
    lie: "other own entry",
    what: "the link of an own entry is not compared",
    file: reader,
    from: "        if (blob === undefined || !equalBytes(blob.link, link)) {",
    to: "        if (blob === undefined) {",
  },
  { lie: "misplaced own entry", ...again },
];

const planted = (plants: readonly Plant[], file: string): PlantedBug[] =>
  plants.map(({ lie, what, file: of, from, to }) => ({
    name: `trust: lie: ${lie}: ${what}`,
    file: of,
    from,
    to,
    // The title begins with the lie's name.
    proof: { tests: [`malicious-relay/${file}`, `--test-name-pattern=${lie}: `] },
  }));

/** The lies that have one. */
export const plantedLies: readonly string[] = [...inLog, ...aboutMembers, ...inDeliveries].map(
  ({ lie }) => lie,
);

export const lieBugs: readonly PlantedBug[] = [
  ...planted(inLog, "log"),
  ...planted(aboutMembers, "members"),
  ...planted(inDeliveries, "deliveries"),
];
