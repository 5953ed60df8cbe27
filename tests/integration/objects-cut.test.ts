/**
 * A large object up and down through a connection that is cut twenty times each way, at a proxy that counts
 * what passes it. The same at 1 GiB, with processes of their own: `node --import tsx bench/object.ts`.
 */
import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { ObjectProgress, SyncClient } from "../../client/index.ts";
import { objectRangeBytesMax } from "../../wire/limits.ts";
import { contentOf, hashOf } from "../support/large-content.ts";
import { joinDevice, openDevice, TestRelay } from "./support.ts";

const mib = 1024 * 1024;
const contentBytes = 64 * mib;
const cuts = 20;
/** What a connection begins with: HTTP, a handshake, a welcome and what it asks first. */
const beginningBytes = 32 * 1024;
/**
 * What all of it may hold in memory beyond what it held before: the ranges under way at both devices, the
 * relay and the proxy, all in one process. One end that kept the content would hold 64 MiB more.
 */
const heldBytesMax = 40 * mib;

/** Passes bytes on, counts them, and cuts the connection whenever so many more have passed one way. */
class CuttingProxy {
  readonly passed = { up: 0, down: 0 };
  done = 0;
  #cutting: { readonly way: "up" | "down"; readonly everyBytes: number } | undefined;
  #nextCut = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(t: TestContext, target: number) {
    this.#server = createServer((near) => {
      const far = connect(target, "127.0.0.1");
      for (const [from, to, way] of [
        [near, far, "up"],
        [far, near, "down"],
      ] as const) {
        this.#sockets.add(from);
        from.on("data", (bytes) => {
          this.passed[way] += bytes.byteLength;
          to.write(bytes);
          this.#consider(way);
        });
        from.on("error", () => undefined);
        from.on("close", () => {
          this.#sockets.delete(from);
          to.destroy();
        });
      }
    });
    t.after(() => {
      this.#cut();
      this.#server.close();
    });
  }

  listen(): Promise<number> {
    return new Promise((resolve) => {
      this.#server.listen(0, "127.0.0.1", () => {
        const address = this.#server.address();
        if (typeof address === "object" && address !== null) resolve(address.port);
      });
    });
  }

  /** From now on, so many bytes apart, until it was done twenty times. */
  begin(way: "up" | "down", everyBytes: number): void {
    this.#cutting = { way, everyBytes };
    this.#nextCut = this.passed[way] + everyBytes;
    this.done = 0;
  }

  #consider(way: "up" | "down"): void {
    if (this.#cutting?.way !== way || this.done === cuts || this.passed[way] < this.#nextCut)
      return;
    this.done += 1;
    this.#nextCut = this.passed[way] + this.#cutting.everyBytes;
    this.#cut();
  }

  #cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Comes back at once, and not when its turn is. */
function impatient(client: SyncClient): void {
  client.on("status", ({ connection }) => {
    if (connection.state === "waiting") client.connect();
  });
}

/** What lives, in bytes: garbage is no memory that grows. */
function watchMemory(): { look: (progress: ObjectProgress) => void; mostBytes: () => number } {
  setFlagsFromString("--expose_gc");
  const collect = runInNewContext("gc") as () => void;
  const held = (): number => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = held();
  let most = before;
  let next = 0;
  return {
    look: ({ doneBytes }) => {
      if (doneBytes < next) return;
      next = doneBytes + 8 * mib;
      most = Math.max(most, held());
    },
    mostBytes: () => most - before,
  };
}

test("64 MiB up and down, cut twenty times each way: equal bytes, flat memory, and nothing twice but what was not acknowledged", async (t) => {
  const relay = await TestRelay.start(t, { limits: { groupBytesMax: 1024 * mib } });
  const proxy = new CuttingProxy(t, relay.port);
  const port = await proxy.listen();
  const address = relay.address.replace(`:${relay.port}`, `:${port}`);
  const { client: writer } = await openDevice(t, { relay: address, name: "writer" });
  const invite = relay.running.firstInvite?.code;
  await writer.createGroup(invite === undefined ? {} : { invite });
  const { client: reader } = await joinDevice(t, { client: writer } as never, "reader");
  impatient(writer);
  impatient(reader);

  const memory = watchMemory();
  let totalBytes = 0;
  const before = { ...proxy.passed };
  proxy.begin("up", Math.floor(contentBytes / (cuts + 1)));
  const stored = await writer.putObject(contentOf(contentBytes), {
    onProgress: (progress) => {
      totalBytes = progress.totalBytes;
      memory.look(progress);
    },
  });
  assert.equal(proxy.done, cuts);
  // Frames and records add less than a hundredth.
  const most = 1.01 * totalBytes + cuts * (objectRangeBytesMax + 2 * beginningBytes) + mib;
  const up = proxy.passed.up - before.up;
  assert.ok(up >= totalBytes && up <= most, `${up} bytes up, of ${totalBytes}: at most ${most}`);

  const downBefore = proxy.passed.down;
  proxy.begin("down", Math.floor(contentBytes / (cuts + 1)));
  const got = await hashOf(reader.getObject(stored.reference, { onProgress: memory.look }));
  assert.equal(proxy.done, cuts);
  const down = proxy.passed.down - downBefore;
  assert.ok(down >= totalBytes && down <= most, `${down} bytes down: at most ${most}`);

  assert.equal(got, await hashOf(contentOf(contentBytes).open(0)));
  const held = memory.mostBytes();
  assert.ok(held < heldBytesMax, `${held} bytes are held beyond what was before`);
});
