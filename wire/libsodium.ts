/**
 * libsodium. A page gets `libsodium-page.ts` in its place: the `package.json` of this folder says so to
 * bundlers, and the package's own of what is built.
 */
import native from "sodium-universal";

type Encrypt = (
  ciphertext: Uint8Array,
  plaintext: Uint8Array,
  associatedData: Uint8Array | null,
  secretNonce: null,
  nonce: Uint8Array,
  key: Uint8Array,
) => number;

type Decrypt = (
  plaintext: Uint8Array,
  secretNonce: null,
  ciphertext: Uint8Array,
  associatedData: Uint8Array | null,
  nonce: Uint8Array,
  key: Uint8Array,
) => number;

/** What this project calls of it. */
export interface Sodium {
  crypto_generichash(output: Uint8Array, input: Uint8Array, key?: Uint8Array): void;
  crypto_generichash_batch(output: Uint8Array, inputs: readonly Uint8Array[]): void;
  readonly crypto_generichash_STATEBYTES: number;
  crypto_generichash_init(state: Uint8Array, key: null, outputBytes: number): void;
  crypto_generichash_update(state: Uint8Array, input: Uint8Array): void;
  crypto_generichash_final(state: Uint8Array, output: Uint8Array): void;
  readonly crypto_aead_chacha20poly1305_ietf_encrypt: Encrypt;
  readonly crypto_aead_chacha20poly1305_ietf_decrypt: Decrypt;
  readonly crypto_aead_xchacha20poly1305_ietf_encrypt: Encrypt;
  readonly crypto_aead_xchacha20poly1305_ietf_decrypt: Decrypt;
  crypto_sign_seed_keypair(publicKey: Uint8Array, secretKey: Uint8Array, seed: Uint8Array): void;
  crypto_sign_detached(signature: Uint8Array, message: Uint8Array, secretKey: Uint8Array): void;
  crypto_sign_verify_detached(
    signature: Uint8Array,
    message: Uint8Array,
    publicKey: Uint8Array,
  ): boolean;
  readonly crypto_pwhash_ALG_ARGON2ID13: number;
  crypto_pwhash_async(
    output: Uint8Array,
    password: Uint8Array,
    salt: Uint8Array,
    passes: number,
    memoryBytes: number,
    algorithm: number,
  ): Promise<void>;
  sodium_memzero(buffer: Uint8Array): void;
}

export const sodium: Sodium | undefined = native;
