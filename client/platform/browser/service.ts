/**
 * What the tab that leads does for all tabs of the device, itself included: it has the client, and
 * answers what they ask of it.
 *
 * Entries go to one tab at a time. What it was handed and has not acknowledged is handed to the next one
 * when it is gone; and where the tab that leads was, the one that has them goes on with them.
 */
import { idText } from "../../../wire/ids.ts";
import { decodeOwn } from "../../disk.ts";
import type { FindingInfo } from "../../findings.ts";
import type { Host } from "../../host.ts";
import type { StateStore } from "../../state-store.ts";
import type { SyncClient } from "../../sync-client.ts";
import type { DeviceInfo, Entry, HistoryEntry, PushItem, Status, SyncEvents } from "../../types.ts";
import { hasLocks, holdLock } from "./lead.ts";
import type { Line } from "./line.ts";
import { Peer, Plain } from "./peer.ts";

/** The most entries, and about the most bytes, handed to a tab at once. */
const batchEntriesMax = 256;
const batchBytesMax = 512 * 1024;
/** The status is told so often at most while it moves, in milliseconds; before anything else that is told. */
const statusEveryMs = 50;
/** Turns of promises in which an entry that is there comes. */
const soonTurns = 12;
/** How long a tab that has entries from the tab that led before may take to say so, in milliseconds. */
const graceMs = 400;
/** Where there are no locks: how often tabs are asked whether they are there, and how long they may be silent. */
const askTabsMs = 3_000;
const silentTabMs = 15_000;

/** What every tab knows at once. */
export interface DeviceView {
  readonly deviceId: string;
  readonly groupId: string | undefined;
  readonly status: Status;
  readonly devices: DeviceInfo[];
  readonly findings: FindingInfo[];
  readonly fingerprints: Readonly<Record<string, string>>;
}

/** An entry as it crosses a line. */
export type PlainEntry = HistoryEntry & { readonly position: number };

/** A tab's wish for entries, with what it has of them. */
export interface FeedAsk {
  readonly feed: string;
  readonly untilCaughtUp: boolean;
  /** The last position it was handed; 0: none yet. */
  readonly handed: number;
  /** What it has acknowledged: everything up to here, and these. */
  readonly ackedThrough: number;
  readonly acked: readonly number[];
}

/** What is pushed, with the id its entry will have. */
export type NamedItem = PushItem & { readonly blobId: Uint8Array };

interface Feed {
  readonly id: string;
  readonly tab: Tab;
  readonly entries: AsyncIterator<Entry>;
  readonly abort: AbortController;
  pending: Promise<IteratorResult<Entry>> | undefined;
  /** Resolves when it is its turn. */
  readonly turn: Promise<void>;
  readonly begin: () => void;
}

interface Tab {
  readonly id: string;
  readonly peer: Peer;
  visible: boolean;
  wantsApplied: boolean;
  durable: [number, number][];
  readonly watched: Set<number>;
  heardMs: number;
  readonly gone: AbortController;
}

/** What a tab may ask by name, as the client has it. */
export const asked = [
  "createGroup",
  "join",
  "recover",
  "reconnectWithInvite",
  "giveUpAdmission",
  "invite",
  "remove",
  "rotate",
  "rename",
  "createRecoveryPhrase",
  "verifyRecoveryPhrase",
  "revokeRecoveryPhrase",
  "flush",
  "caughtUp",
  "verify",
  "putObject",
  "getObject",
  "dropObject",
  "makeSnapshot",
  "wakeUp",
  "registerWakeUp",
  "unregisterWakeUp",
  "acceptFinding",
  "evidence",
  "connect",
  "setPresence",
] as const;
export type Asked = (typeof asked)[number];

export class Service {
  readonly #name: string;
  readonly #client: SyncClient;
  readonly #store: StateStore;
  readonly #host: Host;
  readonly #tabs = new Map<string, Tab>();
  readonly #feeds: Feed[] = [];
  readonly #handed = new Map<number, Entry>();
  readonly #fingerprints: Record<string, string> = {};
  readonly #presence: "visibility" | "manual";
  #mayBegin: boolean;
  #applied: PlainEntry[] = [];
  #asking: ReturnType<typeof setInterval> | undefined;
  #statusTimer: ReturnType<typeof setTimeout> | undefined;
  #statusDue = false;
  #breathedMs = 0;

  constructor(
    name: string,
    client: SyncClient,
    store: StateStore,
    options: {
      readonly presence: "visibility" | "manual";
      readonly takenOver: boolean;
      readonly host: Host;
    },
  ) {
    this.#name = name;
    this.#client = client;
    this.#store = store;
    this.#host = options.host;
    this.#presence = options.presence;
    this.#mayBegin = !options.takenOver;
    if (options.takenOver) {
      setTimeout(() => {
        this.#mayBegin = true;
        this.#feeds[0]?.begin();
      }, graceMs);
    }
    const events: (keyof SyncEvents)[] = [
      "status",
      "gap",
      "integrity",
      "membership",
      "presence",
      "error",
    ];
    for (const event of events) {
      client.on(event, (value) => {
        if (event === "status") this.#statusMoved();
        else this.#tell(event, value);
      });
    }
    if (!hasLocks()) this.#asking = setInterval(() => this.#askTabs(), askTabsMs);
  }

  /** Which tab the app's state is asked of: the one that applies entries. */
  get applying(): string | undefined {
    return this.#feeds[0]?.tab.id;
  }

  /** Calls a tab; undefined where it is not there. */
  peerOf(tab: string): Peer | undefined {
    return this.#tabs.get(tab)?.peer;
  }

  /** A tab is there, on a line of its own. */
  join(id: string, line: Line, visible: boolean): void {
    this.leave(id);
    const gone = new AbortController();
    const tab: Tab = {
      id,
      peer: new Peer(
        line,
        this.#offers(() => tab),
      ),
      visible,
      wantsApplied: false,
      durable: [],
      watched: new Set(),
      heardMs: performance.now(),
      gone,
    };
    this.#tabs.set(id, tab);
    if (hasLocks()) {
      holdLock(tabLock(this.#name, id), gone.signal).then(
        (release) => {
          release();
          if (this.#tabs.get(id) === tab) this.leave(id);
        },
        () => undefined,
      );
    }
    tab.peer.tell("view", this.#view());
    this.#showPresence();
  }

  /** A tab is gone: another one gets the entries. */
  leave(id: string): void {
    const tab = this.#tabs.get(id);
    if (tab === undefined) return;
    this.#tabs.delete(id);
    tab.gone.abort();
    tab.peer.close();
    for (const feed of this.#feeds.filter((each) => each.tab === tab)) this.#end(feed);
    this.#showPresence();
  }

  /** Serves nobody any more. */
  stop(): void {
    clearInterval(this.#asking);
    clearTimeout(this.#statusTimer);
    for (const id of this.#tabs.keys()) this.leave(id);
  }

  #offers(tab: () => Tab) {
    return {
      next: async (ask: FeedAsk) => new Plain(await this.#next(tab(), ask)),
      end: (feed: string) => {
        const found = this.#feeds.find(({ id }) => id === feed);
        if (found !== undefined) this.#end(found);
      },
      acks: (positions: readonly number[]) => this.#acks(positions),
      push: (items: readonly NamedItem[], after?: number) =>
        this.#answered(this.#push(tab(), items, after)),
      watch: (seqs: readonly number[]) => {
        for (const seq of seqs) tab().watched.add(seq);
        this.#tellWatched(tab());
      },
      history: (options: Parameters<SyncClient["history"]>[0]) =>
        mapped(this.#client.history(options), plainHistory),
      ask: (method: Asked, ...args: unknown[]) => {
        const client = this.#client as unknown as Record<Asked, (...args: unknown[]) => unknown>;
        return this.#answered(client[method](...args));
      },
      visible: (visible: boolean) => {
        tab().visible = visible;
        this.#showPresence();
        if (visible && this.#client.status().connection.state === "waiting") this.#client.connect();
      },
      wantsApplied: () => {
        tab().wantsApplied = true;
      },
      leave: () => this.leave(tab().id),
    };
  }

  // --- what every tab knows ---------------------------------------------------------------------

  #view(): DeviceView {
    const client = this.#client;
    const devices = client.devices();
    for (const { deviceId } of devices) this.#fingerprint(deviceId);
    this.#fingerprint(client.deviceId);
    return {
      deviceId: client.deviceId,
      groupId: client.groupId,
      status: client.status(),
      devices,
      findings: client.findings(),
      fingerprints: { ...this.#fingerprints },
    };
  }

  #fingerprint(deviceId: string): void {
    this.#fingerprints[deviceId] ??= this.#client.fingerprint(deviceId);
  }

  #tell(event: keyof SyncEvents, value: unknown): void {
    const view = new Plain(this.#view());
    for (const tab of this.#tabs.values()) {
      tab.peer.tell("event", event, value, view);
      if (event === "status") this.#tellWatched(tab);
    }
  }

  /** While a log is read the status moves many times in what people see as a moment. */
  #statusMoved(): void {
    if (this.#statusTimer !== undefined) {
      this.#statusDue = true;
      return;
    }
    this.#statusTimer = setTimeout(() => {
      this.#statusTimer = undefined;
      if (this.#statusDue) this.#statusMoved();
    }, statusEveryMs);
    this.#tellStatus();
  }

  #tellStatus(): void {
    this.#statusDue = false;
    this.#tell("status", this.#client.status());
  }

  /** Whoever is answered knows what the status was by then. */
  async #answered(result: unknown): Promise<unknown> {
    try {
      return await result;
    } finally {
      // The client tells its own at the end of a turn.
      await Promise.resolve();
      if (this.#statusDue) this.#tellStatus();
    }
  }

  #showPresence(): void {
    if (this.#presence === "manual" || this.#tabs.size === 0) return;
    const inUse = [...this.#tabs.values()].some(({ visible }) => visible);
    this.#client.setPresence(inUse ? "online" : "away");
  }

  #askTabs(): void {
    const nowMs = performance.now();
    for (const tab of this.#tabs.values()) {
      if (nowMs - tab.heardMs > silentTabMs) this.leave(tab.id);
      else {
        tab.peer.call("here").then(
          () => void (tab.heardMs = performance.now()),
          () => undefined,
        );
      }
    }
  }

  // --- entries ----------------------------------------------------------------------------------

  async #next(tab: Tab, ask: FeedAsk): Promise<PlainEntry[] | undefined> {
    const feed = this.#feeds.find(({ id }) => id === ask.feed) ?? this.#begin(tab, ask);
    await feed.turn;
    if (feed.abort.signal.aborted) return undefined;
    await this.#breathe();
    const batch: PlainEntry[] = [];
    const isAcked = new Set(ask.acked);
    for (let bytes = 0; batch.length < batchEntriesMax && bytes < batchBytesMax; ) {
      feed.pending ??= feed.entries.next();
      const result = batch.length === 0 ? await feed.pending : await ifSoon(feed.pending);
      if (result === undefined) break;
      if (result.done === true) {
        if (batch.length === 0) this.#end(feed);
        return batch.length === 0 ? undefined : batch;
      }
      feed.pending = undefined;
      const entry = result.value;
      this.#handed.set(entry.position, entry);
      if (entry.position <= ask.handed) {
        // It has this one from the tab that led before.
        if (entry.position <= ask.ackedThrough || isAcked.has(entry.position)) {
          this.#acks([entry.position]);
        }
        continue;
      }
      batch.push(plainEntry(entry));
      bytes += entry.data.byteLength;
    }
    return batch;
  }

  /** An app that takes entries as fast as they come leaves the page its turns all the same. */
  async #breathe(): Promise<void> {
    const { sliceMs = Number.POSITIVE_INFINITY } = this.#host;
    if (this.#host.monotonicMs() - this.#breathedMs < sliceMs) return;
    await this.#host.breathe?.();
    this.#breathedMs = this.#host.monotonicMs();
  }

  #begin(tab: Tab, ask: FeedAsk): Feed {
    const abort = new AbortController();
    let begin = (): void => undefined;
    const turn = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const feed: Feed = {
      id: ask.feed,
      tab,
      abort,
      pending: undefined,
      turn,
      begin,
      entries: this.#client.entries({ signal: abort.signal, untilCaughtUp: ask.untilCaughtUp }),
    };
    const goesOn = ask.handed > 0 && !this.#mayBegin;
    if (goesOn) this.#feeds.unshift(feed);
    else this.#feeds.push(feed);
    if (goesOn) this.#mayBegin = true;
    if (this.#mayBegin) this.#feeds[0]?.begin();
    return feed;
  }

  #end(feed: Feed): void {
    const at = this.#feeds.indexOf(feed);
    if (at < 0) return;
    this.#feeds.splice(at, 1);
    feed.abort.abort();
    feed.begin();
    if (this.#mayBegin) this.#feeds[0]?.begin();
  }

  #acks(positions: readonly number[]): void {
    const wanted = [...this.#tabs.values()].some(({ wantsApplied }) => wantsApplied);
    for (const position of positions) {
      const entry = this.#handed.get(position);
      if (entry === undefined) continue;
      this.#handed.delete(position);
      void entry.ack();
      if (!wanted) continue;
      if (this.#applied.length === 0) queueMicrotask(() => this.#tellApplied());
      this.#applied.push(plainEntry(entry));
    }
  }

  #tellApplied(): void {
    const applied = this.#applied;
    this.#applied = [];
    for (const tab of this.#tabs.values()) {
      if (tab.wantsApplied) tab.peer.tell("applied", new Plain(applied));
    }
  }

  // --- pushes -----------------------------------------------------------------------------------

  /**
   * Queues entries. Where the tab that led before was asked and did not answer, they may be queued
   * already: `after` is a seq that they stand behind then.
   */
  async #push(
    tab: Tab,
    items: readonly NamedItem[],
    after: number | undefined,
  ): Promise<readonly number[]> {
    const found = after === undefined ? undefined : await this.#queued(items, after);
    if (found !== undefined) return found;
    const receipts = await this.#client.pushMany(items);
    for (const { seq, durable } of receipts) {
      durable.then(
        ({ cursor }) => {
          if (tab.durable.length === 0) queueMicrotask(() => this.#tellDurable(tab));
          tab.durable.push([seq, cursor]);
        },
        // The client is closed: whoever leads next is asked.
        () => undefined,
      );
    }
    return receipts.map(({ seq }) => seq);
  }

  async #queued(
    items: readonly NamedItem[],
    after: number,
  ): Promise<readonly number[] | undefined> {
    const rows = await this.#store.transaction((tx) => tx.range("own", after + 1));
    const seqs = new Map(rows.map(({ key, value }) => [idText(decodeOwn(value).blobId), key]));
    const found = items.map(({ blobId }) => seqs.get(idText(blobId)));
    // They share a transaction: all are there, or none is.
    return found.every((seq) => seq !== undefined) ? found : undefined;
  }

  #tellDurable(tab: Tab): void {
    tab.peer.tell("durable", tab.durable);
    tab.durable = [];
  }

  #tellWatched(tab: Tab): void {
    if (tab.watched.size === 0) return;
    const { durableSeq } = this.#client.status();
    for (const seq of tab.watched) {
      if (seq > durableSeq) continue;
      tab.watched.delete(seq);
      if (tab.durable.length === 0) queueMicrotask(() => this.#tellDurable(tab));
      tab.durable.push([seq, 0]);
    }
  }
}

/** What a tab holds as long as it is there. */
export function tabLock(name: string, tab: string): string {
  return `sync-relay:${name}:tab:${tab}`;
}

/** The result of what has settled by now, or in a few turns. */
async function ifSoon<T>(promise: Promise<T>): Promise<T | undefined> {
  let settled: T | undefined;
  promise.then(
    (value) => void (settled = value),
    () => undefined,
  );
  for (let turn = 0; turn < soonTurns && settled === undefined; turn++) await Promise.resolve();
  return settled;
}

async function* mapped<T, U>(source: AsyncIterable<T>, of: (value: T) => U): AsyncGenerator<U> {
  for await (const value of source) yield of(value);
}

function plainHistory(entry: HistoryEntry): HistoryEntry {
  const { blobId, cursor, sender, seq, own, data, contentType } = entry;
  // A copy: what was opened is a view, and would cross a channel with all that it is a view of.
  return { blobId, cursor, sender, seq, own, data: new Uint8Array(data), contentType };
}

function plainEntry(entry: Entry): PlainEntry {
  return { ...plainHistory(entry), position: entry.position };
}
