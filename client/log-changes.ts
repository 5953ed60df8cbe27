/**
 * What a log that changed excuses, and for how long.
 *
 * A restored relay lacks what came after its backup, until those who wrote it push it again. So what
 * others saw and this device was not shown may still come: from each sender until it has acknowledged
 * in the new log, and from none for longer than seven days of this device's running time from the
 * first change of a spell. A change within that spell starts no new one. A device that has only joined
 * is no wiser than one whose log just changed: somebody may still have to push again. And blobs that were read are
 * read once more, each once.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type LogChange, LogChangeSchema } from "../gen/syncrelay/state/v1/history_pb.ts";
import { deviceIdBytes, idText, parseId, zeroLink } from "../wire/ids.ts";
import { decode } from "./disk.ts";
import type { RunningTime } from "./running-time.ts";
import { type Positions, positionsOf, senderLinks } from "./seal/history.ts";
import type { WitnessClaims } from "./seal/witness.ts";
import type { StateTransaction } from "./state-store.ts";

const key = "change";
/** How long a change excuses anything, in milliseconds of running time. */
export const excusedMs = 7 * 24 * 60 * 60 * 1000;

/** Senders whose blobs are read once more, each with the last seq that was. */
export type Rereading = Map<string, number>;

interface Change {
  readonly sinceMs: number;
  readonly head: number;
  readonly sameId: boolean;
  /** The log is this device's first: whether it changed before, nobody can tell it. */
  readonly joined: boolean;
  readonly unsettled: ReadonlySet<string>;
}

export class LogChanges {
  readonly #time: RunningTime;
  #change: Change | undefined;
  #rereading: Rereading = new Map();

  constructor(time: RunningTime) {
    this.#time = time;
  }

  async load(tx: StateTransaction): Promise<void> {
    const bytes = await tx.get("log", key);
    if (bytes === undefined) return;
    const change: LogChange = decode(() => fromBinary(LogChangeSchema, bytes));
    this.#change = {
      sinceMs: Number(change.sinceRunMs),
      head: Number(change.head),
      sameId: change.sameId,
      joined: change.joined,
      unsettled: new Set(change.unsettled.map(idText)),
    };
    const places = decode(() => positionsOf(change.rereading));
    this.#rereading = new Map([...places].map(([sender, { seq }]) => [sender, seq]));
  }

  /** Whether anything is still excused. */
  get active(): boolean {
    const change = this.#change;
    return (
      change !== undefined &&
      change.unsettled.size > 0 &&
      this.#time.nowMs < change.sinceMs + excusedMs
    );
  }

  /** When what is excused now no longer is, in running time. */
  get untilMs(): number {
    return (this.#change?.sinceMs ?? 0) + excusedMs;
  }

  /** Whether what is missing of a sender may still be pushed again. */
  excuses(sender: string): boolean {
    return this.active && this.#change?.unsettled.has(sender) === true;
  }

  /**
   * Whether a sender may go on behind a gap that the log itself shows, as one does that has let go what
   * the restored relay lacks. A device that has only joined saw no log change: to it a gap is a gap.
   */
  mayResume(sender: string): boolean {
    return this.#change?.joined === false && this.excuses(sender);
  }

  get rereading(): Rereading {
    return this.#rereading;
  }

  /** The log changed. What it returns takes that over once it is on disk. */
  changed(
    tx: StateTransaction,
    at: {
      readonly head: number;
      readonly sameId: boolean;
      readonly joined?: boolean;
      readonly devices: Iterable<string>;
      readonly senders: Positions;
    },
  ): () => void {
    const change: Change = {
      // A relay that says it once more gains no time by it.
      sinceMs: this.#spellGoesOn ? (this.#change?.sinceMs ?? 0) : this.#time.nowMs,
      head: at.head,
      sameId: at.sameId,
      joined: at.joined ?? false,
      unsettled: new Set(at.devices),
    };
    const rereading = new Map([...at.senders.keys()].map((sender) => [sender, 0]));
    this.#write(tx, change, rereading);
    this.#time.write(tx);
    return () => {
      this.#change = change;
      this.#rereading = rereading;
    };
  }

  /** Another change belongs to the spell, also where all have settled meanwhile. */
  get #spellGoesOn(): boolean {
    const change = this.#change;
    return change !== undefined && !change.joined && this.#time.nowMs < change.sinceMs + excusedMs;
  }

  /**
   * Devices that the chain shows only now: they may have been members before the log changed, and have to
   * push again what it lost. What it returns takes that over once it is on disk.
   */
  met(tx: StateTransaction, devices: readonly string[]): () => void {
    const change = this.#change;
    if (change === undefined || change.joined || devices.length === 0) return () => undefined;
    if (this.#time.nowMs >= change.sinceMs + excusedMs) return () => undefined;
    const next = { ...change, unsettled: new Set([...change.unsettled, ...devices]) };
    this.#write(tx, next, this.#rereading);
    return () => {
      this.#change = next;
    };
  }

  /**
   * A snapshot was taken over whose state may hold more than the log up to its place: what the log shows
   * of these senders behind that place may be known. What it returns takes that over once it is on disk.
   */
  behindSnapshot(tx: StateTransaction, senders: Positions): () => void {
    const rereading = new Map(this.#rereading);
    for (const sender of senders.keys()) rereading.set(sender, 0);
    return this.reread(tx, rereading);
  }

  /** How far blobs were read once more moves with the page that holds them. */
  reread(tx: StateTransaction, rereading: Rereading): () => void {
    const change = this.#change;
    if (change === undefined || rereading === this.#rereading) return () => undefined;
    this.#write(tx, change, rereading);
    return () => {
      this.#rereading = rereading;
    };
  }

  /**
   * A sender has acknowledged. In the new log, it has pushed before that what it had to: nothing of it
   * is excused any more. A log that kept its id may show an acknowledgement from before.
   */
  settles(sender: string, { applied }: WitnessClaims): boolean {
    const change = this.#change;
    if (change === undefined || !change.unsettled.has(sender)) return false;
    return !change.sameId || applied > change.head;
  }

  settled(tx: StateTransaction, sender: string): () => void {
    const change = this.#change;
    if (change === undefined) return () => undefined;
    const unsettled = new Set(change.unsettled);
    unsettled.delete(sender);
    const next = { ...change, unsettled };
    this.#write(tx, next, this.#rereading);
    return () => {
      this.#change = next;
    };
  }

  #write(tx: StateTransaction, change: Change, rereading: Rereading): void {
    const places = new Map(
      [...rereading].map(([sender, seq]) => [sender, { seq, link: zeroLink }]),
    );
    const message = create(LogChangeSchema, {
      sinceRunMs: BigInt(change.sinceMs),
      head: BigInt(change.head),
      sameId: change.sameId,
      joined: change.joined,
      unsettled: [...change.unsettled].flatMap((text) => parseId(text, deviceIdBytes) ?? []),
      rereading: senderLinks(places),
    });
    tx.put("log", key, toBinary(LogChangeSchema, message));
  }
}
