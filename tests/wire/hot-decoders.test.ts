import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type Envelope, EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import {
  BlobsSchema,
  DeliverSchema,
  PushAckSchema,
  PushSchema,
} from "../../gen/syncrelay/sync/v1/log_pb.ts";
import type { EnvelopeBody } from "../../wire/envelope.ts";
import { decodeHotEnvelope } from "../../wire/hot-decoders.ts";
import { encodePush, encodePushAck } from "../../wire/hot-encoders.ts";
import { decoding, ItemCounter } from "../../wire/message-shape.ts";
import { arbitraryMessage } from "./arbitrary.ts";
import { filled } from "./support.ts";

const itemsMax = 1_000_000;

/** What the generic road makes of an envelope, and how many items it counts; undefined where it refuses. */
function generic(bytes: Uint8Array): { envelope: Envelope; items: number } | undefined {
  const counter = new ItemCounter(itemsMax);
  try {
    counter.count(EnvelopeSchema, bytes);
    const envelope = fromBinary(EnvelopeSchema, bytes, decoding);
    return { envelope, items: itemsMax - counter.left };
  } catch {
    return undefined;
  }
}

function hot(bytes: Uint8Array): { envelope: Envelope; items: number } | undefined {
  const counter = new ItemCounter(itemsMax);
  const envelope = decodeHotEnvelope(bytes, counter);
  return envelope === undefined ? undefined : { envelope, items: itemsMax - counter.left };
}

/** Field by field: which of them are own properties, and of what prototype, is the library's affair. */
function plain({ envelope, items }: { envelope: Envelope; items: number }) {
  return { bytes: toBinary(EnvelopeSchema, envelope), body: envelope.body.case, items };
}

const bodies = {
  push: PushSchema,
  pushAck: PushAckSchema,
  blobs: BlobsSchema,
  deliver: DeliverSchema,
};

for (const [name, schema] of Object.entries(bodies) as [keyof typeof bodies, DescMessage][]) {
  const encoded = fc
    .tuple(fc.bigInt({ min: 0n, max: 2n ** 40n }), arbitraryMessage(schema))
    .map(([requestId, value]) =>
      toBinary(
        EnvelopeSchema,
        create(EnvelopeSchema, { requestId, body: { case: name, value } as EnvelopeBody }),
      ),
    );

  test(`3.2 ${name}: the hot decoder reads what the generic one reads, or leaves it`, () => {
    let read = 0;
    fc.assert(
      fc.property(encoded, (bytes) => {
        const own = hot(bytes);
        if (own === undefined) return;
        read += 1;
        const other = generic(bytes);
        assert.ok(other !== undefined);
        assert.deepEqual(plain(own), plain(other));
      }),
      { numRuns: 300 },
    );
    assert.ok(read > 5, `only ${read} messages were in the usual form`);
  });

  test(`3.2 ${name}: altered bytes mean the same to both, or are left`, () => {
    const altered = fc
      .tuple(encoded, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }))
      .map(([bytes, changes]) => {
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(altered, fc.uint8Array({ maxLength: 60 })), (bytes) => {
        const own = hot(bytes);
        if (own === undefined) return;
        const other = generic(bytes);
        assert.ok(other !== undefined, "the generic decoder refuses it");
        assert.deepEqual(plain(own), plain(other));
      }),
      { numRuns: 2_000 },
    );
  });
}

test("3.2 what our encoders make is read by hand", () => {
  const blob = {
    blobId: filled(1, 16),
    header: filled(2, 90),
    signature: filled(3, 64),
    epoch: 3,
    body: filled(4, 300),
  };
  for (const encoded of [encodePush(7, [blob, blob], true), encodePushAck(9, [1, 300, 2 ** 40])]) {
    const prefix = encoded.length > 129 ? 2 : 1;
    assert.ok(hot(encoded.subarray(prefix)) !== undefined);
  }
});

test("1.12 a number above 2^53 - 1 is left to the generic decoder", () => {
  const bytes = toBinary(
    EnvelopeSchema,
    create(EnvelopeSchema, { body: { case: "pushAck", value: { cursors: [2n ** 60n] } } }),
  );
  assert.equal(hot(bytes), undefined);
});

test("3.4 more items than a record may hold are left before anything is made of them", () => {
  const many = encodePush(
    1,
    Array.from({ length: 1_000 }, () => ({
      blobId: filled(0, 0),
      header: filled(0, 0),
      signature: filled(0, 0),
      epoch: 0,
      body: filled(0, 0),
    })),
    false,
  );
  const counter = new ItemCounter(500);
  assert.equal(decodeHotEnvelope(many.subarray(2), counter), undefined);
  assert.equal(counter.left, 500);
  const roomy = new ItemCounter(1_002);
  assert.ok(decodeHotEnvelope(many.subarray(2), roomy) !== undefined);
  assert.equal(roomy.left, 0);
});
