/**
 * The relay as a process on a machine: the real one, over a store that syncs in its own time, fails
 * for a while, and loses what was not synced when the process dies.
 */
import { Connection } from "../../server/net/connection.ts";
import { envelopeBound, type RelayLimits, readOptions, recordBound } from "../../server/options.ts";
import { Relay } from "../../server/relay.ts";
import type { Port } from "../../server/session-driver.ts";
import {
  type MemoryStore,
  openMemoryStore,
  type UnsyncedFate,
} from "../../server/store/memory-store.ts";
import { type KeyPair, keyPairOf } from "../../wire/channel.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { idText } from "../../wire/ids.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { Chance } from "./chance.ts";
import { Network, type RelaySocket } from "./network.ts";
import { becomeRestored } from "./restored-store.ts";
import type { Log, Truth } from "./truth.ts";
import { type WatchedStore, watchStore } from "./watched-store.ts";
import { describe, Process, type World } from "./world.ts";

/** How a disk behaves. */
export interface DiskHabits {
  /** The longest a sync usually takes, and how often it takes `slowMs`. */
  syncMs: number;
  slowMs: number;
  slowShare: number;
}

/** A copy of the relay's disk, and what was so when it was made. */
export interface RelayBackup {
  readonly store: MemoryStore;
  readonly log: Log;
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
  #restoring = false;
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
    if (this.up || this.#restoring) return;
    const world = this.#world;
    const process = new Process(world);
    this.#process = process;
    this.network.relayProcess = process;
    this.#connections = new Set();
    const store = watchStore(this.#disk, {
      truth: this.#truth,
      process,
      chance: this.#chance,
      node: this,
    });
    const options = readOptions({ founding: "open", limits: this.#limits });
    const relay: Relay = new Relay(options, store.store, {
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

  /** A copy of its disk; undefined while something is being written. */
  backup(): RelayBackup | undefined {
    if (this.#store?.committing === true) return undefined;
    return { store: this.#disk.copy(), log: this.#truth.log.copy() };
  }

  /**
   * It goes on with what an older backup holds. Restored as it should be, its log gets another id;
   * where somebody copied the file back, nothing tells.
   */
  async restore(backup: RelayBackup, newLogId: boolean): Promise<void> {
    const world = this.#world;
    this.crash("lost", false);
    this.#restoring = true;
    world.tell(
      newLogId
        ? `the relay is restored from a backup: its log ends at ${backup.log.blobs.length}`
        : `the relay's file is copied back: its log ends at ${backup.log.blobs.length}`,
    );
    this.#disk = backup.store.copy();
    this.#truth.restored(backup.log);
    if (newLogId) {
      this.#process = new Process(world);
      await becomeRestored(this.#disk, () => this.#chance.bytes(16));
    }
    this.#restoring = false;
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
    this.#truth.objects.clockJumped = true;
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
      outbound: relay.outbound,
      nowMs: () => this.#world.nowMs,
      handshakeMsMax: limits.handshakeMsMax,
      onHello: (port, deviceId, hello) => {
        this.#world.detail(() => `relay: ${this.#truth.nameOf(idText(deviceId))} says hello`);
        return relay.attach(
          this.#watched(port, idText(deviceId)),
          deviceId,
          idText(deviceId),
          hello,
        );
      },
      onHandshake: () => undefined,
      onWelcomed: () => undefined,
      onClosed: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
  }

  /** What the relay says to a device, looked through: a removed one is told nothing new. */
  #watched(port: Port, deviceId: string): Port {
    const truth = this.#truth;
    const say = (envelope: Uint8Array): void => {
      const removal = truth.log.removed.get(deviceId);
      if (removal !== undefined) {
        for (const { body } of decodeEnvelopes(envelope, envelope.byteLength)) {
          const said =
            body.case === "deliver" || body.case === "blobs"
              ? body.value.through
              : body.case === "notify"
                ? body.value.head
                : 0n;
          if (Number(said) <= removal.cursor) continue;
          this.#world.fail(`6: ${truth.nameOf(deviceId)} is told of ${said}, and is removed`);
        }
      }
      port.send(envelope);
    };
    return {
      send: say,
      close: (error) => port.close(error),
      get outboundBytes() {
        return port.outboundBytes;
      },
      whenBelow: (bytes, run) => port.whenBelow(bytes, run),
      pause: () => port.pause(),
      resume: () => port.resume(),
      welcomed: () => port.welcomed(),
    };
  }
}
