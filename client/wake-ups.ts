/**
 * Where this device is woken while it is not connected: its relay has the device's push service hand the
 * app a message that says nothing, upon which the app opens its client and pulls.
 */
import { fromBase64url, toBase64url, utf8 } from "../wire/bytes.ts";
import type { EnvelopeBody } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { wakeUpAuthBytes, wakeUpEndpointBytesMax, wakeUpKeyBytes } from "../wire/limits.ts";
import type { Connection } from "./connection.ts";
import type { WakeUpInfo, WakeUpSubscription } from "./types.ts";
import { UsageError } from "./usage-error.ts";

/** What the relay has of this device, and by which key it speaks to push services. */
export function askWakeUp(session: Connection): Promise<WakeUpInfo> {
  return request(session, { case: "getWakeUp", value: {} });
}

/** Registers where this device is woken, or without a place that it is not. */
export async function setWakeUp(
  session: Connection,
  subscription?: WakeUpSubscription,
): Promise<void> {
  const value = subscription === undefined ? {} : read(subscription);
  await request(session, { case: "setWakeUp", value });
}

async function request(session: Connection, body: EnvelopeBody): Promise<WakeUpInfo> {
  // A request rejects with nothing else.
  const answer = await session.request(body).catch((error: SyncError) => {
    throw error.code === ErrorCode.ENVELOPE_UNEXPECTED
      ? new SyncError(error.code, { hint: "this relay wakes no devices" })
      : error;
  });
  if (answer.case !== "wakeUp") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
  const { registered, refused, relayKey } = answer.value;
  if (refused) {
    throw new UsageError("the relay sends nothing to that endpoint: its address must be public");
  }
  return { registered, applicationServerKey: toBase64url(relayKey) };
}

function read({ endpoint, keys }: WakeUpSubscription) {
  const [p256dh, auth] = [fromBase64url(keys.p256dh), fromBase64url(keys.auth)];
  if (
    !endpoint.startsWith("https://") ||
    utf8(endpoint).byteLength > wakeUpEndpointBytesMax ||
    p256dh?.byteLength !== wakeUpKeyBytes ||
    p256dh[0] !== 4 ||
    auth?.byteLength !== wakeUpAuthBytes
  ) {
    throw new UsageError("a subscription has an https endpoint, and keys of 65 and 16 bytes");
  }
  return { endpoint, p256dh, auth };
}
