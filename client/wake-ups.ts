/**
 * Where this device is woken while it is not connected: its relay has the device's push service hand the
 * app a message that says nothing, upon which the app opens its client and pulls.
 */
import { WakeUpState } from "../gen/syncrelay/sync/v1/wake_up_pb.ts";
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

/** Registers where this device is woken, or with undefined that it is not. */
export async function setWakeUp(
  session: Connection,
  subscription: WakeUpSubscription | undefined,
): Promise<void> {
  const value = subscription === undefined ? {} : { subscription: read(subscription) };
  await request(session, { case: "setWakeUp", value });
}

async function request(session: Connection, body: EnvelopeBody): Promise<WakeUpInfo> {
  const answer = await session.request(body).catch((error: unknown) => {
    if (!(error instanceof SyncError) || error.code !== ErrorCode.ENVELOPE_UNEXPECTED) throw error;
    throw new SyncError(error.code, {
      hint: "this relay wakes no devices: its operator can have it do so with [web_push] enabled",
    });
  });
  if (answer.case !== "wakeUp" || answer.value.applicationServerKey.byteLength !== wakeUpKeyBytes) {
    throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
  }
  const { state, applicationServerKey } = answer.value;
  if (state === WakeUpState.REFUSED) {
    throw new UsageError(
      "the relay sends nothing to that endpoint: it must be https and at a public address, unless the relay's operator allows private ones",
    );
  }
  return {
    registered: state === WakeUpState.REGISTERED,
    applicationServerKey: toBase64url(applicationServerKey),
  };
}

function read({ endpoint, keys }: WakeUpSubscription) {
  const bytes = utf8(endpoint).byteLength;
  if (!endpoint.startsWith("https://") || bytes > wakeUpEndpointBytesMax) {
    throw new UsageError(
      `a push service's endpoint is an https URL of at most ${wakeUpEndpointBytesMax} bytes`,
    );
  }
  return {
    endpoint,
    p256dh: keyOf(keys.p256dh, wakeUpKeyBytes, "p256dh"),
    auth: keyOf(keys.auth, wakeUpAuthBytes, "auth"),
  };
}

function keyOf(text: string, length: number, name: string): Uint8Array {
  const bytes = fromBase64url(text.replace(/=+$/, ""));
  if (bytes?.byteLength !== length || (name === "p256dh" && bytes[0] !== 4)) {
    throw new UsageError(`keys.${name} of a subscription is ${length} bytes as base64url`);
  }
  return bytes;
}
