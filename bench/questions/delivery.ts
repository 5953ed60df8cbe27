/**
 * How long from one device's push until another device of its group has it? In
 * an open loop: pushes go out at a fixed rate whatever comes back. Alone, and
 * beside other groups' pushes that keep the machine at half of what our relay
 * can do. Both are on disk before they are delivered.
 */
import {
  amount,
  compare,
  type Figures,
  inTurns,
  loadOf,
  type Question,
  type Settings,
} from "../harness/measure.ts";
import { limitDurable, loadLimit, loadOurs, oursDurable } from "../harness/sides.ts";

const full = { payloadBytes: 256, perSecond: 200, total: 1_000 };
const sides = {
  ours: `${oursDurable}, and then delivers`,
  limit: `${limitDurable}, and then delivers`,
};

/** Pushes per second that are half of what our relay does here and now. */
async function halfOfMaximum(settings: Settings): Promise<number> {
  settings.progress("finding half of the maximum load");
  const figures = await loadOurs(settings, "pushes", {
    clients: 16,
    outstanding: 32,
    payloadBytes: full.payloadBytes,
    blobsPerPush: 1,
    coalesce: false,
    ...loadOf(settings, { warmup: 30_000, measured: 60_000 }),
  });
  return Math.round((figures["perSecond"] as number) / 2);
}

export const delivery: Question = {
  name: "delivery",
  what: "push to received by another device, 256 B, 200/s open loop: alone, and at half of maximum load",
  ask: async (settings) => {
    const alone = { beside: 0, besideClients: 0 };
    const half = { beside: await halfOfMaximum(settings), besideClients: 16 };
    const load = { ...full, total: amount(settings, full.total, 50) };
    const results = [];
    for (const [name, what, beside] of [
      ["delivery", "alone", alone],
      ["delivery/half-load", `beside ${half.beside} pushes/s of 16 other groups`, half],
    ] as const) {
      const pairs = await inTurns(
        settings,
        (): Promise<Figures> => loadOurs(settings, "delivery", { ...load, ...beside }),
        () => loadLimit("delivery", { ...load, ...beside }),
      );
      for (const [figure, target] of [
        ["p50Ms", 1.3],
        ["p99Ms", 1.5],
      ] as const) {
        const asked = {
          question: `${name}/${figure.slice(0, 3)}`,
          what: `push to received by another device, 256 B, 200/s open loop, ${what}: ${figure.slice(0, 3)}`,
          unit: "ms",
          target,
          wanted: "at most",
          sides,
        } as const;
        results.push(compare(asked, pairs, figure));
      }
    }
    return results;
  },
};
