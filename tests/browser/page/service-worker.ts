/** The service worker of docs/CLIENT.md: woken by a push, it reads what came, and says that something did. */
import { openSyncClient } from "../../../client/platform/browser/index.ts";

/** What a service worker's scope has beside a page's, as far as it is needed here. */
interface WorkerScope {
  readonly clients: {
    matchAll(options: { readonly type: "window" }): Promise<readonly unknown[]>;
  };
  readonly registration: { showNotification(title: string): Promise<void> };
  addEventListener(
    type: "push",
    listener: (event: { waitUntil(work: Promise<unknown>): void }) => void,
  ): void;
}

const scope = globalThis as unknown as WorkerScope;
const relay = new URLSearchParams(new URL(import.meta.url).search).get("relay") ?? "";

scope.addEventListener("push", (event) => event.waitUntil(pull()));

async function pull(): Promise<void> {
  const client = await openSyncClient({ relay, persist: false, presence: "manual" });
  // Read and verified, entries wait in the device's state until a tab asks for them.
  await client.caughtUp({ signal: AbortSignal.timeout(20_000) }).catch(() => undefined);
  await client.close();
  const windows = await scope.clients.matchAll({ type: "window" });
  if (windows.length === 0) await scope.registration.showNotification("Something new has arrived");
}
