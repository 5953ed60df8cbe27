/** The load on a limit: clients of `bench/limits`, all in one process. */
import { serveRole } from "../harness/role.ts";
import { FrameCipher, tagBytes } from "../limits/frame-cipher.ts";
import { frameType, helloBytes, pushHeaderBytes } from "../limits/frames.ts";
import { FrameSocket } from "./frame-socket.ts";
import { Throughput } from "./throughput.ts";

/** A client of a limit. */
class LimitClient {
  readonly #socket: FrameSocket;
  readonly #up: FrameCipher | undefined;
  readonly #down: FrameCipher | undefined;
  readonly #push: Buffer;
  /** Called with each message, decrypted; valid during the call only. */
  onMessage: (message: Buffer) => void = () => undefined;

  private constructor(socket: FrameSocket, client: number, sealed: boolean, payloadBytes: number) {
    this.#socket = socket;
    this.#up = sealed ? new FrameCipher(client, "up") : undefined;
    this.#down = sealed ? new FrameCipher(client, "down") : undefined;
    this.#push = Buffer.alloc(pushHeaderBytes + payloadBytes, client + 1);
    this.#push[0] = frameType.push;
    let opened = Buffer.allocUnsafe(4_096);
    socket.onMessage = (frame) => {
      if (this.#down === undefined) {
        this.onMessage(frame);
        return;
      }
      const length = frame.byteLength - tagBytes;
      if (length > opened.byteLength) opened = Buffer.allocUnsafe(2 * length);
      this.#down.open(frame, opened, 0);
      this.onMessage(opened.subarray(0, length));
    };
    socket.onDrained = () => socket.flush();
    socket.onClose = (reason) => {
      throw new Error(`the limit closed the connection: ${reason}`);
    };
  }

  static async connect(options: {
    port: number;
    client: number;
    group: number;
    sealed: boolean;
    payloadBytes: number;
  }): Promise<LimitClient> {
    const socket = await FrameSocket.connect(options.port, "/");
    const hello = Buffer.alloc(helloBytes);
    hello.writeUInt32LE(options.client, 0);
    hello.writeUInt32LE(options.group, 4);
    socket.send(hello);
    return new LimitClient(socket, options.client, options.sealed, options.payloadBytes);
  }

  /** Adds a push; `flush` sends it. */
  push(request: number): void {
    this.#push.writeUInt32LE(request, 1);
    this.#add(this.#push);
  }

  /** Asks for something that is not a push, at once. */
  ask(message: Buffer): void {
    this.#add(message);
    this.#socket.flush();
  }

  flush(): void {
    this.#socket.flush();
  }

  close(): void {
    this.#socket.close();
  }

  #add(message: Buffer): void {
    const up = this.#up;
    if (up === undefined) {
      this.#socket.frame(message.byteLength, (output, offset) => output.set(message, offset));
    } else {
      this.#socket.frame(message.byteLength + tagBytes, (output, offset) =>
        up.seal(message, output, offset),
      );
    }
  }
}

interface PushArgs {
  readonly port: number;
  /** What answers: an echo in the clear, a sealed echo, or a relay with lists of requests. */
  readonly answers: "bare echo" | "sealed echo" | "acknowledgements";
  readonly clients: number;
  readonly outstanding: number;
  readonly payloadBytes: number;
  readonly warmup: number;
  readonly measured: number;
}

/** Keeps pushes outstanding and counts what is answered. */
async function pushes(args: PushArgs): Promise<{ perSecond: number }> {
  const clients = await Promise.all(
    Array.from({ length: args.clients }, (_, client) =>
      LimitClient.connect({
        port: args.port,
        client,
        group: client,
        sealed: args.answers !== "bare echo",
        payloadBytes: args.payloadBytes,
      }),
    ),
  );
  const throughput = new Throughput(args.warmup, args.measured);
  let request = 0;
  for (const client of clients) {
    client.onMessage = (message) => {
      const answered = args.answers !== "acknowledgements" ? 1 : (message.byteLength - 1) / 4;
      throughput.count(answered);
      for (let i = 0; i < answered; i++) client.push(request++ >>> 0);
    };
    for (let i = 0; i < args.outstanding; i++) client.push(request++ >>> 0);
    client.flush();
  }
  const perSecond = await throughput.result;
  for (const client of clients) client.close();
  return { perSecond };
}

serveRole({ pushes });
