/**
 * What is so, whatever anybody says: what the relay's disk holds, what apps pushed, and what they
 * were told about it. The invariants that can be checked the moment something happens are checked here.
 */
import type { CommitBatch } from "../../server/store/contract.ts";
import { idText } from "../../wire/ids.ts";
import type { World } from "./world.ts";

/** A blob on the relay's disk. */
export interface LoggedBlob {
  readonly cursor: number;
  readonly blobId: string;
  readonly sender: string;
}

/** What an app asked to be pushed. */
export interface Pushed {
  /** Which device, and its how-manieth. */
  readonly name: string;
  readonly device: string;
  /** Pushed together: all or none. */
  readonly batch: number;
  readonly data: Uint8Array;
  readonly contentType: string;
  /** Known once it is queued. */
  blobId: string | undefined;
  /** The app was told that it is on the relay's disk. */
  durable: boolean;
}

export class Truth {
  readonly #world: World;
  readonly log: LoggedBlob[] = [];
  readonly #cursors = new Map<string, number>();
  readonly #deviceKeys = new Map<number, string>();
  readonly names = new Map<string, string>();
  readonly pushed: Pushed[] = [];
  readonly queued = new Map<string, Pushed>();

  constructor(world: World) {
    this.#world = world;
  }

  get head(): number {
    return this.log.length;
  }

  nameOf(deviceId: string): string {
    return this.names.get(deviceId) ?? deviceId;
  }

  /** A blob of the log; cursors begin at 1. */
  at(cursor: number): LoggedBlob | undefined {
    return this.log[cursor - 1];
  }

  cursorOf(blobId: string): number | undefined {
    return this.#cursors.get(blobId);
  }

  /** A commit is on the relay's disk. */
  committed(batch: CommitBatch): void {
    const world = this.#world;
    for (const row of batch.devices) {
      this.#deviceKeys.set(row.deviceKey, idText(row.deviceId));
      this.appliedOf(idText(row.deviceId), row.applied);
    }
    for (const row of batch.blobs) {
      const blobId = idText(row.blobId);
      const sender = this.#deviceKeys.get(row.deviceKey) ?? "?";
      if (row.cursor !== this.head + 1) {
        world.fail(`3: cursor ${row.cursor} is assigned behind ${this.head}`);
      }
      if (this.#cursors.has(blobId)) {
        world.fail(`2: ${blobId} is in the log at ${this.#cursors.get(blobId)} and ${row.cursor}`);
      }
      this.#cursors.set(blobId, row.cursor);
      this.log.push({ cursor: row.cursor, blobId, sender });
    }
    if (batch.blobs.length > 0) {
      world.detail(() => `relay's log reaches ${this.head}`);
    }
  }

  /** The relay knows how far a device has applied; set by whoever knows how far it really has. */
  appliedOf: (deviceId: string, applied: number) => void = () => undefined;

  /** Somebody speaks of a cursor. */
  seen(who: string, what: string, cursor: number): void {
    if (cursor > this.head) {
      this.#world.fail(`3: ${who} ${what} ${cursor}, and the relay's disk ends at ${this.head}`);
    }
  }

  /** The app was told that something it pushed is on the relay's disk. */
  durable(who: string, pushed: Pushed, cursor: number): void {
    pushed.durable = true;
    const at = this.cursorOf(pushed.blobId ?? "");
    if (at === undefined) {
      this.#world.fail(`1: ${who} was told that ${pushed.name} is durable, and it is not`);
    } else if (cursor !== 0 && cursor !== at) {
      this.#world.fail(`1: ${who} was told that ${pushed.name} is at ${cursor}; it is at ${at}`);
    }
  }
}
