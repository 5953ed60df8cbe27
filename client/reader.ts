/**
 * Reads the log: pulls from the stored read cursor, takes what is delivered, verifies it window by
 * window, and stores what becomes entries together with the new read cursor, in one transaction.
 *
 *     Blobs, Deliver ──▶ dense and ascending? ──▶ verified? ──▶ opens? ──▶ stored ──▶ inbox
 *
 * A page is handled as a whole: no promise and no transaction per entry. The relay may send as much
 * as the window allows, and the window grows by what was stored, as long as the app keeps up.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type { SenderLink } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import type { Blobs, Deliver, StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import type { GroupWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import type { Snapshot } from "../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { encodeEnvelope, toNumber } from "../wire/envelope.ts";
import { ErrorCode, errorOfMessage, SyncError } from "../wire/errors.ts";
import { zeroLink } from "../wire/ids.ts";
import {
  windowBlobsMax,
  windowBytesMax,
  pullWindowBytesMax as windowHeldBytesMax,
} from "../wire/limits.ts";
import type { Comparing } from "./claims.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import { decodeOwn, type LogPlace } from "./disk.ts";
import { madeGood } from "./healing.ts";
import { keepHistory, keepRead, settleClaims } from "./history-keeping.ts";
import { encodePage, type Inbox } from "./inbox.ts";
import { Judge, type Judged } from "./judge.ts";
import {
  bytesOf,
  checkDense,
  leastBytesOf,
  linkOf,
  noOwn,
  ownStored,
  pullOnce,
  type ReceivedPage,
  splitPage,
} from "./pages.ts";
import type { Refusals } from "./refusals.ts";
import type { OwnBlob } from "./seal/blob.ts";
import { branchLinks, type ClosingLinks, closingLinks } from "./seal/history.ts";
import type { RosterDevice } from "./seal/membership.ts";
import { Slice } from "./slice.ts";
import { replacedBy } from "./snapshot-exchange.ts";
import { healedBy } from "./snapshot-healing.ts";
import type { Taken } from "./snapshot-taken.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";

/** What the relay may send before it waits: at most, at least, and for each entry the app lets wait. */
const pullWindowBytesMax = 4 * 1024 * 1024;
const pullWindowBytesMin = 64 * 1024;
const pullWindowBytesPerEntry = 512;
/** What is remembered of what others say of this device's own chain. */
const ofOwnMax = 16;

/** What else moves with a page. */
export interface ReaderHooks {
  /** The group's chain may be behind: pulls control blobs, where that can help. */
  refreshGroup(): Promise<void>;
  /** Whether the own blob of a seq is not kept here, or may be another one. */
  wantsOwn(seq: number): boolean;
  /** Own blobs were read, in the transaction that stores them; what it returns takes that over. */
  ownRead(tx: StateTransaction, own: readonly OwnBlob[]): Promise<() => void>;
  /** An own blob, delivered without its body, stands in the log. */
  ownStored(seq: number, cursor: number): void;
  /** The relay shows a snapshot in place of the log's beginning: whether the app's state is that one now. */
  takeSnapshot(shown: Snapshot): Promise<boolean>;
  /** The head was reached: with what others say of this device's own chain, where it is another here. */
  atHead(ofOwn: readonly SenderLink[]): void;
  /** A page is stored, or the head was reached. */
  stored(): void;
}

export class Reader {
  readonly #core: Core;
  readonly #inbox: Inbox;
  readonly #refusals: Refusals;
  readonly #hooks: ReaderHooks;
  readonly #windowBytes: number;
  readonly #judge: Judge;
  readonly #slice: Slice;
  #session: Connection | undefined;
  /** The pull up to the head that is under way. */
  #pullId: number | undefined;
  /** Everything up to here has come on this session, stored or not. */
  #received = 0;
  /** Blobs were left out since then: a pull must bring them. */
  #behind = false;
  /** The head as it was told when the pull under way began. */
  #toldHead = 0;
  /** What the relay may send before it is asked for more. */
  #creditBytes = 0;
  /** Window that is owed to the relay while the inbox is full. */
  #owedBytes = 0;
  #queue: ReceivedPage[] = [];
  #working = false;
  /** Bounded reads wait for one another and for the pull up to the head. */
  #bounded: Promise<unknown> = Promise.resolve();
  #boundedUnderWay = false;
  #last: Promise<unknown> = Promise.resolve();
  /** The last of what was received, once everything before it was taken. */
  #order: Promise<void> = Promise.resolve();
  /** How often reading went back: what was delivered before that is pulled again. */
  #rewinds = 0;
  /** Whether this session was asked for what is refused. */
  #repaired = false;
  /** Removed devices whose held entries this session was asked for. */
  readonly #asked = new Set<string>();
  /** Removed devices whose entries are missing, as far as the app was told. */
  readonly #missing = new Set<string>();
  /** Pulls up to the head that were begun. */
  #pulls = 0;
  /** What others say of this device's own chain and is another one here. */
  readonly #ofOwn: SenderLink[] = [];
  /** The control chain that was known when the last pull began. */
  #pulledAt = 0;
  /** Everything up to here is replaced by a snapshot, by the relay's word. */
  #replacedThrough = 0;
  /** What replaces the log's beginning was not taken over: nothing behind it can be read. */
  #blocked = false;

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
    this.#slice = new Slice(core.host);
    this.#inbox = inbox;
    this.#refusals = refusals;
    this.#hooks = hooks;
    this.#judge = new Judge(core, inbox, refusals, (seq) => hooks.wantsOwn(seq));
    inbox.drained = () => this.#drained();
    inbox.firstRefused = () => refusals.first;
  }

  /** Whether everything up to the head is read and stored, on a session that is there. */
  get caughtUp(): boolean {
    return (
      this.#session !== undefined &&
      this.#pullId === undefined &&
      !this.#behind &&
      !this.#blocked &&
      this.#queue.length === 0 &&
      !this.#working &&
      this.#core.head !== undefined &&
      this.#core.log.read >= this.#core.head
    );
  }

  /** Resolves when nothing of an earlier session is being kept any more. */
  async settled(): Promise<void> {
    await this.#last;
  }

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
    this.#asked.clear();
    this.#core.head = toNumber(welcome.head);
    this.#blocked = false;
    this.#replacedThrough = toNumber(welcome.replacedThrough);
    this.#pull();
  }

  /** Everything up to here is replaced by the effective snapshot, by the relay's word. */
  get replacedThrough(): number {
    return this.#replacedThrough;
  }

  /** The relay has another effective snapshot. */
  replacedBy(through: number): void {
    if (through <= this.#replacedThrough) return;
    this.#replacedThrough = through;
    if (!this.#blocked || this.#session === undefined) return;
    // Perhaps one that can be taken over.
    this.#goBack();
  }

  /** Takes a snapshot over in place of what was read, and reads on behind it. */
  takeUp(session: Connection, shown: Snapshot): void {
    if (session !== this.#session) return;
    this.#inOrder(session, async () => this.#takeShown(session, shown));
  }

  /**
   * The app's state is that of a snapshot, or contains it: the log goes on behind it. What waited to
   * be applied, and what was refused, is in it, or is read again.
   */
  async replaced(taken: Taken): Promise<void> {
    const core = this.#core;
    await this.#alone(async () => {
      const before = core.log;
      const here = equalBytes(before.logId, taken.logId);
      const log: LogPlace = {
        ...before,
        ...(here ? { read: taken.cursor, link: taken.link } : {}),
        position: taken.position ?? before.position,
        senders: taken.senders ?? before.senders,
      };
      const at = { logId: taken.logId, cursor: taken.cursor, frontier: log.senders };
      await core.disk.write(
        async (tx) => {
          const refused = here ? this.#refusals.replaced(tx) : () => undefined;
          const found = await core.findings.heal(
            tx,
            (finding) => finding.kind === FindingKind.SNAPSHOT_FORGED || healedBy(finding, at),
          );
          const read = keepRead(tx, core, {
            before: before.senders,
            at: this.#judge.comparing(log.senders),
            here: core.changes.rereading.size === 0,
          });
          // Read before, or perhaps pushed again behind it: where the log changed, both are as they should be.
          const known =
            here && taken.senders && (taken.cursor < before.read || core.changes.active)
              ? core.changes.behindSnapshot(tx, taken.senders)
              : undefined;
          const app = this.#inbox.replaced(tx, log, taken.position !== undefined);
          return { refused, found, read, known, app };
        },
        ({ refused, found, read, known, app }) => {
          core.log = log;
          refused();
          found();
          read();
          known?.();
          app();
        },
      );
    });
    core.moved();
  }

  end(): void {
    this.#session = undefined;
    this.#pullId = undefined;
    this.#boundedUnderWay = false;
    this.#queue = [];
    this.#judge.ahead.clear();
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
      const last = blobs.at(-1);
      if (last !== undefined) {
        from = toNumber(last.cursor);
        yield blobs;
      } else if (from < this.#replacedThrough) {
        // Trimmed, as far as was asked: what stands behind it may be there.
        from += windowBlobsMax;
      } else {
        return;
      }
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
        const end = Math.min(until, after + windowBlobsMax);
        return await pullOnce(session, after, end, this.#replacedThrough);
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
    // Before anything is read from disk for it.
    const named = [...deliver.blobs, ...deliver.own].toSorted((a, b) =>
      Number(a.cursor - b.cursor),
    );
    if (named.length > windowBlobsMax) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    checkDense(named, after, through);
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
    this.#pulls += 1;
    this.#behind = false;
    this.#owedBytes = 0;
    this.#creditBytes = this.#windowBytes;
    this.#toldHead = this.#core.head ?? 0;
    this.#pulledAt = this.#core.chain?.version.count ?? 0;
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
    if (body.case === "snapshot") {
      const through = replacedBy(body.value);
      if (through <= this.#received) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      this.#received = through;
      this.#replacedThrough = Math.max(this.#replacedThrough, through);
      this.#inOrder(session, async () => this.#takeShown(session, body.value));
      return true;
    }
    if (body.case !== "blobs") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    // The window was closed by the page before; an honest relay waits for it to be opened.
    if (this.#creditBytes <= 0) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    const page: Blobs = body.value;
    this.#creditBytes -= leastBytesOf(page.blobs);
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
      // What was told before it was asked is there, or was made up.
      if (head < this.#toldHead) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      this.#pullId = undefined;
      // What was told since may have come too late for this pull.
      if (this.#core.head > through) this.#fallBehind();
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
    this.#creditBytes = Math.min(this.#creditBytes + windowBytes, windowHeldBytesMax);
    this.#session?.add(encodeEnvelope(id, { case: "pullMore", value: { windowBytes } }));
  }

  #takeShown(session: Connection, snapshot: Snapshot): void {
    const through = replacedBy(snapshot);
    this.#take({ blobs: [], own: noOwn, through, bytes: 0, session, snapshot });
  }

  /** What was received since is received again, from what is stored. */
  #goBack(): void {
    this.#blocked = false;
    this.#received = this.#core.log.read;
    this.#rewinds += 1;
    this.#queue = [];
    this.#pullId = undefined;
    this.#fallBehind();
  }

  #take(page: ReceivedPage): void {
    if (this.#blocked) return;
    this.#queue.push(page);
    if (page.own.size === 0) this.#judge.ahead.add(page.blobs);
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
    const blobsMax = this.#slice.blobs;
    if (first.blobs.length > blobsMax) {
      const [part, rest] = splitPage(first, blobsMax);
      this.#queue.unshift(rest);
      return part;
    }
    let { bytes, through } = first;
    const blobs = [...first.blobs];
    const own = new Map(first.own);
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      if (first.snapshot !== undefined || next.snapshot !== undefined) break;
      if (blobs.length + next.blobs.length > blobsMax) break;
      if (bytes + next.bytes > windowBytesMax) break;
      this.#queue.shift();
      blobs.push(...next.blobs);
      for (const [cursor, blob] of next.own) own.set(cursor, blob);
      bytes += next.bytes;
      through = next.through;
    }
    return { ...first, blobs, own, through, bytes };
  }

  async #store(window: ReceivedPage): Promise<void> {
    const core = this.#core;
    if (window.snapshot !== undefined) {
      await this.#storeSnapshot(window.snapshot, window);
      return;
    }
    if (window.blobs.length === 0) {
      this.#extend(window.bytes);
      this.#reachedHead();
      return;
    }
    if (this.#judge.mayLackControl(window)) await this.#hooks.refreshGroup();
    if (window.own.size === 0) await this.#judge.ahead.done(window.blobs);
    const last = window.blobs.at(-1) as StoredBlob;
    const judged = await this.#alone(async () => {
      if (window.session !== this.#session) return undefined;
      const judgement = this.#slice.time(window.blobs.length, () =>
        this.#judge.judge(window, { holding: this.#refusals.holding }),
      );
      if (this.#refusals.tooMany(judgement.refusals)) throw this.#flooded(judgement);
      await this.#keep(judgement, window.through, {
        read: window.through,
        link: linkOf(last, core.groupId),
      });
      return judgement;
    });
    if (judged === undefined) return;
    this.#heal();
    this.#extend(window.bytes);
    if (judged.restarts.size > 0) {
      this.#repair(new Map(), this.#branches(judged)).catch((error: unknown) =>
        this.#failed(error),
      );
    }
    this.#reachedHead();
  }

  async #storeSnapshot(shown: Snapshot, { session, through }: ReceivedPage): Promise<void> {
    const before = this.#core.log.read;
    const taken = await this.#hooks.takeSnapshot(shown);
    if (session !== this.#session) return;
    if (taken) {
      // What this device had read behind it is read once more.
      if (through < before) this.#goBack();
      else this.#reachedHead();
    } else if (through > before) {
      this.#blocked = true;
      this.#queue = [];
    }
  }

  /** No honest relay shows so many entries that do not hold: what is kept of them is bounded. */
  #flooded({ refusals }: Judged): SyncError {
    const error = new SyncError(ErrorCode.ENVELOPE_INVALID, {
      hint: "the relay shows ever more entries that cannot be applied",
    });
    const finding = refusals.findLast((refusal) => refusal.finding !== undefined)?.finding;
    if (finding !== undefined) this.#core.found({ ...finding, error });
    return error;
  }

  /**
   * Changes what is kept of the history, while nothing is being read; what the change lets go on is then
   * asked for again.
   */
  async alter(change: (tx: StateTransaction) => Promise<() => void>): Promise<void> {
    const core = this.#core;
    await this.#alone(() =>
      core.disk.write(
        async (tx) => {
          const changed = await change(tx);
          return { changed, app: this.#inbox.write(tx, core.log) };
        },
        ({ changed, app }) => {
          changed();
          app();
        },
      ),
    );
    core.moved();
    this.#repair(new Map()).catch((error: unknown) => {
      // Asked for again on the next session.
      if (!(error instanceof SyncError)) this.#failed(error);
    });
  }

  /** Marks what was found wrong, and what has been read since makes good. */
  #heal(): void {
    const { findings, log } = this.#core;
    if (findings.count === 0) return;
    const at = this.#judge.comparing(log.senders);
    findings.healed((finding) =>
      madeGood(finding, {
        at,
        logId: log.logId,
        refused: (cursor) => this.#refusals.has(BigInt(cursor)),
        closing: (sender) => this.#core.chain?.devices.get(sender)?.closing?.seq,
      }),
    );
  }

  /** What was refused of senders that have left a branch, and stands on the one they went on with. */
  #branches(judged: Judged): Map<string, ClosingLinks> {
    const { groupId } = this.#core;
    return new Map(
      [...judged.restarts].map(([sender, from]) => [
        sender,
        branchLinks(this.#refusals.of(sender), { groupId, from }),
      ]),
    );
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
        const refused = this.#refusals.write(tx, judged.refusals, [
          ...judged.explained,
          ...this.#passed(judged),
        ]);
        let firstRefused = Number.POSITIVE_INFINITY;
        for (const { stored } of judged.refusals) {
          firstRefused = Math.min(firstRefused, toNumber(stored.cursor));
        }
        const ownRead =
          judged.ownRead.length > 0 ? await this.#hooks.ownRead(tx, judged.ownRead) : undefined;
        const history = await keepHistory(tx, core, this.#judge, judged);
        return { app: this.#inbox.write(tx, log, firstRefused), refused, ownRead, history };
      },
      (written) => {
        core.log = log;
        written.refused();
        written.ownRead?.();
        this.#inbox.add(first, judged.items, through);
        written.app();
        written.history();
      },
    );
    for (const [sender, { from, through: to }] of judged.jumps) {
      core.events.emit("gap", { from, through: to, sender });
    }
    for (const gap of judged.unseen) core.events.emit("gap", gap);
    for (const { place } of judged.ofOwn) if (place !== undefined) this.#ofOwn.push(place);
    if (this.#ofOwn.length > ofOwnMax) this.#ofOwn.splice(0, this.#ofOwn.length - ofOwnMax);
  }

  /** What was refused of senders whose chains have gone on behind it, or that have given it up. */
  #passed(judged: Judged): number[] {
    const { groupId } = this.#core;
    const passed: number[] = [];
    for (const [sender, { through }] of judged.jumps) {
      passed.push(...this.#refusals.pick(sender, (seq) => seq <= through));
    }
    for (const { sender, links } of judged.abandoned) {
      const from = links.at(-1);
      if (from === undefined) continue;
      const branch = branchLinks(this.#refusals.of(sender), { groupId, from });
      passed.push(
        ...this.#refusals.pick(sender, (seq, link) => {
          const given = branch.get(seq);
          return given !== undefined && equalBytes(given, link);
        }),
      );
    }
    return passed;
  }

  /**
   * Asks once a session for what was refused: where the relay shows it intact now, it is taken, and
   * what waited behind it.
   */
  async #repair(
    proven: ReadonlyMap<string, ClosingLinks>,
    branches: ReadonlyMap<string, ClosingLinks> = new Map(),
  ): Promise<void> {
    const core = this.#core;
    const session = this.#session;
    const [first, last] = [this.#refusals.first, this.#refusals.last];
    if (session === undefined || first === undefined || last === undefined) return;
    for await (const blobs of this.again(first - 1, last)) {
      await this.#alone(async () => {
        const candidates = blobs.filter(({ cursor }) => this.#refusals.has(cursor));
        if (session !== this.#session || candidates.length === 0) return;
        const through = toNumber((candidates.at(-1) as StoredBlob).cursor);
        const window = { blobs: candidates, own: noOwn, through, bytes: 0, session };
        const judged = this.#judge.judge(window, { proven, branches });
        for (const { stored } of [...judged.items, ...judged.silent]) {
          judged.explained.push(Number(stored.cursor));
        }
        // What is still wrong was told when it was found.
        judged.findings.length = 0;
        judged.rereading = core.changes.rereading;
        const open = judged.refusals.filter(({ code }) => code === ErrorCode.UNSPECIFIED);
        judged.refusals.splice(0, judged.refusals.length, ...open);
        if (judged.items.length + judged.explained.length + open.length === 0) return;
        await this.#keep(judged, through, core.log);
      });
    }
    this.#heal();
  }

  /** Verifying and keeping go together: nothing else is kept in between. */
  #alone<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** At the head, what is still missing without a reason is withheld. */
  #reachedHead(): void {
    if (!this.#atHead) return;
    this.#settleClaims();
    this.#hooks.atHead(this.#ofOwn.splice(0));
    const proven = this.#closings();
    // What removed devices wrote is taken first: it may explain what is missing of others.
    if (proven.size === 0 && this.#atHead) this.#refusals.atHead();
    if (proven.size === 0 && (this.#repaired || this.#refusals.count === 0)) return;
    this.#repaired = true;
    this.#repair(proven)
      .then(() => {
        if (proven.size > 0) this.#reachedHead();
      })
      .catch((error: unknown) => this.#failed(error));
  }

  get #atHead(): boolean {
    return this.#queue.length === 0 && this.#pullId === undefined && !this.#behind;
  }

  /** What was held because the log changed, and nothing excuses any more. */
  #settleClaims(): void {
    const core = this.#core;
    if (core.claims.count === 0) return;
    core.disk
      .write(
        (tx) => settleClaims(tx, core, this.#judge.comparing(core.log.senders)),
        (settled) => settled(),
      )
      .catch((error: unknown) => this.#failed(error));
  }

  /** Whether not all is read that a removed device had written, by the chain. */
  get missesClosing(): boolean {
    const { findings } = this.#core;
    return this.#belowClosing().some(({ id }) => !findings.acceptedOf(FindingKind.DROPPED, id));
  }

  /** The chain is another one: where it closes a device further up, the relay is asked for the rest. */
  chainChanged(): void {
    this.#heal();
    if (this.#session === undefined || this.#pullId !== undefined) return;
    if (this.#belowClosing().length > 0) this.#fallBehind();
  }

  #belowClosing(): { readonly id: string; readonly device: RosterDevice }[] {
    const { chain, log } = this.#core;
    if (chain === undefined) return [];
    return [...chain.devices].flatMap(([id, device]) => {
      const { closing } = device;
      return closing !== undefined && (log.senders.get(id)?.seq ?? 0) < closing.seq
        ? [{ id, device }]
        : [];
    });
  }

  /**
   * At the head, the chain of a removed device leads up to its closing: then what was held is read
   * again and taken. Or it does not: then the relay leaves something out, or what it shows was written
   * after the removal.
   */
  #closings(): Map<string, ClosingLinks> {
    const core = this.#core;
    const proven = new Map<string, ClosingLinks>();
    for (const { id, device } of this.#belowClosing()) {
      const { closing, deviceId } = device;
      if (closing === undefined || this.#asked.has(id)) continue;
      const place = core.log.senders.get(id) ?? { seq: 0, link: zeroLink };
      const held = this.#refusals.of(id);
      const links = closingLinks(held, { groupId: core.groupId, place, closing });
      if (links !== undefined) {
        this.#asked.add(id);
        proven.set(id, links);
      } else if (this.#pulledAt < (core.chain?.version.count ?? 0)) {
        // The removal came after that pull began: the relay may have shown less than there is by now.
        this.#fallBehind();
      } else if (!this.#missing.has(id)) {
        // Nothing excuses that, a restore neither: nobody can push it again.
        this.#missing.add(id);
        core.found({
          kind: FindingKind.DROPPED,
          error: new SyncError(ErrorCode.HISTORY_ALTERED, {
            hint: "the relay does not show all that a removed device had written",
          }),
          sender: deviceId,
          seq: place.seq + 1,
        });
      }
    }
    return proven;
  }

  /** What claims about senders are compared with. */
  comparing(): Comparing {
    return this.#judge.comparing(this.#core.log.senders);
  }

  /** Asks the relay for what it has beyond what was received, also where it has told of nothing. */
  askAgain(): void {
    if (this.#session !== undefined && this.#pullId === undefined) this.#fallBehind();
  }

  /** How many pulls up to the head were begun on this session. */
  get pulls(): number {
    return this.#pulls;
  }

  /** A link that was read, where it is still known. */
  linkOf(sender: string, seq: number): Uint8Array | undefined {
    return this.#judge.linkOf(sender, seq);
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
