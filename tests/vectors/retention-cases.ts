/** The vectors of objects and snapshots, for `make-seal.ts`. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  addDevice,
  type DeviceKeys,
  deriveDeviceKeys,
  deviceMessage,
  encodeReference,
  extendChain,
  foundGroup,
  ObjectCipher,
  objectChunks,
  openSnapshot,
  type Random,
  sealSnapshot,
  signConfirmation,
} from "../../client/seal/index.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { concatBytes, toHex } from "../../wire/bytes.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText } from "../../wire/ids.ts";
import { codeOf } from "./code-of.ts";

type Drawn = (name: string) => Random;

/** A content that needs no place in the file: byte i is 31 i + ⌊i / 256⌋, modulo 256. */
export function vectorContent(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (31 * i + (i >> 8)) & 0xff);
}

/** Objects by their contents' sizes. Whole where they are short, else by the hash of the ciphertext. */
export async function objectVectors(drawn: Drawn, groupId: Uint8Array) {
  const made = [];
  for (const contentBytes of [0, 5, 256, 300, 65_535, 65_536, 65_537, 200_000]) {
    const key = drawn(`object ${contentBytes}`)(32);
    const cipher = new ObjectCipher(key, groupId);
    const chunks: Uint8Array[] = [];
    for await (const chunk of objectChunks([vectorContent(contentBytes)])) {
      chunks.push(cipher.seal(chunk.index, chunk.last, chunk.plaintext));
    }
    const sealed = concatBytes(...chunks);
    const objectId = blake2b256(sealed);
    made.push({
      content_bytes: contentBytes,
      key: toHex(key),
      chunks: chunks.length,
      sealed_bytes: sealed.byteLength,
      object_id: toHex(objectId),
      last_chunk_tag: toHex(sealed.subarray(-16)),
      reference: toHex(encodeReference({ objectId, key, contentBytes, contentType: "text/plain" })),
      ...(sealed.byteLength <= 512 ? { sealed: toHex(sealed) } : {}),
    });
  }
  return made;
}

/** One snapshot of device a, confirmed by b, and what is refused. */
export function snapshotVectors(
  drawn: Drawn,
  groupId: Uint8Array,
  seeds: { readonly a: Uint8Array; readonly b: Uint8Array },
) {
  const [a, b] = [deriveDeviceKeys(seeds.a), deriveDeviceKeys(seeds.b)];
  const founding = { keys: a, random: drawn("snapshot group"), nowMs: 1_000, groupId, name: "a" };
  const founded = foundGroup(founding);
  const { controlBlob } = addDevice(founded.chain, deviceMessage(b, "b"), founding);
  const chain = extendChain(founded.chain, controlBlob, { keys: a });
  const blobs = [founded.change.controlBlob, controlBlob];
  const heads = blobs.map((blob) => blake2b256(blob));
  const at = { chain, controlHead: (count: number) => heads[count - 1] };
  const content = {
    logId: drawn("snapshot log")(16),
    replacesThrough: 12,
    link: drawn("snapshot link")(32),
    frontier: new Map([
      [idText(a.deviceId), { seq: 7, link: drawn("snapshot a")(32) }],
      [idText(b.deviceId), { seq: 5, link: drawn("snapshot b")(32) }],
    ]),
    membership: chain.version,
    parts: [{ objectId: drawn("part")(32), key: drawn("part key")(32), contentBytes: 3 }],
  };
  const make = (keys: DeviceKeys, change: Partial<typeof content> = {}) =>
    sealSnapshot({ ...content, ...change }, { chain, keys, random: drawn("snapshot nonce") });
  const sealed = make(a);
  const manifest = fromBinary(SnapshotManifestSchema, sealed.manifest);
  const moved = toBinary(SnapshotManifestSchema, { ...manifest, replacesThrough: 13n });
  const strangers = new Map([[idText(drawn("stranger")(32)), { seq: 1, link: content.link }]]);
  const refused: [string, Parameters<typeof openSnapshot>[0]][] = [
    ["another cursor than was signed", { ...sealed, manifest: moved }],
    ["signed by another member", { ...sealed, signature: make(b).signature }],
    ["of a device that is no member", make(deriveDeviceKeys(drawn("snapshot stranger")(32)))],
    ["a frontier with a device that the group never had", make(a, { frontier: strangers })],
    [
      "a membership version of another chain",
      make(a, { membership: { count: 2, head: drawn("another head")(32) } }),
    ],
  ];
  return {
    author: "a",
    control_blobs: blobs.map(toHex),
    epoch: chain.epoch,
    epoch_secret: toHex(chain.keyring.secret(chain.epoch) as Uint8Array),
    snapshot_key: toHex(chain.keyring.snapshotKey(chain.epoch) as Uint8Array),
    log_id: toHex(content.logId),
    replaces_through: content.replacesThrough,
    link: toHex(content.link),
    frontier: [...content.frontier.values()].map(({ seq, link }, i) => ({
      device: i === 0 ? "a" : "b",
      seq,
      link: toHex(link),
    })),
    membership: { count: chain.version.count, head: toHex(chain.version.head) },
    parts: content.parts.map(({ objectId, key, contentBytes }) => ({
      object_id: toHex(objectId),
      key: toHex(key),
      content_bytes: contentBytes,
    })),
    manifest: toHex(sealed.manifest),
    signature: toHex(sealed.signature),
    snapshot_id: toHex(blake2b256(sealed.manifest)),
    confirmation: {
      device: "b",
      signature: toHex(signConfirmation(b, groupId, blake2b256(sealed.manifest))),
    },
    refused: refused.map(([what, snapshot]) => ({
      what,
      manifest: toHex(snapshot.manifest),
      signature: toHex(snapshot.signature),
      code: codeOf(() => openSnapshot(snapshot, at)),
    })),
  };
}
