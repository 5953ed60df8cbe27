/** What the relay refuses, as Connect tells it: the code of the table, and the schema's error as detail. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorCode, ErrorSchema } from "../../gen/syncrelay/sync/v1/error_pb.ts";
import { errorMessageOf, type SyncError } from "../../wire/errors.ts";

type KnownCode = Exclude<ErrorCode, ErrorCode.UNSPECIFIED>;

/** The Connect code of every error; those that are never sent have INTERNAL. */
export const connectCodes: Readonly<Record<KnownCode, Code>> = {
  [ErrorCode.UNREACHABLE]: Code.Unavailable,
  [ErrorCode.CONNECTION_LOST]: Code.Unavailable,
  [ErrorCode.TIMED_OUT]: Code.DeadlineExceeded,
  [ErrorCode.HANDSHAKE_FAILED]: Code.Unauthenticated,
  [ErrorCode.VERSION_UNSUPPORTED]: Code.FailedPrecondition,
  [ErrorCode.RELAY_KEY_MISMATCH]: Code.Unauthenticated,
  [ErrorCode.RECORD_INVALID]: Code.InvalidArgument,
  [ErrorCode.ENVELOPE_INVALID]: Code.InvalidArgument,
  [ErrorCode.ENVELOPE_UNEXPECTED]: Code.FailedPrecondition,
  [ErrorCode.TOO_LARGE]: Code.InvalidArgument,
  [ErrorCode.DEVICE_UNKNOWN]: Code.PermissionDenied,
  [ErrorCode.DEVICE_REVOKED]: Code.PermissionDenied,
  [ErrorCode.NOT_A_MEMBER]: Code.PermissionDenied,
  [ErrorCode.INVITE_INVALID]: Code.PermissionDenied,
  [ErrorCode.READ_ONLY]: Code.PermissionDenied,
  [ErrorCode.REGISTRATION_CLOSED]: Code.PermissionDenied,
  [ErrorCode.RATE_LIMITED]: Code.ResourceExhausted,
  [ErrorCode.QUOTA_EXCEEDED]: Code.ResourceExhausted,
  [ErrorCode.TOO_MANY_CONNECTIONS]: Code.ResourceExhausted,
  [ErrorCode.REPLACED]: Code.Aborted,
  [ErrorCode.LOG_CHANGED]: Code.DataLoss,
  [ErrorCode.LINK_CONFLICT]: Code.AlreadyExists,
  [ErrorCode.EPOCH_STALE]: Code.FailedPrecondition,
  [ErrorCode.MEMBERSHIP_CONFLICT]: Code.Aborted,
  [ErrorCode.OUT_OF_ORDER]: Code.FailedPrecondition,
  [ErrorCode.EPOCH_AHEAD]: Code.FailedPrecondition,
  [ErrorCode.DRAINING]: Code.Unavailable,
  [ErrorCode.STORE_UNAVAILABLE]: Code.Unavailable,
  [ErrorCode.INTERNAL]: Code.Internal,
  [ErrorCode.KEY_MISSING]: Code.Internal,
  [ErrorCode.OPEN_FAILED]: Code.Internal,
  [ErrorCode.HISTORY_ALTERED]: Code.Internal,
  [ErrorCode.WRONG_KEY]: Code.Internal,
  [ErrorCode.DEVICE_FORKED]: Code.Internal,
};

/** The error of the schema as Connect's. Its cause and its hint stay here. */
export function connectErrorOf(error: SyncError): ConnectError {
  const message = errorMessageOf(error);
  const code = connectCodes[message.code as KnownCode] ?? Code.Internal;
  return new ConnectError(message.message, code, undefined, [
    { desc: ErrorSchema, value: message },
  ]);
}

/** A mistake in a request: names the field and what it may be, never what was sent. */
export function invalid(text: string): ConnectError {
  return new ConnectError(text, Code.InvalidArgument);
}

export function notFound(what: string): ConnectError {
  return new ConnectError(`no such ${what}`, Code.NotFound);
}

export function precondition(text: string): ConnectError {
  return new ConnectError(text, Code.FailedPrecondition);
}
