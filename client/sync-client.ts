/** The public API of the client library. */
import type { Host } from "./host.ts";
import type { StateStore } from "./state-store.ts";
import type {
  DeviceInfo,
  Entry,
  HistoryEntry,
  Invite,
  JoinerInfo,
  PushItem,
  PushOptions,
  PushReceipt,
  Status,
  SyncEvents,
} from "./types.ts";

/** How a client is opened. */
export interface SyncClientOptions {
  readonly store: StateStore;
  readonly host: Host;
  /** The relay's address, with its key. Needed before the device founds a group or joins by code. */
  readonly relay?: string;
  /** What people call this device; 1 to 64 bytes of UTF-8. Default: "device". */
  readonly name?: string;
  /** Entries that may wait for the app before reading pauses. Default 10,000. */
  readonly entriesBuffered?: number;
  /** Everything up to this position counts as acknowledged: for apps that keep it in their own transaction. */
  readonly appliedPosition?: number;
  /** Where pairing links point; see `pairing-link.ts`. Default: `syncrelay:pair`. */
  readonly pairingOrigin?: string;
}

/** A device: connects, pushes, reads, pairs. */
export class SyncClient {
  private constructor() {}

  /** Opens the device's state; makes the device on first open; connects by itself where it has a group. */
  static async open(_options: SyncClientOptions): Promise<SyncClient> {
    throw new Error("not built yet");
  }

  get deviceId(): string {
    throw new Error("not built yet");
  }

  get groupId(): string | undefined {
    throw new Error("not built yet");
  }

  /** Founds a group with this device as its first member. Resolves when the relay has it. */
  async createGroup(_options: { readonly invite?: string } = {}): Promise<void> {
    throw new Error("not built yet");
  }

  /** Opens an invite. `confirm` is asked once the joiner is known; nothing is admitted without its yes. */
  async invite(_options: {
    readonly confirm: (joiner: JoinerInfo) => boolean | Promise<boolean>;
  }): Promise<Invite> {
    throw new Error("not built yet");
  }

  /** Joins a group by code or link. Resolves when this device is a full member and holds the keyring. */
  async join(
    _codeOrLink: string,
    _options: {
      readonly onComparison?: (words: readonly string[]) => void;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<void> {
    throw new Error("not built yet");
  }

  /** Queues an entry. Resolves when it is safe on this device, online or not. */
  async push(_data: Uint8Array, _options: PushOptions = {}): Promise<PushReceipt> {
    throw new Error("not built yet");
  }

  /** Queues entries in one transaction: all or none. */
  async pushMany(_items: readonly PushItem[]): Promise<PushReceipt[]> {
    throw new Error("not built yet");
  }

  /** Queues an empty entry that deletes others. */
  async delete(
    _blobIds: readonly string[],
    _options: { readonly force?: boolean } = {},
  ): Promise<PushReceipt> {
    throw new Error("not built yet");
  }

  /**
   * Hands out entries in log order, at least once, from the first that was not acknowledged. Ends
   * when the signal aborts, the client closes, or, with `untilCaughtUp`, once everything up to the
   * head was handed out.
   */
  entries(
    _options: { readonly signal?: AbortSignal; readonly untilCaughtUp?: boolean } = {},
  ): AsyncIterable<Entry> {
    throw new Error("not built yet");
  }

  /** Reads a part of the log again, from the relay; moves no cursor. */
  history(_options: {
    readonly after: number;
    readonly until?: number;
  }): AsyncIterable<HistoryEntry> {
    throw new Error("not built yet");
  }

  /** Resolves when everything queued is on the relay's disk. */
  async flush(_options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    throw new Error("not built yet");
  }

  /** Resolves when everything up to the relay's head was read and stored. */
  async caughtUp(_options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    throw new Error("not built yet");
  }

  /** The devices of the group, this one included. */
  devices(): DeviceInfo[] {
    throw new Error("not built yet");
  }

  status(): Status {
    throw new Error("not built yet");
  }

  /** Listens. Returns what stops it. */
  on<E extends keyof SyncEvents>(_event: E, _listener: (value: SyncEvents[E]) => void): () => void {
    throw new Error("not built yet");
  }

  /** Tells the relay whether the app is in use; the other devices see it. */
  setPresence(_presence: "online" | "away"): void {
    throw new Error("not built yet");
  }

  /** Writes what is pending, disconnects and lets the store go. */
  async close(): Promise<void> {
    throw new Error("not built yet");
  }
}
