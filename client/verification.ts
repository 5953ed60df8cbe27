/**
 * `verify`: walks everything the relay still holds, from the founding of the group and the first
 * header there is, checks it anew and holds it against what this device verified when it read it.
 * Moves nothing, and believes nothing that is stored here but the device's own keys.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type { StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import { ControlRun, pullControlPage } from "./control-run.ts";
import type { Core } from "./core.ts";
import type { LogPlace } from "./disk.ts";
import type { Group } from "./group.ts";
import { covered, explainsItself, mayDelete } from "./missing-bodies.ts";
import type { Reader } from "./reader.ts";
import { type ChainPlace, openBody } from "./seal/blob.ts";
import { type Positions, type Verdict, verifyWindow } from "./seal/history.ts";
import { type ControlChain, readChain } from "./seal/membership.ts";
import type { OpenedSnapshot } from "./seal/snapshot.ts";
import { askSnapshot, openShown } from "./snapshot-exchange.ts";

/** Something the relay holds is not what it should be. */
export interface VerificationProblem {
  /** What was found, by the same names as in an `integrity` event. */
  readonly finding: string;
  /** Whose history; absent where it is the group's own. */
  readonly sender?: string;
  /** The place in that device's chain, or in the membership's, where it is about one. */
  readonly seq?: number;
  /** The place in the relay's log, where it is about one. */
  readonly cursor?: number;
}

/** What was verified of one device. */
export interface VerifiedSender {
  /** Whose entries these are. */
  readonly deviceId: string;
  /** Headers that stand in the sender's chain, each covered by a signature of the sender. */
  readonly headers: number;
  /** Of those, bodies that were there, opened, and matched what was signed. */
  readonly bodies: number;
  /** The first and the last seq the relay still holds. */
  readonly firstSeq: number;
  /** The last of them. */
  readonly lastSeq: number;
}

/** Bodies that are not there, by what explains it. */
export interface MissingBodies {
  /** Its sender gave it a lifetime. */
  readonly expired: number;
  /** A later entry, verified too, deletes it. */
  readonly deleted: number;
  /** A snapshot replaced it. */
  readonly trimmed: number;
}

/** A snapshot that a member signed, and whose claims open. Its parts are not read. */
export interface VerifiedSnapshot {
  /** The device that made it. */
  readonly author: string;
  /** It holds everything up to this cursor. */
  readonly replacesThrough: number;
  /** Another member signed that its claims are right. */
  readonly confirmed: boolean;
}

/** What `verify` found. */
export interface VerificationReport {
  /** The cursors that were walked. */
  readonly after: number;
  /** The last of them: the head when the walk began. */
  readonly through: number;
  /** Membership changes, from the founding on. */
  readonly controlBlobs: number;
  /** Headers that held, of all senders. */
  readonly headers: number;
  /** Bodies that held, of all senders. */
  readonly bodies: number;
  /** Bodies that are not there, by what explains that. */
  readonly missing: MissingBodies;
  /** What stands in the place of the log's beginning, where something does. */
  readonly snapshot?: VerifiedSnapshot;
  /** What held, by sender. */
  readonly senders: readonly VerifiedSender[];
  /** At most 1,000; `problemCount` is how many there were. */
  readonly problems: readonly VerificationProblem[];
  /** How many problems there were in all. */
  readonly problemCount: number;
  /** Nothing was found wrong. */
  readonly ok: boolean;
}

/** How far `verify` has come. */
export interface VerificationProgress {
  /** Cursors walked. */
  readonly done: number;
  /** Cursors there are to walk. */
  readonly total: number;
}

/** What a report names at most. */
const problemsMax = 1_000;

/** Verifies everything the relay holds up to now. Needs a log that was read up to its head. */
export async function verifyRetained(
  core: Core,
  parts: { readonly group: Group; readonly reader: Reader },
  options: {
    readonly onProgress?: (progress: VerificationProgress) => void;
    readonly signal?: AbortSignal;
  },
): Promise<VerificationReport> {
  const { onProgress, signal } = options;
  const { session } = core;
  if (session === undefined) throw new SyncError(ErrorCode.CONNECTION_LOST);
  const { group, reader } = parts;
  const after = 0;
  const walk = new Walk(core, after);
  const controlBlobs = await walk.readControl(session);
  await walk.readSnapshot(session, group);
  let through = after;
  // What deletes an entry may have been written behind the head that was the newest at first.
  do {
    const from = through;
    through = Math.max(core.head ?? 0, core.log.read);
    for await (const blobs of reader.again(from, through)) {
      signal?.throwIfAborted();
      walk.take(blobs);
      onProgress?.({ done: walk.cursor - after, total: through - after });
    }
  } while (walk.explainable && through < (core.head ?? 0));
  walk.end();
  return walk.report(through, controlBlobs);
}

interface SenderWalk {
  readonly deviceId: string;
  place: ChainPlace;
  firstSeq: number;
  headers: number;
  bodies: number;
  /** From the first blob on that is not as it should be, places are no longer compared. */
  broken: boolean;
  /** The chain passes through the place this device verified before. */
  met: boolean;
}

class Walk {
  readonly #core: Core;
  /** What was verified when the walk began: more may come meanwhile. */
  readonly #log: LogPlace;
  readonly #after: number;
  readonly #senders = new Map<string, SenderWalk>();
  /** Bodies whose absence only a later header can explain, by blob id. */
  readonly #unexplained = new Map<string, { readonly verdict: Dropped; readonly sender: string }>();
  readonly #problems: VerificationProblem[] = [];
  readonly #missing = { expired: 0, deleted: 0, trimmed: 0 };
  #problemCount = 0;
  #frontier: Positions = new Map();
  #snapshot: VerifiedSnapshot | undefined;
  cursor: number;

  constructor(core: Core, after: number) {
    this.#core = core;
    this.#log = core.log;
    this.#after = after;
    this.cursor = after;
  }

  /** The whole control chain as the relay has it: read anew, and the one that is gone by here. */
  async readControl(session: Connection): Promise<number> {
    const core = this.#core;
    const run = new ControlRun();
    for (;;) {
      const { controlBlobs, done } = await pullControlPage(session, run.blobs.length);
      try {
        run.add(controlBlobs);
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        this.#problem({ finding: nameOf(FindingKind.MEMBERSHIP_ALTERED) });
        return run.blobs.length;
      }
      if (done) break;
    }
    let chain: ControlChain;
    try {
      chain = readChain(run.blobs, { groupId: core.groupId, keys: core.keys });
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#problem({ finding: nameOf(FindingKind.MEMBERSHIP_ALTERED) });
      return run.blobs.length;
    }
    const known = this.#chain.version;
    // It may have grown since; what was gone by must stand in it.
    const last = run.blobs[known.count - 1];
    if (last === undefined || !equalBytes(blake2b256(last), known.head)) {
      const rolledBack = chain.version.count < known.count;
      this.#problem({
        finding: nameOf(
          rolledBack ? FindingKind.MEMBERSHIP_WITHHELD : FindingKind.MEMBERSHIP_FORKED,
        ),
      });
    }
    return run.blobs.length;
  }

  /** The snapshot that stands in the place of the log's beginning: whether a member made it. */
  async readSnapshot(session: Connection, group: Group): Promise<void> {
    const shown = await askSnapshot(session, { unconfirmed: false });
    let opened: OpenedSnapshot | undefined;
    try {
      opened = await openShown(this.#core, group, shown);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#problem({ finding: nameOf(FindingKind.SNAPSHOT_FORGED) });
      return;
    }
    if (opened === undefined) return;
    const { frontier, replacesThrough, author, confirmed } = opened;
    this.#frontier = frontier;
    this.#snapshot = { author: idText(author), replacesThrough, confirmed };
    for (const [sender, place] of frontier) {
      const known = this.#log.senders.get(sender);
      if (known?.seq === place.seq && !equalBytes(known.link, place.link)) {
        this.#problem({ finding: nameOf(FindingKind.FORKED), sender, seq: place.seq });
      }
    }
  }

  /** One window of the log, in order. */
  take(blobs: readonly StoredBlob[]): void {
    const { verdicts } = verifyWindow(blobs, {
      groupId: this.#core.groupId,
      roster: this.#chain.devices,
      positions: new Map(),
      reading: "again",
    });
    for (const verdict of verdicts) this.#judge(verdict);
    this.cursor = toNumber(blobs.at(-1)?.cursor ?? BigInt(this.cursor));
  }

  /** Whether a later header may still explain what is missing. */
  get explainable(): boolean {
    return this.#unexplained.size > 0;
  }

  /** The end of the log: what should have been there, and was not. */
  end(): void {
    for (const { verdict, sender } of this.#unexplained.values()) {
      this.#problem({
        finding: nameOf(FindingKind.WITHHELD),
        sender,
        seq: verdict.place.seq,
        cursor: Number(verdict.stored.cursor),
      });
    }
    const log = this.#log;
    const shown = Math.max(this.cursor, this.#snapshot?.replacesThrough ?? 0);
    if (shown < log.read) this.#problem({ finding: nameOf(FindingKind.ROLLED_BACK) });
    for (const [sender, place] of log.senders) {
      const walked = this.#senders.get(sender);
      // Where a sender's blobs were all trimmed, there is nothing left to hold against it.
      if (walked === undefined || walked.broken || walked.met) continue;
      if (walked.place.seq < place.seq) {
        this.#problem({ finding: nameOf(FindingKind.ROLLED_BACK), sender, seq: place.seq });
      } else if (walked.firstSeq <= place.seq) {
        this.#problem({ finding: nameOf(FindingKind.FORKED), sender, seq: place.seq });
      }
    }
  }

  report(through: number, controlBlobs: number): VerificationReport {
    const senders = [...this.#senders.values()].map(
      ({ deviceId, headers, bodies, firstSeq, place }) => ({
        deviceId,
        headers,
        bodies,
        firstSeq,
        lastSeq: place.seq,
      }),
    );
    return {
      after: this.#after,
      through,
      controlBlobs,
      headers: sum(senders.map(({ headers }) => headers)),
      bodies: sum(senders.map(({ bodies }) => bodies)),
      missing: { ...this.#missing },
      ...(this.#snapshot === undefined ? {} : { snapshot: this.#snapshot }),
      senders,
      problems: this.#problems,
      problemCount: this.#problemCount,
      ok: this.#problemCount === 0,
    };
  }

  get #chain(): ControlChain {
    const { chain } = this.#core;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    return chain;
  }

  #judge(verdict: Verdict): void {
    const { stored } = verdict;
    const sender = idText(stored.sender);
    const cursor = Number(stored.cursor);
    switch (verdict.kind) {
      case "entry":
      case "dropped": {
        const walked = this.#follow(verdict, sender);
        if (verdict.kind === "dropped") {
          this.#dropped(verdict, sender);
        } else if (this.#opens(verdict)) {
          walked.bodies += 1;
        } else {
          this.#problem({
            finding: nameOf(FindingKind.ALTERED),
            sender,
            seq: verdict.place.seq,
            cursor,
          });
        }
        for (const blobId of verdict.header.deletes) {
          this.#deleted(idText(blobId), verdict.header, stored.sender);
        }
        return;
      }
      case "known":
        this.#problem({
          finding: nameOf(FindingKind.REPLAYED),
          sender,
          seq: verdict.header.seq,
          cursor,
        });
        return;
      case "held":
        // Behind one that was named already.
        return;
      case "refused":
        this.#break(sender);
        this.#problem({ finding: nameOf(verdict.finding), sender, cursor });
        return;
    }
  }

  /** The sender's chain goes on from the window before. */
  #follow(verdict: Entry | Dropped, sender: string): SenderWalk {
    const { header, place, stored } = verdict;
    let walked = this.#senders.get(sender);
    if (walked === undefined) {
      walked = {
        deviceId: sender,
        place,
        firstSeq: place.seq,
        headers: 0,
        bodies: 0,
        broken: false,
        met: false,
      };
      this.#senders.set(sender, walked);
      const start = this.#frontier.get(sender);
      if (start !== undefined && header.seq > start.seq && !follows(start, header)) {
        walked.broken = true;
        this.#problem({
          finding: nameOf(FindingKind.DROPPED),
          sender,
          seq: header.seq,
          cursor: Number(stored.cursor),
        });
      }
    } else if (!walked.broken && !follows(walked.place, header)) {
      walked.broken = true;
      const missing = header.seq > walked.place.seq + 1;
      this.#problem({
        finding: nameOf(missing ? FindingKind.DROPPED : FindingKind.DEVICE_FORKED),
        sender,
        seq: header.seq,
        cursor: Number(stored.cursor),
      });
    }
    walked.place = place;
    walked.headers += 1;
    const before = this.#log.senders.get(sender);
    walked.met ||= before?.seq === place.seq && equalBytes(before.link, place.link);
    return walked;
  }

  #opens(verdict: Entry): boolean {
    const { stored, header } = verdict;
    const { blob, sender } = stored;
    const bodyKey = this.#chain.keyring.bodyKey(Number(blob?.epoch ?? 0n));
    if (blob === undefined || bodyKey === undefined) return false;
    try {
      openBody(blob, header, { groupId: this.#core.groupId, sender, bodyKey });
      return true;
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      return false;
    }
  }

  #dropped(verdict: Dropped, sender: string): void {
    const { stored, header } = verdict;
    if (covered(this.#frontier, sender, header.seq)) this.#missing.trimmed += 1;
    else if (explainsItself(header)) this.#missing.expired += 1;
    else if (stored.blob !== undefined) {
      this.#unexplained.set(idText(stored.blob.blobId), { verdict, sender });
    }
  }

  #deleted(blobId: string, header: Entry["header"], by: Uint8Array): void {
    const missing = this.#unexplained.get(blobId)?.verdict.stored;
    if (missing === undefined || !mayDelete(header, by, missing.sender)) return;
    this.#unexplained.delete(blobId);
    this.#missing.deleted += 1;
  }

  #break(sender: string): void {
    const walked = this.#senders.get(sender);
    if (walked !== undefined) walked.broken = true;
  }

  #problem(problem: VerificationProblem): void {
    this.#problemCount += 1;
    if (this.#problems.length < problemsMax) this.#problems.push(problem);
  }
}

type Entry = Extract<Verdict, { kind: "entry" }>;
type Dropped = Extract<Verdict, { kind: "dropped" }>;

/** Whether a header comes next behind a place of its sender, as it was or after a restart. */
function follows(place: ChainPlace, header: Entry["header"]): boolean {
  const { previousLink, abandonedLink, seq } = header;
  if (abandonedLink !== undefined && equalBytes(abandonedLink, place.link)) return true;
  return seq === place.seq + 1 && equalBytes(previousLink, place.link);
}

function nameOf(kind: FindingKind): string {
  return FindingKind[kind] ?? "UNSPECIFIED";
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
