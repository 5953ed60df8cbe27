/**
 * Every story of the simulation that ever found something, by what it found: its seed, and the steps
 * that it does without. How one gets here stands in docs/TESTING.md.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { memoizeXWing } from "./memoize.ts";

memoizeXWing();
const { simulate } = await import("./simulation.ts");

interface Found {
  /** What the story found, as what holds now. */
  readonly what: string;
  readonly seed: number;
  /** Steps, first and last, that are left out. */
  readonly without: readonly (readonly [number, number])[];
}

const stories: readonly Found[] = [];

describe("stories that found something", () => {
  for (const { what, seed, without } of stories) {
    test(`${seed}: ${what}`, async () => {
      const left = without.flatMap(([first, last]) =>
        Array.from({ length: last - first + 1 }, (_, i) => first + i),
      );
      const { failures, story } = await simulate(seed, { without: new Set(left) });
      assert.deepEqual(failures, [], `seed ${seed}\n${story.join("\n")}`);
    });
  }
});
