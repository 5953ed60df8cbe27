/** Cases of `seal.json` for the recovery record, fingerprints, and witnesses that are refused. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  addDevice,
  admitPhrase,
  type DeviceKeys,
  deriveDeviceKeys,
  deviceFingerprint,
  drawPhrase,
  extendChain,
  foundGroup,
  openWitness,
  paperMessage,
  type Random,
  readChainByPhrase,
  sealWitness,
} from "../../client/seal/index.ts";
import { aeadSeal } from "../../client/seal/primitives.ts";
import { RecoveryRecordSchema } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import type { SealedWitness } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { toHex } from "../../wire/bytes.ts";
import { fingerprint, idText } from "../../wire/ids.ts";
import { codeOf } from "./code-of.ts";

/** What a group admits a recovery phrase by, and chains that whoever holds the phrase must not believe. */
export function recoveryVectors(
  drawn: (name: string) => Random,
  groupId: Uint8Array,
  seeds: { readonly a: Uint8Array },
) {
  const keys = deriveDeviceKeys(seeds.a);
  const seed = drawn("phrase")(32);
  const { words, paper } = drawPhrase(() => new Uint8Array(seed));
  const founding = { keys, random: drawn("recovery group"), nowMs: 1_000, groupId, name: "a" };
  const founded = foundGroup(founding);
  const { chain } = founded;
  const named = {
    groupId,
    foundingHash: chain.foundingHash,
    previousHead: chain.version.head,
  };
  const nonce = drawn("recovery nonce")(24);
  const seal = (
    says: Partial<typeof named> = {},
    key = paper.recordKey,
    deviceId = paper.keys.deviceId,
  ): Uint8Array => {
    const record = create(RecoveryRecordSchema, { ...named, ...says });
    return aeadSeal(key, nonce, deviceId, toBinary(RecoveryRecordSchema, record));
  };
  const admitted = (recoveryRecord: Uint8Array): Uint8Array[] => {
    const change = addDevice(chain, paperMessage(paper), {
      ...founding,
      random: drawn("recovery wrap"),
      recoveryRecord,
    });
    return [founded.change.controlBlob, change.controlBlob];
  };
  const blobs = admitted(seal());
  // The library admits a phrase by the same record.
  extendChain(chain, admitPhrase(chain, paper, founding).controlBlob, { keys });
  readChainByPhrase(blobs, paper, groupId);
  const other = drawn("recovery other")(32);
  const refused: [string, Uint8Array[]][] = [
    ["a record of another group", admitted(seal({ groupId: other }))],
    ["a record of another founding", admitted(seal({ foundingHash: other }))],
    ["a record of another head", admitted(seal({ previousHead: other }))],
    ["a record under another key", admitted(seal({}, other))],
    ["a record for another phrase", admitted(seal({}, paper.recordKey, other))],
  ];
  return {
    words: words.join(" "),
    seed: toHex(seed),
    device_id: toHex(paper.keys.deviceId),
    record_key: toHex(paper.recordKey),
    founding_hash: toHex(named.foundingHash),
    previous_head: toHex(named.previousHead),
    nonce: toHex(nonce),
    recovery_record: toHex(seal()),
    control_blobs: blobs.map(toHex),
    refused: refused.map(([what, control]) => ({
      what,
      control_blobs: control.map(toHex),
      code: codeOf(() => readChainByPhrase(control, paper, groupId)),
    })),
    refused_words: [
      { why: "a word is missing", words: words.slice(1).join(" ") },
      { why: "a word is not in the list", words: ["secrett", ...words.slice(1)].join(" ") },
      {
        why: "two words changed places: the checksum",
        words: [words[1], words[0], ...words.slice(2)].join(" "),
      },
    ],
  };
}

/** The fingerprint of a device's id, and the one in full. */
export function fingerprintVectors(seeds: Readonly<Record<string, Uint8Array>>) {
  return Object.entries(seeds).map(([device, seed]) => {
    const keys = deriveDeviceKeys(seed);
    return { device, short: fingerprint(keys.deviceId), full: deviceFingerprint(keys) };
  });
}

/** Witnesses that a device must not believe, of device `a` as it is told them. */
export function refusedWitnessVectors(
  at: {
    readonly groupId: Uint8Array;
    readonly a: DeviceKeys;
    readonly b: DeviceKeys;
    readonly witnessKey: Uint8Array;
  },
  drawn: (name: string) => Random,
) {
  const { groupId, a, b, witnessKey } = at;
  const make = (keys: DeviceKeys, counter = 3): SealedWitness =>
    sealWitness(
      {
        counter,
        madeMs: 1_700_000_003_000,
        logId: drawn("log")(16),
        applied: 41,
        positions: new Map([[idText(b.deviceId), { seq: 5, link: drawn("witnessed")(32) }]]),
        membership: { count: 2, head: drawn("head")(32) },
        lackingSeq: 0,
      },
      { groupId, keys, epoch: 7, witnessKey, random: drawn("refused witness") },
    );
  const good = make(a);
  const forger: DeviceKeys = { ...b, deviceId: a.deviceId };
  const flip = (bytes: Uint8Array): Uint8Array =>
    Uint8Array.from(bytes, (byte, i) => (i === 40 ? byte ^ 1 : byte));
  const refused: [string, SealedWitness][] = [
    ["a bit of what is sealed", { ...good, sealed: flip(good.sealed) }],
    ["a bit of the signature", { ...good, signature: flip(good.signature) }],
    ["another counter than was sealed", { ...good, counter: 4n }],
    ["another epoch than was sealed", { ...good, epoch: 8n }],
    ["counter 0", { ...good, counter: 0n }],
    ["another device's", make(b)],
    ["made for this device by another", make(forger)],
    ["another witness's signature", { ...good, signature: make(a, 4).signature }],
  ];
  return refused.map(([what, { counter, epoch, sealed, signature }]) => ({
    what,
    device: "a",
    counter: Number(counter),
    epoch: Number(epoch),
    sealed: toHex(sealed),
    signature: toHex(signature),
    code: codeOf(() =>
      openWitness(
        { ...good, counter, epoch, sealed, signature },
        { groupId, deviceId: a.deviceId, signingKey: a.signingKey, witnessKey },
      ),
    ),
  }));
}
