/**
 * Keeps a Yjs document the same on all devices of a group, by the public API of the client alone:
 *
 *     change here ──▶ stored as pending ──▶ queued as an entry ──▶ pending no more
 *     entries     ──▶ one transaction of the document ──▶ stored with the position ──▶ acknowledged
 *
 * What comes while something is being stored or gathered goes together as one update.
 */
import * as Y from "yjs";
import { concatBytes } from "../../wire/bytes.ts";
import type { RestorePoint } from "../snapshot-loader.ts";
import type { SnapshotPoint } from "../snapshot-maker.ts";
import type { SyncApi } from "../sync-client.ts";
import { atTurnEnd } from "../turn.ts";
import type { Entry } from "../types.ts";
import type { DocChange, DocStore } from "./doc-store.ts";
import { isUpdate, itemsOf, Joiner } from "./parts.ts";

/** So many entries are applied and stored at once. */
const batchEntriesMax = 1_000;
/** So many stored updates are put together into one. */
const storedUpdatesMax = 256;

/** So many own entries are remembered; one that was forgotten is applied again, to no effect. */
const ownMax = 10_000;

/** What is needed of a client; every platform's has it. */
export type YjsClient = Pick<SyncApi, "pushMany" | "entries" | "status" | "devices" | "on">;

/** What went wrong. Storing and queuing are tried again by themselves. */
export interface YjsProblem {
  /**
   * `store`: the app's store did not take it. `push`: it could not be queued. `entry`: an entry is no
   * update of a document, and was passed over.
   */
  readonly what: "store" | "push" | "entry";
  /** What was thrown. */
  readonly error: unknown;
  /** The entry that was passed over. */
  readonly entry?: Entry;
}

/** How a document is kept in sync. */
export interface YjsProviderOptions {
  /** The document. */
  readonly doc: Y.Doc;
  /** Where it is kept. */
  readonly store: DocStore;
  /**
   * Changes go out at once, and those of so many milliseconds after that together: typing does not make an
   * entry of each letter. Default 250.
   */
  readonly gatherMs?: number;
  /** Entries of other content types, which the app pushed by itself; its position is stored once this resolves. */
  readonly onEntry?: (entry: Entry) => void | Promise<void>;
  /** Told what went wrong in the background. */
  readonly onProblem?: (problem: YjsProblem) => void;
  /** Another clock, for tests. Returns what stops it. */
  readonly setTimer?: (ms: number, run: () => void) => () => void;
}

/** What goes into the options with which the client is opened. */
export interface YjsClientOptions {
  /** The position up to which entries are in the stored document. */
  readonly appliedPosition: () => Promise<number>;
  /** The document as of now. */
  readonly snapshot: (point: SnapshotPoint) => Uint8Array | Promise<Uint8Array>;
  /** Merges a snapshot into the document. */
  readonly restore: (content: AsyncIterable<Uint8Array>, point: RestorePoint) => Promise<void>;
}

/** Its changes carry the provider as their origin: `doc.on("update", (update, origin) => …)`. */
export class YjsProvider {
  /** The document. */
  readonly doc: Y.Doc;
  readonly #store: DocStore;
  readonly #options: YjsProviderOptions;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #offs: (() => void)[] = [];
  readonly #joiner = new Joiner();
  /** Up to here the document has everything, by what this process knows. */
  #position = 0;
  /** The keys of what is stored and queued. */
  #kept: number[] = [];
  /** Changes that are not stored yet. */
  #local: Uint8Array[] = [];
  #saving: Promise<void> | undefined;
  /** What is stored and not queued yet. */
  #pending: { readonly key: number; readonly update: Uint8Array }[] = [];
  #pushing = false;
  /** Set while what comes is gathered. */
  #stopGathering: (() => void) | undefined;
  /** Own entries of which this document has everything. */
  readonly #own = new Set<string>();
  #batch: Entry[] = [];
  #applying: Promise<void> | undefined;
  /** Applied, and behind an update that is not whole yet. */
  #unacknowledged: Entry[] = [];
  /** Takes what the document makes of updates from elsewhere. */
  #made: Uint8Array[] | undefined;
  #client: YjsClient | undefined;
  #disconnect: () => void = () => this.#wake();
  #told = "";

  private constructor(options: YjsProviderOptions) {
    this.doc = options.doc;
    this.#store = options.store;
    this.#options = options;
  }

  /** Loads the document. What was changed in it before counts as a change made here. */
  static async open(options: YjsProviderOptions): Promise<YjsProvider> {
    const provider = new YjsProvider(options);
    await provider.#begin();
    return provider;
  }

  async #begin(): Promise<void> {
    const { doc } = this;
    const before = Y.encodeStateVector(doc).byteLength > 1 ? [Y.encodeStateAsUpdate(doc)] : [];
    const changed = (update: Uint8Array, origin: unknown): void => {
      if (origin === this) this.#made?.push(update);
      else this.#changed(update);
    };
    doc.on("update", changed);
    this.#offs.push(() => doc.off("update", changed));
    const off = this.#store.subscribe?.((change) => this.#elsewhere(change));
    if (off !== undefined) this.#offs.push(off);
    for (const { key, update } of await this.#load()) this.#pending.push({ key, update });
    for (const update of before) this.#changed(update);
  }

  /** For the client's options, beside the app's own. */
  get clientOptions(): YjsClientOptions {
    return {
      appliedPosition: () => this.#store.position(),
      snapshot: ({ position }) => {
        // Another tab may have applied what this one was not told of.
        if (position <= this.#position) return Y.encodeStateAsUpdate(this.doc);
        return this.#load().then(() => Y.encodeStateAsUpdate(this.doc));
      },
      restore: async (content, { position }) => {
        const pieces: Uint8Array[] = [];
        for await (const piece of content) pieces.push(piece);
        const state = concatBytes(...pieces);
        const update = this.#merge(() => Y.applyUpdate(this.doc, state, this), state);
        this.#joiner.keepOnly(new Set());
        this.#unacknowledged = [];
        await this.#add({ position, ...(update === undefined ? {} : { update }) });
        this.#position = Math.max(this.#position, position);
      },
    };
  }

  /** Goes on with a client that was opened with `clientOptions`; the one before, if any, is closed by then. */
  connect(client: YjsClient): void {
    this.#disconnect();
    const connection = new AbortController();
    const { signal } = connection;
    const offs = [
      client.on("status", () => this.#wake()),
      client.on("membership", () => {
        this.#joiner.keepOnly(new Set(client.devices().map(({ deviceId }) => deviceId)));
        this.#wake();
      }),
    ];
    this.#client = client;
    this.#disconnect = () => {
      for (const off of offs) off();
      connection.abort();
      this.#wake();
    };
    this.#running(this.#read(client, signal), signal);
    this.#running(this.#push(client, signal), signal);
  }

  /** Changes made here that are not queued: stored or, for a moment, not even that. */
  get unqueued(): number {
    return this.#local.length + this.#pending.length;
  }

  /** Resolves when everything that was changed is stored and, where this device is in a group, queued. */
  async settled(): Promise<void> {
    const inGroup = (): boolean => this.#client?.status().membership === "member";
    const busy = (): boolean =>
      this.#local.length > 0 ||
      this.#saving !== undefined ||
      (inGroup() && (this.#pending.length > 0 || this.#pushing));
    while (busy() && !this.#stop.signal.aborted) {
      this.#stopGathering?.();
      await this.#woken();
    }
  }

  /** Tries again what the store or the queue did not take. Happens by itself, too, with each change. */
  retry(): void {
    this.#wake();
  }

  /** Stores what is not stored yet, and lets document and client go. Comes before `client.close()`. */
  async close(): Promise<void> {
    for (const off of this.#offs) off();
    this.#stop.abort();
    this.#disconnect();
    this.#stopGathering?.();
    await this.#saving;
    await this.#applying;
  }

  // --- changes made here ------------------------------------------------------------------------

  #changed(update: Uint8Array): void {
    this.#local.push(update);
    if (this.#saving !== undefined) {
      this.#wake();
      return;
    }
    // All that is changed in this turn is one update.
    const saving = new Promise<void>((resolve) => atTurnEnd(resolve))
      .then(() => this.#save())
      .finally(() => {
        this.#saving = undefined;
        this.#wake();
      });
    this.#saving = saving;
    this.#running(saving, this.#stop.signal);
  }

  async #save(): Promise<void> {
    while (this.#local.length > 0) {
      const count = this.#local.length;
      const update = merged(this.#local);
      const key = await this.#persist(() => this.#store.add({ update, pending: true }));
      this.#local.splice(0, count);
      if (key !== undefined) this.#pending.push({ key, update });
      this.#wake();
    }
  }

  async #push(client: YjsClient, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const idle = this.#pending.length === 0 || this.#stopGathering !== undefined;
      if (idle || client.status().membership !== "member") {
        await this.#woken();
        continue;
      }
      const rows = this.#pending;
      this.#pending = [];
      this.#pushing = true;
      try {
        // Those that another tab applies are never asked for here.
        if (this.#own.size > ownMax) this.#own.clear();
        for (const { blobId } of await client.pushMany(
          itemsOf(merged(rows.map(({ update }) => update))),
        )) {
          this.#own.add(blobId);
        }
      } catch (error) {
        this.#pending = [...rows, ...this.#pending];
        this.#pushing = false;
        this.#problem({ what: "push", error });
        // A status, another change or `retry` comes with whatever makes it possible.
        await this.#woken();
        continue;
      }
      this.#gather();
      const keys = rows.map(({ key }) => key);
      await this.#persist(() => this.#store.queued(keys));
      this.#pushing = false;
      this.#wake();
      await this.#keep(keys);
    }
  }

  #gather(): void {
    const { gatherMs = 250, setTimer = timer } = this.#options;
    if (gatherMs <= 0) return;
    const cancel = setTimer(gatherMs, () => this.#stopGathering?.());
    this.#stopGathering = () => {
      cancel();
      this.#stopGathering = undefined;
      this.#wake();
    };
  }

  // --- changes made elsewhere -------------------------------------------------------------------

  async #read(client: YjsClient, signal: AbortSignal): Promise<void> {
    for await (const entry of client.entries({ signal })) {
      this.#batch.push(entry);
      this.#applying ??= this.#applyAll().finally(() => {
        this.#applying = undefined;
      });
      if (this.#batch.length >= batchEntriesMax) await this.#applying;
    }
  }

  async #applyAll(): Promise<void> {
    while (this.#batch.length > 0 && !this.#stop.signal.aborted) {
      const batch = this.#batch;
      this.#batch = [];
      await this.#apply(batch);
    }
  }

  async #apply(batch: readonly Entry[]): Promise<void> {
    const [first, last] = [batch[0], batch.at(-1)];
    if (first === undefined || last === undefined) return;
    // What lies between was applied by another tab, which was gone before this one heard of it.
    if (first.position > this.#position + 1) await this.#load();
    const updates: { readonly entry: Entry; readonly update: Uint8Array }[] = [];
    for (const entry of batch) {
      if (!isUpdate(entry)) {
        await this.#options.onEntry?.(entry);
      } else if (!(entry.own && this.#own.delete(entry.blobId))) {
        const update = this.#joiner.take(entry);
        if (update !== undefined) updates.push({ entry, update });
      }
    }
    const update = this.#merge(
      () => {
        for (const each of updates) {
          try {
            Y.applyUpdate(this.doc, each.update, this);
          } catch (error) {
            this.#problem({ what: "entry", error, entry: each.entry });
          }
        }
      },
      ...updates.map((each) => each.update),
    );
    const position = Math.min(last.position, this.#joiner.heldFrom - 1);
    await this.#add({ position, ...(update === undefined ? {} : { update }) });
    this.#position = Math.max(this.#position, last.position);
    this.#unacknowledged.push(...batch);
    const done = this.#unacknowledged.findIndex((entry) => entry.position > position);
    const applied = this.#unacknowledged.splice(0, done < 0 ? this.#unacknowledged.length : done);
    for (const entry of applied) await entry.ack();
  }

  /** Another tab has stored something. */
  #elsewhere({ update, position = 0 }: DocChange): void {
    if (update !== undefined) Y.applyUpdate(this.doc, update, this);
    this.#position = Math.max(this.#position, position);
  }

  /**
   * Runs what applies updates as one transaction. Returns what is to be stored of it: what was new, or
   * the updates as they are where some of them wait for others.
   */
  #merge(apply: () => void, ...updates: readonly Uint8Array[]): Uint8Array | undefined {
    const made: Uint8Array[] = [];
    this.#made = made;
    try {
      this.doc.transact(apply, this);
    } finally {
      this.#made = undefined;
    }
    const { pendingStructs, pendingDs } = this.doc.store;
    const waits = pendingStructs !== null || pendingDs !== null;
    const kept = waits ? updates : made;
    return kept.length === 0 ? undefined : merged(kept);
  }

  // --- the store --------------------------------------------------------------------------------

  /** Takes everything that is stored. Returns what is not queued. */
  async #load() {
    const stored = await this.#store.load();
    this.doc.transact(() => {
      for (const { update } of stored.updates) Y.applyUpdate(this.doc, update, this);
    }, this);
    this.#position = Math.max(this.#position, stored.position);
    this.#kept = [];
    await this.#keep(stored.updates.filter(({ pending }) => !pending).map(({ key }) => key));
    return stored.updates.filter(({ pending }) => pending);
  }

  async #add(change: DocChange): Promise<void> {
    const key = await this.#persist(() => this.#store.add(change));
    if (key !== undefined) await this.#keep([key]);
  }

  /** These are stored and queued; many of them become one. */
  async #keep(keys: readonly number[]): Promise<void> {
    this.#kept.push(...keys);
    if (this.#kept.length <= storedUpdatesMax) return;
    const replaced = this.#kept;
    this.#kept = [];
    const state = Y.encodeStateAsUpdate(this.doc);
    const key = await this.#persist(() => this.#store.replace(replaced, state));
    if (key !== undefined) this.#kept.push(key);
  }

  /** Writes until it is written, or this is closed. */
  async #persist<T>(write: () => Promise<T>): Promise<T | undefined> {
    for (;;) {
      try {
        const written = await write();
        this.#told = "";
        return written;
      } catch (error) {
        if (this.#stop.signal.aborted) return undefined;
        this.#problem({ what: "store", error });
        await this.#woken();
      }
    }
  }

  // --- waiting ----------------------------------------------------------------------------------

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  /** Told once, however often it is tried again. */
  #problem(problem: YjsProblem): void {
    const text = `${problem.what} ${String(problem.error)} ${problem.entry?.position ?? ""}`;
    if (text === this.#told) return;
    this.#told = text;
    this.#options.onProblem?.(problem);
  }

  #running(work: Promise<void>, signal: AbortSignal): void {
    work.catch((error: unknown) => {
      if (!signal.aborted) this.#problem({ what: "entry", error });
    });
  }
}

function merged(updates: readonly Uint8Array[]): Uint8Array {
  return updates.length === 1 ? (updates[0] as Uint8Array) : Y.mergeUpdates([...updates]);
}

function timer(ms: number, run: () => void): () => void {
  const handle = setTimeout(run, ms);
  return () => clearTimeout(handle);
}
