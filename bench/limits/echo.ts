/** L1 and L2: a `ws` server that sends back what it gets, bare or decrypted and encrypted again. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { serveRole } from "../harness/role.ts";
import { FrameCipher, tagBytes } from "./frame-cipher.ts";

function echo(socket: WebSocket, sealed: boolean): void {
  socket.once("message", (hello: Buffer) => {
    const client = hello.readUInt32LE(0);
    const up = new FrameCipher(client, "up");
    const down = new FrameCipher(client, "down");
    socket.on("message", (frame: Buffer) => {
      if (!sealed) {
        socket.send(frame);
        return;
      }
      const message = Buffer.allocUnsafe(frame.byteLength - tagBytes);
      up.open(frame, message, 0);
      const answer = Buffer.allocUnsafe(frame.byteLength);
      down.seal(message, answer, 0);
      socket.send(answer);
    });
  });
}

serveRole({
  start: async (args: { sealed: boolean }) => {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
    await once(server, "listening");
    server.on("connection", (socket) => echo(socket, args.sealed));
    return { port: (server.address() as AddressInfo).port };
  },
});
