/** Seeded chance: every draw of a simulation follows from its seed. */

/** A stream of draws (sfc32). */
export class Chance {
  #a: number;
  #b: number;
  #c: number;
  #count: number;

  constructor(seed: number, stream = 0) {
    this.#a = seed >>> 0;
    this.#b = Math.floor(seed / 2 ** 32) >>> 0;
    this.#c = stream >>> 0;
    this.#count = 1;
    for (let i = 0; i < 15; i++) this.#draw();
  }

  #draw(): number {
    const drawn = (((this.#a + this.#b) | 0) + this.#count) | 0;
    this.#count = (this.#count + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + drawn;
    return drawn >>> 0;
  }

  /** In [0, 1). */
  uniform(): number {
    return this.#draw() / 2 ** 32;
  }

  /** A whole number, both ends included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from + 1));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError("nothing to pick from");
    return from[Math.floor(this.uniform() * from.length)] as T;
  }

  /** One of several, by their weights. */
  weighted<T>(choices: readonly (readonly [weight: number, value: T])[]): T {
    const total = choices.reduce((sum, [weight]) => sum + weight, 0);
    let at = this.uniform() * total;
    for (const [weight, value] of choices) {
      at -= weight;
      if (at < 0) return value;
    }
    return (choices.at(-1) as readonly [number, T])[1];
  }

  bytes(length: number): Uint8Array {
    const made = new Uint8Array(length);
    for (let i = 0; i < length; i += 4) {
      const drawn = this.#draw();
      for (let k = 0; k < 4 && i + k < length; k++) made[i + k] = drawn >>> (8 * k);
    }
    return made;
  }
}
