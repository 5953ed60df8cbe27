/** What either end reads before it knows who speaks: envelopes, records' plaintexts, addresses. */
import assert from "node:assert/strict";
import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { BlobHeaderSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { readHello } from "../../server/requests.ts";
import { decodeHeader } from "../../wire/blob-header.ts";
import { concatBytes, fromBase64url, toBase64url, utf8 } from "../../wire/bytes.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { ErrorCode, errorOfMessage } from "../../wire/errors.ts";
import { decodeHotEnvelope } from "../../wire/hot-decoders.ts";
import { recordItemsMax } from "../../wire/limits.ts";
import { decoding, ItemCounter } from "../../wire/message-shape.ts";
import {
  formatRelayAddress,
  parseRelayAddress,
  RelayAddressError,
} from "../../wire/relay-address.ts";
import { bytes, ChainDevice, groupId } from "../support/devices.ts";
import type { Target } from "./engine.ts";
import { requestEnvelopes, vectorEnvelopes } from "./valid.ts";

const envelopeBytesMax = 65_536;
const requests: readonly Uint8Array[] = [...vectorEnvelopes(), ...requestEnvelopes()];
/** Without the length in front. */
const bare = requests.map((one) => one.subarray(one.byteLength < 130 ? 1 : 2));
const device = new ChainDevice(1);

const envelopes: Target = {
  name: "envelopes",
  weight: 60,
  seeds: () => [...requests, concatBytes(...requests.slice(0, 6))],
  run: (input) => {
    const read = decodeEnvelopes(input, envelopeBytesMax);
    for (const { body } of read) {
      if (body.case === "error") errorOfMessage(body.value);
    }
    return `${read[0]?.body.case ?? "nothing"}${read.length > 1 ? " and more" : ""}`;
  },
};

/** What a hand decoder takes is what the generic one makes of it, counted as it counts. */
const hot: Target = {
  name: "hot-decoders",
  weight: 60,
  seeds: () => bare,
  run: (input) => {
    const items = new ItemCounter(recordItemsMax);
    const read = decodeHotEnvelope(input, items);
    if (read === undefined) return "left";
    const walked = new ItemCounter(recordItemsMax);
    walked.count(EnvelopeSchema, input);
    assert(equals(EnvelopeSchema, read, fromBinary(EnvelopeSchema, input, decoding)));
    assert.equal(items.left, walked.left);
    return read.body.case ?? "nothing";
  },
};

const headers: Target = {
  name: "blob-headers",
  weight: 40,
  seeds: () => [
    device.next().blob.header as Uint8Array,
    device.next({ ttlS: 9, deletes: [bytes(16, 1), bytes(16, 2)], force: true }).blob
      .header as Uint8Array,
  ],
  run: (input) => {
    const header = decodeHeader(input, ErrorCode.ENVELOPE_INVALID);
    const generic = fromBinary(BlobHeaderSchema, input, decoding);
    assert.equal(generic.seq, BigInt(header.seq));
    assert.deepEqual(generic.previousLink, header.previousLink);
    assert.deepEqual(generic.entryHash, header.entryHash);
    assert.deepEqual(generic.deletes, header.deletes);
    return header.deletes.length > 0 ? "deletes" : "plain";
  },
};

const hello: Target = {
  name: "hello",
  weight: 15,
  seeds: () =>
    [
      { versions: { min: 1, max: 1 }, groupId, client: "a device" },
      {
        versions: { min: 1, max: 3 },
        groupId,
        read: { logId: bytes(16, 1), cursor: 9n, link: bytes(32, 2) },
        groupInvite: bytes(16, 3),
      },
    ].map((init) => toBinary(HelloSchema, create(HelloSchema, init))),
  run: (input) => {
    const { groupId: group, read } = readHello(input);
    return `${group === undefined ? "lobby" : "member"}${read === undefined ? "" : " read"}`;
  },
};

const address: Target = {
  name: "relay-addresses",
  weight: 6,
  seeds: () =>
    ["wss://sync.example.com/", "ws://127.0.0.1:8080", "ws://[::1]:80/"].map((origin) =>
      utf8(formatRelayAddress(origin, bytes(32, 5))),
    ),
  run: (input) => {
    const text = new TextDecoder().decode(input);
    try {
      const read = parseRelayAddress(text);
      assert.equal(parseRelayAddress(read.text).text, read.text);
      return "read";
    } catch (error) {
      if (!(error instanceof RelayAddressError)) throw error;
      return error.message.slice(0, 40);
    }
  },
};

const base64: Target = {
  name: "ids-as-text",
  weight: 6,
  seeds: () => [16, 17, 18, 32].map((length) => utf8(toBase64url(bytes(length, length)))),
  run: (input) => {
    const text = new TextDecoder().decode(input);
    const read = fromBase64url(text);
    if (read === undefined) return "refused";
    // One text for one value: an id that has two names can be revoked under one of them only.
    assert.equal(toBase64url(read), text);
    return "read";
  },
};

export const wireTargets: readonly Target[] = [envelopes, hot, headers, hello, address, base64];
