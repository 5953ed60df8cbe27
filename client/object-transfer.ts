/** One object on its way: up range by range, behind what the relay says is durable, and down again. */
import type { ObjectData, ObjectState } from "../gen/syncrelay/sync/v1/object_pb.ts";
import { emptyBytes, equalBytes } from "../wire/bytes.ts";
import { encodeEnvelope, toNumber } from "../wire/envelope.ts";
import { ErrorCode, errorOfMessage, SyncError } from "../wire/errors.ts";
import { streamingBlake2b256 } from "../wire/hash.ts";
import { objectAlignmentBytes, objectRangeBytesMax } from "../wire/limits.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { ObjectSource } from "./object-source.ts";
import { RangeSize } from "./range-size.ts";
import {
  type ObjectChunk,
  ObjectCipher,
  type ObjectLayout,
  objectChunkBytes,
  objectChunks,
  objectLayout,
  objectSealedChunkBytes,
  type Reference,
} from "./seal/object.ts";
import { tagBytes } from "./seal/primitives.ts";
import type { SessionWait } from "./session-wait.ts";
import { UsageError } from "./usage-error.ts";

/** Asked for at once: as many whole chunks as fit. */
const askedChunksMax = Math.floor(objectRangeBytesMax / objectSealedChunkBytes);

/** How far a transfer has come, in bytes of ciphertext. */
export interface ObjectProgress {
  /** Bytes of ciphertext so far: a little more than the content's. */
  readonly doneBytes: number;
  /** Bytes of ciphertext in all. */
  readonly totalBytes: number;
}

/** What a first reading of a content leaves: all that is needed to send it, and to notice a change. */
export interface Outline {
  readonly key: Uint8Array;
  readonly objectId: Uint8Array;
  readonly layout: ObjectLayout;
  /** The tag of each chunk, one after another. */
  readonly tags: Uint8Array;
}

/** Reads a content once, sealing it without keeping it. */
export async function outlineOf(
  source: ObjectSource,
  key: Uint8Array,
  groupId: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Outline> {
  const cipher = new ObjectCipher(key, groupId);
  try {
    const hash = streamingBlake2b256();
    const tags = new Tags();
    const chunks = objectChunks(source.open(0));
    for (;;) {
      const step = await chunks.next();
      if (step.done === true) {
        return { key, objectId: hash.digest(), layout: step.value, tags: tags.bytes };
      }
      signal?.throwIfAborted();
      const { index, last, plaintext } = step.value;
      const sealed = cipher.seal(index, last, plaintext);
      hash.update(sealed);
      tags.add(sealed.subarray(-tagBytes));
    }
  } finally {
    cipher.wipe();
  }
}

/** Tags as they come. */
class Tags {
  #bytes = new Uint8Array(1_024 * tagBytes);
  #length = 0;

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  add(tag: Uint8Array): void {
    if (this.#length === this.#bytes.byteLength) {
      const wider = new Uint8Array(2 * this.#length);
      wider.set(this.#bytes);
      this.#bytes = wider;
    }
    this.#bytes.set(tag, this.#length);
    this.#length += tagBytes;
  }
}

/**
 * Sends a content behind what the relay has of it; resolves when all of it is on the relay's disk and
 * its hash was checked there. After a cut, what was acknowledged is not sent again.
 */
export async function sendObject(
  source: ObjectSource,
  outline: Outline,
  at: {
    readonly groupId: Uint8Array;
    readonly wait: SessionWait;
    readonly signal: AbortSignal | undefined;
    readonly progress: (progress: ObjectProgress) => void;
    /** A part of a snapshot, which counts otherwise. */
    readonly snapshotPart?: boolean;
  },
): Promise<void> {
  const { objectId, layout } = outline;
  const { wait, signal } = at;
  const totalBytes = layout.sealedBytes;
  let told = -1;
  const durable = (state: ObjectState): number => {
    const bytes = toNumber(state.durableBytes);
    const size = toNumber(state.sizeBytes);
    if (bytes > totalBytes || (size !== totalBytes && size !== 0)) {
      throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    }
    if (bytes > told) {
      wait.progressed();
      told = bytes;
      at.progress({ doneBytes: bytes, totalBytes });
    }
    return bytes;
  };
  const size = new RangeSize();
  const cipher = new ObjectCipher(outline.key, at.groupId);
  try {
    await wait.run(async (session) => {
      const put = (offset: number, data: Uint8Array): Promise<ObjectState> =>
        size.timed(session, wait, () =>
          objectState(session, {
            case: "putObject",
            value: {
              objectId,
              sizeBytes: BigInt(totalBytes),
              offset: BigInt(offset),
              data,
              snapshotPart: at.snapshotPart === true,
            },
          }),
        );
      let state = await objectState(session, { case: "statObject", value: { objectId } });
      if (state.complete) {
        // Nothing to send; but that this device refers to it, the relay may not know.
        durable(await put(totalBytes, emptyBytes));
        return;
      }
      for (let before = -1; !state.complete; ) {
        let offset = durable(state);
        // All was sent, or taken back: a relay that goes on like this gets nowhere.
        if (offset <= before) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
        before = offset;
        for await (const data of rangesOf(source, outline, cipher, offset, size)) {
          signal?.throwIfAborted();
          state = await put(offset, data);
          offset += data.byteLength;
          // The relay's word is what counts; where it is at another place, this side goes there.
          if (state.complete || durable(state) !== offset) break;
        }
      }
      durable(state);
    });
  } finally {
    cipher.wipe();
  }
}

/** The ciphertext from an offset on, in ranges. */
async function* rangesOf(
  source: ObjectSource,
  outline: Outline,
  cipher: ObjectCipher,
  offset: number,
  size: RangeSize,
): AsyncGenerator<Uint8Array> {
  const { contentBytes, chunks, sealedBytes } = outline.layout;
  const first = Math.floor(offset / objectSealedChunkBytes);
  // Chunks behind the content are padding, which follows from its end.
  const from = Math.min(first, Math.floor(contentBytes / objectChunkBytes));
  let skip = offset - first * objectSealedChunkBytes;
  let left = sealedBytes - offset;
  const newRange = (): Uint8Array =>
    new Uint8Array(Math.min(size.chunks * objectAlignmentBytes, left));
  let range = newRange();
  let filled = 0;
  let next = first;
  for await (const chunk of objectChunks(source.open(from * objectChunkBytes), from)) {
    if (chunk.index < first) continue;
    let sealed = sealKnown(chunk, outline, cipher).subarray(skip);
    skip = 0;
    next = chunk.index + 1;
    while (sealed.byteLength > 0) {
      const taken = sealed.subarray(0, range.byteLength - filled);
      range.set(taken, filled);
      filled += taken.byteLength;
      sealed = sealed.subarray(taken.byteLength);
      if (filled < range.byteLength) continue;
      // The last one waits until the content has come to its end.
      if (left === filled && next !== chunks) throw sourceChanged();
      left -= filled;
      if (left > 0) yield range;
      else break;
      range = newRange();
      filled = 0;
    }
  }
  if (next !== chunks) throw sourceChanged();
  if (left === 0) yield range;
}

/** Seals a chunk, and gives it out only where it is the one that was read first. */
function sealKnown(
  { index, last, plaintext }: ObjectChunk,
  outline: Outline,
  cipher: ObjectCipher,
): Uint8Array {
  if (index >= outline.layout.chunks || last !== (index === outline.layout.chunks - 1)) {
    throw sourceChanged();
  }
  const sealed = cipher.seal(index, last, plaintext);
  const tag = outline.tags.subarray(index * tagBytes, (index + 1) * tagBytes);
  if (!equalBytes(sealed.subarray(-tagBytes), tag)) throw sourceChanged();
  return sealed;
}

function sourceChanged(): UsageError {
  return new UsageError(
    "the content of the object changed while it was sent; it can be put again as it is now",
  );
}

/**
 * Brings an object, or the part of it that holds `from` to `to` of the content, and opens it chunk by
 * chunk. Read whole, its hash is checked at the end too.
 */
export async function* receiveObject(
  reference: Reference,
  range: { readonly from: number; readonly to: number },
  at: {
    readonly groupId: Uint8Array;
    readonly wait: SessionWait;
    readonly progress: (progress: ObjectProgress) => void;
  },
): AsyncGenerator<Uint8Array, void, undefined> {
  const { objectId } = reference;
  const { chunks, sealedBytes } = objectLayout(reference.contentBytes);
  const whole = range.from === 0 && range.to === reference.contentBytes;
  if (!whole && range.from === range.to) return;
  const first = Math.floor(range.from / objectChunkBytes);
  const behind = whole ? chunks : Math.ceil(range.to / objectChunkBytes);
  const start = first * objectSealedChunkBytes;
  const end = Math.min(behind * objectSealedChunkBytes, sealedBytes);
  const hash = whole ? streamingBlake2b256() : undefined;
  const cipher = new ObjectCipher(reference.key, at.groupId);
  const size = new RangeSize();
  const ask = (offset: number): Promise<Uint8Array> => {
    const answer = at.wait.run((session) =>
      size.timed(session, at.wait, () => {
        const bytes = Math.min(size.chunks, askedChunksMax) * objectSealedChunkBytes;
        const length = Math.min(bytes, end - offset);
        return objectRange(session, { objectId, offset, length, sealedBytes });
      }),
    );
    // It is awaited later, perhaps never.
    answer.catch(() => undefined);
    return answer;
  };
  try {
    let next = ask(start);
    for (let offset = start; offset < end; ) {
      const data = await next;
      at.wait.progressed();
      const place = offset;
      offset += data.byteLength;
      // The next range is on its way while the app takes this one.
      if (offset < end) next = ask(offset);
      hash?.update(data);
      for (let from = 0; from < data.byteLength; from += objectSealedChunkBytes) {
        const index = (place + from) / objectSealedChunkBytes;
        const sealed = data.subarray(from, from + objectSealedChunkBytes);
        const plaintext = cipher.open(index, index === chunks - 1, sealed);
        const begins = index * objectChunkBytes;
        const wanted = plaintext.subarray(
          Math.max(0, range.from - begins),
          Math.max(0, Math.min(plaintext.byteLength, range.to - begins)),
        );
        if (wanted.byteLength > 0) yield wanted;
      }
      at.progress({ doneBytes: offset - start, totalBytes: end - start });
    }
    if (hash !== undefined && !equalBytes(hash.digest(), objectId)) {
      throw new SyncError(ErrorCode.OPEN_FAILED);
    }
  } finally {
    cipher.wipe();
  }
}

/** Asks about an object, however long the relay takes to write and check it. */
function objectState(
  session: Connection,
  body: Parameters<typeof encodeEnvelope>[1],
): Promise<ObjectState> {
  return new Promise((resolve, reject) => {
    const id = session.nextId();
    session.post(id, encodeEnvelope(id, body), {
      patient: true,
      lost: reject,
      take: (answer: ReceivedBody) => {
        if (answer.case === "error") reject(refusalOf(errorOfMessage(answer.value)));
        else if (answer.case === "objectState") resolve(answer.value);
        else throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
        return false;
      },
    });
  });
}

/** One range, whole. */
function objectRange(
  session: Connection,
  at: {
    readonly objectId: Uint8Array;
    readonly offset: number;
    readonly length: number;
    readonly sealedBytes: number;
  },
): Promise<Uint8Array> {
  const { objectId, offset, length, sealedBytes } = at;
  return new Promise((resolve, reject) => {
    const id = session.nextId();
    const data = new Uint8Array(length);
    let have = 0;
    const take = (piece: ObjectData): boolean => {
      if (toNumber(piece.sizeBytes) === 0) {
        const hint = "the relay does not have this object";
        reject(new SyncError(ErrorCode.OPEN_FAILED, { hint, cause: new ObjectMissing(hint) }));
        return false;
      }
      if (
        toNumber(piece.sizeBytes) !== sealedBytes ||
        toNumber(piece.offset) !== offset + have ||
        have + piece.data.byteLength > length ||
        (piece.data.byteLength === 0 && !piece.done)
      ) {
        throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      }
      data.set(piece.data, have);
      have += piece.data.byteLength;
      if (!piece.done) return true;
      if (have !== length) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
      resolve(data);
      return false;
    };
    session.post(
      id,
      encodeEnvelope(id, {
        case: "getObject",
        value: { objectId, offset: BigInt(offset), length: BigInt(length) },
      }),
      {
        patient: true,
        lost: reject,
        take: (answer: ReceivedBody) => {
          if (answer.case === "error") {
            reject(refusalOf(errorOfMessage(answer.value)));
            return false;
          }
          if (answer.case !== "objectData") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
          return take(answer.value);
        },
      },
    );
  });
}

class ObjectMissing extends Error {}

/** Whether all that is wrong with an object is that the relay does not have it, or no longer. */
export function isMissing(error: unknown): boolean {
  return error instanceof SyncError && error.cause instanceof ObjectMissing;
}

/** Lets an object go, or this device's reference to it. */
export async function releaseObject(session: Connection, objectId: Uint8Array): Promise<void> {
  try {
    await session.request({ case: "dropObject", value: { objectId } });
  } catch (error) {
    throw error instanceof SyncError ? refusalOf(error) : error;
  }
}

function refusalOf(error: SyncError): SyncError {
  if (error.code !== ErrorCode.ENVELOPE_UNEXPECTED) return error;
  return new SyncError(error.code, { hint: "this relay keeps no objects" });
}
