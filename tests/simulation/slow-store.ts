/** The memory store of a device as on a disk that takes its time, and is full for a while. */
import {
  type MemoryDisk,
  MemoryStore,
  type StateStore,
  StateStoreError,
  type StateTransaction,
} from "../../client/index.ts";
import type { Chance } from "./chance.ts";
import type { DiskHabits } from "./relay-node.ts";
import type { Process } from "./world.ts";

/** What a disk is like now. */
export interface DiskState {
  readonly full: boolean;
  readonly habits: DiskHabits;
}

export class SlowStore implements StateStore {
  readonly #store: MemoryStore;
  readonly #process: Process;
  readonly #chance: Chance;
  readonly #state: DiskState;
  /** A transaction is under way: what the disk holds is half of it. */
  #writing = 0;
  /** Something is on disk, and nobody was told. */
  #untold = 0;

  constructor(disk: MemoryDisk, process: Process, chance: Chance, state: DiskState) {
    this.#store = new MemoryStore(disk);
    this.#process = process;
    this.#chance = chance;
    this.#state = state;
  }

  get writing(): boolean {
    return this.#writing > 0;
  }

  /** Whether whoever asked knows of everything that is on disk. */
  get settled(): boolean {
    return this.#writing === 0 && this.#untold === 0;
  }

  crash(): void {
    this.#store.crash();
  }

  async transaction<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    let writes = false;
    this.#writing += 1;
    let result: T;
    try {
      result = await this.#store.transaction(async (tx) => {
        const watched: StateTransaction = {
          get: (table, key) => tx.get(table, key),
          range: (table, from, to, limit) => tx.range(table, from, to, limit),
          last: (table) => tx.last(table),
          put: (table, key, value) => {
            writes = true;
            tx.put(table, key, value);
          },
          delete: (table, key) => {
            writes = true;
            tx.delete(table, key);
          },
          deleteRange: (table, from, to) => {
            writes = true;
            tx.deleteRange(table, from, to);
          },
        };
        const value = await run(watched);
        if (writes) {
          await this.#sync();
          if (this.#state.full) throw new StateStoreError("full", "the disk is full");
        }
        return value;
      });
    } finally {
      this.#writing -= 1;
    }
    // On disk, and nobody was told.
    if (writes && this.#chance.chance(0.2)) {
      this.#untold += 1;
      await this.#process.sleep(this.#chance.int(0, 5));
      this.#untold -= 1;
    }
    return result;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #sync(): Promise<void> {
    const { syncMs, slowMs, slowShare } = this.#state.habits;
    const ms = this.#chance.chance(slowShare)
      ? this.#chance.int(syncMs, slowMs)
      : this.#chance.int(0, syncMs);
    if (ms > 0) await this.#process.sleep(ms);
  }
}
