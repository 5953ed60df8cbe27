/**
 * libsodium as the client's primitives have it, remembering signatures that held. Each is verified by
 * every device that meets it, and again at each start: in a simulation by one process. Whatever is not
 * the same key, message and signature is verified.
 */
import { sodium as native, type Sodium } from "../../wire/libsodium.ts";

interface Held {
  readonly publicKey: Uint8Array;
  readonly message: Uint8Array;
}

/** As many as a few stories have. */
const most = 4_000;
const held = new Map<string, Held>();

function verify(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  const key = Buffer.from(signature.buffer, signature.byteOffset, signature.byteLength);
  const name = key.toString("latin1");
  const known = held.get(name);
  if (known !== undefined && same(known.publicKey, publicKey) && same(known.message, message)) {
    return true;
  }
  const holds = native?.crypto_sign_verify_detached(signature, message, publicKey) === true;
  if (holds) {
    if (held.size >= most) held.clear();
    held.set(name, { publicKey: new Uint8Array(publicKey), message: new Uint8Array(message) });
  }
  return holds;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

export const sodium: Sodium | undefined =
  native === undefined
    ? undefined
    : Object.create(native, { crypto_sign_verify_detached: { value: verify } });
