/** A device that has read nothing pulls a log of 100,000 blobs: blobs a second, received and decrypted. */
import { inDataFolder } from "../harness/build.ts";
import { amount, compare, inTurns, type Question } from "../harness/measure.ts";
import { loadLimit, loadOurs } from "../harness/sides.ts";
import { catchUpWith, makeHistory } from "./verification.ts";

const full = { blobs: 100_000, payloadBytes: 256 };
/** What a whole client catches up with: a log that one device wrote. */
const history = { senders: 1, payloadBytes: 256, atOnce: 500 };
const limit = "L4: pages of 1,000 rows out of SQLite, each sealed as one frame, nothing else";

export const catchUp: Question = {
  name: "catch-up",
  what: "blobs/s, a log of 100,000 blobs of 256 B pulled by one device: on the wire, and opened and verified by the client in Node",
  ask: async (settings) => {
    const load = { ...full, blobs: amount(settings, full.blobs) };
    settings.progress("on the wire");
    const onTheWire = await inTurns(
      settings,
      () => loadOurs(settings, "catchUp", load),
      () => loadLimit("catchUp", load),
    );
    const opened = await inDataFolder(async (made) => {
      settings.progress("a device writes the history that a client opens");
      const blobs = await makeHistory(made, { ...history, blobs: load.blobs });
      return await inTurns(
        settings,
        () => catchUpWith(settings, made, blobs, true),
        () => loadLimit("catchUp", load),
      );
    });
    return [
      compare(
        {
          question: "catch-up",
          what: "blobs/s on the wire, a log of 100,000 blobs of 256 B pulled by one device",
          unit: "blobs/s",
          target: 0.75,
          sides: {
            ours: "this relay over the real protocol, in an 8 MiB window; header and signature come with each body (186 B more than the limit's rows)",
            limit,
          },
        },
        onTheWire,
        "perSecond",
      ),
      compare(
        {
          question: "catch-up/opened",
          what: "the same, opened, verified, stored, handed to the app and acknowledged by the client in Node",
          unit: "blobs/s",
          target: 0.25,
          sides: { ours: "this relay and the whole client, its state on disk", limit },
        },
        opened,
        "perSecond",
      ),
    ];
  },
};
