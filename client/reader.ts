/**
 * Reads the log: pulls from the stored read cursor, takes what is delivered, verifies it window by
 * window, and stores what becomes entries together with the new read cursor, in one transaction.
 *
 *     Blobs, Deliver ──▶ dense and ascending? ──▶ verified? ──▶ opens? ──▶ stored ──▶ inbox
 *
 * A page is handled as a whole: no promise and no transaction per entry. The relay may send as much
 * as the window allows, and the window grows by what was stored, as long as the app keeps up.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type Entry as EntryMessage, EntrySchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import type { Blobs, Deliver, StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { BlobSchema, StoredBlobSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import type { GroupWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { emptyBytes, equalBytes } from "../wire/bytes.ts";
import { encodeEnvelope, toNumber } from "../wire/envelope.ts";
import { ErrorCode, errorOfMessage, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { blobLink, deviceIdBytes, idText, parseId } from "../wire/ids.ts";
import { windowBlobsMax, windowBytesMax } from "../wire/limits.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core, Finding } from "./core.ts";
import { decodeOwn, type LogPlace } from "./disk.ts";
import { encodePage, type Inbox, type InboxItem } from "./inbox.ts";
import { LinkMemory } from "./link-memory.ts";
import type { Refusal, Refusals } from "./refusals.ts";
import { type ChainPlace, decodeEntry, type OwnBlob, openBody } from "./seal/blob.ts";
import { type Verdict, verifyWindow } from "./seal/history.ts";
import type { WitnessClaims } from "./seal/witness.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";

/** What the relay may send before it waits: at most, at least, and for each entry the app lets wait. */
const pullWindowBytesMax = 4 * 1024 * 1024;
const pullWindowBytesMin = 64 * 1024;
const pullWindowBytesPerEntry = 512;

/** A page as it came, in order, dense. */
interface ReceivedPage {
  readonly blobs: readonly StoredBlob[];
  /** The own blobs among them that came without their bodies, by cursor. */
  readonly own: ReadonlyMap<number, OwnBlob>;
  readonly through: number;
  readonly bytes: number;
  readonly session: Connection;
}

/** What a window came to. */
interface Judged {
  readonly items: InboxItem[];
  readonly senders: Map<string, ChainPlace>;
  readonly refusals: Refusal[];
  readonly explained: number[];
  /** Own blobs whose bodies were read. */
  readonly ownRead: OwnBlob[];
  /** What is wrong beside the blobs themselves. */
  readonly claims: Finding[];
}

/** What else moves with a page. */
export interface ReaderHooks {
  /** The group's chain may be behind: pulls control blobs, where that can help. */
  refreshGroup(): Promise<void>;
  /** Whether the own blob of a seq is not kept here, or may be another one. */
  wantsOwn(seq: number): boolean;
  /** Own blobs were read, in the transaction that stores them. */
  ownRead(tx: StateTransaction, own: readonly OwnBlob[]): Promise<void>;
  /** An own blob, delivered without its body, stands in the log. */
  ownStored(seq: number, cursor: number): void;
  /** A page is stored, or the head was reached. */
  stored(): void;
}

export class Reader {
  readonly #core: Core;
  readonly #inbox: Inbox;
  readonly #refusals: Refusals;
  readonly #hooks: ReaderHooks;
  readonly #windowBytes: number;
  readonly #links = new LinkMemory();
  #session: Connection | undefined;
  /** The pull up to the head that is under way. */
  #pullId: number | undefined;
  /** Everything up to here has come on this session, stored or not. */
  #received = 0;
  /** Blobs were left out since then: a pull must bring them. */
  #behind = false;
  /** Window that is owed to the relay while the inbox is full. */
  #owedBytes = 0;
  #queue: ReceivedPage[] = [];
  #working = false;
  /** Bounded reads wait for one another and for the pull up to the head. */
  #bounded: Promise<unknown> = Promise.resolve();
  #boundedUnderWay = false;
  #last: Promise<unknown> = Promise.resolve();
  /** Whether this session was asked for what is refused. */
  #repaired = false;

  constructor(
    core: Core,
    inbox: Inbox,
    refusals: Refusals,
    entriesBuffered: number,
    hooks: ReaderHooks,
  ) {
    this.#windowBytes = Math.min(
      pullWindowBytesMax,
      Math.max(pullWindowBytesMin, entriesBuffered * pullWindowBytesPerEntry),
    );
    this.#core = core;
    this.#inbox = inbox;
    this.#refusals = refusals;
    this.#hooks = hooks;
    inbox.drained = () => this.#drained();
    inbox.firstRefused = () => refusals.first;
  }

  /** Whether everything up to the head is read and stored, on a session that is there. */
  get caughtUp(): boolean {
    return (
      this.#session !== undefined &&
      this.#pullId === undefined &&
      !this.#behind &&
      this.#queue.length === 0 &&
      !this.#working &&
      this.#core.head !== undefined &&
      this.#core.log.read >= this.#core.head
    );
  }

  /** The last of what was received, once everything before it was taken. */
  #order: Promise<void> = Promise.resolve();
  /** How often reading went back: what was delivered before that is pulled again. */
  #rewinds = 0;

  /** A session stands, its log is the one of the read cursor, and the chain is read: begins. */
  begin(session: Connection, welcome: GroupWelcome): void {
    this.#session = session;
    this.#received = this.#core.log.read;
    this.#queue = [];
    this.#owedBytes = 0;
    this.#behind = false;
    this.#pullId = undefined;
    this.#boundedUnderWay = false;
    this.#repaired = false;
    this.#core.head = toNumber(welcome.head);
    const floor = toNumber(welcome.floor);
    if (floor > this.#received) {
      this.#core.events.emit("gap", { from: this.#received + 1, through: floor });
    }
    this.#pull();
  }

  end(): void {
    this.#session = undefined;
    this.#pullId = undefined;
    this.#boundedUnderWay = false;
    this.#queue = [];
    this.#inbox.wake();
  }

  /** `Deliver`, `Notify`: what the relay says by itself. */
  deliver(session: Connection, deliver: Deliver): void {
    if (session !== this.#session) return;
    const after = toNumber(deliver.after);
    const through = toNumber(deliver.through);
    this.#core.head = Math.max(this.#core.head ?? 0, through);
    // A pull up to the head brings these too; what was sent before the relay read it comes here.
    if (this.#pullId !== undefined) return;
    if (through <= this.#received) return;
    if (after !== this.#received || this.#inbox.full) {
      this.#fallBehind();
      return;
    }
    // Counted at once, so that the next one joins on; taken in order, though own blobs wait for the disk.
    this.#received = through;
    const rewinds = this.#rewinds;
    this.#inOrder(session, () =>
      rewinds === this.#rewinds
        ? this.#takeDelivered(session, deliver, after, through)
        : Promise.resolve(),
    );
  }

  /** What came on a session is taken in the order it came in, also where an earlier part waits for the disk. */
  #inOrder(session: Connection, take: () => Promise<void>): void {
    this.#order = this.#order
      .then(() => (session === this.#session ? take() : undefined))
      .catch((error: unknown) => this.#failed(error));
  }

  notify(head: number): void {
    if (this.#session === undefined) return;
    this.#core.head = Math.max(this.#core.head ?? 0, head);
    if (head > this.#received && this.#pullId === undefined) this.#fallBehind();
    this.#core.moved();
  }

  /**
   * Reads a part of the log once more, window by window, for `history` and for repairs. Moves
   * nothing. Rejects where the session ends meanwhile.
   */
  async *again(after: number, until: number): AsyncGenerator<readonly StoredBlob[]> {
    let from = after;
    while (from < until) {
      const blobs = await this.#readBounded(from, until);
      if (blobs.length === 0) return;
      from = toNumber((blobs.at(-1) as StoredBlob).cursor);
      yield blobs;
    }
  }

  /** Resolves once everything up to the head of now is stored; stops waiting where `stop` says so. */
  async untilCaughtUp(stop: () => boolean): Promise<void> {
    while (!this.caughtUp && !stop()) await this.#inbox.changed();
  }

  /** One bounded pull, of at most one window. */
  #readBounded(after: number, until: number): Promise<readonly StoredBlob[]> {
    const result = this.#bounded.then(async () => {
      await this.untilCaughtUp(() => this.#session === undefined || this.#inbox.full);
      const session = this.#session;
      if (session === undefined || this.#pullId !== undefined) {
        throw new SyncError(ErrorCode.CONNECTION_LOST);
      }
      this.#boundedUnderWay = true;
      try {
        return await pullOnce(session, after, Math.min(until, after + windowBlobsMax));
      } finally {
        this.#boundedUnderWay = false;
        if (this.#behind && session === this.#session) this.#pull();
      }
    });
    this.#bounded = result.catch(() => undefined);
    return result;
  }

  /** Own blobs come without their bodies: they stand here already, unless this device lost state. */
  async #takeDelivered(
    session: Connection,
    deliver: Deliver,
    after: number,
    through: number,
  ): Promise<void> {
    const own = new Map<number, OwnBlob>();
    const blobs = [...deliver.blobs];
    if (deliver.own.length > 0) {
      const kept = await this.#keptOwn(deliver);
      if (session !== this.#session) return;
      for (const { cursor, seq, link } of deliver.own) {
        const blob = kept.get(toNumber(seq));
        if (blob === undefined || !equalBytes(blob.link, link)) {
          // Written by a state that this device lost: a pull brings it whole.
          this.#received = after;
          this.#rewinds += 1;
          this.#queue = this.#queue.filter((page) => page.through <= after);
          this.#fallBehind();
          return;
        }
        own.set(toNumber(cursor), blob);
        this.#hooks.ownStored(blob.seq, toNumber(cursor));
        blobs.push(ownStored(this.#core.keys.deviceId, toNumber(cursor), blob));
      }
      blobs.sort((a, b) => Number(a.cursor - b.cursor));
    }
    checkDense(blobs, after, through);
    this.#take({ blobs, own, through, bytes: bytesOf(blobs), session });
  }

  #keptOwn(deliver: Deliver): Promise<Map<number, OwnBlob>> {
    const seqs = deliver.own.map((own) => toNumber(own.seq));
    return this.#core.disk.write(async (tx) => {
      const kept = new Map<number, OwnBlob>();
      const first = Math.min(...seqs);
      // As many as were named, whatever the numbers say.
      for (const row of await tx.range("own", first, undefined, seqs.length)) {
        kept.set(row.key, decodeOwn(row.value));
      }
      return kept;
    });
  }

  #fallBehind(): void {
    this.#behind = true;
    if (!this.#inbox.full && !this.#boundedUnderWay) this.#pull();
  }

  #drained(): void {
    if (this.#inbox.full || this.#session === undefined) return;
    if (this.#pullId !== undefined && this.#owedBytes > 0) this.#extend(0);
    else if (this.#behind && this.#pullId === undefined && !this.#boundedUnderWay) this.#pull();
  }

  #pull(): void {
    const session = this.#session;
    if (session === undefined || this.#pullId !== undefined) return;
    const id = session.nextId();
    this.#pullId = id;
    this.#behind = false;
    this.#owedBytes = 0;
    session.post(
      id,
      encodeEnvelope(id, {
        case: "pull",
        value: { after: BigInt(this.#received), windowBytes: this.#windowBytes },
      }),
      {
        patient: true,
        take: (body) => this.#page(session, id, body),
        // The session's end is told to whoever drives it.
        lost: () => undefined,
      },
    );
  }

  /** One answer to the pull under way; true where more follow. */
  #page(session: Connection, id: number, body: ReceivedBody): boolean {
    if (session !== this.#session || id !== this.#pullId) return false;
    if (body.case === "error") {
      this.#pullId = undefined;
      this.#behind = true;
      this.#retryPull(session, errorOfMessage(body.value));
      return false;
    }
    if (body.case !== "blobs") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    const page: Blobs = body.value;
    const after = toNumber(page.after);
    const through = toNumber(page.through);
    if (after !== this.#received) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    // Nothing and more to come would go on for ever.
    if (through === after && !page.done) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    checkDense(page.blobs, after, through);
    const head = toNumber(page.head);
    this.#core.head = Math.max(this.#core.head ?? 0, head);
    this.#received = through;
    if (page.done) {
      // Where the relay says that all is there, all is there.
      if (through < head) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      this.#pullId = undefined;
    }
    const bytes = bytesOf(page.blobs);
    this.#inOrder(session, async () =>
      this.#take({ blobs: page.blobs, own: noOwn, through, bytes, session }),
    );
    return !page.done;
  }

  #retryPull(session: Connection, error: SyncError): void {
    const waitMs = Math.max(error.retryAfterMs, 1_000);
    this.#core.host.setTimer(waitMs, () => {
      if (session === this.#session && this.#behind && !this.#boundedUnderWay) this.#pull();
    });
  }

  /** Opens the relay's window further by what was stored, unless the app is behind. */
  #extend(storedBytes: number): void {
    this.#owedBytes += storedBytes;
    const id = this.#pullId;
    if (id === undefined || this.#inbox.full || this.#owedBytes === 0) return;
    const windowBytes = this.#owedBytes;
    this.#owedBytes = 0;
    this.#session?.add(encodeEnvelope(id, { case: "pullMore", value: { windowBytes } }));
  }

  #take(page: ReceivedPage): void {
    this.#queue.push(page);
    if (!this.#working) this.#work().catch((error: unknown) => this.#failed(error));
  }

  /** What is queued, as windows of several pages. */
  async #work(): Promise<void> {
    this.#working = true;
    try {
      for (let window = this.#nextWindow(); window !== undefined; window = this.#nextWindow()) {
        await this.#store(window);
      }
    } finally {
      this.#working = false;
      this.#inbox.wake();
      this.#hooks.stored();
      this.#core.moved();
    }
  }

  #nextWindow(): ReceivedPage | undefined {
    const first = this.#queue.shift();
    if (first === undefined) return undefined;
    let { bytes, through } = first;
    const blobs = [...first.blobs];
    const own = new Map(first.own);
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (blobs.length + next.blobs.length > windowBlobsMax) break;
      if (bytes + next.bytes > windowBytesMax) break;
      this.#queue.shift();
      blobs.push(...next.blobs);
      for (const [cursor, blob] of next.own) own.set(cursor, blob);
      bytes += next.bytes;
      through = next.through;
    }
    return { blobs, own, through, bytes, session: first.session };
  }

  async #store(window: ReceivedPage): Promise<void> {
    const core = this.#core;
    if (window.blobs.length === 0) {
      this.#extend(window.bytes);
      this.#reachedHead();
      return;
    }
    if (this.#mayLackControl(window)) await this.#hooks.refreshGroup();
    const last = window.blobs.at(-1) as StoredBlob;
    const judged = await this.#alone(async () => {
      if (window.session !== this.#session) return undefined;
      const judgement = this.#judge(window, this.#refusals.holding);
      await this.#keep(judgement, window.through, {
        read: window.through,
        link: linkOf(last, core.groupId),
      });
      return judgement;
    });
    if (judged === undefined) return;
    for (const { finding } of judged.refusals) if (finding !== undefined) core.found(finding);
    for (const finding of judged.claims) core.found(finding);
    this.#extend(window.bytes);
    this.#reachedHead();
  }

  /** Writes what a window came to, and where that leaves the log, in one transaction. */
  async #keep(
    judged: Judged,
    through: number,
    read: Pick<LogPlace, "read" | "link">,
  ): Promise<void> {
    const core = this.#core;
    const before = core.log;
    const first = before.position + 1;
    const log: LogPlace = {
      logId: before.logId,
      read: read.read,
      link: read.link,
      position: before.position + judged.items.length,
      senders: judged.senders,
    };
    await core.disk.write(
      async (tx) => {
        if (judged.items.length > 0) {
          tx.put("inbox", first, encodePage(first, judged.items, through));
        }
        const refused = this.#refusals.write(tx, judged.refusals, judged.explained);
        if (judged.ownRead.length > 0) await this.#hooks.ownRead(tx, judged.ownRead);
        return { app: this.#inbox.write(tx, log), refused };
      },
      (written) => {
        core.log = log;
        written.refused();
        this.#inbox.add(first, judged.items, through);
        written.app();
      },
    );
  }

  /**
   * Asks once a session for what was refused: where the relay shows it intact now, it is taken, and
   * what waited behind it.
   */
  async #repair(): Promise<void> {
    const session = this.#session;
    const [first, last] = [this.#refusals.first, this.#refusals.last];
    if (session === undefined || first === undefined || last === undefined) return;
    for await (const blobs of this.again(first - 1, last)) {
      await this.#alone(async () => {
        const candidates = blobs.filter(({ cursor }) => this.#refusals.has(cursor));
        if (session !== this.#session || candidates.length === 0) return;
        const through = toNumber((candidates.at(-1) as StoredBlob).cursor);
        const window = { blobs: candidates, own: noOwn, through, bytes: 0, session };
        const judged = this.#judge(window, new Set());
        for (const { stored } of judged.items) judged.explained.push(Number(stored.cursor));
        // What is still wrong was told when it was found.
        judged.refusals.length = 0;
        if (judged.items.length > 0) await this.#keep(judged, through, this.#core.log);
      });
    }
  }

  /** Verifying and keeping go together: nothing else is kept in between. */
  #alone<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** At the head, what is still missing without a reason is withheld. */
  #reachedHead(): void {
    if (this.#queue.length > 0 || this.#pullId !== undefined || this.#behind) return;
    this.#refusals.atHead();
    if (this.#repaired || this.#refusals.count === 0) return;
    this.#repaired = true;
    this.#repair().catch((error: unknown) => this.#failed(error));
  }

  /** Whether a window holds what only a newer control chain explains. */
  #mayLackControl(window: ReceivedPage): boolean {
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
  #judge(window: ReceivedPage, holding: ReadonlySet<string>): Judged {
    const core = this.#core;
    const chain = core.chain;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const { verdicts, positions } = verifyWindow(window.blobs, {
      groupId: core.groupId,
      roster: chain.devices,
      positions: core.log.senders,
      holding,
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
          if (verdict.claim === "none" || verdict.claim === "deleted") {
            judged.refusals.push({ stored: verdict.stored, code: ErrorCode.UNSPECIFIED });
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
          judged.refusals.push(held(verdict.stored));
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
    const missing = this.#refusals.missingHeader(stored.cursor);
    if (missing === undefined) return false;
    const { blob, sender } = stored;
    if (blob === undefined || blob.body.byteLength === 0 || !equalBytes(blob.header, missing)) {
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
      if (sender === core.deviceText && this.#hooks.wantsOwn(header.seq)) {
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
        const finding = this.compare(judged.senders, sender, { seq: Number(seq), link });
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
    // A device that is behind cannot tell, and what it reads meanwhile tells it.
    if (!this.caughtUp || !equalBytes(claims.logId, this.#core.log.logId)) return;
    for (const [sender, place] of claims.positions) {
      if (this.#refusals.holding.has(sender)) continue;
      const kind = this.compare(this.#core.log.senders, sender, place);
      if (kind !== FindingKind.FORKED) continue;
      const deviceId = parseId(sender, deviceIdBytes);
      this.#core.found({
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
  compare(
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

  /** What went wrong while a page was taken ends the session, which begins again from what is stored. */
  #failed(error: unknown): void {
    if (error instanceof SyncError) {
      this.#session?.close(error);
    } else if (error instanceof StateStoreError) {
      this.#core.failed(error);
      this.#session?.close(new SyncError(ErrorCode.CONNECTION_LOST, { cause: error }));
    } else {
      throw error;
    }
  }
}

function linkOf(stored: StoredBlob, groupId: Uint8Array): Uint8Array {
  const { blob, sender } = stored;
  if (blob === undefined) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  return blobLink(groupId, sender, blob.blobId, blob.header);
}

const noOwn: ReadonlyMap<number, OwnBlob> = new Map();

/** Everything live in (after, through] is there, in order: above the floor cursors have no holes. */
function checkDense(blobs: readonly StoredBlob[], after: number, through: number): void {
  if (through - after !== blobs.length) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  let cursor = BigInt(after);
  for (const blob of blobs) {
    cursor += 1n;
    if (blob.cursor !== cursor) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
}

/** What blobs take in a page, as the relay counts them against the window: encoded, and a little for the page. */
function bytesOf(blobs: readonly StoredBlob[]): number {
  let bytes = pageOverheadBytes;
  for (const stored of blobs) {
    const { blob } = stored;
    if (blob === undefined) continue;
    const inner =
      fieldBytes(blob.blobId.byteLength) +
      fieldBytes(blob.header.byteLength) +
      fieldBytes(blob.signature.byteLength) +
      fieldBytes(blob.body.byteLength) +
      numberBytes;
    bytes += fieldBytes(fieldBytes(inner) + fieldBytes(stored.sender.byteLength) + 2 * numberBytes);
  }
  return bytes;
}

/** A length-delimited field (protobuf encoding). */
function fieldBytes(length: number): number {
  return length < 128 ? length + 2 : length < 16_384 ? length + 3 : length + 4;
}

/** A tag and a small number. Counting a byte too many costs nothing; one too few closes the window in time. */
const numberBytes = 4;
const pageOverheadBytes = 64;

/** An own blob at its place, as if it had come whole: its body stands for the entry itself. */
function ownStored(self: Uint8Array, cursor: number, own: OwnBlob): StoredBlob {
  return create(StoredBlobSchema, {
    cursor: BigInt(cursor),
    sender: self,
    blob: create(BlobSchema, {
      blobId: own.blobId,
      header: own.header,
      signature: own.signature,
      epoch: 1n,
      body: own.entry,
    }),
  });
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

/** One bounded pull, whole. */
function pullOnce(
  session: Connection,
  after: number,
  until: number,
): Promise<readonly StoredBlob[]> {
  return new Promise((resolve, reject) => {
    const id = session.nextId();
    const blobs: StoredBlob[] = [];
    let from = after;
    let bytes = 0;
    session.post(
      id,
      encodeEnvelope(id, {
        case: "pull",
        value: { after: BigInt(after), until: BigInt(until), windowBytes: windowBytesMax },
      }),
      {
        patient: true,
        lost: reject,
        take: (body) => {
          if (body.case === "error") {
            reject(errorOfMessage(body.value));
            return false;
          }
          if (body.case !== "blobs") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
          const page = body.value;
          const through = toNumber(page.through);
          if (
            toNumber(page.after) !== from ||
            through > until ||
            (through === from && !page.done)
          ) {
            throw new SyncError(ErrorCode.ENVELOPE_INVALID);
          }
          checkDense(page.blobs, from, through);
          blobs.push(...page.blobs);
          from = through;
          bytes += bytesOf(page.blobs);
          // As much as one window of verification holds; the next pull goes on from there.
          const enough = page.done || bytes >= windowBytesMax;
          if (enough) resolve(blobs);
          return !enough;
        },
      },
    );
  });
}
