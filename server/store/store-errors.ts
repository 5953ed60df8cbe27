/**
 * Errors of SQLite and of the file system become `SyncError`s here, once: what
 * an operator can mend is STORE_UNAVAILABLE with a sentence that says how, and
 * everything else is a defect. The original is kept as the cause.
 */
import { ErrorCode, SyncError } from "../../wire/errors.ts";

/** What a person does about a failure of the store, by the code of SQLite or of the system. */
const hints: Readonly<Record<string, string>> = {
  SQLITE_FULL: "the disk is full: make room and the relay goes on by itself",
  SQLITE_IOERR: "the disk did not read or write: look at the system's log",
  SQLITE_READONLY: "the data folder cannot be written: look at its owner and its mount",
  SQLITE_CORRUPT: "the store is damaged: stop the relay and restore a backup",
  SQLITE_NOTADB: "the store's file is not a database: restore a backup",
  SQLITE_BUSY: "another program holds the store's file locked: close it",
  SQLITE_LOCKED: "another program holds the store's file locked: close it",
  SQLITE_PROTOCOL: "the store's file could not be locked: look for another program that uses it",
  SQLITE_CANTOPEN: "the store's file cannot be opened: look at the data folder's owner and mount",
  SQLITE_PERM: "the store's file may not be opened: look at the data folder's owner",
  SQLITE_NOMEM: "no memory was left for the store",
  EACCES: "the data folder may not be used by this user: look at its owner",
  EPERM: "the data folder may not be used by this user: look at its owner",
  EROFS: "the data folder is on a read-only file system",
  ENOSPC: "the disk is full: make room",
  EDQUOT: "the disk quota is used up: make room",
  EIO: "the disk did not read or write: look at the system's log",
  ENOTDIR: "the data folder's path leads through a file",
  EEXIST: "the data folder's path is a file",
  ENOENT: "the store's file is not there any more",
  EMFILE: "the process has too many files open: raise its limit",
  ENFILE: "the system has too many files open",
};

/** The `SyncError` of whatever went wrong below; one that is one already stays as it is. */
export function storeError(cause: unknown): SyncError {
  if (cause instanceof SyncError) return cause;
  const hint = hints[codeOf(cause)];
  return hint === undefined
    ? new SyncError(ErrorCode.INTERNAL, { cause })
    : new SyncError(ErrorCode.STORE_UNAVAILABLE, { cause, hint });
}

/** A STORE_UNAVAILABLE that only its sentence explains. */
export function storeUnavailable(hint: string, cause?: unknown): SyncError {
  return new SyncError(ErrorCode.STORE_UNAVAILABLE, { hint, cause });
}

/** Whether a disk, or its quota, is full. */
export function isDiskFull(error: unknown): boolean {
  const cause = error instanceof SyncError ? error.cause : error;
  return ["SQLITE_FULL", "ENOSPC", "EDQUOT"].includes(codeOf(cause));
}

/** Whether SQLite did not understand a statement: a column or a table is not there. */
export function isStatementError(error: unknown): boolean {
  return codeOf(error instanceof SyncError ? error.cause : error) === "SQLITE_ERROR";
}

function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}
