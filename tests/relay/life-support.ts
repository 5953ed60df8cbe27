/** A group with snapshots and objects, as its devices ask for them. */
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import type { LoadedGroup } from "../../server/store/contract.ts";
import type { EnvelopeBody } from "../../wire/envelope.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { bytes, ChainDevice, groupId } from "../support/devices.ts";
import {
  type Peer,
  type RelayWorldOptions,
  RelayWorldUnderTest,
  settled,
} from "../support/relay-world.ts";

export const rangeBytes: number = 1_048_576;
export const day = 86_400_000;

/** Waits until retention and everything it set going has come to rest. */
export async function rest(): Promise<void> {
  for (let i = 0; i < 60; i++) await settled();
}

/** A world with a group of so many devices, all connected. */
export async function group(
  count: number,
  options: RelayWorldOptions = {},
): Promise<{ world: RelayWorldUnderTest; devices: ChainDevice[]; peers: Peer[] }> {
  const world = new RelayWorldUnderTest(options);
  const devices = Array.from({ length: count }, (_, i) => new ChainDevice(i + 1));
  await world.found(...devices);
  const peers: Peer[] = [];
  for (const device of devices) peers.push(await world.member(device));
  for (const peer of peers) peer.port.take();
  return { world, devices, peers };
}

export async function loaded(world: RelayWorldUnderTest): Promise<LoadedGroup> {
  const found = await world.store.loadGroup(groupId);
  assert(found !== undefined);
  return found;
}

/** Asks, and waits for the answer. */
export async function asked(peer: Peer, body: Parameters<Peer["ask"]>[0]): Promise<string> {
  const id = peer.ask(body);
  await rest();
  return peer
    .said()
    .filter((line) => line.startsWith(`#${id} `))
    .join(", ");
}

/** Stores an object whole; gives back its id. */
export async function putObject(
  peer: Peer,
  content: Uint8Array,
  snapshotPart = false,
): Promise<Uint8Array> {
  const objectId = blake2b256(content);
  for (let offset = 0; offset < content.byteLength; offset += rangeBytes) {
    peer.ask({
      case: "putObject",
      value: {
        objectId,
        sizeBytes: BigInt(content.byteLength),
        offset: BigInt(offset),
        data: content.subarray(offset, offset + rangeBytes),
        snapshotPart,
      },
    });
    await rest();
  }
  assert.equal(peer.last("objectState").complete, true);
  return objectId;
}

export interface ManifestChoices {
  readonly author: Uint8Array;
  readonly logId: Uint8Array;
  readonly replacesThrough: number;
  readonly link: Uint8Array;
  readonly parts: readonly Uint8Array[];
  readonly claims?: number;
}

export function manifestOf(choices: ManifestChoices): Uint8Array {
  return toBinary(
    SnapshotManifestSchema,
    create(SnapshotManifestSchema, {
      author: choices.author,
      logId: choices.logId,
      replacesThrough: BigInt(choices.replacesThrough),
      link: choices.link,
      parts: [...choices.parts],
      epoch: 1n,
      sealedClaims: bytes(100, choices.claims ?? 1),
    }),
  );
}

/** Acknowledges, stores a part and a snapshot that replaces everything up to the device's last blob. */
export async function snapshotBy(
  world: RelayWorldUnderTest,
  peer: Peer,
  author: ChainDevice,
  at: { readonly cursor: number; readonly link: Uint8Array; readonly content?: Uint8Array },
): Promise<{ id: Uint8Array; manifest: Uint8Array; part: Uint8Array }> {
  const { logId } = (await loaded(world)).group;
  peer.ask({ case: "ack", value: { applied: BigInt(at.cursor) } });
  const part = await putObject(peer, at.content ?? bytes(3_000, at.cursor), true);
  const manifest = manifestOf({
    author: author.id,
    logId,
    replacesThrough: at.cursor,
    link: at.link,
    parts: [part],
  });
  const said = await asked(peer, {
    case: "putSnapshot",
    value: { manifest, signature: bytes(64, 1) },
  });
  assert.match(said, /^#\d+ done$/);
  return { id: blake2b256(manifest), manifest, part };
}

export function confirmOf(snapshotId: Uint8Array): EnvelopeBody {
  return { case: "confirmSnapshot", value: { snapshotId, signature: bytes(64, 2) } };
}

export async function confirm(peer: Peer, snapshotId: Uint8Array): Promise<string> {
  return await asked(peer, confirmOf(snapshotId));
}

/** A second goes by, and what retention does comes to rest. */
export async function pass(world: RelayWorldUnderTest, ms = 1_000): Promise<void> {
  world.pass(ms);
  await rest();
}
