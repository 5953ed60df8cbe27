/** Witnesses that a member signed, and that contradict each other or what was verified here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { founder, member } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { passOn, witnessBy } from "../client/support/witness.ts";
import { World } from "../client/support/world.ts";

async function two() {
  const world = new World();
  const a = await founder(new FakeRelay(world));
  const b = await member(a);
  await world.until(() => a.inSync && b.inSync);
  const found = (): string[] => a.integrity.map(({ finding }) => finding);
  return { world, a, b, found };
}

test("PROTOCOL 13.9: two witnesses under one counter → WITNESS_CONFLICT", async () => {
  const { world, a, b, found } = await two();
  passOn(a, b, witnessBy(b, { madeMs: 1 }));
  await world.run(1_000);
  assert.deepEqual(found(), []);
  passOn(a, b, witnessBy(b, { madeMs: 2 }));
  await world.run(1_000);
  assert.deepEqual(found(), ["WITNESS_CONFLICT"]);
});

test("PROTOCOL 13.9: another membership of the same count in a witness → MEMBERSHIP_FORKED", async () => {
  const { world, a, b, found } = await two();
  const count = a.relay.group.control.length;
  passOn(a, b, witnessBy(b, { membership: { count, head: world.random(32) } }));
  await world.run(1_000);
  assert.deepEqual(found(), ["MEMBERSHIP_FORKED"]);
});

test("PROTOCOL 13.9: a witness that is ahead → FORKED, until the log is shown that far and a witness holds against it", async () => {
  const { world, a, b, found } = await two();
  const ahead = { applied: 2, positions: new Map() };
  passOn(a, b, witnessBy(b, ahead));
  await world.run(1_000);
  assert.deepEqual(found(), ["FORKED"]);
  const open = (): number => a.client.findings().filter(({ state }) => state === "open").length;
  await b.push("one", "two");
  await world.until(() => a.client.status().readCursor === 2);
  await a.take();
  // The log is as long as that; whether it is that log, only its places tell.
  passOn(a, b, witnessBy(b, { ...ahead, counter: 1_001 }));
  await world.run(1_000);
  assert.deepEqual([open(), a.inSync], [1, false]);
  const sender = b.client.deviceId;
  const place = a.relay.group.senders.get(sender);
  const other = new Map([[sender, { seq: 2, link: world.random(32) }]]);
  passOn(a, b, witnessBy(b, { ...ahead, counter: 1_002, positions: other }));
  await world.run(1_000);
  assert.deepEqual(found(), ["FORKED", "FORKED"]);
  const id = a.client.findings().find(({ seq }) => seq === 2)?.id ?? "";
  await world.result(a.client.acceptFinding(id));
  assert.deepEqual([open(), a.inSync], [1, false]);
  const same = new Map([[sender, place ?? { seq: 0, link: new Uint8Array(32) }]]);
  passOn(a, b, witnessBy(b, { ...ahead, counter: 1_003, positions: same }));
  await world.until(() => open() === 0);
  await world.until(() => a.inSync);
});
