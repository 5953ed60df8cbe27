import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ControlChain,
  extendChain,
  openSnapshot,
  removeDevices,
  type SealedSnapshot,
  type SnapshotContent,
  sealSnapshot,
  signConfirmation,
  verifyConfirmation,
} from "../../client/seal/index.ts";
import { snapshotSignatureLabel } from "../../client/seal/labels.ts";
import { pad } from "../../client/seal/padding.ts";
import { aeadSeal } from "../../client/seal/primitives.ts";
import { SnapshotClaimsSchema } from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { concatBytes, u64be } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText } from "../../wire/ids.ts";
import { device, fails, flipped, group, seeded } from "./support.ts";

const random = seeded("snapshot");
const of = group("a", "b", "c");
const { chain, groupId, blobs } = of;
const a = device("a");
const b = device("b");
const heads = blobs.map((blob) => blake2b256(blob));

function opening(of: ControlChain, more: readonly Uint8Array[] = []) {
  const all = [...heads, ...more];
  return { chain: of, controlHead: (count: number) => all[count - 1] };
}

const content: SnapshotContent = {
  logId: random(16),
  replacesThrough: 12,
  link: random(32),
  frontier: new Map([
    [idText(a.deviceId), { seq: 7, link: random(32) }],
    [idText(b.deviceId), { seq: 5, link: random(32) }],
  ]),
  membership: chain.version,
  parts: [
    { objectId: random(32), key: random(32), contentBytes: 3 },
    { objectId: random(32), key: random(32), contentBytes: 0 },
  ],
};
const sealing = { chain, keys: a, random };
const placeOfB = content.frontier.get(idText(b.deviceId)) ?? { seq: 0, link: random(32) };

/** A snapshot whose manifest or claims say something else, well sealed and signed by a member. */
function forged(change: { manifest?: object; claims?: object; keys?: typeof a }): SealedSnapshot {
  const keys = change.keys ?? a;
  const claims = toBinary(
    SnapshotClaimsSchema,
    create(SnapshotClaimsSchema, {
      frontier: [{ deviceId: a.deviceId, seq: 7n, link: random(32) }],
      membership: { count: BigInt(chain.version.count), head: chain.version.head },
      partKeys: [random(32)],
      partBytes: [3n],
      ...change.claims,
    }),
  );
  const clear = create(SnapshotManifestSchema, {
    author: keys.deviceId,
    logId: random(16),
    replacesThrough: 12n,
    link: random(32),
    parts: [random(32)],
    epoch: BigInt(chain.epoch),
    ...change.manifest,
  });
  const context = concatBytes(
    groupId,
    clear.author,
    clear.logId,
    u64be(Number(BigInt.asUintN(52, clear.replacesThrough))),
    clear.link,
    u64be(Number(BigInt.asUintN(52, clear.epoch))),
    blake2b256(...clear.parts),
  );
  const snapshotKey = chain.keyring.snapshotKey(chain.epoch) as Uint8Array;
  clear.sealedClaims = aeadSeal(snapshotKey, random(24), context, pad(claims));
  const manifest = toBinary(SnapshotManifestSchema, clear);
  const signed = concatBytes(snapshotSignatureLabel, groupId, blake2b256(manifest));
  return { manifest, signature: keys.sign(signed) };
}

describe("PROTOCOL 12.23: snapshots", () => {
  test("open to what was claimed", () => {
    const sealed = sealSnapshot(content, sealing);
    const id = blake2b256(sealed.manifest);
    assert.deepEqual(openSnapshot(sealed, opening(chain)), {
      ...content,
      id,
      author: a.deviceId,
      epoch: chain.epoch,
      confirmed: false,
    });
  });

  test("hold only under their author's own signature, over every byte", () => {
    const sealed = sealSnapshot(content, sealing);
    const other = { ...sealed, signature: flipped(sealed.signature) };
    fails(ErrorCode.HISTORY_ALTERED, () => openSnapshot(other, opening(chain)));
    const manifest = fromBinary(SnapshotManifestSchema, sealed.manifest);
    manifest.replacesThrough += 1n;
    fails(ErrorCode.HISTORY_ALTERED, () =>
      openSnapshot(
        { ...sealed, manifest: toBinary(SnapshotManifestSchema, manifest) },
        opening(chain),
      ),
    );
    const stolen = fromBinary(SnapshotManifestSchema, sealed.manifest);
    stolen.author = b.deviceId;
    fails(ErrorCode.HISTORY_ALTERED, () =>
      openSnapshot(
        { ...sealed, manifest: toBinary(SnapshotManifestSchema, stolen) },
        opening(chain),
      ),
    );
  });

  test("without their bounds are none", () => {
    const part = random(32);
    for (const manifest of [
      { author: random(31) },
      { logId: random(15) },
      { link: random(31) },
      { replacesThrough: 0n },
      { replacesThrough: 2n ** 53n },
      { epoch: 0n },
      { parts: [] },
      { parts: [random(31)] },
      { parts: Array.from({ length: 4_097 }, () => part) },
    ]) {
      fails(ErrorCode.OPEN_FAILED, () => openSnapshot(forged({ manifest }), opening(chain)));
    }
    const large = { manifest: new Uint8Array(600_000), signature: random(64) };
    fails(ErrorCode.OPEN_FAILED, () => openSnapshot(large, opening(chain)));
  });

  test("that contain nothing, or have no parts, are not made", () => {
    assert.throws(() => sealSnapshot({ ...content, parts: [] }, sealing), RangeError);
    assert.throws(() => sealSnapshot({ ...content, frontier: new Map() }, sealing), RangeError);
  });

  test("are bound to what stands beside the claims", () => {
    const sealed = sealSnapshot(content, sealing);
    const manifest = fromBinary(SnapshotManifestSchema, sealed.manifest);
    for (const change of [
      { logId: random(16) },
      { replacesThrough: 13n },
      { link: random(32) },
      { parts: [random(32), random(32)] },
      { sealedClaims: flipped(manifest.sealedClaims, 60) },
    ]) {
      const bytes = toBinary(SnapshotManifestSchema, { ...manifest, ...change });
      const signed = concatBytes(snapshotSignatureLabel, groupId, blake2b256(bytes));
      const resigned = { manifest: bytes, signature: a.sign(signed) };
      fails(ErrorCode.OPEN_FAILED, () => openSnapshot(resigned, opening(chain)));
    }
  });
});

describe("PROTOCOL 12.24: a snapshot is accepted only", () => {
  test("of a member", () => {
    fails(ErrorCode.NOT_A_MEMBER, () =>
      openSnapshot(forged({ keys: device("stranger") }), opening(chain)),
    );
    const made = sealSnapshot(content, { ...sealing, keys: b });
    assert.ok(openSnapshot(made, opening(chain)));
    const own = signConfirmation(b, groupId, blake2b256(made.manifest));
    const byItself = { ...opening(chain), confirmation: { by: b.deviceId, signature: own } };
    assert.ok(!openSnapshot(made, byItself).confirmed);
    const { controlBlob } = removeDevices(chain, [{ deviceId: b.deviceId, place: placeOfB }], {
      keys: a,
      random,
      nowMs: 3_000,
    });
    const after = extendChain(chain, controlBlob, { keys: a });
    const at = opening(after, [blake2b256(controlBlob)]);
    fails(ErrorCode.NOT_A_MEMBER, () => openSnapshot(made, at));
    // What a member confirmed before stays good; what nobody, or only its author, confirmed does not.
    const id = blake2b256(made.manifest);
    const by = (keys: typeof a, of = id) => ({
      ...at,
      confirmation: { by: keys.deviceId, signature: signConfirmation(keys, groupId, of) },
    });
    assert.ok(openSnapshot(made, by(device("c"))).confirmed);
    for (const each of [by(b), by(device("stranger")), by(device("c"), random(32))]) {
      fails(ErrorCode.NOT_A_MEMBER, () => openSnapshot(made, each));
    }
  });

  test("under an epoch that this device has", () => {
    const epoch = BigInt(chain.epoch + 1);
    fails(ErrorCode.KEY_MISSING, () =>
      openSnapshot(forged({ manifest: { epoch } }), opening(chain)),
    );
  });

  test("behind this chain, or its beginning", () => {
    const first = { count: 1n, head: heads[0] as Uint8Array };
    assert.ok(openSnapshot(forged({ claims: { membership: first } }), opening(chain)));
    for (const membership of [
      { count: 1n, head: random(32) },
      { count: 2n, head: first.head },
      { count: 9n, head: random(32) },
      { count: 0n, head: first.head },
      undefined,
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, () =>
        openSnapshot(forged({ claims: { membership } }), opening(chain)),
      );
    }
  });

  test("with a frontier that can be, and a key and size for each part", () => {
    const place = { deviceId: a.deviceId, seq: 7n, link: random(32) };
    assert.ok(openSnapshot(forged({}), opening(chain)));
    for (const claims of [
      { frontier: [] },
      { frontier: [{ ...place, seq: 0n }] },
      { frontier: [{ ...place, seq: 2n ** 53n }] },
      { frontier: [{ ...place, link: random(31) }] },
      { frontier: [{ ...place, deviceId: random(32) }] },
      { frontier: [place, place] },
      { partKeys: [] },
      { partKeys: [random(31)] },
      { partKeys: [random(32), random(32)] },
      { partBytes: [] },
      { partBytes: [2n ** 53n] },
    ]) {
      fails(ErrorCode.HISTORY_ALTERED, () => openSnapshot(forged({ claims }), opening(chain)));
    }
  });

  test("with nothing of a removed device beyond its closing", () => {
    const closing = { seq: 5, link: random(32) };
    const { controlBlob } = removeDevices(chain, [{ deviceId: b.deviceId, place: closing }], {
      keys: a,
      random,
      nowMs: 3_000,
    });
    const after = extendChain(chain, controlBlob, { keys: a });
    const at = opening(after, [blake2b256(controlBlob)]);
    const of = (seq: number, link: Uint8Array) =>
      forged({ claims: { frontier: [{ deviceId: b.deviceId, seq: BigInt(seq), link }] } });
    assert.ok(openSnapshot(of(5, closing.link), at));
    assert.ok(openSnapshot(of(4, random(32)), at));
    fails(ErrorCode.HISTORY_ALTERED, () => openSnapshot(of(5, random(32)), at));
    fails(ErrorCode.HISTORY_ALTERED, () => openSnapshot(of(6, closing.link), at));
  });
});

test("PROTOCOL 12.23: a confirmation is of one device, group and snapshot", () => {
  const id = random(32);
  const signature = signConfirmation(b, groupId, id);
  assert.ok(verifyConfirmation(b.signingKey, groupId, id, signature));
  assert.ok(!verifyConfirmation(a.signingKey, groupId, id, signature));
  assert.ok(!verifyConfirmation(b.signingKey, flipped(groupId), id, signature));
  assert.ok(!verifyConfirmation(b.signingKey, groupId, flipped(id), signature));
});
