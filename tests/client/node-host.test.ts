import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { type WebSocket, WebSocketServer } from "ws";
import type { SyncError } from "../../client/index.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { subprotocol } from "../../wire/protocol.ts";

const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: true });
const url = (port: number): string => `ws://127.0.0.1:${port}/v1/sync`;
let port = 0;

before(async () => {
  if (server.address() === null) {
    await new Promise((resolve) => {
      server.once("listening", resolve);
    });
  }
  ({ port } = server.address() as AddressInfo);
});

after(() => {
  for (const socket of server.clients) socket.terminate();
  server.close();
});

/** Connects, and gathers what the socket tells until it is closed. */
function gather(
  address: string,
  onOpen: (send: (bytes: Uint8Array) => void, close: () => void) => void,
) {
  const messages: Uint8Array[] = [];
  let alive = 0;
  return new Promise<{
    messages: Uint8Array[];
    alive: number;
    code: number;
    error: SyncError | undefined;
  }>((resolve) => {
    const socket = nodeHost().connect(address, {
      open: () =>
        onOpen(
          (bytes) => socket.send(bytes),
          () => socket.close(),
        ),
      message: (bytes) => messages.push(bytes),
      alive: () => {
        alive += 1;
      },
      closed: (code, error) => resolve({ messages, alive, code, error }),
    });
  });
}

function serve(handle: (socket: WebSocket, headers: Record<string, unknown>) => void): void {
  server.removeAllListeners("connection");
  server.on("connection", (socket, request) => handle(socket, request.headers));
}

describe("Node's host", () => {
  test("PROTOCOL 2.2: subprotocol, binary messages as they were, no compression", async () => {
    let headers: Record<string, unknown> = {};
    serve((socket, seen) => {
      headers = seen;
      socket.on("message", (data, isBinary) => {
        assert.ok(isBinary);
        socket.ping();
        socket.send(data as Buffer);
        socket.close(4701);
      });
    });
    const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 251);
    const told = await gather(url(port), (send) => send(bytes));
    assert.equal(headers["sec-websocket-protocol"], subprotocol);
    assert.equal(headers["sec-websocket-extensions"], undefined);
    assert.deepEqual(told.messages, [bytes]);
    assert.equal(told.messages[0]?.constructor, Uint8Array);
    assert.equal(told.alive, 1);
    assert.equal(told.code, 4701);
    assert.equal(told.error, undefined);
  });

  test("PROTOCOL 2.3: text ends the connection", async () => {
    serve((socket) => socket.send("text"));
    const told = await gather(url(port), () => undefined);
    assert.deepEqual(told.messages, []);
    assert.equal(told.error?.code, ErrorCode.RECORD_INVALID);
  });

  test("closing tells once, with the usual code", async () => {
    serve(() => undefined);
    const told = await gather(url(port), (_send, close) => close());
    assert.equal(told.code, 1000);
  });

  test("what the network says is said in our words, with a hint", async () => {
    const web = createServer((_, response) => response.writeHead(404).end());
    await new Promise<void>((resolve) => {
      web.listen(0, "127.0.0.1", resolve);
    });
    const webPort = (web.address() as AddressInfo).port;
    const other = await gather(url(webPort), () => undefined);
    assert.equal(other.error?.code, ErrorCode.UNREACHABLE);
    assert.match(other.error?.hint ?? "", /404/);
    await new Promise((resolve) => web.close(resolve));
    const nobody = await gather(url(webPort), () => undefined);
    assert.equal(nobody.error?.code, ErrorCode.UNREACHABLE);
    assert.match(nobody.error?.hint ?? "", /nothing listens/);
    const unknown = await gather("ws://no-such-host.invalid/v1/sync", () => undefined);
    assert.equal(unknown.error?.code, ErrorCode.UNREACHABLE);
    assert.match(unknown.error?.hint ?? "", /resolved/);
  });

  test("random bytes are never handed out twice, and are the caller's own", () => {
    const { random } = nodeHost();
    const seen = new Set<string>();
    for (let i = 0; i < 5_000; i++) {
      const bytes = random(24);
      assert.equal(bytes.byteLength, 24);
      seen.add(Buffer.from(bytes).toString("hex"));
      bytes.fill(0);
    }
    assert.equal(seen.size, 5_000);
    assert.equal(random(100_000).byteLength, 100_000);
  });
});
