/** A few seeds of the races, and every seed that ever found something, by what it found. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { memoizeXWing } from "./memoize.ts";

memoizeXWing();
const { race } = await import("./races.ts");

async function clean(seed: number): Promise<void> {
  const { failures, story } = await race(seed);
  assert.deepEqual(failures, [], `seed ${seed}\n${story.join("\n")}`);
}

test("SECURITY Membership, races: 50 seeds: whoever remains agrees and holds the same keyring, and nobody hangs", async () => {
  for (let seed = 1; seed <= 50; seed++) await clean(seed);
});

test("a seed tells the same story each time", async () => {
  const [first, second] = [await race(7), await race(7)];
  assert.deepEqual(first.story, second.story);
  assert.equal(first.events, second.events);
});

describe("found by races", () => {
  test("1215: a device that is removed while others join by it leaves nobody waiting", () =>
    clean(1215));
  test("2263: the same, with the addition on its way to the relay", () => clean(2263));
});
