/** The client in a page: state in IndexedDB, one connection for all tabs of a device. */
import { BrowserSyncClient, type BrowserSyncClientOptions } from "./tab-client.ts";

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
export {
  disableWakeUps,
  enableWakeUps,
  type PushRegistration,
  type PushSubscriptionLike,
} from "./wake-ups.ts";

/** Opens the device of this origin, shared by all its tabs. */
export function openSyncClient(options: BrowserSyncClientOptions = {}): Promise<BrowserSyncClient> {
  return BrowserSyncClient.open(options);
}
