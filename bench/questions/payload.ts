/** Durable pushes a second with 4 KiB in each: what bytes cost, beside what pushes cost. */
import { compare, costs, inTurns, loadOf, type Question } from "../harness/measure.ts";
import { limitDurable, loadLimit, loadOurs, oursDurable } from "../harness/sides.ts";

const load = {
  clients: 16,
  outstanding: 32,
  payloadBytes: 4_096,
  warmup: 6_000,
  measured: 30_000,
};

export const payload: Question = {
  name: "payload",
  what: "durable pushes/s, 4 KiB, one blob a push, 16 devices in 16 groups, 32 outstanding each",
  ask: async (settings) => {
    const asked = loadOf(settings, load);
    const pairs = await inTurns(
      settings,
      () => loadOurs(settings, "pushes", { ...asked, blobsPerPush: 1, coalesce: false }),
      () => loadLimit("pushes", { ...asked, answers: "acknowledgements" }),
    );
    const sides = { ours: oursDurable, limit: limitDurable };
    const question = "payload";
    return [
      compare(
        { question, what: payload.what, unit: "pushes/s", target: 0.75, sides },
        pairs,
        "perSecond",
      ),
      ...costs({ question, sides }, pairs, "push", asked.warmup + asked.measured),
    ];
  },
};
