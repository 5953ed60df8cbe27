/**
 * Short codes: `XXXX-XXXX-XXXX-XXXX` in Crockford's base 32. The first half finds
 * the mailbox, the second becomes the psk of the pairing handshake. It has 40 bits:
 * a stranger at the mailbox guesses once an attempt, but the relay sees the joiner's
 * first message, whose tag tells whether a guess is right. So each guess is made
 * to cost a stretching, and is worth something for ten minutes.
 */
import { base32crockford } from "@scure/base";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { rendezvousIdBytes } from "../../wire/ids.ts";
import { pairingCodeSaltLabel } from "./labels.ts";
import { type CodeCost, stretch, stretchSaltBytes } from "./primitives.ts";

/** The secret half of a code. */
export const codeSecretBytes = 5;
/** What stretching costs unless a caller says otherwise: 64 MiB, 3 passes. */
export const codeCostDefault: CodeCost = { memoryKiB: 64 * 1024, passes: 3 };

/** A code's two halves. */
export interface ShortCode {
  /** The mailbox, 5 bytes. */
  readonly rendezvousId: Uint8Array;
  /** 5 random bytes. */
  readonly secret: Uint8Array;
}

/** A code as people read it out: four groups of four. */
export function formatCode(code: ShortCode): string {
  if (
    code.rendezvousId.byteLength !== rendezvousIdBytes ||
    code.secret.byteLength !== codeSecretBytes
  ) {
    throw new RangeError("each half of a code has 5 bytes");
  }
  // Each half by itself is 8 characters of 5 bits.
  const text = base32crockford.encode(code.rendezvousId) + base32crockford.encode(code.secret);
  return text.replace(/(.{4})(?=.)/g, "$1-");
}

/**
 * Reads a code in any case, with spaces and dashes anywhere, o for 0 and i or l
 * for 1. Throws INVITE_INVALID, with a hint, where it is none.
 */
export function parseCode(text: string): ShortCode {
  const digits = text
    .slice(0, 64)
    .replace(/[\s-]/g, "")
    .toUpperCase()
    .replaceAll("O", "0")
    .replace(/[IL]/g, "1");
  if (text.length > 64 || !/^[0-9A-HJKMNP-TV-Z]{16}$/.test(digits)) {
    throw new SyncError(ErrorCode.INVITE_INVALID, {
      hint: "a code has 16 letters and digits, as in 7K3M-Q9TX-4HNB-2WJE",
    });
  }
  return {
    rendezvousId: base32crockford.decode(digits.slice(0, 8)),
    secret: base32crockford.decode(digits.slice(8)),
  };
}

/**
 * The psk of a code: Argon2id (RFC 9106) of its secret, salted with the mailbox
 * and the relay's key, so that no table of codes serves for two pairings.
 */
export function pskOfCode(
  code: ShortCode,
  relayKey: Uint8Array,
  cost: CodeCost = codeCostDefault,
): Promise<Uint8Array> {
  const hash = blake2b256(pairingCodeSaltLabel, code.rendezvousId, relayKey);
  const salt = hash.subarray(0, stretchSaltBytes);
  return stretch(code.secret, salt, cost);
}
