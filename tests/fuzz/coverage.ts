/**
 * Which parts of the project's code ran, and how often, by the counters that V8 keeps for every
 * branch (`Profiler.takePreciseCoverage`). No instrumented copy of the code, no native fuzzer: what
 * runs is what ships.
 */
import { Session } from "node:inspector";

interface CoverageRange {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface CoverageResult {
  readonly result: readonly {
    readonly scriptId: string;
    readonly url: string;
    readonly functions: readonly { readonly ranges: readonly CoverageRange[] }[];
  }[];
}

/** What ran since the last look. */
export interface Covered {
  /** Parts that never ran before. */
  readonly fresh: ReadonlySet<string>;
  /** Of the parts that were looked for, those that ran. */
  readonly found: ReadonlySet<string>;
  /** How often the part ran that ran most. */
  readonly most: number;
}

export class Coverage {
  readonly #session = new Session();
  readonly #seen = new Set<string>();
  readonly #ours: RegExp;

  /** `ours`: the URLs of the code that counts. */
  constructor(ours: RegExp) {
    this.#ours = ours;
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** Parts that have run. */
  get parts(): number {
    return this.#seen.size;
  }

  /** What ran since the last call, and forgets it. */
  take(looked?: ReadonlySet<string>): Covered {
    const fresh = new Set<string>();
    const found = new Set<string>();
    let most = 0;
    // A session within its own thread answers before `post` returns.
    this.#session.post("Profiler.takePreciseCoverage", (error, answer) => {
      if (error !== null) throw error;
      for (const script of (answer as unknown as CoverageResult).result) {
        if (!this.#ours.test(script.url)) continue;
        for (const { ranges } of script.functions) {
          for (const { startOffset, endOffset, count } of ranges) {
            if (count === 0) continue;
            if (count > most) most = count;
            const part = `${script.scriptId}:${startOffset}:${endOffset}`;
            if (looked?.has(part) === true) found.add(part);
            if (this.#seen.has(part)) continue;
            this.#seen.add(part);
            fresh.add(part);
          }
        }
      }
    });
    return { fresh, found, most };
  }

  close(): void {
    this.#session.post("Profiler.stopPreciseCoverage");
    this.#session.disconnect();
  }
}
