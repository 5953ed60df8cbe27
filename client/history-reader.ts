/** Reads a part of the log once more, for an app that wants to look back. Moves nothing. */

import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { isRestart } from "./abandoned.ts";
import { closingLinks } from "./closing-chains.ts";
import type { Core } from "./core.ts";
import { linkOf } from "./pages.ts";
import type { Reader } from "./reader.ts";
import { openBody } from "./seal/blob.ts";
import { verifyWindow } from "./seal/history.ts";
import type { ControlChain } from "./seal/membership.ts";
import type { HistoryEntry } from "./types.ts";

/**
 * Entries in (after, until], verified and opened. Left out is what is not there any more, and what does
 * not count: of a sender that is no member, and of a removed device what does not lead up to its
 * closing place.
 */
export async function* readHistory(
  core: Core,
  reader: Reader,
  after: number,
  until: number | undefined,
): AsyncGenerator<HistoryEntry, void, undefined> {
  const last = until ?? core.head ?? core.log.read;
  let counting: { readonly chain: ControlChain; readonly links: ReadonlySet<string> } | undefined;
  for await (const blobs of reader.again(after, last)) {
    const { chain } = core;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const { verdicts } = verifyWindow(blobs, {
      groupId: core.groupId,
      roster: chain.devices,
      positions: new Map(),
      reading: "again",
    });
    for (const verdict of verdicts) {
      if (verdict.kind === "dropped") continue;
      if (verdict.kind === "refused") {
        if (verdict.finding === FindingKind.STRANGER) continue;
        throw new SyncError(verdict.code);
      }
      if (verdict.kind !== "entry") throw new SyncError(ErrorCode.HISTORY_ALTERED);
      const { stored, header } = verdict;
      const { blob, sender } = stored;
      if (chain.devices.get(idText(sender))?.closing !== undefined) {
        if (counting?.chain !== chain) {
          const log = reader.again(after, core.log.read);
          const at = { groupId: core.groupId, roster: chain.devices };
          counting = { chain, links: await closingLinks(log, at) };
        }
        if (!counting.links.has(idText(linkOf(stored, core.groupId)))) continue;
      }
      const bodyKey = chain.keyring.bodyKey(Number(blob?.epoch ?? 0n));
      if (blob === undefined || bodyKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
      const entry = openBody(blob, header, { groupId: core.groupId, sender, bodyKey });
      if (isRestart(header, entry)) continue;
      const senderText = idText(sender);
      yield {
        blobId: idText(blob.blobId),
        cursor: Number(stored.cursor),
        sender: senderText,
        seq: header.seq,
        own: senderText === core.deviceText,
        data: entry.data,
        contentType: entry.contentType,
      };
    }
  }
}
