/** `sodium-universal` ships no types: what this project calls of it is written down in `libsodium.ts`. */
declare module "sodium-universal" {
  import type { Sodium } from "./libsodium.ts";

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

/** The WebAssembly of `blake2b-wasm`, without what the package puts around it. */
declare module "blake2b-wasm/blake2b.js" {
  export interface Blake2bExports {
    readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
    blake2b_init(state: number, outputBytes: number): void;
    blake2b_update(state: number, from: number, to: number): void;
    blake2b_final(state: number): void;
  }
  const load: () => Promise<Blake2bExports>;
  export default load;
}
