/**
 * XX and XXpsk0 once more, from the Noise specification (revision 34) and on
 * other primitives: a peer that shares no code with the channel. `noise-c.wasm`
 * knows psk patterns only by their names of before revision 33, so this stands in
 * for it there; on XX the two are held to each other.
 */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";
import { concatBytes, utf8 } from "../../wire/bytes.ts";

type Token = "psk" | "e" | "s" | "ee" | "es" | "se";

/** Section 7.5, and 9.4 for the psk. */
const messagePatterns: readonly (readonly Token[])[] = [["e"], ["e", "ee", "s", "es"], ["s", "se"]];

const none = new Uint8Array(0);

/** Section 5.1. */
export class ReferenceCipher {
  readonly #key: Uint8Array;
  #nonce = 0n;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  encrypt(associatedData: Uint8Array, plaintext: Uint8Array): Uint8Array {
    return chacha20poly1305(this.#key, this.#next(), associatedData).encrypt(plaintext);
  }

  decrypt(associatedData: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    return chacha20poly1305(this.#key, this.#next(), associatedData).decrypt(ciphertext);
  }

  #next(): Uint8Array {
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setBigUint64(4, this.#nonce++, true);
    return nonce;
  }
}

/** Sections 5.2 and 5.3. */
export class ReferenceHandshake {
  readonly #initiator: boolean;
  readonly #psk: Uint8Array | undefined;
  readonly #secrets: { readonly s: Uint8Array; readonly e: Uint8Array };
  readonly #remote: { s: Uint8Array; e: Uint8Array } = { s: none, e: none };
  #chainingKey: Uint8Array;
  #cipher: ReferenceCipher | undefined;
  #message = 0;
  /** h */
  hash: Uint8Array;

  constructor(
    initiator: boolean,
    prologue: Uint8Array,
    staticSecret: Uint8Array,
    ephemeralSecret: Uint8Array,
    psk?: Uint8Array,
  ) {
    this.#initiator = initiator;
    this.#psk = psk;
    this.#secrets = { s: staticSecret, e: ephemeralSecret };
    this.hash = new Uint8Array(64);
    const pattern = psk === undefined ? "XX" : "XXpsk0";
    this.hash.set(utf8(`Noise_${pattern}_25519_ChaChaPoly_BLAKE2b`));
    this.#chainingKey = this.hash;
    this.#mixHash(prologue);
  }

  get remoteKey(): Uint8Array {
    return this.#remote.s;
  }

  write(payload: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const token of this.#tokens()) {
      if (token === "e") {
        const e = x25519.getPublicKey(this.#secrets.e);
        parts.push(e);
        this.#mixEphemeral(e);
      } else if (token === "s") {
        parts.push(this.#encryptAndHash(x25519.getPublicKey(this.#secrets.s)));
      } else this.#mix(token);
    }
    parts.push(this.#encryptAndHash(payload));
    return concatBytes(...parts);
  }

  read(message: Uint8Array): Uint8Array {
    let rest = message;
    for (const token of this.#tokens()) {
      if (token === "e") {
        this.#remote.e = rest.slice(0, 32);
        rest = rest.subarray(32);
        this.#mixEphemeral(this.#remote.e);
      } else if (token === "s") {
        this.#remote.s = this.#decryptAndHash(rest.slice(0, 48));
        rest = rest.subarray(48);
      } else this.#mix(token);
    }
    return this.#decryptAndHash(rest);
  }

  split(): { send: ReferenceCipher; receive: ReferenceCipher; sendKey: Uint8Array } {
    const keys = this.#hkdf(none, 2).map((key) => key.slice(0, 32)) as [Uint8Array, Uint8Array];
    if (!this.#initiator) keys.reverse();
    return {
      send: new ReferenceCipher(keys[0]),
      receive: new ReferenceCipher(keys[1]),
      sendKey: keys[0],
    };
  }

  #tokens(): readonly Token[] {
    const index = this.#message++;
    const tokens = messagePatterns[index] ?? [];
    return index === 0 && this.#psk !== undefined ? ["psk", ...tokens] : tokens;
  }

  #mixEphemeral(key: Uint8Array): void {
    this.#mixHash(key);
    // Section 9.2: in a psk handshake a public key is also mixed into the keys.
    if (this.#psk !== undefined) this.#mixKey(key);
  }

  #mix(token: Exclude<Token, "e" | "s">): void {
    if (token === "psk") {
      const [ck, hash, key] = this.#hkdf(this.#psk ?? none, 3);
      this.#chainingKey = ck as Uint8Array;
      this.#mixHash(hash as Uint8Array);
      this.#cipher = new ReferenceCipher((key as Uint8Array).slice(0, 32));
      return;
    }
    // The first letter is the initiator's key, the second the responder's.
    const [own, other] = this.#initiator ? [token[0], token[1]] : [token[1], token[0]];
    this.#mixKey(
      x25519.getSharedSecret(this.#secrets[own as "s" | "e"], this.#remote[other as "s" | "e"]),
    );
  }

  #mixKey(input: Uint8Array): void {
    const [ck, key] = this.#hkdf(input, 2);
    this.#chainingKey = ck as Uint8Array;
    this.#cipher = new ReferenceCipher((key as Uint8Array).slice(0, 32));
  }

  #mixHash(data: Uint8Array): void {
    this.hash = blake2b(concatBytes(this.hash, data));
  }

  #encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.#cipher?.encrypt(this.hash, plaintext) ?? plaintext;
    this.#mixHash(ciphertext);
    return ciphertext;
  }

  #decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const plaintext = this.#cipher?.decrypt(this.hash, ciphertext) ?? ciphertext;
    this.#mixHash(ciphertext);
    return plaintext;
  }

  /** Section 4.3. */
  #hkdf(input: Uint8Array, outputs: number): Uint8Array[] {
    const temporary = hmac(blake2b, this.#chainingKey, input);
    const result: Uint8Array[] = [];
    for (let i = 1; i <= outputs; i++) {
      const previous = result.at(-1) ?? none;
      result.push(hmac(blake2b, temporary, concatBytes(previous, Uint8Array.of(i))));
    }
    return result;
  }
}
