/** The parts of `noise-c.wasm` that the tests call; it ships no types. */
declare module "noise-c.wasm" {
  interface CipherState {
    EncryptWithAd(associatedData: Uint8Array, plaintext: Uint8Array): Uint8Array;
    DecryptWithAd(associatedData: Uint8Array, ciphertext: Uint8Array): Uint8Array;
    InitializeKey(key: Uint8Array): void;
    free(): void;
  }
  interface HandshakeState {
    Initialize(prologue: Uint8Array, secretKey: Uint8Array): void;
    WriteMessage(payload: Uint8Array): Uint8Array;
    ReadMessage(message: Uint8Array, payloadNeeded: true): Uint8Array;
    GetHandshakeHash(): Uint8Array;
    GetRemotePublicKey(): Uint8Array;
    Split(): [send: CipherState, receive: CipherState];
  }
  export interface NoiseC {
    readonly constants: {
      readonly NOISE_ROLE_INITIATOR: number;
      readonly NOISE_ROLE_RESPONDER: number;
      readonly NOISE_CIPHER_CHACHAPOLY: number;
    };
    HandshakeState: new (protocolName: string, role: number) => HandshakeState;
    CipherState: new (cipher: number) => CipherState;
  }
  export default function createNoise(
    options: { wasmBinary: Uint8Array },
    callback: (noise: NoiseC) => void,
  ): void;
}
