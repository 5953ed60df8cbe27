/** Hands stored entries to the app, in log order, from the first that was not acknowledged. */
import type { Parts } from "./parts.ts";
import type { Standing } from "./standing.ts";
import type { Entry } from "./types.ts";

export async function* entryFeed(
  parts: Parts,
  standing: Standing,
  options: { readonly signal?: AbortSignal; readonly untilCaughtUp?: boolean },
): AsyncGenerator<Entry, void, undefined> {
  const { core, inbox, reader } = parts;
  const { signal } = options;
  const wake = (): void => inbox.wake();
  signal?.addEventListener("abort", wake);
  const over = (): boolean => inbox.closed || signal?.aborted === true;
  try {
    let position = core.app.acknowledged + 1;
    while (!over()) {
      if (inbox.held) {
        await inbox.changed();
        continue;
      }
      const page = await inbox.page(position);
      if (page === undefined) {
        if (options.untilCaughtUp === true && (reader.caughtUp || standing.removed)) return;
        await inbox.changed();
        continue;
      }
      position = Math.max(position, page.first);
      for (const end = page.first + page.items.length; position < end && !over() && !inbox.held; ) {
        const at = position;
        position += 1;
        if (!inbox.isAcknowledged(at)) yield inbox.entry(page, at - page.first);
      }
    }
  } finally {
    signal?.removeEventListener("abort", wake);
  }
}
