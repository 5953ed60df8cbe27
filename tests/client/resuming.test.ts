/** A sender that pushes again into a restored log and has let go a part of it: what its readers make of that. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { type Device, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { listApps } from "./support/list-app.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: Device;
  /** Has read all four. */
  readonly b: Device;
  /** Has read the first two, and is away. */
  readonly c: Device;
}

/**
 * `a` wrote four entries and a snapshot holds them, so that it keeps none of them; the relay is restored
 * to the first two, without the snapshot, and `a` pushes a fifth.
 */
async function resumed(): Promise<Group> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const apps = await listApps(relay, 2);
  const [a, b] = apps.map(({ device }) => device) as [Device, Device];
  const c = await member(a);
  await a.push("one", "two");
  await world.until(() => c.client.status().readCursor === 2);
  await c.take();
  c.crash();
  const backup = relay.backup();
  await a.push("three", "four");
  await world.until(() => apps.every(({ list, device }) => list.length === 4 && device.inSync));
  await world.result(b.client.makeSnapshot());
  await world.until(() => a.disk.table("own").range(0).length === 0);
  relay.meddler = {
    // Else the next snapshot would hold what is left out.
    request: (_, { body }) =>
      body.case === "putSnapshot" ? new SyncError(ErrorCode.RATE_LIMITED) : undefined,
  };
  b.crash();
  relay.stop();
  relay.restore(backup);
  relay.start();
  await a.push("five");
  await world.until(() => relay.group.blobs.length === 3);
  assert.deepEqual(
    relay.group.blobs.map(({ seq }) => seq),
    [1, 2, 5],
  );
  return { relay, world, a, b, c };
}

const listening = (device: Device): unknown[] => {
  const gaps: unknown[] = [];
  device.client.on("gap", (gap) => gaps.push(gap));
  return gaps;
};

describe("PROTOCOL 13.16: a sender that leaves out what it no longer has", () => {
  test("a reader that has the link it follows goes on as ever", async () => {
    const { world, b } = await resumed();
    await b.start();
    const gaps = listening(b);
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["five"]);
    await world.until(() => b.inSync);
    assert.deepEqual([gaps, b.integrity], [[], []]);
  });

  test("any other goes on too, and its app is told of the gap", async () => {
    const { world, a, c } = await resumed();
    await c.start();
    const gaps = listening(c);
    await world.until(() => c.client.status().readCursor === 3);
    assert.deepEqual(await c.take(), ["five"]);
    await world.until(() => c.inSync);
    assert.deepEqual(gaps, [{ from: 3, through: 4, sender: a.client.deviceId }]);
    assert.deepEqual(c.integrity, []);
    // Once: what it writes then follows that.
    await a.push("six");
    await world.until(() => c.client.status().readCursor === 4);
    assert.deepEqual(await c.take(), ["six"]);
    assert.equal(gaps.length, 1);
  });

  test("nobody goes on so behind an entry that was refused", async () => {
    const { relay, world, a, c } = await resumed();
    // What it had read is shown to it altered, as it is read once more.
    relay.meddler.blobs = (session, blobs) =>
      session.device === c.client.deviceId
        ? blobs.map((blob) =>
            blob.cursor === 2
              ? { ...blob, signature: blob.signature.map((byte) => byte ^ 1) }
              : blob,
          )
        : blobs;
    await c.start();
    const gaps = listening(c);
    await world.until(() => c.client.status().readCursor === 3);
    assert.deepEqual(await c.take(), []);
    assert.deepEqual(
      c.integrity.map(({ finding, sender }) => [finding, sender]),
      [["ALTERED", a.client.deviceId]],
    );
    assert.deepEqual([gaps, c.inSync], [[], false]);
  });

  test("and none does in its first log: there a gap is DROPPED", async () => {
    const { world, a } = await resumed();
    const d = await member(a);
    await world.until(() => d.client.status().readCursor === 3);
    assert.deepEqual(await d.take(), ["one", "two"]);
    assert.deepEqual(
      d.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
      [["DROPPED", a.client.deviceId, 5]],
    );
    assert.equal(d.inSync, false);
  });
});
