/** Makes the next blobs of this device from what an app pushes. Writes nothing. */
import { create } from "@bufbuild/protobuf";
import { TooLarge_Subject, TooLargeSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blobIdBytes, parseId } from "../wire/ids.ts";
import type { Core } from "./core.ts";
import type { OwnChain } from "./disk.ts";
import { type OwnBlob, prepareBlob, sealedBytes } from "./seal/blob.ts";
import { changedPlaces } from "./seal/history.ts";
import type { PushItem } from "./types.ts";

/** What is to be queued: by the app, or by this device itself to give up a branch of its chain. */
export interface PreparedItem extends PushItem {
  readonly abandonedLink?: Uint8Array;
  /** Drawn by whoever asks, so that it can be found again; left out: drawn here. */
  readonly blobId?: Uint8Array;
}

/**
 * The blobs that follow `from`, and where that leaves the chain. Throws TOO_LARGE, which names the
 * limit, and `RangeError` for what an app may not ask.
 */
export function prepareItems(
  core: Core,
  items: readonly PreparedItem[],
  from: OwnChain,
  blobBytesMax: number,
): { own: OwnChain; blobs: OwnBlob[] } {
  const blobs: OwnBlob[] = [];
  let own = from;
  // Nothing is read in between: once all was told, there is nothing more to tell.
  let allTold = false;
  for (const item of items) {
    if (item.data.byteLength > blobBytesMax) throw tooLarge(blobBytesMax);
    const input = {
      data: item.data,
      ...(item.contentType === undefined ? {} : { contentType: item.contentType }),
      ...(item.ttlS === undefined ? {} : { ttlS: item.ttlS }),
      ...(item.force === undefined ? {} : { force: item.force }),
      ...(item.blobId === undefined ? {} : { blobId: item.blobId }),
      ...(item.deletes === undefined ? {} : { deletes: item.deletes.map(parseBlobId) }),
    };
    const at = {
      groupId: core.groupId,
      keys: core.keys,
      previous: own.last,
      random: core.host.random,
      ...(item.abandonedLink === undefined ? {} : { abandonedLink: item.abandonedLink }),
    };
    const seen: ReturnType<typeof changedPlaces> = allTold
      ? { changed: [], told: own.told }
      : changedPlaces(core.log.senders, own.told, core.keys.deviceId);
    allTold = seen.changed.length === 0;
    let told = seen.told;
    let blob = prepareBlob(input, { ...at, witnessed: seen.changed });
    if (sealedBytes(blob) > blobBytesMax && seen.changed.length > 0) {
      // What was seen of others can wait for an entry that has room for it.
      told = own.told;
      blob = prepareBlob(input, { ...at, witnessed: [] });
    }
    if (sealedBytes(blob) > blobBytesMax) throw tooLarge(blobBytesMax);
    blobs.push(blob);
    own = { ...own, last: { seq: blob.seq, link: blob.link }, told };
  }
  return { own, blobs };
}

function parseBlobId(text: string): Uint8Array {
  const id = parseId(text, blobIdBytes);
  if (id === undefined) throw new RangeError("a blob id has 22 characters of base64url");
  return id;
}

/** A blob that no relay of this limit takes. */
export function tooLarge(limit: number): SyncError {
  return new SyncError(ErrorCode.TOO_LARGE, {
    hint: `an entry may take at most ${limit} bytes once it is sealed; put large content elsewhere`,
    detail: {
      case: "tooLarge",
      value: create(TooLargeSchema, { subject: TooLarge_Subject.BLOB, limit: BigInt(limit) }),
    },
  });
}
