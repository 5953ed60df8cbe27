/** Entries of a device that was removed: what they explain, and what it means that a restored relay lost them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "../../wire/bytes.ts";
import { founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

test("PROTOCOL 13.12: what a removed device deleted is explained by its entries, and is not withheld", async () => {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  const [first] = await a.client.pushMany([{ data: utf8("one") }]);
  await world.until(() => b.client.status().readCursor === 1);
  await b.client.pushMany([{ data: utf8("in its place"), deletes: [first?.blobId ?? ""] }]);
  // Its last one comes with another page.
  await b.push("x".repeat(100_000), "y".repeat(100_000));
  await world.until(() => a.client.status().readCursor === 4);
  await a.take();
  await world.result(a.client.remove([b.client.deviceId]));
  // By then the relay has let the body go.
  relay.group.blobs = relay.group.blobs.map((blob) =>
    blob.cursor === 1 ? { ...blob, body: new Uint8Array(0), bodyState: 2 } : blob,
  );
  const c = await member(a, { entriesBuffered: 1 });
  await world.until(() => c.client.status().readCursor === 4 && c.client.status().refused === 0);
  assert.deepEqual(
    (await c.take()).map((text) => text.slice(0, 12)),
    ["in its place", "xxxxxxxxxxxx", "yyyyyyyyyyyy"],
  );
  await world.until(() => c.inSync);
  assert.deepEqual(c.integrity, []);
});

test("PROTOCOL 13.2 13.8: what a restored relay lost of a removed device is told once, and no member forks by it", async () => {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const s = await member(a);
  await a.push("before");
  await world.until(() => s.client.status().readCursor === 1);
  const backup = relay.backup();
  await s.push("lost");
  await world.until(() => a.client.status().readCursor === 2);
  await a.take();
  await world.result(a.client.remove([s.client.deviceId]));
  await s.client.close();
  relay.stop();
  relay.restore(backup);
  relay.start();
  await world.until(() => a.client.status().connection.state === "online", 300_000);
  await world.until(() => relay.group.removed.has(s.client.deviceId));
  const c = await member(a);
  await world.until(() => c.integrity.length > 0);
  assert.deepEqual(
    c.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
    [["DROPPED", s.client.deviceId, 1]],
  );
  assert.equal(c.inSync, false);
  await world.result(c.client.acceptFinding(c.integrity[0]?.id ?? ""));
  await c.take();
  await world.until(() => c.inSync);
  // The member that had read it acknowledges in the new log.
  await a.push("after");
  await world.until(() => c.client.status().readCursor === 2);
  await a.take();
  await c.take();
  await world.run(10 * 60_000);
  assert.equal(c.integrity.length, 1);
  assert.deepEqual([a.integrity, a.inSync, c.inSync], [[], true, true]);
});
