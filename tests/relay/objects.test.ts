import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { objectBytesDefault } from "../../wire/limits.ts";
import { bytes } from "../support/devices.ts";
import { settled, type ValueOf } from "../support/relay-world.ts";
import { asked, day, group, loaded, pass, putObject, rangeBytes, rest } from "./life-support.ts";

const content = bytes(2 * rangeBytes + 70_000, 5);
const objectId = blake2b256(content);
const sizeBytes = BigInt(content.byteLength);

function rangeAt(offset: number, length = rangeBytes) {
  const data = content.subarray(offset, offset + length);
  const value = { objectId, sizeBytes, offset: BigInt(offset), data };
  return { case: "putObject", value } as const;
}

test("1.12 11.18 a quota as large as a number may be is told as no larger one, though snapshots have twice as much", async () => {
  const { peers } = await group(1, {
    limits: { groupBytesMax: Number.MAX_SAFE_INTEGER, storeBytesMax: 100_000 },
  });
  const [first] = peers;
  assert(first);
  await asked(first, {
    case: "putObject",
    value: {
      objectId: bytes(32, 1),
      sizeBytes: 200_000n,
      offset: 0n,
      data: bytes(65_536, 1),
      snapshotPart: true,
    },
  });
  const { code, detail } = first.last("error");
  assert.equal(code, ErrorCode.QUOTA_EXCEEDED);
  assert(detail.case === "quota");
  assert.equal(detail.value.store, true);
  assert.equal(detail.value.limitBytes, BigInt(Number.MAX_SAFE_INTEGER));
});

test("11.8 11.9 ranges are stored in order, each told when it is durable, the last one when all was hashed", async () => {
  const { peers } = await group(1);
  const [peer] = peers;
  assert(peer);
  for (const offset of [0, rangeBytes, 2 * rangeBytes]) peer.ask(rangeAt(offset));
  await rest();
  assert.deepEqual(
    peer.all("objectState").map(({ durableBytes, complete }) => [durableBytes, complete]),
    [
      [BigInt(rangeBytes), false],
      [BigInt(2 * rangeBytes), false],
      [sizeBytes, true],
    ],
  );
});

test("11.8 a range at another place than the durable size changes nothing, and tells where to go on", async () => {
  const { peers } = await group(1);
  const [peer] = peers;
  assert(peer);
  for (const offset of [rangeBytes, 0, 0, 2 * rangeBytes, rangeBytes]) peer.ask(rangeAt(offset));
  await rest();
  assert.deepEqual(
    peer.all("objectState").map(({ durableBytes }) => Number(durableBytes) / rangeBytes),
    [0, 1, 1, 1, 2],
  );
});

test("11.8 11.9 an upload goes on after a restart of the relay, and is hashed from disk", async () => {
  const first = await group(1);
  await asked(first.peers[0] as never, rangeAt(0));
  const { RelayWorldUnderTest } = await import("../support/relay-world.ts");
  const world = new RelayWorldUnderTest({ store: first.world.store.crash("lost") });
  const [device] = first.devices;
  assert(device);
  const peer = await world.member(device);
  await asked(peer, { case: "statObject", value: { objectId } });
  assert.equal(peer.last("objectState").durableBytes, BigInt(rangeBytes));
  for (const offset of [rangeBytes, 2 * rangeBytes]) await asked(peer, rangeAt(offset));
  assert.equal(peer.last("objectState").complete, true);
});

test("11.9 what does not hash to its id is dropped, and was a defect of its sender", async () => {
  const { world, peers } = await group(2);
  const [peer, other] = peers;
  assert(peer && other);
  const wrong = bytes(32, 9);
  peer.ask({
    case: "putObject",
    value: { objectId: wrong, sizeBytes: 5n, offset: 0n, data: bytes(5, 1) },
  });
  await rest();
  assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID);
  await asked(other, { case: "statObject", value: { objectId: wrong } });
  assert.equal(other.last("objectState").sizeBytes, 0n);
  assert.equal((await loaded(world)).group.bytes, 0);
});

test("11.7 ranges that are not aligned, empty, too long, or beyond the size end the session", async () => {
  const good = rangeAt(0).value;
  for (const changes of [
    { offset: 1n },
    { data: content.subarray(0, 65_537) },
    { data: new Uint8Array(0) },
    { data: content.subarray(0, rangeBytes + 10), sizeBytes: BigInt(rangeBytes + 10) },
    { sizeBytes: 65_536n },
    { sizeBytes: 0n, data: new Uint8Array(0) },
    { objectId: bytes(31, 1) },
  ]) {
    const { peers } = await group(1);
    const [peer] = peers;
    assert(peer);
    peer.ask({ case: "putObject", value: { ...good, ...changes } });
    await settled();
    assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID, JSON.stringify(Object.keys(changes)));
  }
});

test("11.7 an object has one size", async () => {
  const { peers } = await group(1);
  const [peer] = peers;
  assert(peer);
  await asked(peer, rangeAt(0));
  peer.ask({
    case: "putObject",
    value: { ...rangeAt(rangeBytes).value, sizeBytes: sizeBytes + 1n },
  });
  await rest();
  assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID);
});

test("11.6 an object above the limit is refused alone", async () => {
  const { peers } = await group(1);
  const [peer] = peers;
  assert(peer);
  const value = { ...rangeAt(0).value, sizeBytes: BigInt(objectBytesDefault) + 1n };
  assert.match(await asked(peer, { case: "putObject", value }), /error 304$/);
  assert.equal(peer.endedWith, undefined);
});

test("11.10 the first range counts the whole size towards the quota, before anything is written", async () => {
  const { world, peers } = await group(1, { limits: { groupBytesMax: content.byteLength + 255 } });
  const [peer] = peers;
  assert(peer);
  assert.match(await asked(peer, rangeAt(0)), /error 502$/);
  assert.equal((await loaded(world)).group.bytes, 0);

  const wide = await group(1, { limits: { groupBytesMax: content.byteLength + 256 } });
  await asked(wide.peers[0] as never, rangeAt(0));
  assert.equal((await loaded(wide.world)).group.bytes, content.byteLength + 256);
});

test("11.12 any range of a complete object is read, by any member; an incomplete one is not there", async () => {
  const { peers } = await group(2);
  const [peer, other] = peers;
  assert(peer && other);
  await asked(peer, rangeAt(0));
  await asked(other, { case: "getObject", value: { objectId, offset: 0n, length: 5n } });
  assert.deepEqual(
    { ...other.last("objectData"), $typeName: "" },
    {
      $typeName: "",
      offset: 0n,
      data: new Uint8Array(0),
      done: true,
      sizeBytes: 0n,
    },
  );
  for (const offset of [rangeBytes, 2 * rangeBytes]) await asked(peer, rangeAt(offset));
  for (const [offset, length] of [
    [0, 0],
    [5, 10],
    [65_530, 65_560],
    [rangeBytes - 1, rangeBytes],
    [2 * rangeBytes, 0],
    [content.byteLength, 9],
    [content.byteLength + 99, 0],
  ] as const) {
    await asked(other, {
      case: "getObject",
      value: { objectId, offset: BigInt(offset), length: BigInt(length) },
    });
    const told: ValueOf<"objectData"> = other.last("objectData");
    const end = offset + Math.min(length === 0 ? rangeBytes : length, rangeBytes);
    assert.deepEqual(told.data, content.slice(offset, end), `${offset} ${length}`);
    assert.deepEqual([told.done, told.sizeBytes], [true, sizeBytes]);
  }
});

test("11.13 11.14 an object goes with its last reference", async () => {
  const { world, peers } = await group(2);
  const [peer, other] = peers;
  assert(peer && other);
  const id = await putObject(peer, content);
  const reference = { objectId: id, sizeBytes, offset: sizeBytes };
  assert.match(await asked(other, { case: "putObject", value: reference }), /objectState/);
  for (const [by, left] of [
    [peer, content.byteLength + 256],
    [peer, content.byteLength + 256],
    [other, 0],
    [other, 0],
  ] as const) {
    assert.match(await asked(by, { case: "dropObject", value: { objectId: id } }), /done/);
    assert.equal((await loaded(world)).group.bytes, left);
  }
});

test("11.14 an upload that does not go on is collected after a day, and not before", async () => {
  const { world, peers } = await group(1);
  await asked(peers[0] as never, rangeAt(0));
  await pass(world, day - 2_000);
  assert.equal((await loaded(world)).group.bytes, content.byteLength + 256);
  await pass(world, 3_000);
  await pass(world, 600_000);
  assert.equal((await loaded(world)).group.bytes, 0);
});

test("11.14 a part that no snapshot names is collected after a day; an object that is complete stays", async () => {
  const { world, peers } = await group(1);
  const [peer] = peers;
  assert(peer);
  await putObject(peer, bytes(500, 1), true);
  await putObject(peer, bytes(700, 2));
  const before = (await loaded(world)).group;
  assert.deepEqual([before.bytes, before.snapshotBytes], [956, 756]);
  await pass(world, day + 1_000);
  const after = (await loaded(world)).group;
  assert.deepEqual([after.bytes, after.snapshotBytes], [956, 0]);
});

test("11.36 requests of one device are answered in their order, and so many that it is read no further", async () => {
  const { peers } = await group(1);
  const [peer] = peers;
  assert(peer);
  for (let i = 0; i < 40; i++) peer.ask({ case: "statObject", value: { objectId } });
  assert.ok(peer.port.paused);
  await rest();
  assert.deepEqual(
    peer.said(),
    Array.from({ length: 40 }, (_, i) => `#${i + 1} objectState`),
  );
  assert.equal(peer.port.pauses, peer.port.resumes);
});
