/**
 * Opens the side listener, and leaves a note in the data folder of where it is,
 * so that the command line on this machine finds it.
 */
import { join } from "node:path";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { readText, writePrivateFile } from "../identity.ts";
import type { Listener } from "../net/listener.ts";
import { isLoopback, parseListen } from "../options.ts";
import type { Relay } from "../relay.ts";
import type { SideListener } from "./side-listener.ts";
import { Tokens } from "./tokens.ts";

/** The note's name. */
const noteFile = "admin-url";

export interface OpenSide {
  /** Undefined where the side API listens nowhere. */
  readonly side: { readonly port: number; close(): Promise<void> } | undefined;
  readonly adminUrl: string | undefined;
}

export async function openSide(
  folder: string,
  relay: Relay,
  listener: Listener,
  health: () => ReturnType<ConstructorParameters<typeof SideListener>[0]["health"]>,
): Promise<OpenSide> {
  const { options, world } = relay;
  if (options.listenAdmin === "") return { side: undefined, adminUrl: undefined };
  // Loaded only here: a relay without a side API does without its libraries.
  const loaded = await import("./side-listener.ts");
  const tokens = options.adminWithoutToken
    ? undefined
    : await Tokens.open({
        folder,
        given: { admin: options.adminToken, read: options.readToken },
        random: world.random,
        monotonicMs: world.monotonicMs,
      });
  const side = new loaded.SideListener({
    relay,
    tokens,
    health,
    handshakes: () => listener.admission.handshakes,
  });
  const port = await listen(side, options.listenAdmin, options.adminPortFallback);
  const adminUrl = urlOf(parseListen(options.listenAdmin).host, port);
  await writePrivateFile(folder, noteFile, `${adminUrl}\n`);
  return { side: { port, close: () => side.close() }, adminUrl };
}

/** Where the side API of the relay in a data folder was last; undefined where it never was. */
export async function lastAdminUrl(folder: string): Promise<string | undefined> {
  return (await readText(join(folder, noteFile)))?.trim();
}

async function listen(side: SideListener, where: string, fallback: boolean): Promise<number> {
  try {
    return await side.listen(where);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EADDRINUSE" && code !== "EACCES" && code !== "EADDRNOTAVAIL") throw error;
    // Nobody chose this port, so any other will do: a second relay on one machine starts as well.
    if (fallback && code === "EADDRINUSE") return await side.listen(where.replace(/\d+$/, "0"));
    throw new SyncError(ErrorCode.UNREACHABLE, {
      hint: `the side API cannot listen on ${where} (${code}): choose another with --listen-admin HOST:PORT, or --listen-admin off`,
      cause: error,
    });
  }
}

function urlOf(host: string, port: number): string {
  const named = isLoopback(host) || (host !== "0.0.0.0" && host !== "::") ? host : "127.0.0.1";
  return `http://${named.includes(":") ? `[${named}]` : named}:${port}`;
}
