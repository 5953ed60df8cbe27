/**
 * The device's state in IndexedDB: an object store per table, one read-write transaction per step.
 *
 * What a step writes is gathered until it is decided, and then written at once. So a step may wait for
 * whatever it likes: an IndexedDB transaction left alone would end by itself. Where the queue or the
 * chain is written the transaction is strict: on disk when it resolves. What was only read of the relay
 * is written relaxed; a strict one that follows, as before every witness, takes it along.
 *
 * Each write also looks whether this tab still leads (`lead.ts`): one that was taken for dead and is
 * not writes nothing any more.
 */
import { compareBytes, utf8 } from "../../../wire/bytes.ts";
import {
  type KeyOf,
  numberTables,
  type StateKey,
  type StateRow,
  type StateStore,
  StateStoreError,
  type StateTransaction,
  type TableName,
  textTables,
} from "../../state-store.ts";

/** The schema this version writes. A database with a higher number is refused. */
const schemaVersion = 1;
const tables: readonly TableName[] = [...numberTables, ...textTables];
const isText: ReadonlySet<string> = new Set(textTables);
/** What a device must not forget once it was told that it is kept. */
const strictTables: ReadonlySet<TableName> = new Set([
  "device",
  "chain",
  "own",
  "control",
  "additions",
  "objects",
]);
/** Who leads, beside the tables. */
const metaTable = "meta";
const leadKey = "lead";

/** What `openIndexedDbStore` takes. */
export interface IndexedDbStoreOptions {
  /** Writes fail with `locked` once another tab has written another one. */
  readonly lead?: string;
}

/** Opens the state of a name, making it where it is not there. Throws `StateStoreError`. */
export async function openIndexedDbStore(
  name: string,
  options: IndexedDbStoreOptions = {},
): Promise<StateStore> {
  return new IndexedDbStore(await openDatabase(name), options.lead);
}

/** Deletes the state of a name: the device, and all it had queued. */
export async function deleteIndexedDbStore(name: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const request = indexedDB.deleteDatabase(databaseName(name));
    request.addEventListener("success", () => resolve());
    request.addEventListener("error", () => reject(translate(request.error)));
    request.addEventListener("blocked", () =>
      reject(new StateStoreError("locked", "a tab has this state open; close it first")),
    );
  });
}

/** Writes who leads: whatever stood there, or only where it still is what was seen. */
export async function writeLead(
  name: string,
  lead: string | undefined,
  seen?: { readonly lead: string | undefined },
): Promise<boolean> {
  const database = await openDatabase(name);
  try {
    const tx = database.transaction(metaTable, "readwrite", { durability: "strict" });
    const meta = tx.objectStore(metaTable);
    let written = false;
    const found = meta.get(leadKey);
    found.addEventListener("success", () => {
      if (seen !== undefined && found.result !== seen.lead) return;
      written = true;
      if (lead === undefined) meta.delete(leadKey);
      else meta.put(lead, leadKey);
    });
    await completed(tx);
    return written;
  } finally {
    database.close();
  }
}

/** Who leads, as it is written. */
export async function readLead(name: string): Promise<string | undefined> {
  const database = await openDatabase(name);
  try {
    const meta = database.transaction(metaTable, "readonly").objectStore(metaTable);
    return (await answered(meta.get(leadKey))) as string | undefined;
  } finally {
    database.close();
  }
}

function databaseName(name: string): string {
  return `sync-relay:${name}`;
}

function openDatabase(name: string): Promise<IDBDatabase> {
  if (typeof indexedDB === "undefined") {
    throw new StateStoreError("unavailable", "this browser keeps no state here: no IndexedDB");
  }
  return new Promise((resolve, reject) => {
    let request: IDBOpenDBRequest;
    try {
      request = indexedDB.open(databaseName(name), schemaVersion);
    } catch (error) {
      reject(translate(error));
      return;
    }
    request.addEventListener("upgradeneeded", () => {
      for (const table of [...tables, metaTable]) request.result.createObjectStore(table);
    });
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(translate(request.error)));
  });
}

class IndexedDbStore implements StateStore {
  readonly #database: IDBDatabase;
  readonly #lead: string | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed: StateStoreError | undefined;

  constructor(database: IDBDatabase, lead: string | undefined) {
    this.#database = database;
    this.#lead = lead;
    // A person cleared this site's data, or the disk is gone.
    database.addEventListener("close", () => {
      this.#closed ??= new StateStoreError("unavailable", "the browser closed this device's state");
    });
    // Another tab runs a newer version, or deletes the state.
    database.addEventListener("versionchange", () => {
      this.#closed ??= new StateStoreError("locked", "another tab changes this device's state");
      database.close();
    });
  }

  transaction<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    const result = this.#last.then(() => this.#run(run));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    if (this.#closed !== undefined) return;
    this.#closed = new StateStoreError("closed", "the device's state was closed");
    await this.#last;
    this.#database.close();
  }

  async #run<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T> {
    const step = new Step(this.#database);
    try {
      const result = await run(step);
      await step.write(this.#lead);
      return result;
    } catch (error) {
      throw isOfDatabase(error) ? translate(error) : error;
    } finally {
      step.end();
    }
  }
}

/** What a step changes of one table. */
interface Changes {
  /** Ranges that were deleted; rows put later stand in `rows`. */
  readonly ranges: { readonly from: StateKey; readonly to: StateKey | undefined }[];
  /** By key: what was put, or undefined where it was deleted. */
  readonly rows: Map<StateKey, Uint8Array | undefined>;
}

class Step implements StateTransaction {
  readonly #database: IDBDatabase;
  readonly #changes = new Map<TableName, Changes>();
  #open = true;

  constructor(database: IDBDatabase) {
    this.#database = database;
  }

  end(): void {
    this.#open = false;
  }

  async get<T extends TableName>(table: T, key: KeyOf<T>): Promise<Uint8Array | undefined> {
    this.#check();
    const changes = this.#changes.get(table);
    if (changes?.rows.has(key) === true) return changes.rows.get(key);
    if (changes !== undefined && deleted(changes, key)) return undefined;
    return (await answered(this.#table(table).get(stored(key)))) as Uint8Array | undefined;
  }

  async range<T extends TableName>(
    table: T,
    from: KeyOf<T>,
    to?: KeyOf<T>,
    limit?: number,
  ): Promise<StateRow<KeyOf<T>>[]> {
    this.#check();
    if (limit === 0 || (to !== undefined && compare(from, to) >= 0)) return [];
    const changes = this.#changes.get(table);
    const range =
      to === undefined
        ? IDBKeyRange.lowerBound(stored(from))
        : IDBKeyRange.bound(stored(from), stored(to), false, true);
    // What the step deleted may be among them: then more are read than asked for.
    const count =
      limit === undefined || (changes?.ranges.length ?? 0) > 0
        ? undefined
        : limit + (changes?.rows.size ?? 0);
    const source = this.#table(table);
    const [keys, values] = await Promise.all([
      answered(source.getAllKeys(range, count)),
      answered(source.getAll(range, count)),
    ]);
    const rows = keys.map((key, at) => ({
      key: loaded(table, key) as KeyOf<T>,
      value: values[at] as Uint8Array,
    }));
    if (changes === undefined) return rows;
    const merged = rows.filter(({ key }) => !changes.rows.has(key) && !deleted(changes, key));
    for (const [key, value] of changes.rows) {
      const inside = compare(key, from) >= 0 && (to === undefined || compare(key, to) < 0);
      if (value !== undefined && inside) merged.push({ key: key as KeyOf<T>, value });
    }
    merged.sort((a, b) => compare(a.key, b.key));
    return limit === undefined ? merged : merged.slice(0, limit);
  }

  async last<T extends TableName>(table: T): Promise<StateRow<KeyOf<T>> | undefined> {
    this.#check();
    const changes = this.#changes.get(table);
    let best: StateRow<KeyOf<T>> | undefined;
    for (const [key, value] of changes?.rows ?? []) {
      if (value === undefined || (best !== undefined && compare(key, best.key) < 0)) continue;
      best = { key: key as KeyOf<T>, value };
    }
    const request = this.#table(table).openCursor(null, "prev");
    await new Promise<void>((resolve, reject) => {
      request.addEventListener("error", () => reject(translate(request.error)));
      request.addEventListener("success", () => {
        const cursor = request.result;
        if (cursor === null) {
          resolve();
          return;
        }
        const key = loaded(table, cursor.key) as KeyOf<T>;
        if (best !== undefined && compare(key, best.key) < 0) {
          resolve();
        } else if (changes?.rows.has(key) === true || (changes && deleted(changes, key))) {
          cursor.continue();
        } else {
          best = { key, value: cursor.value as Uint8Array };
          resolve();
        }
      });
    });
    return best;
  }

  put<T extends TableName>(table: T, key: KeyOf<T>, value: Uint8Array): void {
    this.#of(table).rows.set(key, value);
  }

  delete<T extends TableName>(table: T, key: KeyOf<T>): void {
    this.#of(table).rows.set(key, undefined);
  }

  deleteRange<T extends TableName>(table: T, from: KeyOf<T>, to?: KeyOf<T>): void {
    const { ranges, rows } = this.#of(table);
    for (const key of rows.keys()) {
      if (compare(key, from) >= 0 && (to === undefined || compare(key, to) < 0)) rows.delete(key);
    }
    if (to === undefined || compare(from, to) < 0) ranges.push({ from, to });
  }

  /** Writes all of it in one transaction, where this tab still leads. */
  async write(lead: string | undefined): Promise<void> {
    if (this.#changes.size === 0) return;
    const names = [...this.#changes.keys()];
    const strict = names.some((name) => strictTables.has(name));
    const tx = this.#database.transaction(
      lead === undefined ? names : [...names, metaTable],
      "readwrite",
      { durability: strict ? "strict" : "relaxed" },
    );
    const done = completed(tx);
    let overtaken = false;
    if (lead !== undefined) {
      const found = tx.objectStore(metaTable).get(leadKey);
      found.addEventListener("success", () => {
        if (found.result === lead) return;
        overtaken = true;
        tx.abort();
      });
    }
    try {
      for (const [name, { ranges, rows }] of this.#changes) {
        const table = tx.objectStore(name);
        for (const { from, to } of ranges) {
          table.delete(
            to === undefined
              ? IDBKeyRange.lowerBound(stored(from))
              : IDBKeyRange.bound(stored(from), stored(to), false, true),
          );
        }
        for (const [key, value] of rows) {
          if (value === undefined) table.delete(stored(key));
          else table.put(alone(value), stored(key));
        }
      }
      await done;
    } catch (error) {
      done.catch(() => undefined);
      if (overtaken) throw new StateStoreError("locked", "another tab leads this device now");
      abort(tx);
      throw error;
    }
  }

  #table(name: TableName): IDBObjectStore {
    return this.#database.transaction(name, "readonly").objectStore(name);
  }

  #of(table: TableName): Changes {
    this.#check();
    let changes = this.#changes.get(table);
    if (changes === undefined) {
      changes = { ranges: [], rows: new Map() };
      this.#changes.set(table, changes);
    }
    return changes;
  }

  #check(): void {
    if (!this.#open) throw new StateStoreError("closed", "the transaction has ended");
  }
}

function abort(tx: IDBTransaction): void {
  try {
    tx.abort();
  } catch {
    // It has ended by itself already.
  }
}

function deleted({ ranges }: Changes, key: StateKey): boolean {
  return ranges.some(
    ({ from, to }) => compare(key, from) >= 0 && (to === undefined || compare(key, to) < 0),
  );
}

function compare(a: StateKey, b: StateKey): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return compareBytes(utf8(String(a)), utf8(String(b)));
}

/** Texts order by their UTF-8 bytes; IndexedDB would order them by their UTF-16 units. */
function stored(key: StateKey): number | Uint8Array<ArrayBuffer> {
  return typeof key === "number" ? key : Uint8Array.from(utf8(key));
}

function loaded(table: TableName, key: IDBValidKey): StateKey {
  if (!isText.has(table)) return key as number;
  return new TextDecoder().decode(key as ArrayBuffer);
}

/** A view would be stored with all that it is a view of. */
function alone(value: Uint8Array): Uint8Array {
  return value.byteLength === value.buffer.byteLength ? value : Uint8Array.from(value);
}

export function answered<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(translate(request.error)));
  });
}

export function completed(tx: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    tx.addEventListener("complete", () => resolve());
    tx.addEventListener("abort", () => reject(translate(tx.error)));
  });
}

function isOfDatabase(error: unknown): boolean {
  return typeof DOMException !== "undefined" && error instanceof DOMException;
}

/** The one place where IndexedDB's errors become ours. */
export function translate(cause: unknown): StateStoreError {
  const name =
    typeof cause === "object" && cause !== null && "name" in cause ? String(cause.name) : "";
  switch (name) {
    case "QuotaExceededError":
      return new StateStoreError(
        "full",
        "the browser gives this site no more space; nothing was written. Free space on the disk, or " +
          "delete data of this site that is not needed; what was queued before is kept and is sent as usual",
        cause,
      );
    case "VersionError":
      return new StateStoreError(
        "newer",
        "the state was written by a newer version of this app; reload the page to get it",
        cause,
      );
    case "InvalidStateError":
    case "AbortError":
      return new StateStoreError("unavailable", "the browser closed this device's state", cause);
    case "DataError":
    case "NotFoundError":
      return new StateStoreError("damaged", "the device's state is damaged", cause);
    default:
      return new StateStoreError(
        "unavailable",
        "the browser cannot read or write this device's state now",
        cause,
      );
  }
}
