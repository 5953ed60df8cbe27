/**
 * The relay: sessions, the groups somebody is connected to, the committer, and
 * the mailboxes, put together. It knows no socket and no file: connections reach
 * it as `Port`s, the disk as a `Store`, time and randomness as functions, so
 * that a simulation can run it whole.
 *
 * On a push: commit, acknowledge, fan out. `#onCommit` is where that order is
 * kept.
 */
import { create } from "@bufbuild/protobuf";
import { MembershipVersionSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { Committer, type FinishedCommit, type Job } from "./committer.ts";
import { type Counters, newCounters } from "./counters.ts";
import type { Draft } from "./draft.ts";
import { CommitFanOut, rowsByGroup } from "./fan-out.ts";
import { Figures } from "./figures.ts";
import { revokedError } from "./group-log.ts";
import { type DeviceEntry, GroupEntry } from "./group-state.ts";
import { Keeper, type KeptGroup, type Trimmed } from "./keeper.ts";
import { LifeDesk, type Task } from "./life-desk.ts";
import { LogRenewals } from "./log-renewals.ts";
import { Mailboxes } from "./mailboxes.ts";
import type { RelayOptions } from "./options.ts";
import { Outbound } from "./outbound.ts";
import { PresenceNews } from "./presence-news.ts";
import { pushRateOf } from "./rate-limit.ts";
import type { HelloRequest, ReadPosition } from "./requests.ts";
import { type LifeNotice, lifeNotice, urgencyOf } from "./retention.ts";
import type { Return } from "./returns.ts";
import { type LiveGroup, type Port, SessionDriver, type SessionHost } from "./session-driver.ts";
import type { InviteRow, Store } from "./store/contract.ts";
import { WakeUpDesk } from "./wake-up-desk.ts";
import type { RelayWorld } from "./world.ts";

/** How often the rows of devices that only acknowledge are written, in milliseconds. */
const softWriteMs = 10_000;
/** How often groups that nobody is connected to are forgotten, in milliseconds. */
const forgetMs = 30_000;
/** Bytes of requests that wait for a commit before no more are read from the network. */
const queuedBytesMax = 64 * 1024 * 1024;
/** How long a session without a group may last, in milliseconds: longer than any pairing. */
const lobbyMsMax = 900_000;
/** Rows of deleted groups that are taken away each second: commits wait for them only briefly. */
const sweepRows = 2_000;
/** Bytes that dropped objects may still hold on disk before who stores more of them waits. */
const droppedBytesMax = 16 * 1024 * 1024;
/** How often the age is written down where nothing else is written, in milliseconds. */
const ageWriteMs = 900_000;
/** The most that one start adds to the age, in seconds. */
const startedAgeSMax = 86_400;
/** What a device job without a witness holds on to, in bytes. */
const softJobBytes = 1_024;

export class Relay implements SessionHost {
  readonly store: Store;
  readonly world: RelayWorld;
  readonly counters: Counters = newCounters();
  readonly figures = new Figures();
  #options: RelayOptions;
  readonly mailboxes = new Mailboxes<SessionDriver>();
  readonly presence: PresenceNews;
  readonly outbound = new Outbound();
  readonly #committer: Committer;
  readonly #groups = new Map<string, LiveGroup>();
  readonly #loading = new Map<string, Promise<LiveGroup | undefined>>();
  readonly #sessions = new Set<SessionDriver>();
  readonly #paused = new Set<SessionDriver>();
  /** Sessions without a group, in the order they began. */
  readonly #lobbies = new Set<SessionDriver>();
  readonly #startedMs: number;
  readonly #startedAgeS: number;
  #ageWrittenMs: number;
  readonly desk: LifeDesk;
  readonly wakeUps: WakeUpDesk | undefined;
  readonly #keeper: Keeper;
  readonly #renewals: LogRenewals;
  #softWrittenMs: number;
  #forgottenMs: number;
  #draining = false;
  #storeFailure: SyncError | undefined;
  /** Settles when no piece is being swept; never rejects but with a defect. */
  #sweeping: Promise<void> | undefined;
  /** What deleted groups held may still lie on disk: also from before this start. */
  #sweepNeeded = true;
  /** Bytes of objects that were dropped since everything was given back. */
  #droppedBytes = 0;

  constructor(options: RelayOptions, store: Store, world: RelayWorld) {
    this.#options = options;
    this.store = store;
    this.world = world;
    this.presence = new PresenceNews(world.monotonicMs);
    this.#startedMs = world.monotonicMs();
    const { ageS, clockMs } = store.opened;
    // By the clock, which may be wrong: so never more than a day, and never back.
    const passedS = clockMs === 0 ? 0 : Math.floor((world.nowMs() - clockMs) / 1000);
    this.#startedAgeS = ageS + Math.min(Math.max(0, passedS), startedAgeSMax);
    this.#ageWrittenMs = this.#startedMs;
    this.#softWrittenMs = this.#startedMs;
    this.#forgottenMs = this.#startedMs;
    // Read at each commit: an operator may change them while the relay runs.
    const current = (): RelayOptions => this.#options;
    this.#committer = new Committer(
      {
        store,
        get founding() {
          return current().founding;
        },
        get groupBytesMax() {
          return current().limits.groupBytesMax;
        },
        get storeBytesMax() {
          return current().limits.storeBytesMax;
        },
        nowMs: world.nowMs,
        monotonicMs: world.monotonicMs,
        ageS: () => this.ageS(),
        random: world.random,
        onCommit: (commit) => this.#onCommit(commit),
        onFailure: (error) => {
          this.counters.commitsFailed += 1;
          this.#storeFailure = error;
          world.onStoreFailure(error);
          this.#resumePaused();
        },
      },
      async (groupId) => (await this.group(groupId))?.entry,
    );
    const shared = {
      store,
      counters: this.counters,
      run: <Found, Result>(task: Task<Found, Result>) => this.runTask(task),
      ageS: () => this.ageS(),
    };
    this.desk = new LifeDesk({
      ...shared,
      swept: async () => {
        if (this.#droppedBytes > droppedBytesMax) await (this.#sweeping ??= this.#sweep());
      },
      get groupBytesMax() {
        return current().limits.groupBytesMax;
      },
    });
    this.wakeUps =
      world.wakeUps === undefined
        ? undefined
        : new WakeUpDesk({
            ...shared,
            sender: world.wakeUps,
            monotonicMs: world.monotonicMs,
            random: world.random,
            group: async (groupId) => (await this.group(groupId))?.entry,
          });
    this.#renewals = new LogRenewals(world.monotonicMs, world.random);
    this.#keeper = new Keeper({
      ...shared,
      monotonicMs: world.monotonicMs,
      live: () => [...this.#groups.values()].map((live) => this.#kept(live)),
      load: async (groupId) => {
        const live = await this.group(groupId);
        return live === undefined ? undefined : this.#kept(live);
      },
      freed: () => {
        this.#sweepNeeded = true;
      },
      failed: world.onStoreFailure,
    });
  }

  /** The relay's age in seconds: what TTLs and expiries count by, never a clock. */
  ageS(): number {
    return this.#startedAgeS + Math.floor((this.world.monotonicMs() - this.#startedMs) / 1000);
  }

  get options(): RelayOptions {
    return this.#options;
  }

  /**
   * Takes new bounds over. A session keeps the sizes it was welcomed with;
   * everything else holds at once.
   */
  reconfigure(options: RelayOptions): void {
    this.#options = options;
    for (const session of this.#sessions) session.takeLimits();
  }

  /** Why the last commit failed; undefined where it did not. */
  get storeFailure(): SyncError | undefined {
    return this.#storeFailure;
  }

  /** Every session there is. */
  get sessions(): Iterable<SessionDriver> {
    return this.#sessions;
  }

  /** Sessions without a group. */
  get lobbyCount(): number {
    return this.#lobbies.size;
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Groups in memory. */
  get liveGroups(): number {
    return this.#groups.size;
  }

  /** Bytes that count towards the store's limit. */
  get storeBytes(): number {
    return this.#committer.storeBytes;
  }

  /** Bytes of requests that wait for a commit. */
  get queuedBytes(): number {
    return this.#committer.queuedBytes;
  }

  /** Requests that wait for a commit. */
  get queuedJobs(): number {
    return this.#committer.queuedJobs;
  }

  /** A handshake finished: a session begins. */
  attach(port: Port, deviceId: Uint8Array, address: string, hello: HelloRequest): SessionDriver {
    // Whoever shows an invite may turn out to be a member; until then it is a stranger.
    const lobby = hello.groupId === undefined || hello.invite !== undefined;
    const session = new SessionDriver(this, port, deviceId, address, lobby);
    // Members come first: strangers never take all the room.
    const full = lobby && this.#lobbies.size >= Math.ceil(this.options.limits.sessionsMax / 4);
    this.#sessions.add(session);
    if (lobby) this.#lobbies.add(session);
    session.step({ kind: "hello", hello });
    if (this.#draining) session.end(drainingError(0));
    else if (full) session.end(new SyncError(ErrorCode.TOO_MANY_CONNECTIONS));
    return session;
  }

  /** A connection is gone, or its session ended. Once for each session. */
  detach(session: SessionDriver): void {
    if (!this.#sessions.delete(session)) return;
    this.#paused.delete(session);
    this.#lobbies.delete(session);
    this.mailboxes.leave(session);
    const { live, device } = session;
    if (live === undefined || device === undefined) return;
    live.sessions.delete(session);
    device.lastSeenMs = this.world.nowMs();
    device.seenAgeS = this.ageS();
    device.soft = true;
    // Everybody goes at once, and nobody is left to be told: it would cost the square of a group's devices.
    if (this.#draining) return;
    // A device that came back on another connection is not gone.
    if (![...live.sessions].some((other) => other.device === device)) {
      this.presence.changed(live, device);
      this.wakeUps?.left(live.entry, device, session.joinedHead);
    }
  }

  /** A group, loaded where nobody was connected to it; undefined where there is none. */
  async group(groupId: Uint8Array): Promise<LiveGroup | undefined> {
    const key = idText(groupId);
    const live = this.#groups.get(key);
    if (live !== undefined) return live;
    let loading = this.#loading.get(key);
    if (loading === undefined) {
      loading = this.#load(groupId, key);
      this.#loading.set(key, loading);
    }
    return loading;
  }

  async #load(groupId: Uint8Array, key: string): Promise<LiveGroup | undefined> {
    try {
      const loaded = await this.store.loadGroup(groupId);
      if (loaded === undefined) return undefined;
      const entry = new GroupEntry(loaded);
      const live = {
        entry,
        sessions: new Set<SessionDriver>(),
        held: 0,
        told: {
          urgency: urgencyOf(entry.row, this.#options.limits.groupBytesMax, this.ageS()),
          snapshots: entry.snapshots,
          replacedThrough: entry.row.replacedThrough,
        },
      };
      this.#groups.set(key, live);
      return live;
    } finally {
      this.#loading.delete(key);
    }
  }

  /** A member's session begins: an older one of the same device ends. */
  join(session: SessionDriver, live: LiveGroup, device: DeviceEntry): void {
    // Before the older one ends: its device is not gone.
    live.sessions.add(session);
    session.joinedHead = live.entry.row.head;
    this.#lobbies.delete(session);
    session.lobby = false;
    for (const other of live.sessions) {
      if (other !== session && other.device === device) {
        other.end(new SyncError(ErrorCode.REPLACED));
      }
    }
    session.port.welcomed();
    this.wakeUps?.connected(device);
    device.lastSeenMs = this.world.nowMs();
    device.seenAgeS = this.ageS();
    device.soft = true;
    this.presence.changed(live, device);
  }

  async mayReturn(by: Return): Promise<boolean> {
    return this.#committer.mayReturn(by, await this.store.findInvite(by.inviteHash));
  }

  /** Puts a job into the next commit. */
  submit(job: Job, session?: SessionDriver): void {
    this.#committer.submit(job);
    if (session === undefined || this.#paused.has(session)) return;
    if (this.#committer.queuedBytes > queuedBytesMax) {
      session.port.pause();
      this.#paused.add(session);
    }
  }

  /** Keeps a group invite. */
  addInvite(invite: InviteRow): Promise<void> {
    return this.operate((draft) => draft.setInvite(invite));
  }

  /**
   * Carries out what an operator asks, in the next commit. `committed` runs when
   * it is on disk, before anything of that commit reaches a session. Rejects with
   * a `SyncError` where the store fails.
   */
  operate<Result>(
    plan: (draft: Draft, invite: InviteRow | undefined) => Result,
    committed?: (result: Result) => void,
    inviteHash?: Uint8Array,
  ): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#committer.submit({
        kind: "operator",
        requestId: 0,
        inviteHash,
        plan,
        bytes: softJobBytes,
        owner: {
          settled: (_, outcome) => {
            if (outcome instanceof SyncError) {
              reject(outcome);
              return;
            }
            // What `plan` returned, and nothing else, comes back here.
            const result = outcome.result as Result;
            committed?.(result);
            resolve(result);
          },
        },
      });
    });
  }

  /** The group of that id, where it is in memory. */
  liveGroup(groupIdText: string): LiveGroup | undefined {
    return this.#groups.get(groupIdText);
  }

  /** A group was deleted: it is no longer known, and its sessions end. */
  dropGroup(live: LiveGroup): void {
    this.#groups.delete(live.entry.idText);
    this.#sweepNeeded = true;
    for (const session of live.sessions) session.end(new SyncError(ErrorCode.NOT_A_MEMBER));
  }

  /** Asks a group's sessions to come back, spread over a second: something they were told is different now. */
  recall(live: LiveGroup): void {
    for (const session of live.sessions) {
      session.end(drainingError(spread(this.world.random(4), 500, 1_000)));
    }
  }

  /**
   * Gives a group's log another id where a member has read what it does not have under this one. What the
   * store refuses is left: then that device alone is told that the log changed.
   */
  async renewLog(live: LiveGroup, read: ReadPosition, link: Uint8Array | undefined): Promise<void> {
    const { entry } = live;
    if (!this.#renewals.due(entry, read, link)) return;
    try {
      await this.runTask({
        group: entry,
        lookUp: () => this.desk.waitingParts(entry),
        plan: (draft, waiting) => this.#renewals.plan(draft, entry, waiting),
      });
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      return;
    }
    this.recall(live);
  }

  #onCommit(commit: FinishedCommit): void {
    this.counters.commits += 1;
    this.counters.blobsStored += commit.draft.blobs.length;
    this.figures.commitBlobs.observe(commit.draft.blobs.length);
    this.figures.commitJobs.observe(commit.jobs);
    this.figures.commitMs.observe(commit.durationMs);
    this.#storeFailure = undefined;
    const dropped = commit.draft.droppedBytes;
    if (dropped > 0) {
      this.#droppedBytes += dropped;
      this.#sweepNeeded = true;
    }
    commit.settle();
    for (const { group, outcome } of commit.changes) {
      const live = this.#groups.get(group.idText);
      if (live === undefined) continue;
      for (const session of live.sessions) {
        if (session.device?.row.state !== "active") {
          session.end(revokedError(session.device?.row.state));
          continue;
        }
        session.step({
          kind: "tell",
          body: {
            case: "notify",
            value: {
              head: BigInt(group.row.head),
              membership: create(MembershipVersionSchema, {
                count: BigInt(outcome.count),
                head: outcome.head,
              }),
              epoch: BigInt(outcome.epoch),
              ...this.#noticeOf(live, session),
            },
          },
        });
      }
    }
    this.#fanOut(commit);
    for (const entry of commit.draft.touched) {
      const live = this.#groups.get(entry.idText);
      if (live !== undefined) this.#tellLife(live);
    }
    this.#resumePaused();
  }

  #fanOut(commit: FinishedCommit): void {
    const byGroup = rowsByGroup(commit.draft.blobs);
    for (const entry of commit.draft.touched) {
      const rows = byGroup.get(entry.row.groupKey);
      const live = this.#groups.get(entry.idText);
      if (rows === undefined || live === undefined) continue;
      const blobs = new CommitFanOut(rows, (deviceKey) => entry.deviceId(deviceKey));
      for (const session of live.sessions) {
        const notice = (): LifeNotice => this.#noticeOf(live, session);
        session.step({ kind: "committed", blobs, crowded: session.crowded, notice });
      }
      this.wakeUps?.came(entry, rows, connectedTo(live));
    }
  }

  notice(live: LiveGroup, device: DeviceEntry): LifeNotice {
    return lifeNotice(
      live.entry,
      device.row.deviceKey,
      this.#options.limits.groupBytesMax,
      this.ageS(),
    );
  }

  #noticeOf(live: LiveGroup, session: SessionDriver): LifeNotice {
    return this.notice(live, session.device as DeviceEntry);
  }

  /** Tells a group's sessions what has become of its life, where it is not what they were told. */
  #tellLife(live: LiveGroup): void {
    const { entry } = live;
    const urgency = urgencyOf(entry.row, this.#options.limits.groupBytesMax, this.ageS());
    const { told } = live;
    const same =
      told.urgency === urgency &&
      told.snapshots === entry.snapshots &&
      told.replacedThrough === entry.row.replacedThrough;
    if (same) return;
    live.told = {
      urgency,
      snapshots: entry.snapshots,
      replacedThrough: entry.row.replacedThrough,
    };
    for (const session of live.sessions) {
      const value = { head: BigInt(entry.row.head), ...this.#noticeOf(live, session) };
      session.tellNewest({ case: "notify", value });
    }
  }

  /** Does now whatever retention may do, in one group or in all. */
  trimNow(groupId?: Uint8Array): Promise<Trimmed> {
    return this.#keeper.trimNow(groupId);
  }

  /** Writes something in the next commit; rejects with the `SyncError` it came to. */
  runTask<Found, Result>(task: Task<Found, Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#committer.submit({
        kind: "task",
        requestId: 0,
        group: task.group,
        lookUp: task.lookUp,
        // What `lookUp` found, and nothing else, comes back here.
        plan: (draft, found, bounds) => task.plan(draft, found as Found, bounds),
        bytes: task.bytes ?? softJobBytes,
        owner: {
          settled: (_, outcome) => {
            if (outcome instanceof SyncError) reject(outcome);
            else resolve(outcome.result as Result);
          },
        },
      });
    });
  }

  #kept(live: LiveGroup): KeptGroup {
    return {
      entry: live.entry,
      connected: (device) => [...live.sessions].some((session) => session.device === device),
    };
  }

  #resumePaused(): void {
    if (this.#committer.queuedBytes > queuedBytesMax / 2) return;
    for (const session of this.#paused) session.port.resume();
    this.#paused.clear();
  }

  /** Once a second or so: what only time brings. */
  tick(): void {
    // Whoever shuts down the relay writes what is left, and then closes the store.
    if (this.#draining) return;
    const nowMs = this.world.monotonicMs();
    this.presence.tick();
    for (const notice of this.mailboxes.expire(nowMs)) {
      notice.to.step({ kind: "tell", body: notice.body });
    }
    for (const session of this.#lobbies) {
      if (nowMs - session.beganMs < lobbyMsMax) break;
      session.end(new SyncError(ErrorCode.TOO_MANY_CONNECTIONS));
    }
    if (nowMs - this.#softWrittenMs >= softWriteMs) {
      this.#softWrittenMs = nowMs;
      this.#writeSoft();
    }
    if (this.#sweepNeeded) this.#sweeping ??= this.#sweep();
    if (nowMs - this.#ageWrittenMs >= ageWriteMs) {
      this.#ageWrittenMs = nowMs;
      this.#writeAge();
      for (const live of this.#groups.values()) this.#tellLife(live);
    }
    this.#keeper.tick();
    this.wakeUps?.tick();
    if (nowMs - this.#forgottenMs >= forgetMs && this.#committer.quiet) {
      this.#forgottenMs = nowMs;
      this.#forget();
    }
  }

  /**
   * Gives back a piece of what deleted groups and dropped objects hold on disk; all of it where that is
   * much: who stores objects and drops them would else take more of the disk than is given back.
   */
  async #sweep(): Promise<void> {
    try {
      do {
        // What is dropped meanwhile is there to be swept, whatever this comes to.
        const before = this.#droppedBytes;
        this.#sweepNeeded = false;
        if (await this.store.sweep(sweepRows)) this.#sweepNeeded = true;
        else this.#droppedBytes -= before;
      } while (this.#droppedBytes > droppedBytesMax && !this.#draining);
    } catch (error) {
      // A disk that fails now is asked again; anything else is a defect.
      this.#sweepNeeded = true;
      if (!(error instanceof SyncError)) throw error;
      this.world.onStoreFailure(error);
    } finally {
      this.#sweeping = undefined;
    }
  }

  /** Writes the age down, and that who is connected was seen. */
  #writeAge(): void {
    const ageS = this.ageS();
    for (const live of this.#groups.values()) {
      for (const { device } of live.sessions) {
        if (device === undefined) continue;
        device.seenAgeS = ageS;
        device.soft = true;
      }
    }
    // A disk that fails now is written to again in a while; until then the age stands on it.
    this.runTask({ plan: (draft) => draft.keepAge() }).catch(() => undefined);
  }

  /** Writes the rows of devices that have acknowledged since they were last written. */
  #writeSoft(): void {
    for (const live of this.#groups.values()) {
      for (const device of live.entry.devices.values()) {
        if (!device.soft) continue;
        this.#committer.submit({
          kind: "device",
          owner: silentOwner,
          requestId: 0,
          device,
          counter: 0,
          witness: new Uint8Array(0),
          bytes: softJobBytes,
        });
      }
    }
  }

  /**
   * Forgets groups that nobody is connected to. Only while no commit is under
   * way: a job holds on to its group, and two copies of one would part.
   */
  #forget(): void {
    if (this.#keeper.busy || this.desk.busy) return;
    const nowMs = this.world.monotonicMs();
    for (const [key, live] of this.#groups) {
      if (live.sessions.size > 0 || live.held > 0) continue;
      const rate = pushRateOf(live.entry.row, this.#options.limits);
      const pending = (device: DeviceEntry): boolean =>
        device.soft || device.pushes?.full(rate, nowMs) === false;
      if ([...live.entry.devices.values()].some(pending)) continue;
      this.#groups.delete(key);
    }
  }

  /**
   * Shuts down in order: nothing new is taken, what was taken is committed and
   * acknowledged, and every session is told when to come back, spread over
   * the `spreadMs` after `awayMs`.
   */
  async drain(spreadMs: number, awayMs = 500): Promise<void> {
    await this.settle();
    this.dismiss(spreadMs, awayMs);
  }

  /** The first half of it: whatever happens after this, all that is to be kept is on disk. */
  async settle(): Promise<void> {
    this.#draining = true;
    for (const session of this.#sessions) session.step({ kind: "drain" });
    this.wakeUps?.stop();
    await this.#keeper.stop();
    await this.#committer.idle();
    await this.#sweeping;
    await Promise.allSettled([...this.#sessions].map((session) => session.asking));
    const nowMs = this.world.nowMs();
    for (const { device } of this.#sessions) {
      if (device !== undefined) device.lastSeenMs = nowMs;
    }
    this.#writeAge();
    this.#writeSoft();
    await this.#committer.idle();
  }

  /** And the second: however many there are, and however long telling them takes. */
  dismiss(spreadMs: number, awayMs: number): void {
    for (const session of this.#sessions) {
      session.end(drainingError(spread(this.world.random(4), awayMs, spreadMs)));
    }
  }
}

function connectedTo(live: LiveGroup): ReadonlySet<DeviceEntry> {
  const connected = new Set<DeviceEntry>();
  for (const { device } of live.sessions) if (device !== undefined) connected.add(device);
  return connected;
}

const silentOwner = {
  settled(): void {
    // A row that could not be written is written with the next one; the device says it again.
  },
};

function drainingError(retryAfterMs: number): SyncError {
  return new SyncError(ErrorCode.DRAINING, { retryAfterMs });
}

/** Somewhere in the `spreadMs` after `firstMs`. */
function spread(random: Uint8Array, firstMs: number, spreadMs: number): number {
  const fraction = new DataView(random.buffer, random.byteOffset).getUint32(0) / 2 ** 32;
  return firstMs + Math.floor(fraction * spreadMs);
}
