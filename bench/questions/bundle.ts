/** What a page loads of the client: bundled, minified, gzipped. */
import { bundlePage } from "../../scripts/page-bundle.ts";
import { root } from "../harness/build.ts";
import { alone, type Question, within } from "../harness/measure.ts";

const bytesMax = 90_000;

export const bundle: Question = {
  name: "bundle",
  what: "bytes of the client for browsers, minified and gzipped",
  ask: async () => {
    const made = await bundlePage('export * from "./client/platform/browser/index.ts";', root);
    if (made.problems.length > 0) throw new Error(made.problems.join("\n"));
    const sides = { ours: "esbuild, minified, in files of their own, gzip -9", limit: "90 kB" };
    return [
      within(
        {
          question: "bundle",
          what: "all of the client for browsers, what a page loads before it runs",
          unit: "B",
          target: 1,
          wanted: "at most",
          sides,
        },
        [made.firstBytes],
        bytesMax,
      ),
      alone(
        {
          question: "bundle/whole",
          what: "the same with what is loaded when it is needed",
          unit: "B",
          sides: { ours: sides.ours },
        },
        [made.wholeBytes],
      ),
    ];
  },
};
