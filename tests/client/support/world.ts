/** Virtual time, seeded chance and a network inside the process: whole clients, without waiting. */
import type { Host, Socket, SocketHandlers } from "../../../client/host.ts";
import { blake2b256 } from "../../../wire/hash.ts";

/** The relay's end of a connection. */
export interface ServerSocket {
  send(bytes: Uint8Array): void;
  close(code: number): void;
}

export interface ServerHandlers {
  message(bytes: Uint8Array): void;
  closed(): void;
}

/** Who listens at a URL. */
export type Listener = (socket: ServerSocket) => ServerHandlers;

interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** One connection, as the network sees it. */
export class Wire {
  readonly #world: World;
  #open = true;
  /** Messages vanish while it is set; nobody is told. */
  blackhole = false;
  client: SocketHandlers | undefined;
  server: ServerHandlers | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  get open(): boolean {
    return this.#open;
  }

  toServer(bytes: Uint8Array): void {
    const copy = new Uint8Array(bytes);
    this.#world.after(this.#world.latencyMs, () => {
      if (this.#open && !this.blackhole) this.server?.message(copy);
    });
  }

  toClient(bytes: Uint8Array): void {
    const copy = new Uint8Array(bytes);
    this.#world.after(this.#world.latencyMs, () => {
      if (this.#open && !this.blackhole) this.client?.message(copy);
    });
  }

  /** Ends for both; what is under way is lost. */
  cut(code = 1006): void {
    if (!this.#open) return;
    this.#open = false;
    this.#world.wires.delete(this);
    this.server?.closed();
    this.#world.after(0, () => this.client?.closed(code));
  }

  /** The relay closes: what it sent before still arrives. */
  closeFromServer(code: number): void {
    this.#world.after(this.#world.latencyMs, () => this.cut(code));
  }
}

export class World {
  /** Where the devices' clocks begin; the relay has none. */
  readonly epochMs = 1_700_000_000_000;
  readonly wires = new Set<Wire>();
  readonly listeners = new Map<string, Listener>();
  /** One way. */
  latencyMs = 5;
  /** Connection attempts since the beginning, by virtual time. */
  readonly attempts: number[] = [];
  #clockMs = 0;
  #order = 0;
  #timers: Timer[] = [];
  #seed: number;
  readonly failures: unknown[] = [];

  constructor(seed = 1) {
    this.#seed = seed;
  }

  get clockMs(): number {
    return this.#clockMs;
  }

  /** In [0, 1). */
  chance(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) >>> 0;
    let value = this.#seed;
    value = Math.imul(value ^ (value >>> 15), value | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  }

  random(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => Math.floor(this.chance() * 256));
  }

  after(ms: number, run: () => void): () => void {
    const timer = { atMs: this.#clockMs + Math.max(0, ms), order: this.#order++, run };
    this.#timers.push(timer);
    return () => {
      const at = this.#timers.indexOf(timer);
      if (at >= 0) this.#timers.splice(at, 1);
    };
  }

  /** A host whose timers die with it: a process that can be killed. */
  host(): Host & { kill(): void } {
    let alive = true;
    const wires = new Set<Wire>();
    return {
      nowMs: () => this.epochMs + this.#clockMs,
      monotonicMs: () => this.#clockMs,
      random: (length) => this.random(length),
      uniform: () => this.chance(),
      pskOfCode: async (code, relayKey) => blake2b256(code.rendezvousId, code.secret, relayKey),
      setTimer: (ms, run) =>
        this.after(ms, () => {
          if (alive) run();
        }),
      connect: (url, handlers) => {
        const wire = new Wire(this);
        wires.add(wire);
        return this.#connect(wire, url, {
          open: () => alive && handlers.open(),
          message: (bytes) => alive && handlers.message(bytes),
          alive: () => alive && handlers.alive(),
          closed: (code, error) => alive && handlers.closed(code, error),
        });
      },
      kill: () => {
        alive = false;
        for (const wire of wires) wire.cut();
      },
    };
  }

  #connect(wire: Wire, url: string, handlers: SocketHandlers): Socket {
    this.attempts.push(this.#clockMs);
    wire.client = handlers;
    this.wires.add(wire);
    let closed = false;
    this.after(this.latencyMs, () => {
      if (closed) return;
      const listener = this.listeners.get(url);
      if (listener === undefined) {
        wire.cut();
        return;
      }
      wire.server = listener({
        send: (bytes) => wire.toClient(bytes),
        close: (code) => wire.closeFromServer(code),
      });
      handlers.open();
    });
    return {
      send: (bytes) => wire.toServer(bytes),
      ping: () => {
        this.after(2 * this.latencyMs, () => {
          if (wire.open && !wire.blackhole) wire.client?.alive();
        });
      },
      close: () => {
        closed = true;
        this.after(this.latencyMs, () => wire.cut(1000));
      },
      bufferedBytes: 0,
    };
  }

  /** Cuts every connection there is. */
  cutAll(): void {
    for (const wire of this.wires) wire.cut();
  }

  /** Lets everything run that needs no time. */
  async settle(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failures.length > 0) throw this.failures[0];
  }

  /** Moves time on until a condition holds. */
  async until(condition: () => boolean, mostMs = 120_000): Promise<void> {
    const endMs = this.#clockMs + mostMs;
    await this.settle();
    while (!condition()) {
      if (!(await this.#step(endMs))) {
        throw new Error(`still not so after ${mostMs} ms of virtual time: ${condition.toString()}`);
      }
    }
  }

  /** Moves time on until a promise has settled, and returns or throws what it came to. */
  async result<T>(promise: Promise<T>, mostMs = 900_000): Promise<T> {
    let settled = false;
    promise.then(
      () => {
        settled = true;
      },
      () => {
        settled = true;
      },
    );
    await this.until(() => settled, mostMs);
    return await promise;
  }

  /** Moves time on. */
  async run(ms: number): Promise<void> {
    const endMs = this.#clockMs + ms;
    await this.settle();
    while (await this.#step(endMs));
    this.#clockMs = endMs;
  }

  async #step(endMs: number): Promise<boolean> {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (
        next === undefined ||
        timer.atMs < next.atMs ||
        (timer.atMs === next.atMs && timer.order < next.order)
      ) {
        next = timer;
      }
    }
    if (next === undefined || next.atMs > endMs) return false;
    this.#timers.splice(this.#timers.indexOf(next), 1);
    this.#clockMs = Math.max(this.#clockMs, next.atMs);
    next.run();
    await this.settle();
    return true;
  }
}
