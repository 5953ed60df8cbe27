import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  decodeEntry,
  decodeHeader,
  openBody,
  prepareBlob,
  rechainBlob,
  sealBlob,
  sealedBytes,
  sealedBytesOf,
  verifyLink,
} from "../../client/seal/index.ts";
import { pad, padmeBytes, unpad } from "../../client/seal/padding.ts";
import { aeadSeal } from "../../client/seal/primitives.ts";
import {
  Compression,
  EntrySchema,
  PaddedSchema,
  SenderLinkSchema,
} from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import { BlobHeaderSchema, BlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, emptyBytes, u64be, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { blobLink, zeroLink } from "../../wire/ids.ts";
import { device, fails, flipped, seeded } from "./support.ts";

const random = seeded("blob");
const groupId = random(32);
const bodyKey = random(32);
const keys = device("a");
const sender = keys.deviceId;
const first = { groupId, keys, previous: { seq: 0, link: zeroLink }, witnessed: [] };
const at = { groupId, sender, epoch: 7, bodyKey };

function blobOf(own: Parameters<typeof sealBlob>[0], epoch = 7) {
  const parts = sealBlob(own, { ...at, epoch, random });
  return create(BlobSchema, { ...parts, epoch: BigInt(parts.epoch) });
}

describe("SECURITY A blob: making", () => {
  test("the link covers group, sender, blob id and header, and the signature covers the link", () => {
    const own = prepareBlob({ data: utf8("x") }, { ...first, random });
    assert.deepEqual(own.link, blobLink(groupId, sender, own.blobId, own.header));
    assert.ok(verifyLink(keys.signingKey, own.link, own.signature));
    assert.ok(!verifyLink(keys.signingKey, flipped(own.link), own.signature));
    assert.ok(!verifyLink(device("b").signingKey, own.link, own.signature));
  });

  test("the header names seq, previous link and the entry's hash", () => {
    const one = prepareBlob({ data: utf8("x") }, { ...first, random });
    const two = prepareBlob({ data: utf8("y"), ttlS: 60 }, { ...first, previous: one, random });
    const header = decodeHeader(two.header);
    assert.equal(header.seq, 2);
    assert.deepEqual(header.previousLink, one.link);
    assert.deepEqual(header.entryHash, blake2b256(two.entry));
    assert.equal(header.ttlS, 60);
    assert.deepEqual(decodeHeader(one.header).previousLink, zeroLink);
  });

  test("equal content makes other hashes, links and ids", () => {
    const one = prepareBlob({ data: utf8("x") }, { ...first, random });
    const two = prepareBlob({ data: utf8("x") }, { ...first, random });
    assert.notDeepEqual(one.blobId, two.blobId);
    assert.notDeepEqual(decodeHeader(one.header).entryHash, decodeHeader(two.header).entryHash);
  });

  test("what an app may not ask is refused at once", () => {
    const deletes = Array.from({ length: 257 }, () => random(16));
    for (const input of [
      { data: emptyBytes, contentType: "é".repeat(65) },
      { data: emptyBytes, deletes },
      { data: emptyBytes, deletes: [random(15)] },
      { data: emptyBytes, ttlS: -1 },
      { data: emptyBytes, ttlS: 0.5 },
    ]) {
      assert.throws(() => prepareBlob(input, { ...first, random }), RangeError);
    }
    const most = { data: emptyBytes, contentType: "é".repeat(64), deletes: deletes.slice(1) };
    assert.equal(decodeHeader(prepareBlob(most, { ...first, random }).header).deletes.length, 256);
    const place = create(SenderLinkSchema, { deviceId: sender, seq: 1n, link: zeroLink });
    assert.throws(
      () =>
        prepareBlob(
          { data: emptyBytes },
          { ...first, witnessed: Array.from({ length: 257 }, () => place), random },
        ),
      RangeError,
    );
  });

  test("resealing changes body and epoch, and nothing that was signed", () => {
    const own = prepareBlob({ data: utf8("x") }, { ...first, random });
    const one = sealBlob(own, { ...at, epoch: 1, random });
    const two = sealBlob(own, { ...at, epoch: 2, random });
    assert.notDeepEqual(one.body, two.body);
    assert.deepEqual(
      [one.blobId, one.header, one.signature],
      [two.blobId, two.header, two.signature],
    );
  });

  test("at another place seq, link, witness and signature are new; id and content stay", () => {
    const place = create(SenderLinkSchema, { deviceId: sender, seq: 4n, link: random(32) });
    const own = prepareBlob(
      { data: utf8("x"), contentType: "t", ttlS: 5, deletes: [random(16)], force: true },
      { ...first, witnessed: [place], random },
    );
    const previous = { seq: 9, link: random(32) };
    const moved = rechainBlob(own, { ...first, previous });
    const header = decodeHeader(moved.header);
    assert.equal(moved.seq, 10);
    assert.deepEqual(header.previousLink, previous.link);
    assert.deepEqual(moved.blobId, own.blobId);
    assert.ok(verifyLink(keys.signingKey, moved.link, moved.signature));
    const { data, contentType, witnessed } = decodeEntry(moved.entry);
    assert.deepEqual([data, contentType, witnessed], [utf8("x"), "t", []]);
    const before = decodeHeader(own.header);
    assert.deepEqual(
      [header.ttlS, header.deletes, header.force],
      [before.ttlS, before.deletes, before.force],
    );
    assert.equal(blobOf(moved).header, moved.header);
  });
});

describe("SECURITY A blob: opening", () => {
  test("gives back whatever was sealed", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 5000 }),
        fc.string({ unit: "binary", maxLength: 30 }),
        fc.nat({ max: 1e6 }),
        (data, contentType, epoch) => {
          const own = prepareBlob({ data, contentType }, { ...first, random });
          const blob = blobOf(own, epoch + 1);
          const entry = openBody(blob, decodeHeader(blob.header), at);
          assert.deepEqual([entry.data, entry.contentType], [data, contentType]);
        },
      ),
      { numRuns: 50 },
    );
  });

  const own = prepareBlob({ data: utf8("content") }, { ...first, random });
  const header = decodeHeader(own.header);

  test("fails where group, sender, blob id, epoch, header or key is another", () => {
    const blob = blobOf(own);
    assert.deepEqual(openBody(blob, header, at).data, utf8("content"));
    for (const run of [
      () => openBody(blob, header, { ...at, groupId: flipped(groupId) }),
      () => openBody(blob, header, { ...at, sender: flipped(sender) }),
      () => openBody(blob, header, { ...at, bodyKey: flipped(bodyKey) }),
      () => openBody({ ...blob, blobId: flipped(blob.blobId) }, header, at),
      () => openBody({ ...blob, epoch: 8n }, header, at),
      () => openBody({ ...blob, epoch: 7n + 2n ** 32n }, header, at),
      () => openBody({ ...blob, epoch: 2n ** 60n }, header, at),
      () => openBody({ ...blob, header: flipped(blob.header, 40) }, header, at),
    ]) {
      fails(ErrorCode.OPEN_FAILED, run);
    }
  });

  test("fails for every byte of the body altered, and for a body of another length", () => {
    const blob = blobOf(own);
    for (let i = 0; i < blob.body.byteLength; i++) {
      fails(ErrorCode.OPEN_FAILED, () =>
        openBody({ ...blob, body: flipped(blob.body, i) }, header, at),
      );
    }
    for (const length of [0, 1, 24, 40, 41, blob.body.byteLength - 1]) {
      fails(ErrorCode.OPEN_FAILED, () =>
        openBody({ ...blob, body: blob.body.subarray(0, length) }, header, at),
      );
    }
    fails(ErrorCode.OPEN_FAILED, () =>
      openBody({ ...blob, blobId: concatBytes(blob.blobId, emptyBytes, random(9000)) }, header, at),
    );
  });

  /** A body made by a member that does as it likes: sealed well, whatever is in it. */
  function bodyOf(plaintext: Uint8Array) {
    const context = concatBytes(groupId, sender, own.blobId, u64be(7), own.header);
    const body = aeadSeal(bodyKey, random(24), context, plaintext);
    return create(BlobSchema, { blobId: own.blobId, header: own.header, epoch: 7n, body });
  }
  const padded = (content: Uint8Array, compression = Compression.UNSPECIFIED) =>
    pad(toBinary(PaddedSchema, create(PaddedSchema, { content, compression })));

  test("names an entry that is not the one the header fixes", () => {
    const other = prepareBlob({ data: utf8("other") }, { ...first, random });
    assert.deepEqual(openBody(bodyOf(padded(own.entry)), header, at).data, utf8("content"));
    fails(ErrorCode.HISTORY_ALTERED, () => openBody(bodyOf(padded(other.entry)), header, at));
  });

  test("refuses compression, which no sender uses", () => {
    const { DEFLATE } = Compression;
    fails(ErrorCode.OPEN_FAILED, () => openBody(bodyOf(padded(own.entry, DEFLATE)), header, at));
  });

  test("refuses padding that is not zeros, and a length beyond the end", () => {
    const plaintext = padded(own.entry);
    const last = plaintext.byteLength - 1;
    fails(ErrorCode.OPEN_FAILED, () => openBody(bodyOf(flipped(plaintext, last)), header, at));
    const long = new Uint8Array(plaintext);
    long.set([0xff, 0xff, 0x7f]);
    fails(ErrorCode.OPEN_FAILED, () => openBody(bodyOf(long), header, at));
    fails(ErrorCode.OPEN_FAILED, () => openBody(bodyOf(new Uint8Array(1).fill(255)), header, at));
  });

  test("refuses an entry beyond its bounds though its hash is the header's", () => {
    const place = { deviceId: sender, seq: 1n, link: zeroLink };
    const bad = [
      { random: random(15) },
      { random: random(16), contentType: "x".repeat(129) },
      { random: random(16), witnessed: Array.from({ length: 257 }, () => place) },
      { random: random(16), witnessed: [{ ...place, seq: 0n }] },
      { random: random(16), witnessed: [{ ...place, seq: 2n ** 53n }] },
      { random: random(16), witnessed: [{ ...place, link: random(31) }] },
      { random: random(16), witnessed: [{ ...place, deviceId: random(33) }] },
    ];
    for (const init of bad) {
      const bytes = toBinary(EntrySchema, create(EntrySchema, init));
      const fixed = { ...header, entryHash: blake2b256(bytes) };
      fails(ErrorCode.OPEN_FAILED, () => openBody(bodyOf(padded(bytes)), fixed, at));
    }
    const most = create(EntrySchema, {
      random: random(16),
      contentType: "x".repeat(128),
      witnessed: Array.from({ length: 256 }, () => place),
    });
    assert.equal(decodeEntry(toBinary(EntrySchema, most)).witnessed.length, 256);
  });
});

describe("SECURITY A blob: headers", () => {
  const good = {
    seq: 5n,
    previousLink: random(32),
    ttlS: 9n,
    deletes: [random(16)],
    force: true,
    entryHash: random(32),
    abandonedLink: random(32),
  };
  const encode = (change: object) =>
    toBinary(BlobHeaderSchema, create(BlobHeaderSchema, { ...good, ...change }));

  test("within bounds are read", () => {
    const header = decodeHeader(encode({}));
    assert.equal(header.seq, 5);
    assert.deepEqual(header.abandonedLink, good.abandonedLink);
    assert.equal(decodeHeader(encode({ abandonedLink: emptyBytes })).abandonedLink, undefined);
    assert.equal(decodeHeader(encode({ seq: 2n ** 53n - 1n })).seq, 2 ** 53 - 1);
  });

  test("beyond a bound are refused, each for that alone", () => {
    for (const change of [
      { seq: 0n },
      { seq: 2n ** 53n },
      { seq: 2n ** 64n - 1n },
      { seq: 1n },
      { previousLink: zeroLink },
      { previousLink: random(31) },
      { previousLink: random(33) },
      { ttlS: 2n ** 53n },
      { entryHash: random(31) },
      { entryHash: emptyBytes },
      { abandonedLink: random(1) },
      { deletes: [random(15)] },
      { deletes: Array.from({ length: 257 }, () => random(16)) },
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, () => decodeHeader(encode(change)));
    }
    fails(ErrorCode.HISTORY_ALTERED, () => decodeHeader(emptyBytes));
    // A header within every other bound, too long by an unknown field.
    const long = concatBytes(encode({}), new Uint8Array([0x7a, 0x80, 0x40]), new Uint8Array(8192));
    fails(ErrorCode.HISTORY_ALTERED, () => decodeHeader(long));
  });

  test("pass over unknown fields, and refuse groups and wrong wire types", () => {
    const unknown = concatBytes(
      encode({}),
      new Uint8Array([0x78, 1, 0x7a, 1, 9, 0x7d, 1, 2, 3, 4]),
    );
    assert.equal(decodeHeader(unknown).seq, 5);
    const fixed64 = concatBytes(encode({}), new Uint8Array([0x79]), new Uint8Array(8));
    assert.equal(decodeHeader(fixed64).seq, 5);
    for (const tail of [
      [0x7b, 0x7c],
      [0x0a, 1, 1],
      [0x10, 1],
      [0x00, 1],
      [0x7d, 1],
      [0x79, 1],
      [0x08],
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, () =>
        decodeHeader(concatBytes(encode({}), new Uint8Array(tail))),
      );
    }
  });

  test("bytes are taken as bytes alone, and whole", () => {
    // The previous link's tag as a number's, with the length and bytes behind it.
    const number = concatBytes(encode({}), new Uint8Array([0x10, 32]), random(32));
    fails(ErrorCode.HISTORY_ALTERED, () => decodeHeader(number));
    const bytes = concatBytes(encode({}), new Uint8Array([0x12, 32]), random(32));
    assert.equal(decodeHeader(bytes).seq, 5);
    const entry = concatBytes(new Uint8Array([0x1a, 16]), random(16), new Uint8Array([0x0a, 2, 1]));
    fails(ErrorCode.OPEN_FAILED, () => decodeEntry(entry));
    assert.equal(decodeEntry(concatBytes(entry, random(1))).data.byteLength, 2);
  });

  test("and entries are decoded as the generic decoder does", () => {
    const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
    const seq = fc.bigInt({ min: 2n, max: 2n ** 53n - 1n });
    fc.assert(
      fc.property(
        fc.record({
          seq,
          previousLink: bytes(32).map((link) =>
            link.every((b) => b === 0) ? flipped(link) : link,
          ),
          ttlS: fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }),
          deletes: fc.array(bytes(16), { maxLength: 4 }),
          force: fc.boolean(),
          entryHash: bytes(32),
        }),
        fc.record({
          data: fc.uint8Array(),
          contentType: fc.string({ unit: "binary", maxLength: 20 }),
          random: bytes(16),
          witnessed: fc.array(fc.record({ deviceId: bytes(32), seq, link: bytes(32) }), {
            maxLength: 3,
          }),
        }),
        (header, entry) => {
          const encoded = toBinary(BlobHeaderSchema, create(BlobHeaderSchema, header));
          const generic = fromBinary(BlobHeaderSchema, encoded);
          const own = decodeHeader(encoded);
          assert.deepEqual(
            [BigInt(own.seq), own.previousLink, BigInt(own.ttlS), own.deletes, own.force],
            [generic.seq, generic.previousLink, generic.ttlS, generic.deletes, generic.force],
          );
          assert.deepEqual(own.entryHash, generic.entryHash);
          const entryBytes = toBinary(EntrySchema, create(EntrySchema, entry));
          const ownEntry = decodeEntry(entryBytes);
          const genericEntry = fromBinary(EntrySchema, entryBytes);
          assert.deepEqual({ ...ownEntry }, { ...genericEntry });
        },
      ),
    );
  });
});

describe("SECURITY A blob: sizes", () => {
  test("PADMÉ: the floor, and the published rule above it", () => {
    for (const length of [0, 1, 255, 256]) assert.equal(padmeBytes(length), 256);
    // E = floor(log2 L), S = floor(log2 E) + 1, the last E - S bits are zero.
    for (const [length, padded] of [
      [257, 272],
      [272, 272],
      [273, 288],
      [511, 512],
      [512, 512],
      [513, 544],
      [1000, 1024],
      [1025, 1088],
      [65_537, 67_584],
      [1_048_577, 1_081_344],
    ] as const) {
      assert.equal(padmeBytes(length), padded, String(length));
    }
  });

  test("PADMÉ never shrinks, never adds more than 12%, and keeps order", () => {
    fc.assert(
      fc.property(fc.integer({ min: 257, max: 2 ** 27 }), (length) => {
        const padded = padmeBytes(length);
        assert.ok(padded >= length && padded <= length * 1.12);
        assert.equal(padmeBytes(padded), padded);
        assert.ok(padmeBytes(length + 1) >= padded);
      }),
    );
  });

  test("padding and back gives the content, whatever it ends with", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1000 }), (content) => {
        assert.deepEqual(unpad(pad(content)), content);
      }),
    );
    assert.deepEqual(unpad(pad(new Uint8Array(300))), new Uint8Array(300));
  });

  test("a small change takes the same as an empty one", () => {
    const size = (text: string) =>
      sealedBytes(prepareBlob({ data: utf8(text) }, { ...first, random }));
    assert.equal(size(""), size("x".repeat(200)));
    assert.notEqual(size(""), size("x".repeat(256)));
  });

  test("what a blob will take is known exactly before it is sealed, and bounded before it is made", () => {
    fc.assert(
      fc.property(
        fc.nat({ max: 20_000 }),
        fc.nat({ max: 4 }),
        fc.nat({ max: 4 }),
        fc.boolean(),
        (length, deletes, witnessed, ttl) => {
          const place = create(SenderLinkSchema, {
            deviceId: sender,
            seq: 2n ** 53n - 1n,
            link: random(32),
          });
          const own = prepareBlob(
            {
              data: new Uint8Array(length),
              contentType: "text/plain",
              deletes: Array.from({ length: deletes }, () => random(16)),
              ttlS: ttl ? 2 ** 53 - 1 : 0,
            },
            { ...first, witnessed: Array.from({ length: witnessed }, () => place), random },
          );
          const { header, signature, body } = sealBlob(own, { ...at, random });
          const bytes = header.byteLength + signature.byteLength + body.byteLength;
          assert.equal(sealedBytes(own), bytes);
          const bound = sealedBytesOf(length, { contentTypeBytes: 10, deletes, witnessed });
          assert.ok(bytes <= bound && bound <= bytes * 1.25 + 200, `${bytes} ${bound}`);
        },
      ),
      { numRuns: 60 },
    );
  });
});
