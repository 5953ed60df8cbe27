/** Writes the log that a page catches up with, and lets the page in. */
import { randomBytes } from "node:crypto";
import { MemoryStore, SyncClient } from "../../client/index.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import { serveRole } from "../harness/role.ts";

export interface PageHistoryArgs {
  readonly address: string;
  readonly entries: number;
  readonly payloadBytes: number;
}

let client: SyncClient | undefined;

async function write({ address, entries, payloadBytes }: PageHistoryArgs): Promise<void> {
  const writer = await SyncClient.open({
    store: new MemoryStore(),
    host: nodeHost(),
    relay: address,
  });
  client = writer;
  await writer.createGroup();
  for (let done = 0; done < entries; ) {
    const count = Math.min(1_000, entries - done);
    const items = Array.from({ length: count }, () => ({
      data: new Uint8Array(randomBytes(payloadBytes)),
    }));
    const receipts = await writer.pushMany(items);
    await Promise.all(receipts.map(({ durable }) => durable));
    done += count;
  }
}

async function invite(): Promise<{ link: string }> {
  if (client === undefined) throw new Error("write first");
  const { link, done } = await client.invite({ confirm: () => true });
  done.catch(() => undefined);
  return { link };
}

serveRole({ write, invite });
