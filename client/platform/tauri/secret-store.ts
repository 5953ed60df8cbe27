/**
 * The device's seed in a keychain instead of the webview's IndexedDB. All of a device's keys follow from
 * it: without it what stands in IndexedDB opens nothing that the group seals from then on.
 */
import { fromUtf8, utf8 } from "../../../wire/bytes.ts";
import { idText, parseId } from "../../../wire/ids.ts";
import { seedBytes } from "../../seal/keys.ts";
import {
  type KeyOf,
  type StateRow,
  type StateStore,
  StateStoreError,
  type StateTransaction,
  type TableName,
} from "../../state-store.ts";

/** Where secrets are kept: text by name, as keychains have it. */
export interface SecretStore {
  /**
   * What is kept under a name; undefined where nothing is. Rejects where the keychain cannot be read.
   */
  get(name: string): Promise<string | undefined>;
  /** Resolves when it is kept. */
  set(name: string, secret: string): Promise<void>;
}

/** The two commands of a keychain plugin, whatever they are called. */
export interface KeychainPlugin {
  /** Resolves with what is kept; null or undefined where nothing is. */
  getPassword(service: string, user: string): Promise<string | null | undefined>;
  /** Resolves when it is kept. */
  setPassword(service: string, user: string, password: string): Promise<void>;
}

/** A keychain plugin for Tauri, such as `tauri-plugin-keyring-api`, as a `SecretStore`. */
export function keychainSecrets(plugin: KeychainPlugin, service: string): SecretStore {
  return {
    get: async (name) => (await plugin.getPassword(service, name)) ?? undefined,
    set: (name, secret) => plugin.setPassword(service, name, secret),
  };
}

/** The part of a store of Stronghold (`client.getStore()` of `@tauri-apps/plugin-stronghold`) that is needed. */
export interface StrongholdStore {
  /** Resolves with what is kept; null where nothing is. */
  get(key: string): Promise<Uint8Array | null>;
  /** Resolves when it is kept in memory; `save` of the stronghold puts it on disk. */
  insert(key: string, value: number[]): Promise<void>;
}

/**
 * A store of Stronghold as a `SecretStore`. `save` is the stronghold's own: a secret counts as kept once that
 * has written its file. The stronghold's password is the app's business.
 */
export function strongholdSecrets(
  store: StrongholdStore,
  stronghold: { save(): Promise<void> },
): SecretStore {
  return {
    get: async (name) => {
      const bytes = await store.get(name);
      return bytes === null ? undefined : fromUtf8(bytes);
    },
    set: async (name, secret) => {
      await store.insert(name, [...utf8(secret)]);
      await stronghold.save();
    },
  };
}

/** A store whose seed stands in `secrets`. What stood in the store before moves there. */
export function withSecrets(store: StateStore, secrets: SecretStore, name: string): StateStore {
  return {
    close: () => store.close(),
    transaction: (run) =>
      store.transaction(async (tx) => {
        const step = new SecretStep(tx, secrets, name);
        const result = await run(step);
        // Before the state that depends on it is written; alone, without that, it does no harm.
        await step.write();
        return result;
      }),
  };
}

class SecretStep implements StateTransaction {
  readonly #tx: StateTransaction;
  readonly #secrets: SecretStore;
  readonly #name: string;
  #put: Uint8Array | undefined;

  constructor(tx: StateTransaction, secrets: SecretStore, name: string) {
    this.#tx = tx;
    this.#secrets = secrets;
    this.#name = name;
  }

  async get<T extends TableName>(table: T, key: KeyOf<T>): Promise<Uint8Array | undefined> {
    if (!isSeed(table, key)) return await this.#tx.get(table, key);
    if (this.#put !== undefined) return this.#put;
    const secret = await this.#ask(() => this.#secrets.get(this.#name));
    if (secret !== undefined) {
      const seed = parseId(secret, seedBytes);
      if (seed === undefined) {
        throw new StateStoreError(
          "damaged",
          "what the keychain holds for this device is no secret of it",
        );
      }
      return seed;
    }
    const kept = await this.#tx.get("device", "seed");
    if (kept !== undefined) {
      this.put("device", "seed", kept);
      return kept;
    }
    if ((await this.#tx.get("device", "state")) !== undefined) {
      throw new StateStoreError(
        "damaged",
        "the keychain no longer holds this device's secret: pair it again as a new device",
      );
    }
    return undefined;
  }

  range<T extends TableName>(
    table: T,
    from: KeyOf<T>,
    to?: KeyOf<T>,
    limit?: number,
  ): Promise<StateRow<KeyOf<T>>[]> {
    return this.#tx.range(table, from, to, limit);
  }

  last<T extends TableName>(table: T): Promise<StateRow<KeyOf<T>> | undefined> {
    return this.#tx.last(table);
  }

  put<T extends TableName>(table: T, key: KeyOf<T>, value: Uint8Array): void {
    if (!isSeed(table, key)) {
      this.#tx.put(table, key, value);
      return;
    }
    this.#put = value;
    this.#tx.delete("device", "seed");
  }

  delete<T extends TableName>(table: T, key: KeyOf<T>): void {
    this.#tx.delete(table, key);
  }

  deleteRange<T extends TableName>(table: T, from: KeyOf<T>, to?: KeyOf<T>): void {
    this.#tx.deleteRange(table, from, to);
  }

  async write(): Promise<void> {
    const seed = this.#put;
    if (seed === undefined) return;
    const secret = idText(seed);
    await this.#ask(() => this.#secrets.set(this.#name, secret));
    // A keychain that only says that it keeps it would cost the device with the next start.
    if ((await this.#ask(() => this.#secrets.get(this.#name))) !== secret) {
      throw new StateStoreError("unavailable", "the keychain did not keep this device's secret");
    }
  }

  async #ask<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (cause) {
      throw new StateStoreError(
        "unavailable",
        "the keychain cannot be read or written now: unlock it, and open the app again",
        cause,
      );
    }
  }
}

function isSeed(table: TableName, key: string | number): boolean {
  return table === "device" && key === "seed";
}
