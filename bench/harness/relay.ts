/** Our relay as a role: as anybody starts it, with its limits lifted. */
import { join } from "node:path";
import { startRelay } from "../../server/index.ts";
import { serveRole } from "./role.ts";

const lifted = 2 ** 40;

serveRole({
  start: async (args: { folder: string }) => {
    const relay = await startRelay({
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
    return { port: relay.port };
  },
});
