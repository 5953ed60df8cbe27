/** What device and relay say to each other about snapshots, and what a device makes of it. */
import { type Snapshot, SnapshotManifestSchema } from "../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { manifestBytesMax } from "../wire/limits.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import type { Group } from "./group.ts";
import { decodeMessage } from "./seal/checks.ts";
import { type OpenedSnapshot, openSnapshot, type SealedSnapshot } from "./seal/snapshot.ts";

/** What a snapshot replaces, as its manifest says in the clear. Throws ENVELOPE_INVALID. */
export function replacedBy(shown: Snapshot): number {
  const manifest = decodeMessage(
    SnapshotManifestSchema,
    shown.manifest,
    manifestBytesMax,
    ErrorCode.ENVELOPE_INVALID,
  );
  return toNumber(manifest.replacesThrough);
}

/** Which snapshot is asked for. */
export interface SnapshotWanted {
  /** One of another device that waits for a confirmation, rather than the effective one. */
  readonly unconfirmed: boolean;
  /** Stored before this one. */
  readonly before?: Uint8Array;
}

/** Asks the relay for a snapshot. */
export async function askSnapshot(session: Connection, of: SnapshotWanted): Promise<Snapshot> {
  const { unconfirmed, before } = of;
  const answer = await session.request({
    case: "getSnapshot",
    value: { unconfirmed, ...(before === undefined ? {} : { before }) },
  });
  if (answer.case !== "snapshot") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
  return answer.value;
}

/** Whether the relay still answers a question with a snapshot that it answered it with before. */
export async function isStillShown(
  session: Connection,
  { id }: { readonly id: Uint8Array },
  of: SnapshotWanted,
): Promise<boolean> {
  const { manifest } = await askSnapshot(session, of);
  return manifest.byteLength > 0 && equalBytes(blake2b256(manifest), id);
}

/** Stores a snapshot whose parts are stored. */
export async function storeSnapshot(session: Connection, sealed: SealedSnapshot): Promise<void> {
  await session.request({ case: "putSnapshot", value: { ...sealed } });
}

/** Says that this device opened all of a snapshot, and that its own verified history agrees with it. */
export async function confirmSnapshot(
  session: Connection,
  snapshotId: Uint8Array,
  signature: Uint8Array,
): Promise<void> {
  await session.request({ case: "confirmSnapshot", value: { snapshotId, signature } });
}

/** Opens and verifies what the relay showed; undefined where it has none. Throws as `openSnapshot`. */
export async function openShown(
  core: Core,
  group: Group,
  shown: Snapshot,
): Promise<OpenedSnapshot | undefined> {
  const { manifest, signature, confirmedBy, confirmation } = shown;
  if (manifest.byteLength === 0) return undefined;
  const blobs = await group.blobs();
  const { chain } = core;
  if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  return openSnapshot(
    { manifest, signature },
    {
      chain,
      controlHead: (count) => {
        const blob = blobs[count - 1];
        return blob === undefined ? undefined : blake2b256(blob);
      },
      ...(confirmedBy.byteLength === 0
        ? {}
        : { confirmation: { by: confirmedBy, signature: confirmation } }),
    },
  );
}
