/**
 * The least WebSocket client (RFC 6455): what a load generator needs and no
 * more. It writes a burst of frames with one system call and takes what it
 * reads apart in place, so that on a small machine the load costs as little as
 * can be beside what is measured. Frames are masked like any client's. Both
 * sides of a comparison are loaded through it.
 */
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";

const opcodeBinary = 2;
const opcodeClose = 8;
const opcodePing = 9;
const opcodePong = 10;
/** A frame's header at most: 2 bytes, a 64-bit length, a mask. */
const headerBytesMax = 14;

/** A WebSocket connection to this machine. */
export class FrameSocket {
  readonly #socket: Socket;
  #input: Buffer[] = [];
  #inputBytes = 0;
  #wantedBytes = 2;
  #output: Buffer = Buffer.alloc(0);
  #outputBytes = 0;
  #mask = randomBytes(4).readUInt32LE() | 1;
  /** Called with the payload of each binary message; it is valid during the call only. */
  onMessage: (payload: Buffer) => void = () => undefined;
  /** Called after all messages of a read were handed over: the time to answer them. */
  onDrained: () => void = () => undefined;
  /** Called when the connection ends, with the peer's words where it said any. */
  onClose: (reason: string) => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Connects and upgrades. Fails where the server does not. */
  static connect(port: number, path: string, subprotocol?: string): Promise<FrameSocket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      let answer = Buffer.alloc(0);
      socket.once("error", reject);
      socket.on("connect", () => {
        socket.write(
          [
            `GET ${path} HTTP/1.1`,
            `Host: 127.0.0.1:${port}`,
            "Upgrade: websocket",
            "Connection: Upgrade",
            `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
            "Sec-WebSocket-Version: 13",
            ...(subprotocol === undefined ? [] : [`Sec-WebSocket-Protocol: ${subprotocol}`]),
            "\r\n",
          ].join("\r\n"),
        );
      });
      const read = (chunk: Buffer): void => {
        answer = Buffer.concat([answer, chunk]);
        const end = answer.indexOf("\r\n\r\n");
        if (end === -1) return;
        socket.off("data", read);
        socket.off("error", reject);
        const status = answer.subarray(0, end).toString().split("\r\n")[0] ?? "";
        if (!status.includes(" 101 ")) {
          socket.destroy();
          reject(new Error(`no upgrade: ${status}`));
          return;
        }
        const frames = new FrameSocket(socket);
        socket.on("data", (data) => frames.#read(data));
        socket.on("error", (error) => frames.onClose(error.message));
        socket.on("close", () => frames.onClose("closed"));
        resolve(frames);
        const rest = answer.subarray(end + 4);
        // After the caller's handlers are set.
        if (rest.byteLength > 0) setImmediate(() => frames.#read(rest));
      };
      socket.on("data", read);
    });
  }

  /**
   * Adds a frame of `length` payload bytes, which `write` puts into the buffer
   * it is given at the offset it is given. Sent by `flush`.
   */
  frame(length: number, write: (output: Buffer, offset: number) => void): void {
    const end = this.#outputBytes + headerBytesMax + length;
    if (end > this.#output.byteLength) {
      const grown = Buffer.allocUnsafe(Math.max(2 * end, 16_384));
      this.#output.copy(grown, 0, 0, this.#outputBytes);
      this.#output = grown;
    }
    const output = this.#output;
    let offset = this.#outputBytes;
    output[offset++] = 0x80 | opcodeBinary;
    if (length < 126) {
      output[offset++] = 0x80 | length;
    } else if (length < 65_536) {
      output[offset++] = 0x80 | 126;
      offset = output.writeUInt16BE(length, offset);
    } else {
      output[offset++] = 0x80 | 127;
      offset = output.writeUInt32BE(0, offset);
      offset = output.writeUInt32BE(length, offset);
    }
    // A mask hides nothing here; it only has to cost the server what a mask costs.
    this.#mask = (Math.imul(this.#mask, 1_664_525) + 1_013_904_223) | 0x01010101;
    const mask = this.#mask;
    offset = output.writeInt32LE(mask, offset);
    write(output, offset);
    const last = offset + length;
    for (let i = 0; offset < last; i = (i + 8) & 31, offset++) {
      output[offset] = (output[offset] as number) ^ (mask >>> i);
    }
    this.#outputBytes = last;
  }

  /** Adds a frame with this payload and sends it. */
  send(payload: Uint8Array): void {
    this.frame(payload.byteLength, (output, offset) => output.set(payload, offset));
    this.flush();
  }

  /** Sends all frames added, with one write. */
  flush(): void {
    if (this.#outputBytes === 0) return;
    const bytes = this.#output.subarray(0, this.#outputBytes);
    // The socket keeps what it was given until the kernel took it.
    this.#output = Buffer.allocUnsafe(Math.max(bytes.byteLength + 1_024, 16_384));
    this.#outputBytes = 0;
    this.#socket.write(bytes);
  }

  /** Stops reading, so that the server's bytes back up. */
  pause(): void {
    this.#socket.pause();
  }

  /** Ends the connection without ceremony. */
  close(): void {
    this.onClose = () => undefined;
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#input.push(chunk);
    this.#inputBytes += chunk.byteLength;
    // A large frame arrives in many pieces: they are joined once, when all are there.
    if (this.#inputBytes < this.#wantedBytes) return;
    const [first] = this.#input;
    const input =
      this.#input.length === 1 && first !== undefined ? first : Buffer.concat(this.#input);
    let offset = 0;
    let wantedBytes = 2;
    while (input.byteLength - offset >= wantedBytes) {
      const opcode = (input[offset] as number) & 0x0f;
      let length = (input[offset + 1] as number) & 0x7f;
      let start = offset + 2;
      if (length >= 126) {
        wantedBytes = length === 126 ? 4 : 10;
        if (input.byteLength - offset < wantedBytes) break;
        // The upper half of a 64-bit length is 0 here: nothing sends 4 GiB.
        length = length === 126 ? input.readUInt16BE(start) : input.readUInt32BE(start + 4);
        start = offset + wantedBytes;
      }
      wantedBytes = start - offset + length;
      if (input.byteLength - offset < wantedBytes) break;
      const payload = input.subarray(start, start + length);
      offset = start + length;
      wantedBytes = 2;
      if (opcode === opcodeBinary) this.onMessage(payload);
      else if (opcode === opcodePing) this.#pong(payload);
      else if (opcode === opcodeClose) {
        this.#answerClose(payload);
        this.onClose(
          `${length >= 2 ? payload.readUInt16BE(0) : ""} ${payload.toString("utf8", 2)}`,
        );
      }
    }
    const rest = input.subarray(offset);
    this.#input = rest.byteLength === 0 ? [] : [rest];
    this.#inputBytes = rest.byteLength;
    this.#wantedBytes = wantedBytes;
    this.onDrained();
  }

  /** A client that does not answer a close keeps the server waiting for it. */
  #answerClose(payload: Buffer): void {
    const code = payload.subarray(0, 2);
    const frame = Buffer.alloc(6 + code.byteLength);
    frame[0] = 0x80 | opcodeClose;
    frame[1] = 0x80 | code.byteLength;
    frame.set(code, 6);
    this.#socket.end(frame);
  }

  #pong(payload: Buffer): void {
    // After what is in the output already; a ping's payload is short (RFC 6455, section 5.5).
    this.flush();
    const frame = Buffer.alloc(6 + payload.byteLength);
    frame[0] = 0x80 | opcodePong;
    frame[1] = 0x80 | payload.byteLength;
    frame.set(payload, 6);
    this.#socket.write(frame);
  }
}
