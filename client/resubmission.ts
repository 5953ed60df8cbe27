/**
 * Brings a restored relay the control blobs that it lacks, byte for byte as they are held here, whoever
 * wrote them. What goes with each is made again from the chain on both sides of it.
 */
import { create } from "@bufbuild/protobuf";
import {
  type MembershipDetail,
  type SenderPosition,
  SenderPositionSchema,
} from "../gen/syncrelay/sync/v1/error_pb.ts";
import {
  type ChangeMembership,
  ChangeMembershipSchema,
} from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { linkBytes, zeroLink } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import type { DeviceKeys } from "./seal/keys.ts";
import {
  type ControlChain,
  emptyChain,
  extendChain,
  isMember,
  members,
} from "./seal/membership.ts";

/**
 * Submits a verified chain's blobs behind the first `count`. Resolves with whether the relay has all
 * of them: where another change came first, it does not.
 */
export async function resubmit(
  session: Connection,
  chain: ControlChain,
  blobs: readonly Uint8Array[],
  count: number,
  keys: DeviceKeys,
): Promise<boolean> {
  // With every secret in hand from the start: an earlier part of the chain may have none for this device.
  let before: ControlChain = { ...emptyChain(chain.groupId), keyring: chain.keyring };
  for (const [i, blob] of blobs.entries()) {
    const after = extendChain(before, blob, { keys });
    if (i >= count && !(await submit(session, again(before, after, blob)))) return false;
    before = after;
  }
  return true;
}

async function submit(session: Connection, change: ChangeMembership): Promise<boolean> {
  for (let tries = 0; tries <= change.closings.length; tries++) {
    try {
      await session.request({ case: "changeMembership", value: change });
      return true;
    } catch (error) {
      if (!(error instanceof SyncError) || error.code !== ErrorCode.MEMBERSHIP_CONFLICT) {
        throw error;
      }
      // The removal is signed, and at another place than where the relay has that device now.
      if (!closeWhereStated(change, error)) return false;
    }
  }
  return false;
}

/** Takes over where the relay says that a removed device ends: what it goes by, and nobody else. */
function closeWhereStated(change: ChangeMembership, { detail }: SyncError): boolean {
  if (detail?.case !== "membership") return false;
  const { closing: place, closingDevice } = detail.value as MembershipDetail;
  if (place === undefined || place.link.byteLength !== linkBytes) return false;
  const closing =
    change.closings.find(({ deviceId }) => equalBytes(deviceId, closingDevice)) ??
    (change.closings.length === 1 ? change.closings[0] : undefined);
  if (closing === undefined) return false;
  closing.position = place satisfies SenderPosition;
  return true;
}

/** The request that made a control blob, made again from the chain on both sides of it. */
function again(before: ControlChain, after: ControlChain, blob: Uint8Array): ChangeMembership {
  const founds = before.version.count === 0;
  const closings = [...after.devices.values()].filter(
    ({ closing, deviceId }) => closing !== undefined && isMember(before, deviceId),
  );
  return create(ChangeMembershipSchema, {
    expected: { count: BigInt(before.version.count), head: before.version.head },
    controlBlob: blob,
    members: members(after).map(({ deviceId, role }) => ({ deviceId, role })),
    epoch: BigInt(after.epoch),
    ...(founds ? { groupId: after.groupId } : {}),
    closings: closings.map(({ deviceId, closing }) => ({
      deviceId,
      position: create(SenderPositionSchema, {
        seq: BigInt(closing?.seq ?? 0),
        link: closing?.link ?? zeroLink,
      }),
    })),
  });
}
