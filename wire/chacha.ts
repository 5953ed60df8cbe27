/**
 * ChaCha20-Poly1305 (RFC 8439), as the Noise channel uses it: by libsodium where there is one, and in a
 * page by `@noble/ciphers`. The bytes are the same.
 */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { type Sodium, sodium } from "./libsodium.ts";

/** One way to seal and open; `output` has exactly the room that is needed. */
export interface ChaCha {
  seal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, output: Uint8Array): void;
  /** Throws where the ciphertext does not authenticate. */
  open(key: Uint8Array, nonce: Uint8Array, ciphertext: Uint8Array, output: Uint8Array): void;
}

/** By libsodium. */
export function sodiumChaCha(native: Sodium): ChaCha {
  return {
    seal(key, nonce, plaintext, output) {
      native.crypto_aead_chacha20poly1305_ietf_encrypt(output, plaintext, null, null, nonce, key);
    },
    open(key, nonce, ciphertext, output) {
      native.crypto_aead_chacha20poly1305_ietf_decrypt(output, null, ciphertext, null, nonce, key);
    },
  };
}

/** The same in JavaScript: for pages. */
export const portableChaCha: ChaCha = {
  seal(key, nonce, plaintext, output) {
    chacha20poly1305(key, nonce).encrypt(plaintext, output);
  },
  open(key, nonce, ciphertext, output) {
    chacha20poly1305(key, nonce).decrypt(ciphertext, output);
  },
};

/** What this platform does best. */
export const chacha: ChaCha = sodium === undefined ? portableChaCha : sodiumChaCha(sodium);
