/** A page's subscription at its browser's push service, made with the relay's key and registered there. */
import { fromBase64url, toBase64url } from "../../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../../wire/errors.ts";
import type { SyncApi } from "../../sync-client.ts";
import { UsageError } from "../../usage-error.ts";

/** The part of a `PushSubscription` that is needed. */
export interface PushSubscriptionLike {
  readonly options: { readonly applicationServerKey: ArrayBuffer | null };
  toJSON(): { readonly endpoint?: string; readonly keys?: Readonly<Record<string, string>> };
  unsubscribe(): Promise<boolean>;
}

/** The part of a `ServiceWorkerRegistration` that is needed. */
export interface PushRegistration {
  readonly pushManager: {
    getSubscription(): Promise<PushSubscriptionLike | null>;
    subscribe(options: {
      readonly userVisibleOnly: boolean;
      readonly applicationServerKey: Uint8Array<ArrayBuffer>;
    }): Promise<PushSubscriptionLike>;
  };
}

/** Subscribes, where there is no subscription with the relay's key yet, and registers what there is. */
export async function enable(
  client: Pick<SyncApi, "wakeUp" | "registerWakeUp">,
  { pushManager }: PushRegistration,
): Promise<void> {
  const { applicationServerKey, registered } = await client.wakeUp();
  const key = fromBase64url(applicationServerKey);
  if (key === undefined) throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
  let subscription = await pushManager.getSubscription();
  // One that the push service no longer knows is still handed out here: the relay has forgotten it by then.
  if (subscription !== null && !(registered && isMadeWith(subscription, applicationServerKey))) {
    await subscription.unsubscribe();
    subscription = null;
  }
  subscription ??= await pushManager.subscribe({
    // Browsers insist on it: what they show, where the page shows nothing, is theirs to say.
    userVisibleOnly: true,
    applicationServerKey: key as Uint8Array<ArrayBuffer>,
  });
  const { endpoint, keys } = subscription.toJSON();
  const { p256dh, auth } = keys ?? {};
  if (endpoint === undefined || p256dh === undefined || auth === undefined) {
    throw new UsageError("the browser's subscription has no endpoint, or no keys");
  }
  await client.registerWakeUp({ endpoint, keys: { p256dh, auth } });
}

/** Ends the registration at the relay, and the subscription. */
export async function disable(
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
