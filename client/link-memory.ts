/**
 * The newest links of each sender, in memory: enough to compare with what other devices say they
 * saw, which nearly always is recent.
 */
import type { ChainPlace } from "./seal/blob.ts";

/** Links kept of each sender. */
const linksMax = 4_096;

export class LinkMemory {
  readonly #senders = new Map<string, { first: number; links: Uint8Array[] }>();

  /** Remembers a verified place. Seqs of a sender rise; a jump forgets what came before. */
  add(sender: string, place: ChainPlace): void {
    let kept = this.#senders.get(sender);
    if (kept === undefined || kept.first + kept.links.length !== place.seq) {
      kept = { first: place.seq, links: [] };
      this.#senders.set(sender, kept);
    }
    kept.links.push(place.link);
    if (kept.links.length > 2 * linksMax) {
      kept.links.splice(0, linksMax);
      kept.first += linksMax;
    }
  }

  /** The newest links of a sender, up to a number of them. */
  newest(sender: string, count: number): readonly Uint8Array[] {
    return this.#senders.get(sender)?.links.slice(-count) ?? [];
  }

  /** The link at a seq, where it is still known. */
  get(sender: string, seq: number): Uint8Array | undefined {
    const kept = this.#senders.get(sender);
    return kept?.links[seq - kept.first];
  }
}
