/** A device that is away is woken by a real relay through a push service, and finds what it was woken for. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { UsageError } from "../../client/index.ts";
import type { WakeUpSubscription } from "../../client/types.ts";
import { openWebPush } from "../../server/net/web-push.ts";
import type { WakeUpPlace } from "../../server/wake-up-requests.ts";
import { toBase64url } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { certificate, PushService } from "../support/push-service.ts";
import { content, pairedDevices, TestRelay, take, testFolder } from "./support.ts";

function subscriptionOf({ endpoint, p256dh, auth }: WakeUpPlace): WakeUpSubscription {
  return { endpoint, keys: { p256dh: toBase64url(p256dh), auth: toBase64url(auth) } };
}

test("a device that was closed is woken, opens, and has what came; unsubscribed, it is forgotten", async (t) => {
  const service = await PushService.start(t);
  const options = { subject: "mailto:operator@example.com", allowPrivateAddresses: true };
  const sender = await openWebPush(await testFolder(t), options, { ca: certificate });
  const relay = await TestRelay.start(t, { listenAdmin: "127.0.0.1:0" }, { wakeUps: sender });
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  const place = service.subscribe("the-endpoint-of-b");
  assert.deepEqual(await b.client.wakeUp(), {
    registered: false,
    applicationServerKey: toBase64url(sender.applicationServerKey),
  });
  await b.client.registerWakeUp(subscriptionOf(place));
  assert.equal((await b.client.wakeUp()).registered, true);
  await b.client.close();
  const data = content(300);
  await a.client.push(data);
  await a.client.flush();
  await service.came(1);
  assert.deepEqual(service.faults, []);
  assert.equal(service.messages[0]?.text, "wake");
  const woken = await b.reopen();
  const [entry] = await take(woken.client, 1);
  assert.equal(entry?.hex, Buffer.from(data).toString("hex"));

  assert.equal((await woken.client.wakeUp()).registered, true);
  await woken.client.unregisterWakeUp();
  assert.equal((await woken.client.wakeUp()).registered, false);

  const token = (await readFile(join(relay.data, "admin-token"), "utf8")).trim();
  const ask = async (path: string, body?: string): Promise<string> => {
    const answer = await fetch(new URL(path, relay.running.adminUrl), {
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { method: "POST", body }),
    });
    assert.equal(answer.status, 200, path);
    return await answer.text();
  };
  await woken.client.registerWakeUp(subscriptionOf(place));
  const metrics = await ask("/metrics");
  assert.match(metrics, /sync_relay_wake_ups_total\{outcome="sent"\} 1\n/);
  const groupId = woken.client.groupId ?? "";
  const said = [
    metrics,
    await ask("/syncrelay.admin.v1.GroupService/List", "{}"),
    await ask("/syncrelay.admin.v1.DeviceService/List", JSON.stringify({ groupId })),
  ].join("\n");
  assert.ok(said.includes(groupId));
  // SECURITY 10.3: where a device is woken is told to nobody but itself.
  assert.ok(!said.includes("the-endpoint-of-b") && !said.includes(toBase64url(place.auth)));
});

test("what is no subscription is refused here, and what the relay does not send to, there", async (t) => {
  const service = await PushService.start(t);
  const options = { subject: "mailto:operator@example.com", allowPrivateAddresses: false };
  const sender = await openWebPush(await testFolder(t), options, { ca: certificate });
  const relay = await TestRelay.start(t, {}, { wakeUps: sender });
  const [a] = await pairedDevices(t, relay, 1);
  assert.ok(a);
  const right = subscriptionOf(service.subscribe("one"));
  const { keys } = right;
  for (const wrong of [
    { ...right, endpoint: "http://push.example/" },
    { ...right, endpoint: `https://push.example/${"a".repeat(1_024)}` },
    { ...right, keys: { ...keys, auth: `${keys.auth}AA` } },
    { ...right, keys: { ...keys, p256dh: `A${keys.p256dh.slice(1)}` } },
    { ...right, keys: { ...keys, p256dh: "no key" } },
    { endpoint: "", keys: { p256dh: "", auth: "" } },
    right,
  ]) {
    await assert.rejects(a.client.registerWakeUp(wrong), UsageError);
  }
  assert.equal(a.client.status().connection.state, "online");
});

test("a relay that wakes nobody says so, and the session goes on", async (t) => {
  const relay = await TestRelay.start(t);
  const [a] = await pairedDevices(t, relay, 1);
  assert.ok(a);
  await assert.rejects(
    a.client.wakeUp(),
    (error) =>
      error instanceof SyncError &&
      error.code === ErrorCode.ENVELOPE_UNEXPECTED &&
      /wakes no devices/.test(error.hint ?? ""),
  );
  assert.equal(a.client.status().connection.state, "online");
});
