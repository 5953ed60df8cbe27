import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode } from "../../wire/errors.ts";
import { Device, founder, member } from "./support/devices.ts";
import { type FakeBlob, FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const numbers = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, i) => `entry ${from + i}`);

async function twoDevices(): Promise<{ relay: FakeRelay; world: World; a: Device; b: Device }> {
  const relay = new FakeRelay(new World());
  const a = await founder(relay);
  const b = await member(a);
  return { relay, world: relay.world, a, b };
}

describe("reader", () => {
  test("catches up over many pages and windows, verified and in order", async () => {
    const { world, a, b } = await twoDevices();
    b.crash();
    await a.push(...numbers(5_000));
    await world.result(a.client.flush());
    await b.start();
    assert.deepEqual(await b.take(), numbers(5_000));
    await world.until(() => b.inSync);
    assert.deepEqual(b.integrity, []);
  });

  test("PROTOCOL 6.5: the window stays open over many times its size", async () => {
    const { relay, world, a, b } = await twoDevices();
    b.crash();
    await a.push(...numbers(8_000));
    await world.result(a.client.flush());
    // The smallest window: 64 KiB, for more than 4 MiB.
    await b.start({ entriesBuffered: 100 });
    const taken: string[] = [];
    const run = async (): Promise<void> => {
      for await (const entry of b.client.entries({ untilCaughtUp: true })) {
        taken.push(new TextDecoder().decode(entry.data));
        await entry.ack();
      }
    };
    await world.result(run());
    assert.deepEqual(taken, numbers(8_000));
    assert.ok(relay.count("pullMore") > 20);
  });

  test("a restart goes on from what is stored: nothing is pulled twice, nothing skipped", async () => {
    const { relay, world, a, b } = await twoDevices();
    await a.push(...numbers(300));
    await world.until(() => b.client.status().readCursor === 300);
    const pulled: number[] = [];
    await b.restart();
    relay.meddler = {
      request: (session, envelope) => {
        if (envelope.body.case === "pull" && session.device === b.client.deviceId) {
          pulled.push(Number(envelope.body.value.after));
        }
        return undefined;
      },
    };
    assert.deepEqual(await b.take(), numbers(300));
    assert.deepEqual(pulled, [300]);
  });

  test("what was not acknowledged comes again after a restart, with the same position; the rest does not", async () => {
    const { world, a, b } = await twoDevices();
    await a.push(...numbers(10));
    await world.until(() => b.client.status().readCursor === 10);
    const positions: number[] = [];
    for await (const entry of b.client.entries({ untilCaughtUp: true })) {
      positions.push(entry.position);
      // One is left open in the middle: everything from it on comes again.
      if (entry.position !== 5) await entry.ack();
    }
    assert.deepEqual(positions, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.equal(b.client.status().unacknowledged, 6);
    assert.equal(b.client.status().appliedCursor, 4);
    await world.run(1_000);
    await b.restart();
    const again: number[] = [];
    for await (const entry of b.client.entries()) {
      again.push(entry.position);
      await entry.ack();
      if (entry.position === 10) break;
    }
    assert.deepEqual(again, [5, 6, 7, 8, 9, 10]);
    await world.until(() => b.client.status().inSync);
    assert.equal(b.client.status().appliedCursor, 10);
  });

  test("acknowledgements cost no write each", async () => {
    const { world, a, b } = await twoDevices();
    await a.push(...numbers(1_000));
    await world.until(() => b.client.status().readCursor === 1_000);
    const before = b.store.commits;
    assert.equal((await b.take()).length, 1_000);
    await world.until(() => b.inSync);
    await world.run(10_000);
    assert.ok(b.store.commits - before < 15, `${b.store.commits - before} commits`);
  });

  test("the position an app kept in its own transaction counts as acknowledged", async () => {
    const { world, a, b } = await twoDevices();
    await a.push(...numbers(10));
    await world.until(() => b.client.status().readCursor === 10);
    await b.restart({ appliedPosition: 7 });
    await world.until(() => b.client.status().connection.state === "online");
    assert.deepEqual(await b.take(), numbers(3, 7));
  });

  test("an app that falls behind pauses reading; it goes on once there is room", async () => {
    const { relay, world, a, b } = await twoDevices();
    b.crash();
    await a.push(...numbers(3_000));
    await world.result(a.client.flush());
    await b.start({ entriesBuffered: 200 });
    await world.run(60_000);
    const { readCursor, unacknowledged } = b.client.status();
    assert.ok(unacknowledged >= 200 && unacknowledged < 3_000, `${unacknowledged} wait`);
    assert.equal(readCursor, unacknowledged);
    // New entries do not get past it either.
    await a.push("late");
    await world.result(a.client.flush());
    await world.run(60_000);
    assert.equal(b.client.status().readCursor, readCursor);
    assert.equal(b.client.status().connection.state, "online");
    const taken: string[] = [];
    const run = async (): Promise<void> => {
      for await (const entry of b.client.entries()) {
        taken.push(new TextDecoder().decode(entry.data));
        await entry.ack();
        if (taken.length === 3_001) return;
      }
    };
    await world.result(run());
    assert.deepEqual(taken, [...numbers(3_000), "late"]);
    assert.ok(relay.count("pullMore") > 0);
  });

  test("while nothing is taken, deliveries beyond the bound are left to a later pull", async () => {
    const { world, a, b } = await twoDevices();
    await b.restart({ entriesBuffered: 5 });
    await world.until(() => b.client.status().connection.state === "online");
    for (const text of numbers(20)) {
      await a.push(text);
      await world.result(a.client.flush());
    }
    await world.run(1_000);
    assert.ok(b.client.status().unacknowledged <= 6);
    assert.equal(b.client.status().head, 20);
    assert.equal(b.client.status().inSync, false);
    const taken: string[] = [];
    const run = async (): Promise<void> => {
      for await (const entry of b.client.entries()) {
        taken.push(new TextDecoder().decode(entry.data));
        await entry.ack();
        if (taken.length === 20) return;
      }
    };
    await world.result(run());
    assert.deepEqual(taken, numbers(20));
  });

  test("PROTOCOL 6.6: Notify in place of Deliver is followed by a pull", async () => {
    const { relay, world, a, b } = await twoDevices();
    for (const session of relay.sessions) {
      if (session.device === b.client.deviceId) session.forgetDelivery();
    }
    await a.push("behind");
    await world.until(() => b.client.status().readCursor === 1);
    await a.push("again");
    await world.until(() => b.client.status().readCursor === 2);
    assert.deepEqual(await b.take(), ["behind", "again"]);
  });

  test("entries ends where its signal aborts, where the client closes, and at the head", async () => {
    const { world, a, b } = await twoDevices();
    await a.push("one");
    const abort = new AbortController();
    const seen: string[] = [];
    const run = async (signal: AbortSignal | undefined): Promise<void> => {
      for await (const entry of b.client.entries(signal === undefined ? {} : { signal })) {
        seen.push(entry.blobId);
      }
    };
    const aborted = run(abort.signal);
    await world.until(() => seen.length === 1);
    abort.abort();
    await world.result(aborted);
    const closed = run(undefined);
    await world.until(() => seen.length === 2);
    await world.result(b.client.close());
    await world.result(closed);
    assert.equal(seen[0], seen[1]);
  });

  test("history reads again without moving anything", async () => {
    const { world, a, b } = await twoDevices();
    await a.push(...numbers(50));
    await world.until(() => b.client.status().readCursor === 50);
    await b.take();
    const before = b.client.status();
    const texts: string[] = [];
    const run = async (): Promise<void> => {
      for await (const entry of b.client.history({ after: 10, until: 20 })) {
        texts.push(new TextDecoder().decode(entry.data));
      }
    };
    await world.result(run());
    assert.deepEqual(texts, numbers(10, 10));
    assert.deepEqual(b.client.status().readCursor, before.readCursor);
    await a.push("after");
    await world.until(() => b.client.status().readCursor === 51);
    assert.deepEqual(await b.take(), ["after"]);
  });

  test("an own entry stands at its place, marked own, without its body coming back", async () => {
    const { world, a, b } = await twoDevices();
    await a.push("a1");
    await world.until(() => b.client.status().readCursor === 1);
    await b.push("b1");
    await world.until(() => a.client.status().readCursor === 2);
    await a.push("a2");
    await world.until(
      () => a.client.status().readCursor === 3 && b.client.status().readCursor === 3,
    );
    // Of an earlier process, it is opened from what the device kept.
    await a.restart();
    await world.until(() => a.client.status().connection.state === "online");
    const own: [string, boolean, number][] = [];
    const run = async (): Promise<void> => {
      for await (const entry of a.client.entries({ untilCaughtUp: true })) {
        own.push([new TextDecoder().decode(entry.data), entry.own, entry.seq]);
      }
    };
    await world.result(run());
    assert.deepEqual(own, [
      ["a1", true, 1],
      ["b1", false, 1],
      ["a2", true, 2],
    ]);
  });

  test("PROTOCOL 7.1, 7.7: the relay is told what was applied, and the others a witness of it", async () => {
    const { relay, world, a, b } = await twoDevices();
    await a.push(...numbers(5));
    await world.until(() => b.client.status().readCursor === 5);
    await b.take();
    await world.until(() => relay.group.applied.get(b.client.deviceId) === 5);
    await world.until(
      () =>
        a.client.devices().find(({ deviceId }) => deviceId === b.client.deviceId)?.applied
          ?.cursor === 5,
    );
    const acks = relay.count("ack");
    await world.run(12 * 3_600_000);
    assert.ok(relay.count("ack") - acks <= 2);
    await world.run(13 * 3_600_000);
    assert.ok(relay.count("ack") > acks, "a witness at least daily");
  });

  test("PROTOCOL 7.5: presence of the others, by the relay's word", async () => {
    const { world, a, b } = await twoDevices();
    const seen: string[] = [];
    a.client.on("presence", ({ presence }) => seen.push(presence));
    b.client.setPresence("away");
    await world.until(() => seen.includes("away"));
    await world.result(b.client.close());
    await world.until(() => seen.includes("offline"));
    const other = a.client.devices().find(({ self }) => !self);
    assert.equal(other?.presence, "offline");
  });
});

describe("a relay that lies", () => {
  /** Pushes, lets the relay change what one device is shown, and says what it found. */
  async function shown(
    change: (blobs: FakeBlob[]) => FakeBlob[],
  ): Promise<{ device: Device; texts: string[]; world: World; relay: FakeRelay; other: Device }> {
    const { relay, world, a, b } = await twoDevices();
    await a.push("one", "two", "three");
    await world.result(a.client.flush());
    await b.restart();
    relay.meddler = {
      blobs: (session, blobs) => (session.device === b.client.deviceId ? change(blobs) : blobs),
    };
    // Whatever was stored before stays; this device sees the log for the first time.
    b.crash();
    b.disk = (await fresh(b)).disk;
    await b.start();
    await world.run(5_000);
    const texts: string[] = [];
    const run = async (): Promise<void> => {
      for await (const entry of b.client.entries({ untilCaughtUp: true })) {
        texts.push(new TextDecoder().decode(entry.data));
        await entry.ack();
      }
    };
    const running = run();
    await world.run(5_000);
    if (b.client.status().readCursor === 3) await world.result(running);
    return { device: b, texts, world, relay, other: a };
  }

  /** The device's disk without its log: as if it had never read. */
  async function fresh(device: Device): Promise<Device> {
    const other = new Device(device.relay, device.disk.copy());
    for (const table of ["log", "inbox", "refused"] as const) {
      for (const { key } of other.disk.table(table).range(table === "log" ? "" : 0)) {
        other.disk.table(table).delete(key);
      }
    }
    return other;
  }

  const flip = (bytes: Uint8Array, at = bytes.byteLength - 1): Uint8Array => {
    const other = Uint8Array.from(bytes);
    other[at] = (other[at] as number) ^ 1;
    return other;
  };

  test("an altered body is refused, kept as evidence, and what follows of that sender waits", async () => {
    const { device, texts } = await shown((blobs) =>
      blobs.map((blob) => (blob.cursor === 2 ? { ...blob, body: flip(blob.body) } : blob)),
    );
    assert.deepEqual(texts, ["one"]);
    assert.deepEqual(
      device.integrity.map(({ finding, cursor, error }) => [finding, cursor, error.code]),
      [["ALTERED", 2, ErrorCode.OPEN_FAILED]],
    );
    const status = device.client.status();
    assert.equal(status.readCursor, 3);
    assert.equal(status.appliedCursor, 1);
    assert.equal(status.refused, 2);
    assert.equal(status.inSync, false);
  });

  test("an altered header or blob id is refused, and so is an altered signature of the newest", async () => {
    const changes: [number, (blob: FakeBlob) => FakeBlob][] = [
      [2, (blob) => ({ ...blob, header: flip(blob.header) })],
      [2, (blob) => ({ ...blob, blobId: flip(blob.blobId) })],
      [3, (blob) => ({ ...blob, signature: flip(blob.signature) })],
    ];
    for (const [cursor, change] of changes) {
      const { device, texts } = await shown((blobs) =>
        blobs.map((blob) => (blob.cursor === cursor ? change(blob) : blob)),
      );
      assert.deepEqual(texts, ["one", "two"].slice(0, cursor - 1));
      assert.equal(device.integrity[0]?.finding, "ALTERED");
      assert.equal(device.client.status().appliedCursor, cursor - 1);
    }
  });

  test("a dropped entry with its cursor closed over is noticed", async () => {
    const { device, texts } = await shown((blobs) => {
      const left = blobs.filter((blob) => blob.cursor !== 2);
      return left.map((blob) => (blob.cursor === 3 ? { ...blob, cursor: 2 } : blob));
    });
    assert.deepEqual(texts, []);
    assert.equal(device.client.status().readCursor, 0);
    assert.equal(device.client.status().inSync, false);
  });

  test("two entries that change places are noticed", async () => {
    const { device, texts } = await shown((blobs) => {
      const [one, two, three] = blobs;
      if (one === undefined || two === undefined || three === undefined) return blobs;
      return [one, { ...three, cursor: 2 }, { ...two, cursor: 3 }];
    });
    assert.equal(texts[0], "one");
    assert.ok(device.integrity.length >= 1);
  });

  test("a body that is held back without a reason is withheld, once the head is reached", async () => {
    const { device, texts } = await shown((blobs) =>
      blobs.map((blob) =>
        blob.cursor === 2 ? { ...blob, body: new Uint8Array(0), bodyState: 2 } : blob,
      ),
    );
    assert.deepEqual(texts, ["one", "three"]);
    assert.deepEqual(
      device.integrity.map(({ finding, cursor }) => [finding, cursor]),
      [["WITHHELD", 2]],
    );
    assert.equal(device.client.status().appliedCursor, 1);
  });

  test("once the relay shows the intact entry, it is taken, and what waited behind it", async () => {
    const { device, relay, world } = await shown((blobs) =>
      blobs.map((blob) => (blob.cursor === 2 ? { ...blob, body: flip(blob.body) } : blob)),
    );
    relay.meddler = {};
    world.cutAll();
    await world.until(() => device.client.status().refused === 0);
    assert.deepEqual(await device.take(), ["two", "three"]);
    await world.until(() => device.inSync);
    assert.equal(device.client.status().appliedCursor, 3);
  });
});
