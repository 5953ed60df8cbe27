/**
 * A store that is older than its log id says: its file was copied back by hand, or its disk lied.
 *
 * Nothing in such a store tells it. A device does, that has read what the log under that id does not
 * have; but those that have read less could not know what the others lack, and would take what comes
 * again for a lie. So the log goes on under another id, as a restored one does, and all of them learn it.
 */

import { equalBytes } from "../wire/bytes.ts";
import type { Draft } from "./draft.ts";
import type { GroupEntry } from "./group-state.ts";
import type { ReadPosition } from "./requests.ts";
import { dropWaiting } from "./snapshots.ts";
import type { FoundObject } from "./store/life.ts";
import { logChanged } from "./welcome.ts";

/** A group's log is renewed at most this often, in milliseconds: a member that lies moves all the others. */
const renewalsEveryMs = 60_000;

export class LogRenewals {
  readonly #nowMs: () => number;
  readonly #random: (length: number) => Uint8Array;
  readonly #last = new WeakMap<GroupEntry, number>();

  constructor(nowMs: () => number, random: (length: number) => Uint8Array) {
    this.#nowMs = nowMs;
    this.#random = random;
  }

  /** Whether the log is renewed for what a member says it has read, which is then taken as done. */
  due(group: GroupEntry, read: ReadPosition, linkAtCursor: Uint8Array | undefined): boolean {
    const { row } = group;
    if (!equalBytes(read.logId, row.logId) || !logChanged(row, read, linkAtCursor)) return false;
    const nowMs = this.#nowMs();
    const last = this.#last.get(group);
    if (last !== undefined && nowMs < last + renewalsEveryMs) return false;
    this.#last.set(group, nowMs);
    return true;
  }

  /** Plans another log id. A snapshot that waits was made of the log that was. */
  plan(draft: Draft, group: GroupEntry, waiting: readonly FoundObject[]): void {
    if (draft.gone(group)) return;
    dropWaiting(draft, group, waiting);
    draft.writableGroup(group).logId = this.#random(16);
  }
}
