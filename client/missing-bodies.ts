/**
 * What explains that the body of a blob is missing behind its signed header. The relay's word for it is
 * no explanation, only what somebody in the group signed is:
 *
 * - its sender gave it a lifetime: the relay may let it go, early too, and nobody here knows its age;
 * - a header names it under `deletes`: anybody's, or, with `force`, its own sender's;
 * - a snapshot that this device may believe covers its place.
 *
 * A header that deletes it may come later. So what is missing is provisional up to the head of the pull
 * that shows it, and withheld if nothing has explained it by then.
 */
import { equalBytes } from "../wire/bytes.ts";
import type { Header } from "./seal/header.ts";
import type { Positions } from "./seal/history.ts";

/** Whether the header that was signed with the body explains by itself that the body is missing. */
export function explainsItself({ ttlS }: Header): boolean {
  return ttlS > 0;
}

/** Whether a header of one sender may let go the bodies of another. */
export function mayDelete(header: Header, by: Uint8Array, of: Uint8Array): boolean {
  return !header.force || equalBytes(by, of);
}

/** Whether a snapshot's frontier covers a place. */
export function covered(frontier: Positions, sender: string, seq: number): boolean {
  return seq <= (frontier.get(sender)?.seq ?? 0);
}
