/** The relay's store: commits are written down beside it, once they are on disk, and reads take time. */
import type { BlobRow, CommitBatch, Store } from "../../server/store/contract.ts";
import type { MemoryStore } from "../../server/store/memory-store.ts";
import { storeUnavailable } from "../../server/store/store-errors.ts";
import type { Chance } from "./chance.ts";
import type { Truth } from "./truth.ts";
import type { Process } from "./world.ts";

/** What is read for lists and figures only: nothing waits for it. */
const quick = new Set(["listGroups", "listInvites", "totals", "sweep", "close"]);

export interface WatchedStore {
  readonly store: Store;
  /** Whether a commit is under way. */
  readonly committing: boolean;
  /** Blobs of the commit under way. */
  readonly unsynced: readonly BlobRow[];
  /** A crash kept the commit under way. */
  keep(): void;
}

export function watchStore(
  store: MemoryStore,
  around: {
    readonly truth: Truth;
    readonly process: Process;
    readonly chance: Chance;
    readonly node: { readonly full: boolean };
  },
): WatchedStore {
  const { truth, process, chance, node } = around;
  let under: CommitBatch | undefined;
  const commit = async (batch: CommitBatch): Promise<void> => {
    if (node.full) {
      await process.sleep(chance.int(0, 20));
      throw storeUnavailable("the disk is full");
    }
    under = batch;
    await store.commit(batch);
    under = undefined;
    truth.committed(batch);
  };
  const late = async (result: unknown): Promise<unknown> => {
    const value = await result;
    if (chance.chance(0.3)) await process.sleep(chance.int(0, 10));
    return value;
  };
  const watched = new Proxy<Store>(store, {
    get: (target, name) => {
      if (name === "commit") return commit;
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      const call = (...given: unknown[]): unknown => Reflect.apply(value, target, given);
      return quick.has(String(name)) ? call : (...given: unknown[]) => late(call(...given));
    },
  });
  return {
    store: watched,
    get committing() {
      return under !== undefined;
    },
    get unsynced() {
      return under?.blobs ?? [];
    },
    keep: () => {
      if (under !== undefined) truth.committed(under);
      under = undefined;
    },
  };
}
