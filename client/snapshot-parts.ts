/** What snapshots are made of, and put in the place of. */
import type { Core } from "./core.ts";
import type { Group } from "./group.ts";
import type { Inbox } from "./inbox.ts";
import type { Objects } from "./objects.ts";
import type { Outbox } from "./outbox.ts";
import type { Reader } from "./reader.ts";
import type { Refusals } from "./refusals.ts";

/** The parts of a client that snapshots deal with. */
export interface SnapshotParts {
  readonly core: Core;
  readonly group: Group;
  readonly inbox: Inbox;
  readonly objects: Objects;
  readonly outbox: Outbox;
  readonly reader: Reader;
  readonly refusals: Refusals;
}
