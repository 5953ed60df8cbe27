/** Where a snapshot that was taken over leaves the log. */
import type { Positions } from "./seal/history.ts";

/** What the log goes on behind. */
export interface Taken {
  readonly logId: Uint8Array;
  readonly cursor: number;
  readonly link: Uint8Array;
  /** Undefined: the places that are known stay, the state contained the snapshot already. */
  readonly senders: Positions | undefined;
  /** Given to the state; undefined where the app was handed none. */
  readonly position: number | undefined;
}
