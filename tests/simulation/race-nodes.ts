/**
 * The relay and the devices of a race: the real ones over stores in memory, which start as copies of
 * a group that was made once, so that a seed costs little but the race itself.
 */
import {
  type Host,
  MemoryDisk,
  MemoryStore,
  type MemoryStoreHooks,
  SyncClient,
} from "../../client/index.ts";
import { Connection } from "../../server/net/connection.ts";
import { envelopeBound, readOptions, recordBound } from "../../server/options.ts";
import { Relay } from "../../server/relay.ts";
import {
  openMemoryStore,
  type MemoryStore as RelayStore,
  type UnsyncedFate,
} from "../../server/store/memory-store.ts";
import { type KeyPair, keyPairOf } from "../../wire/channel.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText } from "../../wire/ids.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { Chance } from "./chance.ts";
import { type Link, Network, type RelaySocket, type Road } from "./network.ts";
import { describe, Process, type World } from "./world.ts";

/** Each seed's relay has this key: devices' disks know it. */
const identity = keyPairOf(new Chance(0, 99).bytes(32));
export const raceAddress: string = formatRelayAddress(
  "ws://relay.invalid:8080/",
  identity.publicKey,
);

/** How long what is written takes to be on the disk; the relay that runs now says. */
let syncTime = (synced: () => void): void => synced();

export function newRelayStore(): RelayStore {
  return openMemoryStore({ syncTime: (synced) => syncTime(synced) });
}

export class RaceRelay {
  readonly network: Network;
  store: RelayStore;
  founding: "open" | "invite" | "closed" = "open";
  readonly #world: World;
  readonly #chance: Chance;
  readonly #keyPair: KeyPair = identity;
  readonly #syncMs: number;
  #process: Process;
  #relay: Relay | undefined;
  #connections = new Set<Connection>();

  constructor(world: World, store: RelayStore, syncMs: number) {
    this.#world = world;
    this.store = store;
    this.#syncMs = syncMs;
    this.#chance = new Chance(world.seed, 1);
    this.#process = new Process(world);
    this.network = new Network(world, new Chance(world.seed, 2), this.#process);
    syncTime = (synced) => {
      this.#process.after(this.#chance.uniform() * this.#syncMs, synced);
    };
  }

  get up(): boolean {
    return this.#relay !== undefined;
  }

  start(): void {
    if (this.up) return;
    const world = this.#world;
    const process = new Process(world);
    this.#process = process;
    this.network.relayProcess = process;
    this.#connections = new Set();
    const relay = new Relay(readOptions({ founding: this.founding }), this.store, {
      nowMs: () => Math.floor(1_700_000_000_000 + world.nowMs),
      monotonicMs: () => world.nowMs,
      random: (length) => this.#chance.bytes(length),
      onDefect: (error) => world.fail(`the relay has a defect: ${describe(error)}`),
      onStoreFailure: () => undefined,
    });
    this.#relay = relay;
    this.network.accept = (socket) => this.#accept(relay, socket);
    const tick = (): void => {
      process.after(5_000, tick);
      for (const connection of this.#connections) {
        connection.tick(world.nowMs, this.#chance.uniform() * 5_000);
      }
      relay.tick();
    };
    process.after(5_000, tick);
  }

  /** An operator makes a group invite. Gives back its text. */
  async invite(): Promise<string> {
    const invite = this.#chance.bytes(16);
    await this.#relay?.addInvite({
      inviteHash: blake2b256(invite),
      label: "",
      quotaBytes: 0,
      expiresAgeS: 0,
      createdMs: 0,
      usedByGroupKey: 0,
      revokedMs: 0,
    });
    return idText(invite);
  }

  /** The process dies; a commit under way is kept or lost. */
  crash(fate: UnsyncedFate): void {
    if (!this.up) return;
    this.#world.tell(`relay crashes; a commit under way is ${fate}`);
    this.store = this.store.crash(fate);
    this.network.accept = undefined;
    this.#relay = undefined;
    this.#process.alive = false;
    for (const link of this.network.links) link.died("relay", false);
  }

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
      onHello: (port, deviceId, hello) => relay.attach(port, deviceId, idText(deviceId), hello),
      onHandshake: () => undefined,
      onWelcomed: () => undefined,
      onClosed: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
  }
}

export class RaceDevice {
  readonly name: string;
  readonly road: Road;
  disk: MemoryDisk;
  client!: SyncClient;
  /** Blob ids in the order they were handed out, each acknowledged. */
  readonly taken: string[] = [];
  readonly #world: World;
  readonly #relay: RaceRelay;
  readonly #chance: Chance;
  readonly #links = new Set<Link>();
  #process: Process;
  #sent = 0;
  #store: MemoryStore | undefined;
  /** Before a message leaves, counted over all connections of its process. */
  sending: (count: number) => void = () => undefined;
  /** How often it was started: promises of an earlier process tell nothing. */
  life = 0;

  constructor(
    name: string,
    world: World,
    relay: RaceRelay,
    stream: number,
    disk = new MemoryDisk(),
  ) {
    this.name = name;
    this.#world = world;
    this.#relay = relay;
    this.disk = disk;
    this.#chance = new Chance(world.seed, stream);
    this.road = {
      latencyMs: this.#chance.pick([1, 5, 30]),
      jitterMs: this.#chance.pick([0, 5, 50]),
      bytesPerMs: undefined,
      stalledUntilMs: 0,
      breakAfter: undefined,
    };
    this.#process = new Process(world);
  }

  get up(): boolean {
    return this.#store !== undefined;
  }

  get deviceId(): string {
    return this.client.deviceId;
  }

  get member(): boolean {
    return this.client.status().membership === "member";
  }

  async start(hooks: MemoryStoreHooks = {}): Promise<void> {
    if (this.up) return;
    const process = new Process(this.#world);
    this.#process = process;
    this.life += 1;
    this.#sent = 0;
    this.#store = new MemoryStore(this.disk, hooks);
    this.client = await SyncClient.open({
      store: this.#store,
      host: this.#host(process),
      relay: raceAddress,
      name: this.name,
    });
    this.client.on("integrity", (event) => {
      if (process.alive) {
        this.#world.fail(`${this.name} is told of ${event.finding}: ${describe(event.error)}`);
      }
    });
    this.client.on("error", (error) => this.#world.tell(`${this.name}: ${String(error)}`));
    const { client } = this;
    const take = async (): Promise<void> => {
      for await (const entry of client.entries()) {
        if (!process.alive) return;
        this.taken.push(entry.blobId);
        await entry.ack();
      }
    };
    take().catch((error: unknown) => {
      if (process.alive) this.#world.fail(`${this.name}: ${describe(error)}`);
    });
  }

  /** The process dies: what no finished transaction wrote is gone. */
  crash(): void {
    if (!this.up) return;
    this.#process.alive = false;
    this.#store?.crash();
    this.#store = undefined;
    for (const link of this.#links) link.died("device", false);
    this.#links.clear();
  }

  /** Every connection it has breaks. */
  cut(): void {
    for (const link of this.#links) link.cut();
  }

  #host(process: Process): Host {
    const world = this.#world;
    const chance = this.#chance;
    return {
      nowMs: () => 1_700_000_000_000 + world.nowMs,
      monotonicMs: () => world.nowMs,
      // X-Wing draws 64 bytes: a few of them, so that what was computed once is remembered.
      random: (length) =>
        length === 64 ? new Chance(0, chance.int(0, 1)).bytes(64) : chance.bytes(length),
      uniform: () => chance.uniform(),
      pskOfCode: async (code, relayKey) => blake2b256(code.rendezvousId, code.secret, relayKey),
      setTimer: (ms, run) => process.after(ms, run),
      connect: (_, handlers) => {
        const { socket, link } = this.#relay.network.connect(process, this.road, handlers);
        this.#links.add(link);
        return {
          ...socket,
          get bufferedBytes() {
            return socket.bufferedBytes;
          },
          send: (bytes) => {
            this.#sent += 1;
            this.sending(this.#sent);
            if (process.alive) socket.send(bytes);
          },
        };
      },
    };
  }
}
