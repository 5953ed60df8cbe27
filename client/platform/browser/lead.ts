/**
 * Which tab of a device holds its state and its connection: exactly one, and another as soon as that one
 * is gone. By a Web Lock, which a tab cannot keep when it crashes. On plain HTTP, where there are none,
 * by a lease in IndexedDB: a tab that asks the one that leads and hears nothing takes its place.
 *
 * Either way the new one writes its name into the state, and every write of the state looks for it: one
 * that was only slow, and not dead, writes nothing any more.
 */
import { readLead, writeLead } from "./indexeddb-store.ts";

/** How long a tab that leads may be silent, where nothing else says that it is gone, in milliseconds. */
const silentMs = 2_500;
const askEveryMs = 500;

/** What a tab needs of the others. */
export interface Surroundings {
  /** Asks whoever leads to say so; `heard` says when anybody last did, by `performance.now`. */
  ask(): void;
  heard(lead: string): number;
  /** Resolves when a tab says that it leads no longer, or after so many milliseconds. */
  pause(ms: number): Promise<void>;
}

/** Leading, until it is given up. */
export interface Lead {
  readonly id: string;
  release(): Promise<void>;
}

/** Whether tabs are told by the browser itself that another is gone. */
export function hasLocks(): boolean {
  return typeof navigator !== "undefined" && navigator.locks !== undefined;
}

/** Waits until this tab leads. Rejects when the signal aborts. */
export async function takeLead(
  name: string,
  id: string,
  around: Surroundings,
  signal: AbortSignal,
): Promise<Lead> {
  return hasLocks() ? await takeLock(name, id, signal) : await takeLease(name, id, around, signal);
}

async function takeLock(name: string, id: string, signal: AbortSignal): Promise<Lead> {
  const release = await holdLock(`sync-relay:${name}`, signal);
  try {
    await writeLead(name, id);
  } catch (error) {
    release();
    throw error;
  }
  return {
    id,
    release: () => {
      release();
      return Promise.resolve();
    },
  };
}

/** Resolves when the lock is held, with what lets it go. */
export function holdLock(name: string, signal: AbortSignal): Promise<() => void> {
  return new Promise((resolve, reject) => {
    navigator.locks
      .request(name, { signal }, () => new Promise<void>((release) => resolve(release)))
      .catch(reject);
  });
}

async function takeLease(
  name: string,
  id: string,
  around: Surroundings,
  signal: AbortSignal,
): Promise<Lead> {
  let suspect: string | undefined;
  let sinceMs = 0;
  for (;;) {
    signal.throwIfAborted();
    const lead = await readLead(name);
    if (lead !== suspect) {
      suspect = lead;
      sinceMs = performance.now();
    }
    const lastMs = lead === undefined ? 0 : Math.max(sinceMs, around.heard(lead));
    if (lead === undefined || performance.now() - lastMs >= silentMs) {
      if (await writeLead(name, id, { lead })) break;
      continue;
    }
    around.ask();
    await around.pause(askEveryMs);
  }
  return {
    id,
    release: async () => {
      await writeLead(name, undefined, { lead: id });
    },
  };
}
