/** How long a relay takes from the start of its process until it accepts, with a million blobs in its store; and what memory it has then. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { inDataFolder } from "../harness/build.ts";
import {
  amount,
  compare,
  type Figures,
  inTurns,
  type Question,
  type Settings,
  within,
} from "../harness/measure.ts";
import { Part, withParts } from "../harness/part.ts";

const load = { groups: 100, blobs: 1_000_000, headerBytes: 74, bodyBytes: 256 };
const acceptingMs = 1_000;
const settledMs = 1_500;

/** Fills a store that is not there yet. */
export function fillStore(
  folder: string,
  args: { groups: number; blobs: number; headerBytes: number; bodyBytes: number },
): Promise<void> {
  return withParts(["load/store-fill"] as const, (store) =>
    store.call<void>("fill", { folder, ...args }),
  );
}

async function start(settings: Settings, folder: string): Promise<Figures> {
  const began = performance.now();
  const relay = Part.start("harness/relay", settings.relayOptions);
  try {
    await relay.call("start", { folder });
    const ms = performance.now() - began;
    await new Promise<void>((resolve) => setTimeout(resolve, settledMs));
    return { ms, bytes: await relay.call<number>("residentBytes") };
  } finally {
    await relay.stop();
  }
}

export const startUp: Question = {
  name: "start",
  what: "a relay's start with a store of 1,000,000 blobs of 256 B: until it accepts, and its memory then",
  ask: (settings) =>
    inDataFolder(async (folder) => {
      const full = join(folder, "full");
      const empty = join(folder, "empty");
      mkdirSync(empty);
      const blobs = amount(settings, load.blobs);
      settings.progress(`filling a store with ${blobs} blobs`);
      await fillStore(full, { ...load, blobs });
      // The first start of a store makes what later ones find.
      for (const each of [full, empty]) await start(settings, each);
      const pairs = await inTurns(
        settings,
        () => start(settings, full),
        () => start(settings, empty),
      );
      const ours = "the relay's process, Node and all its modules with it, until it listens";
      const sides = { ours, limit: "the same with an empty store" };
      return [
        within(
          {
            question: "start",
            what: "from the start of the process until it accepts, with 1,000,000 blobs in the store",
            unit: "ms",
            target: 1,
            wanted: "at most",
            sides: { ours, limit: "one second" },
          },
          pairs.map((pair) => pair.ours["ms"] as number),
          acceptingMs,
        ),
        compare(
          {
            question: "start/empty",
            what: "the same beside an empty store",
            unit: "ms",
            wanted: "at most",
            sides,
          },
          pairs,
          "ms",
        ),
        compare(
          {
            question: "start/memory",
            what: "resident memory of the relay with 1,000,000 blobs in its store, and with none",
            unit: "B",
            target: 1.1,
            wanted: "at most",
            sides: { ours: "1.5 s after it accepts", limit: "the same with an empty store" },
          },
          pairs,
          "bytes",
        ),
      ];
    }),
};
