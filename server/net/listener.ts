/**
 * The listener that devices reach: WebSocket at `/v1/sync`, health at `/health`,
 * nothing else.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { KeyPair } from "../../wire/channel.ts";
import { subprotocol } from "../../wire/protocol.ts";
import { Admission, type Refusal } from "../admission.ts";
import { envelopeBound, parseListen, recordBound } from "../options.ts";
import type { Relay } from "../relay.ts";
import { type PeerAddress, peerAddress, TrustedProxies } from "./addresses.ts";
import { Connection } from "./connection.ts";

/** What `GET /health` says. */
export interface Health {
  readonly status: "ok" | "draining" | "degraded";
  readonly version: string;
}

export interface ListenerOptions {
  readonly relay: Relay;
  readonly identity: KeyPair;
  readonly health: () => Health;
  /** A connection was turned away before its handshake. */
  readonly onRefused: (refusal: Refusal) => void;
}

const syncPath = "/v1/sync";
/**
 * What a device sends before its handshake ended, at most, in bytes. `ws` would
 * gather a message as large as a record first.
 */
const earlyBytesMax = 16_384;
/** How far pings are spread, in milliseconds. */
const pingJitterMs = 5_000;

export class Listener {
  readonly admission: Admission;
  readonly #options: ListenerOptions;
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #connections = new Set<Connection>();
  #proxies: TrustedProxies;
  #tick: NodeJS.Timeout | undefined;
  /** Called when the last connection is gone. */
  #onNoneLeft: () => void = () => undefined;

  constructor(options: ListenerOptions) {
    const { limits, trustedProxies } = options.relay.options;
    this.#options = options;
    this.admission = new Admission(limits);
    this.#proxies = new TrustedProxies(trustedProxies);
    this.#sockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: recordBound(limits),
      handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
    });
    this.#http = createServer(
      // What a stranger may make the server hold before it has said anything.
      {
        maxHeaderSize: 8_192,
        headersTimeout: 10_000,
        requestTimeout: 10_000,
        keepAliveTimeout: 5_000,
      },
      (request, response) => this.#request(request, response),
    );
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#http.maxConnections = limits.sessionsMax + limits.handshakesMax;
  }

  /** Takes the relay's new bounds over: they hold for connections from now on. */
  reconfigure(): void {
    const { limits, trustedProxies } = this.#options.relay.options;
    this.admission.takeLimits(limits);
    this.#proxies = new TrustedProxies(trustedProxies);
    this.#sockets.options.maxPayload = recordBound(limits);
    this.#http.maxConnections = limits.sessionsMax + limits.handshakesMax;
  }

  /** Begins to accept; returns the port. */
  async listen(): Promise<number> {
    const { host, port } = parseListen(this.#options.relay.options.listen);
    await new Promise<void>((resolve, reject) => {
      this.#http.once("error", reject);
      this.#http.listen({ host, port, backlog: 1_024 }, () => {
        this.#http.off("error", reject);
        resolve();
      });
    });
    this.#tick = setInterval(() => this.#everySecond(), 1_000);
    return (this.#http.address() as AddressInfo).port;
  }

  /** Accepts no more; connections go on. */
  stopAccepting(): void {
    this.#http.close();
    this.#http.closeIdleConnections();
  }

  /**
   * Ends every connection. Each is told at once; who has not answered after `msMax` is cut off, so
   * that no peer decides when the relay ends.
   */
  async close(msMax: number): Promise<void> {
    for (const connection of this.#connections) connection.shut();
    await this.#gone(msMax);
    for (const connection of this.#connections) connection.terminate();
    // What was cut off ends in a turn or two; sockets that no session had end with the server.
    await this.#gone(msMax);
    clearInterval(this.#tick);
    this.#http.closeAllConnections();
  }

  /** Resolves when no connection is left, or `msMax` has passed. */
  async #gone(msMax: number): Promise<void> {
    if (this.#connections.size === 0) return;
    await new Promise<void>((resolve) => {
      const late = setTimeout(resolve, msMax);
      this.#onNoneLeft = () => {
        clearTimeout(late);
        resolve();
      };
    });
    this.#onNoneLeft = () => undefined;
  }

  #everySecond(): void {
    const { relay } = this.#options;
    const nowMs = relay.world.monotonicMs();
    // Drawn for all at once: one by one it takes longer than everything else here.
    const random = relay.world.random(Math.max(1, this.#connections.size));
    let drawn = 0;
    for (const connection of this.#connections) {
      const spread = random[drawn++] as number;
      connection.tick(nowMs, (spread / 256) * pingJitterMs);
    }
    relay.tick();
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? "").split("?", 1)[0];
    if (path === "/health" && (request.method === "GET" || request.method === "HEAD")) {
      const health = this.#options.health();
      response.writeHead(health.status === "ok" ? 200 : 503, {
        "content-type": "application/json",
        "cache-control": "no-store",
      });
      response.end(`${JSON.stringify(health)}\n`);
      return;
    }
    if (path === syncPath) {
      response.writeHead(426, { upgrade: "websocket", connection: "upgrade" });
      response.end();
      return;
    }
    response.writeHead(404);
    response.end();
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { relay } = this.#options;
    // `ws` takes the socket's errors over once it has the socket.
    const ignoreError = (): void => {};
    socket.on("error", ignoreError);
    if ((request.url ?? "").split("?", 1)[0] !== syncPath) {
      refuse(socket, "404 Not Found");
      return;
    }
    if (!(request.headers["sec-websocket-protocol"] ?? "").split(/\s*,\s*/).includes(subprotocol)) {
      refuse(socket, "400 Bad Request");
      return;
    }
    if (relay.draining) {
      refuse(socket, "503 Service Unavailable");
      return;
    }
    const address = peerAddress(request, this.#proxies);
    const refusal = this.admission.begin(address.key, address.shared, relay.world.monotonicMs());
    if (refusal !== undefined) {
      relay.counters.connectionsRefused += 1;
      relay.figures.turnedAway.add(refusal);
      this.#options.onRefused(refusal);
      refuse(socket, "429 Too Many Requests");
      return;
    }
    let upgraded = false;
    // Until `ws` has the socket, a socket that closes has no other listener.
    socket.once("close", () => {
      if (!upgraded) this.admission.finish(address.key, "failed");
    });
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      upgraded = true;
      socket.off("error", ignoreError);
      relay.counters.connectionsOpened += 1;
      this.#accept(webSocket, address, socket);
    });
  }

  #accept(
    socket: ConstructorParameters<typeof Connection>[0]["socket"],
    address: PeerAddress,
    raw: Duplex,
  ): void {
    const { relay, identity } = this.#options;
    const { limits } = relay.options;
    let admitted = false;
    let earlyBytes = 0;
    const countEarly = (chunk: Uint8Array): void => {
      earlyBytes += chunk.byteLength;
      if (earlyBytes > earlyBytesMax) socket.terminate();
    };
    raw.on("data", countEarly);
    const connection = new Connection({
      socket,
      identity,
      recordBytesMax: recordBound(limits),
      recordBytesTarget: envelopeBound(limits),
      counters: relay.counters,
      outbound: relay.outbound,
      nowMs: relay.world.monotonicMs,
      handshakeMsMax: limits.handshakeMsMax,
      onHello: (port, deviceId, hello) => relay.attach(port, deviceId, address.key, hello),
      onHandshake: (outcome) => {
        raw.off("data", countEarly);
        this.admission.finish(address.key, outcome);
        admitted = outcome !== "failed";
      },
      onWelcomed: () => this.admission.welcome(address.key),
      onClosed: () => {
        this.#connections.delete(connection);
        if (admitted) this.admission.leave();
        if (this.#connections.size === 0) this.#onNoneLeft();
      },
    });
    this.#connections.add(connection);
  }
}

function refuse(socket: Duplex, status: string): void {
  // Nobody else watches this socket: a peer that keeps its side open would hold it for good.
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
