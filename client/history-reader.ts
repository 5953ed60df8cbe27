/** Reads a part of the log once more, for an app that wants to look back. Moves nothing. */
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { isRestart } from "./abandoned.ts";
import type { Core } from "./core.ts";
import type { Reader } from "./reader.ts";
import { openBody } from "./seal/blob.ts";
import { verifyWindow } from "./seal/history.ts";
import type { HistoryEntry } from "./types.ts";

/** Entries in (after, until], verified and opened; a body that is gone is left out. */
export async function* readHistory(
  core: Core,
  reader: Reader,
  after: number,
  until: number | undefined,
): AsyncGenerator<HistoryEntry, void, undefined> {
  const last = until ?? core.head ?? core.log.read;
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
      if (verdict.kind === "refused") throw new SyncError(verdict.code);
      if (verdict.kind !== "entry") throw new SyncError(ErrorCode.HISTORY_ALTERED);
      const { stored, header } = verdict;
      const { blob, sender } = stored;
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
