/** ChaCha20-Poly1305 with a counter: what an encrypted channel costs at the least, without a handshake. */
import sodium from "sodium-universal";

/** Bytes that a sealed frame is longer than its plaintext. */
export const tagBytes = 16;

/** One direction of a connection. Keys are made of small numbers: nothing here is secret. */
export class FrameCipher {
  readonly #key: Buffer;
  readonly #nonce = Buffer.alloc(12);
  #count = 0;

  constructor(client: number, direction: "up" | "down") {
    this.#key = Buffer.alloc(32, direction === "up" ? 1 : 2);
    this.#key.writeUInt32LE(client);
  }

  /** Encrypts into `output` at `offset`; the plaintext's length and `tagBytes` more. */
  seal(plaintext: Uint8Array, output: Buffer, offset: number): void {
    sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
      output.subarray(offset, offset + plaintext.byteLength + tagBytes),
      plaintext,
      null,
      null,
      this.#next(),
      this.#key,
    );
  }

  /** Decrypts into `output` at `offset`. Throws where the frame is not the next. */
  open(frame: Uint8Array, output: Buffer, offset: number): void {
    sodium.crypto_aead_chacha20poly1305_ietf_decrypt(
      output.subarray(offset, offset + frame.byteLength - tagBytes),
      null,
      frame,
      null,
      this.#next(),
      this.#key,
    );
  }

  #next(): Buffer {
    this.#nonce.writeUInt32LE(this.#count, 4);
    this.#count += 1;
    return this.#nonce;
  }
}
