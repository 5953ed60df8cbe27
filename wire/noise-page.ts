/**
 * The handshakes XX and XXpsk0 of Noise (specification, revision 34) for pages, on noble's primitives: what
 * `noise-handshake` needs in a page, libsodium rewritten in JavaScript, would be a third of all a page loads.
 * It has that library's shape, so that the channel around it is one and the same; tests hold the two to each
 * other, to the published vectors and to a third implementation.
 */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";
import type { NoiseCurve, NoiseKeyPair } from "noise-handshake";
import { concatBytes, emptyBytes, utf8 } from "./bytes.ts";

const keyBytes = 32;
const tagBytes = 16;
/** HASHLEN of BLAKE2b, section 12.8. */
const hashBytes = 64;

/** X25519. A remote key of small order throws. */
export const curve: NoiseCurve = {
  DHLEN: keyBytes,
  PKLEN: keyBytes,
  SKLEN: keyBytes,
  ALG: "25519",
  generateKeyPair: (secretKey = x25519.utils.randomSecretKey()) => ({
    publicKey: x25519.getPublicKey(secretKey),
    secretKey,
  }),
  dh: (publicKey, { secretKey }) => x25519.getSharedSecret(secretKey, publicKey),
};

type Token = "psk" | "e" | "s" | "ee" | "es" | "se";

/** Section 7.5, and 9.4 for the psk. */
const patterns: Readonly<Record<"XX" | "XXpsk0", readonly (readonly Token[])[]>> = {
  XX: [["e"], ["e", "ee", "s", "es"], ["s", "se"]],
  XXpsk0: [
    ["psk", "e"],
    ["e", "ee", "s", "es"],
    ["s", "se"],
  ],
};

/** HandshakeState and SymmetricState, sections 5.2 and 5.3. */
export class Noise {
  s: NoiseKeyPair;
  e: NoiseKeyPair | null = null;
  psk: Uint8Array | null;
  key: Uint8Array | null = null;
  chainingKey: Uint8Array | null = null;
  rs: Uint8Array | null = null;
  tx: Uint8Array | null = null;
  rx: Uint8Array | null = null;
  hash: Uint8Array | null = null;
  complete = false;
  readonly #pattern: "XX" | "XXpsk0";
  readonly #initiator: boolean;
  readonly #curve: NoiseCurve;
  #messages: (readonly Token[])[];
  #re: Uint8Array = emptyBytes;
  #digest: Uint8Array = new Uint8Array(hashBytes);
  #nonce = 0;

  constructor(
    pattern: "XX" | "XXpsk0",
    initiator: boolean,
    staticKeyPair: NoiseKeyPair,
    options: { curve: NoiseCurve; psk?: Uint8Array },
  ) {
    this.#pattern = pattern;
    this.#messages = [...patterns[pattern]];
    this.#initiator = initiator;
    this.#curve = options.curve;
    this.s = staticKeyPair;
    this.psk = options.psk ?? null;
  }

  initialise(prologue: Uint8Array): void {
    // Shorter than a hash, so it stands for itself.
    this.#digest.set(utf8(`Noise_${this.#pattern}_25519_ChaChaPoly_BLAKE2b`));
    this.chainingKey = this.#digest;
    this.#mixHash(prologue);
  }

  send(payload: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const token of this.#next()) {
      if (token === "e") {
        this.e ??= this.#curve.generateKeyPair();
        parts.push(this.e.publicKey);
        this.#mixEphemeral(this.e.publicKey);
      } else if (token === "s") parts.push(this.#encryptAndHash(this.s.publicKey));
      else this.#mix(token);
    }
    parts.push(this.#encryptAndHash(payload));
    this.#split();
    return concatBytes(...parts);
  }

  recv(message: Uint8Array): Uint8Array {
    let rest = message;
    const take = (length: number): Uint8Array => {
      if (rest.byteLength < length) throw new RangeError("the message ends too soon");
      const part = rest.slice(0, length);
      rest = rest.subarray(length);
      return part;
    };
    for (const token of this.#next()) {
      if (token === "e") {
        this.#re = take(keyBytes);
        this.#mixEphemeral(this.#re);
      } else if (token === "s") this.rs = this.#decryptAndHash(take(keyBytes + tagBytes));
      else this.#mix(token);
    }
    const payload = this.#decryptAndHash(rest);
    this.#split();
    return payload;
  }

  #next(): readonly Token[] {
    const tokens = this.#messages.shift();
    if (tokens === undefined) throw new RangeError("the handshake is over");
    return tokens;
  }

  #mixEphemeral(key: Uint8Array): void {
    this.#mixHash(key);
    // Section 9.2: in a psk handshake a public key is also mixed into the keys.
    if (this.#pattern === "XXpsk0") this.#mixKey(key);
  }

  #mix(token: Exclude<Token, "e" | "s">): void {
    if (token === "psk") {
      const [chainingKey, hash, key] = this.#hkdf(this.psk ?? emptyBytes, 3);
      this.chainingKey = chainingKey as Uint8Array;
      this.#mixHash(hash as Uint8Array);
      this.#keyed(key as Uint8Array);
      return;
    }
    // The first letter is the initiator's key, the second the responder's.
    const [own, other] = this.#initiator ? [token[0], token[1]] : [token[1], token[0]];
    const pair = own === "e" ? this.e : this.s;
    const remote = other === "e" ? this.#re : this.rs;
    if (pair === null || remote === null) throw new RangeError("a key is not there yet");
    const shared = this.#curve.dh(remote, pair);
    this.#mixKey(shared);
    shared.fill(0);
  }

  #mixKey(input: Uint8Array): void {
    const [chainingKey, key] = this.#hkdf(input, 2);
    this.chainingKey = chainingKey as Uint8Array;
    this.#keyed(key as Uint8Array);
  }

  /** InitializeKey: a hash of 64 bytes is cut to a key. */
  #keyed(key: Uint8Array): void {
    this.key?.fill(0);
    this.key = key.slice(0, keyBytes);
    this.#nonce = 0;
  }

  #mixHash(data: Uint8Array): void {
    this.#digest = blake2b(concatBytes(this.#digest, data));
  }

  #encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.key === null ? plaintext : this.#cipher(this.key).encrypt(plaintext);
    this.#mixHash(ciphertext);
    return ciphertext;
  }

  #decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const plaintext =
      this.key === null ? ciphertext.slice() : this.#cipher(this.key).decrypt(ciphertext);
    this.#mixHash(ciphertext);
    return plaintext;
  }

  /** Section 12.3: four zero bytes and the counter; three messages need no more than the first of its bytes. */
  #cipher(key: Uint8Array): ReturnType<typeof chacha20poly1305> {
    const nonce = new Uint8Array(12);
    nonce[4] = this.#nonce;
    this.#nonce += 1;
    return chacha20poly1305(key, nonce, this.#digest);
  }

  /** Section 4.3. */
  #hkdf(input: Uint8Array, outputs: number): Uint8Array[] {
    const temporary = hmac(blake2b, this.chainingKey ?? emptyBytes, input);
    const result: Uint8Array[] = [];
    for (let i = 1; i <= outputs; i++) {
      const previous = result.at(-1) ?? emptyBytes;
      result.push(hmac(blake2b, temporary, concatBytes(previous, Uint8Array.of(i))));
    }
    temporary.fill(0);
    return result;
  }

  #split(): void {
    if (this.#messages.length > 0) return;
    const [first, second] = this.#hkdf(emptyBytes, 2) as [Uint8Array, Uint8Array];
    const [tx, rx] = this.#initiator ? [first, second] : [second, first];
    this.tx = tx.slice(0, keyBytes);
    this.rx = rx.slice(0, keyBytes);
    for (const secret of [first, second, this.key, this.chainingKey, this.e?.secretKey]) {
      secret?.fill(0);
    }
    this.hash = this.#digest;
    this.complete = true;
  }
}
