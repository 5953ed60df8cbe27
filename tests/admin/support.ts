/** A relay over the memory store with its side API on a real port, and callers of every kind. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { SideListener } from "../../server/admin/side-listener.ts";
import { readToken, Tokens } from "../../server/admin/tokens.ts";
import { writePrivateFile } from "../../server/identity.ts";
import { readHealth } from "../../server/observe/health.ts";
import { type RelayWorldOptions, RelayWorldUnderTest } from "../support/relay-world.ts";

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

export async function testFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "sync-relay-admin-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export type Protocol = "connect" | "grpc" | "grpc-web";

export class SideWorld {
  readonly world: RelayWorldUnderTest;
  readonly side: SideListener;
  readonly folder: string;
  readonly url: string;
  readonly tokens: { readonly admin: string; readonly read: string };
  readonly #t: TestContext;

  private constructor(
    t: TestContext,
    parts: Pick<SideWorld, "world" | "side" | "folder" | "url" | "tokens">,
  ) {
    this.#t = t;
    this.world = parts.world;
    this.side = parts.side;
    this.folder = parts.folder;
    this.url = parts.url;
    this.tokens = parts.tokens;
  }

  static async open(
    t: TestContext,
    options: RelayWorldOptions & {
      readonly withoutTokens?: boolean;
      readonly patienceMs?: number;
    } = {},
  ): Promise<SideWorld> {
    const world = new RelayWorldUnderTest(options);
    const folder = await testFolder(t);
    const tokens = await Tokens.open({
      folder,
      given: { admin: "", read: "" },
      random,
      monotonicMs: () => world.monotonicMs,
    });
    const side = new SideListener({
      relay: world.relay,
      tokens: options.withoutTokens === true ? undefined : tokens,
      health: () => readHealth(world.relay, "ws://relay.example/#key", 12),
      handshakes: () => 0,
      ...(options.patienceMs === undefined ? {} : { patienceMs: options.patienceMs }),
    });
    const port = await side.listen("127.0.0.1:0");
    t.after(() => side.close());
    const url = `http://127.0.0.1:${port}`;
    await writePrivateFile(folder, "admin-url", `${url}\n`);
    return new SideWorld(t, {
      world,
      side,
      folder,
      url,
      tokens: {
        admin: (await readToken(folder, "admin")) ?? "",
        read: (await readToken(folder, "read")) ?? "",
      },
    });
  }

  /** A client of one service, over one of the three protocols. */
  client<Service extends DescService>(
    service: Service,
    protocol: Protocol = "connect",
    token: string | undefined = this.tokens.admin,
  ): Client<Service> {
    return createClient(service, this.#transport(protocol, token));
  }

  /** A request as curl would make it. */
  fetch(path: string, init: RequestInit & { readonly token?: string } = {}): Promise<Response> {
    const { token = this.tokens.admin, ...rest } = init;
    return fetch(`${this.url}${path}`, {
      ...rest,
      headers: {
        ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
        ...(rest.body === undefined ? {} : { "content-type": "application/json" }),
        ...(rest.headers as Record<string, string> | undefined),
      },
    });
  }

  #transport(protocol: Protocol, token: string | undefined): Transport {
    const interceptors = [
      (next: (request: never) => Promise<never>) => (request: { header: Headers }) => {
        if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
        return next(request as never);
      },
    ] as never;
    if (protocol === "connect") {
      return createConnectTransport({ baseUrl: this.url, httpVersion: "1.1", interceptors });
    }
    if (protocol === "grpc-web") {
      return createGrpcWebTransport({ baseUrl: this.url, httpVersion: "1.1", interceptors });
    }
    const sessionManager = new Http2SessionManager(this.url);
    this.#t.after(() => sessionManager.abort());
    return createGrpcTransport({ baseUrl: this.url, interceptors, sessionManager });
  }
}
