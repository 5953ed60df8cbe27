/** The quick ones of the scenarios on real processes; `npm run chaos` runs all of them. */
import { after, test } from "node:test";
import { build } from "../chaos/build.ts";
import { scenarios } from "../chaos/scenarios.ts";
import { NotHere, World } from "../chaos/world.ts";

const built = build();
after(() => built.remove());

for (const scenario of scenarios) {
  if (scenario.short !== true) continue;
  test(`on real processes: ${scenario.name}`, async (t) => {
    const world = new World({ built, seed: 1, tell: () => undefined, short: true });
    try {
      await scenario.run(world);
    } catch (error) {
      if (!(error instanceof NotHere)) {
        t.diagnostic(world.story.join("\n"));
        throw error;
      }
      t.skip(`NOT TESTED: ${error.message}`);
    } finally {
      await world.end();
    }
  });
}
