/** Objects through a relay in memory: cuts, restarts, changed content, and a relay that lies. */
import assert from "node:assert/strict";
import { Blob } from "node:buffer";
import { test } from "node:test";
import type { ObjectProgress, ObjectSource } from "../../client/index.ts";
import { RangeSize } from "../../client/range-size.ts";
import { UsageError } from "../../client/usage-error.ts";
import { concatBytes, equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

function contentOf(length: number, seed = 7): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * seed + (i >> 9)) & 0xff);
}

/** A source that says what was asked of it. */
function watched(content: Uint8Array, pieceBytes = 100_000): ObjectSource & { opened: number[] } {
  const opened: number[] = [];
  return {
    opened,
    async *open(from) {
      opened.push(from);
      for (let at = from; at < content.byteLength; at += pieceBytes) {
        yield content.subarray(at, at + pieceBytes);
      }
    },
  };
}

async function read(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return concatBytes(...all);
}

async function twoDevices(): Promise<{ relay: FakeRelay; a: Device; b: Device }> {
  const relay = new FakeRelay(new World());
  const a = await founder(relay);
  const b = await member(a);
  return { relay, a, b };
}

test("what one device puts the other gets by its reference, whole and in ranges", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  for (const size of [0, 1, 65_536, 1_000_000, 2_500_000]) {
    const content = contentOf(size);
    const progress: ObjectProgress[] = [];
    const stored = await world.result(
      a.client.putObject(watched(content), {
        contentType: "image/png",
        onProgress: (each) => progress.push(each),
      }),
    );
    assert.equal(stored.contentBytes, size);
    const last = progress.at(-1);
    assert.equal(last?.doneBytes, last?.totalBytes);
    assert.ok(equalBytes(await world.result(read(b.client.getObject(stored.reference))), content));
    const ranges = [
      { from: 0, to: 1 },
      { from: 65_535, to: 65_537 },
      { from: 700_000, to: 1_900_000 },
      { from: size - 1 },
      { from: size },
      { to: 100 },
    ];
    for (const range of ranges) {
      if ((range.from ?? 0) < 0) continue;
      const part = await world.result(read(b.client.getObject(stored.reference, { range })));
      assert.ok(equalBytes(part, content.subarray(range.from, range.to)), JSON.stringify(range));
    }
  }
});

test("bytes, a Blob and what can be opened again are taken; a stream that can be read once is refused", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  const content = contentOf(200_000);
  for (const each of [content, new Blob([content]) as never, watched(content)]) {
    const stored = await world.result(a.client.putObject(each));
    assert.ok(equalBytes(await world.result(read(b.client.getObject(stored.reference))), content));
  }
  const once = watched(content).open(0);
  await assert.rejects(a.client.putObject(once as never), UsageError);
});

test("a cut costs no byte that was acknowledged, and no second object", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  const content = contentOf(6_000_000);
  let ranges = 0;
  relay.meddler = {
    request: (session, { body }) => {
      if (body.case !== "putObject" && body.case !== "getObject") return undefined;
      ranges += 1;
      // Every third: the range is lost, and the connection with it.
      if (ranges % 3 !== 0) return undefined;
      session.socket.close(1006);
      return "lost";
    },
  };
  const stored = await world.result(a.client.putObject(watched(content)));
  const { retention } = relay.group;
  assert.equal(retention.objects.size, 1);
  const bytes = retention.stored.reduce((sum, range) => sum + range.bytes, 0);
  assert.equal(bytes, [...retention.objects.values()][0]?.sizeBytes);
  assert.ok(ranges > 7, String(ranges));
  assert.ok(equalBytes(await world.result(read(b.client.getObject(stored.reference))), content));
});

test("an upload with a name goes on after a restart, with the same ciphertext, from what is durable", async () => {
  const { relay, a } = await twoDevices();
  const { world } = relay;
  const content = contentOf(4_000_000);
  let ranges = 0;
  relay.meddler = {
    request: (_, { body }) =>
      body.case === "putObject" && (ranges += 1) > 2
        ? new SyncError(ErrorCode.QUOTA_EXCEEDED)
        : undefined,
  };
  await assert.rejects(world.result(a.client.putObject(watched(content), { name: "photo" })), {
    code: ErrorCode.QUOTA_EXCEEDED,
  });
  const { retention } = relay.group;
  const [object] = retention.objects.values();
  assert.ok(object !== undefined && object.durableBytes > 1_000_000 && !object.complete);
  relay.meddler = {};
  await a.restart();
  await world.until(() => a.client.status().connection.state === "online");
  const source = watched(content);
  const stored = await world.result(a.client.putObject(source, { name: "photo" }));
  assert.deepEqual([...retention.objects.keys()], [stored.objectId]);
  const offsets = retention.stored.map(({ offset }) => offset);
  assert.equal(new Set(offsets).size, offsets.length);
  // Read once for the id, and then only from what the relay lacked.
  assert.equal(source.opened[0], 0);
  assert.ok(source.opened.length === 2 && (source.opened[1] as number) > 1_000_000);
  // Asked once more it costs nothing.
  const again = await world.result(a.client.putObject(source, { name: "photo" }));
  assert.deepEqual(again.reference, stored.reference);
  assert.equal(retention.stored.length, offsets.length);
});

test("another content under a name is another object under another key, and nothing of it was sealed under the first", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  let ranges = 0;
  relay.meddler = {
    request: (_, { body }) =>
      body.case === "putObject" && (ranges += 1) === 2
        ? new SyncError(ErrorCode.QUOTA_EXCEEDED)
        : undefined,
  };
  const first = contentOf(2_000_000);
  await assert.rejects(world.result(a.client.putObject(first, { name: "x" })));
  const { retention } = relay.group;
  const [sent] = [...retention.objects.values()].map(({ pieces }) => concatBytes(...pieces));
  const second = contentOf(2_000_000, 11);
  const stored = await world.result(a.client.putObject(second, { name: "x" }));
  assert.ok(equalBytes(await world.result(read(b.client.getObject(stored.reference))), second));
  // The half of the first is let go.
  await world.until(() => retention.objects.size === 1);
  const [kept] = [...retention.objects.values()].map(({ pieces }) => concatBytes(...pieces));
  assert.ok(sent && kept);
  // Under one key the streams would differ exactly as the contents do.
  const xor = (x: Uint8Array, y: Uint8Array) =>
    Uint8Array.from({ length: 1_000 }, (_, i) => (x[i] as number) ^ (y[i] as number));
  assert.ok(!equalBytes(xor(sent, kept), xor(first, second)));
});

test("content that changes while it is sent is noticed before anything of it leaves", async () => {
  const { relay, a } = await twoDevices();
  const { world } = relay;
  const content = contentOf(3_000_000);
  const changes: readonly ((bytes: Uint8Array) => Uint8Array)[] = [
    (bytes) => {
      const other = Uint8Array.from(bytes);
      other[2_500_000] = 1 ^ (other[2_500_000] as number);
      return other;
    },
    (bytes) => bytes.subarray(0, 2_000_000),
    (bytes) => concatBytes(bytes, bytes),
  ];
  for (const change of changes) {
    let reads = 0;
    const source: ObjectSource = {
      open: (from) => {
        reads += 1;
        return watched(reads === 1 ? content : change(content)).open(from);
      },
    };
    await assert.rejects(world.result(a.client.putObject(source)), UsageError);
    const [object] = relay.group.retention.objects.values();
    assert.ok(object !== undefined && !object.complete);
    assert.ok(object.durableBytes < 3_000_000);
    relay.group.retention.objects.clear();
  }
});

test("a relay that hands out anything else is noticed, and nothing of it is handed out", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  const content = contentOf(1_500_000);
  const stored = await world.result(a.client.putObject(content));
  const other = await world.result(a.client.putObject(contentOf(1_500_000, 3)));
  const { objects } = relay.group.retention;
  const object = objects.get(stored.objectId);
  assert.ok(object !== undefined);
  const whole = concatBytes(...object.pieces);
  const altered = Uint8Array.from(whole);
  altered[1_200_000] = 1 ^ (altered[1_200_000] as number);
  for (const lie of [altered, concatBytes(...(objects.get(other.objectId)?.pieces ?? []))]) {
    object.pieces = [lie];
    let bytes = 0;
    const run = async () => {
      for await (const piece of b.client.getObject(stored.reference)) {
        assert.ok(equalBytes(piece, content.subarray(bytes, bytes + piece.byteLength)));
        bytes += piece.byteLength;
      }
    };
    await assert.rejects(world.result(run()), { code: ErrorCode.OPEN_FAILED });
    assert.ok(bytes < 1_200_000);
  }
  objects.delete(stored.objectId);
  await assert.rejects(world.result(read(b.client.getObject(stored.reference))), {
    code: ErrorCode.OPEN_FAILED,
  });
});

test("an object that is dropped is gone, and put again under its name it is put anew", async () => {
  const { relay, a } = await twoDevices();
  const { world } = relay;
  const content = contentOf(100_000);
  const stored = await world.result(a.client.putObject(content, { name: "x" }));
  await world.result(a.client.dropObject(stored.reference));
  assert.equal(relay.group.retention.objects.size, 0);
  const again = await world.result(a.client.putObject(content, { name: "x" }));
  assert.notEqual(again.objectId, stored.objectId);
  await world.result(a.client.dropObject(again.objectId));
  assert.equal(relay.group.retention.objects.size, 0);
  await assert.rejects(a.client.dropObject("nonsense"), UsageError);
});

test("an upload ends where the app gives it up, or the client is closed", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  const content = contentOf(3_000_000);
  const giveUp = new AbortController();
  relay.meddler = {
    request: (_, { body }) => {
      if (body.case === "putObject") giveUp.abort(new Error("enough"));
      return undefined;
    },
  };
  await assert.rejects(
    world.result(a.client.putObject(content, { signal: giveUp.signal })),
    /enough/,
  );
  relay.stop();
  await world.run(1_000);
  const waiting = b.client.putObject(content);
  waiting.catch(() => undefined);
  await world.settle();
  await world.result(b.client.close());
  await assert.rejects(waiting, { code: ErrorCode.CONNECTION_LOST });
});

test("11.8 a line that carries no whole range before the other side counts as gone carries smaller ones", async () => {
  const { relay, a, b } = await twoDevices();
  const { world } = relay;
  const content = contentOf(2_500_000);
  const mostBytes = 140_000;
  const asked: number[] = [];
  relay.meddler = {
    request: (session, { body }) => {
      const bytes =
        body.case === "putObject"
          ? body.value.data.byteLength
          : body.case === "getObject"
            ? Number(body.value.length)
            : 0;
      if (bytes > 0) asked.push(bytes);
      if (bytes <= mostBytes) return undefined;
      session.socket.close(1006);
      return "lost";
    },
  };
  const stored = await world.result(a.client.putObject(watched(content)));
  const { retention } = relay.group;
  assert.ok(retention.stored.every(({ bytes }) => bytes <= mostBytes));
  assert.ok(equalBytes(await world.result(read(b.client.getObject(stored.reference))), content));
  // As much as may be at first, and again where it is quick.
  assert.ok(asked.filter((bytes) => bytes > 900_000).length >= 2);
});

test("ranges become smaller where one takes long or none arrives, and larger where they are quick", () => {
  const size = new RangeSize();
  assert.equal(size.chunks, 16);
  size.arrived(25_000);
  assert.equal(size.chunks, 8);
  size.arrived(10_000);
  assert.equal(size.chunks, 8);
  size.lost();
  assert.equal(size.chunks, 2);
  size.lost();
  size.lost();
  size.arrived(60_000);
  assert.equal(size.chunks, 1);
  for (let i = 0; i < 10; i++) size.arrived(1_000);
  assert.equal(size.chunks, 16);
});
