/** Tabs of one device in Chromium: one connection, entries to one at a time, and another takes over. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { utf8 } from "../../wire/bytes.ts";
import { openDevice, type TestDevice, TestRelay } from "../integration/support.ts";
import { skip } from "./chromium.ts";
import { Profile, servePage, type Tab } from "./client-support.ts";

/** A device of two tabs, the first of which leads, and another device. */
async function twoTabs(t: TestContext): Promise<{
  relay: TestRelay;
  one: Tab;
  two: Tab;
  node: TestDevice;
  /** Those there were before the second tab. */
  connections: number;
}> {
  const relay = await TestRelay.start(t);
  const port = await servePage(t);
  const profile = await Profile.make(t, port);
  const one = await profile.tab({ relay: relay.address, name: "tabs" });
  await one.found(relay.running.firstInvite?.code);
  const node = await openDevice(t, { relay: relay.address, name: "node" });
  await node.client.join((await one.invite()).link);
  const connections = relay.running.counters.connectionsOpened;
  const two = await profile.tab({ relay: relay.address, name: "tabs" });
  assert.deepEqual([await one.leads(), await two.leads()], [true, false]);
  return { relay, one, two, node, connections };
}

const send = (node: TestDevice, ...texts: string[]) =>
  node.client.pushMany(texts.map((text) => ({ data: utf8(text) })));

test("a second tab is the same device, on the same connection, with the whole API", {
  skip,
}, async (t) => {
  const { relay, one, two, node, connections } = await twoTabs(t);
  const about = (tab: Tab) =>
    tab.page.evaluate(() => ({
      deviceId: app.client.deviceId,
      groupId: app.client.groupId,
      fingerprint: app.client.fingerprint(),
      devices: app.client.devices().map(({ name }) => name),
    }));
  assert.deepEqual(await about(two), await about(one));
  await two.page.waitForFunction(() => app.client.devices().length === 2);
  assert.equal(relay.running.counters.connectionsOpened, connections);
  // A push with its receipt, through the other tab.
  const durable = await two.page.evaluate(async () => {
    const receipt = await app.client.push(new TextEncoder().encode("from two"));
    return { ...(await receipt.durable), blobId: receipt.blobId };
  });
  assert.equal(durable.cursor, 1);
  const history = await two.page.evaluate(async () => {
    const found: [string, string][] = [];
    for await (const { blobId, data } of app.client.history({ after: 0 })) {
      found.push([blobId, new TextDecoder().decode(data)]);
    }
    return found;
  });
  assert.deepEqual(history, [[durable.blobId, "from two"]]);
  // Its own invite, with a `confirm` that runs in it.
  const third = await openDevice(t, { relay: relay.address, name: "third" });
  await third.client.join((await two.invite()).link);
  await one.page.waitForFunction(() => app.client.devices().length === 3);
  // An object, up from one tab and down in the other.
  const reference = await two.page.evaluate(async () => [
    ...(await app.client.putObject(new Blob([new Uint8Array(200_000).fill(7)]))).reference,
  ]);
  const bytes = await one.page.evaluate(async (given) => {
    let sum = 0;
    for await (const piece of app.client.getObject(Uint8Array.from(given))) sum += piece.length;
    return sum;
  }, reference);
  assert.equal(bytes, 200_000);
  await assert.rejects(
    two.page.evaluate(() => app.client.join("ABCD")),
    /UsageError|RangeError|code/,
  );
  void node;
});

test("entries go to one tab at a time; the other sees what was applied, and goes on when that is closed", {
  skip,
}, async (t) => {
  const { one, two, node } = await twoTabs(t);
  await two.apply();
  await send(node, "a", "b");
  assert.deepEqual(await two.applied(2), ["a", "b"]);
  await one.apply();
  await one.page.waitForFunction(() => app.seen.length === 2);
  assert.deepEqual(await one.lines(), []);
  await two.page.close();
  await send(node, "c");
  assert.deepEqual(await one.applied(1), ["c"]);
  assert.deepEqual(await one.page.evaluate(() => app.positions), [3]);
});

for (const way of ["closed", "crashed"] as const) {
  test(`the tab that leads is ${way}: the other takes over, nothing is lost and nothing applied twice`, {
    skip,
  }, async (t) => {
    const { one, two, node } = await twoTabs(t);
    await two.apply();
    await send(node, ...Array.from({ length: 400 }, (_, i) => `entry ${i}`));
    await two.page.waitForFunction(() => app.lines.length > 10);
    const pushing = two.page.evaluate(async () => {
      const receipts = [];
      for (let i = 0; i < 20; i++) {
        receipts.push(await app.client.push(new TextEncoder().encode(`own ${i}`)));
      }
      await Promise.all(receipts.map(({ durable }) => durable));
      return new Set(receipts.map(({ seq }) => seq)).size;
    });
    if (way === "closed") await one.page.close();
    else await one.page.goto("chrome://crash").catch(() => undefined);
    assert.equal(await pushing, 20);
    await two.page.waitForFunction(() => app.client.leading);
    await send(node, "the last");
    await two.page.waitForFunction(() => app.lines.includes("the last"));
    const lines = await two.applied(421);
    assert.equal(new Set(lines).size, lines.length);
    assert.equal(lines.length, 421);
    assert.deepEqual(
      lines.filter((line) => line.startsWith("entry")),
      Array.from({ length: 400 }, (_, i) => `entry ${i}`),
    );
    await two.inSync();
    // Still one device, whose chain never forked.
    assert.equal(node.client.status().findings, 0);
    assert.equal(await two.page.evaluate(() => app.client.findings().length), 0);
  });
}

test("both tabs are reloaded again and again while entries come: each is applied", {
  skip,
}, async (t) => {
  const { one, two, node } = await twoTabs(t);
  for (let round = 0; round < 3; round++) {
    await one.apply();
    await two.apply();
    await send(node, `round ${round}, 1`, `round ${round}, 2`);
    await (round % 2 === 0 ? one : two).reload();
  }
  await one.apply();
  await two.apply();
  await one.page.waitForFunction(() => localStorage.length === 6);
  assert.deepEqual(
    await one.page.evaluate(() => Object.keys(localStorage).toSorted()),
    [1, 2, 3, 4, 5, 6].map((position) => `applied ${position}`),
  );
  assert.equal(await one.page.evaluate(() => new Set(Object.values(localStorage)).size), 6);
  await one.inSync();
  await two.inSync();
});
