/**
 * Reads what a device asks about objects and snapshots into requests that hold only what was checked.
 * What is wrong here is the sender's defect and ends its session, but for an object that is too large.
 * Pure.
 */
import { create } from "@bufbuild/protobuf";
import type { Envelope } from "../gen/syncrelay/sync/v1/envelope_pb.ts";
import { TooLarge_Subject, TooLargeSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import type { PutObject } from "../gen/syncrelay/sync/v1/object_pb.ts";
import { type PutSnapshot, SnapshotManifestSchema } from "../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { equalBytes, toHex } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256, hashBytes } from "../wire/hash.ts";
import { deviceIdBytes, linkBytes, logIdBytes, signatureBytes } from "../wire/ids.ts";
import {
  manifestBytesMax,
  objectAlignmentBytes,
  objectBytesDefault,
  objectRangeBytesMax,
  snapshotPartsMax,
} from "../wire/limits.ts";
import { decodePart } from "../wire/message-shape.ts";
import type { RangeRequest } from "./objects.ts";
import type { SnapshotRequest } from "./snapshots.ts";

/** What is asked about objects and snapshots. */
export type LifeRequest =
  | { readonly kind: "range"; readonly range: RangeRequest }
  | { readonly kind: "stat"; readonly objectId: Uint8Array }
  | {
      readonly kind: "get";
      readonly objectId: Uint8Array;
      readonly offset: number;
      /** 0: to the end. */
      readonly length: number;
    }
  | { readonly kind: "drop"; readonly objectId: Uint8Array }
  | { readonly kind: "snapshot"; readonly snapshot: SnapshotRequest }
  | {
      readonly kind: "confirm";
      readonly snapshotId: Uint8Array;
      readonly signature: Uint8Array;
    }
  | {
      readonly kind: "newest";
      readonly unconfirmed: boolean;
      /** Undefined: the newest of all. */
      readonly before: Uint8Array | undefined;
    };

/** The bodies that are such requests. */
export const lifeCases = [
  "putSnapshot",
  "confirmSnapshot",
  "getSnapshot",
  "putObject",
  "statObject",
  "getObject",
  "dropObject",
] as const;

export type LifeBody = Extract<Envelope["body"], { case: (typeof lifeCases)[number] }>;

const known = new Set<string | undefined>(lifeCases);

/** Whether a body is such a request. */
export function isLifeBody(body: Envelope["body"]): body is LifeBody {
  return known.has(body.case);
}

/** Reads such a request. `deviceId`: whose session it is. */
export function readLife(body: LifeBody, deviceId: Uint8Array): LifeRequest {
  switch (body.case) {
    case "putObject":
      return { kind: "range", range: readRange(body.value) };
    case "statObject":
      return { kind: "stat", objectId: sized(body.value.objectId, hashBytes) };
    case "getObject":
      return {
        kind: "get",
        objectId: sized(body.value.objectId, hashBytes),
        offset: toNumber(body.value.offset),
        length: toNumber(body.value.length),
      };
    case "dropObject":
      return { kind: "drop", objectId: sized(body.value.objectId, hashBytes) };
    case "putSnapshot":
      return { kind: "snapshot", snapshot: readSnapshot(body.value, deviceId) };
    case "confirmSnapshot":
      return {
        kind: "confirm",
        snapshotId: sized(body.value.snapshotId, hashBytes),
        signature: sized(body.value.signature, signatureBytes),
      };
    case "getSnapshot": {
      const { before, unconfirmed } = body.value;
      return {
        kind: "newest",
        unconfirmed,
        before: before.byteLength === 0 ? undefined : sized(before, hashBytes),
      };
    }
  }
}

function readRange(message: PutObject): RangeRequest {
  const sizeBytes = toNumber(message.sizeBytes);
  const offset = toNumber(message.offset);
  const { data } = message;
  sized(message.objectId, hashBytes);
  if (sizeBytes > objectBytesDefault) {
    throw new SyncError(ErrorCode.TOO_LARGE, {
      detail: {
        case: "tooLarge",
        value: create(TooLargeSchema, {
          subject: TooLarge_Subject.OBJECT,
          limit: BigInt(objectBytesDefault),
        }),
      },
    });
  }
  const end = offset + data.byteLength;
  const aligned = (place: number): boolean =>
    place % objectAlignmentBytes === 0 || place === sizeBytes;
  if (
    sizeBytes < 1 ||
    end > sizeBytes ||
    data.byteLength > objectRangeBytesMax ||
    !aligned(offset) ||
    !aligned(end) ||
    (data.byteLength === 0 && offset !== sizeBytes)
  ) {
    throw invalid();
  }
  return { objectId: message.objectId, sizeBytes, offset, data, part: message.snapshotPart };
}

function readSnapshot(message: PutSnapshot, deviceId: Uint8Array): SnapshotRequest {
  if (message.manifest.byteLength > manifestBytesMax) throw invalid();
  const manifest = decodePart(SnapshotManifestSchema, message.manifest);
  sized(message.signature, signatureBytes);
  const parts = new Set(manifest.parts.map((part) => toHex(sized(part, hashBytes))));
  if (
    !equalBytes(sized(manifest.author, deviceIdBytes), deviceId) ||
    manifest.parts.length < 1 ||
    manifest.parts.length > snapshotPartsMax ||
    parts.size !== manifest.parts.length ||
    toNumber(manifest.epoch) < 1 ||
    manifest.sealedClaims.byteLength === 0
  ) {
    throw invalid();
  }
  return {
    snapshotId: blake2b256(message.manifest),
    manifest: message.manifest,
    signature: message.signature,
    logId: sized(manifest.logId, logIdBytes),
    replacesThrough: toNumber(manifest.replacesThrough),
    link: sized(manifest.link, linkBytes),
    parts: manifest.parts,
  };
}

/** What a request holds on to while it waits, in bytes. */
export function heldBytes(request: LifeRequest): number {
  if (request.kind === "range") return request.range.data.byteLength + 1_024;
  return request.kind === "snapshot" ? request.snapshot.manifest.byteLength + 1_024 : 1_024;
}

function sized(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.byteLength !== length) throw invalid();
  return bytes;
}

function invalid(): SyncError {
  return new SyncError(ErrorCode.ENVELOPE_INVALID);
}
