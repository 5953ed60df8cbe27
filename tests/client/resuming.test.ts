/** A sender that pushes again into a restored log and no longer has a part of it: what its readers make of that. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { ListApp as App, type ListApp, listApps } from "./support/list-app.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: ListApp;
  /** Has read all four, and is away. */
  readonly b: ListApp;
  /** Has read the first two, and is away. */
  readonly c: ListApp;
}

/**
 * `a` wrote four entries and a snapshot holds them, so that it keeps none of them; the relay is restored
 * to the first two, without the snapshot, and `a` pushes a fifth. The relay takes no other snapshot.
 */
async function resumed(): Promise<Group> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const [a, b, c] = (await listApps(relay, 3)) as [ListApp, ListApp, ListApp];
  await a.device.push("one", "two");
  await world.until(() =>
    [a, b, c].every(({ list, device }) => list.length === 2 && device.inSync),
  );
  await world.run(60_000);
  c.device.crash();
  const backup = relay.backup();
  await a.device.push("three", "four");
  await world.until(() => [a, b].every(({ list, device }) => list.length === 4 && device.inSync));
  await world.result(b.client.makeSnapshot());
  await world.until(() => a.device.disk.table("own").range(0).length === 0);
  relay.meddler = {
    request: (_, { body }) =>
      body.case === "putSnapshot" ? new SyncError(ErrorCode.RATE_LIMITED) : undefined,
  };
  b.device.crash();
  relay.stop();
  relay.restore(backup);
  relay.start();
  await a.device.push("five");
  await world.until(() => relay.group.blobs.length === 3);
  assert.deepEqual(
    relay.group.blobs.map(({ seq }) => seq),
    [1, 2, 5],
  );
  return { relay, world, a, b, c };
}

/** Nobody is told what the sender says it lacks. */
function hideWitnesses(relay: FakeRelay): void {
  relay.meddler.reply = (_, envelope) => {
    const [first] = decodeEnvelopes(new Uint8Array(envelope), 2 ** 30);
    return first?.body.case === "witnesses" ? undefined : envelope;
  };
}

const findings = ({ device }: ListApp): unknown[] =>
  device.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]);

describe("PROTOCOL 13.16: a sender that leaves out what it no longer has", () => {
  test("a reader that has the link it follows goes on as ever", async () => {
    const { world, b } = await resumed();
    await b.restart();
    await world.until(() => b.list.length === 5);
    assert.equal(b.list[4], "five");
    assert.deepEqual([b.gaps, findings(b)], [[], []]);
  });

  test("where the sender says that the log lacks it, any other holds what follows until a snapshot covers it", async () => {
    const { relay, world, a, b, c } = await resumed();
    await c.restart();
    await world.until(() => c.client.status().readCursor === 3);
    await world.run(60_000);
    assert.deepEqual(c.list, ["one", "two"]);
    assert.deepEqual([c.gaps, findings(c), c.device.inSync], [[], [], false]);
    // One that has all of it confirms the next one.
    relay.meddler = {};
    await b.restart();
    await world.until(() => c.list.length === 5, 600_000);
    assert.deepEqual(c.list, a.list);
    await world.until(() => c.device.inSync);
    assert.deepEqual([c.gaps, findings(c)], [[], []]);
  });

  test("so does a device that joins only then", async () => {
    const { relay, world, a } = await resumed();
    const d = await new App(relay).start({ name: "late" });
    await d.joins(a);
    await world.until(() => d.client.status().readCursor === 3);
    await world.run(60_000);
    assert.deepEqual(d.list, ["one", "two"]);
    assert.deepEqual([findings(d), d.device.inSync], [[], false]);
  });

  test("where nobody says so, any other goes on too, once, and its app is told of the gap", async () => {
    const { relay, world, a, c } = await resumed();
    hideWitnesses(relay);
    await c.restart();
    await world.until(() => c.list.length === 3);
    assert.equal(c.list[2], "five");
    assert.deepEqual(findings(c), []);
    await a.device.push("six");
    await world.until(() => c.list.length === 4);
    assert.deepEqual(c.gaps, ["3-4"]);
  });

  test("but not behind an entry that was refused", async () => {
    const { relay, world, a, c } = await resumed();
    hideWitnesses(relay);
    // What it had read is shown to it altered, as it is read once more.
    relay.meddler.blobs = (session, blobs) =>
      session.device === c.client.deviceId
        ? blobs.map((blob) =>
            blob.cursor === 2
              ? { ...blob, signature: blob.signature.map((byte) => byte ^ 1) }
              : blob,
          )
        : blobs;
    await c.restart();
    await world.until(() => c.client.status().readCursor === 3);
    await world.run(1_000);
    assert.deepEqual(c.list, ["one", "two"]);
    assert.deepEqual(findings(c), [["ALTERED", a.client.deviceId, 2]]);
    assert.deepEqual([c.gaps, c.device.inSync], [[], false]);
  });

  test("nor in a device's first log: there a gap is DROPPED", async () => {
    const { relay, world, a } = await resumed();
    hideWitnesses(relay);
    const d = await new App(relay).start({ name: "late" });
    await d.joins(a);
    await world.until(() => d.client.status().readCursor === 3);
    await world.run(1_000);
    assert.deepEqual(d.list, ["one", "two"]);
    assert.deepEqual(findings(d), [["DROPPED", a.client.deviceId, 5]]);
    assert.equal(d.device.inSync, false);
  });
});
