/**
 * Writes tests/vectors/wire.json:
 *
 *     node --import tsx tests/wire/make-wire-vectors.ts
 *
 * For adding cases. Bytes that were published do not change within version 1 of
 * the protocol, so look at the difference before it is committed.
 */
import { writeFileSync } from "node:fs";
import type { JsonValue } from "@bufbuild/protobuf";
import { toBase64url, toHex, utf8 } from "../../wire/bytes.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { blobLink, fingerprint } from "../../wire/ids.ts";
import { sealRecord } from "../../wire/records.ts";
import { parseRelayAddress } from "../../wire/relay-address.ts";
import { filled } from "./support.ts";
import {
  type AddressVector,
  envelopeFromJson,
  recordPlaintext,
  runSession,
  type SessionInputs,
  type WireVectors,
} from "./wire-vectors.ts";

/** Bytes in protobuf JSON. */
const bytes = (byte: number, length = 32): string =>
  Buffer.from(filled(byte, length)).toString("base64");

const blob = {
  blobId: bytes(0x01, 16),
  header: bytes(0x02, 40),
  signature: bytes(0x03, 64),
  epoch: "1",
  body: bytes(0x04, 48),
};
const stored = { cursor: "300", sender: bytes(0x05), blob };
const dropped = {
  cursor: "301",
  sender: bytes(0x05),
  blob: { ...blob, body: "" },
  bodyState: "BODY_STATE_EXPIRED",
};
const membership = { count: "3", head: bytes(0x06) };
const position = { seq: "9", link: bytes(0x07) };
const witness = {
  counter: "4",
  epoch: "2",
  sealed: bytes(0x08, 80),
  signature: bytes(0x09, 64),
};
const mailbox = { rendezvousId: bytes(0x0a, 5) };
const object = { objectId: bytes(0x0b) };
const error = (code: string, detail: object): JsonValue => ({
  requestId: "1",
  error: { code: `ERROR_CODE_${code}`, message: "said to people", retryAfterMs: 1500, ...detail },
});

const envelopes: JsonValue[] = [
  {},
  { requestId: "9007199254740991" },
  error("VERSION_UNSUPPORTED", { versionRange: { min: 2, max: 3 } }),
  error("TOO_LARGE", { tooLarge: { subject: "SUBJECT_BLOB", limit: "1048576" } }),
  error("LINK_CONFLICT", { senderPosition: position }),
  error("EPOCH_STALE", { membership: { version: membership, epoch: "2" } }),
  error("MEMBERSHIP_CONFLICT", {
    membership: { version: membership, epoch: "2", closing: position },
  }),
  error("QUOTA_EXCEEDED", { quota: { usedBytes: "5", limitBytes: "6", store: true } }),
  error("INTERNAL", { incident: { id: "k3v9" } }),
  error("DEVICE_REVOKED", { revocation: { byOperator: true } }),
  { requestId: "2", done: {} },
  {
    welcome: {
      version: 1,
      capabilities: ["CAPABILITY_SNAPSHOTS", "CAPABILITY_OBJECTS"],
      relay: "sync-relay 0.1.0",
      limits: {
        blobBytesMax: 1_048_576,
        envelopeBytesMax: 1_114_112,
        batchBlobsMax: 1000,
        groupBytesMax: "104857600",
        groupBytesUsed: "5000000000",
        objectBytesMax: "1048576",
      },
      group: {
        logId: bytes(0x0c, 16),
        logChanged: true,
        head: "301",
        floor: "12",
        membership,
        epoch: "2",
        own: position,
        pending: "289",
        urgency: "SNAPSHOT_URGENCY_LOW",
        presence: [
          { deviceId: bytes(0x0d), state: "PRESENCE_STATE_ONLINE", lastSeenMs: "1790000000000" },
        ],
      },
    },
  },
  {
    welcome: {
      version: 1,
      lobby: {
        groups: [{ groupId: bytes(0x0e), role: "MEMBER_ROLE_PAPER", membership }],
        founding: "FOUNDING_POLICY_INVITE",
      },
    },
  },
  { requestId: "3", presence: { state: "PRESENCE_STATE_AWAY" } },
  { requestId: "4", push: { blobs: [blob, { ...blob, body: "" }], resume: true } },
  { requestId: "4", pushAck: { cursors: ["0", "300", "4294967296"] } },
  { requestId: "5", pull: { after: "12", until: "301", windowBytes: 1_048_576 } },
  { requestId: "5", pullMore: { windowBytes: 65_536 } },
  {
    requestId: "5",
    blobs: { after: "299", through: "301", blobs: [stored, dropped], done: true, head: "301" },
  },
  {
    deliver: {
      after: "301",
      through: "303",
      blobs: [{ ...stored, cursor: "302" }],
      own: [{ cursor: "303", seq: "10", link: bytes(0x0f) }],
    },
  },
  { notify: { head: "303", membership, epoch: "2", urgency: "SNAPSHOT_URGENCY_HIGH" } },
  { requestId: "6", ack: { applied: "303", witness } },
  { witnesses: { witnesses: [{ deviceId: bytes(0x10), witness }] } },
  {
    requestId: "7",
    changeMembership: {
      expected: membership,
      controlBlob: bytes(0x11, 120),
      members: [
        { deviceId: bytes(0x12), role: "MEMBER_ROLE_DEVICE" },
        { deviceId: bytes(0x13), role: "MEMBER_ROLE_PAPER" },
      ],
      epoch: "3",
      groupId: bytes(0x14),
      groupInvite: bytes(0x15, 16),
      closings: [{ deviceId: bytes(0x16), position }],
    },
  },
  { requestId: "7", membershipAck: { membership, epoch: "3", logId: bytes(0x0c, 16) } },
  { requestId: "8", pullControl: { after: "2" } },
  {
    requestId: "8",
    controlBlobs: { after: "2", controlBlobs: [bytes(0x11, 120), bytes(0x17, 90)], done: true },
  },
  { requestId: "9", openInvite: { ...mailbox, received: 2 } },
  { requestId: "9", inviteOpened: { expiresInMs: 600_000, stored: 1 } },
  { requestId: "10", joinInvite: { ...mailbox, received: 1 } },
  { requestId: "11", inviteMessage: { ...mailbox, number: 3, data: bytes(0x18, 64) } },
  { closeInvite: { ...mailbox, reason: "INVITE_CLOSE_REASON_EXPIRED" } },
  { requestId: "12", putSnapshot: { manifest: bytes(0x19, 100), signature: bytes(0x1a, 64) } },
  { requestId: "13", confirmSnapshot: { snapshotId: bytes(0x1b), signature: bytes(0x1a, 64) } },
  { requestId: "14", getSnapshot: { unconfirmed: true } },
  {
    requestId: "14",
    snapshot: {
      manifest: bytes(0x19, 100),
      signature: bytes(0x1a, 64),
      effective: true,
      urgency: "SNAPSHOT_URGENCY_LOW",
    },
  },
  {
    requestId: "15",
    putObject: { ...object, sizeBytes: "5000000000", offset: "4294967296", data: bytes(0x1c, 20) },
  },
  { requestId: "16", statObject: object },
  {
    requestId: "16",
    objectState: { sizeBytes: "5000000000", durableBytes: "4294967316", complete: false },
  },
  { requestId: "17", getObject: { ...object, offset: "1", length: "20" } },
  {
    requestId: "17",
    objectData: { offset: "1", data: bytes(0x1c, 20), done: true, sizeBytes: "21" },
  },
  { requestId: "18", dropObject: object },
  { requestId: "19", getWakeUp: {} },
  {
    requestId: "20",
    setWakeUp: {
      endpoint: "https://push.example/send/9f3c",
      p256dh: bytes(0x04, 65),
      auth: bytes(0x1d, 16),
    },
  },
  { requestId: "21", setWakeUp: {} },
  {
    requestId: "21",
    wakeUp: { registered: true, refused: true, relayKey: bytes(0x04, 65) },
  },
];

const session: SessionInputs = {
  prologue: toHex(utf8("syncrelay/1")),
  device_static: "11".repeat(32),
  device_ephemeral: "33".repeat(32),
  relay_static: "22".repeat(32),
  relay_ephemeral: "44".repeat(32),
  hello: {
    versions: { min: 1, max: 1 },
    capabilities: ["CAPABILITY_SNAPSHOTS"],
    groupId: bytes(0x0e),
    read: { logId: bytes(0x0c, 16), cursor: "12", link: bytes(0x07) },
    client: "sync-relay 0.1.0",
  },
  record_envelopes: [
    { requestId: "1", push: { blobs: [blob] } },
    { requestId: "2", pull: { after: "12", windowBytes: 1_048_576 } },
  ],
};

const { device, relay, messages } = runSession(session);
const plaintext = recordPlaintext(session);

/** Plaintexts, as hex, that decode. */
const accepted: WireVectors["accepted_plaintexts"] = [
  { why: "nothing", plaintext: "", envelopes: [] },
  { why: "an empty envelope says nothing", plaintext: "00", envelopes: [{}] },
  {
    why: "two envelopes",
    plaintext: "020801020802",
    envelopes: [{ requestId: "1" }, { requestId: "2" }],
  },
  {
    why: "a length in more bytes than it needs, four at most",
    plaintext: "828080000805",
    envelopes: [{ requestId: "5" }],
  },
  {
    why: "a field and a body that nobody knows yet are ignored",
    plaintext: "0a0805f80701fa07020102",
    envelopes: [{ requestId: "5" }],
  },
  {
    why: "of two bodies the last counts",
    plaintext: "051a00a20100",
    envelopes: [{ push: {} }],
  },
  {
    why: "cursors one by one instead of packed",
    plaintext: "07aa010408010802",
    envelopes: [{ pushAck: { cursors: ["1", "2"] } }],
  },
];

const refused: WireVectors["refused_plaintexts"] = [
  ["a length without an envelope", "05", 302],
  ["an envelope cut short", "05080108", 302],
  ["a second envelope cut short", "0208010208", 302],
  ["a length cut short", "80", 302],
  ["a length of five bytes", "8280808000", 302],
  ["a length above the limit, with nothing behind it", "e907", 304],
  ["a length of 2^28 - 1", "ffffff7f", 304],
  ["a body that ends behind its envelope", "03a20105", 302],
  ["a blob that ends behind its push", "09a201030a050a080101", 302],
  ["a field length above 2^32", "08a201ffffffff7f00", 302],
  ["a field length of six bytes", "08a201808080808000", 302],
  ["field number 0", "020001", 302],
  ["a tag cut short", "01a2", 302],
  ["a varint of eleven bytes", "0c08" + "80".repeat(10) + "00", 302],
  ["a number where a message belongs", "03a00100", 302],
  ["bytes where a number belongs", "030a0100", 302],
  ["a group", "04fb07fc07", 302],
  ["wire type 6", "03fe0700", 302],
  ["text that is not UTF-8", "0612041202fffe", 302],
].map(([why, text, code]) => ({
  why: why as string,
  plaintext: text as string,
  envelope_bytes_max: 1000,
  code: code as number,
}));

const key = toBase64url(filled(0x1d));
const addresses: AddressVector[] = [
  `ws://127.0.0.1:8080/#${key}`,
  `wss://sync.example.com/#${key}`,
  `wss://sync.example.com#${key}`,
  `WSS://Sync.Example.com:443/#${key}`,
  ` wss://[::1]:9000/#${key}\n`,
].map((text) => {
  const { url, relayKey, text: canonical } = parseRelayAddress(text);
  return { text, url, relay_key: toHex(relayKey), canonical };
});
const refusedAddresses: AddressVector[] = [
  "",
  "sync.example.com",
  `https://sync.example.com/#${key}`,
  `wss://user@sync.example.com/#${key}`,
  `wss://sync.example.com/?a=b#${key}`,
  `wss://sync.example.com/v1/sync#${key}`,
  "wss://sync.example.com/",
  `wss://sync.example.com/#${key.slice(1)}`,
  `wss://sync.example.com/#${key}=`,
  `wss://sync.example.com/#${key.slice(0, 42)}f`,
].map((text) => ({ text }));

const link = {
  group_id: "0e".repeat(32),
  sender: "05".repeat(32),
  blob_id: "01".repeat(16),
  header: "02".repeat(40),
};

const vectors: WireVectors = {
  about: [
    "Bytes of version 1 of the sync protocol, for implementations in any language. Values are hex where nothing else is said; envelopes and Hello are protobuf JSON.",
    "session: a Noise handshake with fixed secrets, ephemeral ones too, and the device's first record.",
    "record_sizes: on the same session, the device's first record around plaintext_bytes times byte; record_hash is its BLAKE2b-256.",
    "envelopes: every body, size-delimited, as a writer in field order encodes it. accepted_plaintexts and refused_plaintexts: what a reader makes of a record's plaintext, with the error code. refused_records: what the relay of the session answers its first record with.",
    "fingerprints, links, addresses: as docs/PROTOCOL.md defines them; an address without url is refused.",
  ],
  session: {
    ...session,
    device_id: toHex(relay.remoteKey),
    relay_key: toHex(device.remoteKey),
    messages,
    handshake_hash: toHex(device.handshakeHash),
    record_plaintext: toHex(plaintext),
    record: toHex(sealRecord(device, plaintext)),
  },
  record_sizes: [1, 65_518, 65_519, 65_520, 131_037, 131_038, 131_039].map((plaintextBytes) => {
    const record = sealRecord(runSession(session).device, filled(0x5a, plaintextBytes));
    return {
      byte: 0x5a,
      plaintext_bytes: plaintextBytes,
      record_bytes: record.byteLength,
      record_hash: toHex(blake2b256(record)),
    };
  }),
  envelopes: envelopes.map((envelope) => ({
    envelope,
    bytes: toHex(envelopeFromJson(envelope)),
  })),
  accepted_plaintexts: accepted,
  refused_plaintexts: refused,
  refused_records: refusedRecords(),
  fingerprints: [0x00, 0x1d, 0xff].map((byte) => ({
    key: toHex(filled(byte)),
    fingerprint: fingerprint(filled(byte)),
  })),
  links: [
    {
      ...link,
      link: toHex(blobLink(filled(0x0e), filled(0x05), filled(0x01, 16), filled(0x02, 40))),
    },
  ],
  addresses: [...addresses, ...refusedAddresses],
};

function refusedRecords(): WireVectors["refused_records"] {
  const good = toHex(sealRecord(runSession(session).device, utf8("a record")));
  const empty = toHex(runSession(session).device.encrypt(new Uint8Array(0)));
  const second = ((): string => {
    const sender = runSession(session).device;
    sealRecord(sender, utf8("a record"));
    return toHex(sealRecord(sender, utf8("a record")));
  })();
  return [
    { why: "nothing", record: "", code: 301 },
    { why: "a tag around nothing", record: empty, code: 301 },
    { why: "shorter than a tag", record: good.slice(0, 30), code: 301 },
    { why: "its last byte missing", record: good.slice(0, -2), code: 301 },
    { why: "one byte more", record: `${good}00`, code: 301 },
    {
      why: "its first byte altered",
      record: `${good.startsWith("00") ? "01" : "00"}${good.slice(2)}`,
      code: 301,
    },
    { why: "the second record first", record: second, code: 301 },
  ];
}

writeFileSync(
  new URL("../vectors/wire.json", import.meta.url),
  `${JSON.stringify(vectors, undefined, 1)}\n`,
);
