/**
 * Makes a group with a history: five devices that write and one that was there before they did, which
 * is closed then. All of them are whole clients; what they write says what they had seen of each other.
 */
import { randomBytes } from "node:crypto";
import { MemoryStore, SyncClient } from "../../client/index.ts";
import { nodeHost, openSyncClient } from "../../client/platform/node/index.ts";
import { serveRole } from "../harness/role.ts";

export interface HistoryArgs {
  readonly address: string;
  /** The folder of the device that is closed before anything is written. */
  readonly state: string;
  readonly senders: number;
  readonly blobs: number;
  readonly payloadBytes: number;
  /** Entries that a device queues at once. */
  readonly atOnce: number;
}

async function write(args: HistoryArgs): Promise<{ blobs: number }> {
  const { address, senders, blobs, payloadBytes, atOnce } = args;
  const open = (): Promise<SyncClient> =>
    SyncClient.open({ store: new MemoryStore(), host: nodeHost(), relay: address });
  const founder = await open();
  await founder.createGroup();
  const reader = await openSyncClient({ state: args.state, relay: address });
  const writers = [founder];
  while (writers.length < senders) writers.push(await open());
  for (const joiner of [...writers.slice(1), reader]) {
    const invite = await founder.invite({ confirm: () => true });
    await Promise.all([joiner.join(invite.link), invite.done]);
  }
  await reader.close();
  const applying = writers.map(apply);
  const rounds = Math.ceil(blobs / senders / atOnce);
  await Promise.all(
    writers.map(async (writer) => {
      for (let round = 0; round < rounds; round++) {
        const items = Array.from({ length: atOnce }, () => ({
          data: new Uint8Array(randomBytes(payloadBytes)),
        }));
        const receipts = await writer.pushMany(items);
        await Promise.all(receipts.map(({ durable }) => durable));
      }
    }),
  );
  await Promise.all(writers.map((writer) => writer.close()));
  await Promise.all(applying);
  return { blobs: rounds * senders * atOnce };
}

/** An app that does nothing with what it gets. */
async function apply(client: SyncClient): Promise<void> {
  for await (const entry of client.entries()) await entry.ack();
}

serveRole({ write });
