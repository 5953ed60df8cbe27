/** The first words of the relay to a session. Pure. */
import { create, fromBinary } from "@bufbuild/protobuf";
import {
  MembershipVersionSchema,
  SenderPositionSchema,
} from "../gen/syncrelay/sync/v1/error_pb.ts";
import {
  type DeviceWitness,
  DeviceWitnessSchema,
  SealedWitnessSchema,
} from "../gen/syncrelay/sync/v1/log_pb.ts";
import {
  Capability,
  FoundingPolicy,
  GroupSummarySchema,
  GroupWelcomeSchema,
  LimitsSchema,
  LobbyWelcomeSchema,
  MemberRole,
  type Presence,
} from "../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import type { EnvelopeBody } from "../wire/envelope.ts";
import { zeroLink } from "../wire/ids.ts";
import { batchBlobsMax, objectBytesDefault, pageBytesMax } from "../wire/limits.ts";
import { softwareVersion } from "../wire/protocol.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import { envelopeBound, type Founding, type RelayLimits } from "./options.ts";
import type { ReadPosition } from "./requests.ts";
import type { LifeNotice } from "./retention.ts";
import type { DeviceGroup, DeviceRole, GroupRow } from "./store/contract.ts";

const foundingPolicies: Record<Founding, FoundingPolicy> = {
  open: FoundingPolicy.OPEN,
  invite: FoundingPolicy.INVITE,
  closed: FoundingPolicy.CLOSED,
};

export const memberRoles: Record<DeviceRole, MemberRole> = {
  device: MemberRole.DEVICE,
  paper: MemberRole.PAPER,
};

/** Groups a lobby session is told of: so many fit an envelope, whoever lists the key as a member. */
const lobbyGroupsMax = 1_024;

/**
 * Whether a device's read position is of another log than this one: another log
 * id, a cursor above the head, or another link at it. At or below the floor
 * there is nothing to compare with.
 */
export function logChanged(
  group: GroupRow,
  read: ReadPosition,
  linkAtCursor: Uint8Array | undefined,
): boolean {
  if (!equalBytes(read.logId, group.logId) || read.cursor > group.head) return true;
  if (read.cursor <= group.floor) return false;
  return linkAtCursor === undefined || !equalBytes(linkAtCursor, read.link);
}

function limitsMessage(limits: RelayLimits, group: GroupRow | undefined) {
  const quota = group?.quotaBytes ?? 0;
  return create(LimitsSchema, {
    blobBytesMax: limits.blobBytesMax,
    envelopeBytesMax: envelopeBound(limits),
    batchBlobsMax,
    groupBytesMax: BigInt(quota > 0 ? quota : limits.groupBytesMax),
    groupBytesUsed: BigInt(group?.bytes ?? 0),
    objectBytesMax: BigInt(objectBytesDefault),
  });
}

/** `Welcome` to a member. */
export function memberWelcome(
  version: number,
  limits: RelayLimits,
  group: GroupEntry,
  device: DeviceEntry,
  read: { readonly cursor: number; readonly changed: boolean },
  presence: readonly Presence[],
  notice: LifeNotice,
  wakesDevices: boolean,
): EnvelopeBody {
  const { row } = group;
  return {
    case: "welcome",
    value: {
      version,
      relay: softwareVersion,
      capabilities: [
        Capability.SNAPSHOTS,
        Capability.OBJECTS,
        ...(wakesDevices ? [Capability.WAKE_UPS] : []),
      ],
      limits: limitsMessage(limits, row),
      scope: {
        case: "group",
        value: create(GroupWelcomeSchema, {
          logId: row.logId,
          logChanged: read.changed,
          head: BigInt(row.head),
          floor: BigInt(row.floor),
          membership: create(MembershipVersionSchema, {
            count: BigInt(row.membershipCount),
            head: row.membershipHead,
          }),
          epoch: BigInt(row.epoch),
          own: create(SenderPositionSchema, {
            seq: BigInt(device.row.lastSeq),
            link: device.row.lastLink,
          }),
          pending: BigInt(Math.max(0, row.head - Math.max(read.cursor, row.replacedThrough))),
          ...notice,
          presence: [...presence],
        }),
      },
    },
  };
}

/** `Welcome` to a session without a group. */
export function lobbyWelcome(
  version: number,
  limits: RelayLimits,
  founding: Founding,
  groups: readonly DeviceGroup[],
): EnvelopeBody {
  return {
    case: "welcome",
    value: {
      version,
      relay: softwareVersion,
      capabilities: [Capability.SNAPSHOTS, Capability.OBJECTS],
      limits: limitsMessage(limits, undefined),
      scope: {
        case: "lobby",
        value: create(LobbyWelcomeSchema, {
          founding: foundingPolicies[founding],
          groups: groups
            .filter((group) => group.state === "active")
            .slice(0, lobbyGroupsMax)
            .map((group) =>
              create(GroupSummarySchema, {
                groupId: group.groupId,
                role: memberRoles[group.role],
                membership: create(MembershipVersionSchema, {
                  count: BigInt(group.membershipCount),
                  head: group.membershipHead,
                }),
              }),
            ),
        }),
      },
    },
  };
}

/** `Welcome` to a device that the group does not know: where the group's control chain stands, if at all. */
export function returningWelcome(
  version: number,
  limits: RelayLimits,
  founding: Founding,
  groupId: Uint8Array,
  row: GroupRow | undefined,
): EnvelopeBody {
  const membership = {
    count: BigInt(row?.membershipCount ?? 0),
    head: row?.membershipHead ?? zeroLink,
  };
  return {
    case: "welcome",
    value: {
      version,
      relay: softwareVersion,
      capabilities: [Capability.SNAPSHOTS, Capability.OBJECTS],
      limits: limitsMessage(limits, row),
      scope: {
        case: "lobby",
        value: create(LobbyWelcomeSchema, {
          founding: foundingPolicies[founding],
          groups: [{ groupId, membership }],
        }),
      },
    },
  };
}

/** The newest witness of each device but one, in as many messages as keep each within a page. */
export function witnessesOf(devices: Iterable<DeviceEntry>, except: DeviceEntry): EnvelopeBody[] {
  const bodies: EnvelopeBody[] = [];
  let witnesses: DeviceWitness[] = [];
  let bytes = 0;
  const close = (): void => {
    if (witnesses.length > 0) bodies.push({ case: "witnesses", value: { witnesses } });
    witnesses = [];
    bytes = 0;
  };
  for (const device of devices) {
    if (device === except || device.row.witness.byteLength === 0) continue;
    if (bytes + device.row.witness.byteLength > pageBytesMax) close();
    bytes += device.row.witness.byteLength;
    witnesses.push(
      create(DeviceWitnessSchema, {
        deviceId: device.row.deviceId,
        witness: fromBinary(SealedWitnessSchema, device.row.witness),
      }),
    );
  }
  close();
  return bodies;
}
