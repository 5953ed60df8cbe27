/** The name of the error that a bad case is refused with. */
import { ErrorCode, SyncError } from "../../wire/errors.ts";

/** Throws where nothing is refused, or by another error than the protocol's. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SyncError) return ErrorCode[error.code];
    throw error;
  }
  throw new Error("a bad case is accepted");
}
