/** Each lie, told by a real relay with a liar inside to a real device. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseId } from "../../wire/ids.ts";
import { founder, member } from "../client/support/devices.ts";
import { World } from "../client/support/world.ts";
import { type LieCase, lies } from "./lies.ts";
import { LyingRelay } from "./lying-relay.ts";
import { type Setting, settled, taking, told } from "./setting.ts";

/** `a` and `c` have written; `b` was away. */
async function written(): Promise<Setting> {
  const { world, relay, a, b, c } = await settled();
  b.crash();
  await a.push("a1", "a2", "a3");
  await world.until(() => c.client.status().readCursor === 5);
  await c.push("c1");
  await world.until(() => a.client.status().readCursor === 6);
  return { world, relay, a, b, c };
}

async function holds(lie: LieCase): Promise<void> {
  const { world, relay, a, b, c } = await written();
  if (lie.readBefore === true) {
    await b.start();
    await b.take();
    await world.until(() => b.inSync);
    b.crash();
  }
  const id = b.client.deviceId;
  relay.lies.set(
    id,
    lie.lie({
      random: (length) => world.random(length),
      other: parseId(c.client.deviceId, 32) as Uint8Array,
      self: parseId(id, 32) as Uint8Array,
    }),
  );
  await b.start();
  const first = taking(b);
  const heard = new Set<string>();
  await world
    .until(() => {
      for (const each of told(b)) heard.add(each);
      return heard.has(lie.event);
    }, 30_000)
    .catch(() => undefined);
  await world.run(2_000);
  assert.ok(
    heard.has(lie.event),
    `${lie.event} was not heard, but ${[...heard, ...told(b)].join()}`,
  );
  assert.deepEqual(first.texts, lie.applied);
  assert.equal(b.inSync, lie.byItself === true);
  // The truth again.
  relay.lies.delete(id);
  world.cutAll();
  await world.run(60_000);
  await a.push("later");
  await world.run(60_000);
  const rest = first.texts.slice(lie.applied.length).filter((text) => text !== "later");
  if (lie.healed === undefined) assert.equal(b.inSync, false);
  else {
    assert.deepEqual(rest.toSorted(), [...lie.healed]);
    assert.equal(b.inSync, true);
  }
  // Nothing is ever applied twice, and nobody else noticed anything.
  assert.equal(new Set(first.texts).size, first.texts.length);
  for (const device of [a, c]) assert.deepEqual(device.integrity, []);
  assert.deepEqual(relay.defects, []);
}

describe("a relay that lies about the log", () => {
  for (const lie of lies) {
    test(`${lie.name}: ${lie.does} → ${lie.event}`, () => holds(lie));
  }
});

test("SECURITY 5.8: what is left out of a device's first log is a finding, and nothing behind it is applied", async () => {
  const world = new World();
  const relay = new LyingRelay(world);
  const a = await founder(relay.asKnown);
  const b = await member(a);
  b.crash();
  await a.push("a1", "a2", "a3");
  await world.result(a.client.flush());
  relay.lies.set(b.client.deviceId, (body) => {
    if (body.case === "blobs") {
      body.value.blobs = body.value.blobs
        .filter(({ cursor }) => cursor !== 2n)
        .map((blob) => (blob.cursor > 2n ? { ...blob, cursor: blob.cursor - 1n } : blob));
      body.value.through -= 1n;
      body.value.head -= 1n;
    } else if (body.case === "welcome" && body.value.scope.case === "group") {
      body.value.scope.value.head -= 1n;
    }
    return [body];
  });
  await b.start();
  const { texts } = taking(b);
  await world.until(() => b.integrity.length > 0);
  assert.deepEqual(texts, ["a1"]);
  assert.deepEqual(
    b.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
    [["DROPPED", a.client.deviceId, 3]],
  );
  assert.equal(b.inSync, false);
});
