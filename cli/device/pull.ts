/** `pull` and `watch`: what comes in. */
import { createInterface } from "node:readline";
import { ErrorCode, type SyncClient, SyncError } from "../../client/index.ts";
import { failureOf } from "../exit-codes.ts";
import { count, formatBytes, type Output } from "../output.ts";
import type { Context } from "../program.ts";
import { explainDeviceError, withMember } from "./device.ts";
import { ReceivingFolder } from "./folder.ts";
import { type Received, receive } from "./receive.ts";
import { followDurable, KnownContent, queueChanged, type Sent, tellQueued } from "./send.ts";
import { collectSources, type Source } from "./sources.ts";
import { reached, whileReachable } from "./waiting.ts";

/** The options of `pull`, parsed. */
export interface PullCommandOptions {
  readonly state: string;
  readonly after?: number;
  readonly out?: string;
  readonly others?: boolean;
}

/** The options of `watch`, parsed. */
export interface WatchCommandOptions {
  readonly state: string;
  readonly out?: string;
  readonly others?: boolean;
  readonly push?: readonly string[];
  readonly base?: string;
}

/** `pull`: takes what there is, and ends. */
export async function pull(context: Context, options: PullCommandOptions): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    const folder = await openFolder(options.out);
    const found = reportFindings(client, output);
    const ending = new AbortController();
    const stop = (): void => ending.abort();
    signal.addEventListener("abort", stop, { once: true });
    const received: Received = { entries: 0, bytes: 0, written: 0 };
    if (options.after !== undefined) await reached(client, signal);
    const entries =
      options.after === undefined
        ? client.entries({ untilCaughtUp: true, signal: ending.signal })
        : client.history({ after: options.after });
    const receiving = receive(
      client,
      output,
      entries,
      { folder, others: options.others === true },
      received,
    );
    try {
      await whileReachable(client, signal, receiving);
    } catch (error) {
      ending.abort();
      // The file under way is finished and acknowledged; what failed it, if anything did, is `error`.
      if (options.after === undefined) await receiving.catch(() => undefined);
      throw error;
    } finally {
      signal.removeEventListener("abort", stop);
    }
    await pushQueued(context, client);
    const { entries: number, bytes, written } = received;
    output.event("pulled", {
      entries: number,
      bytes,
      written,
      appliedCursor: client.status().appliedCursor,
    });
    output.note(pulledText(received, options));
    const finding = found();
    if (finding !== undefined) throw finding;
  });
}

/** What an earlier command left queued goes out while the relay is there anyway. */
async function pushQueued({ output, signal }: Context, client: SyncClient): Promise<void> {
  try {
    await whileReachable(client, signal, client.flush());
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    const left = count(client.status().queued, "entry", "entries");
    output.warn(`still queued on this device: ${left}: ${failureOf(error).message}`);
  }
}

/** `watch`: takes what comes until it is stopped, and pushes what it is told to. */
export async function watch(context: Context, options: WatchCommandOptions): Promise<void> {
  const { output, signal } = context;
  const paths = (options.push ?? []).filter((path) => path !== "-");
  const collect = (names: readonly string[]): Promise<Source[]> =>
    collectSources(names, {
      base: options.base ?? process.cwd(),
      recursive: true,
      skipped: (file, why) => output.warn(`${file}: left out, ${why}`),
    });
  // Before anything else, so that a wrong path is told at once.
  const sources = await collect(paths);
  await withMember(options.state, async (client) => {
    const folder = await openFolder(options.out);
    reportFindings(client, output);
    const refused = reportConnection(client, output);
    const ending = new AbortController();
    const stop = (): void => ending.abort();
    signal.addEventListener("abort", stop, { once: true });
    const known = new KnownContent();
    const receiving = receive(client, output, client.entries({ signal: ending.signal }), {
      folder,
      others: options.others === true,
      onFile: (file) => void known.note(file),
    });
    const pushing = async (): Promise<void> => {
      for (const source of sources) {
        if (ending.signal.aborted) return;
        follow(output, await queueChanged(client, source, known));
      }
      if (options.push?.includes("-") === true) {
        await pushNamedLines(context, ending.signal, async (line) => {
          for (const source of await collect([line])) {
            follow(output, await queueChanged(client, source, known));
          }
        });
      }
    };
    try {
      await Promise.race([refused, Promise.all([receiving, pushing()])]);
    } finally {
      ending.abort();
      signal.removeEventListener("abort", stop);
      await receiving.catch(() => undefined);
    }
    output.event("stopped", { queued: client.status().queued });
  });
}

/** Reads paths from standard input, one a line, and hands each on; a bad one is told and passed over. */
async function pushNamedLines(
  { world, output }: Context,
  signal: AbortSignal,
  push: (path: string) => Promise<void>,
): Promise<void> {
  const lines = createInterface({ input: world.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  const stop = (): void => {
    lines.close();
    // An open standard input would keep the process alive.
    world.stdin.pause();
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    for await (const line of lines) {
      if (signal.aborted) return;
      if (line === "") continue;
      try {
        await push(line);
      } catch (error) {
        if (signal.aborted) return;
        const { message, hint } = failureOf(explainDeviceError(error));
        output.warn(`not pushed: ${message}${hint === "" ? "" : ` (${hint})`}`);
      }
    }
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

function follow(output: Output, sent: Sent | undefined): void {
  if (sent === undefined) return;
  tellQueued(output, [sent]);
  // Rejects only when the client closes first; then the entry is queued, as was told.
  followDurable(output, [sent]).catch(() => undefined);
}

async function openFolder(folder: string | undefined): Promise<ReceivingFolder | undefined> {
  return folder === undefined ? undefined : ReceivingFolder.open(folder);
}

/** Tells of gaps and of history that is not right. Returns the first such finding, for the exit code. */
function reportFindings(client: SyncClient, output: Output): () => Error | undefined {
  let first: Error | undefined;
  client.on("gap", ({ from, through }) => {
    output.event("gap", { from, through });
    output.warn(`entries ${from} to ${through} no longer exist on the relay`);
  });
  client.on("integrity", ({ finding, error, sender, seq, cursor }) => {
    first ??= error;
    output.event("integrity", { finding, name: error.codeName, sender, seq, cursor });
    output.warn(`${error.message} (${finding}); the entry was kept as evidence and not applied`);
  });
  client.on("error", (error) => {
    if (!(error instanceof SyncError) || error.code !== ErrorCode.LOG_CHANGED) return;
    output.event("log-changed", {});
    output.warn("the relay was restored; what it lacks is pushed again");
  });
  return () => first;
}

/** Tells of the connection as it changes. Rejects where it will not come back by itself. */
function reportConnection(client: SyncClient, output: Output): Promise<never> {
  return new Promise((_resolve, reject) => {
    let state = "";
    let inSync = false;
    const consider = (): void => {
      const status = client.status();
      const { connection } = status;
      if (connection.state !== state) {
        state = connection.state;
        const error =
          "error" in connection ? failureOf(explainDeviceError(connection.error)) : undefined;
        output.event("connection", {
          state,
          ...(error === undefined
            ? {}
            : { error: { code: error.code, name: error.name, message: error.message } }),
        });
        if (state === "online") output.note("connected");
        if (connection.state === "waiting")
          output.note(`${error?.message ?? "not connected"}; trying again`);
      }
      if (status.inSync !== inSync) {
        inSync = status.inSync;
        const { readCursor, appliedCursor, queued } = status;
        if (inSync) output.event("in-sync", { readCursor, appliedCursor, queued });
      }
      if (connection.state === "stopped") reject(connection.error);
    };
    client.on("status", consider);
    consider();
  });
}

function pulledText({ entries, bytes, written }: Received, options: PullCommandOptions): string {
  const what = `${count(entries, "entry", "entries")}, ${formatBytes(bytes)}`;
  if (options.out === undefined) {
    return `${what}; listed only: pull with --out FOLDER to keep and acknowledge them`;
  }
  return `pulled ${what}; ${count(written, "file")} written`;
}
