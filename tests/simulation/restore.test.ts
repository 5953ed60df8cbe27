/** What a restored relay must not be met with; found by a planted bug that nothing else found. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { founder, member } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { World } from "../client/support/world.ts";

test("PROTOCOL 1.7 11.3: a device that was away reads what others wrote below its old cursor", async () => {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  await a.push("before");
  await world.until(() => b.client.status().readCursor === 1);
  const backup = relay.backup();
  await b.push("b 1", "b 2", "b 3");
  await world.until(() => [a, b].every((device) => device.client.status().readCursor === 4));
  await a.take();
  await b.take();
  b.crash();
  relay.stop();
  relay.restore(backup);
  relay.start();
  await a.push("after");
  await world.until(() => relay.group.blobs.length === 2);
  await b.start();
  await world.until(() => relay.group.blobs.length === 5);
  assert.deepEqual(await b.take(), ["after"]);
  assert.deepEqual(await a.take(), ["after"]);
  await world.until(() => a.inSync && b.inSync);
  assert.deepEqual([...a.integrity, ...b.integrity], []);
});
