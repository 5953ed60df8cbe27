/**
 * Bad input, shortly: everything that a long run ever kept, and some thousands of new inputs to each
 * target. `npm run fuzz` goes on from here.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Chance } from "./chance.ts";
import { readCorpus } from "./corpus.ts";
import { Finding, Run, type Target } from "./engine.ts";
import { mutate } from "./mutate.ts";
import { targets } from "./targets.ts";

const inputs = 50_000;
const weights = targets.reduce((sum, { weight }) => sum + weight, 0);

for (const target of targets) {
  const count = Math.ceil((inputs * target.weight) / weights);
  test(`${target.name}: an answer or a documented error`, async () => {
    const run = new Run(target, 1, readCorpus(target.name));
    await run.begin();
    await run.go(count);
    assert.ok(run.inputs >= count);
    // A target that refuses everything, or nothing, looks at nothing.
    assert.ok(run.outcomes.size > 1, [...run.outcomes.keys()].join());
  });
}

const broken = (run: Target["run"]): Target => ({
  name: "broken",
  weight: 1,
  seeds: () => [Uint8Array.of(1, 2, 3, 4)],
  run,
});

test("what is not documented is a finding, with its input", async () => {
  const crash = broken((input) => {
    if (input[0] === 9) throw new TypeError("no such thing");
    return "read";
  });
  const late = broken(async (input) => {
    await Promise.resolve();
    if (input[0] === 9) throw new TypeError("no such thing");
    return "read";
  });
  for (const target of [crash, late]) {
    await assert.rejects(new Run(target, 1, []).go(200_000), (error) => {
      assert(error instanceof Finding);
      assert.equal(error.input[0], 9);
      return true;
    });
  }
});

test("a seed determines every input", () => {
  const made = (seed: number): string => {
    const chance = Chance.of(seed, "x");
    let input = chance.bytes(50);
    for (let i = 0; i < 50; i++) input = mutate(input, chance.bytes(9), chance);
    return Buffer.from(input).toString("hex");
  };
  assert.equal(made(1), made(1));
  assert.notEqual(made(1), made(2));
});
