/**
 * Judges windows of the log: verifies what senders signed, opens it, and says what became an entry,
 * what waits, and what is wrong. Writes nothing.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type Entry as EntryMessage, EntrySchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { BlobSchema, type StoredBlob, StoredBlobSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes, equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { deviceIdBytes, idText, parseId } from "../wire/ids.ts";
import type { Core, Finding } from "./core.ts";
import type { Inbox, InboxItem } from "./inbox.ts";
import { LinkMemory } from "./link-memory.ts";
import type { ReceivedPage } from "./pages.ts";
import type { Refusal, Refusals } from "./refusals.ts";
import { type ChainPlace, decodeEntry, type OwnBlob, openBody } from "./seal/blob.ts";
import { type ClosingLinks, dropClaim, type Verdict, verifyWindow } from "./seal/history.ts";
import type { WitnessClaims } from "./seal/witness.ts";

/** What a window came to. */
export interface Judged {
  readonly items: InboxItem[];
  readonly senders: Map<string, ChainPlace>;
  readonly refusals: Refusal[];
  readonly explained: number[];
  /** Own blobs whose bodies were read. */
  readonly ownRead: OwnBlob[];
  /** What is wrong beside the blobs themselves. */
  readonly claims: Finding[];
}

export class Judge {
  readonly #core: Core;
  readonly #inbox: Inbox;
  readonly #refusals: Refusals;
  /** Whether the own blob of a seq is not kept here, or may be another one. */
  readonly #wantsOwn: (seq: number) => boolean;
  readonly #links = new LinkMemory();

  constructor(core: Core, inbox: Inbox, refusals: Refusals, wantsOwn: (seq: number) => boolean) {
    this.#core = core;
    this.#inbox = inbox;
    this.#refusals = refusals;
    this.#wantsOwn = wantsOwn;
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

  /** Verifies a window and opens what is right in it. */
  judge(
    window: ReceivedPage,
    holding: ReadonlySet<string>,
    proven: ReadonlyMap<string, ClosingLinks> = new Map(),
  ): Judged {
    const core = this.#core;
    const chain = core.chain;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const { verdicts, positions } = verifyWindow(window.blobs, {
      groupId: core.groupId,
      roster: chain.devices,
      positions: core.log.senders,
      holding,
      proven,
    });
    const judged: Judged = {
      items: [],
      senders: new Map(positions),
      refusals: [],
      explained: [],
      ownRead: [],
      claims: [],
    };
    // Senders whose chain was right and a body was not: the rest of theirs waits behind it.
    const broken = new Set<string>();
    for (const [at, verdict] of verdicts.entries()) {
      switch (verdict.kind) {
        case "entry": {
          const sender = this.#inbox.senderText(verdict.stored.sender);
          if (broken.has(sender)) {
            judged.refusals.push(held(verdict.stored));
            break;
          }
          try {
            this.#accept(verdict, sender, window, judged);
          } catch (error) {
            if (!(error instanceof SyncError)) throw error;
            broken.add(sender);
            judged.refusals.push(
              refusal(verdict.stored, error, FindingKind.ALTERED, verdict.place.seq),
            );
            goBack(judged.senders, sender, verdicts.slice(0, at), core.log.senders);
          }
          break;
        }
        case "dropped": {
          const sender = this.#inbox.senderText(verdict.stored.sender);
          if (broken.has(sender)) {
            judged.refusals.push(held(verdict.stored));
            break;
          }
          this.#links.add(sender, verdict.place);
          // Only a lifetime that its sender signed needs no other proof. No snapshot is known here, so
          // that nothing is trimmed; a delete must be found.
          if (verdict.claim !== "expired") {
            judged.refusals.push({ stored: verdict.stored, code: ErrorCode.UNSPECIFIED });
          } else {
            judged.explained.push(Number(verdict.stored.cursor));
          }
          this.#explain(verdict.header.deletes, judged);
          break;
        }
        case "known": {
          if (this.#mendBody(verdict, window, judged)) break;
          const sender = this.#inbox.senderText(verdict.stored.sender);
          const reread = core.known.get(sender)?.seq ?? 0;
          if (verdict.header.seq > reread) {
            const error = new SyncError(ErrorCode.HISTORY_ALTERED);
            judged.claims.push(
              findingOf(verdict.stored, error, FindingKind.REPLAYED, verdict.header.seq),
            );
          }
          break;
        }
        case "held":
          if (verdict.until === "closing") {
            // Its places were not shown as a whole: nothing is compared with them.
            broken.add(this.#inbox.senderText(verdict.stored.sender));
            judged.refusals.push(held(withoutBody(verdict.stored)));
          } else {
            judged.refusals.push(held(verdict.stored));
          }
          break;
        case "refused":
          judged.refusals.push(
            refusal(verdict.stored, new SyncError(verdict.code), verdict.finding),
          );
          break;
      }
    }
    this.#compareWitnesses(judged, broken);
    return judged;
  }

  /** A body that was missing is there now, behind the header that was verified then. */
  #mendBody(
    verdict: Extract<Verdict, { kind: "known" }>,
    window: ReceivedPage,
    judged: Judged,
  ): boolean {
    const { stored, header, link } = verdict;
    const missing = this.#refusals.missingLink(stored.cursor);
    if (missing === undefined) return false;
    const { blob, sender, bodyState } = stored;
    if (blob === undefined || !equalBytes(link, missing)) return true;
    if (blob.body.byteLength === 0) {
      if (dropClaim(bodyState, header) === "expired") judged.explained.push(Number(stored.cursor));
      return true;
    }
    try {
      const place = { seq: header.seq, link };
      const text = this.#inbox.senderText(sender);
      this.#accept({ kind: "entry", stored, header, place }, text, window, judged);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      // It stays missing.
    }
    return true;
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
      opened = openBody(blob, header, { groupId: core.groupId, sender: stored.sender, bodyKey });
      judged.items.push({ stored, seq: header.seq, opened });
      if (sender === core.deviceText && this.#wantsOwn(header.seq)) {
        const own = ownOf(stored, place, opened, header.entryHash);
        if (own !== undefined) judged.ownRead.push(own);
      }
    } else {
      opened = decodeEntry(delivered.entry);
      judged.items.push({
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
    this.#links.add(sender, place);
    if (header.deletes.length > 0) this.#explain(header.deletes, judged);
  }

  /** A header that names blobs as deleted explains that their bodies are missing. */
  #explain(deletes: readonly Uint8Array[], judged: Judged): void {
    for (const blobId of deletes) {
      const cursor = this.#refusals.missing(blobId);
      if (cursor !== undefined) judged.explained.push(cursor);
      const at = judged.refusals.findIndex(
        ({ code, stored }) =>
          code === ErrorCode.UNSPECIFIED && equalBytes(stored.blob?.blobId ?? emptyBytes, blobId),
      );
      if (at >= 0) judged.refusals.splice(at, 1);
    }
  }

  /**
   * What senders say they had seen of others: this device was shown the same, or somebody was shown
   * something else. After a restore of the relay what is missing may still be pushed again.
   */
  #compareWitnesses(judged: Judged, broken: ReadonlySet<string>): void {
    for (const { stored, opened } of judged.items) {
      if (opened === undefined || opened.witnessed.length === 0) continue;
      for (const { deviceId, seq, link } of opened.witnessed) {
        const sender = this.#inbox.senderText(deviceId);
        if (broken.has(sender) || this.#refusals.holding.has(sender)) continue;
        const finding = this.#compare(judged.senders, sender, { seq: Number(seq), link });
        if (finding === undefined) continue;
        const error = new SyncError(ErrorCode.HISTORY_ALTERED);
        judged.claims.push({
          kind: finding,
          error,
          sender: deviceId,
          seq: Number(seq),
          cursor: Number(stored.cursor),
        });
      }
    }
  }

  /** Another device's sealed witness: was it shown the same history? */
  compareWitness(witness: string, claims: WitnessClaims): void {
    if (!equalBytes(claims.logId, this.#core.log.logId)) return;
    for (const [sender, place] of claims.positions) {
      if (this.#refusals.holding.has(sender)) continue;
      const kind = this.#compare(this.#core.log.senders, sender, place);
      if (kind !== FindingKind.FORKED) continue;
      const deviceId = parseId(sender, deviceIdBytes);
      this.#core.findings.found({
        kind,
        error: new SyncError(ErrorCode.HISTORY_ALTERED, {
          hint: `device ${witness} was shown another history`,
        }),
        ...(deviceId === undefined ? {} : { sender: deviceId }),
        seq: place.seq,
      });
    }
  }

  /** A link that was read, where it is still known. */
  linkOf(sender: string, seq: number): Uint8Array | undefined {
    return this.#links.get(sender, seq);
  }

  /** What it means that another device verified a place; undefined: nothing speaks against it. */
  #compare(
    senders: ReadonlyMap<string, ChainPlace>,
    sender: string,
    seen: ChainPlace,
  ): FindingKind | undefined {
    const place = senders.get(sender);
    if (place === undefined || place.seq < seen.seq) {
      return this.#core.known.size > 0 ? undefined : FindingKind.DROPPED;
    }
    const link = place.seq === seen.seq ? place.link : this.#links.get(sender, seen.seq);
    return link === undefined || equalBytes(link, seen.link) ? undefined : FindingKind.FORKED;
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

/** What waits for its closing may be long, and is read again: its chain is enough until then. */
function withoutBody({ cursor, sender, blob }: StoredBlob): StoredBlob {
  return create(StoredBlobSchema, {
    cursor,
    sender,
    blob: create(BlobSchema, {
      blobId: blob?.blobId ?? emptyBytes,
      header: blob?.header ?? emptyBytes,
      signature: blob?.signature ?? emptyBytes,
    }),
  });
}

function held(stored: StoredBlob): Refusal {
  return { stored, code: ErrorCode.HISTORY_ALTERED };
}

function refusal(stored: StoredBlob, error: SyncError, kind: FindingKind, seq?: number): Refusal {
  return { stored, code: error.code, finding: findingOf(stored, error, kind, seq) };
}

function findingOf(
  stored: StoredBlob,
  error: SyncError,
  kind: FindingKind,
  seq: number | undefined,
): Finding {
  return {
    kind,
    error,
    sender: stored.sender,
    cursor: Number(stored.cursor),
    ...(seq === undefined ? {} : { seq }),
  };
}
