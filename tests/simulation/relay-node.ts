/**
 * The relay as a process on a machine: the real one, over a store that syncs in its own time, fails
 * for a while, and loses what was not synced when the process dies.
 */
import { Connection } from "../../server/net/connection.ts";
import { envelopeBound, type RelayLimits, readOptions, recordBound } from "../../server/options.ts";
import { Relay } from "../../server/relay.ts";
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceGroup,
  GroupListing,
  InviteListing,
  InviteRow,
  LoadedGroup,
  PageBounds,
  SenderPlace,
  Store,
  StoreTotals,
} from "../../server/store/contract.ts";
import {
  type MemoryStore,
  openMemoryStore,
  type UnsyncedFate,
} from "../../server/store/memory-store.ts";
import { storeUnavailable } from "../../server/store/store-errors.ts";
import { type KeyPair, keyPairOf } from "../../wire/channel.ts";
import { idText } from "../../wire/ids.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { Chance } from "./chance.ts";
import { Network, type RelaySocket } from "./network.ts";
import type { Truth } from "./truth.ts";
import { describe, Process, type World } from "./world.ts";

/** How a disk behaves. */
export interface DiskHabits {
  /** The longest a sync usually takes, and how often it takes `slowMs`. */
  syncMs: number;
  slowMs: number;
  slowShare: number;
}

const pingJitterMs = 5_000;

export class RelayNode {
  readonly address: string;
  readonly network: Network;
  readonly habits: DiskHabits;
  readonly #world: World;
  readonly #truth: Truth;
  readonly #chance: Chance;
  readonly #keyPair: KeyPair;
  readonly #limits: Partial<RelayLimits>;
  #disk: MemoryStore;
  #store: WatchedStore | undefined;
  #relay: Relay | undefined;
  #process: Process;
  #connections = new Set<Connection>();
  #clockMs = 0;
  /** Commits fail while it is set. */
  full = false;

  constructor(world: World, truth: Truth, limits: Partial<RelayLimits>, habits: DiskHabits) {
    this.#world = world;
    this.#truth = truth;
    this.#limits = limits;
    this.habits = habits;
    this.#chance = new Chance(world.seed, 1);
    this.#keyPair = keyPairOf(this.#chance.bytes(32));
    this.address = formatRelayAddress("ws://relay.invalid:8080/", this.#keyPair.publicKey);
    this.#process = new Process(world);
    this.network = new Network(world, new Chance(world.seed, 2), this.#process);
    this.#disk = openMemoryStore({
      syncTime: (synced) => this.#process.after(this.#syncMs(), synced),
    });
  }

  get up(): boolean {
    return this.#relay !== undefined;
  }

  get draining(): boolean {
    return this.#relay?.draining === true;
  }

  start(): void {
    if (this.up) return;
    const world = this.#world;
    const process = new Process(world);
    this.#process = process;
    this.network.relayProcess = process;
    this.#connections = new Set();
    const store = new WatchedStore(this.#disk, this.#truth, process, this.#chance, this);
    const relay: Relay = new Relay(readOptions({ founding: "open", limits: this.#limits }), store, {
      nowMs: () => Math.floor(1_700_000_000_000 + this.#clockMs + world.nowMs),
      monotonicMs: () => world.nowMs,
      random: (length) => this.#chance.bytes(length),
      onDefect: (error) => world.fail(`the relay has a defect: ${describe(error)}`),
      onStoreFailure: () => undefined,
    });
    this.#store = store;
    this.#relay = relay;
    this.network.accept = (socket) => this.#accept(relay, socket);
    const tick = (): void => {
      process.after(1_000, tick);
      for (const connection of this.#connections) {
        connection.tick(world.nowMs, this.#chance.uniform() * pingJitterMs);
      }
      relay.tick();
    };
    process.after(1_000, tick);
    world.tell(`relay starts; its log ends at ${this.#truth.head}`);
  }

  /** The process dies, and with it the machine where it does so quietly. */
  crash(fate: UnsyncedFate, quietly: boolean): void {
    if (!this.up) return;
    const unsynced = this.#store?.unsynced.length ?? 0;
    this.#world.tell(
      `relay crashes${quietly ? " quietly" : ""}; of a commit under way: ${unsynced} blobs ${fate}`,
    );
    if (fate === "kept") this.#store?.keep();
    this.#disk = this.#disk.crash(fate);
    this.#down(quietly);
  }

  /** Shuts down in order. */
  drain(): Promise<void> {
    const relay = this.#relay;
    if (relay === undefined || relay.draining) return Promise.resolve();
    this.#world.tell("relay shuts down");
    this.network.accept = undefined;
    return relay.drain(5_000).then(() => {
      if (this.#relay !== relay) return;
      this.#world.tell("relay has shut down");
      this.#process.after(3_000, () => {
        if (this.#relay !== relay) return;
        this.#disk = this.#disk.reopen();
        this.#down(false);
      });
    });
  }

  freeze(ms: number): void {
    this.#process.freeze(ms);
  }

  jump(ms: number): void {
    this.#clockMs += ms;
  }

  #down(quietly: boolean): void {
    this.network.accept = undefined;
    this.#relay = undefined;
    this.#store = undefined;
    this.#process.alive = false;
    for (const link of this.network.links) link.died("relay", quietly);
  }

  #syncMs(): number {
    const { syncMs, slowMs, slowShare } = this.habits;
    return this.#chance.chance(slowShare)
      ? this.#chance.int(syncMs, slowMs)
      : this.#chance.int(0, syncMs);
  }

  /** As a listener does, without its limits by address. */
  #accept(relay: Relay, socket: RelaySocket): void {
    const { limits } = relay.options;
    const connection: Connection = new Connection({
      socket: socket as unknown as ConstructorParameters<typeof Connection>[0]["socket"],
      identity: this.#keyPair,
      recordBytesMax: recordBound(limits),
      recordBytesTarget: envelopeBound(limits),
      counters: relay.counters,
      nowMs: () => this.#world.nowMs,
      handshakeMsMax: limits.handshakeMsMax,
      onHello: (port, deviceId, hello) => {
        this.#world.detail(() => `relay: ${this.#truth.nameOf(idText(deviceId))} says hello`);
        return relay.attach(port, deviceId, idText(deviceId), hello);
      },
      onHandshake: () => undefined,
      onWelcomed: () => undefined,
      onClosed: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
  }
}

/** A store whose commits are written down beside it, once they are on disk. */
class WatchedStore implements Store {
  readonly #store: MemoryStore;
  readonly #truth: Truth;
  readonly #process: Process;
  readonly #chance: Chance;
  readonly #node: RelayNode;
  #batch: CommitBatch | undefined;

  constructor(store: MemoryStore, truth: Truth, process: Process, chance: Chance, node: RelayNode) {
    this.#store = store;
    this.#truth = truth;
    this.#process = process;
    this.#chance = chance;
    this.#node = node;
  }

  get opened(): Store["opened"] {
    return this.#store.opened;
  }

  /** Blobs of the commit under way. */
  get unsynced(): readonly BlobRow[] {
    return this.#batch?.blobs ?? [];
  }

  /** A crash kept the commit under way. */
  keep(): void {
    if (this.#batch !== undefined) this.#truth.committed(this.#batch);
    this.#batch = undefined;
  }

  async commit(batch: CommitBatch): Promise<void> {
    if (this.#node.full) {
      await this.#process.sleep(this.#chance.int(0, 20));
      throw storeUnavailable("the disk is full");
    }
    this.#batch = batch;
    await this.#store.commit(batch);
    this.#batch = undefined;
    this.#truth.committed(batch);
  }

  async #read<T>(read: Promise<T>): Promise<T> {
    const result = await read;
    if (this.#chance.chance(0.3)) await this.#process.sleep(this.#chance.int(0, 10));
    return result;
  }

  loadGroup(groupId: Uint8Array): Promise<LoadedGroup | undefined> {
    return this.#read(this.#store.loadGroup(groupId));
  }

  groupsOfDevice(deviceId: Uint8Array): Promise<readonly DeviceGroup[]> {
    return this.#read(this.#store.groupsOfDevice(deviceId));
  }

  readBlobs(
    groupKey: number,
    after: number,
    through: number,
    bounds: PageBounds,
  ): Promise<readonly BlobRow[]> {
    return this.#read(this.#store.readBlobs(groupKey, after, through, bounds));
  }

  linkAt(groupKey: number, cursor: number): Promise<Uint8Array | undefined> {
    return this.#read(this.#store.linkAt(groupKey, cursor));
  }

  senderPlaces(
    groupKey: number,
    fromCursor: number,
    downToSeq: number,
  ): Promise<readonly SenderPlace[]> {
    return this.#read(this.#store.senderPlaces(groupKey, fromCursor, downToSeq));
  }

  readControl(groupKey: number, after: number, bytesMax: number): Promise<readonly ControlRow[]> {
    return this.#read(this.#store.readControl(groupKey, after, bytesMax));
  }

  controlByHead(groupKey: number, head: Uint8Array): Promise<ControlRow | undefined> {
    return this.#read(this.#store.controlByHead(groupKey, head));
  }

  findInvite(inviteHash: Uint8Array): Promise<InviteRow | undefined> {
    return this.#read(this.#store.findInvite(inviteHash));
  }

  listGroups(afterGroupKey: number, rowsMax: number): Promise<readonly GroupListing[]> {
    return this.#store.listGroups(afterGroupKey, rowsMax);
  }

  listInvites(fromHash: Uint8Array, rowsMax: number): Promise<readonly InviteListing[]> {
    return this.#store.listInvites(fromHash, rowsMax);
  }

  totals(): Promise<StoreTotals> {
    return this.#store.totals();
  }

  sweep(rowsMax: number): Promise<boolean> {
    void rowsMax;
    return this.#store.sweep(0);
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
