/**
 * An app on a device, and its own storage: a map in which the last writer wins, by stamps that follow
 * from nothing but what was applied. It checks every entry it is handed against what is so.
 */
import type { Entry, PushItem } from "../../client/index.ts";
import { equalBytes, fromUtf8, utf8 } from "../../wire/bytes.ts";
import type { Chance } from "./chance.ts";
import {
  applyObject,
  copyOfObjects,
  noObjects,
  type Referred,
  type StoredObjects,
} from "./device-objects.ts";
import type { Log, LoggedBlob, Pushed, Truth } from "./truth.ts";
import type { World } from "./world.ts";

/** What an app is like. */
export interface AppHabits {
  /** Keeps the position in its own transaction, or takes entries twice by their ids. */
  readonly exact: boolean;
  readonly entriesBuffered: number;
}

/** An entry that is to be pushed. */
export interface Made {
  readonly pushed: Pushed;
  readonly item: PushItem;
}

/** The value of a key: who wrote it, and when, by the app's own count. */
export interface Cell {
  readonly count: number;
  readonly name: string;
}

const keys = ["a", "b", "c", "d", "e", "f"];
/** What is gone after a while changes no state: who was away would never have seen it. */
const noKey = "-";

/** What an app keeps in its own storage. */
export interface Stored {
  /** Blob ids by position, from 1. */
  readonly applied: string[];
  readonly cells: Map<string, Cell>;
  /** Entries that set a key and are not deleted, as far as this app knows. */
  readonly setters: Map<string, string[]>;
  readonly acked: Set<string>;
  ackedEver: number;
  clock: number;
  /** What the snapshot contained that it took over last. */
  contained: string[];
  objects: StoredObjects;
}

/** What an app's snapshot says, as JSON. */
interface Saved {
  readonly ids: readonly string[];
  readonly cells: readonly (readonly [string, Cell])[];
  readonly setters: readonly (readonly [string, string[]])[];
  readonly clock: number;
  readonly live?: readonly (readonly [string, Referred])[];
  readonly dead?: readonly string[];
}

export class App {
  readonly #name: string;
  readonly #world: World;
  readonly #truth: Truth;
  readonly #chance: Chance;
  readonly habits: AppHabits;
  #stored: Stored = {
    applied: [],
    cells: new Map(),
    setters: new Map(),
    acked: new Set(),
    ackedEver: 0,
    clock: 0,
    contained: [],
    objects: noObjects(),
  };
  /** What this process was handed, and acknowledged. */
  #handed = 0;
  readonly #ackedNow = new Set<number>();
  readonly #unacked = new Map<number, Entry>();
  #ackedThrough = 0;
  /** Up to here a log was looked through: for what was handed out, and for what was acknowledged. */
  #walked = new WeakMap<Log, number>();
  #ackWalked = new WeakMap<Log, number>();
  readonly #onceWalked = new WeakMap<Log, number>();
  readonly #has = new Set<string>();
  /** What was ever acknowledged, whatever the app goes on from now. */
  readonly #ackedOnce = new Set<string>();
  #pushed = 0;
  /** Removed devices of which a person let this one go on without what cannot be proven any more. */
  readonly goneWithout = new Set<string>();
  /** Whether this device knows that another one was removed. */
  knowsRemoved: (deviceId: string) => boolean = () => false;

  constructor(name: string, world: World, truth: Truth, chance: Chance, habits: AppHabits) {
    this.#name = name;
    this.#world = world;
    this.#truth = truth;
    this.#chance = chance;
    this.habits = habits;
  }

  get applied(): readonly string[] {
    return this.#stored.applied;
  }

  get objects(): StoredObjects {
    return this.#stored.objects;
  }

  get cells(): ReadonlyMap<string, Cell> {
    return this.#stored.cells;
  }

  has(blobId: string): boolean {
    return this.#has.has(blobId);
  }

  /** Everything that its state contains. */
  get held(): readonly string[] {
    return [...this.#has];
  }

  /** A new process: what stands in the app's storage is what it knows. */
  begin(): void {
    const stored = this.#stored;
    this.#handed = 0;
    this.#ackedNow.clear();
    this.#unacked.clear();
    this.#ackedThrough = 0;
    if (this.habits.exact) {
      stored.ackedEver = stored.applied.length;
      for (const id of stored.applied) {
        stored.acked.add(id);
        this.#ackedOnce.add(id);
      }
    }
  }

  /** A copy of the storage as it is now. */
  backup(): Stored {
    return copyOf(this.#stored);
  }

  /** The storage is what it was, on this device or another. */
  restore(stored: Stored): void {
    this.#stored = copyOf(stored);
    this.#has.clear();
    for (const id of [...stored.applied, ...stored.contained]) this.#has.add(id);
    for (const id of stored.acked) this.#ackedOnce.add(id);
    this.#walked = new WeakMap();
    this.#ackWalked = new WeakMap();
  }

  /** Its state, for others to take over. */
  save(): Uint8Array {
    const { cells, setters, clock, objects } = this.#stored;
    const saved: Saved = {
      ids: this.held,
      cells: [...cells],
      setters: [...setters],
      clock,
      ...(objects.live.size > 0 ? { live: [...objects.live] } : {}),
      ...(objects.dead.size > 0 ? { dead: [...objects.dead] } : {}),
    };
    return utf8(JSON.stringify(saved));
  }

  /** Another device's state takes the place of its own; what that contains counts as handed out here. */
  load(bytes: Uint8Array, position: number, replacesThrough: number): void {
    const stored = this.#stored;
    const saved = JSON.parse(fromUtf8(bytes) ?? "") as Saved;
    this.#world.tell(`${this.#name} takes a snapshot over that replaces ${replacesThrough}`);
    stored.applied[position - 1] = "";
    stored.cells.clear();
    for (const [key, cell] of saved.cells) stored.cells.set(key, cell);
    stored.setters.clear();
    for (const [key, ids] of saved.setters) stored.setters.set(key, ids);
    stored.clock = Math.max(stored.clock, saved.clock);
    stored.objects.live.clear();
    for (const [objectId, referred] of saved.live ?? [])
      stored.objects.live.set(objectId, referred);
    for (const objectId of saved.dead ?? []) {
      if (!stored.objects.dead.has(objectId)) stored.objects.drops.add(objectId);
      stored.objects.dead.add(objectId);
    }
    this.#has.clear();
    stored.acked.clear();
    for (const id of saved.ids) {
      this.#has.add(id);
      stored.acked.add(id);
      this.#ackedOnce.add(id);
    }
    stored.ackedEver = Math.max(stored.ackedEver, position);
    stored.contained = [...saved.ids];
    this.#handed = position;
    this.#ackedThrough = position;
    this.#ackedNow.clear();
    this.#unacked.clear();
    this.#walked = new WeakMap();
    this.#ackWalked = new WeakMap();
  }

  // --- writing ----------------------------------------------------------------------------------

  /** What it pushes in one call. */
  make(count: number, deviceId: string): Made[] {
    const chance = this.#chance;
    const stored = this.#stored;
    return Array.from({ length: count }, () => {
      this.#pushed += 1;
      stored.clock += 1;
      const name = `${this.#name}/${this.#pushed}`;
      const empty = chance.chance(0.05);
      const expires = chance.chance(0.1);
      const key = expires ? noKey : chance.pick(keys);
      const padding = chance.chance(0.1) ? chance.int(0, 2_000) : chance.int(0, 40);
      const text = `${name}|${key}|${stored.clock}|${"x".repeat(padding)}`;
      const data = empty ? new Uint8Array(0) : utf8(text);
      const contentType = chance.chance(0.2) ? "text/plain" : "";
      const item: PushItem = {
        data,
        ...(contentType === "" ? {} : { contentType }),
        ...(expires ? { ttlS: chance.pick([1, 20, 100, 3_600]) } : {}),
        ...(empty || key === noKey ? {} : this.#replaced(key, deviceId)),
      };
      return { pushed: this.#unsent(name, deviceId, data, contentType), item };
    });
  }

  /** An entry that sets no key, and says something else. */
  say(text: string, deletes: readonly string[], deviceId: string): Made {
    this.#pushed += 1;
    this.#stored.clock += 1;
    const name = `${this.#name}/${this.#pushed}`;
    const data = utf8(`${name}|${noKey}|${this.#stored.clock}|${text}`);
    const item = { data, ...(deletes.length === 0 ? {} : { deletes }) };
    return { pushed: this.#unsent(name, deviceId, data, ""), item };
  }

  #unsent(name: string, device: string, data: Uint8Array, contentType: string): Pushed {
    return {
      name,
      node: this.#name,
      device,
      data,
      contentType,
      blobId: undefined,
      durable: false,
      lost: false,
    };
  }

  /** Entries whose value the next one of that key takes over: nobody needs them any more. */
  #replaced(key: string, deviceId: string): { deletes?: string[]; force?: boolean } {
    const before = this.#stored.setters.get(key) ?? [];
    if (before.length === 0 || !this.#chance.chance(0.2)) return {};
    const deletes = before.splice(0, 20);
    const own = deletes.every((id) => this.#truth.ever.get(id)?.sender === deviceId);
    return { deletes, ...(own && this.#chance.chance(0.5) ? { force: true } : {}) };
  }

  // --- reading ----------------------------------------------------------------------------------

  /** The next entry: it must be the one that follows, whole, in its place, and by whom it says. */
  take(entry: Entry): void {
    const world = this.#world;
    const truth = this.#truth;
    const stored = this.#stored;
    const who = this.#name;
    const { position, cursor, blobId, sender, seq } = entry;
    world.detail(() => `${who} is handed position ${position}, cursor ${cursor}`);
    this.#inPlace(position);
    const blob = truth.ever.get(blobId);
    if (blob === undefined || blob.sender !== sender) {
      const by = truth.nameOf(sender);
      world.fail(`1: ${who} is handed ${blobId} by ${by}, which the relay never had`);
      return;
    }
    if (blob.restart) world.fail(`1: ${who} is handed a restart of ${truth.nameOf(sender)}`);
    const log = truth.logWith(blobId, cursor);
    if (cursor === 0 ? truth.logs.length === 1 : log === undefined) {
      world.fail(`1: ${who} is handed ${blobId} at ${cursor}; it is at ${blob.cursor}`);
    }
    const last = Math.max(0, ...truth.closingsOf(sender));
    if (seq > last && this.knowsRemoved(sender) && truth.closingsOf(sender).length > 0) {
      world.fail(`6: ${who} is handed ${seq} of ${truth.nameOf(sender)}, removed behind ${last}`);
    }
    const before = stored.applied[position - 1];
    if (before !== undefined && before !== blobId) {
      world.fail(`1: ${who}: position ${position} was ${before} and is ${blobId} now`);
    }
    if (before === undefined && this.#has.has(blobId)) {
      world.fail(`1: ${who} is handed ${blobId} at another position once more`);
    }
    stored.applied[position - 1] = blobId;
    this.#has.add(blobId);
    if (log !== undefined) this.#walk(log, cursor);
    this.#apply(entry);
    this.#unacked.set(position, entry);
  }

  #inPlace(position: number): void {
    const { applied, ackedEver } = this.#stored;
    const first = this.#handed === 0;
    const { exact } = this.habits;
    const next = exact ? applied.length + 1 : first ? ackedEver + 1 : this.#handed + 1;
    // An app that keeps no position is handed again what it had not acknowledged, on disk.
    if (first && !exact ? position > next : position !== next) {
      this.#world.fail(`1: ${this.#name} is handed position ${position} instead of ${next}`);
    }
    if (first) this.#ackedThrough = position - 1;
    this.#handed = position;
  }

  /** Everything below must have been handed out before. */
  #walk(log: Log, cursor: number): void {
    const from = this.#walked.get(log) ?? 0;
    for (let at = from; at < cursor - 1; at++) {
      const blob = log.blobs[at] as LoggedBlob;
      // A removed device's count only once they are seen to lead up to its closing.
      const late = this.#truth.removedEver.has(blob.sender) || log.gaps.has(blob.sender);
      if (!late && !this.#has.has(blob.blobId) && !this.excused(blob)) {
        this.#world.fail(
          `1: ${this.#name} is handed cursor ${cursor}, and never ${blob.cursor} of ${this.#truth.nameOf(blob.sender)}`,
        );
      }
    }
    if (cursor - 1 > from) this.#walked.set(log, cursor - 1);
  }

  /** Whether a device may go without a blob that is in the log. */
  excused(blob: LoggedBlob): boolean {
    const { sender, seq, blobId, restart } = blob;
    if (restart || this.#truth.dropped.has(blobId) || this.#truth.forked.has(sender)) return true;
    if (this.goneWithout.has(sender)) return true;
    return this.#truth.closingsOf(sender).some((closing) => seq > closing);
  }

  #apply(entry: Entry): void {
    const { data, blobId, sender, contentType } = entry;
    const world = this.#world;
    const truth = this.#truth;
    const [name = "", key = noKey, count = "0", said = ""] = (fromUtf8(data) ?? "").split("|", 4);
    const pushed = truth.queued.get(blobId) ?? truth.byName.get(name);
    if (pushed !== undefined) {
      // Queued by a process that died before it could say so.
      if (pushed.blobId === undefined) truth.named(pushed, blobId);
      const same = equalBytes(pushed.data, data) && pushed.contentType === contentType;
      if (!same || pushed.blobId !== blobId) {
        world.fail(`1: ${this.#name} is handed another content of ${pushed.name}`);
      }
      if (pushed.device !== sender) world.fail(`1: ${pushed.name} came from another device`);
    } else if (data.byteLength > 0) {
      world.fail(`1: ${this.#name} is handed what nobody pushed: ${name}`);
    }
    const { cells, setters } = this.#stored;
    this.#stored.clock = Math.max(this.#stored.clock, Number(count));
    applyObject(this.#stored.objects, said, blobId);
    if (key === noKey || data.byteLength === 0) return;
    const cell = { count: Number(count), name };
    const old = cells.get(key);
    if (old === undefined || newer(cell, old)) cells.set(key, cell);
    const ids = setters.get(key) ?? [];
    if (!ids.includes(blobId)) setters.set(key, [...ids, blobId]);
  }

  // --- acknowledging ----------------------------------------------------------------------------

  ack(entry: Entry): Promise<void> {
    const stored = this.#stored;
    const { position, blobId } = entry;
    this.#unacked.delete(position);
    this.#ackedNow.add(position);
    stored.acked.add(blobId);
    this.#ackedOnce.add(blobId);
    while (this.#ackedNow.delete(this.#ackedThrough + 1)) this.#ackedThrough += 1;
    stored.ackedEver = Math.max(stored.ackedEver, this.#ackedThrough);
    return entry.ack();
  }

  /** What was handed out and not acknowledged. */
  get left(): Entry[] {
    return [...this.#unacked.values()];
  }

  /** The first blob up to a cursor of a log that the app neither acknowledged nor may go without. */
  notAcked(log: Log, through: number): LoggedBlob | undefined {
    return this.#firstWithout(this.#stored.acked, this.#ackWalked, log, through);
  }

  /** The same for acknowledgements of whatever state it ever had: the relay may hear of them late. */
  neverAcked(log: Log, through: number): LoggedBlob | undefined {
    return this.#firstWithout(this.#ackedOnce, this.#onceWalked, log, through);
  }

  #firstWithout(
    acked: ReadonlySet<string>,
    walked: WeakMap<Log, number>,
    log: Log,
    through: number,
  ): LoggedBlob | undefined {
    for (let at = walked.get(log) ?? 0; at < Math.min(through, log.blobs.length); at++) {
      const blob = log.blobs[at] as LoggedBlob;
      if (!acked.has(blob.blobId) && !this.excused(blob)) return blob;
      walked.set(log, at + 1);
    }
    return undefined;
  }
}

function copyOf(stored: Stored): Stored {
  return {
    ...stored,
    applied: [...stored.applied],
    cells: new Map(stored.cells),
    setters: new Map([...stored.setters].map(([key, ids]) => [key, [...ids]])),
    acked: new Set(stored.acked),
    objects: copyOfObjects(stored.objects),
  };
}

/** The one order that every app has of two values of a key. */
export function newer(a: Cell, b: Cell): boolean {
  return a.count > b.count || (a.count === b.count && a.name > b.name);
}
