import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMessage, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { EntrySchema } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import { StatementSchema } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import {
  PairingAdmissionSchema,
  PairingFrameSchema,
  PairingIntroductionSchema,
  PairingMeans,
} from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { SnapshotClaimsSchema } from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { WitnessSchema } from "../../gen/syncrelay/sealed/v1/witness_pb.ts";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { BlobHeaderSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  ChangeMembershipSchema,
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { Capability, HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { decodeEnvelopes, type EnvelopeBody, encodeEnvelope } from "../../wire/envelope.ts";
import {
  encodeBlobs,
  encodeDeliver,
  encodePush,
  encodePushAck,
  encodeStoredBlobField,
  type StoredBlobParts,
} from "../../wire/hot-encoders.ts";
import * as limits from "../../wire/limits.ts";
import { sealRecord } from "../../wire/records.ts";
import { channel, filled, side } from "./support.ts";

/** The largest number any honest peer sends. */
const largest = Number.MAX_SAFE_INTEGER;
const largest64 = BigInt(largest);

/** The fields around a blob's counted bytes (header, signature, body), as large as they become. */
function storedBlob(headerBytes: number, bodyBytes: number): StoredBlobParts {
  return {
    cursor: largest,
    sender: filled(1),
    blobId: filled(2, 16),
    header: filled(3, headerBytes),
    signature: filled(4, 64),
    epoch: largest,
    body: filled(5, bodyBytes),
    bodyState: 3,
  };
}

const blobLimits = [1024 * 1024, limits.blobBytesDefault, limits.blobBytesCeiling, 4096, 100_000];

/** An envelope's bytes without the size before it. */
function envelopeBytes(sizeDelimited: Uint8Array): number {
  let prefix = 1;
  while ((sizeDelimited[prefix - 1] as number) >= 0x80) prefix += 1;
  assert.ok(prefix <= limits.sizePrefixBytesMax);
  return sizeDelimited.byteLength - prefix;
}

test("3.3 the largest blob fits a push, a page and a delivery of its own", () => {
  for (const blobBytesMax of blobLimits) {
    const header = Math.min(limits.headerBytesMax, blobBytesMax - 64);
    const blob = storedBlob(header, blobBytesMax - 64 - header);
    const field = encodeStoredBlobField(blob);
    const envelopeMax = limits.envelopeBytesMax(blobBytesMax);
    for (const encoded of [
      encodePush(largest, [blob], true),
      encodeBlobs(largest, { after: largest, through: largest, done: true, head: largest }, [
        field,
      ]),
      encodeDeliver(largest, largest, [field], []),
    ]) {
      assert.ok(envelopeBytes(encoded) <= envelopeMax);
    }
  }
});

test("3.3 a full push fits an envelope: most blobs and most bytes at once", () => {
  const each = Math.floor(limits.batchBytesMax / limits.batchBlobsMax);
  const blobs = Array.from({ length: limits.batchBlobsMax }, () =>
    storedBlob(130, each - 64 - 130),
  );
  const encoded = encodePush(largest, blobs, true);
  assert.ok(envelopeBytes(encoded) <= limits.envelopeBytesMax(1));
  assert.equal(decodeEnvelopes(encoded, limits.envelopeBytesMax(1)).length, 1);
  const ack = encodePushAck(largest, Array<number>(limits.batchBlobsMax).fill(largest));
  assert.ok(envelopeBytes(ack) <= limits.envelopeBytesMax(1));
  assert.equal(decodeEnvelopes(ack, limits.envelopeBytesMax(1)).length, 1);
});

test("3.3 a page of encoded blobs up to its limit fits an envelope, and one of most blobs is decoded", () => {
  const field = encodeStoredBlobField(storedBlob(80, limits.pageBytesMax / 1024 - 80 - 64 - 100));
  const frame = { after: largest, through: largest, done: true, head: largest };
  const most = Math.floor(limits.pageBytesMax / field.byteLength);
  const page = encodeBlobs(largest, frame, Array<Uint8Array>(most).fill(field));
  assert.ok(envelopeBytes(page) <= limits.envelopeBytesMax(1));
  const small = encodeStoredBlobField(storedBlob(80, 0));
  const own = Array.from({ length: limits.windowBlobsMax }, () => ({
    cursor: largest,
    seq: largest,
    link: filled(1),
  }));
  const smalls = Array<Uint8Array>(limits.windowBlobsMax).fill(small);
  for (const encoded of [
    encodeBlobs(largest, frame, smalls),
    encodeDeliver(largest, largest, smalls, own),
  ]) {
    assert.equal(decodeEnvelopes(encoded, limits.envelopeBytesMax(1)).length, 1);
  }
});

test("3.4 a record of most envelopes is decoded, whichever kind they are", () => {
  const blob = storedBlob(80, 300);
  const field = encodeStoredBlobField(blob);
  for (const envelope of [
    encodePushAck(largest, [largest, largest, largest]),
    encodePush(1, [blob], false),
    encodeDeliver(1, 2, [field], [{ cursor: 1, seq: 2, link: filled(1) }]),
    encodeEnvelope(1, { case: "done", value: {} }),
  ]) {
    const plaintext = new Uint8Array(envelope.byteLength * limits.recordEnvelopesMax);
    for (let i = 0; i < limits.recordEnvelopesMax; i++) {
      plaintext.set(envelope, i * envelope.byteLength);
    }
    assert.equal(
      decodeEnvelopes(plaintext, limits.envelopeBytesMax(1)).length,
      limits.recordEnvelopesMax,
    );
  }
});

test("3.4 a record holds one envelope more than it was closed at", () => {
  const { device } = channel();
  const overhead = (plaintext: number): number =>
    sealRecord(device, filled(0, plaintext)).byteLength - plaintext;
  assert.equal(overhead(1), 16);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: limits.blobBytesCeiling }), (blobBytesMax) => {
      const envelope = limits.envelopeBytesMax(blobBytesMax) + limits.sizePrefixBytesMax;
      const plaintext = envelope - 1 + envelope;
      const messages = Math.ceil(plaintext / limits.noisePlaintextBytesMax);
      assert.ok(plaintext + 16 * messages <= limits.recordBytesMax(blobBytesMax));
    }),
  );
});

test("3.3 an envelope's length fits the bytes before it, and 32 bits", () => {
  assert.ok(
    limits.envelopeBytesMax(limits.blobBytesCeiling) < 2 ** (7 * limits.sizePrefixBytesMax),
  );
  assert.ok(limits.recordBytesMax(limits.blobBytesCeiling) < 2 ** 31);
});

test("3.3 the bounds stand in order", () => {
  assert.equal(limits.noisePlaintextBytesMax + limits.noiseTagBytes, 65_535);
  assert.ok(limits.blobBytesDefault <= limits.blobBytesCeiling);
  assert.ok(limits.batchBlobsMax <= limits.windowBlobsMax);
  assert.ok(limits.batchBytesMax <= limits.windowBytesMax);
  assert.ok(limits.pageBytesMax <= limits.windowBytesMax);
  assert.ok(limits.envelopeBytesMax(limits.blobBytesDefault) <= limits.windowBytesMax);
  assert.ok(limits.pageBytesMax <= limits.pullWindowBytesMax);
  assert.ok(limits.headerBytesMax + 64 < limits.blobBytesDefault);
  assert.ok(limits.helloBytesMax < limits.handshakeBytesMax);
  assert.ok(limits.handshakeBytesMax < limits.noiseMessageBytesMax);
  assert.ok(limits.noiseMessagesMax < 2 ** 32);
  assert.ok(2 * limits.pingIntervalMs <= 60_000);
  assert.ok(limits.handshakeMsMax < limits.pingIntervalMs);
});

const version = { count: largest64, head: filled(1) };
const position = { seq: largest64, link: filled(2) };

/** Whether a body fits the envelopes of any relay. */
function fits(body: EnvelopeBody): void {
  const encoded = encodeEnvelope(largest, body);
  assert.ok(envelopeBytes(encoded) <= limits.envelopeBytesMax(1), `${encoded.byteLength}`);
  assert.equal(decodeEnvelopes(encoded, limits.envelopeBytesMax(1)).length, 1);
}

test("3.3 object ranges, manifests, witnesses, pairing messages and control blobs fit an envelope", () => {
  fits({
    case: "putObject",
    value: {
      objectId: filled(1),
      sizeBytes: largest64,
      offset: largest64,
      data: filled(2, limits.objectRangeBytesMax),
    },
  });
  fits({
    case: "objectData",
    value: {
      offset: largest64,
      data: filled(2, limits.objectRangeBytesMax),
      done: true,
      sizeBytes: largest64,
    },
  });
  fits({
    case: "snapshot",
    value: {
      manifest: filled(1, limits.manifestBytesMax),
      signature: filled(2, 64),
      effective: true,
      urgency: 2,
    },
  });
  fits({
    case: "ack",
    value: {
      applied: largest64,
      witness: {
        counter: largest64,
        epoch: largest64,
        sealed: filled(1, limits.witnessBytesMax),
        signature: filled(2, 64),
      },
    },
  });
  fits({
    case: "inviteMessage",
    value: {
      rendezvousId: filled(1, 5),
      number: limits.inviteMessagesMax,
      data: filled(2, limits.inviteMessageBytesMax),
    },
  });
  fits({
    case: "controlBlobs",
    value: { after: largest64, controlBlobs: [filled(1, limits.controlBytesMax)], done: true },
  });
});

test("3.3 a welcome to a full group fits an envelope", () => {
  fits({
    case: "welcome",
    value: {
      version: 1,
      capabilities: Array<Capability>(16).fill(Capability.OBJECTS),
      relay: "x".repeat(64),
      limits: { groupBytesMax: largest64, groupBytesUsed: largest64, objectBytesMax: largest64 },
      scope: {
        case: "group",
        value: {
          logId: filled(1, 16),
          logChanged: true,
          head: largest64,
          membership: version,
          own: position,
          presence: Array.from({ length: limits.membersMax }, () => ({
            deviceId: filled(1),
            state: 3,
            lastSeenMs: largest64,
          })),
        },
      },
    },
  });
});

test("SECURITY Membership: a control blob of a full group, and its change, fit their limits", () => {
  const members = limits.membersMax;
  const clear = toBinary(
    ControlClearSchema,
    create(ControlClearSchema, {
      epoch: largest64,
      previousHead: filled(1),
      // X-Wing ciphertext, nonce, secret, tag.
      wraps: Array.from({ length: members }, () => ({
        deviceId: filled(1),
        sealed: filled(2, 1_120 + 24 + 32 + 16),
      })),
      keyCheck: filled(1),
      previousSecret: filled(1, 24 + 32 + 16),
      recoveryRecord: filled(1, 200),
    }),
  );
  const statement = toBinary(
    StatementSchema,
    create(StatementSchema, {
      madeMs: largest64,
      change: {
        case: "removing",
        value: {
          closings: Array.from({ length: members - 1 }, () => ({
            deviceId: filled(1),
            ...position,
          })),
        },
      },
    }),
  );
  const controlBlob = toBinary(
    ControlBlobSchema,
    create(ControlBlobSchema, {
      author: filled(1),
      clear,
      sealedStatement: filled(1, 24 + statement.byteLength + 16),
      signature: filled(1, 64),
    }),
  );
  assert.ok(controlBlob.byteLength <= limits.controlBytesMax, `${controlBlob.byteLength}`);
  const change = create(ChangeMembershipSchema, {
    expected: version,
    controlBlob: filled(1, limits.controlBytesMax),
    members: Array.from({ length: members }, () => ({ deviceId: filled(1), role: 2 })),
    epoch: largest64,
    groupId: filled(1),
    groupInvite: filled(1, 16),
    closings: Array.from({ length: members }, () => ({ deviceId: filled(1), position })),
  });
  fits({ case: "changeMembership", value: change });
});

test("SECURITY Verified history: a witness of a full group's positions fits its limit", () => {
  const witness = toBinary(
    WitnessSchema,
    create(WitnessSchema, {
      deviceId: filled(1),
      counter: largest64,
      madeMs: largest64,
      logId: filled(1, 16),
      applied: largest64,
      positions: Array.from({ length: limits.membersMax }, () => ({
        deviceId: filled(1),
        ...position,
      })),
      membership: version,
    }),
  );
  assert.ok(24 + witness.byteLength + 16 <= limits.witnessBytesMax, `${witness.byteLength}`);
});

test("3.2 a header with most deletes fits its limit", () => {
  const header = toBinary(
    BlobHeaderSchema,
    create(BlobHeaderSchema, {
      seq: largest64,
      previousLink: filled(1),
      ttlS: largest64,
      deletes: Array.from({ length: limits.headerDeletesMax }, () => filled(1, 16)),
      force: true,
      entryHash: filled(1),
      abandonedLink: filled(1),
    }),
  );
  assert.ok(header.byteLength <= limits.headerBytesMax);
});

test("2.5 the largest Hello passes through the third handshake message", () => {
  const hello = toBinary(
    HelloSchema,
    create(HelloSchema, {
      versions: { min: 1, max: 0xffff_ffff },
      capabilities: Array<Capability>(16).fill(Capability.OBJECTS),
      groupId: filled(1),
      read: { logId: filled(1, 16), cursor: largest64, link: filled(1) },
      client: "x".repeat(64),
      groupInvite: filled(1, 16),
    }),
  );
  assert.ok(hello.byteLength <= limits.helloBytesMax);
  const initiator = side("initiator");
  const responder = side("responder");
  responder.read(initiator.write(filled(0, 0)));
  initiator.read(responder.write(filled(0, 0)));
  const payload = filled(1, limits.helloBytesMax);
  assert.deepEqual(responder.read(initiator.write(payload)), payload);
});

test("SECURITY Pairing: every pairing message fits a mailbox", () => {
  const name = "x".repeat(limits.nameBytesMax);
  const introduction = toBinary(
    PairingIntroductionSchema,
    create(PairingIntroductionSchema, {
      signingKey: filled(1),
      sealingKey: filled(1, 1_216),
      name,
      nonce: filled(1, 16),
    }),
  );
  const admission = toBinary(
    PairingAdmissionSchema,
    create(PairingAdmissionSchema, {
      groupId: filled(1),
      relayAddress: `wss://${"x".repeat(253)}:65535/#${"x".repeat(43)}`,
      controlHead: filled(1),
      inviter: {
        deviceId: filled(1),
        signingKey: filled(1),
        sealingKey: filled(1, 1_216),
        name,
        role: 1,
      },
    }),
  );
  const noise = 32 + 16 + 16 + Math.max(introduction.byteLength, admission.byteLength);
  assert.ok(noise <= 3_968);
  const frame = create(PairingFrameSchema, { means: PairingMeans.CODE, noise: filled(1, 3_968) });
  assert.ok(toBinary(PairingFrameSchema, frame).byteLength <= limits.inviteMessageBytesMax);
});

test("3.6 no message of an envelope contains itself, and none is written as a group or a map", () => {
  const walk = (message: DescMessage, inside: readonly string[]): void => {
    assert.ok(!inside.includes(message.typeName), message.typeName);
    for (const field of message.fields) {
      assert.notEqual(field.fieldKind, "map");
      if (field.message !== undefined) walk(field.message, [...inside, message.typeName]);
    }
  };
  walk(EnvelopeSchema, []);
  for (const schema of parts) walk(schema, []);
});

/** What stands in other messages as bytes, and is decoded from a peer. */
const parts = [
  HelloSchema,
  BlobHeaderSchema,
  ControlBlobSchema,
  ControlClearSchema,
  StatementSchema,
  WitnessSchema,
  EntrySchema,
  SnapshotManifestSchema,
  SnapshotClaimsSchema,
  PairingFrameSchema,
  PairingIntroductionSchema,
  PairingAdmissionSchema,
];

test("3.4 the largest lists inside a part are within its items", () => {
  const frontier = 4 * limits.membersMax;
  for (const items of [
    limits.headerDeletesMax,
    limits.membersMax,
    limits.witnessedMax,
    // A snapshot's claims: keys and sizes of 4,096 parts, and the frontier.
    2 * 4_096 + frontier,
  ]) {
    assert.ok(items + 16 <= limits.partItemsMax);
  }
});
