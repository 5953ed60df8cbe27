/**
 * Keeps damage to one group's part of the file from the others. What is read or
 * written of a group and turns out to be damaged fences that group off: nothing
 * of it is read or written any more until the process ends, so that no device is
 * told half of a log; every other group goes on.
 */
import { equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import type { CommitBatch, LoadedGroup, Store } from "./contract.ts";

/** A group that is fenced off. */
export interface FencedGroup {
  readonly groupId: Uint8Array;
  /** What was met, for people. */
  readonly why: string;
}

export interface Fence {
  /** Why nothing is done for a group; undefined where it is not fenced off. */
  errorOf(groupKey: number): SyncError | undefined;
  /** Looks at what failed while a group was read: damage fences it off. Gives back what to throw. */
  met(groupKey: number, groupId: Uint8Array, error: unknown): unknown;
  readonly groups: readonly FencedGroup[];
}

/** A store with a fence. */
export interface FencedStore extends Store {
  readonly fence: Fence;
}

/** What is read of one group, by its key. */
const groupReads: ReadonlySet<string> = new Set<keyof Store>([
  "readBlobs",
  "linkAt",
  "senderPlaces",
  "readControl",
  "controlByHead",
  "measureTrim",
  "blobIds",
  "pendingDeletes",
  "findObjects",
]);

/** Puts a fence around the groups of a store. `onFenced` is told of each once. */
export function fencedStore(store: Store, onFenced: (group: FencedGroup) => void): FencedStore {
  const fence = new GroupFence(onFenced);
  const replaced: Partial<Record<keyof FencedStore, unknown>> = {
    fence,
    loadGroup: (groupId: Uint8Array) => loadGroup(store, fence, groupId),
    commit: (batch: CommitBatch) => commit(store, fence, batch),
  };
  return new Proxy(store, {
    get: (target, name) => {
      if (Object.hasOwn(replaced, name)) return replaced[name as keyof FencedStore];
      const value = Reflect.get(target, name, target) as unknown;
      if (typeof value !== "function") return value;
      const run = value.bind(target) as (...given: unknown[]) => Promise<unknown>;
      if (!groupReads.has(String(name))) return run;
      return (groupKey: number, ...rest: unknown[]) =>
        fence.guard(groupKey, () => run(groupKey, ...rest));
    },
    // Everything of a store is there, and the fence with it.
  }) as FencedStore;
}

async function loadGroup(
  store: Store,
  fence: GroupFence,
  groupId: Uint8Array,
): Promise<LoadedGroup | undefined> {
  const known = fence.errorById(groupId);
  if (known !== undefined) throw known;
  try {
    const loaded = await store.loadGroup(groupId);
    if (loaded !== undefined) fence.learn(loaded.group.groupKey, groupId);
    return loaded;
  } catch (error) {
    throw fence.met(undefined, groupId, error);
  }
}

async function commit(store: Store, fence: GroupFence, batch: CommitBatch): Promise<void> {
  const keys = new Set<number>();
  for (const row of batch.groups) {
    keys.add(row.groupKey);
    fence.learn(row.groupKey, row.groupId);
  }
  for (const row of [...batch.devices, ...batch.blobs, ...batch.control]) keys.add(row.groupKey);
  try {
    await store.commit(batch);
  } catch (error) {
    const [only] = keys;
    // Whose part it is shows only when nobody else's is written with it.
    if (keys.size === 1 && only !== undefined) throw fence.met(only, undefined, error);
    throw error;
  }
}

class GroupFence implements Fence {
  readonly #onFenced: (group: FencedGroup) => void;
  readonly #errors = new Map<number, SyncError>();
  readonly #fenced: FencedGroup[] = [];
  /** The ids of groups by their keys, as far as they were met. */
  readonly #ids = new Map<number, Uint8Array>();

  constructor(onFenced: (group: FencedGroup) => void) {
    this.#onFenced = onFenced;
  }

  get groups(): readonly FencedGroup[] {
    return this.#fenced;
  }

  errorOf(groupKey: number): SyncError | undefined {
    return this.#errors.get(groupKey);
  }

  errorById(groupId: Uint8Array): SyncError | undefined {
    const fenced = this.#fenced.find((group) => equalBytes(group.groupId, groupId));
    return fenced === undefined ? undefined : damageError(fenced.why);
  }

  learn(groupKey: number, groupId: Uint8Array): void {
    if (!this.#ids.has(groupKey)) this.#ids.set(groupKey, groupId);
  }

  async guard<Result>(groupKey: number, read: () => Promise<Result>): Promise<Result> {
    const known = this.#errors.get(groupKey);
    if (known !== undefined) throw known;
    try {
      return await read();
    } catch (error) {
      throw this.met(groupKey, undefined, error);
    }
  }

  /** Looks at what failed: where it is damage, the group is fenced off. Gives back what to throw. */
  met(groupKey: number | undefined, groupId: Uint8Array | undefined, error: unknown): unknown {
    if (!isDamage(error)) return error;
    const known = groupKey === undefined ? undefined : this.#errors.get(groupKey);
    if (known !== undefined) return known;
    const why = causeText(error);
    const told = damageError(why, error);
    const id = groupId ?? (groupKey === undefined ? undefined : this.#ids.get(groupKey));
    if (groupKey !== undefined) this.#errors.set(groupKey, told);
    if (id !== undefined && this.errorById(id) === undefined) {
      const group = { groupId: new Uint8Array(id), why };
      this.#fenced.push(group);
      this.#onFenced(group);
    }
    return told;
  }
}

/** Whether the file itself is what is wrong: SQLite says so, or what it gave is nothing a store writes. */
export function isDamage(error: unknown): boolean {
  if (error instanceof SyncError) {
    const { cause } = error;
    if (error.code !== ErrorCode.STORE_UNAVAILABLE || cause === undefined) return false;
    if (isDamage(cause)) return true;
    return cause instanceof Error && "code" in cause && cause.code === "SQLITE_CORRUPT";
  }
  return error instanceof RangeError || error instanceof SyntaxError;
}

function damageError(
  why: string,
  cause: unknown = Object.assign(new Error(why), { code: "SQLITE_CORRUPT" }),
): SyncError {
  return new SyncError(ErrorCode.STORE_UNAVAILABLE, {
    hint: `a group's part of the store is damaged (${why}): restore a backup`,
    cause,
  });
}

function causeText(error: unknown): string {
  if (error instanceof SyncError && error.cause instanceof Error) return error.cause.message;
  return error instanceof Error ? error.message : String(error);
}
