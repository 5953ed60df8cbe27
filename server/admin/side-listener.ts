/**
 * The side listener: the side API over Connect, gRPC and gRPC-Web, health, figures
 * and the status page over plain HTTP. HTTP/1.1 and HTTP/2 share one port, in the clear: the
 * first bytes of a connection say which it is.
 */
import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { type Health, Scope } from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { toHex } from "../../wire/bytes.ts";
import { limitKey } from "../net/addresses.ts";
import { statusWord } from "../observe/health.ts";
import { type AdminCounters, readMetrics } from "../observe/metrics.ts";
import { ProcessWatch } from "../observe/process-figures.ts";
import { prometheusContentType, prometheusText } from "../observe/prometheus.ts";
import { parseListen } from "../options.ts";
import type { Relay } from "../relay.ts";
import { type PageAnswer, StatusPage } from "../status-page/status-page.ts";
import { Guard, type Needs, type Refusal } from "./guard.ts";
import type { CallHandler } from "./rpc.ts";
import type { Tokens } from "./tokens.ts";

export interface SideListenerOptions {
  readonly relay: Relay;
  /** Undefined: everybody who reaches it may use it. */
  readonly tokens: Tokens | undefined;
  readonly health: () => Health;
  /** Handshakes in flight. */
  readonly handshakes: () => number;
  /** How long somebody may take to say what is wanted, in milliseconds. */
  readonly patienceMs?: number;
}

const connectionsMax = 128;
const patienceMsDefault = 10_000;
/** How long an HTTP/2 connection may be idle before it takes no new streams, in milliseconds. */
const idleMsMax = 60_000;
/** Calls that need no token: gRPC's own health. */
const openCalls = ["Check", "Watch"].map((method) => `/grpc.health.v1.Health/${method}`);
/** How an HTTP/2 connection begins. */
const http2Preface = "PRI ";

/** What HTTP/1.1 and HTTP/2 requests and answers have in common, as far as it is used here. */
interface Request {
  readonly url?: string | undefined;
  readonly method?: string | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly socket: { readonly remoteAddress?: string | undefined; destroy(): unknown };
  readonly httpVersionMajor: number;
  resume(): unknown;
}

interface Response {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string | Uint8Array): unknown;
  once(event: "close", run: () => void): unknown;
}

const scopeOf: Readonly<Record<Needs, Scope>> = {
  nothing: Scope.UNSPECIFIED,
  read: Scope.READ,
  admin: Scope.ADMIN,
};

export class SideListener {
  readonly counters: AdminCounters = { requests: 0, unauthenticated: 0, forbidden: 0, limited: 0 };
  readonly #options: SideListenerOptions;
  readonly #guard: Guard;
  readonly #watch = new ProcessWatch();
  readonly #stop = new AbortController();
  readonly #http: HttpServer;
  readonly #http2: Http2Server;
  readonly #net: Server;
  readonly #sockets = new Set<Socket>();
  readonly #patienceMs: number;
  readonly #page: StatusPage;
  #rpc: Promise<CallHandler> | undefined;
  /** What whoever sent a request may do. */
  readonly #scopes = new WeakMap<object, Scope>();

  constructor(options: SideListenerOptions) {
    this.#options = options;
    this.#patienceMs = options.patienceMs ?? patienceMsDefault;
    const { relay } = options;
    const needs = new Map<string, Needs>([
      ["/health", "nothing"],
      ["/metrics", "read"],
      ...openCalls.map((path) => [path, "nothing"] as const),
    ]);
    this.#page = new StatusPage({ tokens: options.tokens !== undefined });
    for (const target of this.#page.targets) needs.set(target, "nothing");
    this.#guard = new Guard(
      options.tokens,
      needs,
      this.counters,
      relay.world.monotonicMs,
      async () => {
        const { rpcNeeds } = await import("./rpc.ts");
        return rpcNeeds();
      },
    );
    type Take = (request: Request, response: Response, pass: () => Promise<void>) => void;
    const take: Take = (request, response, pass) => {
      this.#take(request, response, pass).catch((error: unknown) => {
        this.#defect(error);
        answer(response, 500, "internal", {});
      });
    };
    this.#http = createHttpServer(
      {
        maxHeaderSize: 8_192,
        headersTimeout: this.#patienceMs,
        requestTimeout: 3 * this.#patienceMs,
        connectionsCheckingInterval: Math.ceil(this.#patienceMs / 10),
      },
      (request, response) =>
        take(request, response, async () => (await this.#calls())(request, response)),
    );
    this.#http2 = createHttp2Server(
      { settings: { maxConcurrentStreams: 64, maxHeaderListSize: 16_384 } },
      (request, response) =>
        take(request, response, async () => (await this.#calls())(request, response)),
    );
    this.#http2.on("session", (session) => session.setTimeout(idleMsMax, () => session.close()));
    // It never listens by itself, and only listening begins to look for requests that take too long.
    this.#http.emit("listening");
    this.#net = createServer({ noDelay: true }, (socket) => this.#accept(socket));
    this.#net.maxConnections = connectionsMax;
  }

  /** Begins to accept; returns the port. */
  async listen(listen: string): Promise<number> {
    const { host, port } = parseListen(listen);
    await new Promise<void>((resolve, reject) => {
      this.#net.once("error", reject);
      this.#net.listen({ host, port }, () => {
        this.#net.off("error", reject);
        resolve();
      });
    });
    return (this.#net.address() as AddressInfo).port;
  }

  /** Ends streams and connections, and resolves when nothing is left. */
  async close(): Promise<void> {
    this.#watch.close();
    if (this.#rpc !== undefined) {
      const { drainingError } = await import("./rpc.ts");
      this.#stop.abort(drainingError());
    }
    const closed = new Promise<void>((resolve) => this.#net.close(() => resolve()));
    // What streams still say goes out; nobody is waited for.
    await new Promise((resolve) => setImmediate(resolve));
    for (const socket of this.#sockets) socket.destroySoon();
    this.#http.closeAllConnections();
    this.#http.close();
    await closed;
  }

  /** What answers calls: its libraries are loaded with the first one, and most relays never get one. */
  #calls(): Promise<CallHandler> {
    this.#rpc ??= import("./rpc.ts").then(({ openRpc }) =>
      openRpc({
        relay: this.#options.relay,
        health: this.#options.health,
        metrics: () => this.#metrics(),
        scopeOf: (request) => this.#scopes.get(request),
        defect: (error) => this.#defect(error),
        stop: this.#stop.signal,
      }),
    );
    return this.#rpc;
  }

  async #metrics() {
    return readMetrics({
      relay: this.#options.relay,
      handshakes: this.#options.handshakes(),
      totals: await this.#options.relay.store.totals(),
      process: this.#watch.read(),
      admin: this.counters,
    });
  }

  /** Logs a defect; returns the id to find it by. */
  #defect(error: unknown): string {
    const { world } = this.#options.relay;
    const incident = toHex(world.random(6));
    world.onDefect(error, incident);
    return incident;
  }

  /** The first bytes say whether HTTP/1.1 or HTTP/2 is spoken. */
  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    const ignoreError = (): void => {};
    socket.on("error", ignoreError);
    socket.setTimeout(this.#patienceMs, () => socket.destroy());
    const onReadable = (): void => {
      const first = socket.read() as Buffer | null;
      if (first === null) return;
      socket.off("readable", onReadable);
      socket.setTimeout(0);
      socket.removeAllListeners("timeout");
      socket.unshift(first);
      const http2 = first.toString("latin1", 0, http2Preface.length) === http2Preface;
      if (http2) this.#http2.emit("connection", socket);
      else this.#http.emit("connection", socket);
    };
    socket.on("readable", onReadable);
  }

  async #take(request: Request, response: Response, pass: () => Promise<void>): Promise<void> {
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    const verdict = await this.#guard.check({
      path,
      authorization: headerOf(request, "authorization"),
      host: headerOf(request, ":authority") ?? headerOf(request, "host"),
      address: limitKey(request.socket.remoteAddress ?? ""),
    });
    if (!verdict.admitted) {
      // Nothing of the body is read; HTTP/1.1 has no other way to say so than to close.
      refuse(response, verdict.why, request.httpVersionMajor === 1);
      return;
    }
    this.#scopes.set(request, scopeOf[verdict.scope]);
    const page = this.#page.answer({
      target: request.url ?? "",
      method: request.method ?? "",
      acceptEncoding: headerOf(request, "accept-encoding"),
      ifNoneMatch: headerOf(request, "if-none-match"),
    });
    if (page !== undefined) {
      this.#answerPage(request, response, page);
      return;
    }
    const looks = request.method === "GET" || request.method === "HEAD";
    if (looks && path === "/health") {
      const health = this.#options.health();
      const { version, uptimeS, problems } = health;
      const status = statusWord(health);
      const body = { status, version, uptime_s: Number(uptimeS), problems: problems.length };
      answerText(
        response,
        status === "draining" ? 503 : 200,
        "application/json",
        JSON.stringify(body),
      );
      return;
    }
    if (looks && path === "/metrics") {
      answerText(response, 200, prometheusContentType, prometheusText(await this.#metrics()));
      return;
    }
    await pass();
  }

  #answerPage(request: Request, response: Response, page: PageAnswer): void {
    const { "content-length": length = "0", "transfer-encoding": encoding } = request.headers;
    const unread = request.httpVersionMajor === 1 && (length !== "0" || encoding !== undefined);
    // Whoever has no token yet must not hold a connection by not reading what it asked for.
    const late = setTimeout(() => request.socket.destroy(), 3 * this.#patienceMs);
    response.once("close", () => clearTimeout(late));
    response.writeHead(page.status, {
      ...page.headers,
      ...(unread ? { connection: "close" } : {}),
    });
    response.end(page.body);
  }
}

const refusals: Readonly<Record<Refusal, { readonly status: number; readonly code: string }>> = {
  unauthenticated: { status: 401, code: "unauthenticated" },
  forbidden: { status: 403, code: "permission_denied" },
  limited: { status: 429, code: "resource_exhausted" },
};

/** One short answer for every cause, in the form that Connect's clients read too. */
function refuse(response: Response, verdict: Refusal, close: boolean): void {
  const { status, code } = refusals[verdict];
  answer(response, status, code, {
    ...(verdict === "unauthenticated" ? { "www-authenticate": "Bearer" } : {}),
    ...(verdict === "limited" ? { "retry-after": "60" } : {}),
    ...(close ? { connection: "close" } : {}),
  });
}

function answer(
  response: Response,
  status: number,
  code: string,
  headers: Readonly<Record<string, string>>,
): void {
  response.writeHead(status, { ...headers, ...plainHeaders("application/json") });
  response.end(`${JSON.stringify({ code })}\n`);
}

function answerText(response: Response, status: number, type: string, text: string): void {
  response.writeHead(status, plainHeaders(type));
  response.end(text.endsWith("\n") ? text : `${text}\n`);
}

function plainHeaders(type: string): Record<string, string> {
  return {
    "content-type": type,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  };
}

function headerOf(request: Request, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" ? value : undefined;
}
