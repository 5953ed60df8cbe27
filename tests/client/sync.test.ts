import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

describe("two devices", () => {
  test("PROTOCOL 5.1, 6.6: what one pushes, the other gets, in log order; own entries stand in place", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    await a.push("one", "two");
    await world.result(a.client.flush());
    await b.push("three");
    await world.result(b.client.flush());
    await world.until(() => a.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["one", "two", "three"]);
    assert.deepEqual(await a.take(), ["one", "two", "three"]);
    await world.until(() => a.inSync && b.inSync);
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
    assert.deepEqual([a.errors, b.errors], [[], []]);
  });
});
