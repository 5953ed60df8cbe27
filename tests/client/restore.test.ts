import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode, type SyncError } from "../../wire/errors.ts";
import { founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { rotateBy } from "./support/rotate.ts";
import { World } from "./support/world.ts";

const numbers = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, i) => `entry ${from + i}`);

describe("a relay restored from a backup", () => {
  test("PROTOCOL 11.3: gets back what it lacks; everybody ends with everything, once, and is told", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push(...numbers(5));
    await world.until(() => b.client.status().readCursor === 5);
    assert.deepEqual(await b.take(), numbers(5));
    const backup = relay.backup();
    await a.push(...numbers(3, 5));
    await b.push("from b");
    await world.until(
      () => a.client.status().readCursor === 9 && b.client.status().readCursor === 9,
    );
    await a.take();
    const taken = await b.take();
    assert.equal(taken.length, 4);
    relay.stop();
    relay.restore(backup);
    relay.start();
    await world.until(() => relay.group.blobs.length === 9);
    await world.until(() => a.inSync && b.inSync);
    for (const device of [a, b]) {
      assert.ok(device.errors.some((error) => (error as SyncError).code === ErrorCode.LOG_CHANGED));
      assert.deepEqual(await device.take(), [], "nothing is handed out twice");
      assert.deepEqual(device.integrity, []);
      assert.equal(device.client.status().appliedCursor, 9);
    }
    const c = await member(a);
    await world.until(() => c.client.status().readCursor === 9);
    assert.equal((await c.take()).length, 9);
    assert.deepEqual(c.integrity, []);
  });

  test("what was not acknowledged before is handed out after, and holds the applied cursor back", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push(...numbers(5));
    await world.until(() => b.client.status().readCursor === 5);
    const backup = relay.backup();
    relay.stop();
    relay.restore(backup);
    relay.start();
    await world.until(() => b.errors.length > 0 && b.client.status().readCursor === 5);
    assert.equal(b.client.status().appliedCursor, 0);
    await b.restart();
    await world.until(() => b.client.status().connection.state === "online");
    assert.deepEqual(await b.take(), numbers(5));
    await world.until(() => b.client.status().appliedCursor === 5);
  });

  test("membership changes that the relay lost are submitted again, as they are", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const backup = relay.backup();
    const b = await member(a);
    rotateBy(b, relay);
    await world.until(() => a.client.status().epoch === 2 && b.client.status().epoch === 2);
    await a.push("under epoch two");
    await b.push("of the second device");
    await world.until(() => relay.group.blobs.length === 2);
    const control = relay.group.control;
    relay.stop();
    relay.restore(backup);
    relay.start();
    await world.until(() => relay.group.control.length === 3);
    assert.deepEqual(relay.group.control, control);
    await world.until(() => relay.group.blobs.length === 2, 600_000);
    await world.until(() => a.client.status().readCursor === 2);
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
  });

  test("restored twice: no loop, no older state over newer", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    const backup = relay.backup();
    await a.push(...numbers(4));
    await b.push(...numbers(4, 4));
    await world.until(() => a.client.status().readCursor === 8);
    for (let round = 0; round < 2; round++) {
      relay.stop();
      relay.restore(backup);
      relay.start();
      await world.until(() => relay.group.blobs.length === 8);
      await world.until(
        () => a.client.status().readCursor === 8 && b.client.status().readCursor === 8,
      );
    }
    assert.deepEqual((await a.take()).toSorted(), numbers(8));
    assert.deepEqual((await b.take()).toSorted(), numbers(8));
    await world.until(() => a.inSync && b.inSync);
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
  });
});

describe("a device restored from its own old backup", () => {
  test("PROTOCOL 5.5: adopts what it had written, puts its queue behind, and reuses no number", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push(...numbers(5));
    await world.result(a.client.flush());
    await world.until(() => a.client.status().readCursor === 5);
    await a.take();
    await world.run(1_000);
    const backup = a.disk.copy();
    await a.push(...numbers(5, 5));
    await world.result(a.client.flush());
    a.crash();
    // The backup wakes up offline and writes on, under numbers that are taken.
    relay.stop();
    a.disk = backup;
    await a.start();
    const receipts = await a.client.pushMany(
      ["new one", "new two"].map((text) => ({ data: new TextEncoder().encode(text) })),
    );
    assert.deepEqual(
      receipts.map(({ seq }) => seq),
      [6, 7],
    );
    relay.start();
    await world.result(a.client.flush());
    assert.deepEqual(await world.result(Promise.all(receipts.map(({ durable }) => durable))), [
      { cursor: 11 },
      { cursor: 12 },
    ]);
    assert.deepEqual(
      relay.group.blobs.map(({ seq }) => seq),
      Array.from({ length: 12 }, (_, i) => i + 1),
    );
    await world.until(() => a.client.status().readCursor === 12);
    assert.deepEqual(await a.take(), [...numbers(5, 5), "new one", "new two"]);
    await world.until(() => b.client.status().readCursor === 12);
    assert.deepEqual(await b.take(), [...numbers(10), "new one", "new two"]);
    await world.until(() => a.inSync && b.inSync);
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
    // The adopted entries are kept like any other: a restored relay gets them back.
    const old = relay.backup();
    for (const group of old.values()) {
      group.blobs.length = 5;
      group.senders.set(a.client.deviceId, {
        seq: 5,
        link: group.blobs[4]?.link ?? new Uint8Array(32),
      });
    }
    relay.stop();
    relay.restore(old);
    relay.start();
    await world.until(() => relay.group.blobs.length === 12);
  });

  test("its blob ids stay: an entry that was queued under a taken number is pushed once", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    await a.push("one");
    await world.result(a.client.flush());
    await world.until(() => a.client.status().readCursor === 1);
    const backup = a.disk.copy();
    await a.push("two");
    await world.result(a.client.flush());
    a.crash();
    relay.stop();
    a.disk = backup;
    await a.start();
    const { blobId } = await a.client.push(new TextEncoder().encode("three"));
    relay.start();
    await world.result(a.client.flush());
    assert.equal(Buffer.from(relay.group.blobs[2]?.blobId ?? []).toString("base64url"), blobId);
    assert.equal(relay.group.blobs.length, 3);
  });

  test("dies between reading back and taking over what it had written: nothing is pushed twice", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push(...numbers(5));
    await world.result(a.client.flush());
    relay.stop();
    await a.push(...numbers(2, 5));
    const backup = a.disk.copy();
    relay.start();
    await a.push("later");
    await world.result(a.client.flush());
    a.crash();
    a.disk = backup;
    let died = false;
    await a.start({
      hooks: {
        afterCommit: () => {
          const readBack =
            a.disk.table("own").get(8) !== undefined || a.disk.table("chain").range("").length > 1;
          if (readBack) a.crash();
          died ||= readBack;
        },
      },
    });
    await world.until(() => died);
    await a.start();
    await a.push("new");
    await world.result(a.client.flush());
    await world.until(() => b.client.status().readCursor === relay.group.blobs.length);
    assert.deepEqual(await b.take(), [...numbers(7), "later", "new"]);
    await world.until(() => a.client.status().readCursor === 9);
    assert.deepEqual(await a.take(), [...numbers(7), "later", "new"]);
    // What was read back is kept like any other.
    assert.equal(a.disk.table("own").range(0).length, 9);
    assert.equal(a.disk.table("chain").range("").length, 1);
  });

  test("what another state of it had moved and pushed is not moved and pushed again", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    await a.push("one");
    await world.result(a.client.flush());
    const first = a.disk.copy();
    await a.push("two");
    await world.result(a.client.flush());
    a.crash();
    relay.stop();
    a.disk = first;
    await a.start();
    await a.push("three");
    const second = a.disk.copy();
    relay.start();
    await world.result(a.client.flush());
    assert.equal(relay.group.blobs.length, 3);
    a.crash();
    a.disk = second;
    await a.start();
    await world.result(a.client.flush());
    await a.push("four");
    await world.result(a.client.flush());
    await world.until(() => a.client.status().readCursor === relay.group.blobs.length);
    assert.deepEqual(await a.take(), ["one", "two", "three", "four"]);
  });

  test("a relay that claims entries it does not show is named, and nothing is pushed", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    await a.push("one");
    await world.result(a.client.flush());
    relay.group.senders.set(a.client.deviceId, { seq: 9, link: world.random(32) });
    world.cutAll();
    await world.until(() => a.integrity.length > 0);
    assert.equal(a.integrity[0]?.finding, "DROPPED");
    await a.push("two");
    await world.run(30_000);
    assert.equal(relay.group.blobs.length, 1);
    assert.equal(a.client.status().pushHeld?.code, ErrorCode.HISTORY_ALTERED);
  });
});

describe("a device that dies", () => {
  test("at any write of pushing, reading and acknowledging: nothing is lost, nothing comes twice unasked", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      for (let at = 2; at <= 14; at++) {
        const relay = new FakeRelay(new World());
        const { world } = relay;
        const a = await founder(relay);
        const b = await member(a);
        let died = false;
        await b.restart({
          hooks: {
            [when]: (commits: number) => {
              if (commits !== at) return;
              died = true;
              b.crash();
            },
          },
        });
        const acknowledged: string[] = [];
        const queued: string[] = [];
        const run = async (): Promise<void> => {
          for await (const entry of b.client.entries()) {
            acknowledged.push(new TextDecoder().decode(entry.data));
            await entry.ack();
          }
        };
        run().catch(() => undefined);
        for (let i = 0; i < 3; i++) {
          await a.push(`a${i}`);
          b.push(`b${i}`).then(
            () => queued.push(`b${i}`),
            () => undefined,
          );
          await world.run(700);
        }
        await world.run(2_000);
        const before = [...acknowledged];
        if (died) await b.start();
        await world.until(() => b.client.status().connection.state === "online");
        await world.result(b.client.flush());
        await world.result(a.client.flush());
        const head = relay.group.blobs.length;
        await world.until(
          () => a.client.status().readCursor === head && b.client.status().readCursor === head,
        );
        const all = await a.take();
        // What was promised to be queued is there; in order, once.
        assert.deepEqual(
          all.filter((text) => queued.includes(text)),
          queued,
        );
        assert.equal(new Set(all).size, all.length);
        const seen = new Set([...before, ...(await b.take())]);
        assert.deepEqual([...seen].toSorted(), all.toSorted());
        assert.deepEqual([a.integrity, b.integrity], [[], []]);
      }
    }
  });

  test("a store that is full fails the push, keeps the connection's work, and goes on once it is not", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    let full = false;
    await b.restart({
      hooks: {
        beforeCommit: () => {
          if (full) throw new Error("full");
        },
      },
    });
    await world.until(() => b.client.status().connection.state === "online");
    full = true;
    await assert.rejects(b.push("refused"), /full/);
    full = false;
    await b.push("taken");
    await world.result(b.client.flush());
    await world.until(() => a.client.status().readCursor === 1);
    assert.deepEqual(await a.take(), ["taken"]);
  });
});
