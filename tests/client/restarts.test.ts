/** A device that lost state together with the relay: two signed links for one place, and the way out. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decodeHeader } from "../../client/seal/header.ts";
import { fromUtf8 } from "../../wire/bytes.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { passOn, witnessBy } from "./support/witness.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  /** Has lost its second and third entry; not started. */
  readonly a: Device;
  /** Has read them. */
  readonly b: Device;
}

/** `a` and the relay are both back at the first entry of `a`; `b` knows three. */
async function bothLost(bSays = false): Promise<Group> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  await a.push("one");
  await world.until(() => a.client.status().readCursor === 1 && b.client.status().readCursor === 1);
  await a.take();
  await world.until(() => a.inSync);
  const backup = relay.backup();
  const disk = a.disk.copy();
  await a.push("two", "three");
  await world.until(() => b.client.status().readCursor === 3);
  assert.deepEqual(await b.take(), ["one", "two", "three"]);
  if (bSays) {
    await b.push("saw three");
    await world.result(b.client.flush());
  }
  a.crash();
  a.disk = disk;
  relay.stop();
  relay.restore(backup);
  return { relay, world, a, b };
}

const restartsIn = (relay: FakeRelay): number =>
  relay.group.blobs.filter(({ header }) => decodeHeader(header).abandonedLink !== undefined).length;

describe("PROTOCOL 13.14: a device that lost state, and a log that lost the same", () => {
  test("hears of it before it writes on: a restart, and readers go on from what they hold", async () => {
    const { relay, world, a, b } = await bothLost();
    relay.start();
    await world.until(() => b.client.status().readCursor === 1);
    await b.take();
    await a.start();
    await world.until(() => restartsIn(relay) === 1);
    const own = a.integrity.map(({ finding, sender }) => [finding, sender]);
    assert.deepEqual(own, [["DEVICE_FORKED", a.client.deviceId]]);
    await a.push("four");
    await world.until(() => b.client.status().readCursor === 3);
    // The restart itself is nothing for an app.
    assert.deepEqual(await b.take(), ["four"]);
    await world.until(() => a.client.status().readCursor === 3);
    assert.deepEqual(await a.take(), ["four"]);
    const again: string[] = [];
    const read = async (): Promise<void> => {
      for await (const { data } of b.client.history({ after: 0 }))
        again.push(fromUtf8(data) ?? "?");
    };
    await world.result(read());
    assert.deepEqual(again, ["one", "four"]);
    await world.until(() => a.inSync && b.inSync);
    assert.deepEqual(b.integrity, []);
    assert.deepEqual(
      a.client.findings().map(({ state }) => state),
      ["healed"],
    );
    await world.run(60_000);
    assert.equal(restartsIn(relay), 1, "one restart for one link");
  });

  test("has written on before it hears: readers name it, hold it, and take all of it after the restart", async () => {
    const { relay, world, a, b } = await bothLost();
    // Written while it was away from everybody, under numbers that are taken.
    await a.start();
    await a.push("other two", "other three");
    // Nothing tells it until those are in the log.
    relay.meddler = {
      request: (session, { body }) =>
        session.device === b.client.deviceId && body.case === "ack" ? "lost" : undefined,
    };
    relay.start();
    await world.until(() => relay.group.blobs.length === 3);
    await world.until(() => b.integrity.length > 0);
    assert.deepEqual(
      [...new Set(b.integrity.map(({ finding, sender }) => `${finding} ${sender}`))],
      [`DEVICE_FORKED ${a.client.deviceId}`],
    );
    assert.deepEqual(await b.take(), []);
    assert.equal(b.inSync, false);
    relay.meddler = {};
    const place = relay.group.blobs[0];
    assert.ok(place !== undefined);
    passOn(a, b, witnessBy(b, { counter: 50, positions: await placesOf(b) }));
    await world.until(() => restartsIn(relay) === 1);
    await world.until(() => b.client.status().refused === 0);
    assert.deepEqual((await b.take()).toSorted(), ["other three", "other two"]);
    await a.push("later");
    await world.until(() => b.client.status().readCursor === 5);
    assert.deepEqual(await b.take(), ["later"]);
    await world.until(() => b.client.status().findings === 0);
    await world.until(() => b.inSync);
  });

  test("one that joins later, and reads of the lost link, sees that its sender gave it up", async () => {
    const { relay, world, a, b } = await bothLost(true);
    relay.start();
    await a.start();
    await world.until(() => restartsIn(relay) >= 1);
    await world.until(() => relay.group.blobs.length >= 3);
    const c = await member(b);
    await world.until(() => c.client.status().readCursor === relay.group.blobs.length);
    const taken = await c.take();
    assert.ok(taken.includes("saw three"));
    await world.run(60_000);
    assert.deepEqual(c.integrity, []);
    await world.until(() => c.inSync);
  });

  test("what a member makes up about it costs at most a few entries", async () => {
    const { relay, world, a, b } = await bothLost();
    relay.start();
    await a.start();
    await world.until(() => a.client.status().connection.state === "online");
    for (let i = 0; i < 100; i++) {
      const lie = new Map([[a.client.deviceId, { seq: 50 + i, link: world.random(32) }]]);
      passOn(a, b, witnessBy(b, { counter: 100 + i, positions: lie, applied: 0 }));
      await world.run(100);
    }
    await world.run(60_000);
    assert.ok(restartsIn(relay) <= 16, `${restartsIn(relay)} restarts`);
  });

  test("does not give up what it has, whatever place a member names with it", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push("one", "two", "three", "four");
    await world.until(() => a.client.status().readCursor === 4);
    await a.take();
    await world.until(() => a.inSync);
    // Whoever is shown nothing behind the second would pass over all that the restart leads up to.
    for (const [i, { link }] of relay.group.blobs.entries()) {
      for (const seq of [3, 50]) {
        const lie = new Map([[a.client.deviceId, { seq, link }]]);
        passOn(a, b, witnessBy(b, { counter: 100 * (i + 1) + seq, positions: lie, applied: 0 }));
        await world.run(100);
      }
    }
    await world.run(60_000);
    assert.equal(restartsIn(relay), 0);
  });

  test("that leads over what a relay hid is told as a gap", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push("one", "two");
    await world.until(() => b.client.status().readCursor === 2);
    await b.take();
    b.crash();
    await a.push("three", "four");
    await world.until(() => a.client.status().readCursor === 4);
    await a.take();
    // A snapshot holds what it had written: it does not know those links any more.
    await a.restart();
    for (const seq of [1, 2, 3, 4]) a.disk.table("own").delete(seq);
    await world.until(() => a.inSync);
    const lie = new Map([
      [a.client.deviceId, { seq: 50, link: relay.group.blobs[1]?.link as Uint8Array }],
    ]);
    passOn(a, b, witnessBy(b, { counter: 100, positions: lie, applied: 0 }));
    await world.until(() => restartsIn(relay) === 1);
    relay.group.blobs = relay.group.blobs
      .filter(({ seq }) => seq !== 3 && seq !== 4)
      .map((blob, i) => ({ ...blob, cursor: i + 1 }));
    await b.start();
    const gaps: unknown[] = [];
    b.client.on("gap", (gap) => gaps.push(gap));
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(gaps, [{ sender: a.client.deviceId, from: 3, through: 4 }]);
  });
});

/** Where a device stands with each sender, as it keeps it. */
async function placesOf(device: Device): Promise<Map<string, { seq: number; link: Uint8Array }>> {
  const { decodeLog } = await import("../../client/disk.ts");
  const bytes = device.disk.table("log").get("state");
  assert.ok(bytes !== undefined);
  return new Map(decodeLog(bytes).log.senders);
}
