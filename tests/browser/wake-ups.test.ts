/** A page that is closed, woken in Chromium: its service worker has what came before any tab is opened. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { utf8 } from "../../wire/bytes.ts";
import { openDevice, TestRelay } from "../integration/support.ts";
import { bundle } from "./bundle.ts";
import { newContext, skip } from "./chromium.ts";
import { Tab } from "./client-support.ts";

/** A server of the tests' page and its service worker; its origin. */
async function serve(t: { after(run: () => void): void }): Promise<string> {
  const built = async (name: string) =>
    (await bundle({ file: fileURLToPath(new URL(`page/${name}.ts`, import.meta.url)) })).code;
  const [app, worker] = await Promise.all([built("app"), built("service-worker")]);
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0];
    if (path === "/app.js" || path === "/service-worker.js") {
      response.writeHead(200, { "content-type": "text/javascript" });
      response.end(path === "/app.js" ? app : worker);
    } else {
      response.writeHead(200, { "content-type": "text/html" });
      response.end(
        '<!doctype html><title>app</title><link rel="icon" href="data:,"><script type="module" src="/app.js"></script>',
      );
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("docs/CLIENT.md: a push wakes the service worker, which has what came before a tab is opened", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const origin = await serve(t);
  const context = await newContext(t);
  await context.grantPermissions(["notifications"], { origin });
  const open = async (): Promise<Tab> => {
    const page = await context.newPage();
    await page.goto(`${origin}/`);
    return new Tab(page);
  };
  const tab = await open();
  await tab.open({ relay: relay.address, name: "page" });
  await tab.found(relay.running.firstInvite?.code);
  const node = await openDevice(t, { relay: relay.address, name: "node" });
  await node.client.join((await tab.invite()).link);
  await tab.inSync();

  const session = await context.newCDPSession(tab.page);
  const registered = new Promise<string>((resolve) => {
    session.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      const [one] = registrations;
      if (one !== undefined) resolve(one.registrationId);
    });
  });
  await session.send("ServiceWorker.enable");
  await tab.page.evaluate(async (address) => {
    const url = `/service-worker.js?relay=${encodeURIComponent(address)}`;
    await navigator.serviceWorker.register(url, { type: "module" });
    await navigator.serviceWorker.ready;
    await app.client.close();
  }, relay.address);
  const registrationId = await registered;

  // No tab of the app is there; the page that is left only hands the push on.
  await node.client.push(utf8("while it was closed"));
  await node.client.flush();
  const [worker] = context.serviceWorkers();
  assert.ok(worker !== undefined);
  const connections = relay.running.counters.connectionsOpened;
  const came = new Promise<void>((resolve) => {
    // The worker's client has closed once the other device sees that it has gone.
    node.client.on("presence", ({ presence }) => {
      if (presence === "offline") resolve();
    });
  });
  await session.send("ServiceWorker.deliverPushMessage", { origin, registrationId, data: "wake" });
  await came;
  assert.equal(relay.running.counters.connectionsOpened, connections + 1);

  // Without the relay: what the tab shows now, the service worker read.
  const { address } = relay;
  await relay.stop();
  const again = await open();
  await again.open({ relay: address, name: "page" });
  await again.apply();
  assert.deepEqual(await again.applied(1), ["while it was closed"]);
});
