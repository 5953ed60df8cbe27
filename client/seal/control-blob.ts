/**
 * Control blobs as bytes: a clear part the relay can read, a statement sealed
 * under the epoch that part names, and the author's signature over both and the
 * control head before. Whether a change is acceptable is decided in
 * `membership.ts`.
 */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Statement, StatementSchema } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import {
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { concatBytes, emptyBytes, equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256, hashBytes } from "../../wire/hash.ts";
import { deviceIdBytes, signatureBytes } from "../../wire/ids.ts";
import { controlBytesMax } from "../../wire/limits.ts";
import { altered, decodeMessage, safeNumber } from "./checks.ts";
import { previousSecretBytes } from "./keyring.ts";
import { type DeviceKeys, verifySignature, wrapBytes } from "./keys.ts";
import { controlClearLabel, controlSignatureLabel, controlStatementLabel } from "./labels.ts";
import { pad, unpad } from "./padding.ts";
import { aeadOpen, aeadSeal, nonceBytes, type Random } from "./primitives.ts";

/** A sealed recovery record at most. */
export const recoveryRecordBytesMax = 1_024;

/** An epoch secret, sealed to one device. */
export interface Wrap {
  readonly deviceId: Uint8Array;
  readonly sealed: Uint8Array;
}

/** The clear part, checked. */
export interface ControlClear {
  readonly epoch: number;
  readonly previousHead: Uint8Array;
  readonly wraps: readonly Wrap[];
  /** Set where the change opens an epoch. */
  readonly keyCheck: Uint8Array | undefined;
  /** Set where it opens an epoch after the first. */
  readonly previousSecret: Uint8Array | undefined;
  /** Set where it admits a recovery phrase. */
  readonly recoveryRecord: Uint8Array | undefined;
}

/** A control blob, decoded and bounded; nothing in it is believed yet. */
export interface Control {
  readonly author: Uint8Array;
  readonly clear: ControlClear;
  readonly clearBytes: Uint8Array;
  readonly sealedStatement: Uint8Array;
  readonly signature: Uint8Array;
  /** The control head behind it. */
  readonly head: Uint8Array;
}

/** The control head that a control blob makes: BLAKE2b-256 of its stored bytes. */
export function controlHead(blob: Uint8Array): Uint8Array {
  return blake2b256(blob);
}

/** Reads a control blob. Throws HISTORY_ALTERED where it breaks a bound of its form. */
export function decodeControl(blob: Uint8Array): Control {
  const message = decodeMessage(
    ControlBlobSchema,
    blob,
    controlBytesMax,
    ErrorCode.HISTORY_ALTERED,
  );
  const { author, clear: clearBytes, sealedStatement, signature } = message;
  // The head covers these bytes and the signature does not, so there is one form
  // of them: a relay could else give one change two heads by a field it adds.
  const canonical = encodeControl({ author, clearBytes, sealedStatement, signature });
  if (
    author.byteLength !== deviceIdBytes ||
    signature.byteLength !== signatureBytes ||
    !equalBytes(canonical, blob)
  ) {
    throw altered();
  }
  return {
    author,
    clear: decodeClear(clearBytes),
    clearBytes,
    sealedStatement,
    signature,
    head: controlHead(blob),
  };
}

function decodeClear(bytes: Uint8Array): ControlClear {
  const message = decodeMessage(
    ControlClearSchema,
    bytes,
    controlBytesMax,
    ErrorCode.HISTORY_ALTERED,
  );
  const epoch = safeNumber(message.epoch, 1);
  const { previousHead, wraps, keyCheck, previousSecret, recoveryRecord } = message;
  if (
    epoch === undefined ||
    previousHead.byteLength !== hashBytes ||
    (keyCheck.byteLength !== 0 && keyCheck.byteLength !== hashBytes) ||
    (previousSecret.byteLength !== 0 && previousSecret.byteLength !== previousSecretBytes) ||
    recoveryRecord.byteLength > recoveryRecordBytesMax
  ) {
    throw altered();
  }
  for (const { deviceId, sealed } of wraps) {
    if (deviceId.byteLength !== deviceIdBytes || sealed.byteLength !== wrapBytes) throw altered();
  }
  return {
    epoch,
    previousHead,
    wraps,
    keyCheck: presentOr(keyCheck),
    previousSecret: presentOr(previousSecret),
    recoveryRecord: presentOr(recoveryRecord),
  };
}

function presentOr(bytes: Uint8Array): Uint8Array | undefined {
  return bytes.byteLength === 0 ? undefined : bytes;
}

function encodeControl(parts: {
  readonly author: Uint8Array;
  readonly clearBytes: Uint8Array;
  readonly sealedStatement: Uint8Array;
  readonly signature: Uint8Array;
}): Uint8Array {
  return toBinary(
    ControlBlobSchema,
    create(ControlBlobSchema, {
      author: parts.author,
      clear: parts.clearBytes,
      sealedStatement: parts.sealedStatement,
      signature: parts.signature,
    }),
  );
}

/** A statement, opened, with the bytes its author signed. */
export interface OpenedStatement {
  readonly statement: Statement;
  readonly bytes: Uint8Array;
}

/** Opens the statement of a control blob. Throws OPEN_FAILED, or HISTORY_ALTERED where it is none. */
export function openStatement(
  control: Control,
  at: { readonly groupId: Uint8Array; readonly statementKey: Uint8Array },
): OpenedStatement {
  const padded = aeadOpen(
    at.statementKey,
    control.sealedStatement,
    statementContext(at.groupId, control.author, control.clearBytes),
  );
  const bytes = padded === undefined ? undefined : unpad(padded);
  if (bytes === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  const statement = decodeMessage(
    StatementSchema,
    bytes,
    controlBytesMax,
    ErrorCode.HISTORY_ALTERED,
  );
  return { statement, bytes };
}

/** Whether a control blob's signature is its author's. */
export function verifyControl(
  control: Control,
  opened: OpenedStatement,
  at: { readonly groupId: Uint8Array; readonly signingKey: Uint8Array },
): boolean {
  return verifySignature(
    at.signingKey,
    signedControl(at.groupId, control.clear.previousHead, control.clearBytes, opened.bytes),
    control.signature,
  );
}

/** Makes a control blob: seals the statement, signs, encodes. Throws TOO_LARGE above its bound. */
export function sealControl(
  clear: ControlClear,
  statement: MessageInitShape<typeof StatementSchema>,
  at: {
    readonly groupId: Uint8Array;
    readonly keys: DeviceKeys;
    /** The key of `clear.epoch`. */
    readonly statementKey: Uint8Array;
    readonly random: Random;
  },
): Uint8Array {
  const author = at.keys.deviceId;
  const clearBytes = toBinary(
    ControlClearSchema,
    create(ControlClearSchema, {
      epoch: BigInt(clear.epoch),
      previousHead: clear.previousHead,
      wraps: clear.wraps.map(({ deviceId, sealed }) => ({ deviceId, sealed })),
      keyCheck: clear.keyCheck ?? emptyBytes,
      previousSecret: clear.previousSecret ?? emptyBytes,
      recoveryRecord: clear.recoveryRecord ?? emptyBytes,
    }),
  );
  const statementBytes = toBinary(StatementSchema, create(StatementSchema, statement));
  const sealedStatement = aeadSeal(
    at.statementKey,
    at.random(nonceBytes),
    statementContext(at.groupId, author, clearBytes),
    pad(statementBytes),
  );
  const signature = at.keys.sign(
    signedControl(at.groupId, clear.previousHead, clearBytes, statementBytes),
  );
  const blob = encodeControl({ author, clearBytes, sealedStatement, signature });
  if (blob.byteLength > controlBytesMax) throw new SyncError(ErrorCode.TOO_LARGE);
  return blob;
}

/** The associated data of a statement: group (32), author (32), clear part. */
function statementContext(
  groupId: Uint8Array,
  author: Uint8Array,
  clearBytes: Uint8Array,
): Uint8Array {
  return concatBytes(groupId, author, clearBytes);
}

/** What the author signs: label, group, previous head, hash of the clear part, hash of the statement. */
function signedControl(
  groupId: Uint8Array,
  previousHead: Uint8Array,
  clearBytes: Uint8Array,
  statementBytes: Uint8Array,
): Uint8Array {
  return concatBytes(
    controlSignatureLabel,
    groupId,
    previousHead,
    blake2b256(controlClearLabel, clearBytes),
    blake2b256(controlStatementLabel, statementBytes),
  );
}
