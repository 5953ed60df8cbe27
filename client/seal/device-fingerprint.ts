/** A device in full, for people who compare: one number over all three of its public keys. */
import { concatBytes } from "../../wire/bytes.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { deviceFingerprintLabel } from "./labels.ts";

/**
 * BLAKE2b-256 over label, device id, signing key and sealing key: 64 hexadecimal digits in groups of
 * four. The short fingerprint covers the device id alone.
 */
export function deviceFingerprint(device: {
  readonly deviceId: Uint8Array;
  readonly signingKey: Uint8Array;
  readonly sealingKey: Uint8Array;
}): string {
  const hash = blake2b256(
    deviceFingerprintLabel,
    concatBytes(device.deviceId, device.signingKey, device.sealingKey),
  );
  const digits = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/(.{4})(?=.)/g, "$1 ");
}
