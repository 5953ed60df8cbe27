/**
 * Whether a snapshot's frontier is what this device verified: nothing left out that stands at or below
 * the place it replaces, and nothing in it that this device knows otherwise.
 */
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { Core } from "./core.ts";
import type { Reader } from "./reader.ts";
import type { ChainPlace } from "./seal/blob.ts";
import { type Positions, verifyWindow } from "./seal/history.ts";

/** What a frontier is held against. */
export interface Known {
  /** Where each sender stood at the place that is replaced. */
  readonly places: Positions;
  /** Where each sender stands now. */
  readonly senders: Positions;
  /** A link this device verified, where it is still known. */
  readonly linkOf: (sender: string, seq: number) => Uint8Array | undefined;
}

/** Whether a frontier says what this device knows. */
export function agrees(frontier: Positions, known: Known): boolean {
  for (const [sender, place] of known.places) {
    const claimed = frontier.get(sender);
    if (claimed === undefined || claimed.seq < place.seq) return false;
    if (claimed.seq === place.seq && !equalBytes(claimed.link, place.link)) return false;
  }
  for (const [sender, claimed] of frontier) {
    if (claimed.seq <= (known.places.get(sender)?.seq ?? 0)) continue;
    const link = linkAt(known, sender, claimed.seq);
    if (link === undefined || !equalBytes(link, claimed.link)) return false;
  }
  return true;
}

function linkAt(known: Known, sender: string, seq: number): Uint8Array | undefined {
  const place = known.senders.get(sender);
  return place?.seq === seq ? place.link : known.linkOf(sender, seq);
}

/** Whether a state that contains `senders` contains all that a frontier says. */
export function contains(senders: Positions, frontier: Positions): boolean {
  for (const [sender, claimed] of frontier) {
    const place = senders.get(sender);
    if (place === undefined || place.seq < claimed.seq) return false;
    if (place.seq === claimed.seq && !equalBytes(place.link, claimed.link)) return false;
  }
  return true;
}

/**
 * Where each sender stood at a cursor that this device has read past: the relay is asked for what
 * follows it once more, and what that says was signed. Throws HISTORY_ALTERED where another blob
 * stands at the cursor, or what follows is not what it was.
 */
export async function placesAt(
  core: Core,
  reader: Reader,
  cursor: number,
  link: Uint8Array,
): Promise<Positions> {
  const { log } = core;
  const altered = (): SyncError => new SyncError(ErrorCode.HISTORY_ALTERED);
  if (cursor > log.read) throw altered();
  if (cursor === log.read) {
    if (!equalBytes(link, log.link)) throw altered();
    return log.senders;
  }
  const before = new Map<string, ChainPlace>();
  let met = false;
  for await (const blobs of reader.again(cursor - 1, log.read)) {
    const { chain } = core;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const { verdicts } = verifyWindow(blobs, {
      groupId: core.groupId,
      roster: chain.devices,
      positions: new Map(),
      reading: "again",
    });
    for (const verdict of verdicts) {
      if (verdict.kind !== "entry" && verdict.kind !== "dropped") throw altered();
      const { stored, header, place } = verdict;
      if (Number(stored.cursor) === cursor) {
        if (!equalBytes(place.link, link)) throw altered();
        met = true;
        continue;
      }
      const sender = idText(stored.sender);
      if (before.has(sender)) continue;
      before.set(sender, { seq: header.seq - 1, link: header.previousLink });
    }
  }
  if (!met) throw altered();
  const places = new Map(log.senders);
  for (const [sender, place] of before) {
    if (place.seq === 0) places.delete(sender);
    else places.set(sender, place);
  }
  return places;
}
