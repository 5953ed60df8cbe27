/**
 * Hashes of objects that are on their way: each range is hashed as it is stored, so that an object of a
 * gigabyte costs nothing at its end. What is not known, after a restart or because too many are on
 * their way, is read again, a range at a time.
 */
import { type StreamingHash, streamingBlake2b256 } from "../wire/hash.ts";
import { objectRangeBytesMax } from "../wire/limits.ts";
import type { LifeReads, ObjectRow } from "./store/life.ts";

/** Objects whose hash is kept on the way. */
const hashesMax = 64;

export class ObjectHashes {
  readonly #store: LifeReads;
  readonly #underWay = new Map<number, Promise<Uint8Array>>();
  readonly #hashes = new Map<number, { readonly hash: StreamingHash; bytes: number }>();

  constructor(store: LifeReads) {
    this.#store = store;
  }

  /** A range is on disk. */
  stored(objectKey: number, offset: number, data: Uint8Array): void {
    let known = this.#hashes.get(objectKey);
    if (known === undefined && offset === 0) {
      known = { hash: streamingBlake2b256(), bytes: 0 };
      this.#hashes.set(objectKey, known);
      const [oldest] = this.#hashes.keys();
      if (this.#hashes.size > hashesMax && oldest !== undefined) this.#hashes.delete(oldest);
    }
    // A range that was not seen leaves the hash behind: it is made anew.
    if (known?.bytes !== offset) return;
    known.hash.update(data);
    known.bytes += data.byteLength;
  }

  /** The hash of an object that is whole on disk. However many ask, it is made once at a time. */
  hash(row: ObjectRow): Promise<Uint8Array> {
    const underWay = this.#underWay.get(row.objectKey);
    if (underWay !== undefined) return underWay;
    const hashing = this.#hash(row).finally(() => this.#underWay.delete(row.objectKey));
    this.#underWay.set(row.objectKey, hashing);
    return hashing;
  }

  async #hash(row: ObjectRow): Promise<Uint8Array> {
    const known = this.#hashes.get(row.objectKey);
    this.#hashes.delete(row.objectKey);
    if (known?.bytes === row.sizeBytes) return known.hash.digest();
    const hash = streamingBlake2b256();
    for (let offset = 0; offset < row.sizeBytes; offset += objectRangeBytesMax) {
      hash.update(await this.#store.readObject(row.objectKey, offset, objectRangeBytesMax));
    }
    return hash.digest();
  }
}
