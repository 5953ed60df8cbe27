/** Virtual time, processes that can die or freeze, and the story of what happened. */
import { Chance } from "./chance.ts";

interface Event {
  atMs: number;
  readonly order: number;
  readonly run: () => void;
  readonly process: Process | undefined;
  cancelled: boolean;
}

/** A program on some machine. What it set going ends with it. */
export class Process {
  readonly #world: World;
  alive = true;
  /** Until then it does nothing. */
  frozenUntilMs = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** It stands still: a laptop that sleeps, a machine that swaps. Never ends early: order would not hold. */
  freeze(ms: number): void {
    this.frozenUntilMs = Math.max(this.frozenUntilMs, this.#world.nowMs + ms);
  }

  after(ms: number, run: () => void): () => void {
    return this.#world.after(ms, run, this);
  }

  /** Never resolves where the process dies meanwhile. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }
}

export class World {
  readonly seed: number;
  /** What happens when; randomness of programs is drawn elsewhere, so that it changes no plan. */
  readonly plan: Chance;
  readonly story: string[] = [];
  readonly failures: string[] = [];
  /** Every connection and every entry, too. */
  readonly verbose: boolean;
  events = 0;
  /** The step that happens now, for the story; 0: none. */
  step = 0;
  #nowMs = 0;
  #order = 0;
  readonly #heap: Event[] = [];

  constructor(seed: number, verbose: boolean | undefined = false) {
    this.seed = seed;
    this.verbose = verbose;
    this.plan = new Chance(seed);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  tell(text: string): void {
    const step = this.step === 0 ? "    " : String(this.step).padStart(3).padEnd(4);
    this.story.push(`${(this.#nowMs / 1000).toFixed(3).padStart(9)} s ${step} ${text}`);
  }

  /** Only worth telling where somebody looks closely. */
  detail(text: () => string): void {
    if (this.verbose) this.tell(text());
  }

  /** An invariant is broken. The run ends behind the event that broke it. */
  fail(text: string): void {
    this.failures.push(text);
    this.tell(`FAILED: ${text}`);
  }

  after(ms: number, run: () => void, process?: Process): () => void {
    return this.at(this.#nowMs + ms, run, process);
  }

  /** What is to happen at one moment happens in the order in which it was asked for. */
  at(ms: number, run: () => void, process?: Process): () => void {
    const event: Event = {
      atMs: Math.max(this.#nowMs, ms),
      order: this.#order++,
      run,
      process,
      cancelled: false,
    };
    this.#push(event);
    return () => {
      event.cancelled = true;
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  /** Runs until a condition holds, or this much time has passed; tells which. */
  async until(condition: () => boolean, mostMs: number): Promise<boolean> {
    const endMs = this.#nowMs + mostMs;
    await drained();
    while (this.failures.length === 0) {
      if (condition()) return true;
      if (!(await this.#step(endMs))) break;
    }
    this.#nowMs = Math.max(this.#nowMs, this.failures.length === 0 ? endMs : 0);
    return false;
  }

  async run(ms: number): Promise<void> {
    await this.until(() => false, ms);
  }

  async #step(endMs: number): Promise<boolean> {
    for (;;) {
      const event = this.#heap[0];
      if (event === undefined || event.atMs > endMs) return false;
      this.#pop();
      if (event.cancelled || event.process?.alive === false) continue;
      const frozenUntilMs = event.process?.frozenUntilMs ?? 0;
      if (frozenUntilMs > event.atMs) {
        // In the order in which it would have happened.
        event.atMs = frozenUntilMs;
        this.#push(event);
        continue;
      }
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      this.events += 1;
      try {
        event.run();
      } catch (error) {
        this.fail(`uncaught: ${describe(error)}`);
      }
      await drained();
      return true;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      if (!before(event, heap[parent] as Event)) break;
      heap[at] = heap[parent] as Event;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Event, heap[child] as Event)) {
        child += 1;
      }
      if (!before(heap[child] as Event, last)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** Turns that are asked for at once: each round of the event loop costs more than all that are taken in it. */
const turnsAtOnce = 64;
/** Turns that were asked for and have not come yet. */
let turnsLeft = 0;
const waiting: (() => void)[] = [];

function turn(): void {
  turnsLeft -= 1;
  waiting.shift()?.();
}

/**
 * Everything that follows from an event without time or outside runs in microtasks: all of them. Node
 * empties their queue, and reports rejections that nobody handles, between one immediate and the next.
 */
function drained(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) <= turnsLeft) return;
    turnsLeft += turnsAtOnce;
    for (let i = 0; i < turnsAtOnce; i++) setImmediate(turn);
  });
}

export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : ` (because of ${describe(error.cause)})`;
  return `${error.stack ?? error.message}${cause}`;
}
