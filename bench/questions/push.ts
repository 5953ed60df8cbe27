/**
 * How many pushes a second does the relay make durable? One blob of 256 bytes a
 * push, 16 devices with 32 pushes outstanding each. Each device is the only one
 * of its group, so nothing is fanned out on either side. Asked twice: with every
 * push in a record of its own, as the limit's clients send theirs, and with a
 * client that puts what waits into one record.
 */
import { compare, inTurns, type Question } from "../harness/measure.ts";
import { limitDurable, loadLimit, loadOurs, oursDurable } from "../harness/sides.ts";

const load = {
  clients: 16,
  outstanding: 32,
  payloadBytes: 256,
  warmup: 40_000,
  measured: 200_000,
};

const shape = "256 B, one blob a push, 16 devices in 16 groups, 32 outstanding each";

export const push: Question = {
  name: "push",
  what: `durable pushes/s: ${shape}`,
  ask: async (settings) => {
    const pairs = await inTurns(
      settings,
      () => loadOurs(settings, "pushes", { ...load, blobsPerPush: 1, coalesce: false }),
      () => loadLimit("pushes", { ...load, answers: "acknowledgements" }),
    );
    const asked = {
      question: "push",
      what: `durable pushes/s: ${shape}; every push a record of its own on both sides`,
      unit: "pushes/s",
      target: 0.75,
      sides: { ours: oursDurable, limit: limitDurable },
    };
    return [compare(asked, pairs, "perSecond")];
  },
};

export const pushCoalesced: Question = {
  name: "push-coalesced",
  what: `the same, with a client that puts the pushes that wait into one record`,
  ask: async (settings) => {
    const pairs = await inTurns(
      settings,
      () => loadOurs(settings, "pushes", { ...load, blobsPerPush: 1, coalesce: true }),
      () => loadLimit("pushes", { ...load, answers: "acknowledgements" }),
    );
    const asked = {
      question: "push-coalesced",
      what: `durable pushes/s: ${shape}; our client puts the pushes that wait into one record, the limit's does not`,
      unit: "pushes/s",
      target: 1,
      sides: { ours: oursDurable, limit: limitDurable },
    };
    return [compare(asked, pairs, "perSecond")];
  },
};
