/** Numbers that a seed determines: every input of a run follows from it. */

export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Another stream, determined by this one's seed and a word. */
  static of(seed: number, word: string): Chance {
    let state = seed >>> 0;
    for (let i = 0; i < word.length; i++) {
      state = Math.imul(state ^ word.charCodeAt(i), 0x01000193) >>> 0;
    }
    return new Chance(state);
  }

  /** 32 bits. */
  word(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let value = this.#state;
    value = Math.imul(value ^ (value >>> 15), value | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return (value ^ (value >>> 14)) >>> 0;
  }

  /** A whole number from 0 and below `end`. */
  below(end: number): number {
    return end <= 1 ? 0 : this.word() % end;
  }

  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  bytes(length: number): Uint8Array {
    const made = new Uint8Array(length);
    for (let i = 0; i < length; i++) made[i] = this.word() & 255;
    return made;
  }
}
