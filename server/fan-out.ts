/**
 * What a commit's blobs look like to the sessions of a group. Each blob is
 * encoded once for all; a `Deliver` is put together once for all devices that
 * pushed nothing in the commit, and once for each that did. Pure, and lazy: a
 * commit that nobody listens to costs nothing.
 */
import { encodeDeliver, encodeStoredBlobField, type OwnBlobParts } from "../wire/hot-encoders.ts";
import { pageBytesMax, windowBlobsMax } from "../wire/limits.ts";
import type { CommittedBlobs } from "./session.ts";
import type { BlobRow } from "./store/contract.ts";

/** Device ids by key, of one group. */
export type DeviceIds = (deviceKey: number) => Uint8Array;

/** A row as field 3 of `Blobs` and `Deliver`. */
export function encodeRow(row: BlobRow, deviceIds: DeviceIds): Uint8Array {
  return encodeStoredBlobField({
    cursor: row.cursor,
    sender: deviceIds(row.deviceKey),
    blobId: row.blobId,
    header: row.header,
    signature: row.signature,
    epoch: row.epoch,
    body: row.body,
    bodyState: row.bodyState,
  });
}

/** The blobs of one group in one commit, ascending and without holes. */
export class CommitFanOut implements CommittedBlobs {
  readonly after: number;
  readonly through: number;
  readonly #rows: readonly BlobRow[];
  readonly #deviceIds: DeviceIds;
  readonly #senders: ReadonlySet<number>;
  #fields: Uint8Array[] | undefined;
  #forOthers: readonly Uint8Array[] | undefined;

  constructor(rows: readonly BlobRow[], deviceIds: DeviceIds) {
    const first = rows[0] as BlobRow;
    this.#rows = rows;
    this.#deviceIds = deviceIds;
    const senders = new Set<number>();
    for (const row of rows) senders.add(row.deviceKey);
    this.#senders = senders;
    this.after = first.cursor - 1;
    this.through = (rows[rows.length - 1] as BlobRow).cursor;
  }

  deliverTo(deviceKey: number): readonly Uint8Array[] {
    if (this.#senders.has(deviceKey)) return this.#encode(deviceKey);
    this.#forOthers ??= this.#encode(undefined);
    return this.#forOthers;
  }

  /** One `Deliver` after another, each within the bounds of a page. */
  #encode(ownKey: number | undefined): Uint8Array[] {
    const encoded: Uint8Array[] = [];
    let after = this.after;
    let fields: Uint8Array[] = [];
    let own: OwnBlobParts[] = [];
    let bytes = 0;
    const close = (through: number): void => {
      encoded.push(encodeDeliver(after, through, fields, own));
      after = through;
      fields = [];
      own = [];
      bytes = 0;
    };
    for (let i = 0; i < this.#rows.length; i++) {
      const row = this.#rows[i] as BlobRow;
      const field = row.deviceKey === ownKey ? undefined : this.#field(i);
      const size = field?.byteLength ?? 64;
      const count = fields.length + own.length;
      if (count > 0 && (count === windowBlobsMax || bytes + size > pageBytesMax)) {
        close(row.cursor - 1);
      }
      if (field === undefined) own.push(row);
      else fields.push(field);
      bytes += size;
    }
    close(this.through);
    return encoded;
  }

  #field(i: number): Uint8Array {
    this.#fields ??= this.#rows.map((row) => encodeRow(row, this.#deviceIds));
    return this.#fields[i] as Uint8Array;
  }
}

/** The rows of a commit, by group, in log order. */
export function rowsByGroup(rows: readonly BlobRow[]): Map<number, BlobRow[]> {
  const groups = new Map<number, BlobRow[]>();
  for (const row of rows) {
    const known = groups.get(row.groupKey);
    if (known === undefined) groups.set(row.groupKey, [row]);
    else known.push(row);
  }
  return groups;
}
