/** Updates as entries: one that is too large for an entry goes as several, which are queued together. */
import { concatBytes } from "../../wire/bytes.ts";
import type { Entry, PushItem } from "../types.ts";

/** The content type of an update; parts of one say which they are: `…;part=2/3`. */
export const updateType = "application/x-yjs-update";
/** Content of one part: far below what any relay takes for an entry. */
const partBytes = 256 * 1024;

/** What is pushed for an update. */
export function itemsOf(update: Uint8Array): PushItem[] {
  const count = Math.ceil(update.byteLength / partBytes);
  if (count <= 1) return [{ data: update, contentType: updateType }];
  return Array.from({ length: count }, (_, at) => ({
    data: update.subarray(at * partBytes, (at + 1) * partBytes),
    contentType: `${updateType};part=${at + 1}/${count}`,
  }));
}

/** Whether an entry is an update, or a part of one. */
export function isUpdate({ contentType }: Pick<Entry, "contentType">): boolean {
  return contentType === updateType || partOf(contentType) !== undefined;
}

function partOf(
  contentType: string,
): { readonly part: number; readonly count: number } | undefined {
  if (!contentType.startsWith(`${updateType};part=`)) return undefined;
  const found = /^(\d{1,6})\/(\d{1,6})$/.exec(contentType.slice(updateType.length + 6));
  const [part, count] = [Number(found?.[1]), Number(found?.[2])];
  return part >= 1 && part <= count ? { part, count } : undefined;
}

interface Unfinished {
  readonly first: number;
  readonly count: number;
  readonly pieces: Uint8Array[];
}

/** Puts parts together. A sender's entries come in its order, so its parts stand next to each other in it. */
export class Joiner {
  readonly #unfinished = new Map<string, Unfinished>();

  /** Takes an entry. The update that is whole with it, if any. */
  take(entry: Pick<Entry, "sender" | "position" | "data" | "contentType">): Uint8Array | undefined {
    const place = partOf(entry.contentType);
    const begun = this.#unfinished.get(entry.sender);
    // Parts are queued all or none: whatever does not go on with them shows that the rest will not come.
    this.#unfinished.delete(entry.sender);
    if (place === undefined) return entry.contentType === updateType ? entry.data : undefined;
    const { part, count } = place;
    const before = part === 1 ? { first: entry.position, count, pieces: [] } : begun;
    if (before === undefined || before.count !== count || before.pieces.length !== part - 1) {
      return undefined;
    }
    const now = { ...before, pieces: [...before.pieces, entry.data] };
    if (part === count) return concatBytes(...now.pieces);
    this.#unfinished.set(entry.sender, now);
    return undefined;
  }

  /** The position of the first part of what is not whole: behind it nothing counts as applied. */
  get heldFrom(): number {
    return Math.min(...[...this.#unfinished.values()].map(({ first }) => first));
  }

  /** Lets go what senders began who will send no more. */
  keepOnly(senders: ReadonlySet<string>): void {
    for (const sender of this.#unfinished.keys()) {
      if (!senders.has(sender)) this.#unfinished.delete(sender);
    }
  }
}
