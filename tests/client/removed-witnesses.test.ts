/** What was seen of a device that was removed, and closed below it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { excusedMs } from "../../client/log-changes.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { passOn, witnessBy } from "./support/witness.ts";
import { World } from "./support/world.ts";

/**
 * `a` has read what `s` wrote, and says so. The relay is restored from before that, and `s`, which
 * never comes back, is removed by one that never saw it.
 */
async function closedBelow(): Promise<{ world: World; a: Device; s: Device }> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  const s = await member(a);
  b.crash();
  const backup = relay.backup();
  await s.push("of s", "more of s");
  await world.until(() => a.client.status().readCursor === 2);
  await a.take();
  await a.push("saw it");
  await world.result(a.client.flush());
  s.crash();
  a.crash();
  relay.stop();
  relay.restore(backup);
  relay.start();
  await b.start();
  await world.until(() => b.client.status().connection.state === "online");
  await world.result(b.client.remove([s.client.deviceId]));
  await a.start();
  await world.until(() => relay.group.blobs.length === 1);
  return { world, a, s };
}

test("PROTOCOL 13.4: what members say they saw above the closing place is nothing missing", async () => {
  const { world, a, s } = await closedBelow();
  const c = await member(a);
  await world.until(() => c.client.status().readCursor === 1);
  assert.deepEqual(await c.take(), ["saw it"]);
  // In a sealed witness of this log as well as in an entry.
  const link = world.random(32);
  const positions = new Map([[s.client.deviceId, { seq: 2, link }]]);
  passOn(c, a, witnessBy(a, { positions }));
  await world.run(excusedMs + 60_000);
  await a.push("later");
  await world.until(() => c.client.status().readCursor === 2);
  await c.take();
  await world.run(60_000);
  assert.deepEqual(
    c.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
    [],
  );
  await world.until(() => c.inSync);
});
