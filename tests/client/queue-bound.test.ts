/** The queue has a bound, which the app sees before it meets it; and the status in other shapes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { externalStatus, QueueFullError, readableStatus } from "../../client/index.ts";
import { founder } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

test("a full queue takes nothing, says so before, and goes on once it is sent", async () => {
  const relay = new FakeRelay(new World());
  const device = await founder(relay, { queueEntriesMax: 3 });
  relay.stop();
  await relay.world.run(1_000);
  assert.equal(device.client.status().queueRoom, 3);
  await device.push("one", "two");
  assert.equal(device.client.status().queueRoom, 1);
  await assert.rejects(
    device.push("three", "four"),
    (error: unknown) => error instanceof QueueFullError && error.queued === 2 && error.bound === 3,
  );
  assert.equal(device.client.status().queued, 2);
  await device.push("three");
  await assert.rejects(device.push("four"), QueueFullError);
  // Also behind a restart, and for two that ask in one turn.
  await device.restart({ queueEntriesMax: 4 });
  const asked = await Promise.allSettled([device.push("four"), device.push("five")]);
  assert.deepEqual(
    asked.map(({ status }) => status),
    ["fulfilled", "rejected"],
  );
  relay.start();
  await relay.world.result(device.client.flush());
  assert.equal(device.client.status().queueRoom, 4);
  await device.push("five");
  await relay.world.result(device.client.flush());
  assert.deepEqual(await device.take(), ["one", "two", "three", "four", "five"]);
});

test("the status as a store and as an external store", async () => {
  const relay = new FakeRelay(new World());
  const { client } = await founder(relay);
  const told: number[] = [];
  const off = readableStatus(client).subscribe(({ queued }) => told.push(queued));
  const { subscribe, getSnapshot } = externalStatus(client);
  let changes = 0;
  const changed = (): void => void (changes += 1);
  const offs = [subscribe(changed), subscribe(changed)];
  const before = getSnapshot();
  assert.equal(getSnapshot(), before);
  relay.stop();
  await relay.world.run(1_000);
  changes = 0;
  await client.push(new Uint8Array(1));
  await relay.world.run(1);
  assert.equal(told.at(-1), 1);
  assert.equal(told[0], 0);
  assert.equal(getSnapshot().queued, 1);
  assert.equal(getSnapshot(), getSnapshot());
  assert.ok(changes >= 2 && changes % 2 === 0);
  off();
  for (const each of offs) each();
  const [lengthBefore, changesBefore] = [told.length, changes];
  await client.push(new Uint8Array(1));
  await relay.world.run(1);
  assert.deepEqual([told.length, changes], [lengthBefore, changesBefore]);
});
