/**
 * A proxy that is a bad network: late, narrow, silent, broken. It stands between one device and the
 * relay, and can be told at any moment. What TCP promises it keeps, so it loses and reorders nothing:
 * a lost packet is a late one with everything behind it late as well.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Chance } from "../simulation/chance.ts";
import { FrameCutter } from "./frames.ts";

/** One direction of a road. */
export interface Way {
  latencyMs: number;
  /** Up to so much later. */
  jitterMs: number;
  bytesPerS: number;
  /** The share of packets that are lost once. */
  loss: number;
}

export type Direction = "up" | "down";

/** What becomes of a WebSocket message: what is sent in its place, or the end of the connection. */
export type Meddle = (
  direction: Direction,
  /** Of this direction and connection, from 1; the head of HTTP is 0. */
  number: number,
  frame: Buffer,
) => readonly Buffer[] | "cut" | "lag";

const packetBytes = 1_400;
const retransmitMs = 200;
/** Beyond so much, the sender is read no further. */
const heldBytesMax = 256 * 1024;

const perfect = (): Way => ({
  latencyMs: 0,
  jitterMs: 0,
  bytesPerS: Number.POSITIVE_INFINITY,
  loss: 0,
});

export class FaultProxy {
  readonly up: Way = perfect();
  readonly down: Way = perfect();
  /** Looks at each message, where set; connections of before go on as they were. */
  meddle: Meddle | undefined;
  /** How long a message waits that `meddle` lets lag. */
  lagMs = 0;
  /** Connections there were. */
  connections = 0;
  readonly #server: Server;
  readonly #chance: Chance;
  readonly #links = new Set<Link>();
  #stalled = false;
  #refusing = false;

  private constructor(server: Server, chance: Chance) {
    this.#server = server;
    this.#chance = chance;
  }

  static async start(targetPort: number, chance: Chance, host = "127.0.0.1"): Promise<FaultProxy> {
    const server = createServer({ pauseOnConnect: true });
    const proxy = new FaultProxy(server, chance);
    server.on("connection", (near) => proxy.#accept(near, targetPort, host));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === "object" ? address.port : 0;
  }

  get stalled(): boolean {
    return this.#stalled;
  }

  get open(): number {
    return this.#links.size;
  }

  /** Both ways. */
  road(way: Partial<Way>): void {
    Object.assign(this.up, way);
    Object.assign(this.down, way);
  }

  /** As if there were nothing in between. */
  heal(): void {
    this.road(perfect());
    this.meddle = undefined;
    this.#refusing = false;
    this.resume();
  }

  /** Nothing gets through, in either direction, until `resume`. */
  stall(): void {
    this.#stalled = true;
  }

  resume(): void {
    this.#stalled = false;
    for (const link of this.#links) link.pump();
  }

  /** New connections are refused, and those there are break. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  cut(): void {
    for (const link of this.#links) link.cut();
  }

  /** The device's side breaks; the relay is told nothing, and goes on believing in the connection. */
  halfOpen(): void {
    for (const link of this.#links) link.halfOpen();
  }

  /** Open connections go silent for good, and neither side is told. */
  silence(): void {
    for (const link of this.#links) link.silent = true;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(near: Socket, targetPort: number, host: string): void {
    this.connections += 1;
    if (this.#refusing) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(targetPort, host);
    const link = new Link(near, far, this, this.#chance);
    this.#links.add(link);
    link.ended = () => this.#links.delete(link);
  }
}

interface Held {
  readonly bytes: Buffer;
  readonly atMs: number;
}

class Link {
  silent = false;
  ended: () => void = () => undefined;
  readonly #near: Socket;
  readonly #far: Socket;
  readonly #flows: readonly Flow[];

  constructor(near: Socket, far: Socket, proxy: FaultProxy, chance: Chance) {
    this.#near = near;
    this.#far = far;
    for (const socket of [near, far]) socket.setNoDelay(true);
    this.#flows = [
      new Flow(near, far, "up", this, proxy, chance),
      new Flow(far, near, "down", this, proxy, chance),
    ];
    near.on("error", () => undefined).on("close", () => this.#closed());
    far.on("error", () => undefined).on("close", () => this.#closed());
    near.resume();
  }

  #closed(): void {
    if (this.silent) return;
    if (this.#near.destroyed && this.#far.destroyed) {
      this.ended();
      return;
    }
    // What was sent before the end still arrives; nothing else does.
    if (this.#near.destroyed && !this.#half) this.#flows[0]?.endWhenSent();
    if (this.#far.destroyed) this.#flows[1]?.endWhenSent();
  }

  #half = false;

  pump(): void {
    for (const flow of this.#flows) flow.pump();
  }

  cut(): void {
    this.#near.resetAndDestroy();
    this.#far.resetAndDestroy();
  }

  halfOpen(): void {
    this.#half = true;
    this.#near.resetAndDestroy();
  }
}

/** One direction of one connection. */
class Flow {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #direction: Direction;
  readonly #link: Link;
  readonly #proxy: FaultProxy;
  readonly #chance: Chance;
  readonly #cutter: FrameCutter | undefined;
  readonly #held: Held[] = [];
  #heldBytes = 0;
  #lastMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #ending = false;

  constructor(
    from: Socket,
    to: Socket,
    direction: Direction,
    link: Link,
    proxy: FaultProxy,
    chance: Chance,
  ) {
    this.#from = from;
    this.#to = to;
    this.#direction = direction;
    this.#link = link;
    this.#proxy = proxy;
    this.#chance = chance;
    this.#cutter = proxy.meddle === undefined ? undefined : new FrameCutter();
    from.on("data", (bytes: Buffer) => this.#take(bytes));
    to.on("drain", () => this.pump());
  }

  #take(bytes: Buffer): void {
    if (this.#link.silent) return;
    if (this.#cutter === undefined) {
      for (let at = 0; at < bytes.length; at += packetBytes) {
        this.#hold(bytes.subarray(at, at + packetBytes), 0);
      }
    } else {
      for (const { number, frame } of this.#cutter.push(bytes)) {
        const made = this.#proxy.meddle?.(this.#direction, number, frame) ?? [frame];
        if (made === "cut") {
          this.#link.cut();
          return;
        }
        if (made === "lag") this.#hold(frame, this.#proxy.lagMs);
        else for (const each of made) this.#hold(each, 0);
      }
    }
    if (this.#heldBytes > heldBytesMax) this.#from.pause();
    this.pump();
  }

  #hold(bytes: Buffer, lagMs: number): void {
    const way = this.#proxy[this.#direction];
    let atMs = performance.now() + lagMs + way.latencyMs + way.jitterMs * this.#chance.uniform();
    for (let again = retransmitMs; this.#chance.chance(way.loss); again *= 2) atMs += again;
    atMs = Math.max(atMs, this.#lastMs);
    if (Number.isFinite(way.bytesPerS)) {
      atMs = Math.max(atMs, this.#lastMs) + (bytes.length / way.bytesPerS) * 1_000;
    }
    this.#lastMs = atMs;
    this.#held.push({ bytes, atMs });
    this.#heldBytes += bytes.length;
  }

  endWhenSent(): void {
    this.#ending = true;
    this.pump();
  }

  pump(): void {
    if (this.#timer !== undefined || this.#proxy.stalled || this.#link.silent) return;
    const nowMs = performance.now();
    while (this.#held.length > 0 && !this.#to.writableNeedDrain) {
      const [first] = this.#held as [Held];
      if (first.atMs > nowMs) {
        this.#timer = setTimeout(() => {
          this.#timer = undefined;
          this.pump();
        }, first.atMs - nowMs);
        return;
      }
      this.#held.shift();
      this.#heldBytes -= first.bytes.length;
      this.#to.write(first.bytes);
    }
    if (this.#heldBytes <= heldBytesMax) this.#from.resume();
    if (this.#held.length === 0 && this.#ending) this.#to.end();
  }
}
