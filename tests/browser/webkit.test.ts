/** Devices in WebKitGTK, the engine that a Tauri app has on Linux: they pair, sync, and come back. */
import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { type TestContext, test } from "node:test";
import { TestRelay } from "../integration/support.ts";
import { servePage } from "./client-support.ts";
import { WebKit, webkitMissing } from "./webkit.ts";

/** A browser with the page in it. */
async function open(t: TestContext, url: string): Promise<WebKit> {
  const webkit = await WebKit.start();
  t.after(() => webkit.close());
  await webkit.go(url);
  await loaded(webkit);
  return webkit;
}

function loaded(webkit: WebKit): Promise<void> {
  return webkit.run(async () => {
    while (globalThis.app === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
  });
}

/** Waits until so many lines were applied, and gives them. */
function applied(webkit: WebKit, count: number): Promise<string[]> {
  return webkit.run(async (wanted) => {
    while (app.lines.length < wanted) await new Promise((resolve) => setTimeout(resolve, 20));
    return app.lines;
  }, count);
}

function push(webkit: WebKit, ...texts: string[]): Promise<unknown> {
  return webkit.run((all) => app.push(...all), texts);
}

const options = { skip: webkitMissing };
/** This machine as others on its network name it: to a page, plain HTTP and nothing more. */
const address = Object.values(networkInterfaces())
  .flatMap((each) => each ?? [])
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address;

async function pairAndSync(t: TestContext, host: string, secure: boolean): Promise<void> {
  const relay = await TestRelay.start(t);
  const url = `http://${host}:${await servePage(t, host)}/`;
  const [first, second] = await Promise.all([open(t, url), open(t, url)]);
  assert.equal(await first.run(() => isSecureContext), secure);
  const invite = relay.running.firstInvite?.code ?? "";
  await first.run(
    async (address, code) => {
      await app.open({ relay: address, name: "first" });
      await app.client.createGroup({ invite: code });
      app.apply();
    },
    relay.address,
    invite,
  );
  const { link } = await first.run(() => app.invite());
  await second.run(
    async (address, link) => {
      await app.open({ relay: address, name: "second" });
      await app.client.join(link);
      app.apply();
    },
    relay.address,
    link,
  );
  await push(first, "one", "two");
  assert.deepEqual(await applied(second, 2), ["one", "two"]);
  await push(second, "three");
  assert.deepEqual(await applied(first, 3), ["one", "two", "three"]);

  // What the second had is still there after a reload, and it goes on behind it.
  const deviceId = await second.run(() => app.client.deviceId);
  await second.reload();
  await loaded(second);
  assert.equal(await second.run((relay) => app.open({ relay }), relay.address), deviceId);
  await second.run(() => app.apply());
  await push(first, "four");
  assert.deepEqual(await applied(second, 1), ["four"]);

  // A second tab of the first is the same device, without a connection of its own.
  const before = await first.window();
  await first.look(await first.tab());
  await first.go(url);
  await loaded(first);
  const tab = await first.run(async (relay) => {
    const deviceId = await app.open({ relay });
    await app.push("five, of another tab");
    await app.client.flush();
    return { deviceId, leading: app.client.leading };
  }, relay.address);
  assert.equal(tab.leading, false);
  assert.deepEqual(await applied(second, 2), ["four", "five, of another tab"]);
  await first.look(before);
  assert.equal(await first.run(() => app.client.deviceId), tab.deviceId);
  assert.deepEqual(await applied(first, 5), [
    "one",
    "two",
    "three",
    "four",
    "five, of another tab",
  ]);
  for (const webkit of [first, second]) {
    assert.deepEqual(await webkit.run(() => app.problems), []);
  }
}

test("WebKitGTK: two devices pair, sync, reload and open a second tab", options, (t) =>
  pairAndSync(t, "127.0.0.1", true),
);

test(
  "WebKitGTK on plain HTTP at an address of the network, without crypto.subtle and Web Locks: the same",
  {
    skip: webkitMissing || (address === undefined && "this machine has no address on a network"),
  },
  (t) => pairAndSync(t, address ?? "", false),
);
