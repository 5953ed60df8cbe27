/**
 * What a program's exit code says, and how any failure becomes one. The codes
 * follow the classes of the error table, so a script can act on the number alone.
 */
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";

/** The exit codes of both programs. */
export const ExitCode = {
  /** Done. */
  done: 0,
  /** A defect, here or on the other side. */
  defect: 1,
  /** The command cannot be carried out as it was written. */
  usage: 2,
  /** Somebody refused: the relay, the other device, a person, or another process. */
  refused: 3,
  /** Not reachable now; the same command may work later. */
  unreachable: 4,
  /** A limit: slow down or make room. */
  limit: 5,
  /** Relay and device disagree about the log. */
  log: 6,
  /** An entry could not be opened or believed. */
  sealing: 7,
  /** Stopped by SIGINT, as shells count it. */
  interrupted: 130,
} as const;

/** One of the exit codes. */
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** What the help texts print about exit codes. */
export const exitCodesHelp = `Exit codes:
  0 done   1 defect or protocol fault   2 wrong usage   3 refused   4 not reachable now
  5 limit reached   6 log disagreement   7 sealing   130 interrupted`;

/** A failure that is not the wire's: what was asked for cannot be done on this machine as it is. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exit: ExitCode;
  /** A word that programs compare, in upper case like the names of the error table. */
  readonly codeName: string;
  /** What to do next; empty where there is nothing more to say. */
  readonly hint: string;

  constructor(
    exit: ExitCode,
    codeName: string,
    message: string,
    options: { readonly hint?: string; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exit = exit;
    this.codeName = codeName;
    this.hint = options.hint ?? "";
  }
}

/** The command was written wrongly: exit code 2. */
export function usageError(message: string, hint?: string): CommandError {
  return new CommandError(ExitCode.usage, "USAGE", message, hint === undefined ? {} : { hint });
}

/** A failure as both forms of output show it. */
export interface Failure {
  readonly exit: number;
  /** The number in the error table; 0 where it is none of the wire's. */
  readonly code: number;
  readonly name: string;
  readonly message: string;
  readonly hint: string;
}

/** What a person does next, where the error itself does not say. */
const hints: Partial<Record<ErrorCode, string>> = {
  [ErrorCode.UNREACHABLE]:
    "check that the relay runs and that its address is right; what is queued stays queued",
  [ErrorCode.CONNECTION_LOST]: "run the command again; what is queued stays queued",
  [ErrorCode.TIMED_OUT]: "run the command again; what is queued stays queued",
  [ErrorCode.HANDSHAKE_FAILED]:
    "check the relay's address, and that nothing between alters traffic",
  [ErrorCode.RELAY_KEY_MISMATCH]:
    "ask whoever runs the relay for what `sync-relay address` prints; nothing was sent to this one",
  [ErrorCode.DEVICE_UNKNOWN]: "pair this device again: sync-cli pair --join CODE",
  [ErrorCode.DEVICE_REVOKED]: "this device can only join again with a new state folder",
  [ErrorCode.NOT_A_MEMBER]: "pair this device again: sync-cli pair --join CODE",
  [ErrorCode.INVITE_INVALID]: "ask for a new one: each works once and not for long",
  [ErrorCode.REGISTRATION_CLOSED]:
    "ask whoever runs the relay for an invite: sync-cli init … --invite CODE",
  [ErrorCode.RATE_LIMITED]: "wait a minute and run the command again",
  [ErrorCode.QUOTA_EXCEEDED]:
    "delete what is not needed, or ask whoever runs the relay for more space",
  [ErrorCode.TOO_MANY_CONNECTIONS]: "wait a minute and run the command again",
  [ErrorCode.REPLACED]: "only one process at a time can be this device",
  [ErrorCode.DRAINING]: "the relay restarts; run the command again in a moment",
  [ErrorCode.STORE_UNAVAILABLE]:
    "whoever runs the relay must look at its disk; what is queued stays queued",
  [ErrorCode.INTERNAL]: "whoever runs the relay finds the cause in its log",
};

/** Errors of the operating system that a person can mend. */
const systemFailures: Readonly<
  Record<string, { readonly exit: ExitCode; readonly message: string; readonly hint: string }>
> = {
  ENOENT: { exit: ExitCode.usage, message: "no such file or folder", hint: "" },
  ENOTDIR: { exit: ExitCode.usage, message: "not a folder", hint: "" },
  EISDIR: { exit: ExitCode.usage, message: "a folder, not a file", hint: "" },
  EACCES: { exit: ExitCode.refused, message: "permission denied", hint: "" },
  EPERM: { exit: ExitCode.refused, message: "not permitted", hint: "" },
  EROFS: { exit: ExitCode.refused, message: "the file system is read-only", hint: "" },
  ENOSPC: {
    exit: ExitCode.limit,
    message: "no space left on this disk",
    hint: "make room and run the command again",
  },
  EDQUOT: {
    exit: ExitCode.limit,
    message: "the disk quota is used up",
    hint: "make room and run the command again",
  },
  EMFILE: { exit: ExitCode.limit, message: "too many open files", hint: "" },
};

interface SystemError extends Error {
  readonly code: string;
  readonly path?: string;
}

function isSystemError(error: unknown): error is SystemError {
  return error instanceof Error && "syscall" in error && "code" in error;
}

/** Turns whatever was thrown into what is shown and into the exit code. */
export function failureOf(error: unknown): Failure {
  if (error instanceof CommandError) {
    return {
      exit: error.exit,
      code: 0,
      name: error.codeName,
      message: error.message,
      hint: error.hint,
    };
  }
  if (error instanceof SyncError) {
    const row = errorRow(error.code);
    return {
      exit: row.exit,
      code: error.code,
      name: error.codeName,
      message: messageOf(error),
      hint: error.hint ?? hints[error.code] ?? "",
    };
  }
  if (isSystemError(error)) {
    const known = systemFailures[error.code];
    if (known !== undefined) {
      const message = error.path === undefined ? known.message : `${error.path}: ${known.message}`;
      return { exit: known.exit, code: 0, name: error.code, message, hint: known.hint };
    }
  }
  const message = error instanceof Error ? error.message : String(error);
  return {
    exit: ExitCode.defect,
    code: 0,
    name: "DEFECT",
    message: `a defect of this program: ${message}`,
    hint: "run it again with SYNC_DEBUG=1 for where it happened, and report it",
  };
}

/** The table's sentence, with what the error's details add for a person. */
function messageOf(error: SyncError): string {
  const { detail } = error;
  if (detail?.case === "tooLarge" && detail.value.limit !== undefined) {
    return `${error.message}: at most ${detail.value.limit} bytes`;
  }
  if (detail?.case === "quota" && detail.value.limitBytes !== undefined) {
    const whose = detail.value.store === true ? "the relay's" : "the group's";
    return `${error.message}: ${whose} ${detail.value.limitBytes} bytes`;
  }
  return error.message;
}
