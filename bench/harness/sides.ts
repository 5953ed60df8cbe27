/** How a question starts the two sides: a server and its load, each a process, on an empty store. */
import { inDataFolder } from "./build.ts";
import type { Figures, Settings } from "./measure.ts";
import { withParts } from "./part.ts";

/** Durability, as it is stated beside the figures. */
export const oursDurable =
  "this relay over the real protocol; acknowledges after the SQLite commit (WAL, synchronous=FULL: fsynced)";
export const limitDurable =
  "L4: ws, ChaCha20-Poly1305 and SQLite group commit, nothing else; acknowledges after the commit (WAL, synchronous=FULL: fsynced)";

/** Loads a fresh relay of ours. */
export function loadOurs(settings: Settings, method: string, args: object): Promise<Figures> {
  return inDataFolder((folder) =>
    withParts(
      [{ name: "harness/relay", nodeOptions: settings.relayOptions }, "load/relay-load"] as const,
      async (server, load) => {
        const { port } = await server.call<{ port: number }>("start", { folder });
        const before = await server.call<number>("cpuUs");
        const figures = await load.call<Figures>(method, { port, ...args });
        return { ...figures, cpuUs: (await server.call<number>("cpuUs")) - before };
      },
    ),
  );
}

/** Loads a fresh L4. */
export function loadLimit(
  method: string,
  args: { readonly payloadBytes: number; readonly [name: string]: unknown },
): Promise<Figures> {
  return inDataFolder((folder) =>
    withParts(["limits/relay", "load/limit-load"] as const, async (server, load) => {
      const { payloadBytes } = args;
      const { port } = await server.call<{ port: number }>("start", { folder, payloadBytes });
      const before = await server.call<number>("cpuUs");
      const figures = await load.call<Figures>(method, { port, ...args });
      return { ...figures, cpuUs: (await server.call<number>("cpuUs")) - before };
    }),
  );
}
