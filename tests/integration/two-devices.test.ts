/** Two devices over real sockets and real disks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { content, openDevice, pairedDevices, TestRelay, take } from "./support.ts";

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("what one device pushes the other receives, and both in the log's order", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  const fromA = [content(0), content(1), content(10_000)];
  const fromB = [content(300), content(300)];
  await Promise.all([
    a.client.pushMany(fromA.map((data) => ({ data }))),
    b.client.pushMany(fromB.map((data) => ({ data }))),
  ]);
  await Promise.all([a.client.flush(), b.client.flush()]);
  const [atA, atB] = await Promise.all([take(a.client, 5), take(b.client, 5)]);
  assert.deepEqual(
    atA.map(({ hex, cursor }) => [hex, cursor]),
    atB.map(({ hex, cursor }) => [hex, cursor]),
  );
  assert.deepEqual(
    atB.filter(({ own }) => !own).map(({ hex }) => hex),
    fromA.map(hexOf),
  );
  assert.deepEqual(
    atA.filter(({ own }) => !own).map(({ hex }) => hex),
    fromB.map(hexOf),
  );
});

test("what was pushed while the relay was away arrives once when it returns", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  await relay.stop();
  const pushed = Array.from({ length: 50 }, () => content(100));
  const receipts = [];
  for (const data of pushed) receipts.push(await a.client.push(data));
  assert.equal(a.client.status().queued, 50);
  await relay.start();
  const cursors = await Promise.all(
    receipts.map(async (receipt) => (await receipt.durable).cursor),
  );
  assert.deepEqual(
    cursors,
    Array.from({ length: 50 }, (_, i) => i + 1),
  );
  assert.deepEqual(
    (await take(b.client, 50)).map(({ hex }) => hex),
    pushed.map(hexOf),
  );
});

test("a device that was closed goes on from its stored cursor, and is not given twice what it acknowledged", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  const first = await a.client.pushMany(Array.from({ length: 20 }, () => ({ data: content() })));
  await Promise.all(first.map((receipt) => receipt.durable));
  const before = await take(b.client, 20);
  await b.client.close();
  const second = await a.client.pushMany(Array.from({ length: 20 }, () => ({ data: content() })));
  await Promise.all(second.map((receipt) => receipt.durable));
  const pagesBefore = relay.running.counters.bytesSent;
  const again = await openDevice(t, { folder: b.folder });
  assert.equal(again.client.status().readCursor, 20);
  const after = await take(again.client, 20);
  assert.deepEqual(
    after.map(({ blobId }) => blobId),
    second.map(({ blobId }) => blobId),
  );
  assert.equal(new Set([...before, ...after].map(({ position }) => position)).size, 40);
  assert.ok(relay.running.counters.bytesSent > pagesBefore);
});

test("an entry that was not acknowledged comes again after a restart, at the same position", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  await a.client.push(content());
  await a.client.flush();
  const seen: number[] = [];
  for await (const entry of b.client.entries()) {
    seen.push(entry.position);
    break;
  }
  const again = await b.reopen();
  assert.deepEqual(
    (await take(again.client, 1)).map(({ position }) => position),
    seen,
  );
});

test("a device that kept its position itself is given everything exactly once", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  await a.client.pushMany(Array.from({ length: 5 }, () => ({ data: content() })));
  await a.client.flush();
  let applied = 0;
  for await (const entry of b.client.entries()) {
    applied = entry.position;
    if (applied === 3) break;
  }
  await b.client.close();
  const again = await openDevice(t, { folder: b.folder, appliedPosition: applied });
  assert.deepEqual(
    (await take(again.client, 2)).map(({ position }) => position),
    [4, 5],
  );
});

test("a relay with another key is refused before this device has shown its own", async (t) => {
  const relay = await TestRelay.start(t);
  const other = await TestRelay.start(t);
  const key = other.address.slice(other.address.indexOf("#"));
  const wrong = relay.address.slice(0, relay.address.indexOf("#")) + key;
  const device = await openDevice(t, { relay: wrong, name: "lost" });
  await assert.rejects(device.client.createGroup({}), { code: 203 });
  assert.equal(relay.running.counters.handshakesFinished, 0);
});

test("a group invite founds one group", async (t) => {
  const relay = await TestRelay.start(t);
  const invite = relay.running.firstInvite?.code ?? "";
  const first = await openDevice(t, { relay: relay.address });
  await first.client.createGroup({ invite });
  const second = await openDevice(t, { relay: relay.address });
  await assert.rejects(second.client.createGroup({ invite }), { code: 404 });
  const third = await openDevice(t, { relay: relay.address });
  await assert.rejects(third.client.createGroup({}), { code: 406 });
  assert.equal(third.client.groupId, undefined);
});

test("a mistyped code is refused, and the right one is still good", async (t) => {
  const relay = await TestRelay.start(t);
  const [a] = await pairedDevices(t, relay, 1);
  assert.ok(a);
  const invite = await a.client.invite({ confirm: () => true });
  const wrong = invite.code.slice(0, -1) + (invite.code.endsWith("0") ? "1" : "0");
  const b = await openDevice(t, { relay: relay.address, name: "typist" });
  await assert.rejects(b.client.join(wrong), { code: 404 });
  assert.equal(b.client.groupId, undefined);
  await Promise.all([b.client.join(invite.code), invite.done]);
  assert.equal(b.client.groupId, a.client.groupId);
});

test("five devices that push at once all hold the same entries", async (t) => {
  const relay = await TestRelay.start(t);
  const devices = await pairedDevices(t, relay, 5);
  await Promise.all(
    devices.map(async ({ client }) => {
      for (let i = 0; i < 10; i++) await client.push(content(50));
      await client.flush();
    }),
  );
  const taken = await Promise.all(devices.map(({ client }) => take(client, 50)));
  const orders = taken.map((entries) => entries.map(({ blobId }) => blobId).join());
  assert.equal(new Set(orders).size, 1);
  for (const { client } of devices) {
    await client.caughtUp();
    assert.equal(client.status().refused, 0);
  }
});
