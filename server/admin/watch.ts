/** Streams that tell again and again: how many there may be, and how they wait. */
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";

const watchersMax = 16;

/** Counts streams, and refuses what would be too many. */
export class Watchers {
  #open = 0;

  /** Runs a stream within the bound. */
  async *run<Item>(items: () => AsyncIterable<Item>): AsyncGenerator<Item> {
    if (this.#open >= watchersMax) {
      throw new ConnectError("too many streams", Code.ResourceExhausted);
    }
    this.#open += 1;
    try {
      yield* items();
    } finally {
      this.#open -= 1;
    }
  }
}

/** Waits; false where the stream ended meanwhile. */
export async function waited(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal });
    return true;
  } catch {
    // The one way it fails: the signal was given.
    return false;
  }
}
