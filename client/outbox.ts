/**
 * The device's own chain: what the app pushes is numbered, linked, signed and queued in one strict
 * transaction, and sent, as often as it takes, until the relay has it on disk.
 *
 *     push ──▶ queued (seq, link, signature fixed) ──▶ sealed under the epoch of now ──▶ sent
 *          ──▶ PushAck: durable, and kept for the day the relay is restored
 *
 * Where device and relay disagree about the chain, (seq, link) decides: the same link at the relay's
 * last seq means that everything up to it is stored. Another link means that this device lost state;
 * it reads and verifies what it wrote, and puts what is queued behind it.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type {
  MembershipDetail,
  MembershipVersion,
  SenderPosition,
} from "../gen/syncrelay/sync/v1/error_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, errorOfMessage, SyncError } from "../wire/errors.ts";
import { encodePush } from "../wire/hot-encoders.ts";
import { idText, zeroLink } from "../wire/ids.ts";
import { batchBytesMax, blobBytesDefault } from "../wire/limits.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import { decodeOwn, encodeChain, encodeOwn, type OwnChain, readChainState } from "./disk.ts";
import { type PreparedItem, prepareItems, tooLarge } from "./prepare.ts";
import { closedHint, Receipt } from "./receipt.ts";
import { type ChainPlace, type OwnBlob, rechainBlob, sealBlob, sealedBytes } from "./seal/blob.ts";
import { changedPlaces, type Positions } from "./seal/history.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";
import { atTurnEnd } from "./turn.ts";
import type { PushReceipt } from "./types.ts";
import { QueueFullError } from "./usage-error.ts";

/** Pushes under way at once. */
const pushesMax = 8;
/** Bytes of queued blobs kept in memory; what is beyond is read back from disk when its turn comes. */
const cacheBytesMax = 8 * 1024 * 1024;
/** Blobs read back at once: each may be as large as the relay allows. */
const readBackRows = 32;
/** Entries that may be queued: more than any app writes between two looks at its status. */
const queuedMaxDefault = 100_000;
/** Between two tries of what a person must mend, in milliseconds. */
const heldRetryMs = 60_000;
/** Between two tries of what mends itself, in milliseconds, where the relay gives no advice. */
const laterRetryMs = 1_000;
/** Disagreements about the chain without any progress, after which asking again is slowed down. */
const conflictsMax = 3;

/** A push under way. */
interface Flight {
  readonly first: number;
  readonly last: number;
  /** Errors of a push sent before the queue was taken up anew say nothing new. */
  readonly generation: number;
}

interface Request {
  readonly items: readonly PreparedItem[];
  readonly resolve: (receipts: PushReceipt[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Where the outbox stands on its session. */
type Stage =
  /** No session, or its chain is not compared yet. */
  | { readonly kind: "away" }
  | { readonly kind: "sending" }
  /** The relay's chain goes another way; waits until it was read up to there. */
  | { readonly kind: "adopting"; readonly relay: ChainPlace }
  | { readonly kind: "held" };

export interface OutboxHooks {
  /** The relay is in another epoch than the push: pulls, or submits, control blobs. */
  settleEpoch(version: MembershipVersion | undefined): Promise<void>;
  /** Whether everything the relay has is read: nothing more will come of this chain. */
  caughtUp(): boolean;
  /** The link that was read for one of this device's seqs, where it is still known. */
  ownLink(seq: number): Uint8Array | undefined;
  /** Tells the other devices what this one cannot push again. */
  tellLacking(session: Connection): Promise<void>;
}

export class Outbox {
  readonly #core: Core;
  readonly #hooks: OutboxHooks;
  readonly #queuedMax: number;
  #session: Connection | undefined;
  #stage: Stage = { kind: "away" };
  #generation = 0;
  /** The last own seq that this session's relay is known to have. */
  #relaySeq = 0;
  #nextSeq = 1;
  #resume = false;
  readonly #flights = new Set<Flight>();
  #pumping = false;
  #pumpAgain = false;
  #cancelRetry: (() => void) | undefined;
  #conflicts = 0;
  #requests: Request[] = [];
  #queueing = false;
  readonly #cache = new Map<number, OwnBlob>();
  #cacheBytes = 0;
  readonly #receipts = new Map<number, Receipt>();
  readonly #flushes = new Set<{ seq: number; readonly done: () => void }>();
  #writtenDurable = 0;
  /** What a relay had on its disk before it was restored. */
  #lostThrough = 0;
  /** Up to here this session's relay has shown a snapshot of this device's blobs. */
  #coveredSeq = 0;
  #closed = false;
  /** Why the queue does not move. */
  held: SyncError | undefined;
  /** The last limit a relay stated. */
  blobBytesMax = blobBytesDefault;

  constructor(core: Core, hooks: OutboxHooks, queuedMax: number = queuedMaxDefault) {
    this.#queuedMax = queuedMax;
    this.#core = core;
    this.#hooks = hooks;
  }

  /** Own entries that are not known to be on the relay's disk. */
  get queued(): number {
    return this.#core.own.last.seq - this.#core.own.durableSeq;
  }

  /** Entries that may be queued beside those that are. */
  get room(): number {
    return Math.max(0, this.#queuedMax - this.queued);
  }

  /** Whether something is being queued just now. */
  get busy(): boolean {
    return this.#queueing;
  }

  /**
   * What this device sent up to a place stands in an effective snapshot: it is kept no longer. What is
   * not known to be on the relay's disk stays, whatever a snapshot says.
   */
  async forget(place: ChainPlace): Promise<void> {
    const core = this.#core;
    const through = Math.min(place.seq, core.own.durableSeq);
    if (through <= core.own.forgottenSeq) return;
    await this.#change((own, tx) => {
      tx.deleteRange("own", 0, through + 1);
      return { ...own, forgottenSeq: through };
    });
  }

  /** Whether the log lacks what this device has pushed and keeps no longer. */
  get lacks(): boolean {
    return this.#core.own.lackingSeq > this.#coveredSeq;
  }

  /** The effective snapshot covers this device's blobs up to a seq. */
  coveredBy(seq: number): void {
    this.#coveredSeq = seq;
    this.#core.moved();
  }

  /** Whether device and relay agree on this chain, as far as the relay has it. */
  get agreed(): boolean {
    return this.#stage.kind === "sending";
  }

  /** Whether this session has shown how much of this chain the relay has. */
  get compared(): boolean {
    return this.#stage.kind === "sending" || this.#stage.kind === "held";
  }

  /** Whether this session's chain was looked at, whatever that came to. */
  get met(): boolean {
    return this.#stage.kind !== "away";
  }

  /** Whether a restored relay still lacks what it had of this device. */
  get owes(): boolean {
    const { own, changes } = this.#core;
    return own.durableSeq < this.#lostThrough || (changes.active && this.queued > 0);
  }

  /** Queues entries, all or none. What is asked for in one turn shares a transaction. */
  push(items: readonly PreparedItem[]): Promise<PushReceipt[]> {
    return new Promise((resolve, reject) => {
      this.#requests.push({ items, resolve, reject });
      if (this.#queueing) return;
      this.#queueing = true;
      atTurnEnd(() => void this.#queueRequests());
    });
  }

  /** Resolves when everything queued by now is durable. */
  flush(signal: AbortSignal | undefined): Promise<void> {
    const { seq } = this.#core.own.last;
    if (this.#core.own.durableSeq >= seq) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const flush = {
        seq,
        done: () => {
          this.#flushes.delete(flush);
          signal?.removeEventListener("abort", abort);
          if (this.#closed) reject(new SyncError(ErrorCode.CONNECTION_LOST, closedHint));
          else resolve();
        },
      };
      const abort = (): void => {
        this.#flushes.delete(flush);
        reject(abortReason(signal));
      };
      if (signal?.aborted === true) {
        reject(abortReason(signal));
        return;
      }
      signal?.addEventListener("abort", abort, { once: true });
      this.#flushes.add(flush);
    });
  }

  /** A session stands: compares the chains before anything is pushed. */
  async begin(session: Connection, own: SenderPosition | undefined): Promise<void> {
    this.#session = session;
    this.blobBytesMax = session.limits.blobBytesMax;
    this.#conflicts = 0;
    this.#coveredSeq = 0;
    this.held = undefined;
    await this.#compare(placeOf(own));
  }

  end(): void {
    this.#session = undefined;
    this.#stage = { kind: "away" };
    this.#flights.clear();
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
  }

  /** Another epoch, another key: what is under way comes back refused and goes out anew. */
  epochMoved(): void {
    this.#pump();
  }

  /** Whether an own blob that is read may be unknown here. */
  wantsOwn(seq: number): boolean {
    const { kind } = this.#stage;
    return kind === "adopting" || kind === "away" || seq > this.#core.own.durableSeq;
  }

  /**
   * Own blobs were read. A queued one among them is on the relay's disk, and so is all before it; one
   * that is not kept here waits beside the queue until that moves behind it. What this returns takes
   * it over once it is on disk.
   */
  async keepOwn(tx: StateTransaction, own: readonly OwnBlob[]): Promise<() => void> {
    const chain = await readChainState(tx);
    let through = 0;
    for (const blob of own) {
      const kept = await tx.get("own", blob.seq);
      if (kept !== undefined && equalBytes(decodeOwn(kept).link, blob.link)) {
        through = Math.max(through, blob.seq);
      } else {
        tx.put("chain", readBackKey(blob.seq), encodeOwn(blob));
      }
    }
    if (through > chain.durableSeq) {
      tx.put("chain", "state", encodeChain({ ...chain, durableSeq: through }));
    }
    return () => this.#storedThrough(through);
  }

  /** An own blob came back in the log: it is on the relay's disk, acknowledged or not. */
  delivered(seq: number, cursor: number): void {
    if (this.#stage.kind === "sending" && seq > this.#core.own.durableSeq) {
      this.#storedThrough(seq, seq, [BigInt(cursor)]);
    }
  }

  /** More of the log is read: an adoption may be possible now, or be seen to be impossible. */
  read(): void {
    this.#adoptIfRead().catch((error: unknown) => this.#failed(error));
  }

  async #adoptIfRead(): Promise<void> {
    const stage = this.#stage;
    if (stage.kind !== "adopting") return;
    const place = this.#core.log.senders.get(this.#core.deviceText);
    if (place !== undefined && place.seq >= stage.relay.seq) {
      // What was read beyond it was written, and stored, before it was asked.
      await this.#adopt(place);
    } else if (this.#hooks.caughtUp()) {
      const error = new SyncError(ErrorCode.HISTORY_ALTERED, {
        hint: "the relay names a last entry of this device that it does not show",
      });
      this.#core.found({
        kind: FindingKind.DROPPED,
        error,
        sender: this.#core.keys.deviceId,
        seq: stage.relay.seq,
      });
      this.#hold(error);
    }
  }

  /** Writes how far the relay has come, where that is known better than on disk. */
  async settle(): Promise<void> {
    if (this.#writtenDurable === this.#core.own.durableSeq) return;
    await this.#change((own) => own);
  }

  /** Nothing more will be sent. */
  close(): void {
    this.#closed = true;
    this.end();
    for (const flush of this.#flushes) flush.done();
    for (const receipt of this.#receipts.values()) receipt.lost();
    this.#receipts.clear();
  }

  // --- queueing ---------------------------------------------------------------------------------

  async #queueRequests(): Promise<void> {
    while (this.#requests.length > 0) {
      const requests = this.#requests;
      this.#requests = [];
      await this.#queue(requests);
    }
    this.#queueing = false;
  }

  async #queue(requests: readonly Request[]): Promise<void> {
    const core = this.#core;
    const made: OwnBlob[] = [];
    const settled: (() => void)[] = [];
    try {
      await core.disk.write(
        async (tx) => {
          made.length = 0;
          settled.length = 0;
          let own = await readChainState(tx);
          for (const request of requests) {
            try {
              // What this device itself must say, such as that it gives up a branch, always has room.
              const asked = request.items.some((item) => item.abandonedLink === undefined);
              const queued = own.last.seq - core.own.durableSeq;
              if (asked && queued + request.items.length > this.#queuedMax) {
                throw new QueueFullError(queued, this.#queuedMax);
              }
              const prepared = prepareItems(core, request.items, own, this.blobBytesMax);
              own = prepared.own;
              made.push(...prepared.blobs);
              settled.push(() =>
                request.resolve(prepared.blobs.map((blob) => this.#receipt(blob))),
              );
            } catch (error) {
              // Only this request: the others were asked for by somebody else.
              settled.push(() => request.reject(error));
            }
          }
          for (const blob of made) tx.put("own", blob.seq, encodeOwn(blob));
          const next = { ...own, durableSeq: core.own.durableSeq };
          if (made.length > 0) tx.put("chain", "state", encodeChain(next));
          return next;
        },
        (own) => {
          core.own = { ...own, durableSeq: core.own.durableSeq };
          if (made.length > 0) this.#writtenDurable = own.durableSeq;
          for (const blob of made) this.#remember(blob);
        },
      );
    } catch (error) {
      for (const request of requests) request.reject(error);
      return;
    }
    for (const settle of settled) settle();
    core.moved();
    this.#pump();
  }

  #receipt(blob: OwnBlob): Receipt {
    const receipt = new Receipt(blob);
    if (blob.seq <= this.#core.own.durableSeq) receipt.stored(0);
    else if (this.#closed) receipt.lost();
    else this.#receipts.set(blob.seq, receipt);
    return receipt;
  }

  #remember(blob: OwnBlob): void {
    if (this.#cacheBytes >= cacheBytesMax) return;
    this.#cache.set(blob.seq, blob);
    this.#cacheBytes += blob.entry.byteLength;
  }

  #forget(seq: number): void {
    const blob = this.#cache.get(seq);
    if (blob === undefined) return;
    this.#cache.delete(seq);
    this.#cacheBytes -= blob.entry.byteLength;
  }

  // --- agreeing on the chain --------------------------------------------------------------------

  /** Compares with where the relay stands; goes on from there, or adopts. */
  async #compare(relay: ChainPlace): Promise<void> {
    const core = this.#core;
    const read = core.log.senders.get(core.deviceText);
    const known = await core.disk.write(async (tx) => {
      const own = await readChainState(tx);
      // What came back in the log is on the relay's disk, whatever was written here about it.
      if (read !== undefined && read.seq > core.own.durableSeq && read.seq <= relay.seq) {
        const bytes = await tx.get("own", read.seq);
        if (bytes !== undefined && equalBytes(decodeOwn(bytes).link, read.link)) {
          this.#storedThrough(read.seq);
        }
      }
      if (relay.seq === 0) return true;
      if (relay.seq > own.last.seq) return false;
      if (relay.seq === own.last.seq) return equalBytes(relay.link, own.last.link);
      // Below what a snapshot holds nothing is kept to compare with.
      if (relay.seq <= own.forgottenSeq) return true;
      const bytes = await tx.get("own", relay.seq);
      return bytes !== undefined && equalBytes(decodeOwn(bytes).link, relay.link);
    });
    const session = this.#session;
    if (session === undefined) return;
    if (!known) {
      this.#stage = { kind: "adopting", relay };
      this.held = new SyncError(ErrorCode.LINK_CONFLICT, {
        hint: "this device lost some of its state; what it had written is read back first",
      });
      core.moved();
      await this.#adoptIfRead();
      return;
    }
    const lost = relay.seq < core.own.durableSeq;
    if (lost) {
      // A restored relay lacks the end of this chain: it is pushed again, from what is kept. What a
      // snapshot held comes back with another snapshot.
      const { durableSeq, forgottenSeq } = core.own;
      this.#lostThrough = Math.max(this.#lostThrough, durableSeq);
      core.own = { ...core.own, durableSeq: Math.max(relay.seq, forgottenSeq) };
      if (relay.seq < forgottenSeq)
        await this.#change((own) => ({ ...own, lackingSeq: forgottenSeq }));
    } else {
      this.#storedThrough(relay.seq);
    }
    this.#relaySeq = relay.seq;
    if (relay.seq < core.own.lackingSeq) {
      await this.#hooks.tellLacking(session);
      if (session !== this.#session) return;
    }
    await this.#findNext(relay.seq);
    this.#restart();
  }

  /** The next seq to send: the one behind the relay's, or, where that is gone, the first that is kept. */
  async #findNext(after: number): Promise<void> {
    this.#nextSeq = after + 1;
    this.#resume = false;
    if (after >= this.#core.own.last.seq) return;
    if (this.#cache.has(after + 1)) return;
    const next = await this.#core.disk.write(async (tx) => {
      const [row] = await tx.range("own", after + 1, undefined, 1);
      // Where nothing is kept any more, what is pushed next is the first to be sent.
      return row?.key ?? (await readChainState(tx)).last.seq + 1;
    });
    this.#nextSeq = next;
    this.#resume = next > after + 1;
  }

  /** Puts what is queued behind the relay's last place of this chain, which was read and verified. */
  async #adopt(place: ChainPlace): Promise<void> {
    const core = this.#core;
    let moved = new Map<number, number>();
    let blobs: OwnBlob[] = [];
    await core.disk.write(
      async (tx) => {
        moved = new Map();
        blobs = [];
        const own = await readChainState(tx);
        const queued = await this.#divergent(tx, own, place);
        const rows = await tx.range("chain", readBackKeys.from, readBackKeys.to);
        const read = rows.map((row) => decodeOwn(row.value));
        const seen = new Set(read.map(({ blobId }) => idText(blobId)));
        let last = place;
        let told: Positions = own.told;
        for (const old of queued) {
          tx.delete("own", old.seq);
          if (seen.has(idText(old.blobId))) {
            // Another state of this device had moved it already, and pushed it.
            moved.set(old.seq, place.seq);
            continue;
          }
          const witnessed = changedPlaces(core.log.senders, told, core.keys.deviceId);
          const blob = rechainBlob(old, {
            groupId: core.groupId,
            keys: core.keys,
            previous: last,
            witnessed: witnessed.changed,
          });
          told = witnessed.told;
          last = { seq: blob.seq, link: blob.link };
          moved.set(old.seq, blob.seq);
          blobs.push(blob);
        }
        for (const blob of [...read, ...blobs]) tx.put("own", blob.seq, encodeOwn(blob));
        tx.deleteRange("chain", readBackKeys.from, readBackKeys.to);
        const next: OwnChain = { ...own, last, told, durableSeq: place.seq };
        tx.put("chain", "state", encodeChain(next));
        return next;
      },
      (own) => {
        core.own = own;
        this.#writtenDurable = own.durableSeq;
        this.#cache.clear();
        this.#cacheBytes = 0;
        for (const blob of blobs) this.#remember(blob);
        this.#moveReceipts(moved, place.seq);
      },
    );
    this.#relaySeq = place.seq;
    this.#nextSeq = place.seq + 1;
    this.#resume = false;
    this.#settleFlushes();
    this.#restart();
  }

  /** The queued blobs whose places the relay's chain took. */
  async #divergent(tx: StateTransaction, own: OwnChain, place: ChainPlace): Promise<OwnBlob[]> {
    const rows = await tx.range("own", own.durableSeq + 1, own.last.seq + 1);
    const queued = rows.map((row) => decodeOwn(row.value));
    // Those that the relay has after all: up to the last that its chain shares.
    const shared = queued.findIndex((blob) => blob.seq === place.seq);
    if (shared >= 0 && equalBytes((queued[shared] as OwnBlob).link, place.link)) {
      return queued.slice(shared + 1);
    }
    return queued.filter((blob) => !this.#isRelays(blob));
  }

  #isRelays(blob: OwnBlob): boolean {
    const link = this.#hooks.ownLink(blob.seq);
    return link !== undefined && equalBytes(link, blob.link);
  }

  #moveReceipts(moved: ReadonlyMap<number, number>, through: number): void {
    const receipts = [...this.#receipts];
    this.#receipts.clear();
    for (const [seq, receipt] of receipts) {
      const now = moved.get(seq) ?? seq;
      if (now <= through) receipt.stored(0);
      else this.#receipts.set(now, receipt);
    }
    for (const flush of this.#flushes) flush.seq = moved.get(flush.seq) ?? flush.seq;
  }

  // --- sending ----------------------------------------------------------------------------------

  /** Takes the queue up anew from `#nextSeq`. */
  #restart(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    // A try every second makes the store no better: only its answer does.
    if (this.held?.code !== ErrorCode.STORE_UNAVAILABLE) this.held = undefined;
    this.#generation += 1;
    this.#flights.clear();
    this.#stage = { kind: "sending" };
    this.#core.moved();
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping) {
      this.#pumpAgain = true;
      return;
    }
    this.#pumping = true;
    this.#send()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#pumping = false;
        if (this.#pumpAgain) {
          this.#pumpAgain = false;
          this.#pump();
        }
      });
  }

  async #send(): Promise<void> {
    while (this.#maySend()) {
      const session = this.#session;
      const generation = this.#generation;
      if (session === undefined) return;
      const blobs = await this.#batch(session);
      // Reading them took a while: somebody may have taken the queue up anew.
      if (session !== this.#session || generation !== this.#generation) continue;
      if (blobs.length === 0 || !this.#maySend()) return;
      this.#launch(session, blobs);
    }
  }

  #maySend(): boolean {
    return (
      this.#session !== undefined &&
      this.#stage.kind === "sending" &&
      this.#flights.size < pushesMax &&
      this.#nextSeq <= this.#core.own.last.seq
    );
  }

  /** The next blobs, as many as a push may hold. */
  async #batch(session: Connection): Promise<OwnBlob[]> {
    const { batchBlobsMax, blobBytesMax } = session.limits;
    const blobs: OwnBlob[] = [];
    let bytes = 0;
    const last = Math.min(this.#core.own.last.seq, this.#nextSeq + batchBlobsMax - 1);
    let read = new Map<number, OwnBlob>();
    for (let seq = this.#nextSeq; seq <= last; seq++) {
      let blob = this.#cache.get(seq) ?? read.get(seq);
      if (blob === undefined) {
        read = await this.#readBack(seq, last);
        blob = read.get(seq);
      }
      if (blob === undefined) break;
      const size = sealedBytes(blob);
      if (size > blobBytesMax) {
        // The limit was lowered since it was queued.
        if (blobs.length === 0) this.#hold(tooLarge(blobBytesMax));
        break;
      }
      if (blobs.length > 0 && bytes + size > batchBytesMax) break;
      blobs.push(blob);
      bytes += size;
    }
    return blobs;
  }

  /** Queued blobs that are not in memory. */
  async #readBack(from: number, last: number): Promise<Map<number, OwnBlob>> {
    const rows = await this.#core.disk.write((tx) => tx.range("own", from, last + 1, readBackRows));
    return new Map(rows.map((row) => [row.key, decodeOwn(row.value)]));
  }

  #launch(session: Connection, blobs: readonly OwnBlob[]): void {
    const core = this.#core;
    const { chain } = core;
    const bodyKey = chain?.keyring.bodyKey(chain.epoch);
    if (chain === undefined || bodyKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const flight: Flight = {
      first: (blobs[0] as OwnBlob).seq,
      last: (blobs.at(-1) as OwnBlob).seq,
      generation: this.#generation,
    };
    const sealed = blobs.map((blob) =>
      sealBlob(blob, {
        groupId: core.groupId,
        sender: core.keys.deviceId,
        epoch: chain.epoch,
        bodyKey,
        random: core.host.random,
      }),
    );
    const id = session.nextId();
    this.#flights.add(flight);
    this.#nextSeq = flight.last + 1;
    // Where it must be sent again, it is read back.
    for (const blob of blobs) this.#forget(blob.seq);
    const resume = this.#resume;
    this.#resume = false;
    session.post(id, encodePush(id, sealed, resume), {
      lost: () => this.#flights.delete(flight),
      take: (body) => {
        this.#answered(session, flight, body);
        return false;
      },
    });
  }

  #answered(session: Connection, flight: Flight, body: ReceivedBody): void {
    this.#flights.delete(flight);
    if (session !== this.#session) return;
    if (body.case === "pushAck") {
      const { cursors } = body.value;
      if (cursors.length !== flight.last - flight.first + 1) {
        throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      }
      this.#conflicts = 0;
      this.held = undefined;
      this.#storedThrough(flight.last, flight.first, cursors);
      const last = toNumber(cursors.at(-1) ?? 0n);
      // The own entry stands in the log: until it was read, not everything is.
      if (this.#core.head === undefined || last > this.#core.head) this.#core.head = last;
      this.#pump();
      return;
    }
    if (body.case !== "error") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    // What was sent before the queue was taken up anew was refused because of what came before it.
    if (flight.generation !== this.#generation || this.#stage.kind !== "sending") return;
    this.#refused(errorOfMessage(body.value)).catch((error: unknown) => this.#failed(error));
  }

  /** A push was refused. Nothing is lost by it: everything stays queued. */
  async #refused(error: SyncError): Promise<void> {
    this.#generation += 1;
    this.#stage = { kind: "held" };
    switch (error.code) {
      case ErrorCode.LINK_CONFLICT:
      case ErrorCode.OUT_OF_ORDER: {
        const position =
          error.detail?.case === "senderPosition"
            ? (error.detail.value as SenderPosition)
            : undefined;
        this.#conflicts += 1;
        if (position === undefined || this.#conflicts > conflictsMax) this.#hold(error);
        else await this.#compare(placeOf(position));
        return;
      }
      case ErrorCode.EPOCH_STALE:
      case ErrorCode.EPOCH_AHEAD: {
        this.#conflicts += 1;
        if (this.#conflicts > conflictsMax) {
          this.#hold(error);
          return;
        }
        const session = this.#session;
        const membership =
          error.detail?.case === "membership"
            ? (error.detail.value as MembershipDetail)
            : undefined;
        await this.#hooks.settleEpoch(membership?.version);
        if (session === this.#session) this.#resend();
        return;
      }
      case ErrorCode.QUOTA_EXCEEDED:
      case ErrorCode.READ_ONLY:
      case ErrorCode.TOO_LARGE:
        this.#hold(error);
        return;
      default:
        // RATE_LIMITED, STORE_UNAVAILABLE, DRAINING and what a newer relay may say. What stands in the
        // way of the relay's store may last until its operator comes: that is said meanwhile.
        if (error.code === ErrorCode.STORE_UNAVAILABLE) {
          this.held = error;
          this.#core.moved();
        }
        this.#retryIn(Math.max(error.retryAfterMs, laterRetryMs));
    }
  }

  /** What a person must mend: said in the status, and tried again seldom. */
  #hold(error: SyncError): void {
    this.#stage = { kind: "held" };
    this.held = error;
    this.#core.moved();
    this.#retryIn(Math.max(error.retryAfterMs, heldRetryMs));
  }

  #retryIn(ms: number): void {
    this.#stage = { kind: "held" };
    this.#cancelRetry?.();
    const wait = ms * (1 + this.#core.host.uniform() / 4);
    this.#cancelRetry = this.#core.host.setTimer(wait, () => {
      this.#cancelRetry = undefined;
      this.#conflicts = 0;
      this.#resend();
    });
  }

  /** From behind what the relay has. */
  #resend(): void {
    if (this.#session === undefined) return;
    this.#findNext(this.#relaySeq)
      .then(() => {
        if (this.#session !== undefined) this.#restart();
      })
      .catch((error: unknown) => this.#failed(error));
  }

  /** Everything up to a seq is on the relay's disk. */
  #storedThrough(through: number, first = 0, cursors: readonly bigint[] = []): void {
    const core = this.#core;
    const before = core.own.durableSeq;
    this.#relaySeq = Math.max(this.#relaySeq, through);
    if (through <= before) return;
    core.own = { ...core.own, durableSeq: through };
    for (let seq = before + 1; seq <= through; seq++) {
      this.#forget(seq);
      const receipt = this.#receipts.get(seq);
      if (receipt === undefined) continue;
      this.#receipts.delete(seq);
      receipt.stored(seq < first ? 0 : Number(cursors[seq - first] ?? 0n));
    }
    this.#settleFlushes();
    if (this.queued === 0) this.settle().catch((error: unknown) => this.#failed(error));
    core.moved();
  }

  #settleFlushes(): void {
    const { durableSeq } = this.#core.own;
    for (const flush of this.#flushes) if (flush.seq <= durableSeq) flush.done();
  }

  /** Rewrites the chain state. */
  async #change(change: (own: OwnChain, tx: StateTransaction) => OwnChain): Promise<void> {
    const core = this.#core;
    await core.disk.write(
      async (tx) => {
        const own = change({ ...(await readChainState(tx)), durableSeq: core.own.durableSeq }, tx);
        tx.put("chain", "state", encodeChain(own));
        return own;
      },
      (own) => {
        this.#writtenDurable = own.durableSeq;
        core.own = { ...own, durableSeq: core.own.durableSeq };
      },
    );
  }

  /** The next witness counter, on disk before it is used. */
  async nextWitnessCounter(): Promise<number> {
    await this.#change((own) => ({ ...own, witnessCounter: own.witnessCounter + 1 }));
    return this.#core.own.witnessCounter;
  }

  #failed(error: unknown): void {
    if (error instanceof SyncError) {
      this.#session?.close(error);
    } else if (error instanceof StateStoreError) {
      if (this.#closed) return;
      this.#core.failed(error);
      this.#session?.close(new SyncError(ErrorCode.CONNECTION_LOST, { cause: error }));
    } else {
      throw error;
    }
  }
}

/** Own blobs that were read and are not kept yet, beside the chain they will belong to. */
const readBackKeys = { from: "read/", to: "read0" } as const;

function readBackKey(seq: number): string {
  return `${readBackKeys.from}${String(seq).padStart(16, "0")}`;
}

function placeOf(position: SenderPosition | undefined): ChainPlace {
  const seq = toNumber(position?.seq ?? 0n);
  return { seq, link: seq === 0 ? zeroLink : (position?.link ?? zeroLink) };
}

function abortReason(signal: AbortSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : new Error("aborted");
}
