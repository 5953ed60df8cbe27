/**
 * Objects: content too large for an entry, sealed chunk by chunk, so that any range can be opened
 * alone and none of it is believed before it authenticates.
 *
 * The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption
 * and its Nonce-Reuse Misuse-Resistance", 2015, section 7), laid out as the payload of age
 * (age-encryption.org/v1, "Payload"): chunks of 64 KiB, each with its number and whether it is the
 * last one in its nonce. So no chunk can be left out, moved, repeated or added, and the end cannot be
 * cut off. The key is drawn for one object and for one content.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type ObjectReference,
  ObjectReferenceSchema,
} from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { hashBytes } from "../../wire/hash.ts";
import { contentTypeBytesMax } from "../../wire/limits.ts";
import { decodeMessage, fitsUtf8, safeNumber } from "./checks.ts";
import { objectStreamLabel } from "./labels.ts";
import { padmeBytes } from "./padding.ts";
import {
  chunkOpen,
  chunkSeal,
  deriveKey,
  keyBytes,
  nonceBytes,
  tagBytes,
  wipe,
} from "./primitives.ts";

/** Content in one chunk, in bytes. */
export const objectChunkBytes = 65_536;
/** A whole chunk, sealed, in bytes. */
export const objectSealedChunkBytes: number = objectChunkBytes + tagBytes;
/** The key of an object, in bytes. */
export const objectKeyBytes: number = keyBytes;
/** An encoded reference, in bytes. */
export const objectReferenceBytesMax = 256;

/** How a content of so many bytes stands in its object: padded, so that its exact size stays unknown. */
export interface ObjectLayout {
  readonly contentBytes: number;
  /** Content and the zeros behind it. */
  readonly paddedBytes: number;
  readonly chunks: number;
  /** What the relay keeps. */
  readonly sealedBytes: number;
}

/** The layout of a content. */
export function objectLayout(contentBytes: number): ObjectLayout {
  const paddedBytes = padmeBytes(contentBytes);
  const chunks = Math.ceil(paddedBytes / objectChunkBytes);
  return { contentBytes, paddedBytes, chunks, sealedBytes: paddedBytes + chunks * tagBytes };
}

/** Seals and opens the chunks of one object. */
export class ObjectCipher {
  readonly #key: Uint8Array;
  readonly #nonce = new Uint8Array(nonceBytes);
  readonly #view = new DataView(this.#nonce.buffer);

  constructor(key: Uint8Array, groupId: Uint8Array) {
    if (key.byteLength !== objectKeyBytes) throw new RangeError("an object's key has 32 bytes");
    this.#key = deriveKey(key, objectStreamLabel, { context: groupId });
  }

  /** Seals a chunk; whole but for the last one, and never empty. */
  seal(index: number, last: boolean, plaintext: Uint8Array): Uint8Array {
    const { byteLength } = plaintext;
    if (byteLength === 0 || byteLength > objectChunkBytes) throw new RangeError("no such chunk");
    if (!last && byteLength !== objectChunkBytes) throw new RangeError("a chunk is whole");
    return chunkSeal(this.#key, this.#nonceOf(index, last), plaintext);
  }

  /** Opens a chunk. Throws OPEN_FAILED where it is not that chunk of that object. */
  open(index: number, last: boolean, sealed: Uint8Array): Uint8Array {
    const plaintext =
      sealed.byteLength > objectSealedChunkBytes
        ? undefined
        : chunkOpen(this.#key, this.#nonceOf(index, last), sealed);
    if (plaintext === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
    return plaintext;
  }

  /** Overwrites the key; nothing here works afterwards. */
  wipe(): void {
    wipe(this.#key);
  }

  /** 15 zero bytes, the chunk's number (u64 big-endian), 1 in the last chunk and 0 before it. */
  #nonceOf(index: number, last: boolean): Uint8Array {
    this.#view.setBigUint64(15, BigInt(index));
    this.#view.setUint8(23, last ? 1 : 0);
    return this.#nonce;
  }
}

/** A piece of a padded content. */
export interface ObjectChunk {
  readonly index: number;
  readonly last: boolean;
  /** Valid until the next one is asked for. */
  readonly plaintext: Uint8Array;
}

/**
 * Cuts content that comes in pieces of any size into chunks, from a chunk on, and pads its end.
 * `source` begins at the content of that chunk. Holds one chunk at a time.
 */
export async function* objectChunks(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  from = 0,
): AsyncGenerator<ObjectChunk, ObjectLayout> {
  // Two, because a chunk is known to be the last only once the next one does not come.
  let filling = new Uint8Array(objectChunkBytes);
  let ready = new Uint8Array(objectChunkBytes);
  let index = from;
  let filled = 0;
  let waiting = false;
  for await (const piece of source) {
    for (let offset = 0; offset < piece.byteLength; ) {
      if (filled === objectChunkBytes) {
        if (waiting) yield { index: index++, last: false, plaintext: ready };
        [ready, filling] = [filling, ready];
        waiting = true;
        filled = 0;
      }
      const take = Math.min(piece.byteLength - offset, objectChunkBytes - filled);
      filling.set(piece.subarray(offset, offset + take), filled);
      filled += take;
      offset += take;
    }
  }
  const before = index + (waiting ? 1 : 0);
  const layout = objectLayout(before * objectChunkBytes + filled);
  if (waiting) yield { index, last: false, plaintext: ready };
  index = before;
  filling.fill(0, filled);
  for (; index < layout.chunks; index++) {
    const last = index === layout.chunks - 1;
    const bytes = last ? layout.paddedBytes - index * objectChunkBytes : objectChunkBytes;
    yield { index, last, plaintext: filling.subarray(0, bytes) };
    filling.fill(0);
  }
  return layout;
}

/** What an object is referred to by. */
export interface Reference {
  /** BLAKE2b-256 of the ciphertext. */
  readonly objectId: Uint8Array;
  readonly key: Uint8Array;
  readonly contentBytes: number;
  readonly contentType: string;
}

/** A reference as an entry carries it. Whoever has it can open the object: it stands only in what is sealed. */
export function encodeReference(reference: Reference): Uint8Array {
  if (!fitsUtf8(reference.contentType, contentTypeBytesMax)) {
    throw new RangeError(`a content type has at most ${contentTypeBytesMax} bytes`);
  }
  return toBinary(
    ObjectReferenceSchema,
    create(ObjectReferenceSchema, {
      objectId: reference.objectId,
      key: reference.key,
      contentBytes: BigInt(reference.contentBytes),
      contentType: reference.contentType,
    }),
  );
}

/** Reads a reference. Throws OPEN_FAILED where the bytes are none. */
export function decodeReference(bytes: Uint8Array): Reference {
  const { objectId, key, contentBytes, contentType }: ObjectReference = decodeMessage(
    ObjectReferenceSchema,
    bytes,
    objectReferenceBytesMax,
    ErrorCode.OPEN_FAILED,
  );
  const length = safeNumber(contentBytes, 0);
  if (
    objectId.byteLength !== hashBytes ||
    key.byteLength !== objectKeyBytes ||
    length === undefined ||
    !Number.isSafeInteger(objectLayout(length).sealedBytes) ||
    !fitsUtf8(contentType, contentTypeBytesMax)
  ) {
    throw new SyncError(ErrorCode.OPEN_FAILED);
  }
  return { objectId, key, contentBytes: length, contentType };
}
