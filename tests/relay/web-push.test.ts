/** What goes to a push service, and what does not: against one on loopback that checks all of it. */
import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { isPublicAddress, readEndpoint } from "../../server/net/public-address.ts";
import { openWebPush, outcomeOf, type WebPushWorld } from "../../server/net/web-push.ts";
import { RelayOptionsError, readOptions } from "../../server/options.ts";
import { toBase64url } from "../../wire/bytes.ts";
import { SyncError } from "../../wire/errors.ts";
import { temporaryFolder } from "../store/support/folders.ts";
import { certificate, PushService } from "../support/push-service.ts";

const subject = "mailto:operator@example.com";

async function sender(t: TestContext, allowPrivateAddresses = true, world: WebPushWorld = {}) {
  const folder = await temporaryFolder(t);
  const options = { subject, allowPrivateAddresses };
  return {
    folder,
    sender: await openWebPush(folder, options, { ca: certificate, ...world }),
  };
}

test("14.5 a message is signed by the relay's key, sealed to the app, and says the same to everybody", async (t) => {
  const service = await PushService.start(t);
  const { sender: to } = await sender(t);
  assert.deepEqual(await to.send(service.subscribe("one")), { kind: "sent" });
  assert.deepEqual(await to.send(service.subscribe("two")), { kind: "sent" });
  assert.deepEqual(service.faults, []);
  const [one, two] = service.messages;
  assert.ok(one !== undefined && two !== undefined);
  assert.equal(one.sender, toBase64url(to.applicationServerKey));
  assert.equal(one.claims.sub, subject);
  assert.equal(one.headers["ttl"], "86400");
  assert.equal(one.headers["urgency"], "normal");
  assert.equal(one.headers["topic"], "wake");
  assert.deepEqual([one.text, two.text], ["wake", "wake"]);
  assert.equal(one.bodyBytes, two.bodyBytes);
});

test("14.6 what a push service answers", async (t) => {
  const service = await PushService.start(t);
  const { sender: to } = await sender(t);
  const place = service.subscribe("one");
  const later = (retryAfterMs?: number) => ({ kind: "later", retryAfterMs });
  for (const [status, headers, outcome] of [
    [200, {}, { kind: "sent" }],
    [404, {}, { kind: "gone" }],
    [410, {}, { kind: "gone" }],
    [429, { "retry-after": "120" }, later(120_000)],
    [503, {}, later()],
    [500, { "retry-after": "soon" }, later()],
    [400, {}, { kind: "refused" }],
    [403, {}, { kind: "refused" }],
    // Nobody follows it: it would lead wherever the service likes.
    [307, { location: `https://127.0.0.1:${service.port}/one` }, { kind: "refused" }],
  ] as const) {
    service.answers.push({ status, headers });
    assert.deepEqual(await to.send(place), outcome, `${status}`);
  }
  assert.equal(service.messages.length, 9);
  const atMs = Date.parse("2026-01-02T03:04:05Z");
  assert.deepEqual(outcomeOf(429, "Fri, 02 Jan 2026 03:05:05 GMT", atMs), later(60_000));
  assert.deepEqual(outcomeOf(429, "Fri, 02 Jan 2026 03:00:00 GMT", atMs), later(0));
});

test("14.6 SECURITY 10.2: of an answer that does not end nothing is read", async (t) => {
  const service = await PushService.start(t);
  const { sender: to } = await sender(t);
  service.answers.push({ status: 201, endless: true });
  assert.deepEqual(await to.send(service.subscribe("one")), { kind: "sent" });
  // What the two sides' buffers hold, where nobody reads; read on, it would be as much as ten seconds give.
  await service.cutOff;
  assert.ok(service.writtenBytes < 32 * 1_048_576, `${service.writtenBytes} bytes`);
});

test("14.6 a push service that does not answer is waited for no longer than that, and tried again", {
  timeout: 20_000,
}, async (t) => {
  const service = await PushService.start(t);
  const { sender: to } = await sender(t, true, { sendMsMax: 200 });
  service.answers.push({ status: 0, silent: true });
  assert.deepEqual(await to.send(service.subscribe("one")), {
    kind: "later",
    retryAfterMs: undefined,
  });
});

test("a push service that cannot be reached, or that nobody vouches for, is tried again", async (t) => {
  const service = await PushService.start(t);
  const { sender: to } = await sender(t, true, { ca: "" });
  const later = { kind: "later", retryAfterMs: undefined };
  assert.deepEqual(await to.send(service.subscribe("one")), later);
  const { sender: known } = await sender(t);
  assert.deepEqual(await known.send(service.subscribe("two", "127.0.0.1:1")), later);
  assert.equal(service.messages.length, 0);
});

test("a subscription that nothing can be sealed to is as good as gone", async (t) => {
  const service = await PushService.start(t);
  const { sender: to } = await sender(t);
  const place = service.subscribe("one");
  const p256dh = new Uint8Array(65).fill(7).fill(4, 0, 1);
  assert.deepEqual(await to.send({ ...place, p256dh }), { kind: "gone" });
  assert.equal(service.messages.length, 0);
});

test("14.2 SECURITY 10.2: an endpoint is https, without a name and password, and at a public address", () => {
  for (const [endpoint, open, allowed] of [
    ["https://push.example/a?b#c", true, true],
    ["https://push.example:8443/a", true, true],
    ["https://93.184.216.34/a", true, true],
    ["https://[2606:2800:220:1::1]/a", true, true],
    ["http://push.example/a", false, false],
    ["ftp://push.example/a", false, false],
    ["push.example", false, false],
    ["https://name:password@push.example/a", false, false],
    ["https://name@push.example/a", false, false],
    ["https://localhost/a", false, true],
    ["https://push.localhost./a", false, true],
    ["https://127.0.0.1/a", false, true],
    ["https://127.1/a", false, true],
    ["https://2130706433/a", false, true],
    ["https://0x7f000001/a", false, true],
    ["https://[::1]/a", false, true],
    ["https://[::ffff:10.0.0.1]/a", false, true],
    ["https://192.168.1.7:8443/a", false, true],
    ["https://169.254.169.254/latest/meta-data", false, true],
  ] as const) {
    assert.equal(readEndpoint(endpoint, false) !== undefined, open, endpoint);
    assert.equal(readEndpoint(endpoint, true) !== undefined, allowed, endpoint);
  }
});

test("SECURITY 10.2: which addresses are public", () => {
  const not = [
    ..."0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.255.255".split(" "),
    ..."192.0.0.8 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1".split(" "),
    ..."255.255.255.255 :: ::1 ::ffff:8.8.8.8 64:ff9b::808:808 fe80::1 fc00::1 ff02::1".split(" "),
    ..."2001:db8::1 2001::1 2002:7f00:1::1 3fff::1 100::1 fd12:3456::1 somewhere".split(" "),
  ];
  for (const address of not) assert.equal(isPublicAddress(address), false, address);
  for (const address of [
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
  ]) {
    assert.equal(isPublicAddress(address), true, address);
  }
});

test("SECURITY 10.2: a name is looked at when it is connected to, and every address that it stands for", async (t) => {
  const service = await PushService.start(t);
  const place = service.subscribe("one", `push.test:${service.port}`);
  const standsFor: (readonly string[])[] = [];
  const lookup: WebPushWorld["lookup"] = ((
    _: string,
    options: object,
    callback: (error: null, addresses: unknown) => void,
  ) => {
    assert.equal((options as { all: boolean }).all, true);
    const addresses = standsFor.shift() ?? [];
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
    );
  }) as never;
  const { sender: to } = await sender(t, false, { lookup });
  assert.ok(to.accepts(place.endpoint), "a name alone says nothing");
  for (const addresses of [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], []]) {
    standsFor.push(addresses);
    assert.deepEqual(await to.send(place), { kind: "refused" }, addresses.join());
  }
  assert.equal(service.messages.length, 0);
  // What was let in before the operator forbade it.
  assert.deepEqual(await to.send(service.subscribe("two")), { kind: "refused" });
  assert.equal(service.messages.length, 0);
});

test("14.5 the relay's key at push services is drawn once, and is its owner's alone", async (t) => {
  const { folder, sender: one } = await sender(t);
  const path = join(folder, "web-push.key");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const again = await openWebPush(folder, { subject, allowPrivateAddresses: false });
  assert.deepEqual(again.applicationServerKey, one.applicationServerKey);
  const text = await readFile(path, "utf8");
  for (const damaged of [text.slice(0, 40), text.slice(0, -3), ""]) {
    await writeFile(path, damaged);
    await assert.rejects(
      openWebPush(folder, { subject, allowPrivateAddresses: false }),
      (error) => error instanceof SyncError && /damaged/.test(error.hint ?? ""),
    );
  }
});

test("SECURITY 10.1: it is off by default, and needs somebody whom push services may turn to", () => {
  assert.equal(readOptions({}).webPush.enabled, false);
  assert.throws(() => readOptions({ webPush: { enabled: true } }), RelayOptionsError);
  assert.equal(readOptions({ webPush: { enabled: true, subject } }).webPush.subject, subject);
});
