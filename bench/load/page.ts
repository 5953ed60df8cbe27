/** What the benchmark's page holds: the library, an app that does nothing with what it gets, and a clock. */
import { type BrowserSyncClient, openSyncClient } from "../../client/platform/browser/index.ts";

/** What catching up took. */
export interface Caught {
  readonly seconds: number;
  /** The longest time between two turns of the page's main thread. */
  readonly longestMs: number;
  readonly problems: readonly string[];
}

class Bench {
  #client: BrowserSyncClient | undefined;
  readonly #problems: string[] = [];

  /** Joins a group. */
  async join(relay: string, link: string): Promise<void> {
    const client = await openSyncClient({ relay, name: "page" });
    client.on("error", (error) => this.#problems.push(String(error)));
    client.on("integrity", ({ finding }) => this.#problems.push(finding));
    this.#client = client;
    await client.join(link);
  }

  /** Reads, verifies, opens and acknowledges so many entries. */
  async catchUp(entries: number): Promise<Caught> {
    if (this.#client === undefined) throw new Error("join first");
    const watch = watchTurns();
    const beganMs = performance.now();
    let taken = 0;
    for await (const entry of this.#client.entries()) {
      await entry.ack();
      taken += 1;
      if (taken === entries) break;
    }
    const seconds = (performance.now() - beganMs) / 1000;
    return { seconds, longestMs: watch(), problems: this.#problems };
  }
}

/** Watches the main thread until what it returns is called, which says how long its longest block was. */
function watchTurns(): () => number {
  let longestMs = 0;
  let lastMs = performance.now();
  let watching = true;
  const { port1, port2 } = new MessageChannel();
  const turn = (): void => {
    const nowMs = performance.now();
    longestMs = Math.max(longestMs, nowMs - lastMs);
    lastMs = nowMs;
    // Every turn, as far as a page can tell: nothing that waits for its own turn comes sooner.
    if (watching) setTimeout(() => port2.postMessage(0), 1);
  };
  port1.addEventListener("message", turn);
  port1.start();
  port2.postMessage(0);
  return () => {
    turn();
    watching = false;
    return longestMs;
  };
}

export const bench: Bench = new Bench();
export type { Bench };

Object.assign(globalThis, { bench });
