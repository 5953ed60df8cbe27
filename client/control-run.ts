/**
 * Control blobs as they are pulled, while they cannot be verified yet: each must name the one before
 * it, and there are only so many.
 */
import type { ControlBlobs } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { zeroLink } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import { decodeControl } from "./seal/control-blob.ts";

/** Control blobs that are taken unverified, and their bytes: centuries of a full group's rotations. */
export const controlRunMax = 65_536;
export const controlRunBytesMax = 256 * 1024 * 1024;

export class ControlRun {
  readonly blobs: Uint8Array[] = [];
  readonly #bytesMax: number;
  #bytes = 0;
  #head: Uint8Array;

  /** `head`: of the control blob before the first; that of a founding is all zeros. */
  constructor(head: Uint8Array = zeroLink, bytesMax = controlRunBytesMax) {
    this.#head = head;
    this.#bytesMax = bytesMax;
  }

  /** Throws HISTORY_ALTERED where one does not follow, ENVELOPE_INVALID where there are too many. */
  add(blobs: readonly Uint8Array[]): void {
    for (const blob of blobs) {
      this.#bytes += blob.byteLength;
      if (this.blobs.length === controlRunMax || this.#bytes > this.#bytesMax) {
        throw new SyncError(ErrorCode.ENVELOPE_INVALID, {
          hint: "the relay shows a longer membership history than any group has",
        });
      }
      const { clear, head } = decodeControl(blob);
      if (!equalBytes(clear.previousHead, this.#head)) {
        throw new SyncError(ErrorCode.HISTORY_ALTERED, {
          hint: "the relay shows membership changes that do not follow one another",
        });
      }
      this.#head = head;
      this.blobs.push(blob);
    }
  }
}

/**
 * One page of control blobs, behind so many. Rejects with ENVELOPE_INVALID where it is of another place,
 * or holds nothing and is not the last.
 */
export async function pullControlPage(session: Connection, count: number): Promise<ControlBlobs> {
  const answer = await session.request({ case: "pullControl", value: { after: BigInt(count) } });
  if (answer.case !== "controlBlobs") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
  const { after, controlBlobs, done } = answer.value;
  if (toNumber(after) !== count || (controlBlobs.length === 0 && !done)) {
    throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  }
  return answer.value;
}
