/**
 * A network inside the process: connections that keep the order of what they carry, as TCP does, and
 * otherwise do what networks do: delay, stall, break for one side before the other, and go silent.
 */
import { EventEmitter } from "node:events";
import type { Socket, SocketHandlers } from "../../client/host.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import type { Chance } from "./chance.ts";
import type { Process, World } from "./world.ts";

/** The road between a device and the relay. */
export interface Road {
  latencyMs: number;
  jitterMs: number;
  /** Bytes a millisecond; undefined: as many as there are. */
  bytesPerMs: number | undefined;
  /** Until then nothing arrives; what is under way arrives afterwards. */
  stalledUntilMs: number;
  /** The next connections break after so many messages. */
  breakAfter: number | undefined;
}

/** Who accepts connections; undefined where nobody listens. */
export type Accept = ((socket: RelaySocket) => void) | undefined;

type Side = "device" | "relay";

/** One way of a connection. */
interface Way {
  /** When the last of what was sent arrives. */
  arrivesMs: number;
  /** When the last of it has left. */
  leftMs: number;
  bufferedBytes: number;
}

/** One connection. */
export class Link {
  readonly #world: World;
  readonly #road: Road;
  readonly #chance: Chance;
  readonly #processes: Record<Side, Process>;
  /** What arrives to each side. */
  readonly #to: Readonly<Record<Side, Way>> = {
    device: { arrivesMs: 0, leftMs: 0, bufferedBytes: 0 },
    relay: { arrivesMs: 0, leftMs: 0, bufferedBytes: 0 },
  };
  /** Sides that have closed, or were told. */
  readonly #ended = new Set<Side>();
  /** Until when what is under way still arrives. */
  readonly #lostFromMs = { device: Number.POSITIVE_INFINITY, relay: Number.POSITIVE_INFINITY };
  readonly #held: Readonly<Record<Side, (() => void)[]>> = { device: [], relay: [] };
  readonly #releasing = new Set<Side>();
  #messages = 0;
  /** Nothing arrives any more, and nobody is told. */
  silent = false;
  device: SocketHandlers | undefined;
  relay: RelaySocket | undefined;
  /** Called once, when neither side knows it any more. */
  gone: () => void = () => undefined;

  constructor(world: World, road: Road, chance: Chance, device: Process) {
    this.#world = world;
    this.#road = road;
    this.#chance = chance;
    this.#processes = { device, relay: device };
  }

  /** The relay took it. */
  accepted(process: Process, socket: RelaySocket): void {
    this.#processes.relay = process;
    this.relay = socket;
  }

  buffered(from: Side): number {
    return this.#to[other(from)].bufferedBytes;
  }

  send(from: Side, bytes: Uint8Array, left?: () => void): void {
    const side = other(from);
    if (this.#ended.has(from)) return;
    const copy = new Uint8Array(bytes);
    const way = this.#to[side];
    const { bytesPerMs, breakAfter } = this.#road;
    if (bytesPerMs === undefined) {
      way.leftMs = Math.max(way.leftMs, this.#world.nowMs);
      if (left !== undefined) queueMicrotask(left);
    } else {
      way.leftMs = Math.max(way.leftMs, this.#world.nowMs) + copy.byteLength / bytesPerMs;
      way.bufferedBytes += copy.byteLength;
      this.#world.at(
        way.leftMs,
        () => {
          way.bufferedBytes -= copy.byteLength;
          left?.();
        },
        this.#processes[from],
      );
    }
    this.#carry(side, () => {
      if (side === "device") this.device?.message(copy);
      else this.relay?.arrive(copy);
    });
    this.#messages += 1;
    if (breakAfter !== undefined && this.#messages >= breakAfter) {
      this.#road.breakAfter = undefined;
      this.cut();
    }
  }

  /** A ping, and the pong that the other side's network code gives by itself. */
  ping(from: Side): void {
    if (this.#ended.has(from)) return;
    const side = other(from);
    this.#carry(side, () => {
      if (side === "device") this.device?.alive();
      this.#carry(from, () => {
        if (from === "device") this.device?.alive();
        else this.relay?.emit("pong");
      });
    });
  }

  /** One side closes; the other hears it behind what was sent before. */
  close(from: Side, code: number): void {
    if (this.#ended.has(from)) return;
    const side = other(from);
    this.#carry(side, () => {
      this.#carry(from, () => this.#end(from, code));
      this.#end(side, code);
    });
    // Nobody waits for an answer that does not come.
    this.#world.after(1_000, () => this.#end(from, 1006), this.#processes[from]);
  }

  /** One side lets go at once. */
  drop(from: Side): void {
    this.#end(from, 1006);
    this.#carry(other(from), () => this.#end(other(from), 1006));
  }

  /** Breaks: each side hears of it in its own time, and gets what arrives until then. */
  cut(atOnce = false): void {
    for (const side of ["device", "relay"] as const) {
      if (this.#ended.has(side)) continue;
      const ms = atOnce
        ? 0
        : this.#chance.weighted([
            [3, 0],
            [3, this.#chance.int(1, 50)],
            [1, this.#chance.int(50, 5_000)],
          ]);
      const arrives = this.#chance.chance(0.5) ? ms : 0;
      this.#lostFromMs[side] = Math.min(this.#lostFromMs[side], this.#world.nowMs + arrives);
      this.#world.after(ms, () => this.#end(side, 1006), this.#processes[side]);
    }
  }

  /** A process is gone: its side tells nobody anything, the machine it ran on may. */
  died(side: Side, quietly: boolean): void {
    this.#ended.add(side);
    if (quietly) {
      this.silent = true;
      this.#settle();
      return;
    }
    this.#carry(other(side), () => this.#end(other(side), 1006));
  }

  #carry(side: Side, arrive: () => void): void {
    const way = this.#to[side];
    const delayMs = this.#road.latencyMs + this.#chance.uniform() * this.#road.jitterMs;
    const fromMs = Math.max(this.#world.nowMs, way.leftMs);
    way.arrivesMs = Math.max(way.arrivesMs, fromMs + delayMs);
    const run = (): void => {
      if (this.silent || this.#ended.has(side)) return;
      if (this.#world.nowMs < this.#lostFromMs[side]) arrive();
    };
    this.#world.at(
      way.arrivesMs,
      () => {
        const held = this.#held[side];
        if (held.length === 0 && this.#road.stalledUntilMs <= this.#world.nowMs) {
          run();
          return;
        }
        held.push(run);
        this.#release(side);
      },
      this.#processes[side],
    );
  }

  /** Lets what was held go on once the road is free again, in order. */
  #release(side: Side): void {
    if (this.#releasing.has(side)) return;
    this.#releasing.add(side);
    this.#world.at(
      this.#road.stalledUntilMs,
      () => {
        this.#releasing.delete(side);
        if (this.#road.stalledUntilMs > this.#world.nowMs) this.#release(side);
        else for (const run of this.#held[side].splice(0)) run();
      },
      this.#processes[side],
    );
  }

  #end(side: Side, code: number): void {
    if (this.#ended.has(side)) return;
    this.#ended.add(side);
    if (side === "device") this.device?.closed(code);
    else this.relay?.emit("close");
    this.#settle();
  }

  #settle(): void {
    if (this.#ended.size === 2 || this.silent) this.gone();
  }
}

function other(side: Side): Side {
  return side === "device" ? "relay" : "device";
}

/** The relay's end, as `ws` gives it. */
export class RelaySocket extends EventEmitter {
  readonly #link: Link;
  #pauses = false;
  #waiting: Uint8Array[] = [];

  constructor(link: Link) {
    super();
    this.#link = link;
  }

  get bufferedAmount(): number {
    return this.#link.buffered("relay");
  }

  send(bytes: Uint8Array, left?: () => void): void {
    this.#link.send("relay", bytes, left);
  }

  ping(): void {
    this.#link.ping("relay");
  }

  close(code: number): void {
    this.#link.close("relay", code);
  }

  terminate(): void {
    this.#link.drop("relay");
  }

  pause(): void {
    this.#pauses = true;
  }

  resume(): void {
    this.#pauses = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const bytes of waiting) this.arrive(bytes);
  }

  arrive(bytes: Uint8Array): void {
    if (this.#pauses) this.#waiting.push(bytes);
    else this.emit("message", Buffer.from(bytes), true);
  }
}

/** Every connection there is. */
export class Network {
  readonly #world: World;
  readonly #chance: Chance;
  readonly links = new Set<Link>();
  accept: Accept;
  relayProcess: Process;

  constructor(world: World, chance: Chance, relayProcess: Process) {
    this.#world = world;
    this.#chance = chance;
    this.relayProcess = relayProcess;
  }

  connect(process: Process, road: Road, handlers: SocketHandlers): { socket: Socket; link: Link } {
    const world = this.#world;
    const link = new Link(world, road, this.#chance, process);
    link.device = handlers;
    this.links.add(link);
    link.gone = () => this.links.delete(link);
    let given = false;
    let open = false;
    const fail = (): void => {
      if (given) return;
      given = true;
      link.silent = true;
      this.links.delete(link);
      handlers.closed(1006, new SyncError(ErrorCode.UNREACHABLE));
    };
    const there = (): void => {
      if (given) return;
      // Attempts are made again and again while the road is stalled.
      if (road.stalledUntilMs > world.nowMs) {
        world.after(road.stalledUntilMs - world.nowMs, there, process);
        return;
      }
      if (this.accept === undefined || !this.relayProcess.alive) {
        world.after(road.latencyMs, fail, process);
        return;
      }
      const accepted = new RelaySocket(link);
      link.accepted(this.relayProcess, accepted);
      this.accept(accepted);
      world.after(
        road.latencyMs,
        () => {
          if (given) return;
          open = true;
          given = true;
          handlers.open();
        },
        process,
      );
    };
    world.after(road.latencyMs, there, process);
    return {
      link,
      socket: {
        send: (bytes) => link.send("device", bytes),
        ping: () => link.ping("device"),
        close: (code) => {
          if (open) link.close("device", code ?? 1000);
          else world.after(0, fail, process);
        },
        get bufferedBytes() {
          return link.buffered("device");
        },
      },
    };
  }
}
