import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { BlobsSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { type EnvelopeBody, encodeEnvelope } from "../../wire/envelope.ts";
import {
  type BlobParts,
  encodeBlobs,
  encodeDeliver,
  encodePush,
  encodePushAck,
  encodeStoredBlobField,
  type OwnBlobParts,
  type StoredBlobParts,
} from "../../wire/hot-encoders.ts";
import { filled } from "./support.ts";

/** Every number whose varint changes its size or whose bits pass a 32-bit shift, and their neighbours. */
const edges = [0, 7, 14, 21, 28, 31, 32, 35, 42, 49]
  .flatMap((bits) => [2 ** bits - 1, 2 ** bits, 2 ** bits + 1])
  .concat(2 ** 53 - 1, 2 ** 53 - 2, 0x7fff_ffff, 0xffff_ffff);

const number = fc.oneof(
  fc.constantFrom(...edges),
  fc.nat(300),
  fc.maxSafeNat(),
  fc.integer({ min: 2 ** 31, max: 2 ** 33 }),
);

/** Sizes around a varint's edges too, which short arrays would miss. */
const bytes = fc.oneof(
  fc.constantFrom(0, 1, 127, 128, 16_383, 16_384).map((length) => filled(length % 251, length)),
  fc.uint8Array({ maxLength: 200 }),
);

const blobParts: fc.Arbitrary<BlobParts> = fc.record({
  blobId: bytes,
  header: bytes,
  signature: bytes,
  epoch: number,
  body: bytes,
});

const storedBlobParts: fc.Arbitrary<StoredBlobParts> = fc
  .tuple(blobParts, number, bytes, fc.nat(200))
  .map(([blob, cursor, sender, bodyState]) => ({ ...blob, cursor, sender, bodyState }));

const ownBlobParts: fc.Arbitrary<OwnBlobParts> = fc.record({
  cursor: number,
  seq: number,
  link: bytes,
});

const big = (value: number): bigint => BigInt(value);
const blobOf = ({ blobId, header, signature, epoch, body }: BlobParts) => ({
  blobId,
  header,
  signature,
  epoch: big(epoch),
  body,
});
const storedOf = (blob: StoredBlobParts) => ({
  cursor: big(blob.cursor),
  sender: blob.sender,
  blob: blobOf(blob),
  bodyState: blob.bodyState,
});
const ownOf = ({ cursor, seq, link }: OwnBlobParts) => ({
  cursor: big(cursor),
  seq: big(seq),
  link,
});

/** A list that repeats one of a few values up to 300 times: long, and still quick to make. */
function many<T>(item: fc.Arbitrary<T>): fc.Arbitrary<T[]> {
  return fc.oneof(
    fc.array(item, { maxLength: 5 }),
    fc
      .tuple(fc.array(item, { minLength: 1, maxLength: 3 }), fc.nat(300))
      .map(([some, length]) => Array.from({ length }, (_, i) => some[i % some.length] as T)),
  );
}

function assertSame(hot: Uint8Array, requestId: number, body: EnvelopeBody): void {
  const generic = encodeEnvelope(requestId, body);
  assert.ok(
    Buffer.compare(hot, generic) === 0,
    `${Buffer.from(hot.subarray(0, 64)).toString("hex")} is not ${Buffer.from(generic.subarray(0, 64)).toString("hex")}`,
  );
  assert.equal(Object.getPrototypeOf(hot), Uint8Array.prototype);
}

const runs = { numRuns: 60 };

test("3.2 Push: the hot encoder's bytes are the generic one's", () => {
  fc.assert(
    fc.property(number, many(blobParts), fc.boolean(), (requestId, blobs, resume) => {
      assertSame(encodePush(requestId, blobs, resume), requestId, {
        case: "push",
        value: { blobs: blobs.map(blobOf), resume },
      });
    }),
    runs,
  );
});

test("3.2 PushAck: the hot encoder's bytes are the generic one's", () => {
  fc.assert(
    fc.property(number, many(number), (requestId, cursors) => {
      assertSame(encodePushAck(requestId, cursors), requestId, {
        case: "pushAck",
        value: { cursors: cursors.map(big) },
      });
    }),
    runs,
  );
});

test("3.2 Blobs: the hot encoder's bytes are the generic one's", () => {
  const frame = fc.record({ after: number, through: number, done: fc.boolean(), head: number });
  fc.assert(
    fc.property(number, frame, many(storedBlobParts), (requestId, { done, ...place }, blobs) => {
      const hot = encodeBlobs(requestId, { ...place, done }, blobs.map(encodeStoredBlobField));
      assertSame(hot, requestId, {
        case: "blobs",
        value: {
          after: big(place.after),
          through: big(place.through),
          head: big(place.head),
          done,
          blobs: blobs.map(storedOf),
        },
      });
    }),
    runs,
  );
});

test("3.2 Deliver: the hot encoder's bytes are the generic one's", () => {
  fc.assert(
    fc.property(
      number,
      number,
      many(storedBlobParts),
      many(ownBlobParts),
      (after, through, blobs, own) => {
        const hot = encodeDeliver(after, through, blobs.map(encodeStoredBlobField), own);
        assertSame(hot, 0, {
          case: "deliver",
          value: {
            after: big(after),
            through: big(through),
            blobs: blobs.map(storedOf),
            own: own.map(ownOf),
          },
        });
      },
    ),
    runs,
  );
});

test("3.2 a stored blob's field stands alone as field 3 of Blobs", () => {
  fc.assert(
    fc.property(storedBlobParts, (blob) => {
      const field = encodeStoredBlobField(blob);
      const generic = toBinary(BlobsSchema, create(BlobsSchema, { blobs: [storedOf(blob)] }));
      assert.deepEqual(field, generic);
      assert.equal(fromBinary(BlobsSchema, field).blobs[0]?.blob?.epoch, big(blob.epoch));
    }),
    runs,
  );
});

test("3.2 every edge of a number is encoded as the schema encodes it, in every place", () => {
  const empty = filled(0, 0);
  for (const n of edges) {
    const blob = { blobId: empty, header: empty, signature: empty, epoch: n, body: empty };
    assertSame(encodePush(n, [blob], false), n, { case: "push", value: { blobs: [blobOf(blob)] } });
    assertSame(encodePushAck(n, [n, 0, n]), n, {
      case: "pushAck",
      value: { cursors: [big(n), 0n, big(n)] },
    });
    const own = { cursor: n, seq: n, link: empty };
    assertSame(encodeDeliver(n, n, [], [own]), 0, {
      case: "deliver",
      value: { after: big(n), through: big(n), own: [ownOf(own)] },
    });
  }
});

test("3.2 what all hot encoders fill in, the schema has, and no field more", () => {
  // A field added to one of these messages must be added to its encoder too.
  const fieldsOf = (body: "push" | "pushAck" | "blobs" | "deliver"): string[] =>
    EnvelopeSchema.field[body].message?.fields.map((field) => field.localName) ?? [];
  const blob = EnvelopeSchema.field.push.message?.field["blobs"]?.message;
  const stored = EnvelopeSchema.field.blobs.message?.field["blobs"]?.message;
  const own = EnvelopeSchema.field.deliver.message?.field["own"]?.message;
  assert.deepEqual(fieldsOf("push"), ["blobs", "resume"]);
  assert.deepEqual(fieldsOf("pushAck"), ["cursors"]);
  assert.deepEqual(fieldsOf("blobs"), ["after", "through", "blobs", "done", "head"]);
  assert.deepEqual(fieldsOf("deliver"), ["after", "through", "blobs", "own"]);
  assert.deepEqual(
    blob?.fields.map((field) => field.localName),
    ["blobId", "header", "signature", "epoch", "body"],
  );
  assert.deepEqual(
    stored?.fields.map((field) => field.localName),
    ["cursor", "sender", "blob", "bodyState"],
  );
  assert.deepEqual(
    own?.fields.map((field) => field.localName),
    ["cursor", "seq", "link"],
  );
});
