/**
 * A device: its disk, the process that runs on it now, and the app. What the device says of itself is
 * held against what is so.
 */
import {
  type Host,
  type IntegrityEvent,
  type MemoryDisk,
  StateStoreError,
  type Status,
  SyncClient,
  SyncError,
  UsageError,
} from "../../client/index.ts";
import type { SnapshotOptions } from "../../client/snapshots.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { App, type AppHabits, type Made, type Stored } from "./app.ts";
import { Chance } from "./chance.ts";
import { DeviceObjects } from "./device-objects.ts";
import type { Link, Road } from "./network.ts";
import type { DiskHabits, RelayNode } from "./relay-node.ts";
import { SlowStore } from "./slow-store.ts";
import type { Log, Pushed, Truth } from "./truth.ts";
import { describe, Process, type World } from "./world.ts";

/** Errors that no fault of the network, of a disk or of a process explains. */
const neverSeen: readonly number[] = [
  ErrorCode.RELAY_KEY_MISMATCH,
  ErrorCode.VERSION_UNSUPPORTED,
  ErrorCode.RECORD_INVALID,
  ErrorCode.ENVELOPE_INVALID,
  ErrorCode.ENVELOPE_UNEXPECTED,
  ErrorCode.TOO_LARGE,
  ErrorCode.READ_ONLY,
  ErrorCode.REGISTRATION_CLOSED,
  ErrorCode.QUOTA_EXCEEDED,
  ErrorCode.EPOCH_STALE,
  ErrorCode.INTERNAL,
  ErrorCode.KEY_MISSING,
  ErrorCode.OPEN_FAILED,
  ErrorCode.WRONG_KEY,
];

export interface DeviceTraits {
  /** Of its chance; its seed follows from it, too. */
  readonly stream: number;
  readonly road: Road;
  readonly app: AppHabits;
  readonly habits: DiskHabits;
  readonly disk: MemoryDisk;
  /** Whether its app makes snapshots, and takes them over. */
  readonly snapshots: boolean;
}

/** A copy of everything that is on a device's disk. */
export interface DeviceBackup {
  readonly disk: MemoryDisk;
  readonly app: Stored;
  /** How much the app had pushed. */
  readonly pushed: number;
}

export class DeviceNode {
  readonly name: string;
  readonly traits: DeviceTraits;
  readonly road: Road;
  readonly habits: DiskHabits;
  readonly app: App;
  readonly objects: DeviceObjects;
  readonly #world: World;
  readonly #relay: RelayNode;
  readonly #truth: Truth;
  readonly #chance: Chance;
  #disk: MemoryDisk;
  #store: SlowStore | undefined;
  #process: Process;
  client: SyncClient | undefined;
  deviceId = "";
  #clockMs = 0;
  /** Its disk is full while it is set. */
  full = false;
  /** How long the app takes to acknowledge; undefined: it does not. */
  ackMs: number | undefined = 0;
  #readCursor = 0;
  /** A snapshot was taken over: what was read behind it is read once more. */
  #readAgainFrom: number | undefined;
  /** Pushes that are not queued yet. */
  #pushing = 0;
  opening = false;
  /** Its folder was copied, and both run. */
  cloned = false;
  /** It goes on from an older state of itself. */
  restored = false;
  /** Out of use for good: nobody starts it again. */
  gone = false;
  /** Devices that its group had, and has now, as far as it knows. */
  readonly #met = new Set<string>();
  #roster = new Set<string>();
  readonly #links = new Set<Link>();

  constructor(name: string, world: World, relay: RelayNode, truth: Truth, traits: DeviceTraits) {
    this.name = name;
    this.traits = traits;
    this.#world = world;
    this.#relay = relay;
    this.#truth = truth;
    this.road = traits.road;
    this.habits = traits.habits;
    this.#chance = new Chance(world.seed, traits.stream);
    this.#process = new Process(world);
    this.#disk = traits.disk;
    this.app = new App(name, world, truth, this.#chance, traits.app);
    this.objects = new DeviceObjects(this, world, truth.objects);
    this.app.knowsRemoved = (id) => this.#met.has(id) && !this.#roster.has(id);
    // The same few devices in every run: see `memoized-x-wing.ts`.
    if (this.#disk.table("device").get("seed") === undefined) {
      this.#disk.table("device").put("seed", new Chance(0, traits.stream).bytes(32));
    }
  }

  get up(): boolean {
    return this.client !== undefined;
  }

  get membership(): Status["membership"] | undefined {
    return this.client?.status().membership;
  }

  get member(): boolean {
    return this.membership === "member";
  }

  get disk(): MemoryDisk {
    return this.#disk;
  }

  get links(): Link[] {
    return [...this.#relay.network.links].filter((link) => this.#links.has(link));
  }

  /** Whether what its disk holds may be half of something. */
  get writing(): boolean {
    return this.#store?.writing === true;
  }

  /** Whether it knows of everything on its disk. */
  get settled(): boolean {
    return this.#store?.settled !== false;
  }

  get busy(): boolean {
    return this.opening;
  }

  // --- its process ------------------------------------------------------------------------------

  /** The process starts: whatever stands on disk is what it knows. */
  async start(): Promise<void> {
    if (this.up || this.opening || this.gone) return;
    const world = this.#world;
    this.opening = true;
    const process = new Process(world);
    this.#process = process;
    this.#store = new SlowStore(this.#disk, process, this.#chance, this);
    this.#pushing = 0;
    this.app.begin();
    this.#readCursor = 0;
    let client: SyncClient;
    try {
      client = await SyncClient.open({
        store: this.#store,
        host: this.#host(process),
        relay: this.#relay.address,
        name: this.name,
        entriesBuffered: this.app.habits.entriesBuffered,
        ...(this.traits.snapshots ? this.#snapshotting() : {}),
        ...(this.app.habits.exact ? { appliedPosition: this.app.applied.length } : {}),
      });
    } catch (error) {
      if (!(error instanceof StateStoreError)) throw error;
      // Full: whoever started it tries again.
      process.alive = false;
      this.opening = false;
      world.tell(`${this.name} cannot start: ${error.message}`);
      return;
    }
    this.opening = false;
    this.client = client;
    if (this.deviceId !== "" && this.deviceId !== client.deviceId) {
      world.fail(`${this.name} is another device after a restart`);
    }
    this.deviceId = client.deviceId;
    if (!this.#truth.names.has(client.deviceId)) {
      this.#truth.names.set(client.deviceId, this.name);
    }
    this.#listen(client);
    const status = client.status();
    world.tell(`${this.name} starts: ${said(status)}`);
    this.#judgeQueue(status);
    this.judge(status);
    this.objects.begin();
    this.#take(client, process).catch((error: unknown) => {
      if (this.client !== client) return;
      if (error instanceof SyncError) this.#judgeError("entries", error);
      else world.fail(`${this.name}: entries() ended with ${describe(error)}`);
    });
  }

  #snapshotting(): SnapshotOptions {
    return {
      snapshot: () => {
        this.#truth.saved(this.deviceId, this.app.held);
        return this.app.save();
      },
      restore: async (content, { position, replacesThrough }) => {
        const pieces: Uint8Array[] = [];
        for await (const piece of content) pieces.push(piece);
        this.app.load(concatBytes(...pieces), position, replacesThrough);
        this.#readAgainFrom = replacesThrough;
      },
    };
  }

  /** Makes a snapshot now. */
  snapshot(): void {
    const { client } = this;
    if (client === undefined || !this.member) return;
    this.#world.tell(`${this.name} makes a snapshot`);
    client.makeSnapshot().then(
      (made) => {
        const what = made === undefined ? "need not" : `has, up to ${made.replacesThrough}`;
        this.#world.tell(`${this.name} ${what}`);
      },
      (error: unknown) => this.judgeAsked("makeSnapshot", client, error),
    );
  }

  #listen(client: SyncClient): void {
    const world = this.#world;
    const meet = (): void => {
      this.#roster = new Set(client.devices().map(({ deviceId }) => deviceId));
      for (const id of this.#roster) this.#met.add(id);
    };
    client.on("membership", meet);
    meet();
    client.on("integrity", (event) => this.#judgeIntegrity(event));
    client.on("gap", ({ from, through }) => {
      world.fail(`1: ${this.name} says that ${from} to ${through} are gone`);
    });
    client.on("error", (error) => {
      if (error instanceof SyncError && error.code === ErrorCode.LOG_CHANGED) {
        world.tell(`${this.name} meets another log`);
        if (this.#truth.logs.length === 1) world.fail(`7: ${this.name} says LOG_CHANGED`);
        this.#readCursor = 0;
      } else {
        this.#judgeError("background", error);
      }
    });
    client.on("status", (status) => {
      world.detail(() => `${this.name} is ${said(status)}`);
      this.judge(status);
    });
  }

  /** The process dies. Quietly: its machine does, too, and tells nobody. */
  crash(quietly: boolean): void {
    if (!this.up && !this.opening) return;
    this.#world.tell(`${this.name} crashes${quietly ? " quietly" : ""}`);
    this.#store?.crash();
    this.#down(quietly);
  }

  /** The app ends in order. */
  async close(): Promise<void> {
    const { client } = this;
    const process = this.#process;
    if (client === undefined) return;
    this.#world.tell(`${this.name} closes`);
    this.client = undefined;
    this.opening = true;
    try {
      await client.close();
    } catch (error) {
      if (!(error instanceof StateStoreError)) throw error;
      this.#store?.crash();
    }
    if (!process.alive) return;
    this.opening = false;
    this.#down(false);
  }

  #down(quietly: boolean): void {
    this.#process.alive = false;
    this.client = undefined;
    this.opening = false;
    for (const link of this.links) link.died("device", quietly);
    this.#links.clear();
  }

  freeze(ms: number): void {
    this.#process.freeze(ms);
  }

  jump(ms: number): void {
    this.#clockMs += ms;
  }

  // --- copies of it -----------------------------------------------------------------------------

  /** Everything on its disk, the app's storage with it; undefined while something is being written. */
  backup(): DeviceBackup | undefined {
    if (this.opening || this.writing) return undefined;
    return { disk: this.#disk.copy(), app: this.app.backup(), pushed: this.ownPushed().length };
  }

  /** Its disk is as it was when a backup was made; what was pushed since may be lost with it. */
  restore(backup: DeviceBackup): void {
    this.crash(false);
    this.#world.tell(`${this.name} goes on from an older state of itself`);
    this.#disk = backup.disk.copy();
    this.app.restore(backup.app);
    this.restored = true;
    this.#truth.objects.forgetful.add(this.deviceId);
    for (const pushed of this.ownPushed().slice(backup.pushed)) pushed.lost = true;
  }

  /** It is a copy of another device, and both run. */
  adopt(other: DeviceNode, backup: DeviceBackup): void {
    this.#disk = backup.disk.copy();
    this.app.restore(backup.app);
    this.deviceId = other.deviceId;
    this.cloned = true;
    other.cloned = true;
    this.#truth.objects.forgetful.add(this.deviceId);
  }

  // --- what the app does ------------------------------------------------------------------------

  /** Pushes so many entries in one call. */
  push(count: number): void {
    const { client } = this;
    if (client === undefined || !this.member) return;
    void this.#push(client, this.app.make(count, this.deviceId));
  }

  /** Pushes an entry that says something else than what a key is; resolves with whether it is queued. */
  async say(text: string, deletes: readonly string[]): Promise<boolean> {
    const { client } = this;
    if (client === undefined || !this.member) return false;
    return await this.#push(client, [this.app.say(text, deletes, this.deviceId)]);
  }

  #push(client: SyncClient, made: readonly Made[]): Promise<boolean> {
    const world = this.#world;
    this.#truth.push(made.map(({ pushed }) => pushed));
    world.tell(
      `${this.name} pushes ${made.map(({ pushed }) => pushed.name.split("/")[1]).join(" ")}`,
    );
    this.#pushing += 1;
    return client.pushMany(made.map(({ item }) => item)).then(
      (receipts) => {
        if (this.client === client) this.#pushing -= 1;
        for (const [i, receipt] of receipts.entries()) {
          const { pushed } = made[i] as Made;
          this.#truth.named(pushed, receipt.blobId);
          receipt.durable.then(
            ({ cursor }) => {
              world.detail(() => `${this.name} hears that ${pushed.name} is durable at ${cursor}`);
              this.#truth.durable(this.name, pushed, cursor);
            },
            (error: unknown) => {
              if (this.client === client && !this.removed) {
                world.fail(`${this.name}: durable of ${pushed.name} ends: ${describe(error)}`);
              }
            },
          );
        }
        return true;
      },
      (error: unknown) => {
        if (this.client === client) this.#pushing -= 1;
        const fine = error instanceof StateStoreError || this.client !== client || this.removed;
        if (!fine) world.fail(`${this.name}: push fails: ${describe(error)}`);
        world.tell(`${this.name}: push is refused: ${String(error)}`);
        return false;
      },
    );
  }

  async #take(client: SyncClient, process: Process): Promise<void> {
    for await (const entry of client.entries()) {
      if (this.client !== client) return;
      this.app.take(entry);
      const ms = this.ackMs;
      if (ms === undefined) continue;
      if (ms > 0) await process.sleep(this.#chance.int(0, ms));
      if (this.client !== client) return;
      await this.app.ack(entry);
    }
  }

  /** Acknowledges from now on, and what was left, in any order. */
  resumeAcks(ackMs: number): void {
    this.ackMs = ackMs;
    const { left } = this.app;
    if (this.#chance.chance(0.5)) left.reverse();
    for (const entry of left) void this.app.ack(entry);
  }

  // --- what it says -----------------------------------------------------------------------------

  /** Whether it says so; one that stands still says what it knew. */
  inSyncAt(head: number): boolean {
    const status = this.client?.status();
    return status?.inSync === true && status.head === head && this.#pushing === 0;
  }

  tellStatus(): void {
    const status = this.client?.status();
    this.#world.tell(`${this.name} is ${status === undefined ? "down" : said(status)}`);
  }

  /** Whether the group has removed it at some time. */
  get removed(): boolean {
    return this.#truth.removedEver.has(this.deviceId);
  }

  /** What the device says of itself must be so. */
  judge(status: Status): void {
    const who = this.name;
    const truth = this.#truth;
    const world = this.#world;
    truth.seen(who, "knows a head of", status.head ?? 0);
    truth.seen(who, "has read up to", status.readCursor);
    if (status.readCursor < this.#readCursor) {
      const again = status.readCursor >= (this.#readAgainFrom ?? Number.POSITIVE_INFINITY);
      this.#readAgainFrom = undefined;
      if (!again)
        world.fail(
          `3: ${who}'s read cursor falls from ${this.#readCursor} to ${status.readCursor}`,
        );
    }
    this.#readCursor = status.readCursor;
    if (status.membership === "removed" && !this.removed) {
      world.fail(`6: ${who} says that it is removed, and nobody removed it`);
    }
    // What a removed device wrote waits until all of it is there, and so does what a snapshot must cover.
    const waits = truth.removedEver.size > 0 || truth.log.gaps.size > 0;
    const wrong = this.#falseFindings() + (waits ? 0 : status.refused);
    if (wrong > 0 && truth.forked.size === 0) {
      world.fail(`7: ${who} has ${status.refused} refused entries, ${status.findings} findings`);
    }
    const { connection, pushHeld } = status;
    if (connection.state === "stopped") {
      const fine = this.removed || this.cloned || truth.logs.length > 1;
      if (!fine) world.fail(`${who} stopped for good: ${describe(connection.error)}`);
    } else if (connection.state === "waiting") {
      this.#judgeError("connection", connection.error);
    }
    if (pushHeld !== undefined) this.#judgeError("push", pushHeld);
    if (status.inSync) this.#judgeInSync(status);
  }

  /** In sync: with the log of now, or with one that the relay had when it last spoke. */
  #judgeInSync(status: Status): void {
    const head = status.head ?? 0;
    const own = this.ownPushed();
    const problems = this.#truth.logs.map((log) => this.#notInSync(log, head, own));
    if (problems.includes("")) return;
    this.#world.fail(`5: ${this.name} says inSync at ${head}, and ${problems.at(-1)}`);
  }

  #notInSync(log: Log, head: number, own: readonly Pushed[]): string {
    if (head > log.blobs.length) return `the log ends at ${log.blobs.length}`;
    const open = own.filter(
      ({ blobId, lost }) => blobId !== undefined && !lost && !log.holds(blobId, head),
    );
    if (open.length > 0) return `${open[0]?.name} is not known to it to be in the log`;
    const missing = this.app.notAcked(log, head);
    return missing === undefined ? "" : `has not acknowledged ${missing.cursor}`;
  }

  /** What was queued here and was never on the relay's disk must still be queued. */
  #judgeQueue(status: Status): void {
    const open = this.ownPushed().filter(
      ({ blobId, lost }) => blobId !== undefined && !lost && !this.#truth.ever.has(blobId),
    );
    if (open.length > status.queued) {
      this.#world.fail(`2: ${this.name} has ${status.queued} queued of ${open.length}`);
    }
  }

  /** What its app pushed, in that order. */
  ownPushed(): Pushed[] {
    return this.#truth.pushed.filter(({ node }) => node === this.name);
  }

  /**
   * An alarm is false unless somebody really wrote two histories, or really is two, or the relay really
   * lost what nobody can push again.
   */
  #judgeIntegrity(event: IntegrityEvent): void {
    const { finding, sender, error } = event;
    const truth = this.#truth;
    const two = sender !== undefined && truth.forked.has(sender);
    const lost = this.#isLost(event);
    const forked = (two && finding.endsWith("FORKED")) || this.#lostItself(event);
    const fine = forked || lost || truth.membershipForked;
    if (lost) this.#process.after(5_000, () => this.acceptLost());
    const by = sender === undefined ? "" : ` of ${truth.nameOf(sender)}`;
    const text = `${this.name} says ${finding}${by}: ${describe(error)}`;
    if (fine) this.#world.tell(text);
    else this.#world.fail(`7: ${text}`);
  }

  /** What a removed device wrote is lost, or with it what explained that another's body is gone. */
  #isLost(found: Pick<IntegrityEvent, "finding" | "sender" | "seq">): boolean {
    const { finding, sender = "", seq = 0 } = found;
    const truth = this.#truth;
    return finding === "DROPPED"
      ? truth.lostOf(sender)
      : finding === "WITHHELD" && truth.unexplained(sender, seq);
  }

  /**
   * What this device once wrote is in no state of its own, nor in the log, since both are older
   * copies: others hold it. It says so before it goes on, and there are two entries at one place.
   */
  #lostItself(found: Pick<IntegrityEvent, "finding" | "sender">): boolean {
    const { finding, sender = "" } = found;
    if (finding !== "DEVICE_FORKED" || sender !== this.deviceId) return false;
    return this.restored && this.#truth.logs.length > 1;
  }

  /** A person has seen what a restored relay lost for good, and lets the device go on without it. */
  acceptLost(): void {
    const { client } = this;
    if (client === undefined || !this.member) return;
    for (const found of client.findings()) {
      if (found.state !== "open" || !this.#isLost(found)) continue;
      const { id, finding, sender = "" } = found;
      this.#world.tell(`${this.name} accepts ${finding} of ${this.#truth.nameOf(sender)}`);
      if (finding === "DROPPED") this.app.goneWithout.add(sender);
      client
        .acceptFinding(id)
        .catch((error: unknown) => this.judgeAsked("acceptFinding", client, error));
    }
  }

  #falseFindings(): number {
    const findings = this.client?.findings() ?? [];
    return findings.filter(
      (each) => each.state === "open" && !this.#isLost(each) && !this.#lostItself(each),
    ).length;
  }

  #judgeError(where: string, error: Error): void {
    if (error instanceof StateStoreError) {
      if (error.problem !== "full") {
        this.#world.fail(`${this.name}, ${where}: ${describe(error)}`);
      }
    } else if (error instanceof SyncError) {
      if (!this.#explains(error.code)) {
        this.#world.fail(`7: ${this.name}, ${where}: ${error.codeName}: ${describe(error)}`);
      }
    } else {
      this.#world.fail(`${this.name}, ${where}: ${describe(error)}`);
    }
  }

  /** Whether what happened explains an error. */
  #explains(code: number): boolean {
    const truth = this.#truth;
    switch (code) {
      case ErrorCode.DEVICE_REVOKED:
        return this.removed || truth.removedEver.size > 0;
      case ErrorCode.REPLACED:
        return this.cloned;
      case ErrorCode.LINK_CONFLICT:
        return this.cloned || this.restored || truth.logs.length > 1;
      case ErrorCode.EPOCH_AHEAD:
        return truth.logs.length > 1;
      case ErrorCode.DEVICE_FORKED:
      case ErrorCode.HISTORY_ALTERED:
        return truth.forked.size > 0 || truth.membershipForked;
      default:
        return !neverSeen.includes(code);
    }
  }

  /** Whether an error is what faults bring about, and no defect. */
  judgeAsked(what: string, client: SyncClient, error: unknown): void {
    this.#world.tell(`${this.name}: ${what} ends: ${String(error)}`);
    if (this.client !== client) return;
    if (error instanceof UsageError) {
      this.#world.fail(`${this.name}, ${what}: ${describe(error)}`);
    } else {
      this.#judgeError(what, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #host(process: Process): Host {
    const world = this.#world;
    const chance = this.#chance;
    return {
      nowMs: () => 1_700_000_000_000 + this.#clockMs + world.nowMs,
      monotonicMs: () => world.nowMs,
      random: (length) =>
        length === 64 ? new Chance(0, chance.int(0, 3)).bytes(length) : chance.bytes(length),
      uniform: () => chance.uniform(),
      pskOfCode: async (code, relayKey) => blake2b256(code.rendezvousId, code.secret, relayKey),
      setTimer: (ms, run) => process.after(ms, run),
      connect: (_, handlers) => {
        world.detail(() => `${this.name} connects`);
        const { socket, link } = this.#relay.network.connect(process, this.road, handlers);
        for (const old of this.#links) {
          if (!this.#relay.network.links.has(old)) this.#links.delete(old);
        }
        this.#links.add(link);
        return socket;
      },
    };
  }
}

/** What a status says, in a line. */
function said(status: Status): string {
  const { connection } = status;
  const why = "error" in connection ? ` (${connection.error.message})` : "";
  const held = status.pushHeld === undefined ? "" : ` (held: ${status.pushHeld.message})`;
  return [
    `${status.membership}, ${connection.state}${why}`,
    `read ${status.readCursor} of ${status.head ?? "?"}`,
    `${status.unacknowledged} not acknowledged`,
    `${status.queued} queued${held}`,
    `epoch ${status.epoch}, ${status.devices} devices`,
    ...(status.inSync ? ["in sync"] : []),
  ].join(", ");
}
