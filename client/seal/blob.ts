/**
 * A blob: an entry of the app, chained, signed and sealed.
 *
 * Made in two steps. `prepareBlob` fixes seq, link, entry bytes and signature in
 * the transaction that queues the entry; `sealBlob` seals the body under the
 * epoch it is sent in, as often as epochs change, and touches none of them.
 * `openBody` goes the way back for a blob whose place `verifyWindow` has
 * verified.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  Compression,
  type Entry,
  EntrySchema,
  type SenderLink,
  SenderLinkSchema,
} from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import type { Blob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, emptyBytes, fromUtf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Fields } from "../../wire/fields.ts";
import { blake2b256, hasBlake2b256 } from "../../wire/hash.ts";
import type { BlobParts } from "../../wire/hot-encoders.ts";
import { blobIdBytes, blobLink, deviceIdBytes, linkBytes, signatureBytes } from "../../wire/ids.ts";
import {
  blobBytesCeiling,
  contentTypeBytesMax,
  headerBytesMax,
  witnessedMax,
} from "../../wire/limits.ts";
import { altered, decodeMessage, fitsUtf8, safeNumber } from "./checks.ts";
import { decodeHeader, encodeHeader, type Header } from "./header.ts";
import { type DeviceKeys, verifySignature } from "./keys.ts";
import { blobSignatureLabel } from "./labels.ts";
import { pad, paddedBytes, unpad, varintBytes, writeVarint } from "./padding.ts";
import { aeadOpen, aeadSeal, nonceBytes, type Random, sealOverheadBytes } from "./primitives.ts";

/** A place in a sender's chain: seq 0 with 32 zeros before its first blob. */
export interface ChainPlace {
  readonly seq: number;
  readonly link: Uint8Array;
}

/** Random bytes in every entry, so that equal content never has equal hashes. */
const entryRandomBytes = 16;
/** `Padded.content`: field 1, length-delimited (protobuf encoding). */
const paddedContentTag = 0x0a;

/** What an app asks to be pushed. */
export interface EntryInput {
  readonly data: Uint8Array;
  /** At most 128 bytes of UTF-8. */
  readonly contentType?: string;
  /** Seconds; 0 or absent: none. */
  readonly ttlS?: number;
  /** Blob ids, at most 256. */
  readonly deletes?: readonly Uint8Array[];
  readonly force?: boolean;
  /** Fresh random bytes; left out: drawn here. */
  readonly blobId?: Uint8Array;
}

/** A blob of this device: all of it that is fixed when it is queued. */
export interface OwnBlob {
  readonly seq: number;
  readonly link: Uint8Array;
  readonly blobId: Uint8Array;
  readonly header: Uint8Array;
  readonly signature: Uint8Array;
  /** The entry's bytes, unsealed. */
  readonly entry: Uint8Array;
}

/** Where and by whom a blob is made. */
export interface BlobMaking {
  readonly groupId: Uint8Array;
  readonly keys: DeviceKeys;
  /** The last place of this device's chain. */
  readonly previous: ChainPlace;
  /** What changed of other devices since the entry before; from `changedPlaces`. */
  readonly witnessed: readonly SenderLink[];
}

/**
 * Makes the next blob of this device. Throws `RangeError` for what an app may not
 * ask: a content type, a TTL or deletes beyond their bounds.
 */
export function prepareBlob(
  input: EntryInput,
  at: BlobMaking & {
    readonly random: Random;
    /** Set on the first blob after a fork: the link this device abandons. */
    readonly abandonedLink?: Uint8Array;
  },
): OwnBlob {
  const contentType = input.contentType ?? "";
  if (!fitsUtf8(contentType, contentTypeBytesMax)) {
    throw new RangeError(`a content type has at most ${contentTypeBytesMax} bytes`);
  }
  const blobId = input.blobId ?? at.random(blobIdBytes);
  const entry = encodeEntry({
    data: input.data,
    contentType,
    random: at.random(entryRandomBytes),
    witnessed: at.witnessed,
  });
  return chain(blobId, entry, at, {
    ttlS: input.ttlS ?? 0,
    deletes: input.deletes ?? [],
    force: input.force ?? false,
    abandonedLink: at.abandonedLink,
  });
}

/**
 * Makes a queued blob anew at another place of the chain: for a restored device
 * that finds its seq taken. The blob id and the app's bytes stay; seq, previous
 * link, witness and signature are new.
 */
export function rechainBlob(own: OwnBlob, at: BlobMaking): OwnBlob {
  const { data, contentType, random } = decodeEntry(own.entry);
  const header = decodeHeader(own.header);
  const entry = encodeEntry({ data, contentType, random, witnessed: at.witnessed });
  return chain(own.blobId, entry, at, header);
}

function encodeEntry(entry: {
  readonly data: Uint8Array;
  readonly contentType: string;
  readonly random: Uint8Array;
  readonly witnessed: readonly SenderLink[];
}): Uint8Array {
  if (entry.witnessed.length > witnessedMax) {
    throw new RangeError(`an entry witnesses at most ${witnessedMax} places`);
  }
  return toBinary(
    EntrySchema,
    create(EntrySchema, {
      data: entry.data,
      contentType: entry.contentType,
      random: entry.random,
      witnessed: [...entry.witnessed],
    }),
  );
}

function chain(
  blobId: Uint8Array,
  entry: Uint8Array,
  at: BlobMaking,
  rest: Pick<Header, "ttlS" | "deletes" | "force" | "abandonedLink">,
): OwnBlob {
  const seq = at.previous.seq + 1;
  const header = encodeHeader({
    seq,
    previousLink: at.previous.link,
    ttlS: rest.ttlS,
    deletes: rest.deletes,
    force: rest.force,
    entryHash: blake2b256(entry),
    abandonedLink: rest.abandonedLink,
  });
  const link = blobLink(at.groupId, at.keys.deviceId, blobId, header);
  return { seq, link, blobId, header, signature: at.keys.sign(signedLink(link)), entry };
}

/** What a blob's signature is over: label and link. */
function signedLink(link: Uint8Array): Uint8Array {
  return concatBytes(blobSignatureLabel, link);
}

/** Whether a blob's signature is its sender's. */
export function verifyLink(
  signingKey: Uint8Array,
  link: Uint8Array,
  signature: Uint8Array,
): boolean {
  return verifySignature(signingKey, signedLink(link), signature);
}

/** Seals a blob of this device under an epoch; `bodyKey` is the keyring's for it. */
export function sealBlob(
  own: OwnBlob,
  at: {
    readonly groupId: Uint8Array;
    readonly sender: Uint8Array;
    readonly epoch: number;
    readonly bodyKey: Uint8Array;
    readonly random: Random;
  },
): BlobParts {
  const prefix = new Uint8Array(1 + varintBytes(own.entry.byteLength));
  prefix[0] = paddedContentTag;
  writeVarint(prefix, 1, own.entry.byteLength);
  const body = aeadSeal(
    at.bodyKey,
    at.random(nonceBytes),
    bodyContext(at.groupId, at.sender, own.blobId, at.epoch, own.header),
    pad(prefix, own.entry),
  );
  return {
    blobId: own.blobId,
    header: own.header,
    signature: own.signature,
    epoch: at.epoch,
    body,
  };
}

/**
 * Opens a blob whose header was verified. Throws OPEN_FAILED where the body does
 * not authenticate or is not an entry, and HISTORY_ALTERED where it is an entry,
 * but not the one the signed header fixes. The entry's bytes are views into one
 * array of their own.
 */
export function openBody(
  blob: Blob,
  header: Header,
  at: {
    readonly groupId: Uint8Array;
    readonly sender: Uint8Array;
    /** The keyring's for `blob.epoch`. */
    readonly bodyKey: Uint8Array;
  },
): Entry {
  const epoch = safeNumber(blob.epoch, 1);
  if (
    epoch === undefined ||
    blob.blobId.byteLength !== blobIdBytes ||
    blob.header.byteLength > headerBytesMax ||
    blob.body.byteLength > blobBytesCeiling
  ) {
    throw openFailed();
  }
  const padded = aeadOpen(
    at.bodyKey,
    blob.body,
    bodyContext(at.groupId, at.sender, blob.blobId, epoch, blob.header),
  );
  const content = padded === undefined ? undefined : unpad(padded);
  if (content === undefined) throw openFailed();
  const entry = decodePadded(content);
  if (!hasBlake2b256(entry, header.entryHash)) throw altered();
  return decodeEntry(entry);
}

/** `Padded`: its content, which must not be compressed. */
function decodePadded(bytes: Uint8Array): Uint8Array {
  const fields = new Fields(bytes, ErrorCode.OPEN_FAILED);
  let content = emptyBytes;
  while (fields.next()) {
    switch (fields.number) {
      case 1:
        content = fields.bytes();
        break;
      case 2:
        // No sender of this version compresses. An inflate without a bound on its
        // output would let a member fill another's memory, so none is here.
        if (fields.uint() !== Compression.UNSPECIFIED) throw openFailed();
        break;
      default:
        fields.skip();
    }
  }
  return content;
}

/** Reads an entry's bytes. Throws OPEN_FAILED where they are none or break a bound. */
export function decodeEntry(bytes: Uint8Array): Entry {
  const fields = new Fields(bytes, ErrorCode.OPEN_FAILED);
  let data = emptyBytes;
  let contentType: string | undefined = "";
  let random = emptyBytes;
  const witnessed: SenderLink[] = [];
  while (fields.next()) {
    switch (fields.number) {
      case 1:
        data = fields.bytes();
        break;
      case 2: {
        const text = fields.bytes();
        contentType = text.byteLength <= contentTypeBytesMax ? fromUtf8(text) : undefined;
        break;
      }
      case 3:
        random = fields.bytes();
        break;
      case 4:
        if (witnessed.length >= witnessedMax) throw openFailed();
        witnessed.push(decodePlace(fields.bytes()));
        break;
      default:
        fields.skip();
    }
  }
  if (contentType === undefined || random.byteLength !== entryRandomBytes) throw openFailed();
  return { $typeName: EntrySchema.typeName, data, contentType, random, witnessed };
}

function decodePlace(bytes: Uint8Array): SenderLink {
  const place = decodeMessage(SenderLinkSchema, bytes, bytes.byteLength, ErrorCode.OPEN_FAILED);
  if (
    place.deviceId.byteLength !== deviceIdBytes ||
    safeNumber(place.seq, 1) === undefined ||
    place.link.byteLength !== linkBytes
  ) {
    throw openFailed();
  }
  return place;
}

/**
 * What a blob of this device takes, in bytes: header, signature and body, as the
 * relay's limit counts them. Known before it is sealed, so that a client refuses
 * a blob that is too large by itself.
 */
export function sealedBytes(own: OwnBlob): number {
  return own.header.byteLength + own.signature.byteLength + bodyBytes(own.entry.byteLength);
}

/** The most that so much data may take, in bytes, before anything is prepared. */
export function sealedBytesOf(
  dataBytes: number,
  options: {
    readonly contentTypeBytes?: number;
    readonly deletes?: number;
    readonly witnessed?: number;
  } = {},
): number {
  // Each field at its largest: a tag, its length and its content (protobuf encoding).
  const field = (bytes: number): number => 1 + varintBytes(bytes) + bytes;
  const number = 9;
  const place = field(deviceIdBytes) + number + field(linkBytes);
  const entry =
    field(dataBytes) +
    field(options.contentTypeBytes ?? 0) +
    field(entryRandomBytes) +
    (options.witnessed ?? 0) * field(place);
  const header =
    2 * number + 3 * field(linkBytes) + 2 + (options.deletes ?? 0) * field(blobIdBytes);
  return header + signatureBytes + bodyBytes(entry);
}

function bodyBytes(entryBytes: number): number {
  return sealOverheadBytes + paddedBytes(1 + varintBytes(entryBytes) + entryBytes);
}

/**
 * The associated data of a body: group (32), sender (32), blob id (16), epoch
 * (u64 big-endian), header bytes.
 */
function bodyContext(
  groupId: Uint8Array,
  sender: Uint8Array,
  blobId: Uint8Array,
  epoch: number,
  header: Uint8Array,
): Uint8Array {
  contextScratch.set(groupId, 0);
  contextScratch.set(sender, 32);
  contextScratch.set(blobId, 64);
  contextView.setUint32(80, Math.floor(epoch / 2 ** 32));
  contextView.setUint32(84, epoch % 2 ** 32);
  contextScratch.set(header, 88);
  return contextScratch.subarray(0, 88 + header.byteLength);
}

/** One array for all: nothing in it is secret, and each is used up before the next is made. */
const contextScratch = new Uint8Array(88 + headerBytesMax);
const contextView = new DataView(contextScratch.buffer);

function openFailed(): SyncError {
  return new SyncError(ErrorCode.OPEN_FAILED);
}
