/**
 * The public API of the client library: what can be asked of a device. What each thing takes stands
 * beside it, in a file of its own.
 */
import type { EvidenceBundle } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { DeviceState_Membership } from "../gen/syncrelay/state/v1/state_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { acceptFinding } from "./accepting.ts";
import type { Connection } from "./connection.ts";
import { Core } from "./core.ts";
import { checkName, loadState, openDevice } from "./device-state.ts";
import { Disk } from "./disk.ts";
import { Entering, type JoinOptions, type RecoverOptions } from "./entering.ts";
import { entryFeed } from "./entry-feed.ts";
import { Events } from "./events.ts";
import type { FindingInfo } from "./findings.ts";
import { readHistory } from "./history-reader.ts";
import type { Host } from "./host.ts";
import { later } from "./later.ts";
import type { ObjectContent } from "./object-source.ts";
import type { GetObjectOptions, PutObjectOptions, StoredObject } from "./objects.ts";
import { Overview } from "./overview.ts";
import { Parts } from "./parts.ts";
import { deviceFingerprint } from "./seal/device-fingerprint.ts";
import { deriveDeviceKeys } from "./seal/keys.ts";
import type { CodeCost } from "./seal/primitives.ts";
import type { PhraseState } from "./seal/recovery.ts";
import type { SnapshotMade } from "./snapshot-maker.ts";
import type { SnapshotOptions } from "./snapshots.ts";
import { Standing } from "./standing.ts";
import { type StateStore, StateStoreError } from "./state-store.ts";
import type {
  DeviceInfo,
  Entry,
  HistoryEntry,
  Invite,
  JoinerInfo,
  PushItem,
  PushOptions,
  PushReceipt,
  RecoveryPhrase,
  Status,
  SyncEvents,
  WakeUpInfo,
  WakeUpSubscription,
} from "./types.ts";
import { UsageError } from "./usage-error.ts";
import type { VerificationProgress, VerificationReport } from "./verification.ts";

/** How a client is opened. */
export interface SyncClientOptions extends SnapshotOptions {
  /** Where the device's state is kept; the platform's own `openSyncClient` brings one. */
  readonly store: StateStore;
  /** Clock, randomness, timers and sockets; likewise. */
  readonly host: Host;
  /** The relay's address, with its key. Needed before the device founds a group or joins by code. */
  readonly relay?: string;
  /** What people call this device; 1 to 64 bytes of UTF-8. Default: "device". */
  readonly name?: string;
  /** Entries that may wait for the app before reading pauses. Default 10,000. */
  readonly entriesBuffered?: number;
  /**
   * Own entries that may be queued here; beyond, `push` throws `QueueFullError`. `status().queueRoom` says
   * how many are left. Default 100,000.
   */
  readonly queueEntriesMax?: number;
  /**
   * Everything up to this position counts as acknowledged: for apps that keep it in the transaction
   * that applies an entry. A function is asked when the device's state is open.
   */
  readonly appliedPosition?: number | (() => number | Promise<number>);
  /** Where pairing links point; see `seal/pairing-link.ts`. Default: `syncrelay:pair`. */
  readonly pairingOrigin?: string;
  /** What stretching a short code costs; both devices must agree. Only simulations spend less. */
  readonly codeCost?: CodeCost;
}

/** A device: connects, pushes, reads, pairs. */
export class SyncClient {
  readonly #core: Core;
  readonly #options: SyncClientOptions;
  readonly #parts: Parts;
  readonly #standing: Standing;
  readonly #overview: Overview;
  readonly #entering: Entering;

  private constructor(core: Core, options: SyncClientOptions) {
    this.#core = core;
    this.#options = options;
    this.#standing = new Standing(core);
    const entriesBuffered = Math.max(1, options.entriesBuffered ?? 10_000);
    this.#parts = new Parts(
      core,
      { ...options, entriesBuffered },
      {
        groupChanged: () => this.#overview.membershipChanged(),
        applied: (device, cursor, madeMs) => this.#overview.applied(device, cursor, madeMs),
      },
    );
    this.#overview = new Overview(this.#parts, this.#standing);
    const { pairingOrigin, codeCost } = options;
    this.#entering = new Entering(this.#parts, this.#standing, {
      ...(pairingOrigin === undefined ? {} : { pairingOrigin }),
      ...(codeCost === undefined ? {} : { codeCost }),
      entered: () => this.#overview.membershipChanged(),
    });
    core.moved = () => {
      this.#overview.moved();
      this.#parts.snapshots.check();
    };
  }

  /** Opens the device's state; makes the device on first open; connects by itself where it has a group. */
  static async open(options: SyncClientOptions): Promise<SyncClient> {
    const { host, store } = options;
    const disk = new Disk(store);
    const { seed, device } = await openDevice(disk, host, options);
    const core = new Core(host, disk, new Events(host), deriveDeviceKeys(seed));
    core.device = device;
    const client = new SyncClient(core, options);
    await client.#begin();
    return client;
  }

  async #begin(): Promise<void> {
    const core = this.#core;
    await loadState(this.#parts);
    const { appliedPosition } = this.#options;
    const applied =
      typeof appliedPosition === "function" ? await appliedPosition() : appliedPosition;
    if (applied !== undefined) this.#parts.inbox.acknowledgeThrough(applied);
    if (core.device.membership === DeviceState_Membership.FOUNDING) {
      // Goes on by itself; who asks for it again hears how it ended.
      this.#entering.found(true).catch((error: unknown) => {
        if (error instanceof SyncError || error instanceof StateStoreError) core.failed(error);
        else throw error;
      });
    } else {
      this.#parts.engine.start();
    }
  }

  /** This device's name in the protocol: its public key, as base64url. */
  get deviceId(): string {
    return this.#core.deviceText;
  }

  /** The group it is in, as base64url; undefined in none. */
  get groupId(): string | undefined {
    return this.#overview.groupId;
  }

  // --- coming into a group ----------------------------------------------------------------------

  /**
   * Founds a group with this device as its first member. Resolves when the relay has it. Asked again
   * after a failure or a restart, it goes on with the group it began.
   */
  async createGroup(options: { readonly invite?: string } = {}): Promise<void> {
    await this.#entering.createGroup(options);
  }

  /** Joins a group by code or link. Resolves when this device is a full member and holds the keyring. */
  async join(codeOrLink: string, options: JoinOptions = {}): Promise<void> {
    await this.#entering.join(codeOrLink, options);
  }

  /**
   * Brings a group back onto this device, which is in none, by its recovery phrase. Resolves when this
   * device is a full member and holds the keyring. Nothing of the words is kept. Throws `PhraseError`
   * where they are no phrase.
   */
  async recover(words: string | readonly string[], options: RecoverOptions = {}): Promise<void> {
    await this.#entering.recover(words, options);
  }

  /**
   * For a member that the relay does not know: it was restored from a backup of before, or set up
   * anew. With a group invite of the relay's operator it takes this device back, and the group where
   * it is gone. Resolves when the relay has all that this device holds of the group's membership; what
   * else it lacks follows by itself.
   */
  async reconnectWithInvite(invite: string): Promise<void> {
    await this.#entering.reconnect(invite);
  }

  /**
   * Waits no longer to be admitted: the device is in no group, and may join one. Where the inviting
   * device adds it all the same, it stands in that group's list until somebody removes it, and is a
   * member once it is invited there again.
   */
  async giveUpAdmission(): Promise<void> {
    await this.#entering.giveUpAdmission();
  }

  // --- the group and its devices ----------------------------------------------------------------

  /** Opens an invite. `confirm` is asked once the joiner is known; nothing is admitted without its yes. */
  async invite(options: {
    readonly confirm: (joiner: JoinerInfo) => boolean | Promise<boolean>;
  }): Promise<Invite> {
    this.#standing.checkMember();
    const core = this.#core;
    const { additions, engine } = this.#parts;
    await this.#online();
    const { Inviting } = await later();
    const inviting = await Inviting.open(core, additions, {
      confirm: options.confirm,
      origin: this.#options.pairingOrigin,
      codeCost: this.#options.codeCost,
    });
    try {
      if (core.session === undefined) throw new SyncError(ErrorCode.UNREACHABLE);
      await engine.addInvite(inviting);
    } catch (error) {
      // Whoever asked hears why there is none, not that the end of it could not be told.
      await inviting.cancel().catch(() => undefined);
      throw error;
    }
    const done = inviting.done.then((deviceId) => {
      const device = core.chain?.devices.get(idText(deviceId));
      if (device === undefined) throw new SyncError(ErrorCode.DEVICE_UNKNOWN);
      return this.#overview.deviceInfo(device);
    });
    // Listened to or not, an invite that ends is no reason to end the process.
    done.catch(() => undefined);
    return {
      code: inviting.code,
      link: inviting.link,
      expiresAtMs: inviting.expiresAtMs,
      done,
      cancel: () => inviting.cancel(),
    };
  }

  /**
   * Removes devices from the group, for good: nothing they write from now on is applied, and nothing
   * that is written from now on can be read by them. Kept until it is done, also across a restart;
   * resolves when the group's chain says so.
   */
  async remove(deviceIds: readonly string[]): Promise<void> {
    this.#standing.checkMember();
    const { chain, deviceText } = this.#core;
    for (const id of deviceIds) {
      if (id === deviceText) throw new UsageError("a device cannot remove itself");
      if (chain?.devices.get(id) === undefined) throw unknownDevice();
    }
    await this.#parts.changes.remove(deviceIds);
  }

  /** Gives the group a new secret, for what is written from now on. Resolves when it has one. */
  async rotate(): Promise<void> {
    this.#standing.checkMember();
    await this.#parts.changes.rotate();
  }

  /** Gives this device another name. Resolves when the group has it. */
  async rename(name: string): Promise<void> {
    this.#standing.checkMember();
    checkName(name);
    await this.#parts.changes.rename(name);
  }

  /**
   * Makes a recovery phrase. Its words are returned once and kept nowhere: whoever has them can bring
   * the group and everything the relay holds of it back onto a new device. With `replace`, phrases
   * there were before are removed once the new one is in.
   */
  async createRecoveryPhrase(
    options: { readonly replace?: boolean } = {},
  ): Promise<RecoveryPhrase> {
    this.#standing.checkMember();
    return await (await later()).createPhrase(this.#parts, options);
  }

  /** Whether words are a recovery phrase of this group. Throws `PhraseError` where they are no phrase. */
  async verifyRecoveryPhrase(words: string | readonly string[]): Promise<PhraseState> {
    this.#standing.checkMember();
    return await (await later()).verifyPhrase(this.#parts, words);
  }

  /** Removes every recovery phrase of the group. Resolves with how many there were. */
  async revokeRecoveryPhrase(): Promise<number> {
    this.#standing.checkMember();
    return await (await later()).revokePhrases(this.#parts);
  }

  /** A device in full: 64 hexadecimal digits over all its public keys. Default: this one. */
  fingerprint(deviceId: string = this.deviceId): string {
    const device =
      this.#core.chain?.devices.get(deviceId) ??
      (deviceId === this.deviceId ? this.#core.keys : undefined);
    if (device === undefined) throw unknownDevice();
    return deviceFingerprint(device);
  }

  /** The devices of the group, this one included. */
  devices(): DeviceInfo[] {
    return this.#overview.devices();
  }

  // --- writing and reading ----------------------------------------------------------------------

  /** Queues an entry. Resolves when it is safe on this device, online or not. */
  async push(data: Uint8Array, options: PushOptions = {}): Promise<PushReceipt> {
    const [receipt] = await this.pushMany([{ ...options, data }]);
    return receipt as PushReceipt;
  }

  /** Queues entries in one transaction: all or none. */
  async pushMany(items: readonly PushItem[]): Promise<PushReceipt[]> {
    this.#standing.checkMember();
    return await this.#parts.outbox.push(items);
  }

  /** Queues an empty entry that deletes others. */
  async delete(
    blobIds: readonly string[],
    options: { readonly force?: boolean } = {},
  ): Promise<PushReceipt> {
    return await this.push(new Uint8Array(0), { ...options, deletes: blobIds });
  }

  /**
   * Hands out entries in log order, at least once, from the first that was not acknowledged. Ends
   * when the signal aborts, the client closes, or, with `untilCaughtUp`, once everything up to the
   * head was handed out.
   */
  entries(
    options: { readonly signal?: AbortSignal; readonly untilCaughtUp?: boolean } = {},
  ): AsyncGenerator<Entry, void, undefined> {
    return entryFeed(this.#parts, this.#standing, options);
  }

  /** Reads a part of the log again, from the relay; moves no cursor. Default `until`: the head of now. */
  async *history(options: {
    readonly after: number;
    readonly until?: number;
  }): AsyncGenerator<HistoryEntry, void, undefined> {
    this.#standing.checkMember();
    yield* readHistory(this.#core, this.#parts.reader, options.after, options.until);
  }

  /** Resolves when everything queued is on the relay's disk. */
  async flush(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#standing.checkOpen();
    await this.#standing.unlessRemoved(this.#parts.outbox.flush(options.signal));
  }

  /** Resolves when everything up to the relay's head was read and stored, and the own chain compared. */
  async caughtUp(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const standing = this.#standing;
    standing.checkMember();
    const { signal } = options;
    const wake = (): void => this.#parts.inbox.wake();
    signal?.addEventListener("abort", wake);
    try {
      const stop = (): boolean => standing.closed || signal?.aborted === true || standing.removed;
      const { inbox, outbox, reader } = this.#parts;
      // Also how much of this device's own chain the relay has: before that, nothing is in sync.
      while (!(reader.caughtUp && outbox.met) && !stop()) await inbox.changed();
      signal?.throwIfAborted();
      standing.checkMember();
    } finally {
      signal?.removeEventListener("abort", wake);
    }
  }

  /**
   * Walks everything the relay still holds, from the founding and the first header there is, and
   * checks it anew; also against what this device verified before. Moves nothing and heals nothing:
   * what is wrong is told in the report. Rejects with CONNECTION_LOST where the session ends.
   */
  async verify(
    options: {
      readonly onProgress?: (progress: VerificationProgress) => void;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<VerificationReport> {
    await this.caughtUp(options);
    return await (await later()).verifyRetained(this.#core, this.#parts, options);
  }

  // --- objects ----------------------------------------------------------------------------------

  /**
   * Puts content that is too large for an entry beside the log, for an entry to refer to. Resolves
   * when all of it is on the relay's disk. The content is read twice, and again after a cut, with flat
   * memory whatever its size. Rejects with QUOTA_EXCEEDED or TOO_LARGE where the relay takes no more;
   * an upload with a name goes on from there once it is put again.
   */
  async putObject(content: ObjectContent, options: PutObjectOptions = {}): Promise<StoredObject> {
    this.#standing.checkMember();
    return await this.#standing.unlessRemoved(this.#parts.objects.put(content, options));
  }

  /**
   * Gets an object, or a range of it, by the reference that an entry carried. Every piece that is
   * handed out was authenticated; read whole, the object as a whole too. Throws OPEN_FAILED where the
   * relay hands out anything else, or no longer has it.
   */
  getObject(reference: Uint8Array, options: GetObjectOptions = {}): AsyncIterable<Uint8Array> {
    this.#standing.checkMember();
    return this.#parts.objects.get(reference, options);
  }

  /** Lets an object go that no entry refers to any more. Takes a reference, or an object's id. */
  async dropObject(object: Uint8Array | string): Promise<void> {
    this.#standing.checkMember();
    await this.#standing.unlessRemoved(this.#parts.objects.drop(object));
  }

  // --- snapshots --------------------------------------------------------------------------------

  /**
   * Makes a snapshot of the app's state now, by its `snapshot` function, and stores it on the relay;
   * the log shrinks once another device has confirmed it. Happens by itself when the relay asks for
   * one. Waits until everything is read, acknowledged and pushed. Resolves with undefined where
   * another snapshot replaces as much already.
   */
  async makeSnapshot(
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<SnapshotMade | undefined> {
    this.#standing.checkMember();
    return await this.#standing.unlessRemoved(this.#parts.snapshots.make(options.signal));
  }

  // --- being woken ------------------------------------------------------------------------------

  /**
   * Whether the relay wakes this device through its push service while it is not connected, and the key
   * to subscribe with there. Connects first. Rejects with ENVELOPE_UNEXPECTED where the relay wakes nobody,
   * and with why it cannot be reached.
   */
  async wakeUp(): Promise<WakeUpInfo> {
    return (await later()).askWakeUp(await this.#session());
  }

  /**
   * Has the relay wake this device: when something comes for the group while the device is not connected,
   * its push service is sent a message that says nothing, at most once in 15 minutes until the device has
   * connected again. Takes the place of what was registered before; may be asked at each start. Resolves
   * when it is on the relay's disk. Throws `UsageError` where it is no subscription, or the relay does not
   * send to its endpoint; rejects as `wakeUp` does.
   */
  async registerWakeUp(subscription: WakeUpSubscription): Promise<void> {
    await (await later()).setWakeUp(await this.#session(), subscription);
  }

  /** Has this device woken no more; the relay forgets the subscription. Rejects as `wakeUp` does. */
  async unregisterWakeUp(): Promise<void> {
    await (await later()).setWakeUp(await this.#session());
  }

  // --- how it stands ----------------------------------------------------------------------------

  /**
   * How it stands now: connection, queue, what is durable and applied, what is wrong. `on("status")`
   * tells of changes.
   */
  status(): Status {
    return this.#overview.status();
  }

  /** What was found wrong with the history, with what became of it; the newest last. */
  findings(): FindingInfo[] {
    return this.#core.findings.list();
  }

  /**
   * A person has seen a finding and lets this device go on: `client/accepting.ts` says with what, for
   * each kind. Resolves when it is on disk.
   */
  async acceptFinding(id: string): Promise<void> {
    this.#standing.checkMember();
    await acceptFinding(this.#parts, id);
  }

  /**
   * What shows a finding, or all that are kept, to somebody else: blobs as the relay sent them, and what
   * devices signed. Holds no key, no plaintext and no device's name.
   */
  async evidence(id?: string): Promise<EvidenceBundle> {
    this.#standing.checkOpen();
    return await (await later()).exportEvidence(this.#core, id);
  }

  /** Listens. Returns what stops it. */
  on<E extends keyof SyncEvents>(event: E, listener: (value: SyncEvents[E]) => void): () => void {
    return this.#core.events.on(event, listener);
  }

  /** Tells the relay whether the app is in use; the other devices see it. */
  setPresence(presence: "online" | "away"): void {
    this.#parts.engine.setPresence(presence);
  }

  /** Tries to connect now: instead of waiting, or after the connection was `stopped`. */
  connect(): void {
    this.#parts.engine.retry();
  }

  /** Writes what is pending, disconnects and lets the store go. */
  async close(): Promise<void> {
    if (this.#standing.closed) return;
    const { engine, inbox, outbox, witnesses } = this.#parts;
    engine.close();
    this.#standing.close();
    engine.giveUp(
      new SyncError(ErrorCode.CONNECTION_LOST, {
        hint: "the client was closed; what was asked for is done when it is opened again",
      }),
    );
    try {
      await inbox.close();
      await outbox.settle();
      await witnesses.close();
      await this.#core.time.close(this.#core.changes.active);
    } finally {
      outbox.close();
      this.#core.events.clear();
      try {
        // What is still being queued is signed: the keys go once nothing can follow.
        await this.#core.disk.close();
      } finally {
        this.#core.keys.wipe();
        this.#core.chain?.keyring.wipe();
      }
    }
  }

  /** The session with the relay, once it is reached. */
  async #session(): Promise<Connection> {
    this.#standing.checkMember();
    await this.#online();
    const { session } = this.#core;
    if (session === undefined) throw new SyncError(ErrorCode.UNREACHABLE);
    return session;
  }

  /** Resolves once the relay is reached; rejects with the reason where this attempt to reach it failed. */
  #online(): Promise<void> {
    return new Promise((resolve, reject) => {
      let off = (): void => undefined;
      const consider = ({ connection }: Status): void => {
        if (connection.state === "connecting" || connection.state === "idle") return;
        off();
        if (connection.state === "online") resolve();
        else if (connection.state === "closed") reject(new UsageError("this client is closed"));
        else reject(connection.error);
      };
      off = this.on("status", consider);
      consider(this.status());
    });
  }
}

/** What can be asked of a device, on whichever platform: `SyncClient`, or what stands for it in a tab. */
export type SyncApi = { readonly [K in keyof SyncClient]: SyncClient[K] };

function unknownDevice(): SyncError {
  return new SyncError(ErrorCode.DEVICE_UNKNOWN, { hint: "no device of the group has that id" });
}
