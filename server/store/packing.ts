/** How the rows of a commit become a few values: numbers as JSON, bytes in one array. */

/** One array of numbers a row, as JSON; null where there are no rows. */
export function numbersOf<Row>(rows: readonly Row[], one: (row: Row) => string): string | null {
  if (rows.length === 0) return null;
  let text = "[";
  for (const row of rows) text += text.length === 1 ? `[${one(row)}]` : `,[${one(row)}]`;
  return `${text}]`;
}

/** Digits that every whole number up to 2^53 - 1 fits into. */
export const digitsOfNumber = 16;

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

  /** A whole number from 0 as sixteen decimal digits, of which a cast makes a number again. */
  putNumber(value: number): number {
    const start = this.#offset;
    // Eight digits at a time are small integers, which are divided much faster.
    const high = Math.floor(value / 1e8);
    this.#digits(start, high);
    this.#digits(start + 8, value - high * 1e8);
    this.#offset = start + digitsOfNumber;
    return start + 1;
  }

  #digits(start: number, value: number): void {
    let rest = value | 0;
    for (let at = start + 7; at >= start; at--) {
      const tenth = (rest / 10) | 0;
      this.packed[at] = 48 + rest - tenth * 10;
      rest = tenth;
    }
  }

  /** For a field of fixed length, which the trigger cuts without being told. */
  putFixed(bytes: Uint8Array, length: number): number {
    if (bytes.byteLength !== length) {
      throw new RangeError(`a field of ${length} bytes has ${bytes.byteLength}`);
    }
    return this.put(bytes);
  }
}
