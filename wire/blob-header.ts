/**
 * A blob's header, decoded once and checked. The bytes it came from stay what is
 * hashed, signed and passed on; they are never made again from this.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { BlobHeaderSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes } from "./bytes.ts";
import { type ErrorCode, SyncError } from "./errors.ts";
import { Fields } from "./fields.ts";
import { hashBytes } from "./hash.ts";
import { blobIdBytes, linkBytes } from "./ids.ts";
import { headerBytesMax, headerDeletesMax } from "./limits.ts";

/** What a header says. */
export interface Header {
  /** The sender's number for this blob, from 1. */
  readonly seq: number;
  /** The link of the sender's blob before this one, 32 bytes; 32 zeros at seq 1. */
  readonly previousLink: Uint8Array;
  /** How long the relay keeps the body, in seconds; 0: until a snapshot replaces it. */
  readonly ttlS: number;
  /** Blob ids whose bodies may go. At most 256. */
  readonly deletes: readonly Uint8Array[];
  /** The deletes are the sender's own blobs and take effect at once. */
  readonly force: boolean;
  /** BLAKE2b-256 of the entry's bytes. */
  readonly entryHash: Uint8Array;
  /** Where the device starts its chain again after a fork: the link it abandons. */
  readonly abandonedLink: Uint8Array | undefined;
}

/** A header's bytes: made once, then opaque. Throws `RangeError` where it would break a bound. */
export function encodeHeader(header: Header): Uint8Array {
  if (header.deletes.length > headerDeletesMax) {
    throw new RangeError(`a blob deletes at most ${headerDeletesMax} others`);
  }
  for (const blobId of header.deletes) {
    if (blobId.byteLength !== blobIdBytes) throw new RangeError("a blob id has 16 bytes");
  }
  if (!Number.isSafeInteger(header.ttlS) || header.ttlS < 0) {
    throw new RangeError("a TTL is a whole number of seconds");
  }
  if (!Number.isSafeInteger(header.seq) || header.seq < 1) {
    throw new RangeError("a seq is a whole number from 1");
  }
  return toBinary(
    BlobHeaderSchema,
    create(BlobHeaderSchema, {
      seq: BigInt(header.seq),
      previousLink: header.previousLink,
      ttlS: BigInt(header.ttlS),
      deletes: [...header.deletes],
      force: header.force,
      entryHash: header.entryHash,
      abandonedLink: header.abandonedLink ?? emptyBytes,
    }),
  );
}

/**
 * Reads a header. Throws `SyncError` with `code` where it does not decode or
 * breaks a bound. Relay and devices read with this one function, so that no
 * header means one thing here and another there.
 */
export function decodeHeader(bytes: Uint8Array, code: ErrorCode): Header {
  if (bytes.byteLength > headerBytesMax) throw new SyncError(code);
  const fields = new Fields(bytes, code);
  let seq = 0;
  let previousLink = emptyBytes;
  let ttlS = 0;
  let deletes: Uint8Array[] = noDeletes;
  let force = false;
  let entryHash = emptyBytes;
  let abandonedLink = emptyBytes;
  while (fields.next()) {
    switch (fields.number) {
      case 1:
        seq = fields.uint();
        break;
      case 2:
        previousLink = fields.bytes();
        break;
      case 3:
        ttlS = fields.uint();
        break;
      case 4: {
        const blobId = fields.bytes();
        if (blobId.byteLength !== blobIdBytes || deletes.length >= headerDeletesMax) {
          throw new SyncError(code);
        }
        if (deletes === noDeletes) deletes = [];
        deletes.push(blobId);
        break;
      }
      case 5:
        force = fields.uint() !== 0;
        break;
      case 6:
        entryHash = fields.bytes();
        break;
      case 7:
        abandonedLink = fields.bytes();
        break;
      default:
        fields.skip();
    }
  }
  if (
    !Number.isSafeInteger(seq) ||
    seq < 1 ||
    !Number.isSafeInteger(ttlS) ||
    previousLink.byteLength !== linkBytes ||
    entryHash.byteLength !== hashBytes ||
    (abandonedLink.byteLength !== 0 && abandonedLink.byteLength !== linkBytes)
  ) {
    throw new SyncError(code);
  }
  return {
    seq,
    previousLink,
    ttlS,
    deletes,
    force,
    entryHash,
    abandonedLink: abandonedLink.byteLength === 0 ? undefined : abandonedLink,
  };
}

/** Shared by the headers that delete nothing: nearly all. */
const noDeletes: Uint8Array[] = [];
