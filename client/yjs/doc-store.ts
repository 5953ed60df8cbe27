/**
 * Where an app keeps a document: its updates, and the position up to which entries are in them.
 *
 * A local change is stored as *pending* before it is queued, and is pending no more once it is. So
 * nothing is lost between the two: what was pending when the process ended is queued by the next one,
 * perhaps a second time, which changes nothing. What came from others is stored together with its
 * position, so that each entry is in the document exactly once, whenever the process ends.
 */

/** What is written in one transaction. */
export interface DocChange {
  /** An update of the document. */
  readonly update?: Uint8Array;
  /** The update was made here, and is not queued yet. */
  readonly pending?: boolean;
  /** Everything up to this position is in the document. One that is lower than what is stored changes nothing. */
  readonly position?: number;
}

/** An update, under the number that the store gave it. */
export interface StoredUpdate {
  /** The number that the store gave it. */
  readonly key: number;
  /** The update, as Yjs encodes it. */
  readonly update: Uint8Array;
  /** Whether it was made here and is not queued yet. */
  readonly pending: boolean;
}

/** All that is stored. */
export interface StoredDoc {
  /** 0 where nothing was applied yet. */
  readonly position: number;
  /** In the order they were stored. */
  readonly updates: readonly StoredUpdate[];
}

/** The store of one document. Each method is one transaction, on disk when it resolves. */
export interface DocStore {
  /** All that is stored, as of one moment. */
  load(): Promise<StoredDoc>;
  /** The stored position, for the client's `appliedPosition`. */
  position(): Promise<number>;
  /** Resolves with the update's key; undefined where there was none. */
  add(change: DocChange): Promise<number | undefined>;
  /** These updates are queued: pending no more. */
  queued(keys: readonly number[]): Promise<void>;
  /** Puts one update, not pending, in the place of several. Resolves with its key. */
  replace(keys: readonly number[], update: Uint8Array): Promise<number>;
  /** Tells what others, such as other tabs, have added. Returns what stops it. */
  subscribe?(listener: (change: DocChange) => void): () => void;
}

/** A document in memory: for tests, and for what need not outlive the process. */
export class MemoryDocStore implements DocStore {
  readonly #updates = new Map<number, StoredUpdate>();
  #position = 0;
  #key = 0;

  load(): Promise<StoredDoc> {
    return Promise.resolve({ position: this.#position, updates: [...this.#updates.values()] });
  }

  position(): Promise<number> {
    return Promise.resolve(this.#position);
  }

  add({ update, pending = false, position = 0 }: DocChange): Promise<number | undefined> {
    this.#position = Math.max(this.#position, position);
    return Promise.resolve(update === undefined ? undefined : this.#put(update, pending));
  }

  queued(keys: readonly number[]): Promise<void> {
    for (const key of keys) {
      const row = this.#updates.get(key);
      if (row !== undefined) this.#updates.set(key, { ...row, pending: false });
    }
    return Promise.resolve();
  }

  replace(keys: readonly number[], update: Uint8Array): Promise<number> {
    for (const key of keys) this.#updates.delete(key);
    return Promise.resolve(this.#put(update, false));
  }

  #put(update: Uint8Array, pending: boolean): number {
    this.#key += 1;
    this.#updates.set(this.#key, { key: this.#key, update, pending });
    return this.#key;
  }
}
