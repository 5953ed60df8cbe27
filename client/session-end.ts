/** What ends a session from within the client: what was shown on it does not hold, or the disk fails. */
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import { StateStoreError } from "./state-store.ts";

/** Ends it for the error's reason; the app hears of its disk, unless that was only closed. */
export function endSession(core: Core, session: Connection | undefined, error: unknown): void {
  // A chain that does not hold: the session is of no use.
  if (error instanceof SyncError) {
    session?.close(error);
    return;
  }
  if (error instanceof StateStoreError) {
    if (error.problem === "closed") return;
    core.failed(error);
    session?.close(new SyncError(ErrorCode.CONNECTION_LOST, { cause: error }));
    return;
  }
  throw error;
}
