/** What the wire tests share: fixed keys, and two sides of a channel without a network between them. */
import { readFileSync } from "node:fs";
import { Handshake, type HandshakeOptions, keyPairOf, type Transport } from "../../wire/channel.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { prologue } from "../../wire/protocol.ts";

/** 32 equal bytes: keys that anybody can type. */
export function filled(byte: number, length = 32): Uint8Array {
  return new Uint8Array(length).fill(byte);
}

/** The patterns under test; the psk makes XX XXpsk0. */
export const patterns = [
  { pattern: "XX", psk: undefined },
  { pattern: "XXpsk0", psk: filled(0x55) },
] as const;

/** One side of a handshake with fixed keys. */
export function side(
  role: HandshakeOptions["role"],
  psk?: Uint8Array,
  change: Partial<HandshakeOptions> = {},
): Handshake {
  const first = role === "initiator";
  return new Handshake({
    role,
    keyPair: keyPairOf(filled(first ? 0x11 : 0x22)),
    ephemeralSecret: filled(first ? 0x33 : 0x44),
    prologue,
    ...(psk === undefined ? {} : { psk }),
    ...change,
  });
}

/** Two sides that have not spoken yet. */
export function sides(psk?: Uint8Array): { initiator: Handshake; responder: Handshake } {
  return { initiator: side("initiator", psk), responder: side("responder", psk) };
}

/** A whole handshake, and the two transports it leaves. */
export function channel(psk?: Uint8Array): { device: Transport; relay: Transport } {
  const { initiator, responder } = sides(psk);
  responder.read(initiator.write(filled(0, 0)));
  initiator.read(responder.write(filled(0, 0)));
  responder.read(initiator.write(filled(0, 0)));
  return { device: initiator.finish(), relay: responder.finish() };
}

/** For `assert.throws`: a SyncError of one of these codes. */
export function syncError(...codes: ErrorCode[]): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof SyncError && codes.includes(error.code)) return true;
    throw new Error(`not a SyncError of ${codes.join(", ")}`, { cause: error });
  };
}

export const handshakeFailed = syncError(ErrorCode.HANDSHAKE_FAILED);
export const recordInvalid = syncError(ErrorCode.RECORD_INVALID);

/** A vector file beside the tests. */
export function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), "utf8")) as T;
}
