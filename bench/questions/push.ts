/**
 * How many pushes a second does the relay make durable? One blob of 256 bytes a
 * push, 16 devices with 32 pushes outstanding each. Each device is the only one
 * of its group, so nothing is fanned out on either side. Asked twice: with every
 * push in a record of its own, as the limit's clients send theirs, and with a
 * client that puts what waits into one record.
 */
import { compare, costs, inTurns, loadOf, type Question } from "../harness/measure.ts";
import { limitDurable, loadLimit, loadOurs, oursDurable } from "../harness/sides.ts";

const load = {
  clients: 16,
  outstanding: 32,
  payloadBytes: 256,
  warmup: 30_000,
  measured: 150_000,
};

const shape = "256 B, one blob a push, 16 devices in 16 groups, 32 outstanding each";

function question(name: string, coalesce: boolean, target: number, clients: string): Question {
  const what = `durable pushes/s: ${shape}; ${clients}`;
  return {
    name,
    what,
    ask: async (settings) => {
      const asked = loadOf(settings, load);
      const pairs = await inTurns(
        settings,
        () => loadOurs(settings, "pushes", { ...asked, blobsPerPush: 1, coalesce }),
        () => loadLimit("pushes", { ...asked, answers: "acknowledgements" }),
      );
      const sides = { ours: oursDurable, limit: limitDurable };
      return [
        compare({ question: name, what, unit: "pushes/s", target, sides }, pairs, "perSecond"),
        ...costs({ question: name, sides }, pairs, "push", asked.warmup + asked.measured),
      ];
    },
  };
}

export const push = question(
  "push",
  false,
  0.75,
  "every push in a record of its own, on both sides",
);

export const pushCoalesced = question(
  "push-coalesced",
  true,
  1,
  "our client puts the pushes that wait into one record, the limit's does not",
);
