/** `push` and `delete`: what goes out. */
import { buffer } from "node:stream/consumers";
import type { SyncClient } from "../../client/index.ts";
import { blobIdBytes, parseId } from "../../wire/ids.ts";
import { headerDeletesMax } from "../../wire/limits.ts";
import { usageError } from "../exit-codes.ts";
import { count, formatBytes } from "../output.ts";
import type { Context } from "../program.ts";
import { withMember } from "./device.ts";
import { followDurable, queueBytes, queueSources, type Sent, tellQueued } from "./send.ts";
import { collectSources } from "./sources.ts";
import { whileReachable } from "./waiting.ts";

/** The options of `push`, parsed. */
export interface PushCommandOptions {
  readonly state: string;
  readonly recursive?: boolean;
  readonly base?: string;
  readonly raw?: boolean;
  readonly contentType?: string;
  readonly ttl?: number;
  readonly queue?: boolean;
}

/** `push`: queues files, and waits until the relay has them on disk. */
export async function push(
  context: Context,
  names: readonly string[],
  options: PushCommandOptions,
): Promise<void> {
  const { world, output, signal } = context;
  const fromStdin = names.filter((name) => name === "-").length;
  if (fromStdin > 1) throw usageError("standard input can be read only once", "name - once");
  if (options.contentType !== undefined && options.raw !== true && fromStdin === 0) {
    throw usageError("--content-type is for raw bytes", "add --raw, or leave it out");
  }
  const sources = await collectSources(
    names.filter((name) => name !== "-"),
    {
      base: options.base ?? process.cwd(),
      recursive: options.recursive === true,
      skipped: (file, why) => output.warn(`${file}: left out, ${why}`),
    },
  );
  const send = {
    raw: options.raw === true,
    ...(options.contentType === undefined ? {} : { contentType: options.contentType }),
    ...(options.ttl === undefined ? {} : { ttlS: options.ttl }),
  };
  await withMember(options.state, async (client) => {
    const sent: Sent[] = [];
    const all = sources.length + fromStdin;
    for await (const batch of queueSources(client, sources, send)) {
      signal.throwIfAborted();
      sent.push(...batch);
      if (options.queue === true) tellQueued(output, batch, true);
      output.progress(`queued ${sent.length} of ${all}`);
    }
    if (fromStdin > 0) {
      const one = await queueBytes(client, await buffer(world.stdin), send);
      sent.push(one);
      if (options.queue === true) tellQueued(output, [one], true);
    }
    if (options.queue !== true) await awaitDurable(context, client, sent);
    const bytes = sent.reduce((sum, one) => sum + one.bytes, 0);
    output.event("pushed", { entries: sent.length, bytes, durable: options.queue !== true });
    output.note(
      `${options.queue === true ? "queued" : "pushed"} ${count(sent.length, "entry", "entries")}, ${formatBytes(bytes)}`,
    );
  });
}

/** `delete`: pushes an entry that names others, so that their bodies go. */
export async function remove(
  context: Context,
  blobIds: readonly string[],
  options: { readonly state: string; readonly force?: boolean },
): Promise<void> {
  const { output, signal } = context;
  for (const id of blobIds) {
    if (parseId(id, blobIdBytes) === undefined) {
      throw usageError(
        `${id}: not a blob id`,
        "blob ids are in the output of push and pull with --json",
      );
    }
  }
  await withMember(options.state, async (client) => {
    for (let at = 0; at < blobIds.length; at += headerDeletesMax) {
      const some = blobIds.slice(at, at + headerDeletesMax);
      const receipt = await client.delete(some, { force: options.force === true });
      const { cursor } = await whileReachable(client, signal, receipt.durable);
      output.event(
        "deleted",
        { blobIds: some, blobId: receipt.blobId, cursor },
        `deleted ${count(some.length, "entry", "entries")}`,
      );
    }
    output.note(
      options.force === true
        ? "their bodies are gone from the relay"
        : "their bodies go from the relay once every device has seen this",
    );
  });
}

async function awaitDurable(
  { output, signal }: Context,
  client: SyncClient,
  sent: readonly Sent[],
): Promise<void> {
  let durable = 0;
  const following = followDurable(output, sent, {
    onDurable: () => {
      durable += 1;
      output.progress(`pushed ${durable} of ${sent.length}`);
    },
  });
  try {
    await whileReachable(client, signal, following);
  } catch (error) {
    const left = sent.length - durable;
    if (left > 0) {
      output.note(
        `still queued on this device: ${count(left, "entry", "entries")}; it goes out when the relay is next reached`,
      );
    }
    throw error;
  }
}
