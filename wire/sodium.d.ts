/** The few functions of `sodium-universal` that this project calls; it ships no types. */
declare module "sodium-universal" {
  interface Sodium {
    crypto_generichash(output: Uint8Array, input: Uint8Array, key?: Uint8Array): void;
    crypto_generichash_batch(output: Uint8Array, inputs: readonly Uint8Array[]): void;
    /** Hashing piece by piece: not there in `sodium-javascript`. */
    readonly crypto_generichash_STATEBYTES?: number;
    crypto_generichash_init?(state: Uint8Array, key: null, outputBytes: number): void;
    crypto_generichash_update?(state: Uint8Array, input: Uint8Array): void;
    crypto_generichash_final?(state: Uint8Array, output: Uint8Array): void;
    crypto_aead_chacha20poly1305_ietf_encrypt(
      ciphertext: Uint8Array,
      plaintext: Uint8Array,
      associatedData: Uint8Array | null,
      secretNonce: null,
      nonce: Uint8Array,
      key: Uint8Array,
    ): number;
    crypto_aead_chacha20poly1305_ietf_decrypt(
      plaintext: Uint8Array,
      secretNonce: null,
      ciphertext: Uint8Array,
      associatedData: Uint8Array | null,
      nonce: Uint8Array,
      key: Uint8Array,
    ): number;
    crypto_aead_xchacha20poly1305_ietf_encrypt(
      ciphertext: Uint8Array,
      plaintext: Uint8Array,
      associatedData: Uint8Array | null,
      secretNonce: null,
      nonce: Uint8Array,
      key: Uint8Array,
    ): number;
    crypto_aead_xchacha20poly1305_ietf_decrypt(
      plaintext: Uint8Array,
      secretNonce: null,
      ciphertext: Uint8Array,
      associatedData: Uint8Array | null,
      nonce: Uint8Array,
      key: Uint8Array,
    ): number;
    crypto_sign_seed_keypair(publicKey: Uint8Array, secretKey: Uint8Array, seed: Uint8Array): void;
    crypto_sign_detached(signature: Uint8Array, message: Uint8Array, secretKey: Uint8Array): void;
    crypto_sign_verify_detached(
      signature: Uint8Array,
      message: Uint8Array,
      publicKey: Uint8Array,
    ): boolean;
    readonly crypto_pwhash_ALG_ARGON2ID13: number;
    /** Not there in `sodium-javascript`. */
    crypto_pwhash_async?(
      output: Uint8Array,
      password: Uint8Array,
      salt: Uint8Array,
      passes: number,
      memoryBytes: number,
      algorithm: number,
    ): Promise<void>;
    sodium_memzero(buffer: Uint8Array): void;
  }
  const sodium: Sodium;
  export default sodium;
}

/** The parts of `noise-handshake` that this project calls: its published types lack the psk patterns. */
declare module "noise-handshake" {
  export interface NoiseKeyPair {
    publicKey: Uint8Array;
    secretKey: Uint8Array;
  }
  export interface NoiseCurve {
    DHLEN: number;
    PKLEN: number;
    SKLEN: number;
    ALG: string;
    generateKeyPair(secretKey?: Uint8Array): NoiseKeyPair;
    dh(publicKey: Uint8Array, keyPair: NoiseKeyPair): Uint8Array;
  }
  export default class Noise {
    constructor(
      pattern: "XX" | "XXpsk0",
      initiator: boolean,
      staticKeyPair: NoiseKeyPair,
      options: { curve: NoiseCurve; psk?: Uint8Array },
    );
    s: NoiseKeyPair;
    e: NoiseKeyPair | null;
    psk: Uint8Array | null;
    key: Uint8Array | null;
    chainingKey: Uint8Array | null;
    rs: Uint8Array | null;
    tx: Uint8Array | null;
    rx: Uint8Array | null;
    hash: Uint8Array | null;
    complete: boolean;
    initialise(prologue: Uint8Array): void;
    send(payload: Uint8Array): Uint8Array;
    recv(message: Uint8Array): Uint8Array;
  }
}

declare module "noise-handshake/dh.js" {
  import type { NoiseCurve } from "noise-handshake";

  const curve: NoiseCurve;
  export default curve;
}
