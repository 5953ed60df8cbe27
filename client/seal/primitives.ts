/**
 * The primitives this room composes, each from a reviewed library; the only file
 * of the room that touches one. Nothing here knows what is sealed or signed.
 */

import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ed25519 } from "@noble/curves/ed25519.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { ml_kem768_x25519 as xWing } from "@noble/post-quantum/hybrid.js";
import { concatBytes } from "../../wire/bytes.ts";
import { type Sodium, sodium } from "../../wire/libsodium.ts";

/** Fresh random bytes: an argument, so that whoever runs a device decides where they come from. */
export type Random = (length: number) => Uint8Array;

/** A symmetric key or secret. */
export const keyBytes = 32;
/** A nonce of XChaCha20-Poly1305: long enough to be drawn at random. */
export const nonceBytes = 24;
/** An authentication tag. */
export const tagBytes = 16;
/** What sealing adds. */
export const sealOverheadBytes: number = nonceBytes + tagBytes;
/** An Ed25519 public key. */
export const signingKeyBytes = 32;
/** An X-Wing public key. */
export const sealingKeyBytes = 1216;
/** An X-Wing ciphertext. */
export const encapsulationBytes = 1120;

/** HKDF-SHA-256 (RFC 5869): a 32-byte key of a secret. The label is the info; what else binds it follows. */
export function deriveKey(
  secret: Uint8Array,
  label: Uint8Array,
  options: { readonly salt?: Uint8Array; readonly context?: Uint8Array } = {},
): Uint8Array {
  let info = label;
  if (options.context !== undefined) {
    info = new Uint8Array(label.byteLength + options.context.byteLength);
    info.set(label);
    info.set(options.context, label.byteLength);
  }
  return hkdf(sha256, secret, options.salt, info, keyBytes);
}

/** XChaCha20-Poly1305 of one library. `open` throws where nothing authenticates. */
export interface XChaCha {
  seal(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array | undefined,
    plaintext: Uint8Array,
    output: Uint8Array,
  ): void;
  open(
    key: Uint8Array,
    nonce: Uint8Array,
    associated: Uint8Array | undefined,
    ciphertext: Uint8Array,
    output: Uint8Array,
  ): void;
}

/** By libsodium. */
export function sodiumXChaCha(native: Sodium): XChaCha {
  return {
    seal(key, nonce, associated, plaintext, output) {
      native.crypto_aead_xchacha20poly1305_ietf_encrypt(
        output,
        plaintext,
        associated ?? null,
        null,
        nonce,
        key,
      );
    },
    open(key, nonce, associated, ciphertext, output) {
      native.crypto_aead_xchacha20poly1305_ietf_decrypt(
        output,
        null,
        ciphertext,
        associated ?? null,
        nonce,
        key,
      );
    },
  };
}

/** The same in JavaScript: for pages. */
export const portableXChaCha: XChaCha = {
  seal(key, nonce, associated, plaintext, output) {
    xchacha20poly1305(key, nonce, associated).encrypt(plaintext, output);
  },
  open(key, nonce, associated, ciphertext, output) {
    xchacha20poly1305(key, nonce, associated).decrypt(ciphertext, output);
  },
};

const cipher = sodium === undefined ? portableXChaCha : sodiumXChaCha(sodium);

/**
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha, section 2): nonce, ciphertext and
 * tag. The nonce must be fresh and random for the key.
 */
export function aeadSeal(
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  if (nonce.byteLength !== nonceBytes) throw new RangeError("a nonce has 24 bytes");
  const sealed = new Uint8Array(sealOverheadBytes + plaintext.byteLength);
  sealed.set(nonce);
  cipher.seal(key, nonce, associated, plaintext, sealed.subarray(nonceBytes));
  return sealed;
}

/**
 * Opens what `aeadSeal` made; undefined where it does not authenticate. Nothing
 * of the plaintext is given out before it does.
 */
export function aeadOpen(
  key: Uint8Array,
  sealed: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  // Everything sealed here has content, so an empty plaintext is no case to serve.
  if (sealed.byteLength <= sealOverheadBytes) return undefined;
  const plaintext = new Uint8Array(sealed.byteLength - sealOverheadBytes);
  try {
    cipher.open(
      key,
      sealed.subarray(0, nonceBytes),
      associated,
      sealed.subarray(nonceBytes),
      plaintext,
    );
  } catch {
    // The library's one error here is failed authentication, and says no more.
    return undefined;
  }
  return plaintext;
}

/**
 * XChaCha20-Poly1305 of a chunk whose nonce follows from its place: ciphertext and tag. A key and
 * nonce must never be used for two plaintexts.
 */
export function chunkSeal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array): Uint8Array {
  if (nonce.byteLength !== nonceBytes) throw new RangeError("a nonce has 24 bytes");
  const sealed = new Uint8Array(plaintext.byteLength + tagBytes);
  cipher.seal(key, nonce, undefined, plaintext, sealed);
  return sealed;
}

/** Opens what `chunkSeal` made; undefined where it does not authenticate. */
export function chunkOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.byteLength <= tagBytes) return undefined;
  const plaintext = new Uint8Array(sealed.byteLength - tagBytes);
  try {
    cipher.open(key, nonce, undefined, sealed, plaintext);
  } catch {
    return undefined;
  }
  return plaintext;
}

/** An Ed25519 key pair of a 32-byte seed (RFC 8032, section 5.1.5); the secret one is seed and public key. */
export function signingKeyPair(seed: Uint8Array): {
  publicKey: Uint8Array;
  secretKey: Uint8Array;
} {
  if (sodium === undefined) {
    const key = ed25519.getPublicKey(seed);
    return { publicKey: key, secretKey: concatBytes(seed, key) };
  }
  const publicKey = new Uint8Array(signingKeyBytes);
  const secretKey = new Uint8Array(64);
  sodium.crypto_sign_seed_keypair(publicKey, secretKey, seed);
  return { publicKey, secretKey };
}

/** An Ed25519 signature (RFC 8032, section 5.1.6): deterministic. */
export function signEd25519(message: Uint8Array, secretKey: Uint8Array): Uint8Array {
  if (sodium === undefined) return ed25519.sign(message, secretKey.subarray(0, 32));
  const signature = new Uint8Array(64);
  sodium.crypto_sign_detached(signature, message, secretKey);
  return signature;
}

/** Whether an Ed25519 signature holds (RFC 8032, section 5.1.7). False for a key or signature of another length. */
export function verifyEd25519(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (publicKey.byteLength !== signingKeyBytes || signature.byteLength !== 64) return false;
  if (sodium === undefined) return verifyPortably(publicKey, message, signature);
  return sodium.crypto_sign_verify_detached(signature, message, publicKey);
}

/**
 * The same in JavaScript: for pages. As strict as libsodium: no
 * encoding but the canonical one, and no key of small order.
 */
export function verifyPortably(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false });
  } catch {
    // No point of the curve.
    return false;
  }
}

/** An X-Wing key pair of a 32-byte seed (draft-connolly-cfrg-xwing-kem, section 5.2). */
export function sealingKeyPair(seed: Uint8Array): {
  publicKey: Uint8Array;
  secretKey: Uint8Array;
} {
  return xWing.keygen(seed);
}

/** X-Wing encapsulation with given randomness, 64 bytes (section 5.4). Undefined where the key is none. */
export function encapsulate(
  publicKey: Uint8Array,
  random: Uint8Array,
): { encapsulation: Uint8Array; shared: Uint8Array } | undefined {
  try {
    const { cipherText, sharedSecret } = xWing.encapsulate(publicKey, random);
    return { encapsulation: cipherText, shared: sharedSecret };
  } catch {
    // The modulus check of FIPS 203, section 7.2: no ML-KEM key.
    return undefined;
  }
}

const trialRandom = new Uint8Array(64);

/** Whether an X-Wing public key can be sealed to: the modulus check and no X25519 key of small order. */
export function isSealingKey(publicKey: Uint8Array): boolean {
  return encapsulate(publicKey, trialRandom) !== undefined;
}

/** X-Wing decapsulation (section 5.5); undefined where the ciphertext has the wrong form. */
export function decapsulate(
  encapsulation: Uint8Array,
  secretKey: Uint8Array,
): Uint8Array | undefined {
  if (encapsulation.byteLength !== encapsulationBytes) return undefined;
  try {
    return xWing.decapsulate(encapsulation, secretKey);
  } catch {
    // An X25519 share of small order (RFC 7748, section 6.1).
    return undefined;
  }
}

/** What stretching a short code costs. */
export interface CodeCost {
  /** Memory, in KiB. */
  readonly memoryKiB: number;
  /** Passes over it. */
  readonly passes: number;
}

/** Bytes of a salt: what every implementation of Argon2id takes. */
export const stretchSaltBytes = 16;

/**
 * Argon2id, version 1.3, one lane (RFC 9106): 32 bytes of a short secret. By
 * libsodium off the event loop where the platform has it, which takes a fiftieth
 * of the time; the same bytes either way.
 */
export async function stretch(
  secret: Uint8Array,
  salt: Uint8Array,
  cost: CodeCost,
): Promise<Uint8Array> {
  if (sodium === undefined) return await stretchPortably(secret, salt, cost);
  const output = new Uint8Array(keyBytes);
  await sodium.crypto_pwhash_async(
    output,
    secret,
    salt,
    cost.passes,
    cost.memoryKiB * 1024,
    sodium.crypto_pwhash_ALG_ARGON2ID13,
  );
  return output;
}

/** The same in JavaScript: for pages. */
export async function stretchPortably(
  secret: Uint8Array,
  salt: Uint8Array,
  cost: CodeCost,
): Promise<Uint8Array> {
  // Loaded by the few that pair by a code.
  const { argon2idAsync } = await import("@noble/hashes/argon2.js");
  return await argon2idAsync(secret, salt, {
    m: cost.memoryKiB,
    t: cost.passes,
    p: 1,
    dkLen: keyBytes,
  });
}

/** Overwrites secrets that are no longer needed, as far as the language lets us. */
export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}
