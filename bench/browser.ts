/**
 * How fast a page catches up, and how long it stalls meanwhile.
 *
 *     node --import tsx bench/browser.ts --entries 100000
 *
 * A device in Node pushes entries of 256 B; a page in Chromium joins, reads, verifies, opens and
 * acknowledges them all. Its longest stall is the longest time between two turns of its main thread.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { openSyncClient } from "../client/platform/node/index.ts";
import { startRelay } from "../server/index.ts";
import { bundle } from "../tests/browser/bundle.ts";
import type { App } from "../tests/browser/page/app.ts";

const { values } = parseArgs({
  options: {
    entries: { type: "string", default: "100000" },
    plain: { type: "boolean", default: false },
  },
});
const entries = Number(values.entries);
const folder = mkdtempSync(join(tmpdir(), "sync-relay-bench-"));
const lifted = 2 ** 40;
const relay = await startRelay({
  listen: "127.0.0.1:0",
  data: join(folder, "relay"),
  founding: "open",
  logLevel: "silent",
  limits: { groupBytesMax: lifted, storeBytesMax: lifted, pushesPerS: 1e6, pushesBurst: 1e6 },
});
const writer = await openSyncClient({ state: join(folder, "writer"), relay: relay.address });
await writer.createGroup();
for (let done = 0; done < entries; done += 1_000) {
  const count = Math.min(1_000, entries - done);
  await writer.pushMany(Array.from({ length: count }, () => ({ data: randomBytes(256) })));
}
await writer.flush();

const { code } = await bundle({
  file: fileURLToPath(new URL("../tests/browser/page/app.ts", import.meta.url)),
});
const server = createServer((request, response) => {
  const script = request.url === "/app.js";
  response
    .writeHead(200, { "content-type": script ? "text/javascript" : "text/html" })
    .end(script ? code : '<!doctype html><script type="module" src="/app.js"></script>');
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address() as AddressInfo;
const browser = await chromium.launch({
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--host-resolver-rules=MAP insecure.test 127.0.0.1",
  ],
});
const page = await (await browser.newContext()).newPage();
await page.addInitScript({ content: "globalThis.__name = (value) => value;" });
await page.goto(`http://${values.plain ? "insecure.test" : "127.0.0.1"}:${port}/`);
const { link, done } = await writer.invite({ confirm: () => true });
done.catch(() => undefined);
const figures = await page.evaluate(
  async ({ link, relay, entries }) => {
    const { app } = globalThis as unknown as { app: App };
    await app.open({ relay });
    // What joining costs is not what is asked here.
    await app.client.join(link);
    let longestMs = 0;
    let lastMs = performance.now();
    const { port1, port2 } = new MessageChannel();
    let watching = true;
    port1.addEventListener("message", () => {
      const nowMs = performance.now();
      longestMs = Math.max(longestMs, nowMs - lastMs);
      lastMs = nowMs;
      if (watching) setTimeout(() => port2.postMessage(0), 1);
    });
    port1.start();
    port2.postMessage(0);
    const beganMs = performance.now();
    let taken = 0;
    for await (const entry of app.client.entries()) {
      taken += 1;
      await entry.ack();
      if (taken === entries) break;
    }
    watching = false;
    return { seconds: (performance.now() - beganMs) / 1000, longestMs };
  },
  { link, relay: relay.address, entries },
);
process.stdout.write(
  `${entries} entries in Chromium${values.plain ? " on plain HTTP" : ""}: ` +
    `${Math.round(entries / figures.seconds)}/s, longest block ${Math.round(figures.longestMs)} ms\n`,
);
await browser.close();
server.close();
await writer.close();
await relay.drain();
rmSync(folder, { recursive: true, force: true });
