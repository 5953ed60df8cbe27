/** The load on a limit: clients of `bench/limits`, all in one process. */
import { percentile } from "../harness/measure.ts";
import { serveRole } from "../harness/role.ts";
import { FrameCipher, tagBytes } from "../limits/frame-cipher.ts";
import { frameType, helloBytes, pushHeaderBytes, rowHeaderBytes } from "../limits/frames.ts";
import { FrameSocket } from "./frame-socket.ts";
import { OpenLoop, paced } from "./latencies.ts";
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

  /** Asks for the group's new rows, and resolves when they come from now on. */
  subscribe(): Promise<void> {
    return new Promise((resolve) => {
      this.onMessage = () => resolve();
      this.ask(Buffer.from([frameType.deliver]));
    });
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

interface DeliveryArgs {
  readonly port: number;
  readonly payloadBytes: number;
  readonly perSecond: number;
  readonly total: number;
  readonly beside: number;
  readonly besideClients: number;
}

/** From one client's push until another client of the group has it. */
async function delivery(args: DeliveryArgs): Promise<{ p50Ms: number; p99Ms: number }> {
  const sealed = true;
  const writer = await LimitClient.connect({ ...args, sealed, client: 0, group: 0 });
  const reader = await LimitClient.connect({ ...args, sealed, client: 1, group: 0 });
  await reader.subscribe();
  const besideEach =
    args.besideClients === 0
      ? 0
      : Math.ceil((args.beside * args.total) / args.perSecond / args.besideClients);
  const beside = await Promise.all(
    Array.from({ length: args.besideClients }, (_, i) =>
      LimitClient.connect({ ...args, sealed, client: 2 + i, group: 1 + i }),
    ),
  );
  const loop = new OpenLoop();
  reader.onMessage = (message) => loop.arrive(countRows(message));
  let turn = 0;
  const besideSent = paced(Math.max(args.beside, 1), besideEach * beside.length, () => {
    const client = beside[turn % beside.length] as LimitClient;
    client.push(turn++);
    client.flush();
  });
  const latenciesMs = await loop.run(args.perSecond, args.total, () => {
    writer.push(0);
    writer.flush();
  });
  await besideSent;
  return { p50Ms: percentile(latenciesMs, 0.5), p99Ms: percentile(latenciesMs, 0.99) };
}

interface FanOutArgs {
  readonly port: number;
  readonly readers: number;
  readonly outstanding: number;
  readonly payloadBytes: number;
  readonly warmup: number;
  readonly measured: number;
}

/** One client writes and others of its group read. */
async function fanOut(args: FanOutArgs): Promise<{ perSecond: number }> {
  const throughput = new Throughput(args.warmup, args.measured);
  const sealed = true;
  const writer = await LimitClient.connect({ ...args, sealed, client: 0, group: 0 });
  for (let i = 1; i <= args.readers; i++) {
    const reader = await LimitClient.connect({ ...args, sealed, client: i, group: 0 });
    await reader.subscribe();
    reader.onMessage = (message) => throughput.count(countRows(message));
  }
  const push = (count: number): void => {
    for (let i = 0; i < count; i++) writer.push(0);
  };
  writer.onMessage = (message) => push((message.byteLength - 1) / 4);
  push(args.outstanding);
  writer.flush();
  return { perSecond: await throughput.result };
}

interface CatchUpArgs {
  readonly port: number;
  readonly blobs: number;
  readonly payloadBytes: number;
}

/** A client pulls a whole log. */
async function catchUp(args: CatchUpArgs): Promise<{ perSecond: number }> {
  const sealed = true;
  const writer = await LimitClient.connect({ ...args, sealed, client: 0, group: 0 });
  await new Promise<void>((resolve) => {
    let sent = 0;
    let stored = 0;
    const push = (count: number): void => {
      for (let i = 0; i < count && sent < args.blobs; i++) writer.push(sent++);
    };
    writer.onMessage = (message) => {
      const acknowledged = (message.byteLength - 1) / 4;
      stored += acknowledged;
      push(acknowledged);
      if (stored === args.blobs) resolve();
    };
    push(400);
    writer.flush();
  });
  const reader = await LimitClient.connect({ ...args, sealed, client: 1, group: 0 });
  return new Promise((resolve) => {
    let received = 0;
    const startedMs = performance.now();
    reader.onMessage = (message) => {
      received += countRows(message);
      if (received === args.blobs) {
        resolve({ perSecond: (received / (performance.now() - startedMs)) * 1_000 });
      }
    };
    const pull = Buffer.alloc(5);
    pull[0] = frameType.pull;
    reader.ask(pull);
  });
}

/** How many rows a page or a delivery holds. */
function countRows(message: Buffer): number {
  let rows = 0;
  for (let offset = 1; offset < message.byteLength; rows++) {
    offset += rowHeaderBytes + message.readUInt32LE(offset + 4);
  }
  return rows;
}

serveRole({ pushes, delivery, fanOut, catchUp });
