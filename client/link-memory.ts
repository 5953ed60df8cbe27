/**
 * The newest links of each sender, in memory: enough to compare with what other devices say they
 * saw, which nearly always is recent.
 */
import { linkBytes } from "../wire/ids.ts";
import type { ChainPlace } from "./seal/blob.ts";

/** Links kept of each sender. */
const linksMax = 4_096;

/** Links of consecutive seqs, end to end: one object for all, where one for each would keep the collector busy. */
interface Kept {
  first: number;
  count: number;
  bytes: Uint8Array;
}

export class LinkMemory {
  readonly #senders = new Map<string, Kept>();

  /** Remembers a verified place. Seqs of a sender rise; a jump forgets what came before. */
  add(sender: string, { seq, link }: ChainPlace): void {
    let kept = this.#senders.get(sender);
    if (kept === undefined || kept.first + kept.count !== seq) {
      kept = { first: seq, count: 0, bytes: new Uint8Array(16 * linkBytes) };
      this.#senders.set(sender, kept);
    }
    if (kept.count * linkBytes === kept.bytes.byteLength) makeRoom(kept);
    kept.bytes.set(link, kept.count * linkBytes);
    kept.count += 1;
  }

  /** The newest links of a sender, up to a number of them. */
  newest(sender: string, count: number): readonly Uint8Array[] {
    const kept = this.#senders.get(sender);
    if (kept === undefined) return [];
    const from = Math.max(0, kept.count - count);
    return Array.from({ length: kept.count - from }, (_, i) => linkAt(kept, from + i));
  }

  /** The link at a seq, where it is still known. */
  get(sender: string, seq: number): Uint8Array | undefined {
    const kept = this.#senders.get(sender);
    if (kept === undefined) return undefined;
    const index = seq - kept.first;
    return index >= 0 && index < kept.count ? linkAt(kept, index) : undefined;
  }
}

/** A copy: what it came from moves on. */
function linkAt({ bytes }: Kept, index: number): Uint8Array {
  return bytes.slice(index * linkBytes, (index + 1) * linkBytes);
}

/** Twice the room; where there are twice as many as are kept, the older half is forgotten first. */
function makeRoom(kept: Kept): void {
  const gone = kept.count < 2 * linksMax ? 0 : linksMax;
  kept.first += gone;
  kept.count -= gone;
  const left = kept.bytes.subarray(gone * linkBytes);
  kept.bytes = new Uint8Array(2 * left.byteLength);
  kept.bytes.set(left);
}
