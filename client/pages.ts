/** Pages of the log as a relay hands them over: whether they are what they claim to be, and one asked for by itself. */
import { create } from "@bufbuild/protobuf";
import { BlobSchema, type StoredBlob, StoredBlobSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import type { Snapshot } from "../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { encodeEnvelope, toNumber } from "../wire/envelope.ts";
import { ErrorCode, errorOfMessage, SyncError } from "../wire/errors.ts";
import { blobLink } from "../wire/ids.ts";
import { windowBytesMax } from "../wire/limits.ts";
import type { Connection } from "./connection.ts";
import type { OwnBlob } from "./seal/blob.ts";

/** A page as it came, in order, dense. */
export interface ReceivedPage {
  readonly blobs: readonly StoredBlob[];
  /** The own blobs among them that came without their bodies, by cursor. */
  readonly own: ReadonlyMap<number, OwnBlob>;
  readonly through: number;
  readonly bytes: number;
  readonly session: Connection;
  /** What stands in the place of everything up to `through`; no blobs then. */
  readonly snapshot?: Snapshot;
}

/** The first blobs of a page, and the others: for whoever may take only so many at once. */
export function splitPage(page: ReceivedPage, blobs: number): [ReceivedPage, ReceivedPage] {
  const first = page.blobs.slice(0, blobs);
  const last = first.at(-1);
  if (last === undefined) throw new RangeError("a part holds at least one blob");
  const bytes = Math.floor((page.bytes * first.length) / page.blobs.length);
  return [
    { ...page, blobs: first, through: toNumber(last.cursor), bytes },
    { ...page, blobs: page.blobs.slice(blobs), bytes: page.bytes - bytes },
  ];
}

/** No own blobs without their bodies. */
export const noOwn: ReadonlyMap<number, OwnBlob> = new Map();

/** The link of a blob as it came. */
export function linkOf(stored: StoredBlob, groupId: Uint8Array): Uint8Array {
  const { blob, sender } = stored;
  if (blob === undefined) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  return blobLink(groupId, sender, blob.blobId, blob.header);
}

/** Everything live in (after, through] is there, in order: above the floor cursors have no holes. */
export function checkDense(
  blobs: readonly { readonly cursor: bigint }[],
  after: number,
  through: number,
): void {
  if (through - after !== blobs.length) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  let cursor = BigInt(after);
  for (const blob of blobs) {
    cursor += 1n;
    if (blob.cursor !== cursor) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
}

/** The same of a page that may begin where headers are gone: only at or below `gone` anything is left out. */
function checkDenseAbove(
  blobs: readonly StoredBlob[],
  after: number,
  through: number,
  gone: number,
): void {
  const first = blobs[0];
  const begins = first === undefined ? through : toNumber(first.cursor) - 1;
  checkDense(blobs, Math.max(after, Math.min(begins, gone)), through);
}

/** What blobs take in a page, as the relay counts them against the window: encoded, and a little for the page. */
export function bytesOf(blobs: readonly StoredBlob[]): number {
  let bytes = pageOverheadBytes;
  for (const stored of blobs) {
    const { blob } = stored;
    if (blob === undefined) continue;
    const inner =
      fieldBytes(blob.blobId.byteLength) +
      fieldBytes(blob.header.byteLength) +
      fieldBytes(blob.signature.byteLength) +
      fieldBytes(blob.body.byteLength) +
      numberBytes;
    bytes += fieldBytes(fieldBytes(inner) + fieldBytes(stored.sender.byteLength) + 2 * numberBytes);
  }
  return bytes;
}

/** What blobs take in a page at the least, however the relay counts. */
export function leastBytesOf(blobs: readonly StoredBlob[]): number {
  let bytes = 0;
  for (const { blob, sender } of blobs) {
    bytes += blobOverheadBytesMin + sender.byteLength;
    if (blob === undefined) continue;
    bytes += blob.blobId.byteLength + blob.header.byteLength + blob.signature.byteLength;
    bytes += blob.body.byteLength;
  }
  return bytes;
}

/** A length-delimited field (protobuf encoding). */
function fieldBytes(length: number): number {
  return length < 128 ? length + 2 : length < 16_384 ? length + 3 : length + 4;
}

/** A tag and a small number. Counting a byte too many costs nothing; one too few closes the window in time. */
const numberBytes = 4;
const pageOverheadBytes = 64;
/** Tags and lengths of a blob without body and epoch. */
const blobOverheadBytesMin = 12;

/** An own blob at its place, as if it had come whole: its body stands for the entry itself. */
export function ownStored(self: Uint8Array, cursor: number, own: OwnBlob): StoredBlob {
  return create(StoredBlobSchema, {
    cursor: BigInt(cursor),
    sender: self,
    blob: create(BlobSchema, {
      blobId: own.blobId,
      header: own.header,
      signature: own.signature,
      epoch: 1n,
      body: own.entry,
    }),
  });
}

/** One bounded pull, whole. At or below `gone`, what a snapshot replaced may be left out. */
export function pullOnce(
  session: Connection,
  after: number,
  until: number,
  gone = 0,
): Promise<readonly StoredBlob[]> {
  return new Promise((resolve, reject) => {
    const id = session.nextId();
    const blobs: StoredBlob[] = [];
    let from = after;
    let bytes = 0;
    session.post(
      id,
      encodeEnvelope(id, {
        case: "pull",
        value: { after: BigInt(after), until: BigInt(until), windowBytes: windowBytesMax },
      }),
      {
        patient: true,
        lost: reject,
        take: (body) => {
          if (body.case === "error") {
            reject(errorOfMessage(body.value));
            return false;
          }
          if (body.case !== "blobs") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
          const page = body.value;
          const through = toNumber(page.through);
          if (
            toNumber(page.after) !== from ||
            through > until ||
            (through === from && !page.done)
          ) {
            throw new SyncError(ErrorCode.ENVELOPE_INVALID);
          }
          checkDenseAbove(page.blobs, from, through, gone);
          blobs.push(...page.blobs);
          from = through;
          bytes += bytesOf(page.blobs);
          // As much as one window of verification holds; the next pull goes on from there.
          const enough = page.done || bytes >= windowBytesMax;
          if (enough) resolve(blobs);
          return !enough;
        },
      },
    );
  });
}
