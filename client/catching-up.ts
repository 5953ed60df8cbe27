/**
 * What the relay says of the membership while a session stands: the chain is brought there, one look at
 * a time. Of what is said meanwhile only the newest counts, so that no relay makes the device keep a
 * look for each time it says so.
 */
import type { MembershipVersion } from "../gen/syncrelay/sync/v1/error_pb.ts";
import type { Connection } from "./connection.ts";
import type { Group } from "./group.ts";

export interface CatchingUpHooks {
  /** The chain is where the relay said. */
  done(): void;
  failed(connection: Connection, error: unknown): void;
}

export class CatchingUp {
  readonly #group: Group;
  readonly #hooks: CatchingUpHooks;
  #looking: Connection | undefined;
  #next: MembershipVersion | undefined;

  constructor(group: Group, hooks: CatchingUpHooks) {
    this.#group = group;
    this.#hooks = hooks;
  }

  told(connection: Connection, version: MembershipVersion): void {
    this.#next = version;
    if (this.#looking === connection) return;
    this.#looking = connection;
    this.#look(connection).catch((error: unknown) => {
      if (this.#looking === connection) this.#looking = undefined;
      this.#hooks.failed(connection, error);
    });
  }

  /** The session is gone, and what it said with it. */
  end(): void {
    this.#looking = undefined;
    this.#next = undefined;
  }

  async #look(connection: Connection): Promise<void> {
    while (this.#looking === connection) {
      const version = this.#next;
      this.#next = undefined;
      if (version === undefined) {
        this.#looking = undefined;
        return;
      }
      await this.#group.catchUp(connection, version);
      if (this.#looking === connection) this.#hooks.done();
    }
  }
}
