/** Our relay as a role: as anybody starts it, with its limits lifted. */
import { join } from "node:path";
import { type RunningRelay, startRelay } from "../../server/index.ts";
import { serveRole } from "./role.ts";

const lifted = 2 ** 40;
let relay: RunningRelay | undefined;

serveRole({
  /** Commits so far. */
  commits: () => Promise.resolve(relay?.counters.commits ?? 0),
  start: async (args: { folder: string }) => {
    relay = await startRelay({
      listen: "127.0.0.1:0",
      data: join(args.folder, "relay"),
      founding: "open",
      logLevel: "error",
      limits: {
        groupBytesMax: lifted,
        storeBytesMax: lifted,
        pushesPerS: 1_000_000,
        pushesBurst: 1_000_000,
        addressConnectionsPerMin: 1_000_000,
        addressHandshakesMax: 1_000,
        handshakesMax: 1_000,
      },
    });
    return { port: relay.port, address: relay.address };
  },
});
