/** How a question starts the two sides: a server and its load, each a process, on an empty store. */
import { inDataFolder } from "./build.ts";
import type { Figures, Settings } from "./measure.ts";
import { type PartName, withParts } from "./part.ts";

/** Durability, as it is stated beside the figures. */
export const oursDurable =
  "this relay over the real protocol; acknowledges after the SQLite commit (WAL, synchronous=FULL: fsynced)";
export const limitDurable =
  "L4: ws, ChaCha20-Poly1305 and SQLite group commit, nothing else; acknowledges after the commit (WAL, synchronous=FULL: fsynced)";

/** Loads a fresh relay of ours. */
export function loadOurs(settings: Settings, method: string, args: object): Promise<Figures> {
  return inDataFolder((folder) => loadOursOn(settings, folder, method, args));
}

/** Loads our relay on a store that is there already. */
export function loadOursOn(
  settings: Settings,
  folder: string,
  method: string,
  args: object,
): Promise<Figures> {
  const relay = { name: "harness/relay", nodeOptions: settings.relayOptions };
  return load(folder, relay, "load/relay-load", {}, method, args);
}

/** Loads a fresh L4. */
export function loadLimit(
  method: string,
  args: { readonly payloadBytes: number; readonly [name: string]: unknown },
): Promise<Figures> {
  const { payloadBytes } = args;
  return inDataFolder((folder) =>
    load(folder, "limits/relay", "load/limit-load", { payloadBytes }, method, args),
  );
}

/** What the load found; what the server's process spent on it, and in how many commits. */
function load(
  folder: string,
  server: PartName,
  client: PartName,
  start: object,
  method: string,
  args: object,
): Promise<Figures> {
  return withParts([server, client] as const, async (relay, load) => {
    const { port } = await relay.call<{ port: number }>("start", { folder, ...start });
    const before = await relay.call<number>("cpuUs");
    const figures = await load.call<Figures>(method, { port, ...args });
    return {
      ...figures,
      cpuUs: (await relay.call<number>("cpuUs")) - before,
      commits: await relay.call<number>("commits"),
    };
  });
}
