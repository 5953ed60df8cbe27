/** The vectors of objects and snapshots, also by a second implementation. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ed25519 } from "@noble/curves/ed25519.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import {
  decodeReference,
  deriveDeviceKeys,
  objectLayout,
  openSnapshot,
  readChain,
  verifyConfirmation,
} from "../../client/seal/index.ts";
import { SnapshotClaimsSchema } from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { concatBytes, fromHex, toHex, u64be, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText } from "../../wire/ids.ts";
import type { objectVectors, snapshotVectors } from "../vectors/retention-cases.ts";
import { vectorContent } from "../vectors/retention-cases.ts";
import { fails } from "./support.ts";

const vectors = JSON.parse(
  readFileSync(new URL("../vectors/seal.json", import.meta.url), "utf8"),
) as {
  labels: Record<string, string>;
  group_id: string;
  devices: { name: string; seed: string; device_id: string; signing_key: string }[];
  objects: (Awaited<ReturnType<typeof objectVectors>>[number] & { sealed?: string })[];
  snapshot: ReturnType<typeof snapshotVectors>;
};
const groupId = fromHex(vectors.group_id);

function label(name: string): Uint8Array {
  return utf8(vectors.labels[name] as string);
}

function deviceOf(name: string) {
  const device = vectors.devices.find((each) => each.name === name);
  assert.ok(device !== undefined);
  return device;
}

function hash(bytes: Uint8Array): Uint8Array {
  return blake2b(bytes, { dkLen: 32 });
}

describe("PROTOCOL 12.22: objects are these bytes", () => {
  for (const vector of vectors.objects) {
    test(`a content of ${vector.content_bytes} bytes`, () => {
      const content = vectorContent(vector.content_bytes);
      const layout = objectLayout(content.byteLength);
      const padded = new Uint8Array(layout.paddedBytes);
      padded.set(content);
      const info = concatBytes(label("object_stream"), groupId);
      const key = hkdf(sha256, fromHex(vector.key), undefined, info, 32);
      const chunks: Uint8Array[] = [];
      for (let at = 0; at < padded.byteLength; at += 65_536) {
        const last = at + 65_536 >= padded.byteLength ? 1 : 0;
        const nonce = concatBytes(new Uint8Array(15), u64be(at / 65_536), Uint8Array.of(last));
        chunks.push(xchacha20poly1305(key, nonce).encrypt(padded.subarray(at, at + 65_536)));
      }
      const sealed = concatBytes(...chunks);
      assert.equal(chunks.length, vector.chunks);
      assert.equal(sealed.byteLength, vector.sealed_bytes);
      assert.equal(layout.sealedBytes, vector.sealed_bytes);
      assert.equal(toHex(sealed.subarray(-16)), vector.last_chunk_tag);
      if (vector.sealed !== undefined) assert.equal(toHex(sealed), vector.sealed);
      assert.equal(toHex(hash(sealed)), vector.object_id);
      const reference = decodeReference(fromHex(vector.reference));
      assert.equal(toHex(reference.objectId), vector.object_id);
      assert.equal(reference.contentBytes, vector.content_bytes);
    });
  }
});

describe("PROTOCOL 12.23: a snapshot is these bytes", () => {
  const { snapshot } = vectors;
  const keys = deriveDeviceKeys(fromHex(deviceOf("b").seed));
  const blobs = snapshot.control_blobs.map((blob) => fromHex(blob));
  const chain = readChain(blobs, { groupId, keys });
  const controlHead = (count: number): Uint8Array | undefined => {
    const blob = blobs[count - 1];
    return blob === undefined ? undefined : blake2b256(blob);
  };
  const sealed = { manifest: fromHex(snapshot.manifest), signature: fromHex(snapshot.signature) };

  test("as its author makes it", () => {
    const opened = openSnapshot(sealed, { chain, controlHead });
    assert.equal(toHex(opened.id), snapshot.snapshot_id);
    assert.equal(opened.replacesThrough, snapshot.replaces_through);
    assert.deepEqual(
      [...opened.frontier].map(([device, { seq, link }]) => [device, seq, toHex(link)]),
      snapshot.frontier.map(({ device, seq, link }) => [
        idText(fromHex(deviceOf(device).device_id)),
        seq,
        link,
      ]),
    );
    assert.deepEqual(
      opened.parts.map(({ objectId, key, contentBytes }) => ({
        object_id: toHex(objectId),
        key: toHex(key),
        content_bytes: contentBytes,
      })),
      snapshot.parts,
    );
  });

  test("as another implementation reads it", () => {
    const manifest = fromBinary(SnapshotManifestSchema, sealed.manifest);
    const key = hkdf(sha256, fromHex(snapshot.epoch_secret), undefined, label("snapshot_key"), 32);
    assert.equal(toHex(key), snapshot.snapshot_key);
    const context = concatBytes(
      groupId,
      manifest.author,
      fromHex(snapshot.log_id),
      u64be(snapshot.replaces_through),
      fromHex(snapshot.link),
      u64be(snapshot.epoch),
      hash(concatBytes(...manifest.parts)),
    );
    const nonce = manifest.sealedClaims.subarray(0, 24);
    const padded = xchacha20poly1305(key, nonce, context).decrypt(
      manifest.sealedClaims.subarray(24),
    );
    // The length is a varint of two bytes here.
    const length = ((padded[0] as number) & 0x7f) | ((padded[1] as number) << 7);
    const claims = padded.subarray(2, 2 + length);
    assert.deepEqual(
      toBinary(SnapshotClaimsSchema, fromBinary(SnapshotClaimsSchema, claims)),
      claims,
    );
    const signed = concatBytes(label("snapshot_signature"), groupId, hash(sealed.manifest));
    const author = deviceOf(snapshot.author);
    assert.ok(ed25519.verify(sealed.signature, signed, fromHex(author.signing_key)));
    const manifestAgain = toBinary(
      SnapshotManifestSchema,
      create(SnapshotManifestSchema, manifest),
    );
    assert.deepEqual(manifestAgain, sealed.manifest);
  });

  test("confirmed by another device", () => {
    const { device, signature } = snapshot.confirmation;
    const signingKey = fromHex(deviceOf(device).signing_key);
    const id = fromHex(snapshot.snapshot_id);
    assert.ok(verifyConfirmation(signingKey, groupId, id, fromHex(signature)));
    const signed = concatBytes(label("snapshot_confirmation"), groupId, id);
    assert.ok(ed25519.verify(fromHex(signature), signed, signingKey));
  });

  for (const { what, manifest, signature, code } of snapshot.refused) {
    test(`12.24 refused: ${what}`, () => {
      fails(ErrorCode[code as keyof typeof ErrorCode], () =>
        openSnapshot(
          { manifest: fromHex(manifest), signature: fromHex(signature) },
          { chain, controlHead },
        ),
      );
    });
  }
});
