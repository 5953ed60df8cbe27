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

const stories: readonly Found[] = [
  {
    what: "a restart is handed to no app",
    seed: 243,
    without: [
      [1, 4],
      [6, 7],
      [9, 9],
      [11, 21],
      [23, 24],
      [27, 32],
      [34, 42],
      [44, 52],
      [54, 54],
    ],
  },
  {
    what: "a restored relay shows no snapshot that waited for its confirmation",
    seed: 1148,
    without: [
      [1, 9],
      [12, 19],
      [22, 23],
      [25, 52],
    ],
  },
  {
    what: "a body that is missing while the log is read is not refused",
    seed: 1190,
    without: [
      [1, 1],
      [3, 6],
      [9, 20],
      [22, 24],
      [28, 36],
      [39, 59],
    ],
  },
  {
    what: "what is missing is explained by a page that follows",
    seed: 1501,
    without: [
      [3, 3],
      [6, 8],
      [10, 10],
      [12, 15],
      [17, 19],
      [21, 26],
      [28, 31],
      [33, 57],
    ],
  },
  {
    what: "no device is in sync before it has seen how much of its chain a relay has",
    seed: 1862,
    without: [
      [1, 2],
      [6, 11],
    ],
  },
  {
    what: "what a restored relay lost of a removed device is no other log",
    seed: 2230,
    without: [
      [1, 3],
      [5, 14],
      [17, 24],
      [27, 49],
      [51, 57],
    ],
  },
  {
    what: "members whose additions are read after a log changed may push again what it lost",
    seed: 564,
    without: [],
  },
  {
    what: "a relay whose file was copied back tells those, too, who have read nothing that it lacks",
    seed: 3201,
    without: [
      [1, 1],
      [3, 11],
      [15, 31],
      [34, 35],
      [37, 37],
      [39, 39],
    ],
  },
  {
    what: "a device is not in sync while nobody holds for it what only a snapshot held that is gone",
    seed: 3257,
    without: [
      [1, 7],
      [10, 10],
      [14, 14],
      [16, 30],
      [32, 34],
      [36, 56],
    ],
  },
  {
    what: "who joins before another snapshot stands waits for it, and takes the gap for no lie",
    seed: 3257,
    without: [
      [1, 7],
      [9, 11],
      [16, 16],
      [18, 20],
      [22, 24],
      [27, 30],
      [32, 37],
      [40, 55],
    ],
  },
  {
    what: "who joined a log that was copied back learns of it when another device does",
    seed: 3586,
    without: [
      [2, 5],
      [8, 14],
      [16, 17],
      [20, 21],
      [23, 25],
      [28, 29],
      [31, 32],
      [34, 37],
      [40, 43],
      [45, 52],
    ],
  },
  {
    what: "what reaches the disk behind the hello, and the relay had lost, is no roll-back",
    seed: 1862,
    without: [
      [1, 3],
      [6, 8],
      [10, 12],
    ],
  },
  {
    what: "what a device had read behind a snapshot that it takes over is no replay",
    seed: 2104,
    without: [
      [1, 12],
      [14, 15],
      [17, 17],
      [19, 19],
      [21, 21],
      [23, 23],
      [27, 28],
      [30, 30],
      [33, 34],
      [36, 36],
    ],
  },
  {
    what: "what a snapshot held already, and is pushed again behind it, is no replay",
    seed: 2104,
    without: [
      [1, 15],
      [17, 17],
      [19, 21],
      [23, 23],
      [26, 28],
      [30, 30],
      [33, 34],
      [36, 36],
    ],
  },
];

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
