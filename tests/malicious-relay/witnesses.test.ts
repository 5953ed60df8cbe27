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
