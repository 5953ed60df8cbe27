/**
 * How many blobs a second become durable where a device has much to say? 100
 * blobs of 256 bytes a push, 16 devices with 32 pushes outstanding each. The
 * limit is SQLite alone, which has no network and no cipher to pay for: rows
 * with the relay's own columns, 1,000 a commit.
 */
import { amount, compare, inTurns, loadOf, type Question } from "../harness/measure.ts";
import { loadOurs, oursDurable } from "../harness/sides.ts";
import { appendRows } from "./limits.ts";

const load = {
  clients: 16,
  outstanding: 32,
  payloadBytes: 256,
  blobsPerPush: 100,
  coalesce: false,
  warmup: 60_000,
  measured: 300_000,
};

export const pushBatch: Question = {
  name: "push-batch",
  what: "durable blobs/s, 100 blobs of 256 B a push, 16 devices in 16 groups, 32 outstanding each",
  ask: async (settings) => {
    const pairs = await inTurns(
      settings,
      () => loadOurs(settings, "pushes", loadOf(settings, load)),
      async () => ({
        perSecond: await appendRows("full", 1_000, amount(settings, load.measured)),
      }),
    );
    const asked = {
      question: "push-batch",
      what: pushBatch.what,
      unit: "blobs/s",
      target: 0.75,
      sides: {
        ours: oursDurable,
        limit:
          "L3: SQLite alone, the relay's columns, 1,000 rows a commit (WAL, synchronous=FULL: fsynced); no network, no cipher",
      },
    };
    return [compare(asked, pairs, "perSecond")];
  },
};
