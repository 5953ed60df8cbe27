import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../client/index.ts";
import { utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { rotateBy } from "./support/rotate.ts";
import { World } from "./support/world.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

describe("outbox", () => {
  test("what is pushed offline is queued, survives a restart, and goes out in order", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    relay.stop();
    await world.run(1_000);
    await a.push("one");
    await a.push("two", "three");
    assert.equal(a.client.status().queued, 3);
    assert.equal(a.client.status().inSync, false);
    await a.restart();
    assert.equal(a.client.status().queued, 3);
    relay.start();
    await world.result(a.client.flush());
    assert.equal(a.client.status().queued, 0);
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["one", "two", "three"]);
  });

  test("pushes of one turn share a transaction; a batch shares a push", async () => {
    const relay = new FakeRelay(new World());
    const a = await founder(relay);
    const before = a.store.commits;
    const receipts = await Promise.all(
      Array.from({ length: 100 }, (_, i) => a.client.push(utf8(`entry ${i}`))),
    );
    assert.equal(a.store.commits - before, 1);
    assert.deepEqual(
      receipts.map(({ seq }) => seq),
      Array.from({ length: 100 }, (_, i) => i + 1),
    );
    const cursors = await relay.world.result(
      Promise.all(receipts.map(async ({ durable }) => (await durable).cursor)),
    );
    assert.deepEqual(
      cursors,
      Array.from({ length: 100 }, (_, i) => i + 1),
    );
    assert.equal(relay.count("push"), 1);
    assert.equal(new Set(receipts.map(({ blobId }) => blobId)).size, 100);
  });

  test("a receipt asked for after its entry became durable knows its cursor", async () => {
    const relay = new FakeRelay(new World());
    const a = await founder(relay);
    const receipt = await a.client.push(utf8("x"));
    await relay.world.result(a.client.flush());
    assert.deepEqual(await receipt.durable, { cursor: 1 });
  });

  test("PROTOCOL 5.4: an acknowledgement that was lost is made good without a second copy", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    relay.meddler = {
      reply: (_, bytes) => {
        // The acknowledgement itself is cut off, after the commit.
        if (relay.group.blobs.length === 1 && relay.count("push") === 1) world.cutAll();
        return bytes;
      },
    };
    const receipt = await a.client.push(utf8("once"));
    await world.until(() => relay.count("push") === 1);
    relay.meddler = {};
    await world.result(receipt.durable);
    assert.equal(relay.group.blobs.length, 1);
    assert.deepEqual(await a.take(), ["once"]);
  });

  test("PROTOCOL 5.6: pushes that overtook a refused one are sent again behind it", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    relay.limits.batchBlobsMax = 2;
    const a = await founder(relay);
    let refusals = 2;
    relay.meddler = {
      request: (_, envelope) =>
        envelope.body.case === "push" && refusals-- > 0
          ? new SyncError(ErrorCode.STORE_UNAVAILABLE)
          : undefined,
    };
    await a.push(...Array.from({ length: 20 }, (_, i) => `entry ${i}`));
    await world.result(a.client.flush());
    assert.deepEqual(
      await a.take(),
      Array.from({ length: 20 }, (_, i) => `entry ${i}`),
    );
    assert.equal(a.client.status().pushHeld, undefined);
  });

  for (const code of [ErrorCode.RATE_LIMITED, ErrorCode.STORE_UNAVAILABLE, ErrorCode.DRAINING]) {
    test(`PROTOCOL 10.6: ${ErrorCode[code]} keeps the queue, waits as advised, and goes on`, async () => {
      const relay = new FakeRelay(new World());
      const { world } = relay;
      const a = await founder(relay);
      const refusedAt: number[] = [];
      relay.meddler = {
        request: (_, envelope) => {
          if (envelope.body.case !== "push" || refusedAt.length === 3) return undefined;
          refusedAt.push(world.clockMs);
          return new SyncError(code, { retryAfterMs: 7_000 });
        },
      };
      await a.push("kept");
      await world.result(a.client.flush());
      assert.equal(relay.group.blobs.length, 1);
      for (let i = 1; i < refusedAt.length; i++) {
        assert.ok((refusedAt[i] as number) - (refusedAt[i - 1] as number) >= 7_000);
      }
    });
  }

  test("PROTOCOL 10.6: a store that cannot be written is said in the status until a push is in", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    let full = true;
    relay.meddler = {
      request: (_, envelope) =>
        full && envelope.body.case === "push"
          ? new SyncError(ErrorCode.STORE_UNAVAILABLE)
          : undefined,
    };
    await a.push("kept");
    await world.until(() => a.client.status().pushHeld?.code === ErrorCode.STORE_UNAVAILABLE);
    let silent = 0;
    a.client.on("status", ({ queued, pushHeld }) => {
      if (queued > 0 && pushHeld === undefined) silent += 1;
    });
    const before = relay.count("push");
    await world.run(10_000);
    assert.ok(relay.count("push") - before >= 5, "and tried again all the time");
    assert.equal(a.client.status().inSync, false);
    full = false;
    await world.result(a.client.flush());
    assert.equal(silent, 0);
    assert.equal(a.client.status().pushHeld, undefined);
  });

  for (const code of [ErrorCode.QUOTA_EXCEEDED, ErrorCode.READ_ONLY]) {
    test(`PROTOCOL 10.6: ${ErrorCode[code]} is said in the status, kept, and tried again seldom`, async () => {
      const relay = new FakeRelay(new World());
      const { world } = relay;
      const a = await founder(relay);
      let full = true;
      relay.meddler = {
        request: (_, envelope) =>
          full && envelope.body.case === "push" ? new SyncError(code) : undefined,
      };
      await a.push("kept");
      await world.until(() => a.client.status().pushHeld?.code === code);
      assert.equal(a.client.status().connection.state, "online");
      assert.equal(a.client.status().queued, 1);
      const before = relay.count("push");
      await world.run(600_000);
      assert.ok(relay.count("push") - before <= 10);
      full = false;
      await world.result(a.client.flush());
      assert.equal(a.client.status().pushHeld, undefined);
    });
  }

  test("a real quota: what fits goes in, the rest waits until there is room", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    relay.limits.groupBytesMax = 2_000;
    relay.limits.batchBlobsMax = 1;
    const a = await founder(relay);
    await a.push(...Array.from({ length: 10 }, (_, i) => `entry ${i}`));
    await world.until(() => a.client.status().pushHeld?.code === ErrorCode.QUOTA_EXCEEDED);
    assert.ok(relay.group.blobs.length > 0 && relay.group.blobs.length < 10);
    relay.limits.groupBytesMax = 1_000_000;
    await world.result(a.client.flush());
    assert.equal((await a.take()).length, 10);
  });

  test("PROTOCOL 5.3: too large is refused before it is queued, by its limit; the limit itself is not", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    relay.limits.blobBytesMax = 10_000;
    const a = await founder(relay);
    const refused = (bytes: number): Promise<unknown> =>
      a.client.push(new Uint8Array(bytes)).then(
        () => undefined,
        (error: unknown) => error,
      );
    let most = 0;
    for (let bytes = 9_000; bytes <= 10_000; bytes += 1) {
      const error = await refused(bytes);
      if (error === undefined) {
        most = bytes;
        continue;
      }
      assert.ok(byCode(ErrorCode.TOO_LARGE)(error));
      assert.match((error as SyncError).hint ?? "", /10000/);
      break;
    }
    assert.ok(most > 9_000);
    const { queued } = a.client.status();
    await assert.rejects(a.client.push(new Uint8Array(most + 1)), byCode(ErrorCode.TOO_LARGE));
    await assert.rejects(a.client.push(new Uint8Array(5_000_000)), byCode(ErrorCode.TOO_LARGE));
    assert.equal(a.client.status().queued, queued);
    await world.result(a.client.flush());
    assert.equal(a.client.status().durableSeq, most - 9_000 + 1);
  });

  test("one that is too large takes its own batch with it, and nobody else's", async () => {
    const relay = new FakeRelay(new World());
    const a = await founder(relay);
    const large = { data: new Uint8Array(2_000_000) };
    const [one, many, other] = await Promise.allSettled([
      a.client.push(utf8("one")),
      a.client.pushMany([{ data: utf8("two") }, large]),
      a.client.push(utf8("three")),
    ]);
    assert.deepEqual(
      [one.status, many.status, other.status],
      ["fulfilled", "rejected", "fulfilled"],
    );
    await relay.world.result(a.client.flush());
    await relay.world.until(() => a.client.status().readCursor === 2);
    assert.deepEqual(await a.take(), ["one", "three"]);
  });

  test("what an app may not ask is a RangeError, and queues nothing", async () => {
    const relay = new FakeRelay(new World());
    const a = await founder(relay);
    const data = new Uint8Array(1);
    await assert.rejects(a.client.push(data, { contentType: "x".repeat(129) }), RangeError);
    await assert.rejects(a.client.push(data, { deletes: ["nonsense"] }), RangeError);
    await assert.rejects(a.client.push(data, { ttlS: -1 }), RangeError);
    assert.equal(a.client.status().queued, 0);
    const stranger = await new Device(relay).start();
    await assert.rejects(stranger.client.push(data), byCode(ErrorCode.NOT_A_MEMBER));
    await stranger.client.close();
    await assert.rejects(stranger.client.push(data), UsageError);
  });

  test("PROTOCOL 5.8: a queue from an older epoch is sealed again, its links unchanged", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    // The rotation reaches the relay while a push sealed under the old epoch is under way.
    let rotated = false;
    relay.meddler = {
      request: (session, envelope) => {
        if (envelope.body.case !== "push" || rotated || session.device !== a.client.deviceId) {
          return undefined;
        }
        rotated = true;
        rotateBy(b, relay);
        return undefined;
      },
    };
    await a.push("across");
    await world.result(a.client.flush());
    assert.equal(a.client.status().epoch, 2);
    assert.equal(relay.group.blobs[0]?.epoch, 2);
    await world.until(() => b.client.status().readCursor === 1);
    assert.deepEqual(await b.take(), ["across"]);
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
  });

  test("a rotation while a device is away with a full queue locks nobody out", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    a.crash();
    rotateBy(b, relay);
    rotateBy(b, relay);
    relay.stop();
    await a.start();
    await a.push("written under epoch one");
    relay.start();
    await world.result(a.client.flush());
    assert.equal(relay.group.blobs[0]?.epoch, 3);
    await world.until(() => b.client.status().readCursor === 1);
    assert.deepEqual(await b.take(), ["written under epoch one"]);
  });

  test("deletes name what they replace; an empty entry is an entry", async () => {
    const relay = new FakeRelay(new World());
    const a = await founder(relay);
    const { blobId } = await a.client.push(utf8("old"));
    await a.client.delete([blobId], { force: true });
    await a.client.push(new Uint8Array(0));
    await relay.world.result(a.client.flush());
    await relay.world.until(() => a.client.status().readCursor === 3);
    assert.deepEqual(await a.take(), ["old", "", ""]);
  });

  test("a large queue is read back from disk in its turn", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    relay.stop();
    await world.run(1_000);
    const items = Array.from({ length: 40 }, (_, i) => ({
      data: new Uint8Array(300_000).fill(i),
    }));
    await a.client.pushMany(items);
    relay.start();
    await world.result(a.client.flush());
    assert.equal(relay.group.blobs.length, 40);
  });
});
