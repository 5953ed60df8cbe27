/** One device writes with 32 pushes outstanding, 100 devices of its group read: deliveries a second. */
import { compare, costs, inTurns, loadOf, type Question } from "../harness/measure.ts";
import { limitDurable, loadLimit, loadOurs, oursDurable } from "../harness/sides.ts";

const load = {
  readers: 100,
  outstanding: 32,
  payloadBytes: 256,
  warmup: 200_000,
  measured: 600_000,
};

export const fanOut: Question = {
  name: "fan-out",
  what: "deliveries/s, 256 B, one writer with 32 pushes outstanding, 100 readers of one group",
  ask: async (settings) => {
    const asked = loadOf(settings, load);
    const pairs = await inTurns(
      settings,
      () => loadOurs(settings, "fanOut", asked),
      () => loadLimit("fanOut", asked),
    );
    const sides = {
      ours: `${oursDurable}, and then delivers`,
      limit: `${limitDurable}, and then delivers; a commit's deliveries share a frame, built once`,
    };
    const question = "fan-out";
    return [
      compare(
        { question, what: fanOut.what, unit: "deliveries/s", target: 0.75, sides },
        pairs,
        "perSecond",
      ),
      ...costs({ question, sides }, pairs, "delivery", asked.warmup + asked.measured).slice(0, 1),
    ];
  },
};
