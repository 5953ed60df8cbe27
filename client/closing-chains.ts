/**
 * Which entries of removed devices count: those that lead up to the closing place that their remover
 * signed. Below it a removed device could sign another chain at any time, and a relay could show that.
 */

import type { StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { linkOf } from "./pages.ts";
import { decodeHeader } from "./seal/header.ts";
import type { Roster } from "./seal/membership.ts";

/** The links, as text, that lead up to each removed device's closing place in what a log shows. */
export async function closingLinks(
  log: AsyncIterable<readonly StoredBlob[]>,
  { groupId, roster }: { readonly groupId: Uint8Array; readonly roster: Roster },
): Promise<ReadonlySet<string>> {
  const previous = new Map<string, string>();
  for await (const blobs of log) {
    for (const stored of blobs) {
      if (roster.get(idText(stored.sender))?.closing === undefined) continue;
      try {
        const { previousLink } = decodeHeader(stored.blob?.header ?? new Uint8Array(0));
        previous.set(idText(linkOf(stored, groupId)), idText(previousLink));
      } catch (error) {
        // It leads up to nothing.
        if (!(error instanceof SyncError)) throw error;
      }
    }
  }
  const proven = new Set<string>();
  for (const { closing } of roster.values()) {
    // A link covers its sender, so nobody's chain leads through another's.
    for (let link = closing && idText(closing.link); link !== undefined && !proven.has(link); ) {
      const before = previous.get(link);
      if (before !== undefined) proven.add(link);
      link = before;
    }
  }
  return proven;
}
