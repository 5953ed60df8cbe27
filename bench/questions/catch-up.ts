/** A device that has read nothing pulls a log of 100,000 blobs: blobs a second, received and decrypted. */
import { compare, inTurns, type Question } from "../harness/measure.ts";
import { loadLimit, loadOurs } from "../harness/sides.ts";

const load = { blobs: 100_000, payloadBytes: 256 };

export const catchUp: Question = {
  name: "catch-up",
  what: "blobs/s on the wire, a log of 100,000 blobs of 256 B pulled by one device",
  ask: async (settings) => {
    const pairs = await inTurns(
      settings,
      () => loadOurs(settings, "catchUp", load),
      () => loadLimit("catchUp", load),
    );
    const asked = {
      question: "catch-up",
      what: catchUp.what,
      unit: "blobs/s",
      target: 0.75,
      sides: {
        ours: "this relay over the real protocol, in an 8 MiB window; header and signature come with each body (186 B more than the limit's rows)",
        limit: "L4: pages of 1,000 rows out of SQLite, each sealed as one frame, nothing else",
      },
    };
    return [compare(asked, pairs, "perSecond")];
  },
};
