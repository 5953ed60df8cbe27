import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { openWitness, sealWitness, type WitnessClaims } from "../../client/seal/index.ts";
import { witnessSignatureLabel } from "../../client/seal/labels.ts";
import { pad } from "../../client/seal/padding.ts";
import { aeadSeal } from "../../client/seal/primitives.ts";
import { WitnessSchema } from "../../gen/syncrelay/sealed/v1/witness_pb.ts";
import { SealedWitnessSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, u64be } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText } from "../../wire/ids.ts";
import { witnessBytesMax } from "../../wire/limits.ts";
import { device, fails, flipped, seeded } from "./support.ts";

const random = seeded("witness");
const groupId = random(32);
const witnessKey = random(32);
const keys = device("a");
const { deviceId, signingKey } = keys;
const claims: WitnessClaims = {
  counter: 4,
  madeMs: 1_000,
  logId: random(16),
  applied: 77,
  positions: new Map([[idText(random(32)), { seq: 3, link: random(32) }]]),
  membership: { count: 2, head: random(32) },
  lackingSeq: 9,
};
const sealing = { groupId, keys, epoch: 2, witnessKey, random };
const opening = { groupId, deviceId, signingKey, witnessKey };

describe("SECURITY Verified history: sealed witnesses", () => {
  test("open to what was claimed", () => {
    const { bytes, ...opened } = openWitness(sealWitness(claims, sealing), opening);
    assert.deepEqual(opened, claims);
    // What was signed, as it was: evidence for others.
    assert.equal(Number(fromBinary(WitnessSchema, bytes).counter), claims.counter);
  });

  test("do not open for another group, device, key, counter or epoch, or altered", () => {
    const sealed = sealWitness(claims, sealing);
    for (const run of [
      () => openWitness(sealed, { ...opening, groupId: flipped(groupId) }),
      () => openWitness(sealed, { ...opening, deviceId: flipped(deviceId) }),
      () => openWitness(sealed, { ...opening, witnessKey: flipped(witnessKey) }),
      () => openWitness({ ...sealed, counter: 5n }, opening),
      () => openWitness({ ...sealed, counter: 0n }, opening),
      () => openWitness({ ...sealed, counter: 2n ** 53n }, opening),
      () => openWitness({ ...sealed, epoch: 3n }, opening),
      () => openWitness({ ...sealed, epoch: 0n }, opening),
      () => openWitness({ ...sealed, sealed: flipped(sealed.sealed, 100) }, opening),
      () => openWitness({ ...sealed, sealed: new Uint8Array(0) }, opening),
      () => openWitness({ ...sealed, sealed: new Uint8Array(witnessBytesMax + 1) }, opening),
    ]) {
      fails(ErrorCode.OPEN_FAILED, run);
    }
  });

  test("hold only under the device's own signature", () => {
    const sealed = sealWitness(claims, sealing);
    const signature = flipped(sealed.signature);
    fails(ErrorCode.HISTORY_ALTERED, () => openWitness({ ...sealed, signature }, opening));
    const other = { ...opening, signingKey: device("b").signingKey };
    fails(ErrorCode.HISTORY_ALTERED, () => openWitness(sealed, other));
  });

  /** A witness that says what a device should not, well sealed and signed. */
  function forged(change: object) {
    const bytes = toBinary(
      WitnessSchema,
      create(WitnessSchema, {
        deviceId,
        counter: 4n,
        madeMs: 1n,
        logId: claims.logId,
        applied: 1n,
        membership: { count: 1n, head: claims.membership.head },
        ...change,
      }),
    );
    const context = concatBytes(groupId, deviceId, u64be(4), u64be(2));
    return create(SealedWitnessSchema, {
      counter: 4n,
      epoch: 2n,
      sealed: aeadSeal(witnessKey, random(24), context, pad(bytes)),
      signature: keys.sign(concatBytes(witnessSignatureLabel, groupId, blake2b256(bytes))),
    });
  }

  test("keep their bounds, and say inside what stands outside", () => {
    assert.equal(openWitness(forged({}), opening).applied, 1);
    for (const change of [
      { deviceId: random(32) },
      { counter: 3n },
      { madeMs: 2n ** 53n },
      { applied: 2n ** 53n },
      { logId: random(15) },
      { membership: { count: 0n, head: random(32) } },
      { membership: { count: 1n, head: random(31) } },
      { membership: undefined },
      { positions: [{ deviceId: random(31), seq: 1n, link: random(32) }] },
      { positions: [{ deviceId: random(32), seq: 2n ** 53n, link: random(32) }] },
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, () => openWitness(forged(change), opening));
    }
  });

  test("of more senders than fit, the first are claimed", () => {
    const positions = new Map(
      Array.from({ length: 400 }, () => [idText(random(32)), { seq: 1, link: random(32) }]),
    );
    const sealed = sealWitness({ ...claims, positions }, sealing);
    assert.ok(sealed.sealed.byteLength <= witnessBytesMax);
    const opened = openWitness(sealed, opening).positions;
    assert.ok(opened.size >= 150, String(opened.size));
    assert.deepEqual([...opened], [...positions].slice(0, opened.size));
  });
});
