import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  addDevice,
  admitPhrase,
  type ControlChain,
  checkRecord,
  deviceFingerprint,
  deviceMessage,
  drawPhrase,
  extendChain,
  type PaperDevice,
  PhraseError,
  paperMessage,
  paperOfWords,
  phraseState,
  readChainByPhrase,
  removeDevices,
  rename,
  rotate,
} from "../../client/seal/index.ts";
import { RotationReason } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import type { ChangeMembership } from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { idText, zeroLink } from "../../wire/ids.ts";
import { device, fails, flipped, group, seeded } from "./support.ts";

const of = group("a", "b");
const by = (name: string) => ({ keys: device(name), random: seeded(`by ${name}`), nowMs: 7 });
const byPaper = (paper: PaperDevice) => ({ keys: paper.keys, random: seeded("paper"), nowMs: 9 });
const { words, paper } = drawPhrase(seeded("phrase"));

/** A chain with the phrase in it, and two epochs behind it. */
function admitted(): { chain: ControlChain; blobs: Uint8Array[] } {
  let { chain } = of;
  const blobs = [...of.blobs];
  const apply = (change: ChangeMembership): void => {
    blobs.push(change.controlBlob);
    chain = extendChain(chain, change.controlBlob, by("a"));
  };
  apply(admitPhrase(chain, paper, by("a")));
  apply(rotate(chain, RotationReason.BY_HAND, by("b")));
  apply(rotate(chain, RotationReason.BY_AGE, by("a")));
  return { chain, blobs };
}
const { chain, blobs } = admitted();

describe("SECURITY Recovery phrase", () => {
  test("the words of a known seed", () => {
    // BIP-39, test vectors: 32 bytes of 0x00 and of 0xff.
    const zero = drawPhrase((length) => new Uint8Array(length)).words;
    assert.equal(zero.join(" "), `${"abandon ".repeat(23)}art`);
    const ones = drawPhrase((length) => new Uint8Array(length).fill(255)).words;
    assert.equal(ones.join(" "), `${"zoo ".repeat(23)}vote`);
  });

  test("words are read in any case and spacing, and are the same device", () => {
    for (const typed of [words, words.join(" "), ` ${words.join("\n\t").toUpperCase()} `]) {
      assert.deepEqual(paperOfWords(typed).keys.deviceId, paper.keys.deviceId);
    }
  });

  test("what is no phrase is refused, with where it is wrong and without repeating it", () => {
    const swapped = [words[1], words[0], ...words.slice(2)] as string[];
    const misspelt = words.map((word, i) => (i === 4 || i === 6 ? "secrett" : word));
    for (const [typed, expected] of [
      [words.slice(1), /has 24 words, not 23/],
      [[], /not 0/],
      [misspelt, /words 5, 7 are not in the list/],
      [swapped, /no recovery phrase/],
    ] as const) {
      assert.throws(
        () => paperOfWords(typed),
        (error) => {
          assert.ok(error instanceof PhraseError);
          assert.match(error.message, expected);
          assert.ok(!error.message.includes("secrett"));
          assert.equal(error.cause, undefined);
          return true;
        },
      );
    }
  });

  test("the phrase opens the chain it was admitted to, and every epoch", () => {
    const read = readChainByPhrase(blobs, paperOfWords(words), of.groupId);
    assert.deepEqual(read.version, chain.version);
    for (let epoch = 1; epoch <= 3; epoch++) {
      assert.deepEqual(read.keyring.secret(epoch), chain.keyring.secret(epoch));
    }
  });

  test("it signs the addition of a device in use, and nothing else that members accept", () => {
    const read = readChainByPhrase(blobs, paper, of.groupId);
    const fresh = deviceMessage(device("fresh"), "fresh");
    const change = addDevice(read, fresh, byPaper(paper));
    const next = extendChain(chain, change.controlBlob, by("a"));
    assert.equal(next.devices.get(idText(device("fresh").deviceId))?.name, "fresh");
    const other = drawPhrase(seeded("another")).paper;
    const closing = { deviceId: device("b").deviceId, place: { seq: 0, link: zeroLink } };
    for (const run of [
      () => rotate(read, RotationReason.BY_HAND, byPaper(paper)),
      () => rename(read, "x", byPaper(paper)),
      () => removeDevices(read, [closing], byPaper(paper)),
      () => admitPhrase(read, other, byPaper(paper)),
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, run);
    }
  });

  test("a phrase comes with its record, and nothing else does", () => {
    fails(ErrorCode.HISTORY_ALTERED, () => addDevice(of.chain, paperMessage(paper), by("a")));
    fails(ErrorCode.HISTORY_ALTERED, () =>
      addDevice(of.chain, deviceMessage(device("d"), "d"), {
        ...by("a"),
        recoveryRecord: new Uint8Array(100),
      }),
    );
  });

  test("an impostor's group, made by somebody who knows the phrase's public keys, is told apart", () => {
    const impostor = group("impostor");
    // All it lacks is the record's key.
    const forged: PaperDevice = { ...paper, recordKey: seeded("guess")(32) };
    const change = admitPhrase(impostor.chain, forged, by("impostor"));
    fails(ErrorCode.HISTORY_ALTERED, () =>
      readChainByPhrase([...impostor.blobs, change.controlBlob], paper, impostor.groupId),
    );
  });

  test("a record of another group or founding does not hold, nor does none", () => {
    checkRecord(blobs, paper, chain);
    for (const other of [
      { ...chain, groupId: flipped(chain.groupId) },
      { ...chain, foundingHash: flipped(chain.foundingHash) },
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, () => checkRecord(blobs, paper, other));
    }
    fails(ErrorCode.HISTORY_ALTERED, () => checkRecord(of.blobs, paper, chain));
  });

  test("verified against the roster: active, revoked, unknown", () => {
    assert.equal(phraseState(chain, blobs, paper), "active");
    assert.equal(phraseState(of.chain, of.blobs, paper), "unknown");
    const closing = { deviceId: paper.keys.deviceId, place: { seq: 0, link: zeroLink } };
    const change = removeDevices(chain, [closing], by("b"));
    const revoked = extendChain(chain, change.controlBlob, by("a"));
    assert.equal(phraseState(revoked, [...blobs, change.controlBlob], paper), "revoked");
    // Nor does it read what came after.
    fails(ErrorCode.KEY_MISSING, () =>
      readChainByPhrase([...blobs, change.controlBlob], paper, of.groupId),
    );
  });

  test("a wiped phrase signs and opens nothing", () => {
    const { paper: gone } = drawPhrase(seeded("gone"));
    const before = gone.keys.sign(new Uint8Array(1));
    gone.wipe();
    assert.notDeepEqual(gone.keys.sign(new Uint8Array(1)), before);
    assert.ok(gone.recordKey.every((byte) => byte === 0));
  });
});

describe("device fingerprint in full", () => {
  test("covers each of the three keys, in 16 groups of four digits", () => {
    const { deviceId, signingKey, sealingKey } = device("a");
    const full = deviceFingerprint({ deviceId, signingKey, sealingKey });
    assert.match(full, /^([0-9a-f]{4} ){15}[0-9a-f]{4}$/);
    for (const other of [
      { deviceId: flipped(deviceId), signingKey, sealingKey },
      { deviceId, signingKey: flipped(signingKey), sealingKey },
      { deviceId, signingKey, sealingKey: flipped(sealingKey) },
    ]) {
      assert.notEqual(deviceFingerprint(other), full);
    }
  });
});
