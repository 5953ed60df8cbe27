import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  decodeReference,
  encodeReference,
  ObjectCipher,
  objectChunkBytes,
  objectChunks,
  objectLayout,
  objectSealedChunkBytes,
} from "../../client/seal/index.ts";
import { ObjectReferenceSchema } from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { fails, flipped, seeded } from "./support.ts";

const random = seeded("object");
const groupId = random(32);
const key = random(32);

/** A content of so many bytes, quickly. */
function contentOf(length: number): Uint8Array {
  const content = new Uint8Array(length);
  for (let i = 0; i < length; i++) content[i] = (i * 31 + (i >> 8)) & 0xff;
  return content;
}

async function chunksOf(
  pieces: readonly Uint8Array[],
  from = 0,
): Promise<{ index: number; last: boolean; plaintext: Uint8Array }[]> {
  const chunks = [];
  for await (const chunk of objectChunks(pieces, from)) {
    chunks.push({ ...chunk, plaintext: new Uint8Array(chunk.plaintext) });
  }
  return chunks;
}

async function sealedChunks(content: Uint8Array): Promise<Uint8Array[]> {
  const cipher = new ObjectCipher(key, groupId);
  return (await chunksOf([content])).map(({ index, last, plaintext }) =>
    cipher.seal(index, last, plaintext),
  );
}

describe("PROTOCOL 12.22: objects", () => {
  const around = [objectChunkBytes - 1, objectChunkBytes, objectChunkBytes + 1];
  const sizes = [0, 1, 255, 256, 257, ...around, ...around.map((n) => 7 * n), 2_000_000];

  for (const size of sizes) {
    test(`a content of ${size} bytes has the layout it is cut to, and opens chunk by chunk`, async () => {
      const content = contentOf(size);
      const layout = objectLayout(size);
      const sealed = await sealedChunks(content);
      assert.equal(sealed.length, layout.chunks);
      assert.equal(concatBytes(...sealed).byteLength, layout.sealedBytes);
      for (const chunk of sealed.slice(0, -1)) {
        assert.equal(chunk.byteLength, objectSealedChunkBytes);
      }
      const cipher = new ObjectCipher(key, groupId);
      // Backwards: no chunk needs another one.
      const opened = sealed
        .map((chunk, i) => ({ chunk, i }))
        .toReversed()
        .map(({ chunk, i }) => cipher.open(i, i === layout.chunks - 1, chunk));
      const padded = concatBytes(...opened.toReversed());
      assert.deepEqual(padded.subarray(0, size), content);
      assert.ok(padded.subarray(size).every((byte) => byte === 0));
    });
  }

  test("the pieces it comes in make no difference, nor the chunk it is taken up at", async () => {
    const content = contentOf(3 * objectChunkBytes + 777);
    const whole = await chunksOf([content]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 90_000 }), { maxLength: 8 }),
        fc.integer({ min: 0, max: 3 }),
        async (cuts, from) => {
          const start = from * objectChunkBytes;
          const ends = [...cuts.map((cut) => start + cut), content.length].toSorted(
            (a, b) => a - b,
          );
          const pieces: Uint8Array[] = [];
          let at = start;
          for (const end of ends) {
            if (end > content.length) break;
            pieces.push(content.subarray(at, end));
            at = end;
          }
          pieces.push(content.subarray(at));
          assert.deepEqual(await chunksOf(pieces, from), whole.slice(from));
        },
      ),
      { numRuns: 30 },
    );
  });

  test("a chunk that is altered, moved, cut short, of another object or another group does not open", async () => {
    const sealed = await sealedChunks(contentOf(2 * objectChunkBytes + 5));
    const cipher = new ObjectCipher(key, groupId);
    const [first, second] = sealed as [Uint8Array, Uint8Array];
    const last = sealed.at(-1) as Uint8Array;
    const end = sealed.length - 1;
    for (const run of [
      () => cipher.open(0, false, flipped(first)),
      () => cipher.open(0, false, flipped(first, first.byteLength - 1)),
      () => cipher.open(0, false, second),
      () => cipher.open(1, false, first),
      () => cipher.open(0, false, first.subarray(1)),
      () => cipher.open(0, false, first.subarray(0, 16)),
      () => cipher.open(0, false, new Uint8Array(0)),
      () => cipher.open(0, false, new Uint8Array(objectSealedChunkBytes + 1)),
      () => new ObjectCipher(flipped(key), groupId).open(0, false, first),
      () => new ObjectCipher(key, flipped(groupId)).open(0, false, first),
      // Cut off behind a whole chunk: that one is not the last.
      () => cipher.open(1, true, second),
      // Something behind the last one.
      () => cipher.open(end, false, last),
    ]) {
      fails(ErrorCode.OPEN_FAILED, run);
    }
    assert.ok(cipher.open(end, true, last).byteLength > 0);
  });

  test("a chunk that the layout cannot have is not sealed", () => {
    const cipher = new ObjectCipher(key, groupId);
    assert.throws(() => cipher.seal(0, true, new Uint8Array(0)), RangeError);
    assert.throws(() => cipher.seal(0, false, new Uint8Array(5)), RangeError);
    assert.throws(() => cipher.seal(0, true, new Uint8Array(objectChunkBytes + 1)), RangeError);
    assert.throws(() => new ObjectCipher(new Uint8Array(16), groupId), RangeError);
  });
});

describe("references to objects", () => {
  const reference = { objectId: random(32), key, contentBytes: 12, contentType: "image/png" };

  test("say what they were made of", () => {
    assert.deepEqual(decodeReference(encodeReference(reference)), reference);
    assert.throws(
      () => encodeReference({ ...reference, contentType: "x".repeat(129) }),
      RangeError,
    );
  });

  test("of another form are refused", () => {
    for (const change of [
      { objectId: random(31) },
      { key: random(33) },
      { contentBytes: 2n ** 53n },
      { contentBytes: 2n ** 53n - 1n },
      { contentType: "x".repeat(129) },
    ]) {
      const message = create(ObjectReferenceSchema, { ...reference, contentBytes: 12n, ...change });
      fails(ErrorCode.OPEN_FAILED, () => decodeReference(toBinary(ObjectReferenceSchema, message)));
    }
    fails(ErrorCode.OPEN_FAILED, () => decodeReference(new Uint8Array(0)));
    fails(ErrorCode.OPEN_FAILED, () => decodeReference(new Uint8Array(1_000)));
  });
});
