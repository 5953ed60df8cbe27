/**
 * Reads what a device asks into requests that hold only what was checked. What
 * is wrong here is the sender's defect: the errors end its session, except for
 * a blob that is too large. Pure.
 */
import { create } from "@bufbuild/protobuf";
import {
  TooLarge_Subject,
  TooLargeSchema,
  VersionRangeSchema,
} from "../gen/syncrelay/sync/v1/error_pb.ts";
import type { Blob, Push } from "../gen/syncrelay/sync/v1/log_pb.ts";
import {
  type ChangeMembership,
  ControlBlobSchema,
  ControlClearSchema,
} from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { HelloSchema, MemberRole } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { decodeHeader } from "../wire/blob-header.ts";
import { copyBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import {
  blobIdBytes,
  blobLink,
  deviceIdBytes,
  groupIdBytes,
  groupInviteBytes,
  linkBytes,
  logIdBytes,
  signatureBytes,
  zeroLink,
} from "../wire/ids.ts";
import { batchBlobsMax, controlBytesMax, helloBytesMax, membersMax } from "../wire/limits.ts";
import { decodePart } from "../wire/message-shape.ts";
import { protocolVersions } from "../wire/protocol.ts";
import type { ChangeRequest, PushBlob, PushRequest } from "./group-log.ts";

/** A device's first words, checked. */
export interface HelloRequest {
  readonly version: number;
  /** Absent: a session without a group. */
  readonly groupId: Uint8Array | undefined;
  readonly read: ReadPosition | undefined;
  /** A group invite, by which a device that is not on the group's roster wants to come back. */
  readonly invite?: Uint8Array;
}

/** Up to where a device has read, as it says. */
export interface ReadPosition {
  readonly logId: Uint8Array;
  readonly cursor: number;
  readonly link: Uint8Array;
}

function invalid(cause?: unknown): SyncError {
  return new SyncError(ErrorCode.ENVELOPE_INVALID, cause === undefined ? {} : { cause });
}

/** An id that is kept: a view would keep the whole record it came in. */
function keptId(bytes: Uint8Array, length: number): Uint8Array {
  return copyBytes(sized(bytes, length));
}

function sized(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.byteLength !== length) throw invalid();
  return bytes;
}

/** Reads the payload of the third handshake message. */
export function readHello(payload: Uint8Array): HelloRequest {
  if (payload.byteLength > helloBytesMax) throw new SyncError(ErrorCode.TOO_LARGE);
  const hello = decodePart(HelloSchema, payload);
  const theirs = hello.versions;
  const version = Math.min(theirs?.max ?? 0, protocolVersions.max);
  if (version < Math.max(theirs?.min ?? 0, protocolVersions.min)) {
    throw new SyncError(ErrorCode.VERSION_UNSUPPORTED, {
      detail: { case: "versionRange", value: create(VersionRangeSchema, protocolVersions) },
    });
  }
  const invite =
    hello.groupInvite.byteLength > 0
      ? { invite: keptId(hello.groupInvite, groupInviteBytes) }
      : undefined;
  if (hello.groupId.byteLength === 0) return { version, groupId: undefined, read: undefined };
  const groupId = sized(hello.groupId, groupIdBytes);
  if (hello.read === undefined) return { version, groupId, read: undefined, ...invite };
  const cursor = toNumber(hello.read.cursor);
  return {
    version,
    groupId,
    read: {
      logId: sized(hello.read.logId, logIdBytes),
      cursor,
      link: cursor === 0 ? zeroLink : sized(hello.read.link, linkBytes),
    },
    ...invite,
  };
}

/** Reads a push of a sender into a group. */
export function readPush(
  push: Push,
  groupId: Uint8Array,
  sender: Uint8Array,
  blobBytesMax: number,
): PushRequest {
  if (push.blobs.length === 0) throw invalid();
  if (push.blobs.length > batchBlobsMax) throw tooLarge(TooLarge_Subject.BATCH, batchBlobsMax);
  let blobs: PushBlob[] | undefined;
  let previousSeq = 0;
  for (const blob of push.blobs) {
    const read = readBlob(blob, groupId, sender, blobBytesMax);
    if (previousSeq !== 0 && read.seq !== previousSeq + 1) throw invalid();
    previousSeq = read.seq;
    if (blobs === undefined) blobs = [read];
    else blobs.push(read);
  }
  return { blobs: blobs ?? [], resume: push.resume };
}

function readBlob(
  blob: Blob,
  groupId: Uint8Array,
  sender: Uint8Array,
  blobBytesMax: number,
): PushBlob {
  const bytes = blob.header.byteLength + blob.signature.byteLength + blob.body.byteLength;
  if (bytes > blobBytesMax) throw tooLarge(TooLarge_Subject.BLOB, blobBytesMax);
  sized(blob.blobId, blobIdBytes);
  sized(blob.signature, signatureBytes);
  if (blob.body.byteLength === 0) throw invalid();
  const header = decodeHeader(blob.header, ErrorCode.ENVELOPE_INVALID);
  return {
    seq: header.seq,
    previousLink: header.previousLink,
    link: blobLink(groupId, sender, blob.blobId, blob.header),
    blobId: blob.blobId,
    epoch: toNumber(blob.epoch),
    header: blob.header,
    signature: blob.signature,
    body: blob.body,
    ttlS: header.ttlS,
    deletes: header.deletes.length > 0,
  };
}

function tooLarge(subject: TooLarge_Subject, limit: number): SyncError {
  return new SyncError(ErrorCode.TOO_LARGE, {
    detail: {
      case: "tooLarge",
      value: create(TooLargeSchema, { subject, limit: BigInt(limit) }),
    },
  });
}

/** A membership change, with what only founding needs. */
export interface MembershipRequest {
  readonly change: ChangeRequest;
  /** Set where the change founds a group. */
  readonly founding: { readonly groupId: Uint8Array; readonly invite: Uint8Array } | undefined;
}

/** Reads a membership change. */
export function readChange(message: ChangeMembership): MembershipRequest {
  if (message.controlBlob.byteLength > controlBytesMax) throw invalid();
  if (message.members.length > membersMax || message.closings.length > membersMax) throw invalid();
  const {
    author,
    clear: clearBytes,
    signature,
  } = decodePart(ControlBlobSchema, message.controlBlob);
  const clear = decodePart(ControlClearSchema, clearBytes);
  sized(signature, signatureBytes);
  const expectedCount = toNumber(message.expected?.count ?? 0n);
  const founds = expectedCount === 0;
  if (!founds && message.groupId.byteLength > 0) throw invalid();
  if (message.groupInvite.byteLength > 0) sized(message.groupInvite, groupInviteBytes);
  return {
    change: {
      expectedCount,
      expectedHead: founds ? zeroLink : sized(message.expected?.head ?? zeroLink, linkBytes),
      controlBlob: message.controlBlob,
      head: blake2b256(message.controlBlob),
      author: sized(author, deviceIdBytes),
      previousHead: sized(clear.previousHead, linkBytes),
      controlEpoch: toNumber(clear.epoch),
      members: message.members.map((member) => ({
        deviceId: keptId(member.deviceId, deviceIdBytes),
        role: readRole(member.role),
      })),
      epoch: toNumber(message.epoch),
      closings: message.closings.map((closing) => ({
        deviceId: sized(closing.deviceId, deviceIdBytes),
        seq: toNumber(closing.position?.seq ?? 0n),
        link: sized(closing.position?.link ?? zeroLink, linkBytes),
      })),
    },
    founding: founds
      ? { groupId: keptId(message.groupId, groupIdBytes), invite: message.groupInvite }
      : undefined,
  };
}

function readRole(role: MemberRole): "device" | "paper" {
  if (role === MemberRole.DEVICE) return "device";
  if (role === MemberRole.PAPER) return "paper";
  throw invalid();
}
