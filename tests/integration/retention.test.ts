/** Snapshots and objects with the real relay: sockets, SQLite, and devices that stop and come back. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type TestContext, test } from "node:test";
import {
  MemoryDisk as Disk,
  type MemoryDisk,
  MemoryStore,
  type ObjectSource,
  SyncClient,
  type SyncClientOptions,
} from "../../client/index.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import { concatBytes, fromUtf8, utf8 } from "../../wire/bytes.ts";
import { content, TestRelay } from "./support.ts";

/** An app whose state is a list; what chance would put off happens at once. */
class App {
  readonly disk: MemoryDisk;
  client!: SyncClient;
  list: string[] = [];
  position = 0;
  restored = 0;
  readonly findings: string[] = [];
  readonly #address: string;

  constructor(relay: TestRelay) {
    this.#address = relay.address;
    this.disk = new Disk();
  }

  async open(t: TestContext, options: Partial<SyncClientOptions> = {}): Promise<this> {
    this.client = await SyncClient.open({
      store: new MemoryStore(this.disk),
      host: { ...nodeHost(), uniform: () => 0 },
      codeCost: { memoryKiB: 8, passes: 1 },
      relay: this.#address,
      appliedPosition: this.position,
      snapshot: () => utf8(JSON.stringify(this.list)),
      restore: async (pieces, { position }) => {
        const all: Uint8Array[] = [];
        for await (const piece of pieces) all.push(piece);
        this.list = JSON.parse(fromUtf8(concatBytes(...all)) ?? "") as string[];
        this.position = position;
        this.restored += 1;
      },
      ...options,
    });
    const { client } = this;
    t.after(() => client.close());
    client.on("integrity", ({ finding }) => this.findings.push(finding));
    void this.#run(client);
    return this;
  }

  async #run(client: SyncClient): Promise<void> {
    for await (const entry of client.entries()) {
      this.list.push(Buffer.from(entry.data).toString("base64url"));
      this.position = entry.position;
      await entry.ack();
    }
  }

  async push(count: number, bytes = 300): Promise<void> {
    await this.client.pushMany(Array.from({ length: count }, () => ({ data: content(bytes) })));
    await this.client.flush();
  }

  async joins(inviter: App): Promise<this> {
    const invite = await inviter.client.invite({ confirm: () => true });
    await Promise.all([this.client.join(invite.link), invite.done]);
    return this;
  }
}

async function founded(t: TestContext, relay: TestRelay): Promise<App> {
  const app = await new App(relay).open(t);
  const invite = relay.running.firstInvite?.code;
  await app.client.createGroup(invite === undefined ? {} : { invite });
  return app;
}

/** Waits for what the devices tell of themselves. */
async function until(apps: readonly App[], condition: () => boolean): Promise<void> {
  await new Promise<void>((resolve) => {
    const offs: (() => void)[] = [];
    const look = (): void => {
      if (!condition()) return;
      for (const off of offs) off();
      clearInterval(pulse);
      resolve();
    };
    // What the relay does by itself is told to no device.
    const pulse = setInterval(look, 50);
    for (const { client } of apps) offs.push(client.on("status", look));
    look();
  });
}

async function allHave(apps: readonly App[], count: number): Promise<void> {
  await until(apps, () =>
    apps.every(({ list, client }) => list.length === count && client.status().inSync),
  );
  for (const app of apps) assert.deepEqual(app.list, apps[0]?.list);
}

const bytesSent = (relay: TestRelay): number => relay.running.counters.bytesSent;

test("11.16 to 11.28 made, confirmed, trimmed: a late joiner has the state with a hundredth of the bytes", async (t) => {
  const relay = await TestRelay.start(t);
  const a = await founded(t, relay);
  const b = await (await new App(relay).open(t)).joins(a);
  // A state far smaller than its history, as states are.
  const count = 3_000;
  for (let i = 0; i < count / 500; i++) await a.push(500, 2_000);
  await allHave([a, b], count);
  const history = count * 2_300;
  for (const app of [a, b]) app.list = app.list.map((text) => text.slice(0, 4));
  const made = await a.client.makeSnapshot();
  assert.equal(made?.replacesThrough, count);
  const c = new App(relay);
  await until([a, b], () => relay.running.counters.bytesTrimmed > 0);
  await c.open(t);
  const before = bytesSent(relay);
  await c.joins(b);
  await until([c], () => c.list.length === count && c.client.status().inSync);
  const spent = bytesSent(relay) - before;
  assert.deepEqual(c.list, a.list);
  assert.equal(c.restored, 1);
  assert.ok(spent < history / 100, `${spent} of ${history} bytes`);
  for (const { client } of [a, c]) {
    const { ok, problems, snapshot } = await client.verify();
    assert.deepEqual(
      { ok, problems, author: snapshot?.author, through: snapshot?.replacesThrough },
      { ok: true, problems: [], author: a.client.deviceId, through: count },
    );
  }
  for (const app of [a, b, c]) assert.deepEqual(app.findings, []);
});

test("a device away for the whole time comes back through the snapshot, its unsent queue included", async (t) => {
  const relay = await TestRelay.start(t);
  const a = await founded(t, relay);
  const b = await (await new App(relay).open(t)).joins(a);
  const c = await (await new App(relay).open(t)).joins(a);
  await a.push(3);
  await c.push(2);
  await allHave([a, b, c], 5);
  await c.client.close();
  // The relay asks by itself, and the two that are there settle it.
  await a.push(500);
  await until([a, b], () => relay.running.counters.bytesTrimmed > 0);
  await b.push(4);
  await allHave([a, b], 509);
  await relay.stop();
  await c.open(t);
  await c.client.pushMany([{ data: content() }, { data: content() }]);
  await relay.start();
  await allHave([a, b, c], 511);
  assert.equal(c.restored, 1);
  for (const app of [a, b, c]) assert.deepEqual(app.findings, []);
  const report = await a.client.verify();
  assert.deepEqual(report.problems, []);
  // What is above the snapshot is there whole; headers below it stay while somebody has not read them.
  assert.equal(report.bodies, 511 - (report.snapshot?.replacesThrough ?? 0));
});

/** A content of so many bytes that takes no memory. */
function streamed(bytes: number): ObjectSource {
  return {
    async *open(from) {
      const piece = new Uint8Array(65_536);
      for (let at = from; at < bytes; ) {
        const length = Math.min(piece.byteLength, bytes - at);
        for (let i = 0; i < length; i += 1) piece[i] = ((at + i) * 7 + ((at + i) >> 12)) & 0xff;
        at += length;
        yield piece.subarray(0, length);
      }
    },
  };
}

async function hashOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}

test("11.6 to 11.14 an object of 64 MiB, up and down while the relay restarts: the same bytes, none sent twice", async (t) => {
  const relay = await TestRelay.start(t, { limits: { groupBytesMax: 200 * 1024 * 1024 } });
  const a = await founded(t, relay);
  const b = await (await new App(relay).open(t)).joins(a);
  const bytes = 64 * 1024 * 1024;
  let restarts = 0;
  let done = 0;
  let sent = 0;
  let restarting: Promise<void> = Promise.resolve();
  const restart = async (): Promise<void> => {
    sent += relay.running.counters.bytesReceived;
    await relay.stop();
    await relay.start();
    for (const { client } of [a, b]) client.connect();
  };
  const stored = await a.client.putObject(streamed(bytes), {
    onProgress: ({ doneBytes, totalBytes }) => {
      if (doneBytes < done) done = doneBytes;
      if (restarts < 3 && doneBytes > ((restarts + 1) * totalBytes) / 4) {
        restarts += 1;
        restarting = restarting.then(restart);
      }
      done = doneBytes;
    },
  });
  await restarting;
  sent += relay.running.counters.bytesReceived;
  assert.equal(restarts, 3);
  // A range each time may have been on its way.
  assert.ok(sent < bytes * 1.04 + 3 * 1_100_000, String(sent));
  assert.equal(
    await hashOf(b.client.getObject(stored.reference)),
    await hashOf(streamed(bytes).open(0)),
  );
  const range = { from: 40_000_000, to: 40_100_000 };
  const part: Uint8Array[] = [];
  for await (const piece of b.client.getObject(stored.reference, { range })) part.push(piece);
  assert.equal(concatBytes(...part).byteLength, 100_000);
});

test("11.31, 11.32 bodies that are deleted go once everybody has them so, and a newcomer finds nothing wrong", async (t) => {
  const relay = await TestRelay.start(t);
  const a = await founded(t, relay);
  const b = await (await new App(relay).open(t)).joins(a);
  const [first] = await a.client.pushMany([{ data: content() }, { data: content() }]);
  const late = await b.client.push(content());
  await allHave([a, b], 3);
  assert.ok(first !== undefined);
  // Somebody else's by agreement, an own one at once.
  await b.client.push(content(), { deletes: [first.blobId] });
  await b.client.push(content(), { deletes: [late.blobId], force: true });
  await allHave([a, b], 5);
  await until([a, b], () => relay.running.counters.bodiesDeleted === 2);
  const c = await (await new App(relay).open(t)).joins(b);
  await until([c], () => c.list.length === 3 && c.client.status().inSync);
  assert.deepEqual(c.list, [a.list[1], a.list[3], a.list[4]]);
  for (const app of [a, b, c]) assert.deepEqual(app.findings, []);
});
