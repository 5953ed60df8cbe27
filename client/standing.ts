/** Whether the client may do what is asked of it: open, and a member of a group. */
import { DeviceState_Membership } from "../gen/syncrelay/state/v1/state_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Core } from "./core.ts";
import { UsageError } from "./usage-error.ts";

export class Standing {
  readonly #core: Core;
  readonly #closing = new AbortController();

  constructor(core: Core) {
    this.#core = core;
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Aborts when the client is closed. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  close(): void {
    this.#closing.abort(new UsageError("the client was closed"));
  }

  get removed(): boolean {
    return this.#core.device.membership === DeviceState_Membership.REMOVED;
  }

  checkOpen(): void {
    if (this.closed) throw new UsageError("the client was closed");
  }

  checkMember(): void {
    this.checkOpen();
    if (this.removed) throw removedError();
    if (this.#core.device.membership !== DeviceState_Membership.MEMBER) {
      throw new SyncError(ErrorCode.NOT_A_MEMBER, {
        hint: "this device is in no group yet: found one, or join one",
      });
    }
  }

  /** What waits for the relay waits in vain once this device is removed. */
  async unlessRemoved<T>(work: Promise<T>): Promise<T> {
    let off = (): void => undefined;
    const removed = new Promise<never>((_resolve, reject) => {
      const consider = (): void => {
        if (this.removed) reject(removedError());
      };
      off = this.#core.events.on("membership", consider);
      consider();
    });
    try {
      return await Promise.race([work, removed]);
    } finally {
      off();
    }
  }
}

function removedError(): SyncError {
  return new SyncError(ErrorCode.DEVICE_REVOKED, {
    hint: "what it had, and what was queued, is still here; it can join again as a new device",
  });
}
