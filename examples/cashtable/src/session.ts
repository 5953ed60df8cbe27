/** The book and its device: the document, where it is kept, and the client that carries it to the others. */
import type { SyncApi } from "sync-relay/client";
import {
  type BrowserSyncClientOptions,
  deleteIndexedDbStore,
  openSyncClient,
} from "sync-relay/client/browser";
import { YjsProvider } from "sync-relay/yjs";
import {
  deleteIndexedDbDocStore,
  type IndexedDbDocStore,
  openIndexedDbDocStore,
} from "sync-relay/yjs/browser";
import * as Y from "yjs";

/** In the app that Tauri makes of this page. */
export const inTauri = "__TAURI_INTERNALS__" in globalThis;

/** Links to this page pair another browser; the app has a scheme of its own, which is the library's default. */
export const pairingOrigin = inTauri ? undefined : `${location.origin}${location.pathname}?pair`;

/** Which of this device's states is the one in use: a device that was removed joins again as a new one. */
const lifeKey = "cashtable-life";

export interface DeviceOptions {
  readonly relay?: string;
  readonly name?: string;
}

export class Session {
  readonly doc = new Y.Doc();
  provider!: YjsProvider;
  client!: SyncApi;
  /** What could not be stored or read, in words for people. */
  problem: string | undefined;
  #store!: IndexedDbDocStore;
  readonly #changed = new Set<() => void>();

  /** Opens the book. It is there before the relay is, and without one. */
  static async open(): Promise<Session> {
    const session = new Session();
    await session.#openDocument();
    await session.#openClient({});
    return session;
  }

  /** Told when the client is another one, or there is a problem. */
  subscribe(changed: () => void): () => void {
    this.#changed.add(changed);
    return () => void this.#changed.delete(changed);
  }

  /** Resolves when what was entered is safe on this device, or it is told that it is not. */
  async stored(): Promise<void> {
    let off = (): void => undefined;
    const told = new Promise<void>((resolve) => {
      const look = (): void => {
        if (this.problem !== undefined) resolve();
      };
      off = this.subscribe(look);
      look();
    });
    await Promise.race([this.provider.settled(), told]);
    off();
  }

  /** Opens the device under a name, or for a relay, before it comes into a group. */
  async reopen(options: DeviceOptions): Promise<void> {
    await this.client.close();
    await this.#openClient(options);
  }

  /** Begins anew as another device, with the book as it is here: for one that was removed. */
  async beginAnew(): Promise<void> {
    await this.provider.settled();
    await this.provider.close();
    await this.client.close();
    const before = stateName();
    // The new one is whole before it counts; the old one goes last.
    const store = await openIndexedDbDocStore(stateNameOf(life() + 1));
    await store.add({ update: Y.encodeStateAsUpdate(this.doc), pending: true });
    store.close();
    this.#store.close();
    localStorage.setItem(lifeKey, String(life() + 1));
    await deleteIndexedDbStore(before);
    await deleteIndexedDbDocStore(before);
    location.reload();
  }

  async #openDocument(): Promise<void> {
    this.#store = await openIndexedDbDocStore(stateName());
    this.provider = await YjsProvider.open({
      doc: this.doc,
      store: this.#store,
      onProblem: ({ what, error }) => {
        if (what === "entry") return;
        this.#tell(error);
      },
    });
  }

  async #openClient(options: DeviceOptions): Promise<void> {
    const all: BrowserSyncClientOptions = {
      state: stateName(),
      ...(pairingOrigin === undefined ? {} : { pairingOrigin }),
      ...options,
      ...this.provider.clientOptions,
    };
    this.client = inTauri ? await openInTauri(all) : await openSyncClient(all);
    this.client.on("error", (error) => {
      // That the relay is not reached stands in the status.
      if (error.name === "StateStoreError") this.#tell(error);
    });
    this.provider.connect(this.client);
    for (const changed of this.#changed) changed();
  }

  #tell(error: unknown): void {
    this.problem = error instanceof Error ? error.message : String(error);
    for (const changed of this.#changed) changed();
  }
}

async function openInTauri(options: BrowserSyncClientOptions): Promise<SyncApi> {
  const [{ getCurrentWindow }, tauri] = await Promise.all([
    import("@tauri-apps/api/window"),
    import("sync-relay/client/tauri"),
  ]);
  return await tauri.openSyncClient({ ...options, window: getCurrentWindow() });
}

function life(): number {
  return Number(localStorage.getItem(lifeKey) ?? 0);
}

function stateName(): string {
  return stateNameOf(life());
}

function stateNameOf(number: number): string {
  return number === 0 ? "cashtable" : `cashtable-${number}`;
}

/** An error in words for people. */
export function explain(error: unknown): string {
  if (typeof error === "object" && error !== null && "codeName" in error) {
    const { codeName, hint } = error as { codeName: string; hint?: string };
    return known[codeName] ?? hint ?? codeName;
  }
  return error instanceof Error ? error.message : String(error);
}

const known: Readonly<Record<string, string>> = {
  UNREACHABLE:
    "The relay does not answer. See whether its address is right, and whether it is running.",
  INVITE_INVALID: "This invite does not hold: it was used, has expired, or was mistyped.",
  INVITE_REQUIRED: "This relay lets nobody found a group without an invite of its operator.",
  CONNECTION_LOST: "The connection was lost. Try again.",
};
