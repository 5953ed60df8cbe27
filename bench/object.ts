/**
 * One object, up and down through a connection that is cut again and again, and the memory that both
 * ends take for it:
 *
 *     node --import tsx bench/object.ts                     1 GiB, twenty cuts each way
 *     node --import tsx bench/object.ts --mib 256 --cuts 6
 *
 * Fails where the bytes differ, where more is sent twice than a range for each cut, or where memory
 * grows with the object.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Host, MemoryStore, SyncClient } from "../client/index.ts";
import { nodeHost } from "../client/platform/node/index.ts";
import { startRelay } from "../server/index.ts";
import { contentOf, hashOf } from "../tests/support/large-content.ts";

const mib = 1024 * 1024;
/** What either end may take above what it took before, in MiB. */
const growthMiBMax = 160;

/** The most memory a process held since the last time it was asked, in MiB. */
function watchMemory(): () => number {
  let peak = 0;
  setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 50).unref();
  return () => {
    const most = Math.max(peak, process.memoryUsage.rss()) / mib;
    peak = 0;
    return Math.round(most);
  };
}

/** The relay, in a process of its own: says where it is, and then its memory whenever it is asked. */
async function beRelay(data: string, bytes: number): Promise<void> {
  const relay = await startRelay({
    listen: "127.0.0.1:0",
    data,
    logLevel: "silent",
    limits: {
      groupBytesMax: 2 * bytes,
      storeBytesMax: 4 * bytes,
    },
  });
  const memory = watchMemory();
  process.on("message", () => process.send?.(memory()));
  process.on("disconnect", () => void relay.drain().finally(() => process.exit(0)));
  process.send?.({ address: relay.address, invite: relay.firstInvite?.code });
}

function told<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    child.once("message", (message) => resolve(message as T));
    child.once("exit", (code) => reject(new Error(`the relay's process ended with ${code}`)));
  });
}

/** A host whose connections can be cut, and that counts what it sends and what comes. */
function cuttable(): { host: Host; cut(): void; sent(): number; received(): number } {
  const host = nodeHost();
  const open = new Set<() => void>();
  let sent = 0;
  let received = 0;
  return {
    host: {
      ...host,
      connect: (url, handlers) => {
        let ended = false;
        const end = (code: number, error?: Parameters<typeof handlers.closed>[1]): void => {
          if (ended) return;
          ended = true;
          open.delete(cut);
          handlers.closed(code, error);
        };
        const socket = host.connect(url, {
          ...handlers,
          message: (bytes) => {
            received += bytes.byteLength;
            if (!ended) handlers.message(bytes);
          },
          closed: end,
        });
        const cut = (): void => {
          socket.close();
          end(1006);
        };
        open.add(cut);
        return {
          send: (bytes) => {
            sent += bytes.byteLength;
            socket.send(bytes);
          },
          close: (code) => socket.close(code),
          get bufferedBytes() {
            return socket.bufferedBytes;
          },
        };
      },
    },
    cut: () => {
      for (const each of open) each();
    },
    sent: () => sent,
    received: () => received,
  };
}

async function run(bytes: number, cuts: number, child: ChildProcess): Promise<boolean> {
  const { address, invite } = await told<{ address: string; invite?: string }>(child);
  const relayMemory = async (): Promise<number> => {
    const answer = told<number>(child);
    child.send("memory");
    return await answer;
  };
  const memory = watchMemory();
  const [up, down] = [cuttable(), cuttable()];
  const open = ({ host }: { host: Host }) =>
    SyncClient.open({ store: new MemoryStore(), host, relay: address });
  const [a, b] = [await open(up), await open(down)];
  await a.createGroup(invite === undefined ? {} : { invite });
  const ticket = await a.invite({ confirm: () => true });
  await Promise.all([b.join(ticket.link), ticket.done]);
  const before = { devices: memory(), relay: await relayMemory() };

  /** Cuts so often on the way, at even distances. */
  const cutting = (of: typeof up, client: SyncClient, times: number) => {
    let done = 0;
    return ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }): void => {
      if (done >= times || doneBytes < ((done + 1) * totalBytes) / (times + 1)) return;
      done += 1;
      of.cut();
      client.connect();
    };
  };
  const sentBefore = up.sent();
  const upBegan = performance.now();
  const stored = await a.putObject(contentOf(bytes), { onProgress: cutting(up, a, cuts) });
  const upS = (performance.now() - upBegan) / 1000;
  const sent = up.sent() - sentBefore;
  const receivedBefore = down.received();
  const downBegan = performance.now();
  const onProgress = cutting(down, b, cuts);
  const got = await hashOf(b.getObject(stored.reference, { onProgress }));
  const downS = (performance.now() - downBegan) / 1000;
  const received = down.received() - receivedBefore;
  const after = { devices: memory(), relay: await relayMemory() };
  const equal = got === (await hashOf(contentOf(bytes).open(0)));
  await Promise.all([a.close(), b.close()]);

  const rate = (seconds: number): string => `${Math.round(bytes / mib / seconds)} MiB/s`;
  const more = (passed: number): string =>
    `${(100 * (passed / bytes - 1)).toFixed(2)}% more than its content`;
  // Padding is at most 12%, and seldom 1% of what is large; a range is lost with each cut.
  const passedMax = bytes * 1.02 + cuts * 1.1 * mib + mib;
  const once = Math.max(sent, received) <= passedMax;
  const grown = [after.devices - before.devices, after.relay - before.relay];
  const flat = grown.every((each) => each <= growthMiBMax);
  process.stdout.write(
    [
      `object          ${bytes / mib} MiB, ${cuts} cuts each way`,
      `up              ${upS.toFixed(1)} s, ${rate(upS)}, ${more(sent)} sent`,
      `down            ${downS.toFixed(1)} s, ${rate(downS)}, ${more(received)} received`,
      `devices         ${before.devices} MiB before, at most ${after.devices} MiB`,
      `relay           ${before.relay} MiB before, at most ${after.relay} MiB`,
      `bytes           ${equal ? "equal" : "DIFFERENT"}`,
      `memory          ${flat ? "flat" : "GROWS"}`,
      `passed          ${once ? "nothing twice but what a cut lost" : "TOO MUCH TWICE"}`,
      "",
    ].join("\n"),
  );
  return equal && flat && once;
}

const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "1024" },
    cuts: { type: "string", default: "20" },
    relay: { type: "string" },
  },
});
const bytes = Number(values.mib) * mib;
if (values.relay !== undefined) {
  await beRelay(values.relay, bytes);
} else {
  const data = await mkdtemp(join(tmpdir(), "sync-relay-object-"));
  const child = fork(import.meta.filename, ["--relay", data, "--mib", values.mib], {
    execArgv: ["--import", "tsx"],
  });
  try {
    process.exitCode = (await run(bytes, Number(values.cuts), child)) ? 0 : 1;
  } finally {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.disconnect();
    await ended;
    await rm(data, { recursive: true, force: true });
  }
}
