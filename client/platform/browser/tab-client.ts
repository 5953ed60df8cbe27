/**
 * A device in a tab: what `SyncClient` is on other platforms, whichever tab of the device has the client.
 *
 *     tab ── line ──▶ the tab that leads: SyncClient, IndexedDB, WebSocket
 *
 * The tab that leads speaks to itself in the same way, so that nothing differs when another one takes its
 * place. What was asked of one that is gone is asked of the next where twice does no harm; pushes carry
 * the ids of their entries, by which the next one finds those that were queued.
 */
import { ErrorCode, SyncError } from "../../../wire/errors.ts";
import { blobIdBytes, idText } from "../../../wire/ids.ts";
import { loadWasmHash } from "../../../wire/wasm-hash.ts";
import { Events } from "../../events.ts";
import type { Host } from "../../host.ts";
import { Receipt } from "../../receipt.ts";
import { type StateStore, StateStoreError } from "../../state-store.ts";
import { type SyncApi, SyncClient, type SyncClientOptions } from "../../sync-client.ts";
import type {
  Entry,
  HistoryEntry,
  PushItem,
  PushOptions,
  PushReceipt,
  SyncEvents,
} from "../../types.ts";
import { UsageError } from "../../usage-error.ts";
import { browserHost, random } from "./host.ts";
import { openIndexedDbStore } from "./indexeddb-store.ts";
import { hasLocks, holdLock, type Lead, takeLead } from "./lead.ts";
import { channelLine, localLines } from "./line.ts";
import { LineLost, Peer, Plain } from "./peer.ts";
import {
  type Asked,
  type DeviceView,
  type FeedAsk,
  type NamedItem,
  type PlainEntry,
  Service,
  tabLock,
} from "./service.ts";

/** How a device is opened in a page. Every tab of an app opens it with the same options. */
export interface BrowserSyncClientOptions
  extends Omit<SyncClientOptions, "store" | "host" | "appliedPosition"> {
  /** Names the device's state among those of this origin. Default "default". */
  readonly state?: string;
  /**
   * Everything up to this position counts as acknowledged: for apps that keep it in the transaction that
   * applies an entry. As a function it is asked each time a tab begins to lead.
   */
  readonly appliedPosition?: number | (() => number | Promise<number>);
  /**
   * Whether the other devices see this one as away while no tab of it is visible. `manual`: only as
   * `setPresence` says. Default `visibility`.
   */
  readonly presence?: "visibility" | "manual";
  /** Whether the browser is asked not to clear the state when space runs out. Default true. */
  readonly persist?: boolean;
  /** Puts something between the client and its state, such as a keychain. */
  readonly wrapStore?: (store: StateStore) => StateStore | Promise<StateStore>;
  /** Another world than this page, for tests. */
  readonly host?: Host;
}

/** What `on` listens for in a page. */
export interface BrowserEvents extends SyncEvents {
  /**
   * An entry was acknowledged, by whichever tab: for what other tabs show. Comes to every tab that
   * listens, in the order of acknowledgement, and for nothing that happened before.
   */
  readonly applied: HistoryEntry & { readonly position: number };
  /** Whether this tab has the connection and the state now. */
  readonly leading: boolean;
}

type HubMessage =
  | { readonly t: "who" }
  | { readonly t: "lead"; readonly lead: string }
  | { readonly t: "join"; readonly lead: string; readonly tab: string; readonly visible: boolean }
  | { readonly t: "bye"; readonly id: string };

/** How long acknowledgements wait for others to go with them, in milliseconds. */
const ackMsMax = 5;

const goneHint = {
  hint: "the tab that had the connection was closed meanwhile: see whether it was done, and ask again",
};

/**
 * A device in a tab: everything that `SyncClient` of `sync-relay/client` has, from whichever tab of the
 * device, and which tab leads.
 */
export class BrowserSyncClient implements SyncApi {
  readonly #name: string;
  readonly #options: BrowserSyncClientOptions;
  readonly #tab = randomName();
  readonly #hub: BroadcastChannel;
  readonly #closing = new AbortController();
  readonly #events: Events;
  readonly #heard = new Map<string, number>();
  readonly #paused = new Set<() => void>();
  readonly #attaching = new Set<(error?: Error) => void>();
  readonly #receipts = new Map<number, Receipt>();
  readonly #feeds = new Set<TabFeed>();
  #acks: number[] = [];
  #ackTimer: ReturnType<typeof setTimeout> | undefined;
  #view: DeviceView | undefined;
  #peer: Peer | undefined;
  /** Whom this tab is attached to, or about to be. */
  #lead: string | undefined;
  #leading:
    | { readonly lead: Lead; readonly service: Service; readonly client: SyncClient }
    | undefined;
  #stepDown: (() => void) | undefined;
  #releaseTab: (() => void) | undefined;
  #wantsApplied = false;
  #running: Promise<void> = Promise.resolve();
  #nextFeed = 1;

  private constructor(options: BrowserSyncClientOptions) {
    this.#options = options;
    this.#name = options.state ?? "default";
    this.#hub = new BroadcastChannel(`sync-relay:${this.#name}`);
    this.#events = new Events(options.host ?? browserHost());
  }

  /** Opens the device. Resolves when this tab leads, or has found the one that does. */
  static async open(options: BrowserSyncClientOptions = {}): Promise<BrowserSyncClient> {
    // Nothing waits for it.
    void loadWasmHash();
    const client = new BrowserSyncClient(options);
    await client.#begin();
    return client;
  }

  async #begin(): Promise<void> {
    if (this.#options.persist !== false && hasLocks()) {
      // Refused or not, nothing waits for it.
      void navigator.storage?.persist?.().catch(() => undefined);
    }
    if (hasLocks()) {
      this.#releaseTab = await holdLock(tabLock(this.#name, this.#tab), this.#closing.signal);
    }
    this.#hub.addEventListener("message", ({ data }: MessageEvent<HubMessage>) => this.#told(data));
    globalThis.addEventListener?.("online", this.#shown);
    globalThis.addEventListener?.("pagehide", this.#hidden);
    globalThis.addEventListener?.("pageshow", this.#back);
    if (typeof document !== "undefined") {
      document.addEventListener("visibilitychange", this.#shown);
    }
    const attached = this.#attached();
    this.#post({ t: "who" });
    this.#running = this.#run();
    try {
      await attached;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  // --- who leads --------------------------------------------------------------------------------

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      let lead: Lead | undefined;
      try {
        lead = await takeLead(
          this.#name,
          randomName(),
          {
            ask: () => this.#post({ t: "who" }),
            heard: (id) => this.#heard.get(id) ?? 0,
            pause: (ms) => this.#pause(ms),
          },
          signal,
        );
        await this.#serve(lead);
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        await this.#pause(1_000);
      } finally {
        if (lead !== undefined) {
          // Where that fails, the next one waits a little longer.
          await lead.release().catch(() => undefined);
          this.#post({ t: "bye", id: lead.id });
        }
      }
    }
  }

  /** Leads, until this tab is closed or another one has taken its place. */
  async #serve(lead: Lead): Promise<void> {
    const options = this.#options;
    const takenOver = this.#heard.size > 0;
    const host = options.host ?? browserHost();
    const plain = await openIndexedDbStore(this.#name, { lead: lead.id });
    let client: SyncClient;
    // The client is opened before there is a service, and may ask the app as soon as it is.
    const now: { service?: Service } = {};
    const app = (): Peer | undefined => {
      const tab = now.service?.applying ?? this.#tab;
      return now.service?.peerOf(tab) ?? this.#peer;
    };
    const { snapshot, restore } = options;
    try {
      const store = (await options.wrapStore?.(plain)) ?? plain;
      const applied = options.appliedPosition;
      const appliedPosition = typeof applied === "function" ? await applied() : applied;
      client = await SyncClient.open({
        ...clientOptions(options),
        ...(appliedPosition === undefined ? {} : { appliedPosition }),
        ...(snapshot === undefined
          ? {}
          : {
              // Where this tab applies entries it is asked in this very turn.
              snapshot: (point) =>
                (now.service?.applying ?? this.#tab) === this.#tab
                  ? snapshot(point)
                  : (app()?.call("snapshot", point) as Promise<Uint8Array>),
            }),
        ...(restore === undefined
          ? {}
          : {
              restore: async (content, point) => {
                if ((now.service?.applying ?? this.#tab) === this.#tab)
                  await restore(content, point);
                else await app()?.call("restore", content, point);
              },
            }),
        store,
        host,
      });
    } catch (error) {
      await plain.close();
      throw error;
    }
    const service = new Service(this.#name, client, plain, {
      presence: options.presence ?? "visibility",
      takenOver,
      host,
    });
    now.service = service;
    const over = new Promise<void>((resolve) => {
      this.#stepDown = resolve;
    });
    client.on("error", (error) => {
      if (error instanceof StateStoreError && error.problem === "locked") this.#stepDown?.();
    });
    this.#leading = { lead, service, client };
    this.#attach(lead.id);
    this.#events.emit("leading" as keyof SyncEvents, true as never);
    this.#post({ t: "lead", lead: lead.id });
    await over;
    this.#leading = undefined;
    this.#detach();
    service.stop();
    // What cannot be written any more was acknowledged and not yet told: it comes again.
    await client.close().catch(() => undefined);
    this.#events.emit("leading" as keyof SyncEvents, false as never);
  }

  #told(message: HubMessage): void {
    switch (message.t) {
      case "who":
        if (this.#leading !== undefined) this.#post({ t: "lead", lead: this.#leading.lead.id });
        return;
      case "lead":
        this.#heard.set(message.lead, performance.now());
        if (this.#leading === undefined && this.#lead !== message.lead) this.#attach(message.lead);
        return;
      case "join": {
        const { lead, tab, visible } = message;
        if (this.#leading?.lead.id !== lead) return;
        this.#leading.service.join(tab, channelLine(lineName(this.#name, lead, tab)), visible);
        return;
      }
      case "bye":
        if (this.#lead === message.id && this.#leading === undefined) this.#detach();
        for (const resume of this.#paused) resume();
        this.#leading?.service.leave(message.id);
        return;
    }
  }

  #attach(lead: string): void {
    this.#peer?.close();
    this.#peer = undefined;
    this.#lead = lead;
    const leading = this.#leading;
    const [near, far] =
      leading === undefined ? [channelLine(lineName(this.#name, lead, this.#tab))] : localLines();
    const { snapshot, restore } = this.#options;
    const peer = new Peer(near, {
      view: (view: DeviceView) => this.#welcomed(peer, view),
      event: (event: keyof SyncEvents, value: never, view: DeviceView) => {
        this.#view = view;
        this.#events.emit(event, value);
      },
      durable: (pairs: readonly [number, number][]) => {
        for (const [seq, cursor] of pairs) {
          this.#receipts.get(seq)?.stored(cursor);
          this.#receipts.delete(seq);
        }
      },
      applied: (entries: readonly PlainEntry[]) => {
        for (const entry of entries) {
          this.#events.emit("applied" as keyof SyncEvents, entry as never);
        }
      },
      here: () => undefined,
      ...(snapshot === undefined ? {} : { snapshot: snapshot as never }),
      ...(restore === undefined ? {} : { restore: restore as never }),
    });
    if (leading !== undefined && far !== undefined) {
      this.#peer = peer;
      leading.service.join(this.#tab, far, visible());
    } else {
      // Theirs until it has answered: nothing is asked before.
      this.#joining = peer;
      this.#post({ t: "join", lead, tab: this.#tab, visible: visible() });
    }
  }
  #joining: Peer | undefined;

  #welcomed(peer: Peer, view: DeviceView): void {
    this.#view = view;
    this.#peer = peer;
    this.#joining = undefined;
    if (this.#wantsApplied) peer.tell("wantsApplied");
    const open = [...this.#receipts.keys()];
    if (open.length > 0) peer.tell("watch", open);
    const waiting = [...this.#attaching];
    this.#attaching.clear();
    for (const resolve of waiting) resolve();
    this.#events.emit("status", view.status);
  }

  #detach(): void {
    this.#lead = undefined;
    this.#joining?.close();
    this.#joining = undefined;
    const peer = this.#peer;
    this.#peer = undefined;
    peer?.close();
  }

  /** This tab could not lead: whoever waits hears why; who was told before, in the background. */
  #failed(error: unknown): void {
    if (this.#view === undefined && this.#lead === undefined) {
      const waiting = [...this.#attaching];
      this.#attaching.clear();
      for (const reject of waiting) reject(error as Error);
    } else if (error instanceof StateStoreError || error instanceof SyncError) {
      this.#events.emit("error", error);
    } else {
      throw error;
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#paused.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#paused.add(done);
    });
  }

  #post(message: HubMessage): void {
    try {
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel has no other origin
      this.#hub.postMessage(message);
    } catch {
      // Closed: nobody needs to hear it.
    }
  }

  readonly #shown = (): void => {
    this.#peer?.tell("visible", visible());
  };

  /** The page goes, perhaps for good: another tab need not wait to find out. */
  readonly #hidden = (): void => {
    this.#tellAcks();
    this.#post({ t: "bye", id: this.#leading?.lead.id ?? this.#tab });
    if (this.#leading !== undefined) this.#stepDown?.();
  };

  readonly #back = ({ persisted }: PageTransitionEvent): void => {
    if (!persisted) return;
    this.#detach();
    this.#post({ t: "who" });
  };

  // --- asking -----------------------------------------------------------------------------------

  async #attached(): Promise<Peer> {
    while (this.#peer === undefined || this.#view === undefined) {
      if (this.#closing.signal.aborted) throw new UsageError("the client was closed");
      await new Promise<void>((resolve, reject) => {
        this.#attaching.add((error) => {
          if (error === undefined) resolve();
          else reject(error);
        });
      });
    }
    return this.#peer;
  }

  /** Asks whoever leads; `again`: the next one too, where twice does no harm. */
  async #ask(method: Asked, args: readonly unknown[], again = false): Promise<unknown> {
    for (;;) {
      const peer = await this.#attached();
      try {
        return await peer.call("ask", method, ...args);
      } catch (error) {
        if (!(error instanceof LineLost)) throw error;
        if (this.#closing.signal.aborted) throw new UsageError("the client was closed");
        if (!again) throw new SyncError(ErrorCode.CONNECTION_LOST, goneHint);
      }
    }
  }

  get #now(): DeviceView {
    if (this.#view === undefined) throw new UsageError("the client is not open");
    return this.#view;
  }

  /** Whether this tab has the connection and the state now. */
  get leading(): boolean {
    return this.#leading !== undefined;
  }

  get deviceId(): string {
    return this.#now.deviceId;
  }

  get groupId(): string | undefined {
    return this.#now.groupId;
  }

  status(): ReturnType<SyncApi["status"]> {
    if (this.#closing.signal.aborted) {
      return { ...this.#now.status, connection: { state: "closed" }, inSync: false };
    }
    return this.#now.status;
  }

  devices(): ReturnType<SyncApi["devices"]> {
    return this.#now.devices;
  }

  findings(): ReturnType<SyncApi["findings"]> {
    return this.#now.findings;
  }

  fingerprint(deviceId: string = this.deviceId): string {
    const fingerprint = this.#now.fingerprints[deviceId];
    if (fingerprint === undefined) {
      throw new SyncError(ErrorCode.DEVICE_UNKNOWN, { hint: "no device of the group has that id" });
    }
    return fingerprint;
  }

  on<E extends keyof BrowserEvents>(
    event: E,
    listener: (value: BrowserEvents[E]) => void,
  ): () => void {
    if (event === "applied" && !this.#wantsApplied) {
      this.#wantsApplied = true;
      this.#peer?.tell("wantsApplied");
    }
    return this.#events.on(event as keyof SyncEvents, listener as never);
  }

  async createGroup(...args: Parameters<SyncApi["createGroup"]>): Promise<void> {
    await this.#ask("createGroup", args, true);
  }

  async join(...args: Parameters<SyncApi["join"]>): Promise<void> {
    await this.#ask("join", args);
  }

  async recover(...args: Parameters<SyncApi["recover"]>): Promise<void> {
    await this.#ask("recover", args);
  }

  async reconnectWithInvite(invite: string): Promise<void> {
    await this.#ask("reconnectWithInvite", [invite], true);
  }

  async giveUpAdmission(): Promise<void> {
    await this.#ask("giveUpAdmission", [], true);
  }

  async invite(...args: Parameters<SyncApi["invite"]>): ReturnType<SyncApi["invite"]> {
    const invite = (await this.#ask("invite", args)) as Awaited<ReturnType<SyncApi["invite"]>>;
    const done = invite.done.catch((error: unknown) => {
      if (error instanceof LineLost) throw new SyncError(ErrorCode.CONNECTION_LOST, goneHint);
      throw error;
    });
    done.catch(() => undefined);
    return { ...invite, done };
  }

  async remove(deviceIds: readonly string[]): Promise<void> {
    await this.#ask("remove", [deviceIds], true);
  }

  async rotate(): Promise<void> {
    await this.#ask("rotate", []);
  }

  async rename(name: string): Promise<void> {
    await this.#ask("rename", [name], true);
  }

  createRecoveryPhrase(
    ...args: Parameters<SyncApi["createRecoveryPhrase"]>
  ): ReturnType<SyncApi["createRecoveryPhrase"]> {
    return this.#ask("createRecoveryPhrase", args) as ReturnType<SyncApi["createRecoveryPhrase"]>;
  }

  verifyRecoveryPhrase(
    words: string | readonly string[],
  ): ReturnType<SyncApi["verifyRecoveryPhrase"]> {
    return this.#ask("verifyRecoveryPhrase", [words], true) as ReturnType<
      SyncApi["verifyRecoveryPhrase"]
    >;
  }

  revokeRecoveryPhrase(): Promise<number> {
    return this.#ask("revokeRecoveryPhrase", []) as Promise<number>;
  }

  async flush(...args: Parameters<SyncApi["flush"]>): Promise<void> {
    await this.#ask("flush", args, true);
  }

  async caughtUp(...args: Parameters<SyncApi["caughtUp"]>): Promise<void> {
    await this.#ask("caughtUp", args, true);
  }

  verify(...args: Parameters<SyncApi["verify"]>): ReturnType<SyncApi["verify"]> {
    return this.#ask("verify", args, true) as ReturnType<SyncApi["verify"]>;
  }

  putObject(...args: Parameters<SyncApi["putObject"]>): ReturnType<SyncApi["putObject"]> {
    return this.#ask("putObject", args, args[1]?.name !== undefined) as ReturnType<
      SyncApi["putObject"]
    >;
  }

  async *getObject(...args: Parameters<SyncApi["getObject"]>): AsyncGenerator<Uint8Array> {
    yield* (await this.#ask("getObject", args)) as AsyncIterable<Uint8Array>;
  }

  wakeUp(): ReturnType<SyncApi["wakeUp"]> {
    return this.#ask("wakeUp", [], true) as ReturnType<SyncApi["wakeUp"]>;
  }

  async registerWakeUp(...args: Parameters<SyncApi["registerWakeUp"]>): Promise<void> {
    await this.#ask("registerWakeUp", args, true);
  }

  async unregisterWakeUp(): Promise<void> {
    await this.#ask("unregisterWakeUp", [], true);
  }

  async dropObject(object: Uint8Array | string): Promise<void> {
    await this.#ask("dropObject", [object], true);
  }

  makeSnapshot(...args: Parameters<SyncApi["makeSnapshot"]>): ReturnType<SyncApi["makeSnapshot"]> {
    return this.#ask("makeSnapshot", args, true) as ReturnType<SyncApi["makeSnapshot"]>;
  }

  async acceptFinding(id: string): Promise<void> {
    await this.#ask("acceptFinding", [id], true);
  }

  evidence(id?: string): ReturnType<SyncApi["evidence"]> {
    return this.#ask("evidence", id === undefined ? [] : [id], true) as ReturnType<
      SyncApi["evidence"]
    >;
  }

  setPresence(presence: "online" | "away"): void {
    this.#ask("setPresence", [presence], true).catch(() => undefined);
  }

  connect(): void {
    this.#ask("connect", [], true).catch(() => undefined);
  }

  // --- writing and reading ----------------------------------------------------------------------

  async push(data: Uint8Array, options: PushOptions = {}): Promise<PushReceipt> {
    const [receipt] = await this.pushMany([{ ...options, data }]);
    return receipt as PushReceipt;
  }

  async delete(
    blobIds: readonly string[],
    options: { readonly force?: boolean } = {},
  ): Promise<PushReceipt> {
    return await this.push(new Uint8Array(0), { ...options, deletes: blobIds });
  }

  async pushMany(items: readonly PushItem[]): Promise<PushReceipt[]> {
    const named: NamedItem[] = items.map((item) => ({ ...item, blobId: random(blobIdBytes) }));
    let after: number | undefined;
    for (;;) {
      const peer = await this.#attached();
      const { durableSeq, queued } = this.#now.status;
      try {
        const seqs = (await peer.call(
          "push",
          named,
          ...(after === undefined ? [] : [after]),
        )) as readonly number[];
        const found = after !== undefined;
        const receipts = seqs.map((seq, at) => {
          const { blobId } = named[at] as NamedItem;
          const receipt = new Receipt({ seq, blobId });
          this.#receipts.set(seq, receipt);
          return receipt;
        });
        if (found) this.#peer?.tell("watch", seqs);
        return receipts;
      } catch (error) {
        if (!(error instanceof LineLost)) throw error;
        // Queued or not: the next one looks behind what this tab knew of when it asked.
        after ??= durableSeq + queued;
      }
    }
  }

  async *entries(
    options: { readonly signal?: AbortSignal; readonly untilCaughtUp?: boolean } = {},
  ): AsyncGenerator<Entry, void, undefined> {
    const feed = new TabFeed(`${this.#tab}:${this.#nextFeed}`, options.untilCaughtUp === true);
    this.#nextFeed += 1;
    this.#feeds.add(feed);
    const stopped = new Promise<undefined>((resolve) => {
      for (const signal of [options.signal, this.#closing.signal]) {
        if (signal?.aborted === true) resolve(undefined);
        signal?.addEventListener("abort", () => resolve(undefined), { once: true });
      }
    });
    const over = (): boolean => options.signal?.aborted === true || this.#closing.signal.aborted;
    try {
      let coming = this.#nextBatch(feed);
      while (!over()) {
        const batch = await Promise.race([coming, stopped]);
        if (batch === undefined) return;
        feed.handed = batch.at(-1)?.position ?? feed.handed;
        // The next one is on its way while the app takes this one.
        coming = this.#nextBatch(feed);
        coming.catch(() => undefined);
        for (const entry of batch) {
          if (over()) return;
          yield { ...entry, ack: () => this.#ack(feed, entry.position) };
        }
      }
    } finally {
      this.#feeds.delete(feed);
      this.#tellAcks();
      this.#peer?.tell("end", feed.id);
    }
  }

  async #nextBatch(feed: TabFeed): Promise<PlainEntry[] | undefined> {
    for (;;) {
      let peer: Peer;
      try {
        peer = await this.#attached();
      } catch (error) {
        if (this.#closing.signal.aborted) return undefined;
        throw error;
      }
      try {
        return (await peer.call("next", feed.ask())) as PlainEntry[] | undefined;
      } catch (error) {
        if (!(error instanceof LineLost)) throw error;
        if (this.#closing.signal.aborted || !this.#feeds.has(feed)) return undefined;
      }
    }
  }

  #ack(feed: TabFeed, position: number): Promise<void> {
    feed.ack(position);
    // Many share a message: each by itself would cost more than the entry.
    this.#ackTimer ??= setTimeout(() => this.#tellAcks(), ackMsMax);
    this.#acks.push(position);
    return Promise.resolve();
  }

  #tellAcks(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.#acks.length === 0) return;
    this.#peer?.tell("acks", new Plain(this.#acks));
    this.#acks = [];
  }

  async *history(
    ...args: Parameters<SyncApi["history"]>
  ): AsyncGenerator<HistoryEntry, void, undefined> {
    const peer = await this.#attached();
    try {
      yield* (await peer.call("history", ...args)) as AsyncIterable<HistoryEntry>;
    } catch (error) {
      if (error instanceof LineLost) throw new SyncError(ErrorCode.CONNECTION_LOST, goneHint);
      throw error;
    }
  }

  /** Leaves the device to its other tabs; the last one disconnects. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#tellAcks();
    // What was told is on its way before the line is closed.
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#peer?.tell("leave");
    this.#closing.abort();
    globalThis.removeEventListener?.("online", this.#shown);
    globalThis.removeEventListener?.("pagehide", this.#hidden);
    globalThis.removeEventListener?.("pageshow", this.#back);
    if (typeof document !== "undefined") {
      document.removeEventListener("visibilitychange", this.#shown);
    }
    this.#stepDown?.();
    for (const resume of this.#paused) resume();
    await this.#running;
    this.#detach();
    const waiting = [...this.#attaching];
    this.#attaching.clear();
    for (const reject of waiting) reject(new UsageError("the client was closed"));
    for (const receipt of this.#receipts.values()) receipt.lost();
    this.#receipts.clear();
    this.#post({ t: "bye", id: this.#tab });
    this.#hub.close();
    this.#releaseTab?.();
    this.#events.clear();
  }
}

/** What a tab was handed of one run of entries, and has acknowledged. */
class TabFeed {
  readonly id: string;
  readonly #untilCaughtUp: boolean;
  handed = 0;
  #ackedThrough = 0;
  readonly #acked = new Set<number>();

  constructor(id: string, untilCaughtUp: boolean) {
    this.id = id;
    this.#untilCaughtUp = untilCaughtUp;
  }

  ack(position: number): void {
    if (this.#ackedThrough === 0) this.#ackedThrough = position - 1;
    this.#acked.add(position);
    while (this.#acked.delete(this.#ackedThrough + 1)) this.#ackedThrough += 1;
  }

  ask(): FeedAsk {
    return {
      feed: this.id,
      untilCaughtUp: this.#untilCaughtUp,
      handed: this.handed,
      ackedThrough: this.#ackedThrough,
      acked: [...this.#acked],
    };
  }
}

function lineName(name: string, lead: string, tab: string): string {
  return `sync-relay:${name}:${lead}:${tab}`;
}

function randomName(): string {
  return idText(random(9));
}

function visible(): boolean {
  return typeof document === "undefined" || document.visibilityState !== "hidden";
}

/** What goes to the client as it is. */
function clientOptions(options: BrowserSyncClientOptions) {
  const {
    state: _state,
    appliedPosition: _appliedPosition,
    presence: _presence,
    persist: _persist,
    wrapStore: _wrapStore,
    host: _host,
    snapshot: _snapshot,
    restore: _restore,
    ...rest
  } = options;
  return rest;
}
