/**
 * The one error class and the one table. What each code means stands in
 * `proto/syncrelay/sync/v1/error.proto`; here stands what follows from it.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ErrorCode,
  type Error as ErrorMessage,
  ErrorSchema,
} from "../gen/syncrelay/sync/v1/error_pb.ts";

export { ErrorCode };

/** What stops: the request, the whole session, or one entry; or nothing. */
export type ErrorEnds = "request" | "session" | "entry" | "nothing";

/**
 * When to try again: with back-off; only after something differs; or never with
 * this device and group.
 */
export type ErrorAgain = "later" | "changed" | "never";

/** What follows from a code. */
export interface ErrorRow {
  /** As in the schema, without `ERROR_CODE_`. */
  readonly name: string;
  /** One sentence for people, lower case, at most 123 bytes: a close reason holds no more. */
  readonly message: string;
  /** What it stops: the request, the session, one entry, or nothing. */
  readonly ends: ErrorEnds;
  /** Whether and when asking again makes sense. */
  readonly again: ErrorAgain;
  /** Whether one side may tell the other. */
  readonly sent: boolean;
  /** The exit code of the command line. */
  readonly exit: number;
}

type KnownCode = Exclude<ErrorCode, ErrorCode.UNSPECIFIED>;

function row(
  name: string,
  message: string,
  ends: ErrorEnds,
  again: ErrorAgain,
  exit: number,
  sent = true,
): ErrorRow {
  return { name, message, ends, again, exit, sent };
}

/** Every code's row. */
// biome-ignore format: one code, one line.
export const errorTable: Readonly<Record<KnownCode, ErrorRow>> = {
  [ErrorCode.UNREACHABLE]: row("UNREACHABLE", "the relay cannot be reached", "session", "later", 4, false),
  [ErrorCode.CONNECTION_LOST]: row("CONNECTION_LOST", "the connection was lost", "session", "later", 4, false),
  [ErrorCode.TIMED_OUT]: row("TIMED_OUT", "no answer came in time", "session", "later", 4, false),

  [ErrorCode.HANDSHAKE_FAILED]: row("HANDSHAKE_FAILED", "the handshake failed", "session", "later", 3),
  [ErrorCode.VERSION_UNSUPPORTED]: row("VERSION_UNSUPPORTED", "no protocol version in common; update the older side", "session", "changed", 3),
  [ErrorCode.RELAY_KEY_MISMATCH]: row("RELAY_KEY_MISMATCH", "the relay's key is not the one in its address", "session", "never", 3, false),

  [ErrorCode.RECORD_INVALID]: row("RECORD_INVALID", "a record was not valid", "session", "changed", 1),
  [ErrorCode.ENVELOPE_INVALID]: row("ENVELOPE_INVALID", "an envelope was not valid", "session", "changed", 1),
  [ErrorCode.ENVELOPE_UNEXPECTED]: row("ENVELOPE_UNEXPECTED", "that request is not possible on this session", "session", "changed", 1),
  [ErrorCode.TOO_LARGE]: row("TOO_LARGE", "larger than the limit", "request", "changed", 1),

  [ErrorCode.DEVICE_UNKNOWN]: row("DEVICE_UNKNOWN", "this device is not known in the group", "session", "changed", 3),
  [ErrorCode.DEVICE_REVOKED]: row("DEVICE_REVOKED", "this device was removed from the group", "session", "never", 3),
  [ErrorCode.NOT_A_MEMBER]: row("NOT_A_MEMBER", "not a member of that group", "request", "changed", 3),
  [ErrorCode.INVITE_INVALID]: row("INVITE_INVALID", "the invite is wrong, used, expired or cancelled", "request", "changed", 3),
  [ErrorCode.READ_ONLY]: row("READ_ONLY", "the group takes no changes now", "request", "changed", 3),
  [ErrorCode.REGISTRATION_CLOSED]: row("REGISTRATION_CLOSED", "founding a group on this relay needs an invite", "request", "changed", 3),

  [ErrorCode.RATE_LIMITED]: row("RATE_LIMITED", "too many requests", "request", "later", 5),
  [ErrorCode.QUOTA_EXCEEDED]: row("QUOTA_EXCEEDED", "the space on the relay is used up", "request", "changed", 5),
  [ErrorCode.TOO_MANY_CONNECTIONS]: row("TOO_MANY_CONNECTIONS", "too many connections", "session", "later", 5),
  [ErrorCode.REPLACED]: row("REPLACED", "this device connected again elsewhere", "session", "never", 5),

  [ErrorCode.LOG_CHANGED]: row("LOG_CHANGED", "the relay's log is not the one it was", "nothing", "changed", 6, false),
  [ErrorCode.LINK_CONFLICT]: row("LINK_CONFLICT", "that place in this device's chain is taken", "request", "changed", 6),
  [ErrorCode.EPOCH_STALE]: row("EPOCH_STALE", "sealed under an old epoch", "request", "changed", 6),
  [ErrorCode.MEMBERSHIP_CONFLICT]: row("MEMBERSHIP_CONFLICT", "the group's membership changed meanwhile", "request", "changed", 6),
  [ErrorCode.OUT_OF_ORDER]: row("OUT_OF_ORDER", "not this device's next blob", "request", "changed", 6),
  [ErrorCode.EPOCH_AHEAD]: row("EPOCH_AHEAD", "sealed under an epoch this relay does not know", "request", "changed", 6),

  [ErrorCode.DRAINING]: row("DRAINING", "the relay is shutting down", "session", "later", 4),
  [ErrorCode.STORE_UNAVAILABLE]: row("STORE_UNAVAILABLE", "the relay cannot write to its store now", "request", "later", 4),
  [ErrorCode.INTERNAL]: row("INTERNAL", "a defect of the relay", "session", "later", 1),

  [ErrorCode.KEY_MISSING]: row("KEY_MISSING", "no key for that epoch", "request", "changed", 7, false),
  [ErrorCode.OPEN_FAILED]: row("OPEN_FAILED", "an entry cannot be opened: wrong key, or altered", "entry", "never", 7, false),
  [ErrorCode.HISTORY_ALTERED]: row("HISTORY_ALTERED", "the history was altered", "entry", "never", 7, false),
  [ErrorCode.WRONG_KEY]: row("WRONG_KEY", "the key is not that epoch's", "request", "changed", 7, false),
  [ErrorCode.DEVICE_FORKED]: row("DEVICE_FORKED", "one device wrote two histories", "entry", "changed", 7, false),
};

/**
 * What follows from a code that this version does not know: its class, the
 * hundreds digit, says who must act. No row claims more than the class does.
 */
const classTable: Readonly<Record<number, ErrorRow>> = {
  1: row("ROAD", "the network failed", "session", "later", 4, false),
  2: row("HANDSHAKE", "the handshake failed", "session", "later", 3),
  3: row("PROTOCOL", "something sent was not valid", "session", "changed", 1),
  4: row("REFUSED", "refused", "request", "changed", 3),
  5: row("LIMIT", "a limit is reached", "request", "later", 5),
  6: row("LOG", "the two sides disagree about the log", "request", "changed", 6),
  7: row("RELAY", "the relay cannot do that now", "request", "later", 4),
  8: row("SEAL", "an entry cannot be opened or sealed", "request", "changed", 7, false),
};

const inNoClass: ErrorRow = row("UNKNOWN", "an unknown error", "session", "later", 1);

/** The row of a code, of its class where this version does not know it, or of an unknown error. */
export function errorRow(code: ErrorCode | number): ErrorRow {
  return errorTable[code as KnownCode] ?? classTable[Math.floor(code / 100)] ?? inNoClass;
}

/** The WebSocket close code of an error: inside the range kept for applications. */
export function closeCodeOf(code: ErrorCode): number {
  return 4000 + (isInRange(code) ? code : ErrorCode.INTERNAL);
}

/**
 * The error of a WebSocket close code; undefined where it is none of ours, or
 * one that no side tells the other.
 */
export function errorOfCloseCode(closeCode: number): ErrorCode | undefined {
  const code = closeCode - 4000;
  return isInRange(code) && errorRow(code).sent ? code : undefined;
}

/** Whether a number can be a code at all: three digits, so that a close code can carry it. */
function isInRange(code: number): boolean {
  return Number.isInteger(code) && code >= 100 && code < 1000;
}

/** What may go with an error. */
export interface SyncErrorOptions {
  /** Replaces the table's sentence: for what a person does next. Never sent. */
  readonly hint?: string;
  /** Typed details, as the schema has them beside the code. */
  readonly detail?: ErrorDetail;
  /** Wait at least so long before trying again, in milliseconds. */
  readonly retryAfterMs?: number;
  /** What went wrong below. Never leaves the process. */
  readonly cause?: unknown;
}

/** Typed details, as `syncrelay.sync.v1.Error` carries them. */
export type ErrorDetail = NonNullable<MessageInitShape<typeof ErrorSchema>["detail"]>;

/** Everything that can go wrong and is not a defect, on both ends and between them. */
export class SyncError extends Error {
  override readonly name = "SyncError";
  /** Which error: the hundreds digit says who must act. */
  readonly code: ErrorCode;
  /** What a person can do next, where there is more to say than the sentence. */
  readonly hint: string | undefined;
  /** What the code alone does not say, such as the limit that was met. */
  readonly detail: ErrorDetail | undefined;
  /** How long to wait before asking again, in milliseconds; 0 where it does not say. */
  readonly retryAfterMs: number;

  constructor(code: ErrorCode, options: SyncErrorOptions = {}) {
    super(
      errorRow(code).message,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.hint = options.hint;
    this.detail = options.detail;
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }

  /** The code's name, as people and machines quote it. */
  get codeName(): string {
    return errorTable[this.code as KnownCode]?.name ?? `CODE_${this.code}`;
  }
}

/**
 * The message that tells an error: its code, the table's sentence, its details.
 * Nothing of its cause. What is never sent becomes INTERNAL.
 */
export function errorMessageOf(error: SyncError): ErrorMessage {
  const known = error.code !== ErrorCode.UNSPECIFIED && errorRow(error.code).sent;
  const code = known ? error.code : ErrorCode.INTERNAL;
  return create(ErrorSchema, {
    code,
    message: errorRow(code).message,
    retryAfterMs: wholeMs(error.retryAfterMs),
    ...(error.detail === undefined || !known ? {} : { detail: error.detail }),
  });
}

/** A time as the schema holds it: whole, and never shorter than it was. */
function wholeMs(ms: number): number {
  return ms > 0 ? Math.min(Math.ceil(ms), 0xffff_ffff) : 0;
}

/**
 * The error that a message tells. The peer's sentence is not shown: the table has
 * one per code. A code that nobody may send is ENVELOPE_INVALID, so that no
 * relay's word passes for what only a device can find.
 */
export function errorOfMessage(message: ErrorMessage): SyncError {
  if (message.code === ErrorCode.UNSPECIFIED || !errorRow(message.code).sent) {
    return new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  return new SyncError(message.code, {
    retryAfterMs: message.retryAfterMs,
    ...(message.detail.case === undefined ? {} : { detail: message.detail }),
  });
}
