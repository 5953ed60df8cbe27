/**
 * Verified history: whether the blobs a relay hands over are what their senders
 * wrote, in the order they wrote them, with none left out.
 *
 * Each sender's blobs form a chain: a header names the link of the one before,
 * and a link covers the header. So one signature, the newest of a window, covers
 * all that leads up to it. Where anything of a sender is not as it should be,
 * its blobs of that window are verified one by one and judged in their order;
 * other senders are not affected.
 *
 * The epoch of a body is not judged: it is no part of what is signed, since
 * resealing changes it, and what authenticates under any epoch of the group must
 * still match the hash in the signed header.
 */
import { create } from "@bufbuild/protobuf";
import { FindingKind } from "../../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type SenderLink, SenderLinkSchema } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import { BodyState, type StoredBlob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import {
  blobIdBytes,
  blobLink,
  deviceIdBytes,
  idText,
  parseId,
  signatureBytes,
  zeroLink,
} from "../../wire/ids.ts";
import { windowBlobsMax, windowBytesMax, witnessedMax } from "../../wire/limits.ts";
import { type ChainPlace, verifyLink } from "./blob.ts";
import { altered, safeNumber } from "./checks.ts";
import { decodeHeader, type Header } from "./header.ts";
import type { Roster, RosterDevice } from "./membership.ts";

/** Each sender's last verified place, by the text of its id. */
export type Positions = ReadonlyMap<string, ChainPlace>;

/** What explains that a body is missing, as far as the signed header bears the relay out. */
export type DropClaim = "expired" | "deleted" | "trimmed" | "none";

/** What a blob turned out to be. */
export type Verdict =
  /** The next of its sender, body and all: open it. */
  | {
      readonly kind: "entry";
      readonly stored: StoredBlob;
      readonly header: Header;
      readonly place: ChainPlace;
    }
  /**
   * Read before, or below what was read: skipped. After a restore of the relay
   * that is as it should be; in one and the same log the relay replays.
   */
  | {
      readonly kind: "known";
      readonly stored: StoredBlob;
      readonly header: Header;
      readonly link: Uint8Array;
    }
  /**
   * The next of its sender, but only its header: the chain goes on, there is no
   * entry. Claims other than `none` are the relay's until a header that deletes
   * it, or a snapshot, is found.
   */
  | {
      readonly kind: "dropped";
      readonly stored: StoredBlob;
      readonly header: Header;
      readonly place: ChainPlace;
      readonly claim: DropClaim;
    }
  /**
   * Perhaps right, but behind one of its sender that is not; or, of a removed device, not yet seen to
   * lead up to its closing place; or of a sender that is stopped. Kept, not applied.
   */
  | { readonly kind: "held"; readonly stored: StoredBlob; readonly until?: "closing" | "stopped" }
  /** Not what its sender wrote, or not where it belongs: evidence. */
  | {
      readonly kind: "refused";
      readonly stored: StoredBlob;
      readonly code: ErrorCode;
      readonly finding: FindingKind;
    };

/** What blobs are verified against. */
export interface WindowContext {
  readonly groupId: Uint8Array;
  /** Members and former ones, from the control chain. */
  readonly roster: Roster;
  /** Where each sender's chain was verified to. A sender that is absent has written nothing. */
  readonly positions: Positions;
  /**
   * `on` (default) goes on from the positions. `again` re-reads a range that was
   * read before: a sender's first blob may have any seq, and positions stay.
   */
  readonly reading?: "on" | "again";
  /** Senders with an open finding from an earlier window, whose later blobs are held. */
  readonly holding?: ReadonlySet<string>;
  /** Of removed devices whose whole chain was seen: the links up to their closing places. */
  readonly proven?: ReadonlyMap<string, ClosingLinks>;
  /** Of senders that left a branch: the links of the one they went on with, which was refused until then. */
  readonly branches?: ReadonlyMap<string, ClosingLinks>;
  /** Senders that are stopped, each with the links whose abandoning by the sender ends that. */
  readonly stopped?: ReadonlyMap<string, readonly Uint8Array[]>;
  /** Senders whose chain may go on behind a gap, once, whatever was refused of them. */
  readonly takingUp?: ReadonlySet<string>;
  /** Senders whose chain may go on where seqs are left out, once, and nothing of theirs was refused. */
  readonly resuming?: ReadonlySet<string>;
  /** Up to which seq a sender says that the log lacks some of its own: what follows waits for a snapshot. */
  readonly lacking?: ReadonlyMap<string, number>;
  /** A link that was read before, where it is still known. */
  readonly linkOf?: (sender: string, seq: number) => Uint8Array | undefined;
  /** A blob that was read ahead, by `readBlob`. */
  readonly ahead?: (stored: StoredBlob) => ReadBlob | undefined;
}

/** What a blob says by itself, and its link; without a header where it has no valid form. */
export interface ReadBlob {
  readonly header: Header | undefined;
  readonly link: Uint8Array;
}

/** The links that lead up to a removed device's closing place, by seq. */
export type ClosingLinks = ReadonlyMap<number, Uint8Array>;

/**
 * Verifies blobs in the order of the log: one verdict each, and the positions
 * behind them. Works in windows of at most 2,000 blobs or 8 MiB, so that one bad
 * signature costs a bounded amount. Never throws for what a relay sent.
 */
export function verifyWindow(
  blobs: readonly StoredBlob[],
  at: WindowContext,
): { verdicts: Verdict[]; positions: Positions; tookUp: ReadonlyMap<string, Jump> } {
  const verdicts: Verdict[] = [];
  const state: Running = {
    positions: new Map(at.positions),
    holding: new Set(at.holding),
    tookUp: new Map(),
    unstopped: new Set(),
  };
  for (let start = 0; start < blobs.length; ) {
    const end = windowEnd(blobs, start);
    verifyOne(blobs.slice(start, end), at, state, verdicts);
    start = end;
  }
  const positions = at.reading === "again" ? at.positions : state.positions;
  return { verdicts, positions, tookUp: state.tookUp };
}

/** A sender's chain went on behind a gap: the seqs that are left out. */
export interface Jump {
  readonly from: number;
  readonly through: number;
}

/** What moves from window to window. */
interface Running {
  readonly positions: Map<string, ChainPlace>;
  readonly holding: Set<string>;
  readonly tookUp: Map<string, Jump>;
  readonly unstopped: Set<string>;
}

function windowEnd(blobs: readonly StoredBlob[], start: number): number {
  let bytes = 0;
  let end = start;
  while (end < blobs.length && end - start < windowBlobsMax) {
    bytes += blobs[end]?.blob?.body.byteLength ?? 0;
    if (bytes > windowBytesMax && end > start) break;
    end += 1;
  }
  return end;
}

/** One blob on its way to a verdict. */
interface Item extends ReadBlob {
  /** Of its verdict. */
  readonly index: number;
  readonly stored: StoredBlob;
  readonly signature: Uint8Array;
}

/** The blobs of one sender in a window. */
interface Run {
  readonly sender: Uint8Array;
  readonly id: string;
  /** Undefined for a sender that may not write at all. */
  readonly device: RosterDevice | undefined;
  readonly items: Item[];
}

function verifyOne(
  blobs: readonly StoredBlob[],
  at: WindowContext,
  state: Running,
  verdicts: Verdict[],
): void {
  const { positions, holding } = state;
  const runs = new Runs(at.roster);
  let index = verdicts.length;
  // Filled sender by sender: at once as long as it gets, it need not grow.
  verdicts.length += blobs.length;
  for (const stored of blobs) {
    const run = runs.of(stored.sender);
    if (run.device === undefined) verdicts[index] = refused(stored, FindingKind.STRANGER);
    else run.items.push(itemOf(index, stored, at.groupId, at.ahead?.(stored)));
    index += 1;
  }
  for (const run of runs.all) {
    if (run.device === undefined) continue;
    const branch = at.branches?.get(run.id);
    const items = branch === undefined ? run.items : takeBranch(run.items, branch, verdicts);
    if (items.length === 0) continue;
    // Undefined: the chain may be taken up anywhere.
    const start =
      at.reading === "again" ? undefined : (positions.get(run.id) ?? { seq: 0, link: zeroLink });
    const known: Known = {
      linkOf: (seq) => at.linkOf?.(run.id, seq),
      takingUp: at.takingUp?.has(run.id) === true && !state.tookUp.has(run.id),
      resuming: at.resuming?.has(run.id) === true && !state.tookUp.has(run.id),
      lacking: at.lacking?.get(run.id) ?? 0,
    };
    const judged =
      judgeTogether(items, run.device, start, known) ??
      judgeSingly(items, run.device, start, holding.has(run.id), known);
    const waits = start === undefined ? undefined : waitsFor(run, judged, at, state);
    let next = 0;
    for (const item of items) {
      const verdict = judged.verdicts[next++] as Verdict;
      verdicts[item.index] = waits === undefined ? verdict : waiting(verdict, waits);
    }
    if (waits !== undefined) {
      holding.add(run.id);
      continue;
    }
    if (judged.jump !== undefined) state.tookUp.set(run.id, judged.jump);
    if (judged.place !== undefined) positions.set(run.id, judged.place);
    if (judged.trouble) holding.add(run.id);
  }
}

/** What else a sender's blobs are judged by. */
interface Known {
  linkOf(seq: number): Uint8Array | undefined;
  readonly takingUp: boolean;
  readonly resuming: boolean;
  readonly lacking: number;
}

/** Blobs of a branch that a restart has proven: entries, at places that the chain has passed. */
function takeBranch(items: readonly Item[], branch: ClosingLinks, verdicts: Verdict[]): Item[] {
  return items.filter((item) => {
    const { header, link } = item;
    if (header === undefined) return true;
    const proven = branch.get(header.seq);
    if (proven === undefined || !equalBytes(proven, link)) return true;
    verdicts[item.index] = accepted(item, header, { seq: header.seq, link });
    return false;
  });
}

/** Why blobs that would go on with a chain are kept and not taken. */
function waitsFor(
  run: Run,
  judged: Judged,
  at: WindowContext,
  state: Running,
): "closing" | "stopped" | undefined {
  if (run.device !== undefined && belowClosing(run.device, judged, at.proven?.get(run.id))) {
    return "closing";
  }
  const ends = at.stopped?.get(run.id);
  if (ends === undefined || state.unstopped.has(run.id)) return undefined;
  const left = judged.verdicts.some((verdict) => {
    if (verdict.kind !== "entry" && verdict.kind !== "dropped") return false;
    const { abandonedLink } = verdict.header;
    return abandonedLink !== undefined && ends.some((link) => equalBytes(link, abandonedLink));
  });
  if (!left) return "stopped";
  state.unstopped.add(run.id);
  return undefined;
}

/** The runs of a window, found by sender without making its text for every blob. */
class Runs {
  readonly all: Run[] = [];
  readonly #bySender = new Map<number, Run[]>();
  readonly #roster: Roster;

  constructor(roster: Roster) {
    this.#roster = roster;
  }

  of(sender: Uint8Array): Run {
    // Ids are random to whoever does not choose them; whoever does shares a
    // bucket at most with the other members.
    const bucket =
      ((sender[0] ?? 0) << 24) |
      ((sender[1] ?? 0) << 16) |
      ((sender[2] ?? 0) << 8) |
      (sender[3] ?? 0);
    let runs = this.#bySender.get(bucket);
    if (runs === undefined) {
      runs = [];
      this.#bySender.set(bucket, runs);
    }
    for (const run of runs) if (equalBytes(run.sender, sender)) return run;
    const id = sender.byteLength === deviceIdBytes ? idText(sender) : "";
    const device = this.#roster.get(id);
    // A recovery phrase admits a device and writes nothing else.
    const mayWrite = device !== undefined && device.role !== MemberRole.PAPER;
    const run: Run = { sender, id, device: mayWrite ? device : undefined, items: [] };
    // Strangers are not kept: a relay could invent any number of them.
    if (mayWrite) {
      runs.push(run);
      this.all.push(run);
    }
    return run;
  }
}

function itemOf(
  index: number,
  stored: StoredBlob,
  groupId: Uint8Array,
  read: ReadBlob = readBlob(stored, groupId),
): Item {
  const signature = read.header === undefined ? zeroLink : (stored.blob?.signature ?? zeroLink);
  return { index, stored, header: read.header, link: read.link, signature };
}

/** Reads a blob by itself: its header, and the link that follows from it. */
export function readBlob(stored: StoredBlob, groupId: Uint8Array): ReadBlob {
  const blob = stored.blob;
  let header: Header | undefined;
  if (
    blob?.blobId.byteLength === blobIdBytes &&
    blob.signature.byteLength === signatureBytes &&
    (blob.body.byteLength === 0 || safeNumber(blob.epoch, 1) !== undefined)
  ) {
    try {
      header = decodeHeader(blob.header);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      // No header: the verdict will say that it was altered.
    }
  }
  if (blob === undefined || header === undefined) return { header: undefined, link: zeroLink };
  return { header, link: blobLink(groupId, stored.sender, blob.blobId, blob.header) };
}

interface Judged {
  readonly verdicts: Verdict[];
  /** The sender's last verified place. */
  readonly place: ChainPlace | undefined;
  readonly trouble: boolean;
  /** Where the chain was taken up behind a gap. */
  readonly jump?: Jump | undefined;
}

/**
 * The common case: every blob extends the chain, or was read before, and the
 * newest signature holds. Undefined where anything is otherwise.
 */
function judgeTogether(
  items: readonly Item[],
  device: RosterDevice,
  start: ChainPlace | undefined,
  known: Known,
): Judged | undefined {
  const verdicts: Verdict[] = [];
  let place = start;
  let newest: Item | undefined;
  for (const item of items) {
    const { header, link } = item;
    if (header === undefined || beyondClosing(device, header.seq, link)) return undefined;
    if (place !== undefined && abandons(header, place)) return undefined;
    if (place !== undefined && header.seq <= place.seq) {
      if (isOther(place, header.seq, link, known)) return undefined;
      verdicts.push({ kind: "known", stored: item.stored, header, link });
    } else if (place === undefined || extendsPlace(place, header)) {
      place = { seq: header.seq, link };
      newest = item;
      verdicts.push(accepted(item, header, place));
    } else {
      return undefined;
    }
  }
  if (newest !== undefined && !verifyLink(device.signingKey, newest.link, newest.signature)) {
    return undefined;
  }
  return { verdicts, place, trouble: false };
}

/** Every signature by itself, every blob by its place: finds what is wrong and with which. */
function judgeSingly(
  items: readonly Item[],
  device: RosterDevice,
  start: ChainPlace | undefined,
  held: boolean,
  known: Known,
): Judged {
  const verdicts: Verdict[] = [];
  let place = start;
  let trouble = held;
  let jump: Jump | undefined;
  let { takingUp, resuming } = known;
  for (const [i, item] of items.entries()) {
    const { header, link, stored } = item;
    if (header === undefined || !verifyLink(device.signingKey, link, item.signature)) {
      trouble = true;
      verdicts.push(refused(stored, FindingKind.ALTERED));
      continue;
    }
    let finding = findingAt(place, header, link, device, known);
    // A gap behind one that was refused is what that one left, and no gap of the sender's.
    const lacks = finding === "gap" && header.seq - 1 <= known.lacking;
    const resumes = resuming && !trouble && !lacks && finding === "gap";
    if (
      (takingUp || resumes) &&
      place !== undefined &&
      mayTakeUp(finding, header, place, items.slice(i + 1))
    ) {
      jump = { from: place.seq + 1, through: header.seq - 1 };
      takingUp = false;
      resuming = false;
      trouble = false;
      finding = undefined;
    }
    if (finding === undefined) {
      place = { seq: header.seq, link };
      verdicts.push(accepted(item, header, place));
    } else if (finding === "known") {
      verdicts.push({ kind: "known", stored, header, link });
    } else if (finding === "gap") {
      // Behind one that was refused, a gap is what that one left.
      if (trouble || lacks) verdicts.push({ kind: "held", stored });
      else verdicts.push(refused(stored, gapFinding(items.slice(i + 1), place)));
      trouble = true;
    } else {
      trouble = true;
      verdicts.push(refused(stored, finding));
    }
  }
  return { verdicts, place, trouble, jump };
}

/** Whether a blob that does not follow may be where the chain goes on behind a gap. */
function mayTakeUp(
  finding: ReturnType<typeof findingAt>,
  header: Header,
  place: ChainPlace,
  later: readonly Item[],
): boolean {
  if (header.seq <= place.seq) return false;
  if (finding === FindingKind.DEVICE_FORKED) return true;
  return finding === "gap" && gapFinding(later, place) === FindingKind.DROPPED;
}

/** Whether a place that was passed had another link. */
function isOther(place: ChainPlace, seq: number, link: Uint8Array, known: Known): boolean {
  const before = seq === place.seq ? place.link : known.linkOf(seq);
  return before !== undefined && !equalBytes(link, before);
}

/** The device itself gives up the link held here, and goes on from another one. */
function abandons({ abandonedLink }: Header, place: ChainPlace): boolean {
  return abandonedLink !== undefined && equalBytes(abandonedLink, place.link);
}

/** What a blob with a valid signature is at its place; undefined: the next one. */
function findingAt(
  place: ChainPlace | undefined,
  header: Header,
  link: Uint8Array,
  device: RosterDevice,
  known: Known,
): FindingKind | "known" | "gap" | undefined {
  if (beyondClosing(device, header.seq, link)) return FindingKind.STRANGER;
  if (place === undefined || extendsPlace(place, header)) return undefined;
  if (abandons(header, place)) return undefined;
  if (header.seq === place.seq + 1) return FindingKind.DEVICE_FORKED;
  if (header.seq > place.seq) return "gap";
  return isOther(place, header.seq, link, known) ? FindingKind.DEVICE_FORKED : "known";
}

/** A seq was passed over: it comes later, or not at all. */
function gapFinding(later: readonly Item[], place: ChainPlace | undefined): FindingKind {
  const missing = (place?.seq ?? 0) + 1;
  return later.some((item) => item.header?.seq === missing)
    ? FindingKind.REORDERED
    : FindingKind.DROPPED;
}

function extendsPlace(place: ChainPlace, header: Header): boolean {
  return header.seq === place.seq + 1 && equalBytes(header.previousLink, place.link);
}

/** Whether a removed device's blob lies above its closing place, or is another one at it. */
function beyondClosing(device: RosterDevice, seq: number, link: Uint8Array): boolean {
  const closing = device.closing;
  if (closing === undefined || seq < closing.seq) return false;
  return seq > closing.seq || !equalBytes(link, closing.link);
}

/**
 * Whether blobs of a removed device end below its closing place, and are not known to lead there. It
 * can still sign whatever it likes for the places before; only the link it was closed at is its group's.
 */
function belowClosing(
  { closing }: RosterDevice,
  { place, verdicts }: Judged,
  proven: ClosingLinks | undefined,
): boolean {
  if (closing === undefined || place === undefined || place.seq >= closing.seq) return false;
  if (proven === undefined) return true;
  return verdicts.some((verdict) => {
    if (verdict.kind !== "entry" && verdict.kind !== "dropped") return false;
    const link = proven.get(verdict.place.seq);
    return link === undefined || !equalBytes(link, verdict.place.link);
  });
}

function waiting(verdict: Verdict, until: "closing" | "stopped"): Verdict {
  const { kind, stored } = verdict;
  return kind === "refused" || kind === "known" ? verdict : { kind: "held", stored, until };
}

/**
 * The links from a place up to a removed device's closing, where blobs that were held hold all of
 * them; undefined where one is missing. Only hashes are compared: the closing link covers the rest.
 */
export function closingLinks(
  held: readonly StoredBlob[],
  at: { readonly groupId: Uint8Array; readonly place: ChainPlace; readonly closing: ChainPlace },
): ClosingLinks | undefined {
  const headers = new Map<string, Header>();
  for (const stored of held) {
    const { header, link } = itemOf(0, stored, at.groupId);
    if (header !== undefined) headers.set(idText(link), header);
  }
  const links = new Map<number, Uint8Array>();
  for (let { link } = at.closing; ; ) {
    const header = headers.get(idText(link));
    if (header === undefined || header.seq <= at.place.seq) return undefined;
    links.set(header.seq, link);
    const { previousLink, abandonedLink } = header;
    if (equalBytes(previousLink, at.place.link)) return links;
    if (abandonedLink !== undefined && equalBytes(abandonedLink, at.place.link)) return links;
    link = previousLink;
  }
}

/**
 * The links from one place of a sender's chain downwards, as far as blobs that were kept hold them.
 * Only hashes are compared: whoever signed the upper end signed all of them.
 */
export function branchLinks(
  held: readonly StoredBlob[],
  at: { readonly groupId: Uint8Array; readonly from: Uint8Array },
): ClosingLinks {
  const headers = new Map<string, Header>();
  for (const stored of held) {
    const { header, link } = itemOf(0, stored, at.groupId);
    if (header !== undefined) headers.set(idText(link), header);
  }
  const links = new Map<number, Uint8Array>();
  for (let link = at.from; ; ) {
    const header = headers.get(idText(link));
    if (header === undefined || links.has(header.seq)) return links;
    links.set(header.seq, link);
    link = header.previousLink;
  }
}

function accepted(item: Item, header: Header, place: ChainPlace): Verdict {
  const { stored } = item;
  return stored.blob !== undefined && stored.blob.body.byteLength > 0
    ? { kind: "entry", stored, header, place }
    : { kind: "dropped", stored, header, place, claim: dropClaim(stored.bodyState, header) };
}

/** What explains that a body is missing, as far as the signed header bears the relay out. */
export function dropClaim(state: BodyState, header: Header): DropClaim {
  switch (state) {
    case BodyState.EXPIRED:
      // What was signed without a TTL cannot have outlived it.
      return header.ttlS === 0 ? "none" : "expired";
    case BodyState.DELETED:
      return "deleted";
    case BodyState.TRIMMED:
      return "trimmed";
    default:
      return "none";
  }
}

function refused(stored: StoredBlob, finding: FindingKind): Verdict {
  const code =
    finding === FindingKind.DEVICE_FORKED ? ErrorCode.DEVICE_FORKED : ErrorCode.HISTORY_ALTERED;
  return { kind: "refused", stored, code, finding };
}

/**
 * What changed of other devices since `told`, for the next entry's witness: at
 * most 256 places, the rest with the entry after. `told` is what has been
 * witnessed once that entry is queued.
 */
export function changedPlaces(
  positions: Positions,
  told: Positions,
  self: Uint8Array,
): { changed: SenderLink[]; told: Positions } {
  const changed: SenderLink[] = [];
  const toldNow = new Map(told);
  const own = idText(self);
  for (const [id, place] of positions) {
    if (changed.length === witnessedMax) break;
    if (id === own || place.seq === 0) continue;
    const before = told.get(id);
    if (before !== undefined && before.seq === place.seq && equalBytes(before.link, place.link)) {
      continue;
    }
    changed.push(senderLink(id, place));
    toldNow.set(id, place);
  }
  return { changed, told: toldNow };
}

/** Positions as messages carry them. */
export function senderLinks(positions: Positions): SenderLink[] {
  return Array.from(positions, ([id, place]) => senderLink(id, place));
}

/** Positions from messages. Throws HISTORY_ALTERED where one is not a place. */
export function positionsOf(links: readonly SenderLink[]): Positions {
  const positions = new Map<string, ChainPlace>();
  for (const { deviceId, seq, link } of links) {
    const number = safeNumber(seq, 0);
    if (
      number === undefined ||
      deviceId.byteLength !== deviceIdBytes ||
      link.byteLength !== zeroLink.byteLength
    ) {
      throw altered();
    }
    positions.set(idText(deviceId), { seq: number, link });
  }
  return positions;
}

function senderLink(id: string, place: ChainPlace): SenderLink {
  const deviceId = parseId(id, deviceIdBytes);
  if (deviceId === undefined) throw new RangeError("positions are keyed by device ids");
  return create(SenderLinkSchema, { deviceId, seq: BigInt(place.seq), link: place.link });
}
