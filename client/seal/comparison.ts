/**
 * The comparison string: three words that both people read out, 33 bits of what
 * only the two ends of one handshake share. The inviting device commits to its
 * nonce before it sees the joiner's, so that nobody between them can try nonces
 * until the words agree.
 */
import { wordlist } from "@scure/bip39/wordlists/english.js";
import { concatBytes } from "../../wire/bytes.ts";
import { comparisonLabel } from "./labels.ts";
import { deriveKey } from "./primitives.ts";

/** Words in a comparison string. */
export const comparisonWordsCount = 3;
/** Bits in a word: the list has 2,048. */
const wordBits = 11;

/**
 * The words of a finished handshake: HKDF-SHA-256 (RFC 5869) of the handshake
 * hash (Noise specification, section 11.2), salted with both nonces. Read as one
 * big-endian number, its first 33 bits are three numbers of 11, each a word of
 * the English list of BIP-39.
 */
export function comparisonWords(
  handshakeHash: Uint8Array,
  inviterNonce: Uint8Array,
  joinerNonce: Uint8Array,
): string[] {
  const bytes = deriveKey(handshakeHash, comparisonLabel, {
    salt: concatBytes(inviterNonce, joinerNonce),
  });
  const words: string[] = [];
  let held = 0;
  let heldBits = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    heldBits += 8;
    if (heldBits >= wordBits) {
      heldBits -= wordBits;
      words.push(wordlist[held >>> heldBits] as string);
      held &= (1 << heldBits) - 1;
    }
    if (words.length === comparisonWordsCount) break;
  }
  return words;
}
