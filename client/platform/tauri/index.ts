/**
 * The client in a Tauri app: as in a page, with the life of the window, and the device's seed in the
 * system's keychain.
 */
import { BrowserSyncClient, type BrowserSyncClientOptions } from "../browser/tab-client.ts";
import { type SecretStore, withSecrets } from "./secret-store.ts";

export {
  type KeychainPlugin,
  keychainSecrets,
  type SecretStore,
  type StrongholdStore,
  strongholdSecrets,
} from "./secret-store.ts";

/** The part of Tauri's window (`getCurrentWindow()` of `@tauri-apps/api/window`) that is needed. */
export interface AppWindow {
  /**
   * Calls when the window gets or loses the focus, with whether it has it. Resolves with what stops
   * that.
   */
  onFocusChanged(handler: (event: { readonly payload: boolean }) => void): Promise<() => void>;
  /** Its handler is waited for before the window closes. */
  onCloseRequested(handler: () => void | Promise<void>): Promise<() => void>;
}

/** How a client is opened in a Tauri app. */
export interface TauriSyncClientOptions extends Omit<BrowserSyncClientOptions, "wrapStore"> {
  /** Left out: the window's life is the app's own business. */
  readonly window?: AppWindow;
  /** Where the device's seed is kept. Left out: with the rest, in the webview's IndexedDB. */
  readonly secrets?: SecretStore;
  /** How long closing the window waits for what is queued, in milliseconds. Default 2,000. */
  readonly closeWaitMs?: number;
}

/** Opens the device of this app. */
export async function openSyncClient(
  options: TauriSyncClientOptions = {},
): Promise<BrowserSyncClient> {
  const { window, secrets, closeWaitMs = 2_000, ...rest } = options;
  const name = `sync-relay:${rest.state ?? "default"}`;
  const client = await BrowserSyncClient.open({
    ...rest,
    ...(secrets === undefined ? {} : { wrapStore: (store) => withSecrets(store, secrets, name) }),
  });
  if (window !== undefined) await follow(client, window, closeWaitMs);
  return client;
}

/** Focus: back to the relay at once. Close: what is queued goes out first, where that is soon. */
async function follow(
  client: BrowserSyncClient,
  window: AppWindow,
  closeWaitMs: number,
): Promise<void> {
  await window.onFocusChanged(({ payload }) => {
    if (payload && client.status().connection.state === "waiting") client.connect();
  });
  await window.onCloseRequested(async () => {
    const { queued, connection } = client.status();
    if (queued > 0 && connection.state === "online") {
      const stop = new AbortController();
      const timer = setTimeout(() => stop.abort(), closeWaitMs);
      // What does not go in time is queued, and goes when the app is opened again.
      await client.flush({ signal: stop.signal }).catch(() => undefined);
      clearTimeout(timer);
    }
    await client.close();
  });
}
