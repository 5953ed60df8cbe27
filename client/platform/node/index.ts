/** The client on Node: sockets by `ws`, state in SQLite. */

import type { Host } from "../../host.ts";
import type { StateStore } from "../../state-store.ts";
import { SyncClient, type SyncClientOptions } from "../../sync-client.ts";

/** How a client is opened on Node. */
export interface NodeSyncClientOptions extends Omit<SyncClientOptions, "store" | "host"> {
  /** The folder that holds the device's state; made, for this user only, where it is not there. */
  readonly state: string;
}

/** This process as a host. */
export function nodeHost(): Host {
  throw new Error("not built yet");
}

/** Opens the state in a folder. Throws `StateStoreError`, among others where another process has it. */
export async function openNodeStore(_folder: string): Promise<StateStore> {
  throw new Error("not built yet");
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
