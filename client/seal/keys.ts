/**
 * A device's keys: three, all derived from one 32-byte seed, each used for one
 * thing. The secret halves never leave this file.
 */
import { concatBytes, u64be } from "../../wire/bytes.ts";
import { type KeyPair, keyPairOf } from "../../wire/channel.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import {
  deviceNoiseLabel,
  deviceSealingLabel,
  deviceSigningLabel,
  wrapKeyLabel,
} from "./labels.ts";
import {
  aeadOpen,
  aeadSeal,
  decapsulate,
  deriveKey,
  encapsulate,
  encapsulationBytes,
  keyBytes,
  nonceBytes,
  type Random,
  sealingKeyPair,
  sealOverheadBytes,
  signEd25519,
  signingKeyPair,
  verifyEd25519,
  wipe,
} from "./primitives.ts";

/** A device's seed, the one secret it keeps. */
export const seedBytes = 32;
/** A wrap: X-Wing ciphertext, then the sealed secret. */
export const wrapBytes: number = encapsulationBytes + sealOverheadBytes + keyBytes;
/** The randomness of one X-Wing encapsulation. */
const encapsulationRandomBytes = 64;

/** Which wrap it is: bound into its key, so that no wrap serves for another. */
export interface WrapPlace {
  readonly groupId: Uint8Array;
  readonly epoch: number;
}

/** What a device can do with its keys. */
export interface DeviceKeys {
  /** The X25519 public key: who the device is. */
  readonly deviceId: Uint8Array;
  /** The static key pair of its Noise handshakes. */
  readonly noise: KeyPair;
  /** The Ed25519 public key, 32 bytes. */
  readonly signingKey: Uint8Array;
  /** The X-Wing public key, 1,216 bytes. */
  readonly sealingKey: Uint8Array;
  /** An Ed25519 signature, 64 bytes. The caller labels what it signs. */
  sign(message: Uint8Array): Uint8Array;
  /** Opens an epoch secret that was sealed to this device. Throws OPEN_FAILED. */
  openWrap(sealed: Uint8Array, at: WrapPlace): Uint8Array;
  /** Overwrites the secret keys; nothing here works afterwards. */
  wipe(): void;
}

/** The keys of a seed: by HKDF-SHA-256 (RFC 5869) with a label each. */
export function deriveDeviceKeys(seed: Uint8Array): DeviceKeys {
  if (seed.byteLength !== seedBytes) throw new RangeError("a device seed has 32 bytes");
  const noiseSecret = deriveKey(seed, deviceNoiseLabel);
  const signingSeed = deriveKey(seed, deviceSigningLabel);
  const sealingSeed = deriveKey(seed, deviceSealingLabel);
  const noise = keyPairOf(noiseSecret);
  const signing = signingKeyPair(signingSeed);
  const sealing = sealingKeyPair(sealingSeed);
  wipe(noiseSecret, signingSeed, sealingSeed);
  return {
    deviceId: noise.publicKey,
    noise,
    signingKey: signing.publicKey,
    sealingKey: sealing.publicKey,
    sign: (message) => signEd25519(message, signing.secretKey),
    openWrap: (sealed, at) => openWrap(sealed, at, noise.publicKey, sealing.secretKey),
    wipe: () => wipe(noise.secretKey, signing.secretKey, sealing.secretKey),
  };
}

/** Whether an Ed25519 signature holds. Never throws: a key or signature of another form does not hold. */
export function verifySignature(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  return verifyEd25519(publicKey, message, signature);
}

/**
 * Seals an epoch secret to a device: X-Wing, then XChaCha20-Poly1305 under a key
 * that HKDF draws from the shared secret for this group, epoch and device.
 * Undefined where the sealing key is none.
 */
export function sealWrap(
  secret: Uint8Array,
  to: { readonly deviceId: Uint8Array; readonly sealingKey: Uint8Array },
  at: WrapPlace & { readonly random: Random },
): Uint8Array | undefined {
  const made = encapsulate(to.sealingKey, at.random(encapsulationRandomBytes));
  if (made === undefined) return undefined;
  const context = wrapContext(at, to.deviceId);
  const key = deriveKey(made.shared, wrapKeyLabel, { context });
  const sealed = aeadSeal(key, at.random(nonceBytes), context, secret);
  wipe(made.shared, key);
  return concatBytes(made.encapsulation, sealed);
}

function openWrap(
  sealed: Uint8Array,
  at: WrapPlace,
  deviceId: Uint8Array,
  secretKey: Uint8Array,
): Uint8Array {
  if (sealed.byteLength !== wrapBytes) throw new SyncError(ErrorCode.OPEN_FAILED);
  const shared = decapsulate(sealed.subarray(0, encapsulationBytes), secretKey);
  if (shared === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  const context = wrapContext(at, deviceId);
  const key = deriveKey(shared, wrapKeyLabel, { context });
  const secret = aeadOpen(key, sealed.subarray(encapsulationBytes), context);
  wipe(shared, key);
  if (secret === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  return secret;
}

function wrapContext(at: WrapPlace, deviceId: Uint8Array): Uint8Array {
  return concatBytes(at.groupId, u64be(at.epoch), deviceId);
}
