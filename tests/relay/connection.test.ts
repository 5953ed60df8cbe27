/** The relay over real sockets. Time is the test's; the listener looks at it once a second. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, test } from "node:test";
import { Listener } from "../../server/net/listener.ts";
import { type RelayLimits, recordBound } from "../../server/options.ts";
import { keyPairOf } from "../../wire/channel.ts";
import { closeCodeOf, ErrorCode, errorRow } from "../../wire/errors.ts";
import { bytes, ChainDevice, changeOf, foundingOf, groupId, pushOf } from "../support/devices.ts";
import { RelayWorldUnderTest, settled } from "../support/relay-world.ts";
import { deviceKeys, hello, SocketDevice } from "../support/socket-device.ts";

const open: { listener: Listener; devices: SocketDevice[] }[] = [];
after(async () => {
  for (const { listener, devices } of open) {
    for (const { socket } of devices) socket.terminate();
    listener.stopAccepting();
    await listener.close(1_000);
  }
});

/** Generous where a test is not about it: all devices share one address. */
const roomy = { addressConnectionsPerMin: 10_000, addressHandshakesMax: 1_000 };

async function listening(limits: Partial<RelayLimits> = {}) {
  const world = new RelayWorldUnderTest({
    options: { listen: "127.0.0.1:0" },
    limits: { ...roomy, ...limits },
  });
  const refusals: string[] = [];
  const listener = new Listener({
    relay: world.relay,
    identity: keyPairOf(bytes(32, 1)),
    health: () => ({ status: "ok", version: "test" }),
    onRefused: (refusal) => refusals.push(refusal),
  });
  const port = await listener.listen();
  const devices: SocketDevice[] = [];
  open.push({ listener, devices });
  const device = (seed: number, path?: string, protocol?: string[]): SocketDevice => {
    const made = new SocketDevice(port, seed, path, protocol);
    devices.push(made);
    return made;
  };
  /** A lobby session that is served: the relay goes on. */
  const served = async (): Promise<SocketDevice> => {
    const fresh = await device(70).handshake(hello());
    await fresh.envelope("welcome");
    return fresh;
  };
  /** A device of a group of its own, welcomed. */
  const member = async (seed: number) => {
    const keys = deviceKeys(seed);
    const chain = new ChainDevice(seed, bytes(32, 60_000 + seed));
    Object.assign(chain, { id: keys.publicKey });
    const lobby = await device(seed).handshake(hello());
    await lobby.envelope("welcome");
    const founding = foundingOf(chain.id, [chain.id], { groupId: chain.group });
    lobby.send({ id: 1, body: { case: "changeMembership", value: founding.change } });
    await lobby.envelope("membershipAck");
    lobby.socket.close();
    await lobby.closed;
    const connected = await device(seed).handshake(hello(chain.group));
    await connected.envelope("welcome");
    return { device: connected, chain };
  };
  return { world, listener, port, refusals, device, served, member };
}

const closing = (code: ErrorCode) => ({
  code: closeCodeOf(code),
  reason: errorRow(code).message,
});

test("2.10 garbage in place of a handshake message fails it, whatever it is, and the relay goes on", async () => {
  const { world, device, served } = await listening();
  const garbage = [bytes(0, 1), bytes(1, 1), bytes(31, 1), bytes(32, 9).fill(0), bytes(4_097, 1)];
  for (const message of garbage) {
    const first = await device(1).opened();
    first.socket.send(message);
    // 32 bytes are a first message, if of a key that nobody has: its answer comes, and then nothing fits.
    if (message.byteLength === 32) {
      if ((await first.next()) !== undefined) first.socket.send(bytes(64, 3));
    }
    assert.deepEqual(await first.closed, closing(ErrorCode.HANDSHAKE_FAILED));
  }
  assert.equal(world.relay.counters.handshakesFailed, garbage.length);
  await served();
  assert.equal(world.relay.sessionCount, 1);
});

test("2.10 garbage in place of the third message fails it", async () => {
  const { world, device, served, listener } = await listening();
  const first = await device(1).opened();
  first.socket.send(bytes(32, 5));
  assert.equal((await first.next())?.byteLength, 96);
  first.socket.send(bytes(100, 5));
  assert.deepEqual(await first.closed, closing(ErrorCode.HANDSHAKE_FAILED));
  assert.equal(world.relay.counters.handshakesFailed, 1);
  assert.equal(listener.admission.handshakes, 0);
  await served();
});

test("2.3 a text message ends a connection, before the handshake's end and after", async () => {
  const { world, device, served } = await listening();
  const early = await device(1).opened();
  early.socket.send("hello");
  assert.deepEqual(await early.closed, closing(ErrorCode.HANDSHAKE_FAILED));
  const late = await served();
  late.socket.send("hello");
  assert.deepEqual(await late.closed, closing(ErrorCode.RECORD_INVALID));
  assert.equal(world.relay.counters.protocolFaults, 1);
  await served();
});

test("4.4 a Hello that does not read is refused in an envelope", async () => {
  const { device, listener } = await listening();
  for (const [payload, code] of [
    [bytes(50, 1), ErrorCode.ENVELOPE_INVALID],
    [hello(bytes(31, 1)), ErrorCode.ENVELOPE_INVALID],
    [bytes(0, 1), ErrorCode.VERSION_UNSUPPORTED],
    [new Uint8Array(2_049), ErrorCode.TOO_LARGE],
  ] as const) {
    const first = await device(1).handshake(payload);
    const { body, requestId } = await first.envelope("error");
    assert.ok(body.case === "error");
    assert.equal(body.value.code, code);
    assert.equal(requestId, 0n);
    assert.deepEqual(await first.closed, closing(code));
  }
  assert.equal(listener.admission.handshakes, 0);
  assert.equal(listener.admission.sessions, 0);
});

test("2.8 a handshake that takes longer than it may ends at its deadline, at each message", async () => {
  const { world, device, listener, served } = await listening();
  const silent = await device(1).opened();
  const halfway = await device(2).opened();
  halfway.socket.send(bytes(32, 5));
  await halfway.next();
  const done = await served();
  world.monotonicMs += 9_999;
  await served();
  assert.equal(world.relay.counters.handshakesFailed, 0);
  world.monotonicMs += 1;
  assert.deepEqual(await silent.closed, closing(ErrorCode.HANDSHAKE_FAILED));
  assert.deepEqual(await halfway.closed, closing(ErrorCode.HANDSHAKE_FAILED));
  assert.equal(listener.admission.handshakes, 0);
  done.send({ id: 1, body: { case: "getSnapshot", value: {} } });
  await done.envelope("error");
});

test("2.7 before the handshake's end a large message is not gathered", async () => {
  const { device, listener, served, world } = await listening();
  const first = await device(1).opened();
  // Below the record's bound, which `ws` would wait for.
  first.socket.send(bytes(1_000_000, 1));
  assert.equal((await first.closed).code, 1006, "cut off, not answered");
  assert.equal(listener.admission.handshakes, 0);
  assert.equal(world.relay.counters.handshakesFailed, 1);
  const later = await served();
  later.sendPlaintext(Uint8Array.of(2, 8, 1));
  await later.envelope("error");
});

test("2.2 another path, another subprotocol, and no WebSocket at all are refused by HTTP", async () => {
  const { port, device, served, listener } = await listening();
  const status = async (made: SocketDevice): Promise<number | undefined> =>
    await new Promise((resolve) => {
      made.socket.on("unexpected-response", (_, response) => resolve(response.statusCode));
    });
  assert.equal(await status(device(1, "/v1/other")), 404);
  assert.equal(await status(device(1, "/")), 404);
  assert.equal(await status(device(1, "/v1/sync", [])), 400);
  assert.equal(await status(device(1, "/v1/sync", ["syncrelay.v2"])), 400);
  const get = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).status;
  assert.equal(await get("/v1/sync"), 426);
  assert.equal(await get("/health"), 200);
  assert.equal(await get("/"), 404);
  assert.equal(await get("/v1/../health/../x"), 404);
  assert.equal(listener.admission.handshakes, 0);
  await served();
});

test("2.2 a refused connection is closed though its peer keeps its side open", async () => {
  const { port } = await listening();
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.write(
    "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk.toString();
  });
  socket.on("error", () => undefined);
  await new Promise((resolve) => socket.once("end", resolve));
  assert.match(answer, /^HTTP\/1\.1 404 /);
  // A write to a socket that the other side destroyed is reset; to one half open it would be taken.
  const gone = new Promise((resolve) => socket.once("close", resolve));
  const writes = setInterval(() => socket.write("x"), 5);
  await gone;
  clearInterval(writes);
});

test("2.2 a connection that breaks in the middle of its upgrade gives its place back", async () => {
  const { port, listener, served } = await listening();
  const socket = connect({ port, host: "127.0.0.1" });
  socket.write(
    "GET /v1/sync HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: wrong\r\nSec-WebSocket-Protocol: syncrelay.v1\r\n\r\n",
  );
  socket.resume();
  await new Promise((resolve) => socket.once("close", resolve));
  await served();
  assert.equal(listener.admission.handshakes, 0);
});

test("2.12 above its limits a relay answers 429, and takes the next when one has gone", async () => {
  const { device, refusals, world } = await listening({ handshakesMax: 2 });
  const first = await device(1).opened();
  await device(2).opened();
  const third = device(3);
  const status = await new Promise((resolve) => {
    third.socket.on("unexpected-response", (_, response) => resolve(response.statusCode));
  });
  assert.equal(status, 429);
  assert.deepEqual(refusals, ["handshakes"]);
  assert.equal(world.relay.counters.connectionsRefused, 1);
  first.socket.close();
  await first.closed;
  await device(4).handshake(hello());
});

test("2.12 a member gives its token back; naming a group does not", async () => {
  const { device, member, refusals } = await listening({ addressConnectionsPerMin: 1 });
  // Loopback is shared, so 20 a minute: the founding takes one for good.
  const { chain } = await member(1);
  for (let i = 0; i < 25; i++) {
    const again = await device(1).handshake(hello(chain.group));
    await again.envelope("welcome");
  }
  assert.deepEqual(refusals, []);
  for (let i = 0; i < 19; i++) {
    const stranger = await device(2).handshake(hello(groupId));
    assert.equal((await stranger.closed).code, closeCodeOf(ErrorCode.NOT_A_MEMBER));
  }
  await device(2).closed;
  assert.deepEqual(refusals, ["addressRate"]);
});

test("3.1 3.5 garbage in place of a record closes with RECORD_INVALID and no envelope", async () => {
  const { world, served } = await listening();
  for (const garbage of [bytes(0, 1), bytes(16, 1), bytes(17, 1), bytes(70_000, 1)]) {
    const first = await served();
    first.socket.send(garbage);
    assert.deepEqual(await first.closed, closing(ErrorCode.RECORD_INVALID));
    assert.equal(await first.next(), undefined);
  }
  assert.equal(world.relay.counters.protocolFaults, 4);
  await served();
});

test("3.5 a record of garbage envelopes is refused in an envelope", async () => {
  const { world, served } = await listening();
  const first = await served();
  first.sendPlaintext(bytes(100, 4));
  const { body } = await first.envelope("error");
  assert.ok(body.case === "error");
  assert.equal(body.value.code, ErrorCode.ENVELOPE_INVALID);
  assert.deepEqual(await first.closed, closing(ErrorCode.ENVELOPE_INVALID));
  assert.equal(world.relay.sessionCount, 0);
});

test("3.3 3.5 a frame above a record's bound is cut off; one at an envelope's bound is read", async () => {
  const { world, served, device, member } = await listening({ blobBytesMax: 1_000_000 });
  const large = await served();
  large.socket.send(bytes(recordBound(world.relay.options.limits) + 1, 1));
  assert.equal((await large.closed).code, 1009);
  assert.equal(world.relay.sessionCount, 0);
  assert.equal(world.relay.counters.protocolFaults, 1);
  const declared = await device(71).handshake(hello());
  await declared.envelope("welcome");
  // An envelope that declares more than it may, in a record of no size.
  declared.sendPlaintext(Uint8Array.of(0xff, 0xff, 0xff, 0x7f, 0));
  const { body } = await declared.envelope("error");
  assert.ok(body.case === "error");
  assert.equal(body.value.code, ErrorCode.TOO_LARGE);
  const { device: writer, chain } = await member(3);
  const size = chain.make({ bodyBytes: 1 });
  const rest = (size.blob.header as Uint8Array).byteLength + 64;
  const most = chain.next({ bodyBytes: 1_000_000 - rest });
  writer.send({ id: 1, body: { case: "push", value: pushOf([most]) } });
  await writer.envelope("pushAck");
});

test("5.1 6.6 over sockets: pushed, acknowledged, delivered, pulled", async () => {
  const { member } = await listening();
  const { device: writer, chain } = await member(1);
  const blobs = chain.run(3);
  writer.send({ id: 1, body: { case: "push", value: pushOf(blobs) } });
  const envelopes = await writer.record();
  assert.deepEqual(
    envelopes.map(({ body }) => body.case),
    ["pushAck", "deliver"],
    "one record for what one commit brought",
  );
  writer.send({ id: 2, body: { case: "pull", value: { after: 0n, windowBytes: 100_000 } } });
  const { body } = await writer.envelope("blobs");
  assert.ok(body.case === "blobs");
  assert.deepEqual(
    body.value.blobs.map((stored) => stored.blob?.body),
    blobs.map((made) => made.blob.body),
  );
});

test("5.14 a store that cannot write is told, and nothing else ends", async () => {
  const { member, world } = await listening();
  const { device: writer, chain } = await member(1);
  const made = chain.make();
  const push = { case: "push", value: pushOf([made]) } as const;
  world.store.failCommits();
  writer.send({ id: 1, body: push });
  const { body } = await writer.envelope("error");
  assert.ok(body.case === "error");
  assert.equal(body.value.code, ErrorCode.STORE_UNAVAILABLE);
  writer.send({ id: 2, body: push });
  await writer.envelope("pushAck");
});

test("6.6 6.11 a slow reader over a socket is told, costs bounded memory, and is not dropped", async () => {
  const outboundBytesMax = 200_000;
  const { world, member, device } = await listening({ outboundBytesMax, pushesBurst: 10_000 });
  const { device: writer, chain } = await member(1);
  const keys = deviceKeys(2);
  const loaded = await world.store.loadGroup(chain.group);
  assert.ok(loaded);
  const adding = changeOf({
    author: chain.id,
    at: { count: 1, head: loaded.group.membershipHead },
    epoch: 1,
    members: [chain.id, keys.publicKey],
  });
  writer.send({ id: 1, body: { case: "changeMembership", value: adding.change } });
  await writer.envelope("membershipAck");
  const slow = await device(2).handshake(hello(chain.group));
  await slow.envelope("welcome");
  slow.socket.pause();
  let head = 0;
  while (world.relay.counters.notified === 0) {
    writer.send({
      id: 10 + head,
      body: { case: "push", value: pushOf([chain.next({ bodyBytes: 150_000 })]) },
    });
    await writer.envelope("pushAck");
    head += 1;
    assert.ok(head < 500, "the system's buffers are full by then");
  }
  const live = [...((await world.relay.group(chain.group))?.sessions ?? [])];
  const session = live.find(
    ({ device: entry }) => entry?.row.deviceKey !== loaded.devices[0]?.deviceKey,
  );
  assert.ok(session);
  for (let i = 0; i < 20; i++) {
    writer.send({
      id: 1_000 + i,
      body: { case: "push", value: pushOf([chain.next({ bodyBytes: 150_000 })]) },
    });
    await writer.envelope("pushAck");
    assert.ok(session.port.outboundBytes < outboundBytesMax + 200_000);
  }
  assert.equal(world.relay.counters.notified, 1);
  slow.socket.resume();
  const { body } = await slow.envelope("notify");
  assert.ok(body.case === "notify");
  slow.send({ id: 1, body: { case: "pull", value: { after: 0n, windowBytes: 16 << 20 } } });
  let through = 0n;
  for (let done = false; !done; ) {
    const page = (await slow.envelope("blobs")).body;
    assert.ok(page.case === "blobs");
    assert.equal(page.value.after, through);
    through = page.value.through;
    done = page.value.done;
  }
  assert.equal(through, BigInt(head + 20));
});

test("2.13 a connection that shows no sign of life ends after two pings; one that does stays", async () => {
  const { world, served } = await listening();
  const alive = await served();
  const dead = await served();
  // It reads nothing, so it answers no ping.
  dead.socket.pause();
  let pings = 0;
  const pinged = async () => {
    const before = pings;
    world.monotonicMs += 30_000;
    while (pings === before && !over) await new Promise((resolve) => setImmediate(resolve));
  };
  let over = false;
  alive.socket.on("ping", () => {
    pings += 1;
  });
  while (world.relay.sessionCount > 1) await pinged();
  over = true;
  assert.ok(pings >= 2 && pings <= 4, `${pings} pings`);
  assert.equal(world.relay.sessionCount, 1);
  alive.send({ id: 1, body: { case: "getSnapshot", value: {} } });
  await alive.envelope("error");
});

test("3.4 a relay puts at most 4,096 envelopes into a record", async () => {
  const { served } = await listening();
  const first = await served();
  // Of a mailbox that is not there: refused, and nothing else ends.
  const asked = { body: { case: "closeInvite", value: { rendezvousId: bytes(5, 1) } } as const };
  for (let record = 0; record < 2; record++) {
    first.send(...Array.from({ length: 4_000 }, (_, i) => ({ id: i + 1, ...asked })));
  }
  let answers = 0;
  while (answers < 8_000) {
    const envelopes = await first.record();
    assert.ok(envelopes.length <= 4_096);
    answers += envelopes.length;
  }
});

test("4.15 over sockets: a relay that shuts down ends its sessions with DRAINING, and takes no more", async () => {
  const { world, served, device, listener } = await listening();
  const first = await served();
  await world.relay.drain(1_000);
  const { body } = await first.envelope("error");
  assert.ok(body.case === "error");
  assert.equal(body.value.code, ErrorCode.DRAINING);
  assert.deepEqual(await first.closed, closing(ErrorCode.DRAINING));
  const late = device(2);
  const status = await new Promise((resolve) => {
    late.socket.on("unexpected-response", (_, response) => resolve(response.statusCode));
  });
  assert.equal(status, 503);
  listener.stopAccepting();
  await listener.close(1_000);
  await settled();
});

test("3.12 what waits on all connections is known, and gone with the connection", async () => {
  const { world, member, device } = await listening();
  const { device: silent } = await member(1);
  silent.socket.pause();
  const [session] = world.relay.sessions;
  assert.ok(session !== undefined);
  for (let i = 0; i < 16; i++) session.port.send(bytes(1024 * 1024, i));
  assert.equal(world.relay.outbound.bytes, 16 * 1024 * 1024);
  // What the system took is no longer the relay's; the rest is.
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(world.relay.outbound.bytes > 1024 * 1024, `${world.relay.outbound.bytes} bytes`);
  assert.equal(world.relay.outbound.bytes, session.port.outboundBytes);
  silent.socket.terminate();
  silent.socket.resume();
  await silent.closed;
  while (world.relay.sessionCount > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(world.relay.outbound.bytes, 0);
  const reading = await device(2).handshake(hello());
  await reading.envelope("welcome");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(world.relay.outbound.bytes, 0, "what is read is not waiting");
});
