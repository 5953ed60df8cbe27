/** What the requests of the side API may hold, beside their types. */
import { utf8 } from "../../wire/bytes.ts";
import { deviceIdBytes, groupIdBytes, parseId } from "../../wire/ids.ts";
import type { GroupRow } from "../store/contract.ts";
import { invalid } from "./errors.ts";

export const pageSizeDefault = 100;
export const pageSizeMax = 1_000;
/** The least quota of a group, in bytes: a blob or two. */
export const quotaBytesMin = 65_536;
export const labelBytesMax = 64;
/** Ten years, in seconds. */
export const expiryMaxS = 10 * 365 * 86_400;

export function readPageSize(size: number): number {
  if (size > pageSizeMax) throw invalid(`page_size must be at most ${pageSizeMax}`);
  return size === 0 ? pageSizeDefault : size;
}

export function readGroupId(text: string): Uint8Array {
  const id = parseId(text, groupIdBytes);
  if (id === undefined) throw invalid("group_id must be 43 characters of base64url");
  return id;
}

export function readDeviceId(text: string): Uint8Array {
  const id = parseId(text, deviceIdBytes);
  if (id === undefined) throw invalid("device_id must be 43 characters of base64url");
  return id;
}

export function readQuota(bytes: bigint): number {
  if (bytes !== 0n && (bytes < BigInt(quotaBytesMin) || bytes > BigInt(Number.MAX_SAFE_INTEGER))) {
    throw invalid(`quota_bytes must be 0, or ${quotaBytesMin} to ${Number.MAX_SAFE_INTEGER}`);
  }
  return Number(bytes);
}

/** The most that a rate of pushes may be. */
export const pushesMax = 1_000_000;

export function readPushRate(
  perS: number,
  burst: number,
): Pick<GroupRow, "pushesPerS" | "pushesBurst"> {
  if (perS > pushesMax) throw invalid(`pushes_per_s must be at most ${pushesMax}`);
  if (burst > pushesMax) throw invalid(`pushes_burst must be at most ${pushesMax}`);
  if (perS === 0 && burst > 0) throw invalid("pushes_burst must be 0 where pushes_per_s is 0");
  return { pushesPerS: perS, pushesBurst: burst > 0 ? burst : Math.min(perS * 10, pushesMax) };
}

export function readLabel(label: string): string {
  if (utf8(label).byteLength > labelBytesMax || /\p{C}/u.test(label)) {
    throw invalid(`label must be at most ${labelBytesMax} bytes, without control characters`);
  }
  return label;
}

export function readExpiry(seconds: bigint): number {
  if (seconds > BigInt(expiryMaxS)) {
    throw invalid(`expires_in_s must be at most ${expiryMaxS}`);
  }
  return Number(seconds);
}
