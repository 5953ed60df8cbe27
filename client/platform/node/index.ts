/** The client on Node: sockets by `ws`, state in SQLite. */
import type { StateStore } from "../../state-store.ts";
import { SyncClient, type SyncClientOptions } from "../../sync-client.ts";
import { nodeHost } from "./host.ts";
import { openSqliteStore } from "./sqlite-store.ts";

export { nodeHost } from "./host.ts";

/** How a client is opened on Node. */
export interface NodeSyncClientOptions extends Omit<SyncClientOptions, "store" | "host"> {
  /** The folder that holds the device's state; made, for this user only, where it is not there. */
  readonly state: string;
}

/** Opens the state in a folder. Throws `StateStoreError`, among others where another process has it. */
export function openNodeStore(folder: string): Promise<StateStore> {
  return openSqliteStore(folder);
}

/** Opens the device whose state is in a folder. */
export async function openSyncClient(options: NodeSyncClientOptions): Promise<SyncClient> {
  const { state, ...rest } = options;
  const store = await openNodeStore(state);
  try {
    return await SyncClient.open({ ...rest, store, host: nodeHost() });
  } catch (error) {
    await store.close();
    throw error;
  }
}
