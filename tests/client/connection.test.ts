import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keyPairOf, Transport } from "../../wire/channel.ts";
import { closeCodeOf, ErrorCode, SyncError } from "../../wire/errors.ts";
import { fingerprint } from "../../wire/ids.ts";
import { formatRelayAddress, parseRelayAddress } from "../../wire/relay-address.ts";
import { founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

function connectionOf(device: { client: { status(): { connection: unknown } } }) {
  return device.client.status().connection as {
    state: string;
    error?: SyncError;
    retryInMs?: number;
  };
}

describe("connection", () => {
  test("PROTOCOL 2.6: another relay key ends it before this device shows itself, and for good", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await founder(relay);
    const hellos = relay.sessions.size;
    relay.stop();
    const messages: number[] = [];
    const impostor = new FakeRelay(world, "ws://other.test/");
    const { url } = parseRelayAddress(relay.address);
    world.listeners.set(url, (socket) => {
      const session = world.listeners.get(parseRelayAddress(impostor.address).url)?.(socket);
      if (session === undefined) throw new Error("nobody listens");
      return {
        message: (bytes) => {
          messages.push(bytes.byteLength);
          session.message(bytes);
        },
        closed: () => session.closed(),
      };
    });
    await world.until(() => connectionOf(device).state === "stopped");
    const { error } = connectionOf(device);
    assert.equal(error?.code, ErrorCode.RELAY_KEY_MISMATCH);
    assert.match(error.hint ?? "", new RegExp(fingerprint(relay.identity.publicKey)));
    assert.match(error.hint ?? "", new RegExp(fingerprint(impostor.identity.publicKey)));
    assert.equal(messages.length, 1, "only the first handshake message was sent");
    assert.equal(impostor.sessions.size, 0);
    const attempts = world.attempts.length;
    await world.run(3_600_000);
    assert.equal(world.attempts.length, attempts);
    assert.equal(hellos, 1);
  });

  test("a close code from the way is a hint: shown, and tried again", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await founder(relay);
    relay.stop();
    const { url } = parseRelayAddress(relay.address);
    world.listeners.set(url, (socket) => {
      socket.close(closeCodeOf(ErrorCode.DEVICE_REVOKED));
      return { message: () => undefined, closed: () => undefined };
    });
    await world.until(() => connectionOf(device).error?.code === ErrorCode.DEVICE_REVOKED);
    assert.equal(connectionOf(device).state, "waiting");
    relay.start();
    await world.until(() => connectionOf(device).state === "online");
  });

  test("PROTOCOL 4.5: told inside the channel, a removal is believed as the relay's word, and ends it", async () => {
    const relay = new FakeRelay(new World());
    const device = await founder(relay);
    relay.group.removed.add(device.client.deviceId);
    relay.world.cutAll();
    await relay.world.until(() => connectionOf(device).state === "stopped");
    assert.equal(connectionOf(device).error?.code, ErrorCode.DEVICE_REVOKED);
    assert.equal(device.client.status().membership, "removed");
    // Nothing was forgotten at the relay's word: welcomed again, it is what it was.
    relay.group.removed.delete(device.client.deviceId);
    device.client.connect();
    await relay.world.until(() => connectionOf(device).state === "online");
    await relay.world.until(() => device.client.status().membership === "member");
  });

  test("PROTOCOL 4.11: a device that is replaced does not come back by itself, and does when asked", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await founder(relay);
    for (const session of relay.sessions) session.end(new SyncError(ErrorCode.REPLACED));
    await world.until(() => connectionOf(device).state === "stopped");
    const attempts = world.attempts.length;
    await world.run(3_600_000);
    assert.equal(world.attempts.length, attempts);
    device.client.connect();
    await world.until(() => connectionOf(device).state === "online");
  });

  test("a half-open connection is noticed within three pings", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await founder(relay);
    await world.run(600_000);
    assert.equal(connectionOf(device).state, "online", "pings keep a quiet connection");
    for (const wire of world.wires) wire.blackhole = true;
    const sinceMs = world.clockMs;
    await world.until(() => connectionOf(device).state !== "online", 200_000);
    assert.ok(world.clockMs - sinceMs < 4 * 40_000);
    await world.until(() => connectionOf(device).state === "online");
  });

  test("an answer that never comes ends the connection", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await founder(relay);
    relay.meddler = {
      request: (_, envelope) => (envelope.body.case === "push" ? "lost" : undefined),
    };
    await device.push("lost once");
    await world.until(() => connectionOf(device).error?.code === ErrorCode.TIMED_OUT, 200_000);
    relay.meddler = {};
    await world.result(device.client.flush());
    assert.equal(relay.group.blobs.length, 1);
  });

  test("a handshake that stops after any message is given up and tried again", async () => {
    for (const stopAfter of [0, 1]) {
      const relay = new FakeRelay(new World());
      const { world } = relay;
      const device = await founder(relay);
      relay.stop();
      const { url } = parseRelayAddress(relay.address);
      relay.start();
      const listen = world.listeners.get(url);
      world.listeners.set(url, (socket) => {
        const session = listen?.(socket);
        let messages = 0;
        return {
          message: (bytes) => {
            messages += 1;
            if (messages <= stopAfter) session?.message(bytes);
          },
          closed: () => session?.closed(),
        };
      });
      await world.until(() => connectionOf(device).error?.code === ErrorCode.TIMED_OUT, 120_000);
      relay.start();
      await world.until(() => connectionOf(device).state === "online");
    }
  });

  test("PROTOCOL 3.11: a channel that ages is renewed, and the app sees nothing of it", async (context) => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    let aging = true;
    context.mock.getter(Transport.prototype, "aging", () => {
      const was = aging;
      aging = false;
      return was;
    });
    const waits: string[] = [];
    for (const device of [a, b]) {
      device.client.on("status", (status) => waits.push(status.connection.state));
    }
    const attempts = world.attempts.length;
    await a.push("x");
    await world.until(() => b.client.status().readCursor === 1);
    assert.equal(world.attempts.length, attempts + 1);
    assert.ok(!waits.includes("waiting"));
    assert.deepEqual(await b.take(), ["x"]);
  });

  test("ten cuts in five seconds: everything arrives once, and attempts stay spread out", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    const before = world.attempts.length;
    const pushed: string[] = [];
    for (let i = 0; i < 10; i++) {
      pushed.push(`entry ${i}`);
      await a.push(`entry ${i}`);
      await world.run(250);
      world.cutAll();
      await world.run(250);
    }
    await world.result(a.client.flush());
    await world.until(() => b.client.status().readCursor === 10);
    assert.deepEqual(await b.take(), pushed);
    assert.ok(world.attempts.length - before < 60);
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
  });

  test("a relay that is not there: tried again with back-off, not faster", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await founder(relay);
    relay.stop();
    await world.run(60_000);
    const before = world.attempts.length;
    await world.run(3_600_000);
    const attempts = world.attempts.length - before;
    assert.ok(attempts >= 60 && attempts <= 400, `${attempts} attempts in an hour`);
    assert.equal(connectionOf(device).state, "waiting");
    relay.start();
    await world.until(() => connectionOf(device).state === "online");
  });

  test("another relay's address is refused for a device that has a group; a moved relay is not", async () => {
    const relay = new FakeRelay(new World());
    const device = await founder(relay);
    const other = formatRelayAddress(
      "ws://relay.test/",
      keyPairOf(new Uint8Array(32).fill(3)).publicKey,
    );
    device.crash();
    await assert.rejects(device.start({ relay: other }), /another relay/);
    const moved = relay.address.replace("relay.test", "moved.test");
    await device.start({ relay: moved });
    assert.equal(device.client.status().relay, moved);
  });
});
