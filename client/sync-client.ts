/** The public API of the client library. */
import { create } from "@bufbuild/protobuf";
import { DeviceState_Membership, DeviceStateSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import { ChangeMembershipSchema } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { MemberRole } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { utf8 } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { fingerprint, groupIdBytes, groupInviteBytes, idText, parseId } from "../wire/ids.ts";
import { inviteMs, nameBytesMax } from "../wire/limits.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import { Acknowledger } from "./acknowledger.ts";
import { Core } from "./core.ts";
import { Disk, decodeChain, decodeDevice, decodeKnown, decodeLog, encodeDevice } from "./disk.ts";
import { Engine } from "./engine.ts";
import { Events } from "./events.ts";
import { FoundingTask } from "./founding.ts";
import { Group } from "./group.ts";
import { readHistory } from "./history-reader.ts";
import type { Host } from "./host.ts";
import { Inbox } from "./inbox.ts";
import { Inviting } from "./inviting.ts";
import { Joining } from "./joining.ts";
import { MembershipChanges } from "./membership-changes.ts";
import { Outbox } from "./outbox.ts";
import { Reader } from "./reader.ts";
import { recoverByPhrase } from "./recovery.ts";
import { Refusals } from "./refusals.ts";
import { foundGroup } from "./seal/changes.ts";
import { deviceFingerprint } from "./seal/device-fingerprint.ts";
import { deriveDeviceKeys, seedBytes } from "./seal/keys.ts";
import { members, type RosterDevice } from "./seal/membership.ts";
import type { PairingMeansName } from "./seal/pairing.ts";
import { looksLikeLink, parsePairingLink } from "./seal/pairing-link.ts";
import type { CodeCost } from "./seal/primitives.ts";
import {
  admitPhrase,
  drawPhrase,
  type PhraseState,
  paperOfWords,
  phraseState,
} from "./seal/recovery.ts";
import { parseCode, pskOfCode } from "./seal/short-code.ts";
import { type StateStore, StateStoreError } from "./state-store.ts";
import { atTurnEnd } from "./turn.ts";
import type {
  DeviceInfo,
  Entry,
  HistoryEntry,
  Invite,
  JoinerInfo,
  MembershipStatus,
  PushItem,
  PushOptions,
  PushReceipt,
  RecoveryPhrase,
  Status,
  SyncEvents,
} from "./types.ts";
import { UsageError } from "./usage-error.ts";

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
  /**
   * Everything up to this position counts as acknowledged: for apps that keep it in the transaction
   * that applies an entry.
   */
  readonly appliedPosition?: number;
  /** Where pairing links point; see `seal/pairing-link.ts`. Default: `syncrelay:pair`. */
  readonly pairingOrigin?: string;
  /** What stretching a short code costs; both devices must agree. Only simulations spend less. */
  readonly codeCost?: CodeCost;
}

/** A device: connects, pushes, reads, pairs. */
export class SyncClient {
  readonly #core: Core;
  readonly #options: SyncClientOptions;
  readonly #group: Group;
  readonly #changes: MembershipChanges;
  readonly #inbox: Inbox;
  readonly #refusals: Refusals;
  readonly #reader: Reader;
  readonly #outbox: Outbox;
  readonly #acknowledger: Acknowledger;
  readonly #engine: Engine;
  readonly #applied = new Map<string, { readonly cursor: number; readonly madeMs: number }>();
  #statusSoon = false;
  #lastStatus = "";
  #lastSyncMs: number | undefined;
  #entering = false;
  /** Recoveries under way end with the client. */
  readonly #closing = new AbortController();
  #closed = false;

  private constructor(core: Core, options: SyncClientOptions) {
    this.#core = core;
    this.#options = options;
    this.#refusals = new Refusals(core);
    const buffered = Math.max(1, options.entriesBuffered ?? 10_000);
    this.#inbox = new Inbox(core, buffered);
    this.#group = new Group(core, {
      changed: () => {
        this.#changes.changed();
        this.#reader.chainChanged();
        this.#membershipChanged();
      },
    });
    this.#changes = new MembershipChanges(core, this.#group, {
      caughtUp: () => this.#reader.caughtUp,
      linkOf: (device, seq) => this.#reader.linkOf(device, seq),
      refusedOf: (device) => this.#refusals.holding.has(device),
    });
    this.#reader = new Reader(core, this.#inbox, this.#refusals, buffered, {
      refreshGroup: async () => {
        if (core.session !== undefined) await this.#group.refresh(core.session);
      },
      wantsOwn: (seq) => this.#outbox.wantsOwn(seq),
      ownRead: (tx, own) => this.#outbox.keepOwn(tx, own),
      ownStored: (seq, cursor) => this.#outbox.delivered(seq, cursor),
      stored: () => {
        this.#outbox.read();
        this.#acknowledger.check();
        this.#changes.read();
      },
    });
    this.#outbox = new Outbox(core, {
      settleEpoch: async (version) => {
        if (core.session !== undefined) await this.#group.catchUp(core.session, version);
      },
      caughtUp: () => this.#reader.caughtUp,
      ownLink: (seq) => this.#reader.linkOf(core.deviceText, seq),
    });
    this.#acknowledger = new Acknowledger(core, {
      caughtUp: () => this.#reader.caughtUp,
      nextWitnessCounter: () => this.#outbox.nextWitnessCounter(),
      witnessed: (sender, claims) => {
        this.#applied.set(sender, { cursor: claims.applied, madeMs: claims.madeMs });
        this.#reader.compareWitness(sender, claims);
        core.moved();
      },
    });
    this.#inbox.applied = () => this.#acknowledger.check();
    this.#engine = new Engine(core, {
      group: this.#group,
      changes: this.#changes,
      reader: this.#reader,
      outbox: this.#outbox,
      inbox: this.#inbox,
      refusals: this.#refusals,
      acknowledger: this.#acknowledger,
    });
    core.moved = () => this.#moved();
  }

  /** Opens the device's state; makes the device on first open; connects by itself where it has a group. */
  static async open(options: SyncClientOptions): Promise<SyncClient> {
    const { host, store } = options;
    checkName(options.name);
    const address = options.relay === undefined ? undefined : parseRelayAddress(options.relay).text;
    const disk = new Disk(store);
    const loaded = await disk.write(async (tx) => {
      let seed = await tx.get("device", "seed");
      if (seed === undefined) {
        seed = host.random(seedBytes);
        tx.put("device", "seed", seed);
      }
      const bytes = await tx.get("device", "state");
      let device =
        bytes === undefined
          ? create(DeviceStateSchema, { name: options.name ?? "device" })
          : decodeDevice(bytes);
      const { membership } = device;
      if (address !== undefined && address !== device.relayAddress) {
        if (membership !== DeviceState_Membership.UNSPECIFIED) {
          checkSameRelay(device.relayAddress, address);
        }
        device = create(DeviceStateSchema, { ...device, relayAddress: address });
      }
      // A member's name stands in the control chain; before that it can still be chosen.
      if (options.name !== undefined && membership === DeviceState_Membership.UNSPECIFIED) {
        device = create(DeviceStateSchema, { ...device, name: options.name });
      }
      tx.put("device", "state", encodeDevice(device));
      return { seed, device };
    });
    const core = new Core(host, disk, new Events(host), deriveDeviceKeys(loaded.seed));
    core.device = loaded.device;
    const client = new SyncClient(core, options);
    await client.#load();
    return client;
  }

  get deviceId(): string {
    return this.#core.deviceText;
  }

  get groupId(): string | undefined {
    const { groupId } = this.#core.device;
    return groupId.byteLength === 0 ? undefined : idText(groupId);
  }

  /**
   * Founds a group with this device as its first member. Resolves when the relay has it. Asked again
   * after a failure or a restart, it goes on with the group it began.
   */
  async createGroup(options: { readonly invite?: string } = {}): Promise<void> {
    await this.#enter(() => this.#createGroup(options));
  }

  async #createGroup(options: { readonly invite?: string }): Promise<void> {
    const core = this.#core;
    const { membership } = core.device;
    if (membership === DeviceState_Membership.MEMBER) {
      throw new UsageError("this device is in a group already");
    }
    if (core.device.relayAddress === "") {
      throw new UsageError("a relay address is needed to found a group");
    }
    const groupInvite = options.invite === undefined ? undefined : parseGroupInvite(options.invite);
    let change = core.device.pendingFounding;
    const resumed = membership === DeviceState_Membership.FOUNDING && change !== undefined;
    if (resumed && change !== undefined) {
      if (groupInvite !== undefined)
        change = create(ChangeMembershipSchema, { ...change, groupInvite });
    } else {
      change = foundGroup({
        keys: core.keys,
        random: core.host.random,
        nowMs: Math.floor(core.host.nowMs()),
        groupId: core.host.random(groupIdBytes),
        name: core.device.name,
        ...(groupInvite === undefined ? {} : { groupInvite }),
      }).change;
    }
    await this.#writeDevice({
      membership: DeviceState_Membership.FOUNDING,
      groupId: change.groupId,
      pendingFounding: change,
    });
    await this.#found(resumed);
  }

  /** Opens an invite. `confirm` is asked once the joiner is known; nothing is admitted without its yes. */
  async invite(options: {
    readonly confirm: (joiner: JoinerInfo) => boolean | Promise<boolean>;
  }): Promise<Invite> {
    this.#checkMember();
    const core = this.#core;
    await this.#online();
    const inviting = await Inviting.open(core, this.#group, {
      confirm: options.confirm,
      origin: this.#options.pairingOrigin,
      codeCost: this.#options.codeCost,
    });
    try {
      if (core.session === undefined) throw new SyncError(ErrorCode.UNREACHABLE);
      await this.#engine.addInvite(inviting);
    } catch (error) {
      await inviting.cancel();
      throw error;
    }
    const done = inviting.done.then((deviceId) => {
      const device = core.chain?.devices.get(idText(deviceId));
      if (device === undefined) throw new SyncError(ErrorCode.DEVICE_UNKNOWN);
      return this.#deviceInfo(device);
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

  /** Joins a group by code or link. Resolves when this device is a full member and holds the keyring. */
  async join(
    codeOrLink: string,
    options: {
      readonly onComparison?: (words: readonly string[]) => void;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<void> {
    await this.#enter(() => this.#join(codeOrLink, options));
    await this.#untilMember(options.signal);
  }

  async #join(
    codeOrLink: string,
    options: {
      readonly onComparison?: (words: readonly string[]) => void;
      readonly signal?: AbortSignal;
    },
  ): Promise<void> {
    const core = this.#core;
    const { membership } = core.device;
    if (
      membership === DeviceState_Membership.MEMBER ||
      membership === DeviceState_Membership.FOUNDING
    ) {
      throw new UsageError("this device is in a group already");
    }
    options.signal?.throwIfAborted();
    const ticket = await this.#ticket(codeOrLink);
    await new Promise<void>((resolve, reject) => {
      const joining: Joining = new Joining(core, {
        ...ticket,
        name: core.device.name,
        onComparison: options.onComparison,
        admitted: (admission) =>
          this.#writeDevice({
            // The address this device came by: the other one may reach the relay by a shorter way.
            relayAddress: ticket.address.text,
            groupId: admission.groupId,
            membership: DeviceState_Membership.ADMITTED,
            expectedHead: admission.controlHead,
          }),
        finished: (error) => {
          options.signal?.removeEventListener("abort", abort);
          this.#engine.endTask(joining);
          if (error === undefined) resolve();
          else reject(error);
        },
      });
      const abort = (): void => joining.abort(options.signal?.reason);
      options.signal?.addEventListener("abort", abort, { once: true });
      this.#engine.beginTask(joining);
    });
  }

  /**
   * Removes devices from the group, for good: nothing they write from now on is applied, and nothing
   * that is written from now on can be read by them. Kept until it is done, also across a restart;
   * resolves when the group's chain says so.
   */
  async remove(deviceIds: readonly string[]): Promise<void> {
    this.#checkMember();
    const { chain, deviceText } = this.#core;
    for (const id of deviceIds) {
      if (id === deviceText) throw new UsageError("a device cannot remove itself");
      const device = chain?.devices.get(id);
      if (device === undefined) {
        throw new SyncError(ErrorCode.DEVICE_UNKNOWN, {
          hint: "no device of the group has that id",
        });
      }
    }
    await this.#changes.remove(deviceIds);
  }

  /** Gives the group a new secret, for what is written from now on. Resolves when it has one. */
  async rotate(): Promise<void> {
    this.#checkMember();
    await this.#changes.rotate();
  }

  /** Gives this device another name. Resolves when the group has it. */
  async rename(name: string): Promise<void> {
    this.#checkMember();
    checkName(name);
    await this.#changes.rename(name);
  }

  /**
   * Makes a recovery phrase. Its words are returned once and kept nowhere: whoever has them can bring
   * the group and everything the relay holds of it back onto a new device. With `replace`, phrases
   * there were before are removed once the new one is in.
   */
  async createRecoveryPhrase(
    options: { readonly replace?: boolean } = {},
  ): Promise<RecoveryPhrase> {
    this.#checkMember();
    const core = this.#core;
    const before = this.#phrases();
    if (before.length > 0 && options.replace !== true) {
      throw new UsageError("the group has a recovery phrase already; it can be replaced");
    }
    const { words, paper } = drawPhrase(core.host.random);
    const { deviceId } = paper.keys;
    try {
      await this.#changes.admit({
        deviceId,
        make: (chain) =>
          admitPhrase(chain, paper, {
            keys: core.keys,
            random: core.host.random,
            nowMs: Math.floor(core.host.nowMs()),
          }),
      });
    } finally {
      paper.wipe();
    }
    const replaced = before.length === 0 ? Promise.resolve() : this.#changes.remove(before);
    replaced.catch(() => undefined);
    // Asked for on disk before the words are given out.
    await core.disk.write(() => undefined);
    return { words, deviceId: idText(deviceId), fingerprint: fingerprint(deviceId), replaced };
  }

  /** Whether words are a recovery phrase of this group. Throws `PhraseError` where they are no phrase. */
  async verifyRecoveryPhrase(words: string | readonly string[]): Promise<PhraseState> {
    this.#checkMember();
    const { chain } = this.#core;
    const paper = paperOfWords(words);
    try {
      if (chain === undefined) return "unknown";
      return phraseState(chain, await this.#group.blobs(), paper);
    } finally {
      paper.wipe();
    }
  }

  /** Removes every recovery phrase of the group. Resolves with how many there were. */
  async revokeRecoveryPhrase(): Promise<number> {
    this.#checkMember();
    const phrases = this.#phrases();
    if (phrases.length > 0) await this.#changes.remove(phrases);
    return phrases.length;
  }

  /**
   * Brings a group back onto this device, which is in none, by its recovery phrase. Resolves when this
   * device is a full member and holds the keyring. Nothing of the words is kept. Throws `PhraseError`
   * where they are no phrase.
   */
  async recover(
    words: string | readonly string[],
    options: {
      /** Which group, where the phrase is in several. */
      readonly groupId?: string;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<void> {
    const { signal } = options;
    await this.#enter(async () => {
      const { membership, relayAddress } = this.#core.device;
      if (
        membership !== DeviceState_Membership.UNSPECIFIED &&
        membership !== DeviceState_Membership.ADMITTED
      ) {
        throw new UsageError("this device is in a group already");
      }
      if (relayAddress === "") throw new UsageError("a relay address is needed to recover a group");
      const paper = paperOfWords(words);
      try {
        const closing = this.#closing.signal;
        await recoverByPhrase(this.#core, {
          paper,
          groupId: options.groupId,
          signal: signal === undefined ? closing : AbortSignal.any([signal, closing]),
          admitted: (admission) =>
            this.#writeDevice({ membership: DeviceState_Membership.ADMITTED, ...admission }),
        });
      } finally {
        paper.wipe();
      }
    });
    this.#engine.retry();
    await this.#untilMember(signal);
  }

  /** A device in full: 64 hexadecimal digits over all its public keys. Default: this one. */
  fingerprint(deviceId: string = this.deviceId): string {
    const device =
      this.#core.chain?.devices.get(deviceId) ??
      (deviceId === this.deviceId ? this.#core.keys : undefined);
    if (device === undefined) {
      throw new SyncError(ErrorCode.DEVICE_UNKNOWN, { hint: "no device of the group has that id" });
    }
    return deviceFingerprint(device);
  }

  #phrases(): string[] {
    return this.devices()
      .filter(({ role }) => role === "paper")
      .map(({ deviceId }) => deviceId);
  }

  /** Founding and joining: one at a time. */
  async #enter(run: () => Promise<void>): Promise<void> {
    this.#checkOpen();
    if (this.#entering || this.#engine.task !== undefined) {
      throw new UsageError("this device is founding or joining a group already");
    }
    this.#entering = true;
    try {
      await run();
    } finally {
      this.#entering = false;
    }
  }

  /** Queues an entry. Resolves when it is safe on this device, online or not. */
  async push(data: Uint8Array, options: PushOptions = {}): Promise<PushReceipt> {
    const [receipt] = await this.pushMany([{ ...options, data }]);
    return receipt as PushReceipt;
  }

  /** Queues entries in one transaction: all or none. */
  async pushMany(items: readonly PushItem[]): Promise<PushReceipt[]> {
    this.#checkMember();
    return await this.#outbox.push(items);
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
  async *entries(
    options: { readonly signal?: AbortSignal; readonly untilCaughtUp?: boolean } = {},
  ): AsyncGenerator<Entry, void, undefined> {
    const inbox = this.#inbox;
    const { signal } = options;
    const wake = (): void => inbox.wake();
    signal?.addEventListener("abort", wake);
    const over = (): boolean => inbox.closed || signal?.aborted === true;
    try {
      let position = this.#core.app.acknowledged + 1;
      while (!over()) {
        const page = await inbox.page(position);
        if (page === undefined) {
          if (options.untilCaughtUp === true && (this.#reader.caughtUp || this.#removed)) return;
          await inbox.changed();
          continue;
        }
        position = Math.max(position, page.first);
        for (const end = page.first + page.items.length; position < end && !over(); ) {
          const at = position;
          position += 1;
          if (!inbox.isAcknowledged(at)) yield inbox.entry(page, at - page.first);
        }
      }
    } finally {
      signal?.removeEventListener("abort", wake);
    }
  }

  /** Reads a part of the log again, from the relay; moves no cursor. Default `until`: the head of now. */
  async *history(options: {
    readonly after: number;
    readonly until?: number;
  }): AsyncGenerator<HistoryEntry, void, undefined> {
    this.#checkMember();
    yield* readHistory(this.#core, this.#reader, options.after, options.until);
  }

  /** Resolves when everything queued is on the relay's disk. */
  async flush(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#checkOpen();
    await this.#unlessRemoved(this.#outbox.flush(options.signal));
  }

  /** Resolves when everything up to the relay's head was read and stored. */
  async caughtUp(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#checkMember();
    const { signal } = options;
    const wake = (): void => this.#inbox.wake();
    signal?.addEventListener("abort", wake);
    try {
      await this.#reader.untilCaughtUp(
        () => this.#closed || signal?.aborted === true || this.#removed,
      );
      signal?.throwIfAborted();
      this.#checkMember();
    } finally {
      signal?.removeEventListener("abort", wake);
    }
  }

  /** The devices of the group, this one included. */
  devices(): DeviceInfo[] {
    const { chain } = this.#core;
    return chain === undefined ? [] : members(chain).map((device) => this.#deviceInfo(device));
  }

  status(): Status {
    const core = this.#core;
    const { device, log, chain } = core;
    const connection = this.#engine.status;
    const { queued } = this.#outbox;
    const unacknowledged = this.#inbox.count;
    const read = this.#reader.caughtUp;
    const inSync =
      connection.state === "online" &&
      read &&
      queued === 0 &&
      unacknowledged === 0 &&
      core.findings.count === 0 &&
      this.#refusals.count === 0 &&
      !this.#reader.missesClosing;
    return {
      deviceId: core.deviceText,
      name: chain?.devices.get(core.deviceText)?.name ?? device.name,
      groupId: this.groupId,
      relay: device.relayAddress === "" ? undefined : device.relayAddress,
      membership: membershipNames[device.membership] ?? "none",
      connection,
      queued,
      durableSeq: core.own.durableSeq,
      pushHeld: this.#outbox.held,
      readCursor: log.read,
      appliedCursor: this.#inbox.appliedCursor,
      head: core.head,
      unacknowledged,
      refused: this.#refusals.count,
      findings: core.findings.count,
      epoch: chain?.epoch ?? 0,
      devices: chain === undefined ? 0 : members(chain).length,
      lastSyncMs: this.#lastSyncMs,
      inSync,
    };
  }

  /** Listens. Returns what stops it. */
  on<E extends keyof SyncEvents>(event: E, listener: (value: SyncEvents[E]) => void): () => void {
    return this.#core.events.on(event, listener);
  }

  /** Tells the relay whether the app is in use; the other devices see it. */
  setPresence(presence: "online" | "away"): void {
    this.#engine.setPresence(presence);
  }

  /** Tries to connect now: instead of waiting, or after the connection was `stopped`. */
  connect(): void {
    this.#engine.retry();
  }

  /** Writes what is pending, disconnects and lets the store go. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine.close();
    this.#closing.abort(new UsageError("the client was closed"));
    this.#changes.giveUp(
      new SyncError(ErrorCode.CONNECTION_LOST, {
        hint: "the client was closed; what was asked for is done when it is opened again",
      }),
    );
    try {
      await this.#inbox.close();
      await this.#outbox.settle();
    } finally {
      this.#outbox.close();
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

  async #load(): Promise<void> {
    const core = this.#core;
    await core.disk.write(async (tx) => {
      const chain = await tx.get("chain", "state");
      if (chain !== undefined) core.own = decodeChain(chain);
      const log = await tx.get("log", "state");
      if (log !== undefined) Object.assign(core, decodeLog(log));
      const known = await tx.get("log", "known");
      if (known !== undefined) core.known = decodeKnown(known);
      await this.#group.load(tx);
      await this.#group.dropUnreceipted(tx);
      await this.#changes.load(tx);
      await core.findings.load(tx);
      await this.#refusals.load(tx);
      await this.#inbox.load(tx);
    });
    const applied = this.#options.appliedPosition;
    if (applied !== undefined) this.#inbox.acknowledgeThrough(applied);
    if (core.device.membership === DeviceState_Membership.FOUNDING) {
      // Goes on by itself; who asks for it again hears how it ended.
      this.#found(true).catch((error: unknown) => {
        if (error instanceof SyncError || error instanceof StateStoreError) core.failed(error);
        else throw error;
      });
    } else {
      this.#engine.start();
    }
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

  /** Submits the founding that stands on disk. */
  #found(resumed: boolean): Promise<void> {
    const core = this.#core;
    return new Promise((resolve, reject) => {
      const change = core.device.pendingFounding;
      if (change === undefined) {
        reject(new UsageError("there is no founding to go on with"));
        return;
      }
      const task: FoundingTask = new FoundingTask(core, change, resumed, (error) => {
        this.#foundingEnded(error, task.submitted).then(
          () => {
            this.#engine.endTask(task);
            if (error === undefined) resolve();
            else reject(error);
          },
          (failure: unknown) => {
            this.#engine.endTask(task);
            reject(failure);
          },
        );
      });
      this.#engine.beginTask(task);
    });
  }

  /** A refused founding leaves the device in no group; one that the relay may have is kept. */
  async #foundingEnded(error: unknown, submitted: boolean): Promise<void> {
    if (error === undefined) {
      this.#membershipChanged();
      return;
    }
    if (submitted || !(error instanceof SyncError)) return;
    const { name, relayAddress } = this.#core.device;
    const device = create(DeviceStateSchema, { name, relayAddress });
    await this.#core.disk.write(
      (tx) => tx.put("device", "state", encodeDevice(device)),
      () => {
        this.#core.device = device;
      },
    );
    this.#core.moved();
  }

  async #writeDevice(change: {
    readonly membership: DeviceState_Membership;
    readonly groupId: Uint8Array;
    readonly relayAddress?: string;
    readonly expectedHead?: Uint8Array;
    readonly pendingFounding?: NonNullable<Core["device"]["pendingFounding"]>;
  }): Promise<void> {
    const core = this.#core;
    const device = create(DeviceStateSchema, {
      name: core.device.name,
      relayAddress: core.device.relayAddress,
      ...change,
    });
    await core.disk.write(
      (tx) => tx.put("device", "state", encodeDevice(device)),
      () => {
        core.device = device;
      },
    );
    core.moved();
  }

  /** What a code or link leads to. */
  async #ticket(codeOrLink: string): Promise<{
    readonly address: ReturnType<typeof parseRelayAddress>;
    readonly rendezvousId: Uint8Array;
    readonly means: PairingMeansName;
    readonly secret: Uint8Array;
  }> {
    if (looksLikeLink(codeOrLink)) {
      const link = parsePairingLink(codeOrLink, this.#options.pairingOrigin);
      const address = parseRelayAddress(link.relayAddress);
      return { address, rendezvousId: link.rendezvousId, means: "link", secret: link.secret };
    }
    const code = parseCode(codeOrLink);
    if (this.#core.device.relayAddress === "") {
      throw new UsageError("joining by code needs the relay's address; a link holds it");
    }
    const address = parseRelayAddress(this.#core.device.relayAddress);
    const { host } = this.#core;
    const secret =
      host.pskOfCode === undefined
        ? await pskOfCode(code, address.relayKey, this.#options.codeCost)
        : await host.pskOfCode(code, address.relayKey);
    return { address, rendezvousId: code.rendezvousId, means: "code", secret };
  }

  /** Being admitted lasts until the inviting device has added this one; ten minutes are waited for. */
  #untilMember(signal: AbortSignal | undefined): Promise<void> {
    const core = this.#core;
    return new Promise((resolve, reject) => {
      const stop: (() => void)[] = [];
      const end = (error?: unknown): void => {
        for (const each of stop) each();
        if (error === undefined) resolve();
        else reject(error);
      };
      const look = (): void => {
        if (core.device.membership === DeviceState_Membership.MEMBER) end();
        else if (this.#closed) end(new SyncError(ErrorCode.CONNECTION_LOST));
      };
      const abort = (): void => end(signal?.reason);
      stop.push(this.on("status", look), this.on("membership", look));
      stop.push(
        core.host.setTimer(inviteMs, () =>
          end(
            new SyncError(ErrorCode.TIMED_OUT, {
              hint: "the inviting device has not added this one yet; it will, once it is back, or ask for a new code",
            }),
          ),
        ),
      );
      signal?.addEventListener("abort", abort, { once: true });
      stop.push(() => signal?.removeEventListener("abort", abort));
      look();
    });
  }

  #membershipChanged(): void {
    const { events, device } = this.#core;
    events.emit("membership", {
      membership: membershipNames[device.membership] ?? "none",
      devices: this.devices(),
    });
  }

  #deviceInfo(device: RosterDevice): DeviceInfo {
    const deviceId = idText(device.deviceId);
    const self = deviceId === this.#core.deviceText;
    const seen = this.#engine.presenceOf(deviceId);
    const applied = this.#applied.get(deviceId);
    const here = self && this.#core.session !== undefined;
    return {
      deviceId,
      name: device.name,
      role: device.role === MemberRole.PAPER ? "paper" : "device",
      self,
      fingerprint: fingerprint(device.deviceId),
      presence: here ? "online" : (seen?.presence ?? "offline"),
      ...(seen?.lastSeenMs === undefined ? {} : { lastSeenMs: seen.lastSeenMs }),
      ...(applied === undefined ? {} : { applied }),
    };
  }

  /** The status is told once a turn, and only where it differs. */
  #moved(): void {
    this.#inbox.wake();
    if (this.#statusSoon) return;
    this.#statusSoon = true;
    atTurnEnd(() => {
      this.#statusSoon = false;
      if (this.#closed) return;
      const status = this.status();
      if (status.connection.state === "online" && this.#reader.caughtUp && status.queued === 0) {
        this.#lastSyncMs = this.#core.host.nowMs();
      }
      const { lastSyncMs: _lastSyncMs, ...rest } = status;
      const text = JSON.stringify(rest, plain);
      if (text === this.#lastStatus) return;
      this.#lastStatus = text;
      this.#core.events.emit("status", this.status());
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new UsageError("the client was closed");
  }

  get #removed(): boolean {
    return this.#core.device.membership === DeviceState_Membership.REMOVED;
  }

  /** What waits for the relay waits in vain once this device is removed. */
  async #unlessRemoved<T>(work: Promise<T>): Promise<T> {
    let off = (): void => undefined;
    const removed = new Promise<never>((_resolve, reject) => {
      const consider = (): void => {
        if (this.#removed) reject(removedError());
      };
      off = this.on("membership", consider);
      consider();
    });
    try {
      return await Promise.race([work, removed]);
    } finally {
      off();
    }
  }

  #checkMember(): void {
    this.#checkOpen();
    if (this.#removed) throw removedError();
    if (this.#core.device.membership !== DeviceState_Membership.MEMBER) {
      throw new SyncError(ErrorCode.NOT_A_MEMBER, {
        hint: "this device is in no group yet: found one, or join one",
      });
    }
  }
}

function removedError(): SyncError {
  return new SyncError(ErrorCode.DEVICE_REVOKED, {
    hint: "what it had, and what was queued, is still here; it can join again as a new device",
  });
}

/** For comparing: errors by what they say, and 64-bit numbers as text. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof SyncError) return `${value.codeName} ${value.hint ?? ""}`;
  if (value instanceof Error) return `${value.name} ${value.message}`;
  return value;
}

const membershipNames: Readonly<Partial<Record<DeviceState_Membership, MembershipStatus>>> = {
  [DeviceState_Membership.UNSPECIFIED]: "none",
  [DeviceState_Membership.FOUNDING]: "founding",
  [DeviceState_Membership.ADMITTED]: "admitted",
  [DeviceState_Membership.MEMBER]: "member",
  [DeviceState_Membership.REMOVED]: "removed",
};

function checkName(name: string | undefined): void {
  if (name === undefined) return;
  const bytes = utf8(name).byteLength;
  if (bytes < 1 || bytes > nameBytesMax) {
    throw new UsageError(`a device's name has 1 to ${nameBytesMax} bytes`);
  }
}

/** A relay may move; its key says that it is the same one. */
function checkSameRelay(before: string, now: string): void {
  const [a, b] = [parseRelayAddress(before), parseRelayAddress(now)];
  if (idText(a.relayKey) !== idText(b.relayKey)) {
    throw new UsageError(
      "this device's group is on another relay: the key in the address is not the one it has",
    );
  }
}

function parseGroupInvite(text: string): Uint8Array {
  const invite = parseId(text.trim(), groupInviteBytes);
  if (invite === undefined) {
    throw new SyncError(ErrorCode.INVITE_INVALID, {
      hint: "a group invite has 22 characters, as the relay printed them",
    });
  }
  return invite;
}
