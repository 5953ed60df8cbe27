import assert from "node:assert/strict";
import { test } from "node:test";
import { outboundAllBytesMax, outboundLeastBytes } from "../../server/outbound.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { storeUnavailable } from "../../server/store/store-errors.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { encodeEnvelope } from "../../wire/envelope.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { envelopeBytesMax, pullWindowBytesMax } from "../../wire/limits.ts";
import { bytes, ChainDevice, pushOf } from "../support/devices.ts";
import { gatedStore, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

type WorldChoices = ConstructorParameters<typeof RelayWorldUnderTest>[0];

async function two(choices: WorldChoices = {}) {
  const world = new RelayWorldUnderTest(choices);
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const version = await world.found(a, b);
  const first = await world.member(a);
  const second = await world.member(b);
  first.said();
  second.said();
  return { world, a, b, first, second, version };
}

/** Commits wait, each for one call of what this returns. */
function oneByOne({ store }: RelayWorldUnderTest): () => void {
  const commit = store.commit.bind(store);
  let through = (): void => undefined;
  store.commit = async (batch) => {
    await new Promise<void>((resolve) => {
      through = resolve;
    });
    await commit(batch);
  };
  return () => through();
}

test("5.16 commit, then acknowledge, then deliver: own blobs without their bodies", async () => {
  const { a, b, first, second } = await two();
  first.push(a.run(2));
  second.push([b.next()]);
  await settled();
  assert.deepEqual(first.said(), ["#1 pushAck 1,2", "deliver 0-3"]);
  assert.deepEqual(second.said(), ["#1 pushAck 3", "deliver 0-3"]);
  const deliver = first.last("deliver");
  assert.deepEqual(
    deliver.own.map((own) => [own.cursor, own.seq]),
    [
      [1n, 1n],
      [2n, 2n],
    ],
  );
  assert.deepEqual(deliver.own[1]?.link, a.link);
  const [stored] = deliver.blobs;
  assert.equal(stored?.cursor, 3n);
  assert.deepEqual(stored?.sender, b.id);
  assert.deepEqual(stored?.blob?.body, b.make({ seq: 1 }).blob.body);
  assert.deepEqual(
    second.last("deliver").blobs.map((blob) => blob.cursor),
    [1n, 2n],
  );
});

test("5.16 nothing is acknowledged or delivered before the disk has it", async () => {
  const gate = gatedStore();
  gate.open();
  const { a, first, second, world } = await two({ store: gate.store });
  const through = oneByOne(world);
  first.push([a.next()]);
  await settled();
  assert.deepEqual([first.said(), second.said()], [[], []]);
  through();
  await settled();
  assert.deepEqual(
    [first.said(), second.said()],
    [["#1 pushAck 1", "deliver 0-1"], ["deliver 0-1"]],
  );
});

test("6.8 a commit above a page comes as several deliveries, dense, each within an envelope", async () => {
  const { a, b, first, second } = await two();
  const blobs = [...a.run(2, { bodyBytes: 700_000 }), ...a.run(3)];
  first.record(
    ...blobs.map((made, i) => ({
      id: i + 1,
      body: { case: "push", value: pushOf([made]) } as const,
    })),
  );
  second.push([b.next({ bodyBytes: 900_000 })]);
  await settled();
  const delivers = second.all("deliver");
  assert.ok(delivers.length >= 2);
  let after = 0n;
  for (const deliver of delivers) {
    assert.equal(deliver.after, after);
    const cursors = [...deliver.blobs, ...deliver.own].map((blob) => Number(blob.cursor));
    cursors.sort((x, y) => x - y);
    for (const cursor of cursors) assert.equal(BigInt(cursor), ++after);
    assert.equal(deliver.through, after);
  }
  assert.equal(after, 6n);
});

test("6.4 3.3 a page of 2,000 blobs that together come near a page fits an envelope", async () => {
  const world = new RelayWorldUnderTest({ limits: { groupBytesMax: 1e8 } });
  const a = new ChainDevice(1);
  await world.found(a);
  const peer = await world.member(a);
  const blobs = a.run(2_500, { bodyBytes: 400 });
  for (let i = 0; i < blobs.length; i += 500) {
    peer.push(blobs.slice(i, i + 500));
    await settled();
  }
  const reader = await world.member(a);
  let largest = 0;
  const send = reader.port.send.bind(reader.port);
  reader.port.send = (envelope) => {
    largest = Math.max(largest, envelope.byteLength);
    send(envelope);
  };
  reader.ask({ case: "pull", value: { after: 0n, windowBytes: pullWindowBytesMax } });
  await settled();
  const pages = reader.all("blobs");
  assert.deepEqual(
    pages.flatMap((page) => page.blobs.map((blob) => Number(blob.cursor))),
    blobs.map((_, i) => i + 1),
  );
  assert.ok(largest > 700_000, "a page is full");
  assert.ok(largest <= envelopeBytesMax(1), `${largest} bytes`);
  for (const page of pages) assert.equal(page.blobs.at(-1)?.cursor, page.through, "6.3");
  assert.deepEqual(
    pages.map((page) => page.done),
    pages.map((_, i) => i === pages.length - 1),
  );
});

test("6.5 a window of one byte brings one blob at a time, over the real log", async () => {
  const { a, first, second } = await two();
  first.push(a.run(3));
  await settled();
  second.said();
  const id = second.ask({ case: "pull", value: { after: 0n, windowBytes: 1 } });
  for (const expected of ["blobs 0-1", "blobs 1-2", "blobs 2-3"]) {
    await settled();
    assert.deepEqual(second.said(), [`#${id} ${expected}`]);
    second.record({ id, body: { case: "pullMore", value: { windowBytes: 400 } } });
  }
  await settled();
  assert.deepEqual(second.said(), [], "it is over");
  assert.equal(second.last("blobs").done, true);
});

test("6.6 a slow reader is told once, costs what waits, and catches up at its own pace", async () => {
  const { a, first, second, world } = await two({ limits: { outboundBytesMax: 100_000 } });
  second.port.stuck = true;
  for (let i = 0; i < 20; i++) {
    first.push([a.next({ bodyBytes: 30_000 })]);
    await settled();
  }
  assert.ok(second.port.stuckBytes < 100_000 + 31_000, `${second.port.stuckBytes} bytes wait`);
  const said = second.said();
  assert.equal(said.filter((line) => line.startsWith("notify")).length, 1);
  assert.equal(second.endedWith, undefined);
  assert.equal(first.all("pushAck").length, 20, "it slows nobody");
  assert.equal(world.relay.counters.notified, 1);
  // Its pull waits until it has read.
  const after = second.last("deliver").through;
  second.ask({ case: "pull", value: { after, windowBytes: pullWindowBytesMax } });
  await settled();
  assert.deepEqual(second.said(), []);
  second.port.drain();
  await settled();
  assert.equal(second.last("blobs").through, 20n);
  first.push([a.next()]);
  await settled();
  assert.equal(second.last("deliver").through, 21n);
});

test("6.9 3.12 pulls that replace each other cost one page at a time", async () => {
  const { a, first, world } = await two();
  first.push(a.run(3));
  await settled();
  first.said();
  let reads = 0;
  let under = 0;
  const readBlobs = world.store.readBlobs.bind(world.store);
  world.store.readBlobs = async (...args) => {
    reads += 1;
    under += 1;
    assert.equal(under, 1, "one at a time");
    const rows = await readBlobs(...args);
    under -= 1;
    return rows;
  };
  first.record(
    ...Array.from({ length: 1_000 }, (_, i) => ({
      id: i + 1,
      body: { case: "pull", value: { after: 0n, windowBytes: 1 << 20 } } as const,
    })),
  );
  await settled();
  assert.ok(reads <= 2, `${reads} pages read`);
  assert.deepEqual(first.said(), ["#1000 blobs 0-3"]);
});

test("3.12 8.13 requests for control blobs are answered one at a time, as there is room", async () => {
  const { first, world } = await two({ limits: { outboundBytesMax: 1_000 } });
  let under = 0;
  let reads = 0;
  const readControl = world.store.readControl.bind(world.store);
  world.store.readControl = async (...args) => {
    reads += 1;
    under += 1;
    assert.equal(under, 1, "one at a time");
    const rows = await readControl(...args);
    under -= 1;
    return rows;
  };
  first.port.stuck = true;
  first.record(
    ...Array.from({ length: 200 }, (_, i) => ({
      id: i + 1,
      body: { case: "pullControl", value: { after: 0n } } as const,
    })),
  );
  await settled();
  assert.ok(reads < 10, `${reads} read while nobody takes them`);
  assert.ok(first.port.stuckBytes < 2_000);
  assert.ok(first.port.paused, "no more is read from it");
  for (let i = 0; i < 200 && first.all("controlBlobs").length < 200; i++) {
    first.port.drain();
    await settled();
  }
  assert.equal(first.all("controlBlobs").length, 200);
  assert.equal(first.port.pauses, first.port.resumes);
});

test("3.12 who asks and does not read the answers is not read from, and goes on when it does", async () => {
  const world = new RelayWorldUnderTest();
  const stranger = await world.lobby(bytes(32, 5));
  stranger.port.stuck = true;
  let records = 0;
  while (!stranger.port.paused && records < 100) {
    records += 1;
    // Bodies of number 99, each under request 9: a newer device's, of which each is refused alone.
    stranger.session.receive(
      concatBytes(...Array.from({ length: 1_000 }, () => Uint8Array.of(6, 8, 9, 0x9a, 0x06, 1, 0))),
    );
  }
  assert.ok(stranger.port.paused);
  assert.ok(stranger.port.stuckBytes < 512 * 1024, `${stranger.port.stuckBytes} bytes wait`);
  stranger.port.drain();
  assert.equal(stranger.port.pauses, stranger.port.resumes);
});

test("3.12 pushes that wait for a commit stop the reading, which goes on behind it", async () => {
  const gate = gatedStore();
  gate.open();
  const { a, first, world } = await two({ store: gate.store });
  const through = oneByOne(world);
  for (let i = 0; i < 6; i++) first.push([a.next({ bodyBytes: 1_000_000 })]);
  assert.ok(first.port.paused);
  await settled();
  for (let i = 0; i < 6; i++) {
    through();
    await settled();
  }
  assert.equal(first.all("pushAck").length, 6);
  assert.equal(first.port.pauses, first.port.resumes);
});

test("3.12 a push that waits answers for all that was read from the socket with it, once", async () => {
  const gate = gatedStore();
  gate.open();
  const { a, first, world } = await two({ store: gate.store });
  const through = oneByOne(world);
  const read = new Uint8Array(5 * 1024 * 1024);
  let offset = 0;
  const pushAtOffset = (memory: Uint8Array): void => {
    const push = encodeEnvelope(50 + offset, { case: "push", value: pushOf([a.next()]) });
    memory.set(push, offset);
    first.session.receive(memory.subarray(offset, offset + push.byteLength));
    offset += push.byteLength;
  };
  // Short ones in reads of their own do not stop it, and one in a long read does.
  pushAtOffset(new Uint8Array(1_000));
  pushAtOffset(new Uint8Array(2_000));
  assert.ok(!first.port.paused);
  pushAtOffset(read);
  assert.ok(first.port.paused);
  // The next of the same read counts for itself alone.
  const before = world.relay.queuedBytes;
  pushAtOffset(read);
  assert.ok(world.relay.queuedBytes - before < 10_000);
  for (let i = 0; i < 3; i++) {
    through();
    await settled();
  }
  assert.ok(!first.port.paused);
  assert.equal(first.all("pushAck").length, 4);
});

test("3.12 pauses and resumes pair up where all sessions together wait, and one ends meanwhile", async () => {
  const { world, a, b, first, second } = await two({
    limits: { blobBytesMax: 16 * 1024 * 1024, groupBytesMax: 1e9, storeBytesMax: 1e9 },
  });
  const commit = world.store.commit.bind(world.store);
  let through = (): void => undefined;
  let held = true;
  world.store.commit = async (batch) => {
    if (held) {
      await new Promise<void>((resolve) => {
        through = resolve;
      });
    }
    await commit(batch);
  };
  for (let i = 0; i < 6; i++) {
    first.push([a.next({ bodyBytes: 15_000_000 })]);
    second.push([b.next({ bodyBytes: 15_000_000 })]);
  }
  assert.ok(world.relay.queuedBytes > 64 * 1024 * 1024);
  second.cut();
  held = false;
  await settled();
  through();
  for (let i = 0; i < 20; i++) await settled();
  assert.equal(world.relay.queuedBytes, 0);
  assert.equal(first.port.pauses, first.port.resumes);
  assert.equal(first.all("pushAck").length, 6);
  const again = await world.member(b);
  const welcome = again.last("welcome");
  assert.ok(welcome.scope.case === "group");
  assert.equal(welcome.scope.value.own?.seq, 6n, "4.11 what the cut session pushed is there");
});

test("5.14 a session whose group cannot be read ends with STORE_UNAVAILABLE", async () => {
  const { world, first, second, b } = await two();
  first.cut();
  second.cut();
  for (let i = 0; i < 5; i++) {
    world.pass(15_000);
    await settled();
  }
  world.store.loadGroup = async () => await Promise.reject(storeUnavailable("no disk"));
  const late = await world.member(b);
  assert.equal(late.endedWith, ErrorCode.STORE_UNAVAILABLE);
});

test("6.10 a page that cannot be read refuses the pull; the session goes on", async () => {
  const { world, a, first } = await two();
  first.push(a.run(2));
  await settled();
  first.said();
  const readBlobs = world.store.readBlobs.bind(world.store);
  world.store.readBlobs = async () => await Promise.reject(storeUnavailable("no disk"));
  const pull = { case: "pull", value: { after: 0n, windowBytes: 1_000_000 } } as const;
  first.ask(pull);
  await settled();
  assert.deepEqual(first.said(), [`#2 error ${ErrorCode.STORE_UNAVAILABLE}`]);
  world.store.readBlobs = readBlobs;
  first.ask(pull);
  await settled();
  assert.deepEqual(first.said(), ["#3 blobs 0-2"]);
});

test("10.7 a defect ends the session it happened in, with an id to find it by, and no other", async () => {
  const { world, first, second } = await two();
  world.store.readControl = async () => await Promise.reject(new Error("what nobody may read"));
  first.ask({ case: "pullControl", value: {} });
  await settled();
  assert.equal(first.endedWith, ErrorCode.INTERNAL);
  const { detail, message } = first.last("error");
  assert.ok(detail.case === "incident");
  assert.equal(detail.value.id.length, 12);
  assert.equal(message, "a defect of the relay");
  assert.equal(world.defects.length, 1);
  assert.equal(second.endedWith, undefined);
});

test("3.9 bodies the relay does not know are refused alone", async () => {
  const { first } = await two();
  // A body of number 99: a newer device's.
  first.session.receive(Uint8Array.of(6, 8, 9, 0x9a, 0x06, 1, 0));
  first.session.receive(Uint8Array.of(6, 8, 0, 0x9a, 0x06, 1, 0));
  assert.deepEqual(first.said(), [`#9 error ${ErrorCode.ENVELOPE_UNEXPECTED}`]);
  assert.equal(first.endedWith, undefined);
});

test("3.5 4.16 a record that holds no envelopes ends the session, told as its last envelope", async () => {
  for (const garbage of [
    Uint8Array.of(5, 1),
    Uint8Array.of(0x80),
    Uint8Array.of(2, 0x0b, 0x0c),
    bytes(500, 3),
    encodeEnvelope(1, { case: "push", value: {} }),
  ]) {
    const { first, world } = await two();
    first.session.receive(garbage);
    assert.equal(first.endedWith, ErrorCode.ENVELOPE_INVALID);
    assert.deepEqual(first.said(), [`error ${ErrorCode.ENVELOPE_INVALID}`]);
    assert.equal(world.relay.counters.protocolFaults, 1);
  }
});

test("1.4 the log goes on over a crash: what was acknowledged is there, and no cursor twice", async () => {
  const store = openMemoryStore();
  const { a, first } = await two({ store });
  first.push(a.run(2));
  await settled();
  const world = new RelayWorldUnderTest({ store: store.crash("lost") });
  const again = await world.member(a);
  again.push([a.next()]);
  await settled();
  assert.deepEqual(again.last("pushAck").cursors, [3n]);
});

test("6.11 the more waits on all connections, the less each may add, and pages get small", async () => {
  const { world, a, first, second } = await two();
  for (let i = 0; i < 8; i++) first.push([a.next({ bodyBytes: 10_000 })]);
  await settled();
  second.port.stuck = true;
  second.port.stuckBytes = outboundLeastBytes;
  assert.equal(second.session.crowded, false);
  world.relay.outbound.bytes = outboundAllBytesMax;
  assert.equal(second.session.crowded, true);
  second.said();
  // Who reads is served on, a little at a time; who does not gets nothing more.
  for (const peer of [first, second]) {
    peer.said();
    peer.ask({ case: "pull", value: { after: 0n, windowBytes: pullWindowBytesMax } });
  }
  await settled();
  assert.deepEqual(second.said(), []);
  const pages = first.all("blobs");
  assert.equal(pages.at(-1)?.through, 8n);
  for (const page of pages)
    assert.ok(page.blobs.length <= 2, `${page.blobs.length} blobs in a page`);
  world.relay.outbound.bytes = 0;
  second.port.drain();
  await settled();
  assert.equal(second.last("blobs").through, 8n);
});
