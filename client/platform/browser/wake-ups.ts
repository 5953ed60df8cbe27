/** A page's subscription at its browser's push service, made with the relay's key and registered there. */
import { fromBase64url, toBase64url } from "../../../wire/bytes.ts";
import type { SyncApi } from "../../sync-client.ts";

/** The part of a browser's `PushSubscription` that is needed. */
export interface PushSubscriptionLike {
  /** The key that it was made with. */
  readonly options: { readonly applicationServerKey: ArrayBuffer | null };
  /** Its endpoint, and its keys as base64url. */
  toJSON(): { readonly endpoint?: string; readonly keys?: Readonly<Record<string, string>> };
  /** Ends it at the push service. */
  unsubscribe(): Promise<boolean>;
}

/** The part of a browser's `ServiceWorkerRegistration` that is needed. */
export interface PushRegistration {
  /** The way to the browser's push service. */
  readonly pushManager: {
    getSubscription(): Promise<PushSubscriptionLike | null>;
    subscribe(options: {
      readonly userVisibleOnly: boolean;
      readonly applicationServerKey: Uint8Array<ArrayBuffer>;
    }): Promise<PushSubscriptionLike>;
  };
}

/**
 * Subscribes at the browser's push service with the relay's key and registers the subscription, so that the
 * service worker of `registration` gets a `push` event when something comes while no tab is connected. Asked
 * at each start it keeps the subscription there is, and replaces one that the push service has ended.
 * Rejects with NotAllowedError where the person has not allowed notifications, and as `client.wakeUp` does.
 */
export async function enableWakeUps(
  client: Pick<SyncApi, "wakeUp" | "registerWakeUp">,
  { pushManager }: PushRegistration,
): Promise<void> {
  const { applicationServerKey, registered } = await client.wakeUp();
  let subscription = await pushManager.getSubscription();
  // One that the push service no longer knows is still handed out here: the relay has forgotten it by then.
  if (subscription !== null && !(registered && isMadeWith(subscription, applicationServerKey))) {
    await subscription.unsubscribe();
    subscription = null;
  }
  subscription ??= await pushManager.subscribe({
    // Browsers insist on it: what they show, where the page shows nothing, is theirs to say.
    userVisibleOnly: true,
    applicationServerKey: fromBase64url(applicationServerKey) as Uint8Array<ArrayBuffer>,
  });
  // What is missing is no subscription, and refused as that.
  const { endpoint = "", keys: { p256dh = "", auth = "" } = {} } = subscription.toJSON();
  await client.registerWakeUp({ endpoint, keys: { p256dh, auth } });
}

/** Ends the registration at the relay, and the subscription at the push service. Rejects as `client.wakeUp` does. */
export async function disableWakeUps(
  client: Pick<SyncApi, "unregisterWakeUp">,
  { pushManager }: PushRegistration,
): Promise<void> {
  await client.unregisterWakeUp();
  await (await pushManager.getSubscription())?.unsubscribe();
}

function isMadeWith({ options }: PushSubscriptionLike, key: string): boolean {
  const made = options.applicationServerKey;
  return made !== null && toBase64url(new Uint8Array(made)) === key;
}
