/** The status in the shapes that frameworks ask for, without any of them. */
import type { Status, SyncEvents } from "./types.ts";

/** What a status is read from: any client. */
export interface StatusSource {
  /** How it stands now. */
  status(): Status;
  /** Listens. Returns what stops it. */
  on(event: "status", listener: (status: SyncEvents["status"]) => void): () => void;
}

/** The store contract of Svelte (also `from` of Solid, and RxJS): told at once, and with every change. */
export interface ReadableStatus {
  /** Calls at once and with every change. Returns what stops it. */
  subscribe(run: (status: Status) => void): () => void;
}

/** `const status = readableStatus(client)`, then `$status.inSync` in a component. */
export function readableStatus(client: StatusSource): ReadableStatus {
  return {
    subscribe(run) {
      const off = client.on("status", run);
      run(client.status());
      return off;
    },
  };
}

/** What React's `useSyncExternalStore(subscribe, getSnapshot)` takes; the snapshot is the same until it changes. */
export interface ExternalStatus {
  /** Calls with every change. Returns what stops it. */
  readonly subscribe: (changed: () => void) => () => void;
  /** The status; the same object until it changes. */
  readonly getSnapshot: () => Status;
}

/** `const { subscribe, getSnapshot } = externalStatus(client)`, once for a client. */
export function externalStatus(client: StatusSource): ExternalStatus {
  let status = client.status();
  let listeners = 0;
  let off = (): void => undefined;
  const changed = new Set<() => void>();
  return {
    subscribe(tell) {
      // A listener of its own for each call: the same function may subscribe twice.
      const own = (): void => tell();
      changed.add(own);
      listeners += 1;
      if (listeners === 1) {
        off = client.on("status", (next) => {
          status = next;
          for (const each of changed) each();
        });
        status = client.status();
      }
      return () => {
        if (!changed.delete(own)) return;
        listeners -= 1;
        if (listeners === 0) off();
      };
    },
    getSnapshot: () => status,
  };
}
