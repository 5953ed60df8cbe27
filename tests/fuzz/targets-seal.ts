/**
 * What only devices read. A tag or a signature stops whatever was changed on its way, so most of these
 * change what a member seals, and seal and sign it rightly: the input is what stands inside.
 */
import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { decodeMessage } from "../../client/seal/checks.ts";
import { decodeControl, openStatement, sealControl } from "../../client/seal/control-blob.ts";
import {
  addDevice,
  type ControlChain,
  checkRecord,
  decodeEntry,
  decodeReference,
  deviceMessage,
  drawPhrase,
  encodeReference,
  extendChain,
  ObjectCipher,
  openBody,
  openSnapshot,
  openWitness,
  PhraseError,
  paperOfWords,
  rename,
  rotate,
  sealSnapshot,
  verifyWindow,
} from "../../client/seal/index.ts";
import { snapshotSignatureLabel, witnessSignatureLabel } from "../../client/seal/labels.ts";
import { pad, unpad } from "../../client/seal/padding.ts";
import { aeadSeal } from "../../client/seal/primitives.ts";
import { EntrySchema, PaddedSchema } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import {
  RecoveryRecordSchema,
  RotationReason,
  StatementSchema,
} from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { SnapshotClaimsSchema } from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { WitnessSchema } from "../../gen/syncrelay/sealed/v1/witness_pb.ts";
import { SealedWitnessSchema, StoredBlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { concatBytes, u64be, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { device, group, seeded, Writer } from "../seal/support.ts";
import type { Target } from "./engine.ts";

const random = seeded("fuzz targets");
const of = group("a", "b");
const { groupId, chain } = of;
const keys = device("a");
const writer = new Writer(of, "a");
const first = writer.write({ contentType: "text/plain", deletes: [random(16)], ttlS: 9 });
const second = writer.write();
const own = writer.own[0];
assert(own !== undefined);
const nonce = random(24);

function keyOf(key: Uint8Array | undefined): Uint8Array {
  assert(key !== undefined);
  return key;
}
const bodyKey = keyOf(chain.keyring.bodyKey(1));
const witnessKey = keyOf(chain.keyring.witnessKey(1));
const statementKey = keyOf(chain.keyring.statementKey(1));
const snapshotKey = keyOf(chain.keyring.snapshotKey(1));

const entries: Target = {
  name: "entries",
  weight: 40,
  seeds: () => {
    const place = { deviceId: random(32), seq: 3n, link: random(32) };
    const made = { data: utf8("x"), random: random(16), witnessed: [place, place] };
    const witnessing = toBinary(EntrySchema, create(EntrySchema, made));
    return [witnessing, ...writer.own.map(({ entry }) => entry)];
  },
  run: (input) => (decodeEntry(input).witnessed.length > 0 ? "witnesses" : "plain"),
};

const padding: Target = {
  name: "padding",
  weight: 20,
  seeds: () => [pad(utf8("content")), pad(random(300))],
  run: (input) => {
    const content = unpad(input);
    return content === undefined ? "refused" : "read";
  },
};

/** A body as a member could seal it: the input is what is padded and sealed. */
const bodies: Target = {
  name: "sealed-bodies",
  weight: 8,
  seeds: () =>
    writer.own.map(({ entry }) => toBinary(PaddedSchema, create(PaddedSchema, { content: entry }))),
  run: (input) => {
    const blobId = own.blobId;
    const header = own.header;
    const context = concatBytes(groupId, keys.deviceId, blobId, u64be(1), header);
    const body = aeadSeal(bodyKey, nonce, context, pad(input));
    const content = contentOf(input);
    const blob = { ...(first.blob as NonNullable<typeof first.blob>), blobId, header, body };
    // Its hash is the one that its sender signed, or nothing behind that would be reached.
    const read = { ...headerOf, entryHash: blake2b256(content) };
    openBody(blob, read, { groupId, sender: keys.deviceId, bodyKey });
    return "opened";
  },
};

const windowAt = { groupId, roster: chain.devices, positions: new Map() };
const [headerVerdict] = verifyWindow([first], windowAt).verdicts;
assert(headerVerdict?.kind === "entry");
const headerOf = headerVerdict.header;

function contentOf(padded: Uint8Array): Uint8Array {
  try {
    return fromBinary(PaddedSchema, padded).content;
  } catch {
    return padded;
  }
}

const stored: Target = {
  name: "stored-blobs",
  weight: 2,
  seeds: () => [first, second].map((one) => toBinary(StoredBlobSchema, one)),
  run: (input) => {
    const bad = decodeMessage(StoredBlobSchema, input, 1 << 20, ErrorCode.ENVELOPE_INVALID);
    const { verdicts } = verifyWindow([first, bad, second], windowAt);
    assert(verdicts.length >= 2);
    return verdicts.map(({ kind }) => kind).join(" ");
  },
};

/** Changes as their authors made them, with the statement in the clear in the sealed one's place. */
function inTheClear(controlBlob: Uint8Array, behind: ControlChain): Uint8Array {
  const control = decodeControl(controlBlob);
  const key = behind.keyring.statementKey(control.clear.epoch);
  const opened =
    key === undefined ? utf8("") : openStatement(control, { groupId, statementKey: key }).bytes;
  return toBinary(
    ControlBlobSchema,
    create(ControlBlobSchema, {
      author: control.author,
      clear: control.clearBytes,
      sealedStatement: opened,
      signature: control.signature,
    }),
  );
}

const at = { keys, random, nowMs: 1 };
const paper = drawPhrase(random).paper;
const changes = (): Uint8Array[] => {
  const renamed = rename(chain, "x", at).controlBlob;
  const rotated = rotate(chain, RotationReason.BY_HAND, at).controlBlob;
  const added = addDevice(chain, deviceMessage(device("c"), "c"), at).controlBlob;
  return [renamed, rotated, added];
};

const control: Target = {
  name: "control-blobs",
  weight: 4,
  seeds: () => [...of.blobs, ...changes()],
  run: (input) => {
    extendChain(chain, input, { keys });
    return "taken";
  },
};

/** A change that a member signs: nothing but the rules of membership is between it and the chain. */
const statements: Target = {
  name: "membership-changes",
  weight: 1,
  seeds: () => changes().map((blob) => inTheClear(blob, extendChain(chain, blob, { keys }))),
  run: (input) => {
    const code = ErrorCode.HISTORY_ALTERED;
    const message = decodeMessage(ControlBlobSchema, input, 1 << 20, code);
    const clear = decodeMessage(ControlClearSchema, message.clear, 1 << 20, code);
    const statement = decodeMessage(StatementSchema, message.sealedStatement, 1 << 20, code);
    const blob = sealControl(
      {
        epoch: Number(clear.epoch % 2n ** 53n),
        previousHead: clear.previousHead,
        wraps: clear.wraps,
        keyCheck: clear.keyCheck,
        previousSecret: clear.previousSecret,
        recoveryRecord: clear.recoveryRecord,
      },
      statement,
      { groupId, keys, statementKey, random: () => nonce },
    );
    const after = extendChain(chain, blob, { keys });
    return `taken, ${after.devices.size} devices`;
  },
};

const claims = {
  counter: 1n,
  deviceId: keys.deviceId,
  madeMs: 1n,
  logId: random(16),
  applied: 1n,
  positions: [{ deviceId: keys.deviceId, seq: 1n, link: random(32) }],
  membership: { count: 2n, head: chain.version.head },
};

const witnesses: Target = {
  name: "witnesses",
  weight: 2,
  seeds: () => [toBinary(WitnessSchema, create(WitnessSchema, claims))],
  run: (input) => {
    const context = concatBytes(groupId, keys.deviceId, u64be(1), u64be(1));
    const witness = create(SealedWitnessSchema, {
      counter: 1n,
      epoch: 1n,
      sealed: aeadSeal(witnessKey, nonce, context, pad(input)),
      signature: keys.sign(concatBytes(witnessSignatureLabel, groupId, blake2b256(input))),
    });
    const { deviceId, signingKey } = keys;
    return `${openWitness(witness, { groupId, deviceId, signingKey, witnessKey }).positions.size} places`;
  },
};

const part = { objectId: random(32), key: random(32), contentBytes: 10 };
const sealedSnapshot = sealSnapshot(
  {
    logId: random(16),
    replacesThrough: 1,
    link: own.link,
    frontier: new Map([[[...chain.devices.keys()][0] as string, { seq: 1, link: own.link }]]),
    membership: { count: 2, head: chain.version.head },
    parts: [part, part],
  },
  { chain, keys, random },
);

/** A manifest whose claims stand in the clear in the input, and are sealed and signed here. */
const snapshots: Target = {
  name: "snapshot-manifests",
  weight: 2,
  seeds: () => {
    const manifest = fromBinary(SnapshotManifestSchema, sealedSnapshot.manifest);
    const inside = create(SnapshotClaimsSchema, {
      frontier: claims.positions,
      membership: claims.membership,
      partKeys: [part.key, part.key],
      partBytes: [10n, 10n],
    });
    const sealedClaims = toBinary(SnapshotClaimsSchema, inside);
    const whole = create(SnapshotManifestSchema, { ...manifest, sealedClaims });
    return [toBinary(SnapshotManifestSchema, whole), sealedSnapshot.manifest];
  },
  run: (input) => {
    const code = ErrorCode.OPEN_FAILED;
    const clear = decodeMessage(SnapshotManifestSchema, input, 1 << 20, code);
    const safe = 2n ** 53n;
    const context = concatBytes(
      groupId,
      clear.author,
      clear.logId,
      u64be(Number(clear.replacesThrough % safe)),
      clear.link,
      u64be(Number(clear.epoch % safe)),
      blake2b256(...clear.parts),
    );
    const sealedClaims = aeadSeal(snapshotKey, nonce, context, pad(clear.sealedClaims));
    const whole = create(SnapshotManifestSchema, { ...clear, sealedClaims });
    const manifest = toBinary(SnapshotManifestSchema, whole);
    const signature = keys.sign(concatBytes(snapshotSignatureLabel, groupId, blake2b256(manifest)));
    const opened = openSnapshot(
      { manifest, signature },
      { chain, controlHead: (count) => (count === 2 ? chain.version.head : undefined) },
    );
    return `${opened.parts.length} parts, ${opened.frontier.size} places`;
  },
};

const records: Target = {
  name: "recovery-records",
  weight: 8,
  seeds: () => {
    const { foundingHash, version } = chain;
    const record = { groupId, foundingHash, previousHead: version.head };
    return [toBinary(RecoveryRecordSchema, create(RecoveryRecordSchema, record))];
  },
  run: (input) => {
    const { deviceId } = paper.keys;
    const clear = create(ControlClearSchema, {
      epoch: 1n,
      previousHead: chain.version.head,
      wraps: [{ deviceId, sealed: new Uint8Array(1_192) }],
      recoveryRecord: aeadSeal(paper.recordKey, nonce, deviceId, input),
    });
    const blob = create(ControlBlobSchema, {
      author: keys.deviceId,
      clear: toBinary(ControlClearSchema, clear),
      sealedStatement: nonce,
      signature: new Uint8Array(64),
    });
    checkRecord([toBinary(ControlBlobSchema, blob)], paper, chain);
    return "holds";
  },
};

const phrases: Target = {
  name: "phrases",
  weight: 1,
  seeds: () => [utf8(drawPhrase(random).words.join(" "))],
  run: (input) => {
    try {
      paperOfWords(new TextDecoder().decode(input)).wipe();
      return "read";
    } catch (error) {
      if (!(error instanceof PhraseError)) throw error;
      return "PhraseError";
    }
  },
};

const references: Target = {
  name: "object-references",
  weight: 20,
  seeds: () => [
    encodeReference({ ...part, contentType: "image/png" }),
    encodeReference({ ...part, contentBytes: 0, contentType: "" }),
  ],
  run: (input) => {
    const read = decodeReference(input);
    return read.contentType === "" ? "plain" : "typed";
  },
};

const cipher = new ObjectCipher(part.key, groupId);
const chunks: Target = {
  name: "object-chunks",
  weight: 8,
  // The first byte says which chunk the reader expects.
  seeds: () => [
    concatBytes(Uint8Array.of(1), cipher.seal(0, true, random(100))),
    concatBytes(Uint8Array.of(3), cipher.seal(1, true, random(1))),
  ],
  run: (input) => {
    const which = input[0] ?? 0;
    cipher.open(which >> 1, (which & 1) === 1, input.subarray(1));
    return "opened";
  },
};

export const sealTargets: readonly Target[] = [
  entries,
  padding,
  bodies,
  stored,
  control,
  statements,
  witnesses,
  snapshots,
  records,
  phrases,
  references,
  chunks,
];
