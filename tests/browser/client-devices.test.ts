/** Devices in Chromium, and one in Node: paired by link and by code, offline, through reloads and restarts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "../../wire/bytes.ts";
import { openDevice, TestRelay, take } from "../integration/support.ts";
import { skip } from "./chromium.ts";
import { Profile, servePage, Tab } from "./client-support.ts";

test("two browsers and a Node device, paired by link and by code: what each edits offline converges", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const port = await servePage(t);
  const first = await (await Profile.make(t, port)).tab({ relay: relay.address, name: "first" });
  await first.found(relay.running.firstInvite?.code);
  const second = await (await Profile.make(t, port)).tab({ relay: relay.address, name: "second" });
  await second.join((await first.invite()).link);
  const node = await openDevice(t, { relay: relay.address, name: "node" });
  await node.client.join((await second.invite()).code);
  for (const tab of [first, second]) await tab.apply();
  await relay.stop();
  const texts = (who: string): string[] => [1, 2, 3].map((number) => `${who} ${number}`);
  await first.push(...texts("first"));
  await second.push(...texts("second"));
  await node.client.pushMany(texts("node").map((text) => ({ data: utf8(text) })));
  await relay.start();
  const lines = await first.applied(9);
  assert.deepEqual(await second.applied(9), lines);
  const taken = (await take(node.client, 9)).map(({ hex }) => Buffer.from(hex, "hex").toString());
  assert.deepEqual(taken, lines);
  for (const who of ["first", "second", "node"]) {
    assert.deepEqual(
      lines.filter((line) => line.startsWith(who)),
      texts(who),
    );
  }
  for (const tab of [first, second]) await tab.inSync();
  assert.deepEqual(await first.page.evaluate(() => app.problems), []);
});

test("a reload in the middle of a push loses nothing that was queued, and queues nothing twice", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const port = await servePage(t);
  const tab = await (await Profile.make(t, port)).tab({ relay: relay.address });
  await tab.found(relay.running.firstInvite?.code);
  const queued = await tab.push("before");
  assert.deepEqual(queued, [1]);
  // Asked for, and the page goes before anybody can say whether it was done.
  await tab.page.evaluate(() => {
    for (let i = 0; i < 50; i++) void app.push(`at once ${i}`);
  });
  await tab.reload();
  await tab.push("after");
  await tab.flush();
  await tab.apply();
  await tab.page.waitForFunction(() => app.lines.includes("after"));
  const lines = await tab.lines();
  assert.equal(lines[0], "before");
  const atOnce = lines.slice(1, -1);
  assert.ok(atOnce.length === 0 || atOnce.length === 50, `all or none: ${atOnce.length}`);
  assert.equal(new Set(lines).size, lines.length);
  await tab.inSync();
});

test("the relay is restarted: pages come back by themselves", { skip }, async (t) => {
  const relay = await TestRelay.start(t);
  const port = await servePage(t);
  const tab = await (await Profile.make(t, port)).tab({ relay: relay.address });
  await tab.found(relay.running.firstInvite?.code);
  await relay.stop();
  await tab.becomes("waiting");
  await tab.push("while it was away");
  await relay.start();
  await tab.page.evaluate(() => app.client.connect());
  await tab.flush();
  await tab.apply();
  assert.deepEqual(await tab.applied(1), ["while it was away"]);
});

test("no space is left in the browser: told with what to do, nothing half written, and it goes on", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const port = await servePage(t);
  const profile = await Profile.make(t, port);
  // Narrow from the start: the browser remembers for a while how much room there was.
  const page = await profile.context.newPage();
  const cdp = await profile.context.newCDPSession(page);
  const origin = `http://127.0.0.1:${port}`;
  await page.goto(origin);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 300_000 });
  const tab = new Tab(page);
  await tab.open({ relay: relay.address });
  await tab.found(relay.running.firstInvite?.code);
  await tab.push("fits");
  const refused = await tab.page.evaluate(async () => {
    try {
      await app.client.push(new Uint8Array(900_000).fill(1));
      return undefined;
    } catch (error) {
      const { name, message, problem } = error as {
        name: string;
        message: string;
        problem: string;
      };
      return { name, message, problem };
    }
  });
  assert.equal(refused?.name, "StateStoreError");
  assert.equal(refused?.problem, "full");
  assert.match(refused?.message ?? "", /Free space/);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin });
  assert.deepEqual(await tab.push("fits again"), [2]);
  await tab.flush();
  await tab.apply();
  assert.deepEqual(await tab.applied(2), ["fits", "fits again"]);
});

test("on plain HTTP, without crypto.subtle and locks, everything works: pairing by code, two tabs, takeover", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const port = await servePage(t);
  const profile = await Profile.make(t, port, "insecure.test");
  const one = await profile.tab({ relay: relay.address, name: "plain" });
  assert.deepEqual(
    await one.page.evaluate(() => [isSecureContext, crypto.subtle, navigator.locks].map(Boolean)),
    [false, false, false],
  );
  await one.found(relay.running.firstInvite?.code);
  const node = await openDevice(t, { relay: relay.address, name: "node" });
  await node.client.join((await one.invite()).code);
  const two = await profile.tab();
  assert.equal(await one.leads(), true);
  assert.equal(await two.leads(), false);
  await two.apply();
  await node.client.push(utf8("from node"));
  assert.deepEqual(await two.applied(1), ["from node"]);
  await two.push("from the other tab");
  assert.deepEqual(
    (await take(node.client, 2)).map(({ own }) => own),
    [true, false],
  );
  await one.page.close();
  await two.page.waitForFunction(() => app.client.leading);
  await two.push("from the tab that leads now");
  await two.flush();
  assert.deepEqual(await two.applied(3), [
    "from node",
    "from the other tab",
    "from the tab that leads now",
  ]);
});
