/** A device that was away catches up: everything pulled, opened, stored, handed to the app and acknowledged. */
import { openSyncClient } from "../../client/platform/node/index.ts";
import { serveRole } from "../harness/role.ts";

export interface CatchingUpArgs {
  readonly address: string;
  readonly state: string;
  readonly blobs: number;
}

async function catchUp({ address, state, blobs }: CatchingUpArgs): Promise<{
  ms: number;
  cpuUs: number;
}> {
  const before = process.cpuUsage();
  const began = performance.now();
  const client = await openSyncClient({ state, relay: address });
  const wrong: unknown[] = [];
  client.on("integrity", (event) => wrong.push(event));
  client.on("error", (error) => wrong.push(error));
  let taken = 0;
  for await (const entry of client.entries()) {
    await entry.ack();
    taken += 1;
    if (taken === blobs) break;
  }
  await caughtUp(client);
  const ms = performance.now() - began;
  const { user, system } = process.cpuUsage(before);
  if (wrong.length > 0) throw new Error(`something was wrong: ${String(wrong[0])}`);
  await client.close();
  return { ms, cpuUs: user + system };
}

/** Resolves once the device says that it is in sync. */
function caughtUp(client: Awaited<ReturnType<typeof openSyncClient>>): Promise<void> {
  return new Promise((resolve) => {
    const off = client.on("status", ({ inSync }) => consider(inSync));
    const consider = (inSync: boolean): void => {
      if (!inSync) return;
      off();
      resolve();
    };
    consider(client.status().inSync);
  });
}

serveRole({ catchUp });
