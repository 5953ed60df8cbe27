/**
 * Whether a push costs more where there is more: with more groups in the store, with more blobs in it, and
 * with more groups that push at once.
 */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { inDataFolder } from "../harness/build.ts";
import {
  compare,
  type Figures,
  inTurns,
  loadOf,
  type Question,
  type Result,
  type Settings,
} from "../harness/measure.ts";
import { loadOursOn, oursDurable } from "../harness/sides.ts";
import { fillStore } from "./start-up.ts";

const load = {
  payloadBytes: 256,
  blobsPerPush: 1,
  coalesce: false,
  warmup: 15_000,
  measured: 50_000,
};
const blob = { headerBytes: 74, bodyBytes: 256 };
/** Pushes that are outstanding in all, whoever's they are. */
const outstanding = 512;

/** Pushes on a copy of a store, so that each run finds what the one before it found. */
async function pushes(settings: Settings, made: string, clients: number): Promise<Figures> {
  const folder = `${made}-copy`;
  cpSync(made, folder, { recursive: true });
  try {
    return await loadOursOn(settings, folder, "pushes", {
      ...loadOf(settings, load),
      clients,
      outstanding: Math.ceil(outstanding / clients),
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface Growth {
  readonly question: string;
  readonly what: string;
  /** Groups and blobs of the store, and devices that push. */
  readonly little: readonly [groups: number, blobs: number, clients: number];
  readonly much: readonly [groups: number, blobs: number, clients: number];
  readonly target?: number;
}

const growths: readonly Growth[] = [
  {
    question: "growth/groups-100",
    what: "16 devices push into groups of their own: 100 groups in the store beside 1",
    little: [1, 0, 16],
    much: [100, 0, 16],
    target: 0.85,
  },
  {
    question: "growth/groups-10000",
    what: "16 devices push into groups of their own: 10,000 groups in the store beside 1",
    little: [1, 0, 16],
    much: [10_000, 0, 16],
    target: 0.85,
  },
  {
    question: "growth/blobs-1000000",
    what: "16 devices push into groups of their own: 1,000,000 blobs in the store beside 10,000",
    little: [16, 10_000, 16],
    much: [16, 1_000_000, 16],
    target: 0.85,
  },
  {
    question: "growth/active-100",
    what: "512 pushes outstanding, of 100 devices in 100 groups beside 1 device in 1 group",
    little: [1, 0, 1],
    much: [1, 0, 100],
  },
];

export const growth: Question = {
  name: "growth",
  what: "pushes/s with more groups and more blobs in the store beside fewer",
  ask: (settings) =>
    inDataFolder(async (folder) => {
      const results: Result[] = [];
      const made = new Map<string, Promise<string>>();
      const store = (groups: number, blobs: number): Promise<string> => {
        const path = join(folder, `${groups}-${blobs}`);
        const filled =
          made.get(path) ?? fillStore(path, { ...blob, groups, blobs }).then(() => path);
        made.set(path, filled);
        return filled;
      };
      for (const { question, what, little, much, target } of growths) {
        settings.progress(what);
        const scaled = (blobs: number): number => (settings.short ? blobs / 50 : blobs);
        const small = await store(little[0], scaled(little[1]));
        const large = await store(much[0], scaled(much[1]));
        const pairs = await inTurns(
          settings,
          () => pushes(settings, large, much[2]),
          () => pushes(settings, small, little[2]),
        );
        const asked = {
          question,
          what,
          unit: "pushes/s",
          sides: { ours: oursDurable, limit: "the same relay with little" },
          ...(target === undefined ? {} : { target }),
        };
        results.push(compare(asked, pairs, "perSecond"));
      }
      return results;
    }),
};
