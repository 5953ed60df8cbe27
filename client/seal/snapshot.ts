/**
 * Snapshots: an app's state in parts, with what it claims to contain. The relay reads which part of
 * the log one replaces and where its parts are; which senders' entries it contains, and the keys of
 * the parts, only devices read.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type SnapshotClaims as ClaimsMessage,
  SnapshotClaimsSchema,
} from "../../gen/syncrelay/sealed/v1/snapshot_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import {
  type SnapshotManifest,
  SnapshotManifestSchema,
} from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { concatBytes, equalBytes, u64be } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256, hashBytes } from "../../wire/hash.ts";
import { deviceIdBytes, idText, linkBytes, logIdBytes } from "../../wire/ids.ts";
import { manifestBytesMax, snapshotPartsMax } from "../../wire/limits.ts";
import { altered, decodeMessage, safeNumber } from "./checks.ts";
import { type Positions, positionsOf, senderLinks } from "./history.ts";
import { type DeviceKeys, verifySignature } from "./keys.ts";
import { snapshotConfirmationLabel, snapshotSignatureLabel } from "./labels.ts";
import type { ControlChain } from "./membership.ts";
import { objectKeyBytes } from "./object.ts";
import { pad, unpad } from "./padding.ts";
import { aeadOpen, aeadSeal, nonceBytes, type Random } from "./primitives.ts";

/** One part: an object. */
export interface SnapshotPart {
  readonly objectId: Uint8Array;
  readonly key: Uint8Array;
  readonly contentBytes: number;
}

/** What a snapshot says. */
export interface SnapshotContent {
  readonly logId: Uint8Array;
  /** Every blob up to this cursor is contained in it; at least 1. */
  readonly replacesThrough: number;
  /** The link of the blob there. */
  readonly link: Uint8Array;
  /** Every sender's place that the state contains. */
  readonly frontier: Positions;
  /** Where the control chain stood. */
  readonly membership: { readonly count: number; readonly head: Uint8Array };
  /** At least one. */
  readonly parts: readonly SnapshotPart[];
}

/** A snapshot, opened and verified. */
export interface OpenedSnapshot extends SnapshotContent {
  /** BLAKE2b-256 of the manifest. */
  readonly id: Uint8Array;
  readonly author: Uint8Array;
  readonly epoch: number;
  /** A member other than the author opened all of it, and found its frontier right. */
  readonly confirmed: boolean;
}

/** A snapshot as it is stored. */
export interface SealedSnapshot {
  readonly manifest: Uint8Array;
  readonly signature: Uint8Array;
}

/** Seals and signs a snapshot under the newest epoch of the chain. */
export function sealSnapshot(
  content: SnapshotContent,
  at: { readonly chain: ControlChain; readonly keys: DeviceKeys; readonly random: Random },
): SealedSnapshot {
  const { chain, keys } = at;
  const { parts } = content;
  const snapshotKey = chain.keyring.snapshotKey(chain.epoch);
  if (snapshotKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  if (parts.length === 0 || parts.length > snapshotPartsMax || content.frontier.size === 0) {
    throw new RangeError("a snapshot has parts, and contains something");
  }
  const claims = toBinary(
    SnapshotClaimsSchema,
    create(SnapshotClaimsSchema, {
      frontier: senderLinks(content.frontier),
      membership: {
        count: BigInt(content.membership.count),
        head: content.membership.head,
      },
      partKeys: parts.map(({ key }) => key),
      partBytes: parts.map(({ contentBytes }) => BigInt(contentBytes)),
    }),
  );
  const clear = {
    author: keys.deviceId,
    logId: content.logId,
    replacesThrough: BigInt(content.replacesThrough),
    link: content.link,
    parts: parts.map(({ objectId }) => objectId),
    epoch: BigInt(chain.epoch),
  };
  const manifest = toBinary(
    SnapshotManifestSchema,
    create(SnapshotManifestSchema, {
      ...clear,
      sealedClaims: aeadSeal(
        snapshotKey,
        at.random(nonceBytes),
        claimsContext(chain.groupId, clear),
        pad(claims),
      ),
    }),
  );
  if (manifest.byteLength > manifestBytesMax) throw new SyncError(ErrorCode.TOO_LARGE);
  return { manifest, signature: keys.sign(signedSnapshot(chain.groupId, blake2b256(manifest))) };
}

/**
 * Opens and verifies a snapshot. Throws OPEN_FAILED where it is no snapshot of this group,
 * KEY_MISSING where it is of an epoch that this device has no secret of, NOT_A_MEMBER where its author
 * is none now, and HISTORY_ALTERED where the author did not sign it, or it says what cannot be.
 *
 * An author that was removed since is none: its key may be in anybody's hands, and what it signs now
 * looks like what it signed then. What a member confirmed stays good, whatever becomes of its author.
 */
export function openSnapshot(
  sealed: SealedSnapshot,
  at: {
    readonly chain: ControlChain;
    /** The hash of the control blob of a count; undefined where there is none. */
    readonly controlHead: (count: number) => Uint8Array | undefined;
    /** Who confirmed it, by the relay's word, and what it signed. */
    readonly confirmation?: { readonly by: Uint8Array; readonly signature: Uint8Array };
  },
): OpenedSnapshot {
  const { chain } = at;
  const { groupId } = chain;
  const manifest = decodeMessage(
    SnapshotManifestSchema,
    sealed.manifest,
    manifestBytesMax,
    ErrorCode.OPEN_FAILED,
  );
  const epoch = safeNumber(manifest.epoch, 1);
  const replacesThrough = safeNumber(manifest.replacesThrough, 1);
  if (
    manifest.author.byteLength !== deviceIdBytes ||
    manifest.logId.byteLength !== logIdBytes ||
    manifest.link.byteLength !== linkBytes ||
    epoch === undefined ||
    replacesThrough === undefined ||
    manifest.parts.length === 0 ||
    manifest.parts.length > snapshotPartsMax ||
    manifest.parts.some((part) => part.byteLength !== hashBytes)
  ) {
    throw new SyncError(ErrorCode.OPEN_FAILED);
  }
  const author = chain.devices.get(idText(manifest.author));
  const id = blake2b256(sealed.manifest);
  const confirmed = isConfirmed(chain, manifest.author, id, at.confirmation);
  if (author?.role !== MemberRole.DEVICE || (author.closing !== undefined && !confirmed)) {
    throw new SyncError(ErrorCode.NOT_A_MEMBER);
  }
  if (!verifySignature(author.signingKey, signedSnapshot(groupId, id), sealed.signature)) {
    throw altered();
  }
  const snapshotKey = chain.keyring.snapshotKey(epoch);
  if (snapshotKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  const claims = openClaims(manifest, groupId, snapshotKey);
  const content = contentOf(manifest, claims, replacesThrough);
  checkMembership(content.membership, at);
  checkFrontier(content.frontier, chain);
  return { ...content, id, author: manifest.author, epoch, confirmed };
}

/** Whether a member other than its author has confirmed a snapshot. */
function isConfirmed(
  { groupId, devices }: ControlChain,
  author: Uint8Array,
  id: Uint8Array,
  confirmation: { readonly by: Uint8Array; readonly signature: Uint8Array } | undefined,
): boolean {
  if (confirmation === undefined || equalBytes(confirmation.by, author)) return false;
  const device = devices.get(idText(confirmation.by));
  return (
    device?.role === MemberRole.DEVICE &&
    device.closing === undefined &&
    verifyConfirmation(device.signingKey, groupId, id, confirmation.signature)
  );
}

/** What a device signs that opened all parts of a snapshot and found its frontier right. */
export function signConfirmation(
  keys: DeviceKeys,
  groupId: Uint8Array,
  snapshotId: Uint8Array,
): Uint8Array {
  return keys.sign(signedConfirmation(groupId, snapshotId));
}

/** Whether a confirmation is a device's. */
export function verifyConfirmation(
  signingKey: Uint8Array,
  groupId: Uint8Array,
  snapshotId: Uint8Array,
  signature: Uint8Array,
): boolean {
  return verifySignature(signingKey, signedConfirmation(groupId, snapshotId), signature);
}

function openClaims(
  manifest: SnapshotManifest,
  groupId: Uint8Array,
  snapshotKey: Uint8Array,
): ClaimsMessage {
  const padded = aeadOpen(snapshotKey, manifest.sealedClaims, claimsContext(groupId, manifest));
  const bytes = padded === undefined ? undefined : unpad(padded);
  if (bytes === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  return decodeMessage(SnapshotClaimsSchema, bytes, manifestBytesMax, ErrorCode.OPEN_FAILED);
}

function contentOf(
  manifest: SnapshotManifest,
  claims: ClaimsMessage,
  replacesThrough: number,
): SnapshotContent {
  const frontier = positionsOf(claims.frontier);
  const count = safeNumber(claims.membership?.count ?? 0n, 1);
  const head = claims.membership?.head;
  const { parts } = manifest;
  if (
    count === undefined ||
    head?.byteLength !== hashBytes ||
    frontier.size === 0 ||
    frontier.size !== claims.frontier.length ||
    claims.partKeys.length !== parts.length ||
    claims.partBytes.length !== parts.length
  ) {
    throw altered();
  }
  return {
    logId: manifest.logId,
    replacesThrough,
    link: manifest.link,
    frontier,
    membership: { count, head },
    parts: parts.map((objectId, i) => {
      const key = claims.partKeys[i];
      const contentBytes = safeNumber(claims.partBytes[i] ?? 0n, 0);
      if (key?.byteLength !== objectKeyBytes || contentBytes === undefined) throw altered();
      return { objectId, key, contentBytes };
    }),
  };
}

/** The chain it was made behind is this one, or its beginning. */
function checkMembership(
  { count, head }: SnapshotContent["membership"],
  at: Parameters<typeof openSnapshot>[1],
): void {
  const known = at.controlHead(count);
  if (known === undefined || !equalBytes(known, head)) throw altered();
}

/** Places of devices that the group has or had, with something written, and none behind its closing. */
function checkFrontier(frontier: Positions, chain: ControlChain): void {
  for (const [id, place] of frontier) {
    const device = chain.devices.get(id);
    if (device?.role !== MemberRole.DEVICE || place.seq < 1) throw altered();
    const { closing } = device;
    if (closing === undefined || place.seq < closing.seq) continue;
    if (place.seq > closing.seq || !equalBytes(place.link, closing.link)) throw altered();
  }
}

/** What the claims are bound to: all that stands beside them in the manifest. */
function claimsContext(
  groupId: Uint8Array,
  clear: Pick<
    SnapshotManifest,
    "author" | "logId" | "replacesThrough" | "link" | "parts" | "epoch"
  >,
): Uint8Array {
  return concatBytes(
    groupId,
    clear.author,
    clear.logId,
    u64be(Number(clear.replacesThrough)),
    clear.link,
    u64be(Number(clear.epoch)),
    blake2b256(...clear.parts),
  );
}

function signedSnapshot(groupId: Uint8Array, id: Uint8Array): Uint8Array {
  return concatBytes(snapshotSignatureLabel, groupId, id);
}

function signedConfirmation(groupId: Uint8Array, snapshotId: Uint8Array): Uint8Array {
  return concatBytes(snapshotConfirmationLabel, groupId, snapshotId);
}
