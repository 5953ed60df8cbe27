/** Reads what a device asks about being woken into requests that hold only what was checked. Pure. */
import type { Envelope } from "../gen/syncrelay/sync/v1/envelope_pb.ts";
import type { SetWakeUp } from "../gen/syncrelay/sync/v1/wake_up_pb.ts";
import { copyBytes, utf8 } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { wakeUpAuthBytes, wakeUpEndpointBytesMax, wakeUpKeyBytes } from "../wire/limits.ts";

/** Where a device is woken, as its push service has it. */
export interface WakeUpPlace {
  /** Where messages are posted: an `https` URL. */
  readonly endpoint: string;
  /** 65 bytes. */
  readonly p256dh: Uint8Array;
  /** 16 bytes. */
  readonly auth: Uint8Array;
}

/** What is asked about being woken. */
export type WakeUpRequest =
  | { readonly kind: "get" }
  /** Undefined: the registration ends. */
  | { readonly kind: "set"; readonly place: WakeUpPlace | undefined };

export type WakeUpBody = Extract<Envelope["body"], { case: "getWakeUp" | "setWakeUp" }>;

/** Whether a body is such a request. */
export function isWakeUpBody(body: Envelope["body"]): body is WakeUpBody {
  return body.case === "getWakeUp" || body.case === "setWakeUp";
}

/** Reads such a request. */
export function readWakeUp(body: WakeUpBody): WakeUpRequest {
  if (body.case === "getWakeUp") return { kind: "get" };
  return { kind: "set", place: body.value.endpoint === "" ? undefined : readPlace(body.value) };
}

function readPlace({ endpoint, p256dh, auth }: SetWakeUp): WakeUpPlace {
  // What is kept holds on to no record that it came in.
  if (utf8(endpoint).byteLength > wakeUpEndpointBytesMax) throw invalid();
  if (p256dh.byteLength !== wakeUpKeyBytes || p256dh[0] !== 4) throw invalid();
  if (auth.byteLength !== wakeUpAuthBytes) throw invalid();
  return { endpoint, p256dh: copyBytes(p256dh), auth: copyBytes(auth) };
}

function invalid(): SyncError {
  return new SyncError(ErrorCode.ENVELOPE_INVALID);
}
