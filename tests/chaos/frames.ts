/** WebSocket messages (RFC 6455, section 5.2) cut out of a stream of bytes, behind the head of HTTP. */

export interface CutFrame {
  /** Messages of data from 1; the head of HTTP is 0. Control frames have the number of the one before. */
  readonly number: number;
  readonly frame: Buffer;
}

interface Shape {
  readonly headBytes: number;
  readonly bodyBytes: number;
}

export class FrameCutter {
  #rest = Buffer.alloc(0);
  #headEnded = false;
  #number = 0;

  push(bytes: Buffer): CutFrame[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const cut: CutFrame[] = [];
    if (!this.#headEnded) {
      const end = this.#rest.indexOf("\r\n\r\n");
      if (end < 0) return cut;
      cut.push({ number: 0, frame: this.#take(end + 4) });
      this.#headEnded = true;
    }
    for (let shape = shapeOf(this.#rest); shape !== undefined; shape = shapeOf(this.#rest)) {
      const whole = shape.headBytes + shape.bodyBytes;
      if (this.#rest.length < whole) break;
      const frame = this.#take(whole);
      if (((frame[0] as number) & 0x0f) < 8) this.#number += 1;
      cut.push({ number: this.#number, frame });
    }
    return cut;
  }

  #take(length: number): Buffer {
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }
}

function shapeOf(bytes: Buffer): Shape | undefined {
  if (bytes.length < 2) return undefined;
  const second = bytes[1] as number;
  const short = second & 0x7f;
  const mask = (second & 0x80) === 0 ? 0 : 4;
  const extended = short === 126 ? 2 : short === 127 ? 8 : 0;
  const headBytes = 2 + extended + mask;
  if (bytes.length < headBytes) return undefined;
  const bodyBytes =
    short === 126
      ? bytes.readUInt16BE(2)
      : short === 127
        ? Number(bytes.readBigUInt64BE(2))
        : short;
  return { headBytes, bodyBytes };
}

/** The frame with one bit of its body turned. A mask makes no difference to that. */
export function flipped(frame: Buffer, draw: number): Buffer {
  const { headBytes, bodyBytes } = shapeOf(frame) as Shape;
  const made = Buffer.from(frame);
  const at = headBytes + (draw % Math.max(1, bodyBytes));
  made[at] = (made[at] ?? 0) ^ (1 << (draw % 8));
  return made;
}

/** The frame without the last byte of its body, and whole as a frame. */
export function truncated(frame: Buffer): Buffer {
  const { headBytes, bodyBytes } = shapeOf(frame) as Shape;
  if (bodyBytes === 0) return frame;
  const made = Buffer.from(frame.subarray(0, frame.length - 1));
  const short = (made[1] as number) & 0x7f;
  const mask = (made[1] as number) & 0x80;
  if (short === 126) made.writeUInt16BE(bodyBytes - 1, 2);
  else if (short === 127) made.writeBigUInt64BE(BigInt(bodyBytes - 1), 2);
  else made[1] = mask | (bodyBytes - 1);
  return headBytes + bodyBytes - 1 === made.length ? made : frame;
}
