import assert from "node:assert/strict";
import { test } from "node:test";
import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { BlobHeaderSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { concatBytes, copyBytes, fromBase64url, fromUtf8, toBase64url } from "../../wire/bytes.ts";
import { decodeEnvelopes, sizeDelimited, toNumber } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { parseId } from "../../wire/ids.ts";
import { envelopeBytesMax, partItemsMax, recordItemsMax } from "../../wire/limits.ts";
import { decodePart } from "../../wire/message-shape.ts";
import { openRecord, sealRecord } from "../../wire/records.ts";
import { parseRelayAddress, RelayAddressError } from "../../wire/relay-address.ts";
import { arbitraryMessage } from "./arbitrary.ts";
import { channel, filled, syncError } from "./support.ts";

const limit = envelopeBytesMax(1);
const envelopeInvalid = syncError(ErrorCode.ENVELOPE_INVALID);

/** Runs a decoder; anything but these codes fails the test. */
function only<T>(codes: readonly ErrorCode[], run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof SyncError && codes.includes(error.code)) return undefined;
    throw error;
  }
}

const decodeCodes = [ErrorCode.ENVELOPE_INVALID, ErrorCode.TOO_LARGE];
const envelopes = arbitraryMessage(EnvelopeSchema).map((init) => create(EnvelopeSchema, init));

/** A mutation: at a place, bytes are replaced, inserted or cut out. */
const mutations = fc.array(
  fc.record({
    at: fc.nat(2000),
    cut: fc.nat(4),
    insert: fc.uint8Array({ maxLength: 4 }),
  }),
  { minLength: 1, maxLength: 4 },
);

function mutate(
  bytes: Uint8Array,
  changes: readonly { at: number; cut: number; insert: Uint8Array }[],
): Uint8Array {
  let result = bytes;
  for (const { at, cut, insert } of changes) {
    const place = at % (result.byteLength + 1);
    result = concatBytes(result.subarray(0, place), insert, result.subarray(place + cut));
  }
  return result;
}

/** Protobuf by its grammar, without a schema: what a mutation rarely reaches. */
const fieldTree: fc.Arbitrary<Uint8Array> = fc.letrec<{ field: Uint8Array; fields: Uint8Array }>(
  (tie) => ({
    field: fc
      .tuple(
        fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7),
        fc.oneof(fc.nat(76), fc.nat(2 ** 29)),
        fc.oneof({ maxDepth: 5 }, fc.constant(new Uint8Array(0)), tie("fields")),
        fc.uint8Array({ maxLength: 12 }),
      )
      .map(([wireType, number, inside, raw]) => {
        const tag = varint(number * 8 + wireType);
        return wireType === 2
          ? concatBytes(tag, sizeDelimited(inside.byteLength > 0 ? inside : raw))
          : concatBytes(tag, raw);
      }),
    fields: fc.array(tie("field"), { maxLength: 3 }).map((fields) => concatBytes(...fields)),
  }),
).fields;

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  while (value >= 0x80) {
    bytes.push((value % 128) | 0x80);
    value = Math.floor(value / 128);
  }
  return Uint8Array.of(...bytes, value);
}

test("3.2 whole envelopes come out as they went in, however many stand in a record", () => {
  fc.assert(
    fc.property(fc.array(envelopes, { maxLength: 4 }), (messages) => {
      const plaintext = concatBytes(
        ...messages.map((message) => sizeDelimited(toBinary(EnvelopeSchema, message))),
      );
      const decoded = decodeEnvelopes(plaintext, limit);
      assert.equal(decoded.length, messages.length);
      for (const [i, message] of decoded.entries()) {
        assert.ok(equals(EnvelopeSchema, message, messages[i] as typeof message));
      }
    }),
    { numRuns: 300 },
  );
});

test("3.5 arbitrary bytes give envelopes, ENVELOPE_INVALID or TOO_LARGE", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      only(decodeCodes, () => decodeEnvelopes(bytes, limit));
    }),
    { numRuns: 2000 },
  );
});

test("3.6 fields of any number and wire type, nested, give envelopes or ENVELOPE_INVALID", () => {
  let accepted = 0;
  fc.assert(
    fc.property(fieldTree, (bytes) => {
      const decoded = only(decodeCodes, () => decodeEnvelopes(sizeDelimited(bytes), limit));
      if (decoded === undefined) return;
      accepted += 1;
      // What the walk lets through, the schema's decoder reads the same way without it.
      const plain = fromBinary(EnvelopeSchema, bytes, { readUnknownFields: false });
      assert.ok(equals(EnvelopeSchema, plain, decoded[0] as typeof plain));
    }),
    { numRuns: 2000 },
  );
  assert.ok(accepted > 100);
});

test("3.5 mutated envelopes give envelopes, ENVELOPE_INVALID or TOO_LARGE", () => {
  fc.assert(
    fc.property(envelopes, mutations, (message, changes) => {
      const bytes = sizeDelimited(toBinary(EnvelopeSchema, message));
      only(decodeCodes, () => decodeEnvelopes(mutate(bytes, changes), limit));
    }),
    { numRuns: 1000 },
  );
});

test("2.4 a decoder leaves its input as it was, and results are plain arrays", () => {
  const walk = (value: unknown): void => {
    if (value instanceof Uint8Array) {
      assert.equal(Object.getPrototypeOf(value), Uint8Array.prototype);
    } else if (typeof value === "object" && value !== null) Object.values(value).forEach(walk);
  };
  fc.assert(
    fc.property(envelopes, (message) => {
      const bytes = sizeDelimited(toBinary(EnvelopeSchema, message));
      const before = copyBytes(bytes);
      walk(decodeEnvelopes(bytes, limit));
      assert.deepEqual(bytes, before);
    }),
    { numRuns: 100 },
  );
});

test("3.3 an envelope of the limit passes, one that declares a byte more is TOO_LARGE before it is there", () => {
  const data = (length: number): Uint8Array =>
    concatBytes(Uint8Array.of(0xaa, 0x04), sizeDelimited(filled(0xee, length)));
  // Field 69 is nobody's: unknown bytes count like others.
  const whole = data(1000);
  assert.equal(decodeEnvelopes(sizeDelimited(whole), whole.byteLength).length, 1);
  const tooLarge = syncError(ErrorCode.TOO_LARGE);
  assert.throws(() => decodeEnvelopes(sizeDelimited(whole), whole.byteLength - 1), tooLarge);
  assert.throws(() => decodeEnvelopes(varint(limit + 1), limit), tooLarge);
  assert.throws(() => decodeEnvelopes(varint(limit), limit), envelopeInvalid);
});

test("3.2 the length before an envelope has at most four bytes", () => {
  for (const bytes of [
    [0x80],
    [0xff, 0xff, 0xff],
    [0x80, 0x80, 0x80, 0x80, 0x00],
    [0xff, 0xff, 0xff, 0xff, 0x7f],
    Array<number>(20).fill(0x80),
  ]) {
    assert.throws(() => decodeEnvelopes(Uint8Array.from(bytes), 2 ** 31), envelopeInvalid);
  }
  assert.throws(
    () => decodeEnvelopes(Uint8Array.of(0xff, 0xff, 0xff, 0x7f), limit),
    syncError(ErrorCode.TOO_LARGE),
  );
  // Longer than need be, within four bytes: read like the shortest.
  assert.equal(decodeEnvelopes(Uint8Array.of(0x82, 0x80, 0x00, 0x08, 0x05), 2)[0]?.requestId, 5n);
});

test("3.6 what is unknown is ignored and not kept", () => {
  const unknown = concatBytes(
    Uint8Array.of(0x08, 0x07), // request id 7
    Uint8Array.of(0xf8, 0x07, 0xff, 0xff, 0x03), // field 127, varint
    Uint8Array.of(0xfa, 0x07, 0x02, 0x01, 0x02), // field 127, bytes
    Uint8Array.of(0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8), // field 127, 64 bits
    Uint8Array.of(0xfd, 0x07, 1, 2, 3, 4), // field 127, 32 bits
  );
  const [envelope] = decodeEnvelopes(sizeDelimited(unknown), limit);
  assert.equal(envelope?.requestId, 7n);
  assert.equal(envelope.body.case, undefined);
  assert.equal(envelope.$unknown, undefined);
  const inside = concatBytes(
    Uint8Array.of(0xa2, 0x01),
    sizeDelimited(concatBytes(Uint8Array.of(0x10, 0x01), unknown.subarray(2))),
  );
  const [push] = decodeEnvelopes(sizeDelimited(inside), limit);
  assert.equal(push?.body.case, "push");
  assert.equal(push.body.value.resume, true);
  assert.equal(push.body.value.$unknown, undefined);
});

/** Body fields, and what one of them repeats. */
const bombs: readonly [why: string, body: number, repeated: readonly number[]][] = [
  ["empty blobs of a push", 20, [0x0a, 0x00]],
  ["empty stored blobs", 24, [0x1a, 0x00]],
  ["stored blobs with empty blobs", 24, [0x1a, 0x02, 0x1a, 0x00]],
  ["own blobs", 25, [0x22, 0x00]],
  ["cursors one by one", 21, [0x08, 0x01]],
  ["empty control blobs", 43, [0x12, 0x00]],
  ["empty members", 40, [0x1a, 0x00]],
  ["empty witnesses", 28, [0x0a, 0x02, 0x12, 0x00]],
  ["presences of a welcome", 10, [0x52, 0x02, 0x52, 0x00]],
];

for (const [why, body, repeated] of bombs) {
  test(`3.4 a megabyte of ${why} is refused before it is decoded`, () => {
    const times = Math.floor(1_000_000 / repeated.length);
    const inside = Uint8Array.from(
      { length: times * repeated.length },
      (_, i) => repeated[i % repeated.length] as number,
    );
    const plaintext = sizeDelimited(concatBytes(varint(body * 8 + 2), sizeDelimited(inside)));
    assert.throws(() => decodeEnvelopes(plaintext, limit), envelopeInvalid);
  });
}

test("3.4 what stands in a message as bytes is bounded like the message", () => {
  const wraps = (count: number): Uint8Array =>
    Uint8Array.from({ length: 2 * count }, (_, i) => (i % 2 === 0 ? 0x1a : 0x00));
  const most = decodePart(ControlClearSchema, wraps(partItemsMax - 1));
  assert.equal(most.wraps.length, partItemsMax - 1);
  assert.throws(() => decodePart(ControlClearSchema, wraps(partItemsMax)), envelopeInvalid);
  const deletes = Uint8Array.from({ length: 8192 }, (_, i) => (i % 2 === 0 ? 0x22 : 0x00));
  assert.equal(decodePart(BlobHeaderSchema, deletes).deletes.length, 4096);
});

test("3.2 parts come out as they went in; altered or arbitrary ones are decoded or ENVELOPE_INVALID", () => {
  for (const schema of [BlobHeaderSchema, ControlBlobSchema, ControlClearSchema, HelloSchema]) {
    fc.assert(
      fc.property(arbitraryMessage(schema), mutations, fc.uint8Array(), (init, changes, bytes) => {
        const message = create(schema, init);
        const encoded = toBinary(schema, message);
        assert.ok(equals(schema, decodePart(schema, encoded), message));
        for (const other of [mutate(encoded, changes), bytes]) {
          only([ErrorCode.ENVELOPE_INVALID], () => decodePart(schema, other));
        }
      }),
      { numRuns: 200 },
    );
  }
});

test("3.4 a record of empty envelopes, packed cursors or nested groups is bounded", () => {
  assert.equal(decodeEnvelopes(new Uint8Array(recordItemsMax), limit).length, recordItemsMax);
  assert.throws(() => decodeEnvelopes(new Uint8Array(recordItemsMax + 1), limit), envelopeInvalid);
  const acks = (cursors: number): Uint8Array =>
    sizeDelimited(
      concatBytes(
        varint(21 * 8 + 2),
        sizeDelimited(concatBytes(Uint8Array.of(0x0a), sizeDelimited(filled(1, cursors)))),
      ),
    );
  // The envelope and its body are items too.
  assert.equal(decodeEnvelopes(acks(recordItemsMax - 2), limit).length, 1);
  assert.throws(() => decodeEnvelopes(acks(recordItemsMax - 1), limit), envelopeInvalid);
  const groups = sizeDelimited(filled(0x7b, 1_000_000));
  assert.throws(() => decodeEnvelopes(groups, limit), envelopeInvalid);
});

test("3.2 lengths that lie, and what ends in the middle, are ENVELOPE_INVALID", () => {
  const bad: Record<string, readonly number[]> = {
    "an envelope longer than what is there": [0x05, 0x08, 0x01],
    "a second envelope cut short": [0x02, 0x08, 0x01, 0x02, 0x08],
    "a field that ends behind its envelope": [0x03, 0xa2, 0x01, 0x05],
    "a nested field that ends behind its message": [
      0x09, 0xa2, 0x01, 0x03, 0x0a, 0x05, 0x0a, 0x08, 0x01, 0x01,
    ],
    "a nested field that takes what follows its message": [
      0x09, 0xa2, 0x01, 0x02, 0x0a, 0x04, 0x20, 0x01, 0x20, 0x01,
    ],
    "a length above 2^32": [0x08, 0xa2, 0x01, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x00],
    "a length of six bytes": [0x08, 0xa2, 0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
    "a tag cut short": [0x01, 0xa2],
    "a tag above 2^32": [0x06, 0xfa, 0xff, 0xff, 0xff, 0x7f, 0x00],
    "field number 0": [0x02, 0x00, 0x01],
    "a varint cut short": [0x02, 0x08, 0x80],
    "a varint of eleven bytes": [0x0c, 0x08, ...Array<number>(10).fill(0x80), 0x00],
    "a number where a message belongs": [0x03, 0xa0, 0x01, 0x00],
    "bytes where a number belongs": [0x03, 0x0a, 0x01, 0x00],
    "64 bits cut short": [0x05, 0xf9, 0x07, 1, 2, 3],
    "a group": [0x04, 0xfb, 0x07, 0xfc, 0x07],
    "a wire type that is none": [0x03, 0xfe, 0x07, 0x00],
    "text that is not UTF-8": [0x06, 0x12, 0x04, 0x12, 0x02, 0xff, 0xfe],
  };
  for (const [why, bytes] of Object.entries(bad)) {
    assert.throws(() => decodeEnvelopes(Uint8Array.from(bytes), limit), envelopeInvalid, why);
  }
});

test("3.5 arbitrary and mutated records give their plaintext, RECORD_INVALID or TOO_LARGE", () => {
  const codes = [ErrorCode.RECORD_INVALID, ErrorCode.TOO_LARGE];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(500), (bytes, max) => {
      assert.equal(
        only(codes, () => openRecord(channel().relay, bytes, max)),
        undefined,
      );
    }),
    { numRuns: 100 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1 }), mutations, (plaintext, changes) => {
      const { device, relay } = channel();
      const record = sealRecord(device, plaintext);
      const altered = mutate(record, changes);
      const opened = only(codes, () => openRecord(relay, altered, 1 << 20));
      assert.equal(opened !== undefined, Buffer.compare(altered, record) === 0);
    }),
    { numRuns: 100 },
  );
});

test("1.12 a 64-bit number is read up to 2^53 - 1, above it is ENVELOPE_INVALID", () => {
  assert.equal(toNumber(2n ** 53n - 1n), 2 ** 53 - 1);
  assert.equal(toNumber(0n), 0);
  for (const value of [2n ** 53n, 2n ** 64n - 1n, -1n]) {
    assert.throws(() => toNumber(value), envelopeInvalid);
  }
});

const likeBase64url = fc.string({
  unit: fc.constantFrom(...Array.from("ABCXYZabcxyz0189-_+/= \n")),
  maxLength: 60,
});

test("1.11 base64url has one form for each value, and anything else is no value", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      assert.deepEqual(fromBase64url(toBase64url(bytes)), bytes);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: "binary" }), likeBase64url), (text) => {
      const bytes = fromBase64url(text);
      if (bytes !== undefined) assert.equal(toBase64url(bytes), text);
    }),
    { numRuns: 1000 },
  );
  for (const text of ["A", "AB", "AA==", "A A", "AAAA\n", "AA+A", "AA/A", "é"]) {
    assert.equal(fromBase64url(text), undefined, text);
  }
});

test("1.11 an id is read in its one form and length only", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: "binary", maxLength: 60 }), likeBase64url),
      fc.constantFrom(5, 16, 32),
      (text, length) => {
        const id = parseId(text, length);
        if (id === undefined) return;
        assert.equal(id.byteLength, length);
        assert.equal(toBase64url(id), text);
      },
    ),
    { numRuns: 1000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.constantFrom(5, 16, 32), (bytes, length) => {
      const id = parseId(toBase64url(bytes), length);
      assert.deepEqual(id, bytes.byteLength === length ? bytes : undefined);
    }),
  );
  assert.equal(parseId("A".repeat(50_000_000), 32), undefined);
});

test("2.1 any text is a relay address or a RelayAddressError that repeats none of it", () => {
  const key = toBase64url(filled(7));
  const pieces = fc.constantFrom(
    ..."ws:// wss:// https:// host :8080 / # ? @ [::1] %00 \\ \n é .. : xn-- 0x7f.1 canary".split(
      " ",
    ),
    key,
    " ",
  );
  const texts = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(pieces, { maxLength: 7 }).map((parts) => parts.join("")),
    fc.array(pieces, { maxLength: 4 }).map((parts) => `wss://host${parts.join("")}/#${key}`),
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        const address = parseRelayAddress(text);
        assert.match(address.url, /^wss?:\/\/[^/?#@]+\/v1\/sync$/);
        assert.equal(address.relayKey.byteLength, 32);
        assert.deepEqual(parseRelayAddress(address.text), address);
        assert.ok(!address.url.includes(key));
      } catch (error) {
        if (!(error instanceof RelayAddressError)) throw error;
        assert.ok(!error.message.includes("canary") && !error.message.includes(key));
      }
    }),
    { numRuns: 2000 },
  );
});

test("1.11 UTF-8 is read as it stands or not at all", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.string().map((s) => Buffer.from(s)),
      ),
      (bytes) => {
        const text = fromUtf8(bytes);
        if (text !== undefined) {
          assert.ok(Buffer.compare(new TextEncoder().encode(text), bytes) === 0);
        }
      },
    ),
    { numRuns: 1000 },
  );
  assert.equal(fromUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x41)), "\u{feff}A");
  assert.equal(fromUtf8(Uint8Array.of(0xed, 0xa0, 0x80)), undefined);
});
