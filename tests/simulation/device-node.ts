/**
 * A device: its disk, its app's own storage, and the process that runs on both now. The app checks
 * every entry it is handed against what is so.
 */
import {
  type Entry,
  type Host,
  MemoryDisk,
  MemoryStore,
  type PushItem,
  type StateStore,
  StateStoreError,
  type StateTransaction,
  type Status,
  SyncClient,
  SyncError,
  UsageError,
} from "../../client/index.ts";
import { equalBytes, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { Chance } from "./chance.ts";
import type { Link, Road } from "./network.ts";
import type { DiskHabits, RelayNode } from "./relay-node.ts";
import type { Pushed, Truth } from "./truth.ts";
import { describe, Process, type World } from "./world.ts";

/** What an app is like. */
export interface AppHabits {
  /** Keeps the position in its own transaction, or takes entries twice by their ids. */
  readonly exact: boolean;
  readonly entriesBuffered: number;
}

/** Errors that no fault of the network, of a disk or of a process explains. */
const neverSeen: readonly number[] = [
  ErrorCode.RELAY_KEY_MISMATCH,
  ErrorCode.VERSION_UNSUPPORTED,
  ErrorCode.RECORD_INVALID,
  ErrorCode.ENVELOPE_INVALID,
  ErrorCode.ENVELOPE_UNEXPECTED,
  ErrorCode.TOO_LARGE,
  ErrorCode.DEVICE_REVOKED,
  ErrorCode.READ_ONLY,
  ErrorCode.REGISTRATION_CLOSED,
  ErrorCode.QUOTA_EXCEEDED,
  ErrorCode.REPLACED,
  ErrorCode.LOG_CHANGED,
  ErrorCode.LINK_CONFLICT,
  ErrorCode.EPOCH_STALE,
  ErrorCode.EPOCH_AHEAD,
  ErrorCode.INTERNAL,
  ErrorCode.KEY_MISSING,
  ErrorCode.OPEN_FAILED,
  ErrorCode.HISTORY_ALTERED,
  ErrorCode.WRONG_KEY,
  ErrorCode.DEVICE_FORKED,
];

export class DeviceNode {
  readonly name: string;
  readonly road: Road;
  readonly app: AppHabits;
  readonly habits: DiskHabits;
  readonly #world: World;
  readonly #relay: RelayNode;
  readonly #truth: Truth;
  readonly #chance: Chance;
  readonly #disk = new MemoryDisk();
  #store: SlowStore | undefined;
  #process: Process;
  client: SyncClient | undefined;
  deviceId = "";
  #clockMs = 0;
  /** Its disk is full while it is set. */
  full = false;
  /** How long the app takes to acknowledge; undefined: it does not. */
  ackMs: number | undefined = 0;
  /** What the app has applied, in its own storage: blob ids by position. */
  readonly applied: string[] = [];
  /** What this process was handed, and acknowledged. */
  #handed = 0;
  readonly #acked = new Set<number>();
  readonly #unacked = new Map<number, Entry>();
  #ackedThrough = 0;
  /** Up to here everything was acknowledged, by this process or an earlier one. */
  ackedEver = 0;
  #readCursor = 0;
  #batches = 0;
  /** Pushes that are not queued yet. */
  #pushing = 0;
  #count = 0;
  opening = false;

  constructor(
    name: string,
    world: World,
    relay: RelayNode,
    truth: Truth,
    traits: { stream: number; road: Road; app: AppHabits; habits: DiskHabits },
  ) {
    this.name = name;
    this.#world = world;
    this.#relay = relay;
    this.#truth = truth;
    this.road = traits.road;
    this.app = traits.app;
    this.habits = traits.habits;
    this.#chance = new Chance(world.seed, traits.stream);
    this.#process = new Process(world);
    // The same few devices in every run: see `memoized-x-wing.ts`.
    this.#disk.table("device").put("seed", new Chance(0, traits.stream).bytes(32));
  }

  get up(): boolean {
    return this.client !== undefined;
  }

  get member(): boolean {
    return this.client?.status().membership === "member";
  }

  get links(): Link[] {
    return [...this.#relay.network.links].filter((link) => this.#links.has(link));
  }

  readonly #links = new Set<Link>();

  /** The process starts: whatever stands on disk is what it knows. */
  async start(): Promise<void> {
    if (this.up || this.opening) return;
    const world = this.#world;
    this.opening = true;
    const process = new Process(world);
    this.#process = process;
    this.#store = new SlowStore(this.#disk, process, this.#chance, this);
    this.#pushing = 0;
    this.#handed = 0;
    this.#acked.clear();
    this.#unacked.clear();
    if (this.app.exact) this.ackedEver = this.applied.length;
    this.#ackedThrough = 0;
    this.#readCursor = 0;
    let client: SyncClient;
    try {
      client = await SyncClient.open({
        store: this.#store,
        host: this.#host(process),
        relay: this.#relay.address,
        name: this.name,
        entriesBuffered: this.app.entriesBuffered,
        ...(this.app.exact ? { appliedPosition: this.applied.length } : {}),
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
    this.#truth.names.set(client.deviceId, this.name);
    client.on("integrity", (event) => {
      world.fail(`7: ${this.name} says ${event.finding}: ${describe(event.error)}`);
    });
    client.on("gap", ({ from, through }) => {
      world.fail(`1: ${this.name} says that ${from} to ${through} are gone`);
    });
    client.on("error", (error) => this.#judgeError("background", error));
    client.on("status", (status) => {
      world.detail(() => `${this.name} is ${said(status)}`);
      this.judge(status);
    });
    const status = client.status();
    world.tell(`${this.name} starts: ${said(status)}`);
    this.#judgeQueue(status);
    this.judge(status);
    this.#take(client, process).catch((error: unknown) => {
      world.fail(`${this.name}: entries() ended with ${describe(error)}`);
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

  freeze(ms: number): void {
    this.#process.freeze(ms);
  }

  jump(ms: number): void {
    this.#clockMs += ms;
  }

  /** Whether it says so; one that stands still says what it knew. */
  inSyncAt(head: number): boolean {
    const status = this.client?.status();
    return status?.inSync === true && status.head === head && this.#pushing === 0;
  }

  tellStatus(): void {
    const status = this.client?.status();
    this.#world.tell(`${this.name} is ${status === undefined ? "down" : said(status)}`);
  }

  get busy(): boolean {
    return this.opening;
  }

  #down(quietly: boolean): void {
    this.#process.alive = false;
    this.client = undefined;
    this.opening = false;
    for (const link of this.links) link.died("device", quietly);
    this.#links.clear();
  }

  // --- what the app does ----------------------------------------------------------------------

  /** Pushes so many entries in one call. */
  push(count: number): void {
    const { client } = this;
    if (client === undefined || !this.member) return;
    const world = this.#world;
    const chance = this.#chance;
    this.#batches += 1;
    const made = Array.from({ length: count }, (): { pushed: Pushed; item: PushItem } => {
      this.#count += 1;
      const name = `${this.name}/${this.#count}`;
      const empty = chance.chance(0.05);
      const padding = chance.chance(0.1) ? chance.int(0, 2_000) : chance.int(0, 40);
      const data = empty ? new Uint8Array(0) : utf8(`${name} ${"x".repeat(padding)}`);
      const contentType = chance.chance(0.2) ? "text/plain" : "";
      const deletes = this.#deletable();
      const item: PushItem = {
        data,
        ...(contentType === "" ? {} : { contentType }),
        ...(chance.chance(0.1) ? { ttlS: chance.int(1, 100) } : {}),
        ...deletes,
      };
      const pushed: Pushed = {
        name,
        device: this.deviceId,
        batch: this.#batches,
        data,
        contentType,
        blobId: undefined,
        durable: false,
      };
      return { pushed, item };
    });
    this.#truth.pushed.push(...made.map(({ pushed }) => pushed));
    world.tell(
      `${this.name} pushes ${made.map(({ pushed }) => pushed.name.split("/")[1]).join(" ")}`,
    );
    this.#pushing += 1;
    client.pushMany(made.map(({ item }) => item)).then(
      (receipts) => {
        if (this.client === client) this.#pushing -= 1;
        for (const [i, receipt] of receipts.entries()) {
          const { pushed } = made[i] as (typeof made)[number];
          pushed.blobId = receipt.blobId;
          this.#truth.queued.set(receipt.blobId, pushed);
          receipt.durable.then(
            ({ cursor }) => {
              world.detail(() => `${this.name} hears that ${pushed.name} is durable at ${cursor}`);
              this.#truth.durable(this.name, pushed, cursor);
            },
            (error: unknown) => {
              if (this.client === client) {
                world.fail(`${this.name}: durable of ${pushed.name} ends: ${describe(error)}`);
              }
            },
          );
        }
      },
      (error: unknown) => {
        if (this.client === client) this.#pushing -= 1;
        const fine = error instanceof StateStoreError || this.client !== client;
        if (!fine) world.fail(`${this.name}: push fails: ${describe(error)}`);
        world.tell(`${this.name}: push is refused: ${String(error)}`);
      },
    );
  }

  #deletable(): { deletes?: string[]; force?: boolean } {
    const chance = this.#chance;
    const { log } = this.#truth;
    if (log.length === 0 || !chance.chance(0.1)) return {};
    const some = [chance.pick(log), chance.pick(log)];
    const own = some.every(({ sender }) => sender === this.deviceId);
    const deletes = [...new Set(some.map(({ blobId }) => blobId))];
    return { deletes, ...(own && chance.chance(0.5) ? { force: true } : {}) };
  }

  async #take(client: SyncClient, process: Process): Promise<void> {
    for await (const entry of client.entries()) {
      if (this.client !== client) return;
      this.#handedOut(entry);
      const ms = this.ackMs;
      if (ms === undefined) continue;
      if (ms > 0) await process.sleep(this.#chance.int(0, ms));
      if (this.client !== client) return;
      await this.#ack(entry);
    }
  }

  /** Acknowledges from now on, and what was left, in any order. */
  resumeAcks(ackMs: number): void {
    this.ackMs = ackMs;
    const left = [...this.#unacked.values()];
    if (this.#chance.chance(0.5)) left.reverse();
    for (const entry of left) void this.#ack(entry);
  }

  #ack(entry: Entry): Promise<void> {
    const { position } = entry;
    this.#unacked.delete(position);
    this.#acked.add(position);
    while (this.#acked.delete(this.#ackedThrough + 1)) this.#ackedThrough += 1;
    this.ackedEver = Math.max(this.ackedEver, this.#ackedThrough);
    return entry.ack();
  }

  #handedOut(entry: Entry): void {
    const world = this.#world;
    const { position, cursor, blobId } = entry;
    const who = this.name;
    world.detail(() => `${who} is handed position ${position}, cursor ${cursor}`);
    const first = this.#handed === 0;
    const next = this.app.exact
      ? this.applied.length + 1
      : first
        ? this.ackedEver + 1
        : this.#handed + 1;
    // An app that keeps no position is handed again what it had not acknowledged, on disk.
    if (first && !this.app.exact ? position > next : position !== next) {
      world.fail(`1: ${who} is handed position ${position} instead of ${next}`);
    }
    if (first) this.#ackedThrough = position - 1;
    this.#handed = position;
    this.#truth.seen(who, "is handed cursor", cursor);
    const at = this.#truth.at(cursor);
    if (at?.blobId !== blobId || cursor !== position) {
      world.fail(
        `1: ${who} is handed ${blobId} at ${cursor} as ${position}; there is ${at?.blobId}`,
      );
    }
    if (at !== undefined && entry.sender !== at.sender) {
      world.fail(`1: ${who} is told that ${blobId} is by ${this.#truth.nameOf(entry.sender)}`);
    }
    const pushed = this.#truth.queued.get(blobId);
    if (pushed !== undefined) {
      const same = equalBytes(pushed.data, entry.data) && pushed.contentType === entry.contentType;
      if (!same) world.fail(`1: ${who} is handed another content of ${pushed.name}`);
      if (pushed.device !== entry.sender) world.fail(`1: ${pushed.name} came from another device`);
    }
    const before = this.applied[position - 1];
    if (before !== undefined && before !== blobId) {
      world.fail(`1: ${who}: position ${position} was ${before} and is ${blobId} now`);
    }
    this.applied[position - 1] = blobId;
    this.#unacked.set(position, entry);
  }

  // --- what it says -----------------------------------------------------------------------------

  /** What the device says of itself must be so. */
  judge(status: Status): void {
    const who = this.name;
    const truth = this.#truth;
    const world = this.#world;
    truth.seen(who, "knows a head of", status.head ?? 0);
    truth.seen(who, "has read up to", status.readCursor);
    if (status.readCursor < this.#readCursor) {
      world.fail(`3: ${who}'s read cursor falls from ${this.#readCursor} to ${status.readCursor}`);
    }
    this.#readCursor = status.readCursor;
    if (status.refused > 0) world.fail(`7: ${who} has refused ${status.refused} entries`);
    const { connection, pushHeld } = status;
    if (connection.state === "stopped") {
      world.fail(`${who} stopped for good: ${describe(connection.error)}`);
    } else if (connection.state === "waiting") {
      this.#judgeError("connection", connection.error);
    }
    if (pushHeld !== undefined) this.#judgeError("push", pushHeld);
    if (status.inSync) this.#judgeInSync(status);
  }

  #judgeInSync(status: Status): void {
    const head = status.head ?? 0;
    const open = this.#ownQueued().filter(
      (blobId) => (this.#truth.cursorOf(blobId) ?? Number.POSITIVE_INFINITY) > head,
    );
    if (open.length > 0) {
      this.#world.fail(
        `5: ${this.name} says inSync, and ${open.length} of its own are not known to it to be in the log`,
      );
    }
    if (this.ackedEver < head) {
      this.#world.fail(
        `5: ${this.name} says inSync at ${head}, and has acknowledged ${this.ackedEver}`,
      );
    }
  }

  /** What was queued here and is not on the relay's disk must still be queued. */
  #judgeQueue(status: Status): void {
    const lost = this.#ownQueued().filter((blobId) => this.#truth.cursorOf(blobId) === undefined);
    if (lost.length > status.queued) {
      this.#world.fail(`2: ${this.name} has ${status.queued} queued of ${lost.length}`);
    }
  }

  #ownQueued(): string[] {
    const own: string[] = [];
    for (const [blobId, pushed] of this.#truth.queued) {
      if (pushed.device === this.deviceId) own.push(blobId);
    }
    return own;
  }

  #judgeError(where: string, error: Error): void {
    if (error instanceof StateStoreError) {
      if (error.problem !== "full") {
        this.#world.fail(`${this.name}, ${where}: ${describe(error)}`);
      }
    } else if (error instanceof SyncError) {
      if (neverSeen.includes(error.code)) {
        this.#world.fail(`7: ${this.name}, ${where}: ${error.codeName}: ${describe(error)}`);
      }
    } else {
      this.#world.fail(`${this.name}, ${where}: ${describe(error)}`);
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
    ...(status.inSync ? ["in sync"] : []),
  ].join(", ");
}

/** The memory store as on a disk that takes its time, and is full for a while. */
class SlowStore implements StateStore {
  readonly #store: MemoryStore;
  readonly #process: Process;
  readonly #chance: Chance;
  readonly #node: DeviceNode;

  constructor(disk: MemoryDisk, process: Process, chance: Chance, node: DeviceNode) {
    this.#store = new MemoryStore(disk);
    this.#process = process;
    this.#chance = chance;
    this.#node = node;
  }

  crash(): void {
    this.#store.crash();
  }

  async transaction<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    let writes = false;
    const result = await this.#store.transaction(async (tx) => {
      const watched: StateTransaction = {
        get: (table, key) => tx.get(table, key),
        range: (table, from, to, limit) => tx.range(table, from, to, limit),
        last: (table) => tx.last(table),
        put: (table, key, value) => {
          writes = true;
          tx.put(table, key, value);
        },
        delete: (table, key) => {
          writes = true;
          tx.delete(table, key);
        },
        deleteRange: (table, from, to) => {
          writes = true;
          tx.deleteRange(table, from, to);
        },
      };
      const value = await run(watched);
      if (writes) {
        await this.#sync();
        if (this.#node.full) throw new StateStoreError("full", "the disk is full");
      }
      return value;
    });
    // On disk, and nobody was told.
    if (writes && this.#chance.chance(0.2)) await this.#process.sleep(this.#chance.int(0, 5));
    return result;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #sync(): Promise<void> {
    const { syncMs, slowMs, slowShare } = this.#node.habits;
    const ms = this.#chance.chance(slowShare)
      ? this.#chance.int(syncMs, slowMs)
      : this.#chance.int(0, syncMs);
    if (ms > 0) await this.#process.sleep(ms);
  }
}
