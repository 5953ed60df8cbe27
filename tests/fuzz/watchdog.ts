/**
 * Notices an input that never comes to anything, from a thread beside the one that is fed, and says
 * which it was: a loop without an end lets nobody else speak, and a promise that stays open nobody
 * waits for.
 */
import { Worker } from "node:worker_threads";

const inputBytesMax = 1 << 20;
const tickMs = 5_000;

/** The thread: counts looks, not time, so that a machine that stood still is no hang. */
const watching = `
  const { workerData: { shared, ticksMax, tickMs } } = require("node:worker_threads");
  const { writeSync } = require("node:fs");
  const counter = new Int32Array(shared, 0, 2);
  let seen = -1;
  let ticks = 0;
  setInterval(() => {
    const now = Atomics.load(counter, 0);
    ticks = now === seen ? ticks + 1 : 0;
    seen = now;
    if (ticks < ticksMax) return;
    const input = Buffer.from(shared, 8, Atomics.load(counter, 1)).toString("base64");
    writeSync(1, "an input hangs\\n\\ninput, base64: " + input + "\\n\\n");
    process.kill(process.pid, "SIGKILL");
  }, tickMs);
`;

export class Watchdog {
  readonly #counter: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(hangMs: number) {
    const shared = new SharedArrayBuffer(8 + inputBytesMax);
    this.#counter = new Int32Array(shared, 0, 2);
    this.#bytes = new Uint8Array(shared, 8);
    const ticksMax = Math.ceil(hangMs / tickMs);
    const thread = new Worker(watching, { eval: true, workerData: { shared, ticksMax, tickMs } });
    thread.unref();
  }

  /** This input is next. */
  fed(input: Uint8Array): void {
    const part = input.subarray(0, inputBytesMax);
    this.#bytes.set(part);
    Atomics.store(this.#counter, 1, part.byteLength);
    Atomics.add(this.#counter, 0, 1);
  }

  /** Something else than an input was done. */
  alive(): void {
    Atomics.add(this.#counter, 0, 1);
  }
}
