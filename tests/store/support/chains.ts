/** A group whose chains hold: what a relay that was given it by real devices would have. */
import type { BlobRow, CommitBatch, ControlRow } from "../../../server/store/contract.ts";
import { encodeHeader } from "../../../wire/blob-header.ts";
import { blake2b256 } from "../../../wire/hash.ts";
import { blobLink, zeroLink } from "../../../wire/ids.ts";
import { batch, blob, bytes, control, device, group } from "./rows.ts";

/** Writes commits for one group with one sender. */
export class ChainedGroup {
  readonly groupKey: number;
  readonly groupId: Uint8Array;
  readonly #sender: Uint8Array;
  readonly #control: ControlRow;
  #founded = false;
  #head = 0;
  #bytes = 0;
  #link = zeroLink;

  constructor(groupKey: number) {
    this.groupKey = groupKey;
    this.groupId = group(groupKey).groupId;
    this.#sender = device(groupKey, groupKey).deviceId;
    const change = bytes(700, groupKey);
    this.#control = control(groupKey, 1, { bytes: change, head: blake2b256(change), epoch: 1 });
  }

  get head(): number {
    return this.#head;
  }

  /** The next so many blobs, with what else they change. */
  next(count: number, bodyBytes = 200): CommitBatch {
    const blobs: BlobRow[] = [];
    for (let i = 0; i < count; i++) {
      const seq = this.#head + 1;
      const header = encodeHeader({
        seq,
        previousLink: this.#link,
        ttlS: 0,
        deletes: [],
        force: false,
        entryHash: bytes(32, seq),
        abandonedLink: undefined,
      });
      const blobId = bytes(16, 4_000 + seq);
      this.#link = blobLink(this.groupId, this.#sender, blobId, header);
      const row = blob(this.groupKey, seq, {
        header,
        blobId,
        link: this.#link,
        body: bytes(bodyBytes, seq),
      });
      blobs.push(row);
      this.#head = seq;
      this.#bytes += row.header.byteLength + row.signature.byteLength + row.body.byteLength + 96;
    }
    const control = this.#founded ? [] : [this.#control];
    this.#founded = true;
    return batch({
      groups: [
        group(this.groupKey, {
          head: this.#head,
          blobs: this.#head,
          bytes: this.#bytes,
          membershipHead: this.#control.head,
          controlBytes: this.#control.bytes.byteLength + 96,
        }),
      ],
      devices: [
        device(this.groupKey, this.groupKey, {
          lastSeq: this.#head,
          lastLink: this.#link,
          lastCursor: this.#head,
        }),
      ],
      blobs,
      control,
    });
  }
}
