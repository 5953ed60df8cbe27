/**
 * Runs one target: inputs that follow from a seed, each made of one that did something new. New is a
 * kind of outcome that was not seen before, or a part of the code that had not run.
 *
 * Coverage is looked at once a batch, since a look costs milliseconds. Where a batch ran something
 * new, its inputs run once more, in halves, until those are found that did.
 */
import { inspect } from "node:util";
import { SyncError } from "../../wire/errors.ts";
import { Chance } from "./chance.ts";
import type { Coverage } from "./coverage.ts";
import { mutate } from "./mutate.ts";
import type { Watchdog } from "./watchdog.ts";

/** What is fed. */
export interface Target {
  readonly name: string;
  /** Its share of the inputs: what costs more has less. */
  readonly weight: number;
  /** Valid inputs to begin with. */
  seeds(): readonly Uint8Array[];
  /**
   * Feeds one input and says what it came to, as one of a few words. What it throws must be a
   * `SyncError`, or of the target's own documented kinds: those it catches.
   */
  run(input: Uint8Array): string | Promise<string>;
  /** Changes that leave the outermost message unreadable say nothing here. */
  readonly structured?: boolean;
  /** How often one part of the code may run for one input, beside `workPerByte`. */
  readonly work?: number;
}

/** An input that came to what nobody documented. */
export class Finding extends Error {
  readonly target: string;
  readonly input: Uint8Array;

  constructor(target: string, input: Uint8Array, cause: unknown) {
    super(`${target}: ${inspect(cause)}`, { cause });
    this.target = target;
    this.input = input;
  }
}

/** How often one part of the code may run for each byte of input. */
const workPerByte = 64;
const workPerInput = 20_000;
/** Memory outside the heap that a batch may leave standing, in bytes. */
const arrayBytesMax = 512 * 1024 * 1024;
const batchInputs = 1_000;
/** Inputs that are looked for after one batch. */
const searchesMax = 4;
/** Inputs that did something new; of more, some go. */
const poolMax = 600;

export class Run {
  readonly target: Target;
  readonly #chance: Chance;
  readonly #coverage: Coverage | undefined;
  readonly #watchdog: Watchdog | undefined;
  readonly #pool: Uint8Array[];
  readonly #outcomes = new Map<string, number>();
  /** The first inputs that came to each outcome, and those that ran something new. */
  readonly kept: Uint8Array[] = [];
  inputs = 0;

  constructor(
    target: Target,
    seed: number,
    corpus: readonly Uint8Array[],
    coverage?: Coverage,
    watchdog?: Watchdog,
  ) {
    this.target = target;
    this.#watchdog = watchdog;
    this.#chance = Chance.of(seed, target.name);
    this.#coverage = coverage;
    this.#pool = [...target.seeds(), ...corpus];
  }

  /** How often each outcome came. */
  get outcomes(): ReadonlyMap<string, number> {
    return this.#outcomes;
  }

  get pool(): number {
    return this.#pool.length;
  }

  /** Feeds what is known: the valid inputs and the corpus. */
  async begin(): Promise<void> {
    const known = [...this.#pool];
    for (const input of known) await this.#feed(input);
    this.#coverage?.take();
  }

  /** Feeds so many new inputs. Throws a `Finding` at the first that comes to what is not documented. */
  async go(count: number): Promise<void> {
    for (let left = count; left > 0; left -= batchInputs) {
      await this.#batch(Math.min(left, batchInputs));
    }
  }

  async #batch(count: number): Promise<void> {
    const inputs: Uint8Array[] = [];
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const input = this.#next();
      bytes += input.byteLength;
      inputs.push(input);
      const coming = this.#feed(input);
      if (coming instanceof Promise) await coming;
    }
    const covered = this.#coverage?.take();
    if (covered === undefined) return;
    const allowed = bytes * workPerByte + count * (this.target.work ?? workPerInput);
    if (covered.most > allowed) {
      throw new Finding(
        this.target.name,
        await this.#costliest(inputs),
        new Error(`a batch of ${bytes} bytes ran one part ${covered.most} times`),
      );
    }
    const { arrayBuffers } = process.memoryUsage();
    if (arrayBuffers > arrayBytesMax) {
      throw new Finding(
        this.target.name,
        new Uint8Array(),
        new Error(`${arrayBuffers} bytes held`),
      );
    }
    if (covered.fresh.size > 0) await this.#search(inputs, covered.fresh);
  }

  #next(): Uint8Array {
    const chance = this.#chance;
    if (chance.oneIn(200)) return chance.bytes(chance.below(300));
    const { structured = false } = this.target;
    return mutate(chance.pick(this.#pool), chance.pick(this.#pool), chance, structured);
  }

  /** Keeps inputs that ran these parts: all run again, in halves. */
  async #search(inputs: readonly Uint8Array[], fresh: ReadonlySet<string>): Promise<void> {
    const looked = new Set(fresh);
    for (let found = 0; found < searchesMax && looked.size > 0; found++) {
      let some = inputs;
      while (some.length > 1) {
        const half = some.slice(0, Math.ceil(some.length / 2));
        some = (await this.#ran(half, looked)).size > 0 ? half : some.slice(half.length);
      }
      const [input] = some;
      const ran = input === undefined ? looked : await this.#ran([input], looked);
      // What runs once in a process, such as what a module prepares, does not run again.
      if (input === undefined || ran.size === 0) return;
      this.#keep(input);
      for (const part of ran) looked.delete(part);
    }
  }

  async #ran(
    inputs: readonly Uint8Array[],
    looked: ReadonlySet<string>,
  ): Promise<ReadonlySet<string>> {
    for (const input of inputs) await this.#feed(input, false);
    return this.#coverage?.take(looked).found ?? looked;
  }

  async #costliest(inputs: readonly Uint8Array[]): Promise<Uint8Array> {
    let worst = new Uint8Array();
    let most = -1;
    for (const input of inputs) {
      await this.#feed(input, false);
      const covered = this.#coverage?.take();
      if (covered !== undefined && covered.most > most) {
        most = covered.most;
        worst = new Uint8Array(input);
      }
    }
    return worst;
  }

  #feed(input: Uint8Array, count = true): void | Promise<void> {
    // A target may keep or wipe what it is handed.
    const copy = new Uint8Array(input);
    this.#watchdog?.fed(copy);
    let outcome: string | Promise<string>;
    try {
      outcome = this.target.run(copy);
    } catch (error) {
      outcome = outcomeOf(error, this.target.name, input);
    }
    if (typeof outcome === "string") {
      if (count) this.#count(outcome, input);
      return;
    }
    return outcome.then(
      (said) => {
        if (count) this.#count(said, input);
      },
      (error: unknown) => {
        const said = outcomeOf(error, this.target.name, input);
        if (count) this.#count(said, input);
      },
    );
  }

  #count(outcome: string, input: Uint8Array): void {
    this.inputs += 1;
    const before = this.#outcomes.get(outcome) ?? 0;
    this.#outcomes.set(outcome, before + 1);
    if (before === 0) this.#keep(input);
  }

  #keep(input: Uint8Array): void {
    this.kept.push(input);
    if (this.#pool.length < poolMax) this.#pool.push(input);
    else this.#pool[this.#chance.below(poolMax)] = input;
  }
}

function outcomeOf(error: unknown, target: string, input: Uint8Array): string {
  if (error instanceof SyncError) return error.codeName;
  throw new Finding(target, input, error);
}
