/** A Yjs document in IndexedDB, which all tabs of an app share: what one stores, the others are told of. */
import type { DocChange, DocStore, StoredDoc } from "../../yjs/doc-store.ts";
import { answered, completed, translate } from "./indexeddb-store.ts";

const schemaVersion = 1;
const updates = "updates";
const meta = "meta";
const positionKey = "position";

interface Row {
  readonly update: Uint8Array;
  readonly pending: boolean;
}

/** Opens the document of a name, making it where it is not there. Throws `StateStoreError`. */
export async function openIndexedDbDocStore(name = "default"): Promise<IndexedDbDocStore> {
  return new IndexedDbDocStore(name, await openDatabase(databaseName(name)));
}

/** Deletes the document of a name, once no tab has it open. */
export async function deleteIndexedDbDocStore(name = "default"): Promise<void> {
  await answered(indexedDB.deleteDatabase(databaseName(name)));
}

/** A document in IndexedDB, shared by the tabs of this origin. */
export class IndexedDbDocStore implements DocStore {
  readonly #database: IDBDatabase;
  readonly #channel: BroadcastChannel;

  constructor(name: string, database: IDBDatabase) {
    this.#database = database;
    this.#channel = new BroadcastChannel(databaseName(name));
    // Another tab runs a newer version, or deletes the document.
    database.addEventListener("versionchange", () => database.close());
  }

  async load(): Promise<StoredDoc> {
    const tx = this.#begin("readonly");
    const rows = tx.objectStore(updates);
    const [keys, values, position] = await Promise.all([
      answered(rows.getAllKeys()),
      answered(rows.getAll() as IDBRequest<Row[]>),
      answered(tx.objectStore(meta).get(positionKey) as IDBRequest<number | undefined>),
    ]);
    return {
      position: position ?? 0,
      updates: values.map(({ update, pending }, at) => ({
        key: Number(keys[at]),
        update,
        pending,
      })),
    };
  }

  async position(): Promise<number> {
    const request = this.#begin("readonly").objectStore(meta).get(positionKey);
    return ((await answered(request)) as number | undefined) ?? 0;
  }

  async add(change: DocChange): Promise<number | undefined> {
    const { update, pending = false, position } = change;
    const tx = this.#begin("readwrite");
    const done = completed(tx);
    if (position !== undefined) {
      const store = tx.objectStore(meta);
      const found = store.get(positionKey);
      found.addEventListener("success", () => {
        if (Number(found.result ?? 0) < position) store.put(position, positionKey);
      });
    }
    const added =
      update === undefined
        ? undefined
        : tx.objectStore(updates).add({ update, pending } satisfies Row);
    // Nothing follows: it is written also where the page goes now.
    if (position === undefined) tx.commit();
    await done;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel has no other origin
    this.#channel.postMessage(change);
    return added === undefined ? undefined : Number(added.result);
  }

  async queued(keys: readonly number[]): Promise<void> {
    const tx = this.#begin("readwrite");
    const done = completed(tx);
    const store = tx.objectStore(updates);
    for (const key of keys) {
      const found = store.get(key) as IDBRequest<Row | undefined>;
      found.addEventListener("success", () => {
        if (found.result !== undefined) store.put({ ...found.result, pending: false }, key);
      });
    }
    await done;
  }

  async replace(keys: readonly number[], update: Uint8Array): Promise<number> {
    const tx = this.#begin("readwrite");
    const done = completed(tx);
    const store = tx.objectStore(updates);
    for (const key of keys) store.delete(key);
    const added = store.add({ update, pending: false } satisfies Row);
    await done;
    return Number(added.result);
  }

  subscribe(listener: (change: DocChange) => void): () => void {
    const told = ({ data }: MessageEvent<DocChange>): void => listener(data);
    this.#channel.addEventListener("message", told);
    return () => this.#channel.removeEventListener("message", told);
  }

  /** Lets the database go. */
  close(): void {
    this.#channel.close();
    this.#database.close();
  }

  /** Strict: what others are told is applied, or the client that it is, must be on disk. */
  #begin(mode: IDBTransactionMode): IDBTransaction {
    try {
      return this.#database.transaction([updates, meta], mode, { durability: "strict" });
    } catch (error) {
      throw translate(error);
    }
  }
}

function databaseName(name: string): string {
  return `sync-relay-doc:${name}`;
}

function openDatabase(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, schemaVersion);
  request.addEventListener("upgradeneeded", () => {
    request.result.createObjectStore(updates, { autoIncrement: true });
    request.result.createObjectStore(meta);
  });
  return answered(request);
}
