/** Who listens for what. */
import type { Host } from "./host.ts";
import type { SyncEvents } from "./types.ts";

type Listener<E extends keyof SyncEvents> = (value: SyncEvents[E]) => void;

export class Events {
  readonly #host: Host;
  readonly #listeners = new Map<keyof SyncEvents, Set<(value: never) => void>>();

  constructor(host: Host) {
    this.#host = host;
  }

  on<E extends keyof SyncEvents>(event: E, listener: Listener<E>): () => void {
    let listeners = this.#listeners.get(event);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(event, listeners);
    }
    // A listener of its own for each call: the same function may listen twice.
    const own = (value: SyncEvents[E]): void => listener(value);
    listeners.add(own);
    return () => listeners.delete(own);
  }

  emit<E extends keyof SyncEvents>(event: E, value: SyncEvents[E]): void {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        (listener as Listener<E>)(value);
      } catch (error) {
        // The app's defect: it surfaces where the app's own would, and stops nothing here.
        this.#host.setTimer(0, () => {
          throw error;
        });
      }
    }
  }

  clear(): void {
    this.#listeners.clear();
  }
}
