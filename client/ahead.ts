/**
 * What is worked out of blobs before they are judged, where a page must not stall: headers, links and
 * bodies, each of which depends on nothing but its blob and the group's keys. In slices, between which
 * the page has its turn, and while the window before is on its way to the disk.
 *
 * Nothing follows from it: a window is judged as a whole, as everywhere, and finds this work done.
 */
import type { Entry } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import type { StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import type { Host } from "./host.ts";
import type { ReadBlob } from "./seal/history.ts";

/** What was worked out of a blob. */
export interface Prepared {
  readonly read: ReadBlob;
  /** Its entry; undefined where it does not open, which whoever judges it finds out again. */
  readonly opened: Entry | undefined;
}

/** So many that are done are let go at once. */
const doneMax = 1_024;

export class Ahead {
  readonly #host: Host;
  readonly #prepare: (stored: StoredBlob) => Prepared | undefined;
  readonly #prepared = new WeakMap<StoredBlob, Prepared>();
  #waiting: StoredBlob[] = [];
  #next = 0;
  #running = false;
  #reached: (() => void)[] = [];

  constructor(host: Host, prepare: (stored: StoredBlob) => Prepared | undefined) {
    this.#host = host;
    this.#prepare = prepare;
  }

  /** Blobs that will be judged, in this order. */
  add(blobs: readonly StoredBlob[]): void {
    if (this.#host.sliceMs === undefined) return;
    for (const blob of blobs) this.#waiting.push(blob);
    if (!this.#running) this.#run().catch(() => undefined);
  }

  /** What was worked out of a blob. */
  get(stored: StoredBlob): Prepared | undefined {
    // Asked for every blob, also where nothing is ever worked out ahead.
    if (this.#host.sliceMs === undefined) return undefined;
    return this.#prepared.get(stored);
  }

  /** Resolves when nothing of these blobs is left to be worked out. */
  async done(blobs: readonly StoredBlob[]): Promise<void> {
    const last = blobs.at(-1);
    if (last === undefined) return;
    while (this.#waiting.lastIndexOf(last) >= this.#next) {
      await new Promise<void>((resolve) => this.#reached.push(resolve));
    }
  }

  /** They will not be judged. */
  clear(): void {
    this.#waiting = [];
    this.#next = 0;
    this.#wake();
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      while (this.#next < this.#waiting.length) {
        this.#slice();
        if (this.#next >= doneMax) {
          this.#waiting.splice(0, this.#next);
          this.#next = 0;
        }
        this.#wake();
        await this.#host.breathe?.();
      }
      this.clear();
    } finally {
      this.#running = false;
    }
  }

  #slice(): void {
    const { sliceMs = 0 } = this.#host;
    const beganMs = this.#host.monotonicMs();
    do {
      const stored = this.#waiting[this.#next];
      if (stored === undefined) return;
      this.#next += 1;
      this.#work(stored);
    } while (this.#host.monotonicMs() - beganMs < sliceMs);
  }

  #work(stored: StoredBlob): void {
    try {
      const prepared = this.#prepare(stored);
      if (prepared !== undefined) this.#prepared.set(stored, prepared);
    } catch {
      // Whoever judges it meets the same, and knows what it means.
    }
  }

  #wake(): void {
    const reached = this.#reached;
    this.#reached = [];
    for (const resolve of reached) resolve();
  }
}
