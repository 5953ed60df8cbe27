/** The client in a page: state in IndexedDB, one connection for all tabs of a device. */
import type { SyncApi } from "../../sync-client.ts";
import { BrowserSyncClient, type BrowserSyncClientOptions } from "./tab-client.ts";
import type { PushRegistration } from "./wake-ups.ts";

export { browserHost } from "./host.ts";
export {
  deleteIndexedDbStore,
  type IndexedDbStoreOptions,
  openIndexedDbStore,
} from "./indexeddb-store.ts";
export {
  type BrowserEvents,
  BrowserSyncClient,
  type BrowserSyncClientOptions,
} from "./tab-client.ts";
export type { PushRegistration, PushSubscriptionLike } from "./wake-ups.ts";

/**
 * Subscribes at the browser's push service with the relay's key and registers the subscription, so that the
 * service worker of `registration` gets a `push` event when something comes while no tab is connected. Asked
 * at each start it keeps the subscription there is, and replaces one that the push service has ended.
 * Rejects with NotAllowedError where the person has not allowed notifications, and as `client.wakeUp` does.
 */
export async function enableWakeUps(
  client: Pick<SyncApi, "wakeUp" | "registerWakeUp">,
  registration: PushRegistration,
): Promise<void> {
  await (await import("./wake-ups.ts")).enable(client, registration);
}

/** Ends the registration at the relay, and the subscription at the push service. */
export async function disableWakeUps(
  client: Pick<SyncApi, "unregisterWakeUp">,
  registration: PushRegistration,
): Promise<void> {
  await (await import("./wake-ups.ts")).disable(client, registration);
}

/** Opens the device of this origin, shared by all its tabs. */
export function openSyncClient(options: BrowserSyncClientOptions = {}): Promise<BrowserSyncClient> {
  return BrowserSyncClient.open(options);
}
