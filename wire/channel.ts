/**
 * The Noise channel, as two types: a `Handshake` becomes a `Transport` and is
 * then of no use, so that what belongs to one cannot be done to the other.
 *
 * `noise-handshake` runs the handshake. After the split the transport encrypts
 * directly, into the caller's buffer. What
 * the library leaves to its caller is done here: the length of handshake
 * messages, a Diffie-Hellman result of zero, the reuse of a failed state, and
 * the end of its 32-bit nonce counter.
 */
import { ErrorCode } from "../gen/syncrelay/sync/v1/error_pb.ts";
import { copyBytes, isZero } from "./bytes.ts";
import { chacha } from "./chacha.ts";
import { SyncError } from "./errors.ts";
import {
  handshakeBytesMax,
  noiseMessageBytesMax,
  noiseMessagesMax,
  noisePlaintextBytesMax,
  noiseTagBytes,
} from "./limits.ts";
import { curve, Noise } from "./noise.ts";

/** An X25519 key pair: 32 bytes each. */
export interface KeyPair {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** 32 bytes. */
  readonly secretKey: Uint8Array;
}

/** The key pair of a 32-byte X25519 secret (RFC 7748, section 5). */
export function keyPairOf(secretKey: Uint8Array): KeyPair {
  if (secretKey.byteLength !== curve.SKLEN) throw new RangeError("an X25519 secret has 32 bytes");
  const pair = curve.generateKeyPair(copyBytes(secretKey));
  return { publicKey: copyBytes(pair.publicKey), secretKey: pair.secretKey };
}

/** X25519 as the handshake calls it. */
export interface Curve {
  /** The length of what `dh` gives, in bytes. */
  readonly DHLEN: number;
  /** The length of a public key, in bytes. */
  readonly PKLEN: number;
  /** The length of a secret key, in bytes. */
  readonly SKLEN: number;
  /** The curve's name in a Noise protocol's name. */
  readonly ALG: string;
  /** A key pair of that secret key, or of a new one. */
  generateKeyPair(secretKey?: Uint8Array): KeyPair;
  /** The shared secret, `DHLEN` bytes. */
  dh(publicKey: Uint8Array, keyPair: KeyPair): Uint8Array;
}

/**
 * The library's curve, refusing the all-zero result that a remote key of small
 * order leads to (RFC 7748, section 6.1). `sodium-native` refuses it by itself,
 * `sodium-javascript` does not.
 */
export const checkedCurve: Curve = {
  ...curve,
  dh(publicKey: Uint8Array, keyPair: KeyPair): Uint8Array {
    const shared = curve.dh(publicKey, keyPair);
    if (isZero(shared)) throw new SyncError(ErrorCode.HANDSHAKE_FAILED);
    return shared;
  },
};

/** What a handshake starts from. */
export interface HandshakeOptions {
  /** Which side this is: the initiator writes the first message. */
  readonly role: "initiator" | "responder";
  /** This side's static key pair. */
  readonly keyPair: KeyPair;
  /** What both sides must agree on beforehand (Noise specification, section 6). */
  readonly prologue: Uint8Array;
  /** Exactly 32 bytes: makes the pattern XXpsk0 instead of XX. */
  readonly psk?: Uint8Array;
  /**
   * The secret of this side's ephemeral key, for vectors and simulations. Left
   * out, the library draws a fresh one, which nothing else may stand in for.
   */
  readonly ephemeralSecret?: Uint8Array;
}

/**
 * A handshake under way: three messages, written and read in turn.
 *
 * A call that fails ends it, one out of turn too, and wipes its keys; every cause
 * is the one code HANDSHAKE_FAILED, and nothing read before the failure counts.
 */
export class Handshake {
  #noise: Noise | undefined;
  #next: "write" | "read" | "finished";
  #messagesLeft = 3;

  constructor(options: HandshakeOptions) {
    if (options.psk !== undefined && options.psk.byteLength !== 32) {
      // The library takes shorter ones, which weakens the pairing unnoticed.
      throw new RangeError("a psk has exactly 32 bytes");
    }
    const { publicKey, secretKey } = options.keyPair;
    if (publicKey.byteLength !== curve.PKLEN || secretKey.byteLength !== curve.SKLEN) {
      throw new RangeError("an X25519 key has 32 bytes");
    }
    this.#next = options.role === "initiator" ? "write" : "read";
    const noise = new Noise(
      options.psk === undefined ? "XX" : "XXpsk0",
      options.role === "initiator",
      { publicKey: copyBytes(publicKey), secretKey: copyBytes(secretKey) },
      {
        curve: checkedCurve,
        ...(options.psk === undefined ? {} : { psk: copyBytes(options.psk) }),
      },
    );
    noise.initialise(options.prologue);
    if (options.ephemeralSecret !== undefined) noise.e = keyPairOf(options.ephemeralSecret);
    this.#noise = noise;
  }

  /** What comes next; `finished` once all three messages passed. */
  get next(): "write" | "read" | "finished" {
    return this.#next;
  }

  /** The other side's static key, once it was received. It counts only when the handshake has finished. */
  get remoteKey(): Uint8Array | undefined {
    const key = this.#noise?.rs;
    return key === null || key === undefined ? undefined : copyBytes(key);
  }

  /** The next message to send, with a payload. */
  write(payload: Uint8Array): Uint8Array {
    const noise = this.#turn("write");
    try {
      const message = copyBytes(noise.send(payload));
      if (message.byteLength > handshakeBytesMax) throw new RangeError("payload too large");
      this.#passed("read");
      return message;
    } catch (cause) {
      throw this.#failed(cause);
    }
  }

  /** Takes the other side's next message and returns its payload. */
  read(message: Uint8Array): Uint8Array {
    const noise = this.#turn("read");
    try {
      if (message.byteLength > handshakeBytesMax) throw new RangeError("message too large");
      // A copy: on completion the library wipes the start of what it was given.
      const payload = copyBytes(noise.recv(copyBytes(message)));
      this.#passed("write");
      return payload;
    } catch (cause) {
      throw this.#failed(cause);
    }
  }

  /** The transport. Once only, and only where `next` is `finished`. */
  finish(): Transport {
    const noise = this.#noise;
    if (!noise?.complete || !noise.tx || !noise.rx || !noise.rs || !noise.hash) {
      throw this.#failed();
    }
    const transport = new Transport({
      sendKey: copyBytes(noise.tx),
      receiveKey: copyBytes(noise.rx),
      remoteKey: copyBytes(noise.rs),
      handshakeHash: copyBytes(noise.hash),
    });
    this.#drop();
    return transport;
  }

  #turn(turn: "write" | "read"): Noise {
    if (this.#noise === undefined || this.#next !== turn) throw this.#failed();
    return this.#noise;
  }

  #passed(next: "write" | "read"): void {
    this.#messagesLeft -= 1;
    this.#next = this.#messagesLeft === 0 ? "finished" : next;
  }

  #failed(cause?: unknown): SyncError {
    this.#drop();
    return new SyncError(ErrorCode.HANDSHAKE_FAILED, { cause });
  }

  /** Wipes what the library leaves: all of it after a failure, all but its own state at the end. */
  #drop(): void {
    const noise = this.#noise;
    this.#noise = undefined;
    if (noise === undefined) return;
    for (const secret of [
      noise.s.secretKey,
      noise.e?.secretKey,
      noise.psk,
      noise.key,
      noise.chainingKey,
      noise.tx,
      noise.rx,
    ]) {
      secret?.fill(0);
    }
  }
}

/** What the split leaves (Noise specification, section 5.2). The transport owns and wipes it. */
export interface TransportKeys {
  /** The key that this side seals with, 32 bytes. */
  readonly sendKey: Uint8Array;
  /** The key that it opens with, 32 bytes. */
  readonly receiveKey: Uint8Array;
  /** The other side's static key, 32 bytes: proven by the handshake. */
  readonly remoteKey: Uint8Array;
  /** What names this handshake and no other, 64 bytes. */
  readonly handshakeHash: Uint8Array;
}

/**
 * An authenticated channel: ChaCha20-Poly1305 each way, each message with the
 * next nonce (Noise specification, sections 5.1 and 12.4). Messages must arrive whole
 * and in order. A message that does not open ends the channel, and its keys are
 * wiped.
 */
export class Transport {
  /** The other side's static key, authenticated. */
  readonly remoteKey: Uint8Array;
  /** Binds what is said elsewhere to this channel (Noise specification, section 11.2). */
  readonly handshakeHash: Uint8Array;
  readonly #sendKey: Uint8Array;
  readonly #receiveKey: Uint8Array;
  readonly #sendNonce: Nonce;
  readonly #receiveNonce: Nonce;
  #open = true;

  /** `counts`: how many messages have passed each way already; for tests of their end. */
  constructor(keys: TransportKeys, counts = { sent: 0, received: 0 }) {
    this.#sendNonce = new Nonce(counts.sent);
    this.#receiveNonce = new Nonce(counts.received);
    this.remoteKey = keys.remoteKey;
    this.handshakeHash = keys.handshakeHash;
    this.#sendKey = keys.sendKey;
    this.#receiveKey = keys.receiveKey;
  }

  /**
   * Whether the channel should be made anew soon: one direction has used half
   * of the messages it may carry.
   */
  get aging(): boolean {
    return Math.max(this.#sendNonce.count, this.#receiveNonce.count) >= noiseMessagesMax / 2;
  }

  /**
   * Encrypts one message into `output` at `offset`, and returns how many bytes
   * that took: those of the plaintext and 16 more. Throws RECORD_INVALID where
   * the channel has ended, as it does when its nonces do.
   */
  encryptInto(plaintext: Uint8Array, output: Uint8Array, offset: number): number {
    if (!this.#open) throw new SyncError(ErrorCode.RECORD_INVALID);
    if (plaintext.byteLength > noisePlaintextBytesMax) throw new RangeError("plaintext too large");
    const length = plaintext.byteLength + noiseTagBytes;
    // Before the nonce is used: one that is skipped would end the channel at the other side.
    if (length > output.byteLength - offset) throw new RangeError("output too small");
    if (this.#sendNonce.spent) {
      this.close();
      throw new SyncError(ErrorCode.RECORD_INVALID);
    }
    chacha.seal(this.#sendKey, this.#sendNonce.next(), plaintext, part(output, offset, length));
    return length;
  }

  /**
   * Decrypts one message into `output` at `offset`, and returns how many bytes
   * that gave. Throws RECORD_INVALID where it is not the next message. The output may
   * begin where the message does.
   */
  decryptInto(message: Uint8Array, output: Uint8Array, offset: number): number {
    if (!this.#open) throw new SyncError(ErrorCode.RECORD_INVALID);
    if (
      message.byteLength < noiseTagBytes ||
      message.byteLength > noiseMessageBytesMax ||
      this.#receiveNonce.spent
    ) {
      this.close();
      throw new SyncError(ErrorCode.RECORD_INVALID);
    }
    const length = message.byteLength - noiseTagBytes;
    if (length > output.byteLength - offset) throw new RangeError("output too small");
    try {
      chacha.open(
        this.#receiveKey,
        this.#receiveNonce.next(),
        message,
        part(output, offset, length),
      );
    } catch (cause) {
      this.close();
      throw new SyncError(ErrorCode.RECORD_INVALID, { cause });
    }
    return length;
  }

  /** `encryptInto` a new array: for the few messages of a pairing. */
  encrypt(plaintext: Uint8Array): Uint8Array {
    if (plaintext.byteLength > noisePlaintextBytesMax) throw new RangeError("plaintext too large");
    const message = new Uint8Array(plaintext.byteLength + noiseTagBytes);
    this.encryptInto(plaintext, message, 0);
    return message;
  }

  /** `decryptInto` a new array: for the few messages of a pairing. */
  decrypt(message: Uint8Array): Uint8Array {
    // What is too short or too long is refused below, and nothing is allocated for it.
    const fits = message.byteLength >= noiseTagBytes && message.byteLength <= noiseMessageBytesMax;
    const plaintext = new Uint8Array(fits ? message.byteLength - noiseTagBytes : 0);
    this.decryptInto(message, plaintext, 0);
    return plaintext;
  }

  /** Wipes the keys. Every later call fails. */
  close(): void {
    this.#open = false;
    this.#sendKey.fill(0);
    this.#receiveKey.fill(0);
  }
}

/** A part of an array: itself where that is all of it, since even a view is an object to make. */
function part(bytes: Uint8Array, offset: number, length: number): Uint8Array {
  return length === bytes.byteLength ? bytes : bytes.subarray(offset, offset + length);
}

/** A message counter in the form the cipher takes it: 4 zero bytes, then little-endian (section 12.4). */
class Nonce {
  readonly #bytes = new Uint8Array(12);
  readonly #view = new DataView(this.#bytes.buffer);
  count: number;

  constructor(count: number) {
    this.count = count;
  }

  /** Whether the channel must end now. */
  get spent(): boolean {
    return this.count >= noiseMessagesMax;
  }

  next(): Uint8Array {
    this.#view.setUint32(4, this.count, true);
    this.count += 1;
    return this.#bytes;
  }
}
