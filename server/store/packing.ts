/** How the rows of a commit become a few values: numbers as JSON, bytes in one array. */

/** One array of numbers a row, as JSON; null where there are no rows. */
export function numbersOf<Row>(rows: readonly Row[], one: (row: Row) => string): string | null {
  if (rows.length === 0) return null;
  let text = "[";
  for (const row of rows) text += text.length === 1 ? `[${one(row)}]` : `,[${one(row)}]`;
  return `${text}]`;
}

/** Puts arrays one after another and tells where each begins, counted from 1 as `substr` counts. */
export class BytePacker {
  readonly packed: Uint8Array;
  #offset = 0;

  constructor(length: number) {
    // SQLite takes an empty array for NULL, of which no part can be taken.
    this.packed = new Uint8Array(length + 1);
  }

  put(bytes: Uint8Array): number {
    const start = this.#offset;
    this.packed.set(bytes, start);
    this.#offset = start + bytes.byteLength;
    return start + 1;
  }

  /** For a field of fixed length, which the trigger cuts without being told. */
  putFixed(bytes: Uint8Array, length: number): number {
    if (bytes.byteLength !== length) {
      throw new RangeError(`a field of ${length} bytes has ${bytes.byteLength}`);
    }
    return this.put(bytes);
  }
}
