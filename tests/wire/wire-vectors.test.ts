import assert from "node:assert/strict";
import { test } from "node:test";
import { equals, fromJson } from "@bufbuild/protobuf";
import { blake2b } from "@noble/hashes/blake2.js";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { ErrorSchema } from "../../gen/syncrelay/sync/v1/error_pb.ts";
import { concatBytes, fromHex, toHex, utf8 } from "../../wire/bytes.ts";
import { keyPairOf } from "../../wire/channel.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { blobLink, fingerprint } from "../../wire/ids.ts";
import { envelopeBytesMax } from "../../wire/limits.ts";
import { prologue } from "../../wire/protocol.ts";
import { openRecord, sealRecord } from "../../wire/records.ts";
import { parseRelayAddress, RelayAddressError } from "../../wire/relay-address.ts";
import { ReferenceHandshake } from "./noise-reference.ts";
import { filled, readVectors, syncError } from "./support.ts";
import { envelopeFromJson, recordPlaintext, runSession, type WireVectors } from "./wire-vectors.ts";

const vectors = readVectors<WireVectors>("wire.json");
const { session } = vectors;
const plenty = 1 << 20;
const limit = envelopeBytesMax(1);

test("2.4 a session with fixed keys has these bytes: three handshake messages, one record", () => {
  const { device, relay, messages } = runSession(session);
  assert.equal(session.prologue, toHex(prologue));
  assert.deepEqual(messages, session.messages);
  assert.equal(toHex(device.handshakeHash), session.handshake_hash);
  assert.equal(toHex(relay.handshakeHash), session.handshake_hash);
  assert.equal(toHex(relay.remoteKey), session.device_id);
  assert.equal(toHex(device.remoteKey), session.relay_key);
  assert.equal(toHex(keyPairOf(fromHex(session.device_static)).publicKey), session.device_id);

  const plaintext = recordPlaintext(session);
  assert.equal(toHex(plaintext), session.record_plaintext);
  assert.equal(toHex(sealRecord(device, plaintext)), session.record);
  assert.deepEqual(openRecord(relay, fromHex(session.record), plenty), plaintext);
  const decoded = decodeEnvelopes(plaintext, limit);
  assert.deepEqual(
    decoded.map((envelope) => envelope.body.case),
    ["push", "pull"],
  );
});

test("2.4 another implementation of Noise has the same bytes for the session", () => {
  const device = new ReferenceHandshake(
    true,
    fromHex(session.prologue),
    fromHex(session.device_static),
    fromHex(session.device_ephemeral),
  );
  const relay = new ReferenceHandshake(
    false,
    fromHex(session.prologue),
    fromHex(session.relay_static),
    fromHex(session.relay_ephemeral),
  );
  for (const [i, { payload, message }] of session.messages.entries()) {
    const [writer, reader] = i === 1 ? [relay, device] : [device, relay];
    assert.equal(toHex(writer.write(fromHex(payload))), message);
    assert.equal(toHex(reader.read(fromHex(message))), payload);
  }
  assert.equal(toHex(device.hash), session.handshake_hash);
  const { send } = device.split();
  assert.equal(
    toHex(send.encrypt(filled(0, 0), fromHex(session.record_plaintext))),
    session.record,
  );
});

for (const vector of vectors.record_sizes) {
  test(`3.3 a plaintext of ${vector.plaintext_bytes} bytes makes a record of ${vector.record_bytes}`, () => {
    const { device, relay } = runSession(session);
    const plaintext = filled(vector.byte, vector.plaintext_bytes);
    const record = sealRecord(device, plaintext);
    assert.equal(record.byteLength, vector.record_bytes);
    assert.equal(toHex(blake2b256(record)), vector.record_hash);
    assert.deepEqual(openRecord(relay, record, plenty), plaintext);
  });
}

test("3.2 there is a vector of every body of the schema, and of every detail of an error", () => {
  const seen = new Set<string>();
  for (const { envelope } of vectors.envelopes) {
    const { body } = fromJson(EnvelopeSchema, envelope);
    if (body.case !== undefined) seen.add(body.case);
    if (body.case === "error" && body.value.detail.case !== undefined) {
      seen.add(body.value.detail.case);
    }
  }
  const named = [EnvelopeSchema, ErrorSchema].flatMap((schema) =>
    schema.oneofs.flatMap((oneof) => oneof.fields.map((field) => field.localName)),
  );
  assert.deepEqual([...seen].toSorted(), named.toSorted());
});

for (const { envelope, bytes } of vectors.envelopes) {
  const body = fromJson(EnvelopeSchema, envelope).body.case ?? "nothing";
  test(`3.2 an envelope that says ${body} has these bytes: ${bytes.slice(0, 16)}`, () => {
    assert.equal(toHex(envelopeFromJson(envelope)), bytes);
    const decoded = decodeEnvelopes(fromHex(bytes), limit);
    assert.equal(decoded.length, 1);
    const [message] = decoded;
    assert.ok(message);
    assert.ok(equals(EnvelopeSchema, message, fromJson(EnvelopeSchema, envelope)));
  });
}

for (const { why, plaintext, envelopes } of vectors.accepted_plaintexts) {
  test(`2.4 read: ${why}`, () => {
    const decoded = decodeEnvelopes(fromHex(plaintext), limit);
    assert.equal(decoded.length, envelopes.length);
    for (const [i, message] of decoded.entries()) {
      assert.ok(equals(EnvelopeSchema, message, fromJson(EnvelopeSchema, envelopes[i] ?? {})));
    }
  });
}

for (const vector of vectors.refused_plaintexts) {
  test(`3.5 refused with ${vector.code}: ${vector.why}`, () => {
    assert.throws(
      () => decodeEnvelopes(fromHex(vector.plaintext), vector.envelope_bytes_max),
      syncError(vector.code),
    );
  });
}

for (const vector of vectors.refused_records) {
  test(`3.5 a record refused with ${vector.code}: ${vector.why}`, () => {
    const { relay } = runSession(session);
    assert.throws(() => openRecord(relay, fromHex(vector.record), plenty), syncError(vector.code));
  });
}

test("12.19 a fingerprint is the first 10 bytes of a labelled hash, in five groups of four digits", () => {
  for (const { key, fingerprint: expected } of vectors.fingerprints) {
    assert.equal(fingerprint(fromHex(key)), expected);
    assert.match(expected, /^[0-9a-f]{4}( [0-9a-f]{4}){4}$/);
    const hash = blake2b(concatBytes(utf8("syncrelay/1 fingerprint"), fromHex(key)), { dkLen: 32 });
    assert.equal(expected.replaceAll(" ", ""), toHex(hash.subarray(0, 10)));
  }
});

test("12.4 a link is the hash of label, group, sender, blob id and header, and of each of them", () => {
  for (const vector of vectors.links) {
    const parts = [vector.group_id, vector.sender, vector.blob_id, vector.header].map(fromHex);
    const [group, sender, blobId, header] = parts as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    const link = blobLink(group, sender, blobId, header);
    assert.equal(toHex(link), vector.link);
    const whole = concatBytes(utf8("syncrelay/1 link"), ...parts);
    assert.deepEqual(new Uint8Array(blake2b(whole, { dkLen: 32 })), link);
    assert.equal(Object.getPrototypeOf(link), Uint8Array.prototype);
    for (const part of parts) {
      part[0] = (part[0] as number) ^ 1;
      assert.notDeepEqual(blobLink(group, sender, blobId, header), link);
      part[0] ^= 1;
    }
  }
});

for (const vector of vectors.addresses) {
  const title = JSON.stringify(vector.text);
  test(`2.1 the relay address ${title} is ${vector.url === undefined ? "refused" : "read"}`, () => {
    if (vector.url === undefined) {
      assert.throws(() => parseRelayAddress(vector.text), RelayAddressError);
      return;
    }
    const address = parseRelayAddress(vector.text);
    assert.equal(address.url, vector.url);
    assert.equal(toHex(address.relayKey), vector.relay_key);
    assert.equal(address.text, vector.canonical);
    assert.deepEqual(parseRelayAddress(address.text), address);
  });
}
