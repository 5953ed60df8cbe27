/** The vectors of the recovery record, of fingerprints and of refused witnesses, also by a second implementation. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { mnemonicToEntropy } from "@scure/bip39";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import {
  deriveDeviceKeys,
  deviceFingerprint,
  openWitness,
  PhraseError,
  paperOfWords,
  readChainByPhrase,
} from "../../client/seal/index.ts";
import { RecoveryRecordSchema } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { SealedWitnessSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, fromHex, toHex, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { fingerprint } from "../../wire/ids.ts";
import type {
  fingerprintVectors,
  recoveryVectors,
  refusedWitnessVectors,
} from "../vectors/trust-cases.ts";
import { fails } from "./support.ts";

const vectors = JSON.parse(
  readFileSync(new URL("../vectors/seal.json", import.meta.url), "utf8"),
) as {
  group_id: string;
  devices: {
    name: string;
    seed: string;
    device_id: string;
    signing_key: string;
    sealing_key: string;
  }[];
  keys: { witness_key: string };
  recovery: ReturnType<typeof recoveryVectors>;
  fingerprints: ReturnType<typeof fingerprintVectors>;
  refused_witnesses: ReturnType<typeof refusedWitnessVectors>;
};
const groupId = fromHex(vectors.group_id);
const codeOf = (name: string): ErrorCode => ErrorCode[name as keyof typeof ErrorCode];

function deviceOf(name: string) {
  const device = vectors.devices.find((each) => each.name === name);
  assert.ok(device !== undefined);
  return device;
}

test("vectors: a phrase is this device, and its record opens and names its group", () => {
  const { recovery } = vectors;
  const seed = mnemonicToEntropy(recovery.words, wordlist);
  assert.equal(toHex(seed), recovery.seed);
  const key = hkdf(sha256, seed, undefined, utf8("syncrelay/1 recovery record key"), 32);
  assert.equal(toHex(key), recovery.record_key);
  const sealed = fromHex(recovery.recovery_record);
  assert.equal(toHex(sealed.subarray(0, 24)), recovery.nonce);
  const cipher = xchacha20poly1305(key, sealed.subarray(0, 24), fromHex(recovery.device_id));
  const record = create(RecoveryRecordSchema, {
    groupId,
    foundingHash: fromHex(recovery.founding_hash),
    previousHead: fromHex(recovery.previous_head),
  });
  assert.equal(
    toHex(cipher.decrypt(sealed.subarray(24))),
    toHex(toBinary(RecoveryRecordSchema, record)),
  );
  const paper = paperOfWords(recovery.words);
  assert.equal(toHex(paper.keys.deviceId), recovery.device_id);
  const chain = readChainByPhrase(recovery.control_blobs.map(fromHex), paper, groupId);
  assert.equal(toHex(chain.foundingHash), recovery.founding_hash);
});

test("vectors, SECURITY 4.6: chains without the phrase's own record are refused", () => {
  const { recovery } = vectors;
  assert.ok(recovery.refused.length > 0);
  for (const { control_blobs, code } of recovery.refused) {
    const paper = paperOfWords(recovery.words);
    fails(codeOf(code), () => readChainByPhrase(control_blobs.map(fromHex), paper, groupId));
  }
  for (const { why, words } of recovery.refused_words) {
    assert.throws(() => paperOfWords(words), PhraseError, why);
  }
});

test("vectors: fingerprints of a device, short and in full", () => {
  assert.equal(vectors.fingerprints.length, vectors.devices.length);
  for (const { device, short, full } of vectors.fingerprints) {
    const { seed, device_id, signing_key, sealing_key } = deviceOf(device);
    const hash = blake2b(
      concatBytes(
        utf8("syncrelay/1 device fingerprint"),
        ...[device_id, signing_key, sealing_key].map(fromHex),
      ),
      { dkLen: 32 },
    );
    assert.equal(full.replaceAll(" ", ""), toHex(hash));
    assert.match(full, /^([0-9a-f]{4} ){15}[0-9a-f]{4}$/);
    assert.equal(deviceFingerprint(deriveDeviceKeys(fromHex(seed))), full);
    assert.equal(fingerprint(fromHex(device_id)), short);
  }
});

test("vectors: witnesses that nobody is to believe", () => {
  assert.ok(vectors.refused_witnesses.length > 0);
  for (const { device, code, ...witness } of vectors.refused_witnesses) {
    const { device_id, signing_key } = deviceOf(device);
    const received = create(SealedWitnessSchema, {
      counter: BigInt(witness.counter),
      epoch: BigInt(witness.epoch),
      sealed: fromHex(witness.sealed),
      signature: fromHex(witness.signature),
    });
    const at = {
      groupId,
      deviceId: fromHex(device_id),
      signingKey: fromHex(signing_key),
      witnessKey: fromHex(vectors.keys.witness_key),
    };
    fails(codeOf(code), () => openWitness(received, at));
  }
});
