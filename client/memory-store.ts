/**
 * A state store in memory: for tests, simulations and devices that keep nothing. What a real disk
 * would lose in a crash is lost here too: `crash` drops everything that no resolved transaction wrote.
 */
import { compareBytes, utf8 } from "../wire/bytes.ts";
import {
  type KeyOf,
  type StateKey,
  type StateRow,
  type StateStore,
  StateStoreError,
  type StateTransaction,
  type TableName,
} from "./state-store.ts";

/** Called around a commit, with the number of commits before it. May call `crash`, or throw. */
export interface MemoryStoreHooks {
  /** Nothing is durable yet: a throw is a store that failed, a crash loses the transaction. */
  readonly beforeCommit?: (commits: number, store: MemoryStore) => void;
  /** Everything is durable, but nobody was told: a crash keeps the transaction. */
  readonly afterCommit?: (commits: number, store: MemoryStore) => void;
}

/** A disk: what outlives a crash. */
export class MemoryDisk {
  /** What is on it, by table. */
  readonly tables = new Map<TableName, SortedTable>();

  /** A table of it, empty where nothing was written yet. */
  table(name: TableName): SortedTable {
    let table = this.tables.get(name);
    if (table === undefined) {
      table = new SortedTable();
      this.tables.set(name, table);
    }
    return table;
  }

  /** A disk of its own with the same content: a backup. */
  copy(): MemoryDisk {
    const other = new MemoryDisk();
    for (const [name, table] of this.tables) other.tables.set(name, table.copy());
    return other;
  }
}

/** A store on such a disk. */
export class MemoryStore implements StateStore {
  /** What outlives the store. */
  readonly disk: MemoryDisk;
  readonly #hooks: MemoryStoreHooks;
  #last: Promise<unknown> = Promise.resolve();
  #state: "open" | "closed" | "crashed" = "open";
  /** Undoes the transaction under way. */
  #undo: (() => void)[] = [];
  #commits = 0;

  constructor(disk: MemoryDisk = new MemoryDisk(), hooks: MemoryStoreHooks = {}) {
    this.disk = disk;
    this.#hooks = hooks;
  }

  /** How many transactions were committed. */
  get commits(): number {
    return this.#commits;
  }

  /**
   * The process is gone: the transaction under way is lost, and nobody hears from this store again.
   * The disk goes on with another store.
   */
  crash(): void {
    this.#rollBack();
    this.#state = "crashed";
  }

  transaction<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    if (this.#state === "closed") {
      return Promise.reject(new StateStoreError("closed", "the device's state was closed"));
    }
    const result = this.#last.then(() => this.#run(run));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    await this.#last;
    if (this.#state === "open") this.#state = "closed";
  }

  async #run<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    if (this.#state === "crashed") return await never();
    if (this.#state === "closed") {
      throw new StateStoreError("closed", "the device's state was closed");
    }
    const transaction = new MemoryTransaction(this.disk, this.#undo);
    try {
      const result = await run(transaction);
      if (this.#crashed()) return await never();
      this.#hooks.beforeCommit?.(this.#commits, this);
      if (this.#crashed()) return await never();
      this.#undo = [];
      this.#hooks.afterCommit?.(this.#commits, this);
      this.#commits += 1;
      if (this.#crashed()) return await never();
      return result;
    } catch (error) {
      if (this.#crashed()) return await never();
      this.#rollBack();
      throw error;
    } finally {
      transaction.end();
    }
  }

  #crashed(): boolean {
    return this.#state === "crashed";
  }

  #rollBack(): void {
    for (const undo of this.#undo.toReversed()) undo();
    this.#undo = [];
  }
}

/** What a dead process would have answered. */
function never<T>(): Promise<T> {
  return new Promise<T>(() => undefined);
}

class MemoryTransaction implements StateTransaction {
  readonly #disk: MemoryDisk;
  readonly #undo: (() => void)[];
  #open = true;

  constructor(disk: MemoryDisk, undo: (() => void)[]) {
    this.#disk = disk;
    this.#undo = undo;
  }

  end(): void {
    this.#open = false;
  }

  async get<T extends TableName>(table: T, key: KeyOf<T>): Promise<Uint8Array | undefined> {
    return this.#table(table).get(key);
  }

  async range<T extends TableName>(
    table: T,
    from: KeyOf<T>,
    to?: KeyOf<T>,
    limit?: number,
  ): Promise<StateRow<KeyOf<T>>[]> {
    return this.#table(table).range(from, to, limit) as StateRow<KeyOf<T>>[];
  }

  async last<T extends TableName>(table: T): Promise<StateRow<KeyOf<T>> | undefined> {
    return this.#table(table).last() as StateRow<KeyOf<T>> | undefined;
  }

  put<T extends TableName>(table: T, key: KeyOf<T>, value: Uint8Array): void {
    const rows = this.#table(table);
    const before = rows.get(key);
    rows.put(key, value);
    this.#undo.push(() => (before === undefined ? rows.delete(key) : rows.put(key, before)));
  }

  delete<T extends TableName>(table: T, key: KeyOf<T>): void {
    const rows = this.#table(table);
    const before = rows.get(key);
    if (before === undefined) return;
    rows.delete(key);
    this.#undo.push(() => rows.put(key, before));
  }

  deleteRange<T extends TableName>(table: T, from: KeyOf<T>, to?: KeyOf<T>): void {
    for (const row of this.#table(table).range(from, to)) this.delete(table, row.key as KeyOf<T>);
  }

  #table(name: TableName): SortedTable {
    if (!this.#open) throw new StateStoreError("closed", "the transaction has ended");
    return this.#disk.table(name);
  }
}

function compareKeys(a: StateKey, b: StateKey): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return compareBytes(utf8(String(a)), utf8(String(b)));
}

/** Rows by key. New keys usually stand behind all others, which costs nothing. */
class SortedTable {
  readonly #values = new Map<StateKey, Uint8Array>();
  #keys: StateKey[] = [];

  get(key: StateKey): Uint8Array | undefined {
    return this.#values.get(key);
  }

  put(key: StateKey, value: Uint8Array): void {
    if (!this.#values.has(key)) {
      const at = this.#find(key);
      if (at === this.#keys.length) this.#keys.push(key);
      else this.#keys.splice(at, 0, key);
    }
    this.#values.set(key, value);
  }

  delete(key: StateKey): void {
    if (!this.#values.delete(key)) return;
    const at = this.#find(key);
    if (at === 0) this.#keys.shift();
    else this.#keys.splice(at, 1);
  }

  range(from: StateKey, to?: StateKey, limit = Number.POSITIVE_INFINITY): StateRow[] {
    const rows: StateRow[] = [];
    for (let at = this.#find(from); at < this.#keys.length && rows.length < limit; at++) {
      const key = this.#keys[at] as StateKey;
      if (to !== undefined && compareKeys(key, to) >= 0) break;
      rows.push({ key, value: this.#values.get(key) as Uint8Array });
    }
    return rows;
  }

  last(): StateRow | undefined {
    const key = this.#keys.at(-1);
    return key === undefined ? undefined : { key, value: this.#values.get(key) as Uint8Array };
  }

  copy(): SortedTable {
    const other = new SortedTable();
    for (const key of this.#keys) other.put(key, this.#values.get(key) as Uint8Array);
    return other;
  }

  /** The place of the first key that is not below. */
  #find(key: StateKey): number {
    let low = 0;
    let high = this.#keys.length;
    const last = this.#keys.at(-1);
    if (last === undefined || compareKeys(last, key) < 0) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(this.#keys[middle] as StateKey, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
