/**
 * Links that senders themselves have given up, by signing it: whoever still names one names no other
 * history. Kept on disk, the newest of each sender.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AbandonedLinksSchema } from "../gen/syncrelay/state/v1/history_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { decode } from "./disk.ts";
import type { Header } from "./seal/header.ts";
import type { StateTransaction } from "./state-store.ts";

const keys = { from: "abandoned/", to: "abandoned0" } as const;
/** Links kept of each sender. */
const linksMax = 128;

/** What one restart gives up. */
export interface Abandoning {
  readonly sender: string;
  readonly links: readonly Uint8Array[];
}

/** Whether an entry says nothing but that its sender gives up a link: apps have no use for it. */
export function isRestart(
  { abandonedLink }: Header,
  { data, contentType }: { readonly data: Uint8Array; readonly contentType: string },
): boolean {
  return abandonedLink !== undefined && data.byteLength === 0 && contentType === "";
}

export class Abandoned {
  readonly #links = new Map<string, readonly Uint8Array[]>();

  async load(tx: StateTransaction): Promise<void> {
    for (const { key, value } of await tx.range("log", keys.from, keys.to)) {
      const { links } = decode(() => fromBinary(AbandonedLinksSchema, value));
      this.#links.set(key.slice(keys.from.length), links);
    }
  }

  has(sender: string, link: Uint8Array): boolean {
    return this.#links.get(sender)?.some((each) => equalBytes(each, link)) === true;
  }

  /** Keeps links. What it returns takes them over once they are on disk. */
  add(tx: StateTransaction, given: readonly Abandoning[]): () => void {
    const next = new Map<string, readonly Uint8Array[]>();
    for (const { sender, links } of given) {
      const before = next.get(sender) ?? this.#links.get(sender) ?? [];
      const fresh = links.filter((link) => !before.some((each) => equalBytes(each, link)));
      if (fresh.length === 0) continue;
      next.set(sender, [...before, ...fresh.map((link) => Uint8Array.from(link))].slice(-linksMax));
    }
    for (const [sender, links] of next) {
      const message = create(AbandonedLinksSchema, { links: [...links] });
      tx.put("log", keys.from + sender, toBinary(AbandonedLinksSchema, message));
    }
    return () => {
      for (const [sender, links] of next) this.#links.set(sender, links);
    };
  }
}
