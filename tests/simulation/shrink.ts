/**
 * Makes the story of a failing seed short: leaves out steps, many at once and then ever fewer, as long
 * as what remains fails in the same way.
 */
import { type SimulationResult, simulate } from "./simulation.ts";

/** Runs that are spent on one seed. */
const runsMax = 250;

export interface Shrunk {
  /** The steps that are left out, by their numbers. */
  readonly without: readonly number[];
  readonly result: SimulationResult;
}

/** A failure without what differs from story to story. */
export function kindOf(failures: readonly string[]): string {
  const [line = ""] = (failures[0] ?? "").split("\n");
  return line.replace(/[A-Za-z0-9_-]{22,}/g, "id").replace(/(?<=.{3})\d+/g, "#");
}

export async function shrink(failed: SimulationResult): Promise<Shrunk> {
  const { seed, steps } = failed;
  const kind = kindOf(failed.failures);
  let kept = Array.from({ length: steps }, (_, i) => i + 1);
  let best = failed;
  let runs = 0;
  const leftOut = (keep: readonly number[]): Set<number> => {
    const all = new Set(keep);
    return new Set(Array.from({ length: steps }, (_, i) => i + 1).filter((step) => !all.has(step)));
  };
  for (let size = Math.ceil(steps / 2); size >= 1 && runs < runsMax; ) {
    let shorter = false;
    for (let at = 0; at < kept.length && runs < runsMax; ) {
      const keep = [...kept.slice(0, at), ...kept.slice(at + size)];
      runs += 1;
      const result = await simulate(seed, { without: leftOut(keep) });
      if (kindOf(result.failures) === kind) {
        kept = keep;
        best = result;
        shorter = true;
      } else {
        at += size;
      }
    }
    if (size === 1 && !shorter) break;
    size = size === 1 ? 1 : Math.ceil(size / 2);
  }
  return { without: [...leftOut(kept)], result: best };
}
