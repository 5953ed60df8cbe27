/**
 * Judges windows of the log: verifies what senders signed, opens it, and says what became an entry,
 * what waits, and what is wrong. Writes nothing.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { type EvidenceClaim, FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type Entry as EntryMessage, EntrySchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { BlobSchema, type StoredBlob, StoredBlobSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes, equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText } from "../wire/ids.ts";
import { type Abandoning, isRestart } from "./abandoned.ts";
import { Ahead, type Prepared } from "./ahead.ts";
import { type Comparing, claimFinding, compareClaim } from "./claims.ts";
import type { Core, Finding } from "./core.ts";
import { claimOf } from "./findings.ts";
import type { Inbox, InboxItem } from "./inbox.ts";
import { LinkMemory } from "./link-memory.ts";
import { explainsItself, mayDelete } from "./missing-bodies.ts";
import type { ReceivedPage } from "./pages.ts";
import type { Refusal, Refusals } from "./refusals.ts";
import { type ChainPlace, decodeEntry, type OwnBlob, openBody } from "./seal/blob.ts";
import { decodeHeader, type Header } from "./seal/header.ts";
import {
  branchLinks,
  type ClosingLinks,
  type Jump,
  readBlob,
  type Verdict,
  verifyWindow,
} from "./seal/history.ts";

/** Links of a branch that was given up, which others may still name. */
const abandonedMax = 64;

/** What a window came to. */
export interface Judged {
  readonly items: InboxItem[];
  /** Restarts without content: read, and nothing for an app. */
  readonly silent: InboxItem[];
  readonly senders: Map<string, ChainPlace>;
  readonly refusals: Refusal[];
  readonly explained: number[];
  /** Own blobs whose bodies were read. */
  readonly ownRead: OwnBlob[];
  /** What is wrong beside the blobs themselves. */
  readonly findings: Finding[];
  /** What others saw and this device was not shown, which may still come. */
  readonly held: EvidenceClaim[];
  /** What others say of this device's own chain, where it is another one here. */
  readonly ofOwn: EvidenceClaim[];
  /** How far blobs were read once more. */
  rereading: Map<string, number>;
  /** Links that senders have given up. */
  readonly abandoned: Abandoning[];
  /** Where senders went on that had left another branch, by the link they went on from. */
  readonly restarts: Map<string, Uint8Array>;
  /** Chains that went on behind a gap. */
  readonly jumps: ReadonlyMap<string, Jump>;
  /** Entries that a restart leads up to, and that were never shown here. */
  readonly unseen: { readonly sender: string; readonly from: number; readonly through: number }[];
  /** Bodies that were found missing in an earlier log, and are there in this one. */
  readonly mended: { readonly sender: string; readonly seq: number }[];
}

/** How a window is looked at. */
export interface Looking {
  /** Senders whose blobs wait behind one that was refused. */
  readonly holding?: ReadonlySet<string>;
  readonly proven?: ReadonlyMap<string, ClosingLinks>;
  readonly branches?: ReadonlyMap<string, ClosingLinks>;
}

export class Judge {
  readonly #core: Core;
  readonly #inbox: Inbox;
  readonly #refusals: Refusals;
  /** Whether the own blob of a seq is not kept here, or may be another one. */
  readonly #wantsOwn: (seq: number) => boolean;
  readonly #links = new LinkMemory();
  /** What is worked out of blobs before they are judged. */
  readonly ahead: Ahead;

  constructor(core: Core, inbox: Inbox, refusals: Refusals, wantsOwn: (seq: number) => boolean) {
    this.#core = core;
    this.#inbox = inbox;
    this.#refusals = refusals;
    this.#wantsOwn = wantsOwn;
    this.ahead = new Ahead(core.host, (stored) => this.#prepare(stored));
  }

  /** Whether a window holds what only a newer control chain explains. */
  mayLackControl(window: ReceivedPage): boolean {
    const { chain } = this.#core;
    if (chain === undefined) return true;
    const newest = BigInt(chain.keyring.newest);
    let last: Uint8Array | undefined;
    for (const { blob, sender } of window.blobs) {
      if (blob !== undefined && blob.epoch > newest) return true;
      if (last !== undefined && equalBytes(last, sender)) continue;
      last = sender;
      if (!chain.devices.has(this.#inbox.senderText(sender))) return true;
    }
    return false;
  }

  /** What of a blob depends on nothing but itself and the group's keys. Whether it counts is judged later. */
  #prepare(stored: StoredBlob): Prepared | undefined {
    const { chain, groupId } = this.#core;
    const { blob, sender } = stored;
    if (chain === undefined || blob === undefined) return undefined;
    const read = readBlob(stored, groupId);
    const bodyKey = chain.keyring.bodyKey(Number(blob.epoch));
    if (read.header === undefined || blob.body.byteLength === 0 || bodyKey === undefined) {
      return { read, opened: undefined };
    }
    try {
      return { read, opened: openBody(blob, read.header, { groupId, sender, bodyKey }) };
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      return { read, opened: undefined };
    }
  }

  /** Verifies a window and opens what is right in it. */
  judge(window: ReceivedPage, looking: Looking = {}): Judged {
    const core = this.#core;
    const chain = core.chain;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const { holding, proven, branches } = looking;
    const { verdicts, positions, tookUp } = verifyWindow(window.blobs, {
      groupId: core.groupId,
      roster: chain.devices,
      positions: core.log.senders,
      stopped: this.#stopped(),
      takingUp: core.takingUp.senders,
      resuming: this.#resuming(window),
      lacking: core.lacking,
      linkOf: (sender, seq) => this.#links.get(sender, seq),
      ahead: (stored) => this.ahead.get(stored)?.read,
      ...(holding === undefined ? {} : { holding }),
      ...(proven === undefined ? {} : { proven }),
      ...(branches === undefined ? {} : { branches }),
    });
    const judged: Judged = {
      items: [],
      silent: [],
      senders: new Map(positions),
      refusals: [],
      explained: [],
      ownRead: [],
      findings: [],
      held: [],
      ofOwn: [],
      rereading: core.changes.rereading,
      abandoned: [],
      restarts: new Map(),
      jumps: tookUp,
      unseen: [],
      mended: [],
    };
    // Senders whose chain was right and a body was not: the rest of theirs waits behind it.
    const broken = new Set<string>();
    for (const [at, verdict] of verdicts.entries()) {
      const { stored } = verdict;
      const sender = this.#inbox.senderText(stored.sender);
      switch (verdict.kind) {
        case "entry":
        case "dropped": {
          if (broken.has(sender)) {
            judged.refusals.push(held(stored));
            break;
          }
          if (verdict.kind === "dropped") {
            this.#dropped(verdict, judged);
          } else {
            try {
              this.#accept(verdict, sender, window, judged);
            } catch (error) {
              if (!(error instanceof SyncError)) throw error;
              broken.add(sender);
              judged.refusals.push(refusal(stored, error, FindingKind.ALTERED, verdict.place));
              goBack(judged.senders, sender, verdicts.slice(0, at), core.log.senders);
              break;
            }
          }
          // What a restart has proven stands below where the chain is.
          if (branches?.get(sender)?.has(verdict.place.seq) === true) break;
          this.#restarted(verdict.header, sender, judged);
          this.#links.add(sender, verdict.place);
          // Read on: nothing of this sender is read once more.
          this.#reread(judged, sender, undefined);
          break;
        }
        case "known":
          if (this.#mendBody(verdict, sender, window, judged)) break;
          if (!this.#reread(judged, sender, verdict.header.seq)) {
            judged.findings.push({
              kind: FindingKind.REPLAYED,
              error: new SyncError(ErrorCode.HISTORY_ALTERED),
              sender: stored.sender,
              seq: verdict.header.seq,
              cursor: Number(stored.cursor),
              received: [stored],
            });
          }
          break;
        case "held":
          // Places that were not shown as a whole, or are on another branch: nothing is compared with them.
          if (verdict.until !== undefined) broken.add(sender);
          judged.refusals.push(held(stored));
          break;
        case "refused": {
          const place = placeOf(stored, core.log.senders.get(sender));
          judged.refusals.push(
            refusal(stored, new SyncError(verdict.code), verdict.finding, place),
          );
          break;
        }
      }
    }
    this.#compareWitnesses(judged, broken);
    return judged;
  }

  /** Senders of which another history is known, each with the links that it would have to give up. */
  #stopped(): ReadonlyMap<string, readonly Uint8Array[]> {
    const { findings } = this.#core;
    const stopped = new Map<string, Uint8Array[]>();
    for (const sender of findings.stopped) stopped.set(sender, []);
    if (stopped.size === 0) return stopped;
    for (const { sender, kind, claimed } of findings.open()) {
      if (kind === FindingKind.FORKED && claimed !== undefined) stopped.get(sender)?.push(claimed);
    }
    return stopped;
  }

  /** Senders that push again into a restored log what they still have, and may leave out the rest. */
  #resuming(window: ReceivedPage): ReadonlySet<string> {
    const { changes, chain } = this.#core;
    const senders = new Set<string>();
    if (!changes.active) return senders;
    for (const { sender } of window.blobs) {
      const text = this.#inbox.senderText(sender);
      // What one that was removed had written leads up to its closing, or counts for nothing.
      const removed = chain?.devices.get(text)?.closing !== undefined;
      if (!removed && changes.mayResume(text)) senders.add(text);
    }
    return senders;
  }

  /** A header whose body is gone: the chain goes on, and what is missing is explained, or not yet. */
  #dropped(verdict: Extract<Verdict, { kind: "dropped" }>, judged: Judged): void {
    const { stored, header } = verdict;
    if (explainsItself(header)) {
      judged.explained.push(Number(stored.cursor));
    } else {
      judged.refusals.push({ stored, code: ErrorCode.UNSPECIFIED });
    }
    this.#explain(header, stored.sender, judged);
  }

  /** A sender gives up a link, and all that leads up to it from where its branches part. */
  #restarted(header: Header, sender: string, judged: Judged): void {
    const { abandonedLink } = header;
    if (abandonedLink === undefined) return;
    const links = [...this.#links.newest(sender, abandonedMax), abandonedLink];
    const before = this.#core.log.senders.get(sender);
    const left = before !== undefined && equalBytes(before.link, abandonedLink);
    judged.abandoned.push({ sender, links: left ? links : [abandonedLink] });
    if (!left) return;
    judged.restarts.set(sender, header.previousLink);
    this.#unseen(header, before, sender, judged);
  }

  /** What stands between the place that was left and the restart was refused before, or was not shown. */
  #unseen(header: Header, before: ChainPlace, sender: string, judged: Judged): void {
    const refused = judged.refusals.flatMap(({ stored }) =>
      this.#inbox.senderText(stored.sender) === sender ? [stored] : [],
    );
    const held = [...this.#refusals.of(sender), ...refused];
    const branch = branchLinks(held, {
      groupId: this.#core.groupId,
      from: header.previousLink,
    });
    const through = Math.min(header.seq, ...branch.keys()) - 1;
    if (through > before.seq) judged.unseen.push({ sender, from: before.seq + 1, through });
  }

  /**
   * Whether a blob that is known comes as it may after the log changed: each once, in order. Undefined:
   * the sender's chain went on, and nothing below is to come.
   */
  #reread(judged: Judged, sender: string, seq: number | undefined): boolean {
    const last = judged.rereading.get(sender);
    if (last === undefined) return false;
    if (seq !== undefined && seq <= last) return false;
    // One copy for a window.
    if (judged.rereading === this.#core.changes.rereading) {
      judged.rereading = new Map(judged.rereading);
    }
    const { rereading } = judged;
    const place = this.#core.log.senders.get(sender)?.seq ?? 0;
    if (seq === undefined || seq >= place) rereading.delete(sender);
    else rereading.set(sender, seq);
    judged.rereading = rereading;
    return true;
  }

  /** A body that was missing is there now, behind the header that was verified then. */
  #mendBody(
    verdict: Extract<Verdict, { kind: "known" }>,
    sender: string,
    window: ReceivedPage,
    judged: Judged,
  ): boolean {
    const { stored, header, link } = verdict;
    const here = this.#refusals.missingLink(stored.cursor);
    const missing = here ?? this.#withheldLink(sender, header.seq);
    if (missing === undefined) return false;
    const { blob } = stored;
    if (blob === undefined || !equalBytes(link, missing)) return here !== undefined;
    const { seq } = header;
    if (blob.body.byteLength === 0) {
      if (explainsItself(header)) {
        judged.explained.push(Number(stored.cursor));
        judged.mended.push({ sender, seq });
      }
    } else {
      try {
        this.#accept(
          { kind: "entry", stored, header, place: { seq, link } },
          sender,
          window,
          judged,
        );
        judged.mended.push({ sender, seq });
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        // It stays missing.
      }
    }
    if (here === undefined) this.#reread(judged, sender, seq);
    return true;
  }

  /** The link of an entry whose body an earlier log did not show. */
  #withheldLink(sender: string, seq: number): Uint8Array | undefined {
    return this.#core.findings
      .open()
      .find(
        (finding) =>
          finding.kind === FindingKind.WITHHELD && finding.sender === sender && finding.seq === seq,
      )?.verified?.link;
  }

  /** A verified blob becomes an entry. Throws where its body does not open. */
  #accept(
    verdict: Extract<Verdict, { kind: "entry" }>,
    sender: string,
    window: ReceivedPage,
    judged: Judged,
  ): void {
    const core = this.#core;
    const { stored, header, place } = verdict;
    const { blob } = stored;
    if (blob === undefined) throw new SyncError(ErrorCode.HISTORY_ALTERED);
    let opened: EntryMessage;
    const delivered = window.own.get(Number(stored.cursor));
    if (delivered === undefined) {
      const bodyKey = core.chain?.keyring.bodyKey(Number(blob.epoch));
      if (bodyKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
      opened =
        this.ahead.get(stored)?.opened ??
        openBody(blob, header, { groupId: core.groupId, sender: stored.sender, bodyKey });
      into(judged, header, opened).push({ stored, seq: header.seq, opened });
      if (sender === core.deviceText && this.#wantsOwn(header.seq)) {
        const own = ownOf(stored, place, opened, header.entryHash);
        if (own !== undefined) judged.ownRead.push(own);
      }
    } else {
      opened = decodeEntry(delivered.entry);
      into(judged, header, opened).push({
        stored: create(StoredBlobSchema, {
          cursor: stored.cursor,
          sender: stored.sender,
          // Without body and epoch: the entry stands among the own ones.
          blob: create(BlobSchema, {
            blobId: blob.blobId,
            header: blob.header,
            signature: blob.signature,
          }),
        }),
        seq: header.seq,
        opened,
      });
    }
    if (header.deletes.length > 0) this.#explain(header, stored.sender, judged);
  }

  /** A header that names blobs as deleted explains that their bodies are missing, where it may. */
  #explain(header: Header, by: Uint8Array, judged: Judged): void {
    for (const blobId of header.deletes) {
      const missing = this.#refusals.missing(blobId);
      if (missing !== undefined && mayDelete(header, by, missing.sender)) {
        judged.explained.push(missing.cursor);
      }
      const at = judged.refusals.findIndex(
        ({ code, stored }) =>
          code === ErrorCode.UNSPECIFIED &&
          equalBytes(stored.blob?.blobId ?? emptyBytes, blobId) &&
          mayDelete(header, by, stored.sender),
      );
      if (at >= 0) judged.refusals.splice(at, 1);
    }
  }

  /**
   * What senders say they had seen of others: this device was shown the same, or somebody was shown
   * something else. After the log changed, what is missing may still be pushed again.
   */
  #compareWitnesses(judged: Judged, broken: ReadonlySet<string>): void {
    const { changes } = this.#core;
    const at = this.comparing(judged.senders, judged.abandoned);
    for (const { stored, opened } of [...judged.items, ...judged.silent]) {
      if (opened === undefined || opened.witnessed.length === 0) continue;
      for (const seen of opened.witnessed) {
        const sender = this.#inbox.senderText(seen.deviceId);
        if (broken.has(sender) || this.#refusals.holding.has(sender)) continue;
        const compared = compareClaim(at, sender, { seq: Number(seen.seq), link: seen.link });
        if (compared === "met") continue;
        const claim = claimOf(stored.sender, seen);
        if (sender === this.#core.deviceText) judged.ofOwn.push(claim);
        else if (compared === "missing" && changes.excuses(sender)) judged.held.push(claim);
        else {
          judged.findings.push({
            ...claimFinding(compared, claim, judged.senders.get(sender), [stored]),
            cursor: Number(stored.cursor),
          });
        }
      }
    }
  }

  /** What claims are compared with. */
  comparing(
    senders: ReadonlyMap<string, ChainPlace>,
    abandoned: readonly Abandoning[] = [],
  ): Comparing {
    return {
      senders,
      linkOf: (sender, seq) => this.#links.get(sender, seq),
      closing: (sender) => this.#core.chain?.devices.get(sender)?.closing?.seq,
      lacking: (sender) => this.#core.lacking.get(sender),
      abandoned: (sender, link) =>
        this.#core.abandoned.has(sender, link) ||
        abandoned.some(
          (each) => each.sender === sender && each.links.some((given) => equalBytes(given, link)),
        ),
    };
  }

  /** A link that was read, where it is still known. */
  linkOf(sender: string, seq: number): Uint8Array | undefined {
    return this.#links.get(sender, seq);
  }
}

/** Where an entry goes: an app has no use for a device's word that it gives up a link. */
function into(judged: Judged, header: Header, opened: EntryMessage): InboxItem[] {
  return isRestart(header, opened) ? judged.silent : judged.items;
}

/** Where a blob that was refused says that it stands; else the place that is next. */
function placeOf(stored: StoredBlob, before: ChainPlace | undefined): ChainPlace {
  try {
    const { seq, previousLink } = decodeHeader(stored.blob?.header ?? emptyBytes);
    return { seq, link: previousLink };
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    return { seq: (before?.seq ?? 0) + 1, link: before?.link ?? emptyBytes };
  }
}

/** An own blob that came back whole, to be kept again; undefined where its bytes cannot be had. */
function ownOf(
  stored: StoredBlob,
  place: ChainPlace,
  opened: EntryMessage,
  entryHash: Uint8Array,
): OwnBlob | undefined {
  const { blob } = stored;
  const entry = toBinary(EntrySchema, opened);
  if (blob === undefined || !equalBytes(blake2b256(entry), entryHash)) return undefined;
  return {
    seq: place.seq,
    link: place.link,
    blobId: blob.blobId,
    header: blob.header,
    signature: blob.signature,
    entry,
  };
}

/** Takes a sender back to its last place before the blob that did not open. */
function goBack(
  senders: Map<string, ChainPlace>,
  sender: string,
  verdicts: readonly Verdict[],
  before: ReadonlyMap<string, ChainPlace>,
): void {
  let place = before.get(sender);
  for (const verdict of verdicts) {
    if (verdict.kind !== "entry" && verdict.kind !== "dropped") continue;
    if (idText(verdict.stored.sender) === sender) place = verdict.place;
  }
  if (place === undefined) senders.delete(sender);
  else senders.set(sender, place);
}

function held(stored: StoredBlob): Refusal {
  return { stored, code: ErrorCode.HISTORY_ALTERED };
}

function refusal(
  stored: StoredBlob,
  error: SyncError,
  kind: FindingKind,
  { seq }: ChainPlace,
): Refusal {
  const finding: Finding = {
    kind,
    error,
    sender: stored.sender,
    seq,
    cursor: Number(stored.cursor),
    received: [stored],
  };
  return { stored, code: error.code, finding };
}
