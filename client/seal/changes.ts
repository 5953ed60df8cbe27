/**
 * Membership changes, made. Each builder returns the request to submit, and has
 * extended the chain with it once: what is not acceptable to the members is not
 * sent to the relay either. The author extends its own chain when the relay has
 * taken the change.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type {
  Device,
  RotationReason,
  StatementSchema,
} from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import {
  type ChangeMembership,
  ChangeMembershipSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { emptyBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import type { ChainPlace } from "./blob.ts";
import { isName } from "./checks.ts";
import { type ControlClear, sealControl, type Wrap } from "./control-blob.ts";
import { Keyring, keyCheckOf, sealPreviousSecret } from "./keyring.ts";
import { type DeviceKeys, sealWrap } from "./keys.ts";
import {
  type ControlChain,
  deviceMessage,
  emptyChain,
  extendChain,
  isMember,
  members,
  rosterDeviceOf,
} from "./membership.ts";
import { keyBytes, type Random, wipe } from "./primitives.ts";

/** Who makes a change, and when. */
export interface ChangeContext {
  readonly keys: DeviceKeys;
  readonly random: Random;
  readonly nowMs: number;
}

type Change = NonNullable<MessageInitShape<typeof StatementSchema>["change"]>;
type Recipient = Parameters<typeof sealWrap>[1];

/** A removed device and the last place of its chain that counts. */
export interface ClosedDevice {
  readonly deviceId: Uint8Array;
  readonly place: ChainPlace;
}

/** Founds a group: its first member, its first epoch. */
export function foundGroup(
  at: ChangeContext & {
    /** 32 random bytes. */
    readonly groupId: Uint8Array;
    /** The founder's name. */
    readonly name: string;
    /** The ticket, where the relay wants one. */
    readonly groupInvite?: Uint8Array;
  },
): { change: ChangeMembership; chain: ControlChain } {
  const before = emptyChain(at.groupId);
  const founder = deviceMessage(at.keys, at.name);
  const blob = openEpoch(before, { case: "founding", value: { founder } }, [founder], at);
  const chain = extendChain(before, blob, at);
  const change = request(before, chain, blob);
  change.groupId = at.groupId;
  change.groupInvite = at.groupInvite ?? emptyBytes;
  return { change, chain };
}

/**
 * Adds a device: the current epoch's secret, sealed to it alone. Throws
 * MEMBERSHIP_CONFLICT where it is or was in the roster, and HISTORY_ALTERED where
 * what it introduced itself with is no device.
 */
export function addDevice(
  chain: ControlChain,
  device: Device,
  at: ChangeContext & {
    /** Where a recovery phrase is admitted: its sealed record. */
    readonly recoveryRecord?: Uint8Array;
  },
): ChangeMembership {
  const joiner = rosterDeviceOf(device);
  if (chain.devices.has(idText(joiner.deviceId))) throw conflict();
  const secret = chain.keyring.secret(chain.epoch);
  if (secret === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  const clear: ControlClear = {
    ...unchangedEpoch(chain),
    wraps: wrapAll(secret, [joiner], chain.groupId, chain.epoch, at.random),
    recoveryRecord: at.recoveryRecord,
  };
  return submit(chain, clear, { case: "adding", value: { device } }, at);
}

/**
 * Removes devices, each closed at the place given, and opens an epoch for the
 * rest. Throws MEMBERSHIP_CONFLICT where one is no member, or is this device.
 */
export function removeDevices(
  chain: ControlChain,
  closings: readonly ClosedDevice[],
  at: ChangeContext,
): ChangeMembership {
  const leaving = new Set(closings.map(({ deviceId }) => idText(deviceId)));
  if (
    closings.length === 0 ||
    leaving.size !== closings.length ||
    leaving.has(idText(at.keys.deviceId)) ||
    closings.some(({ deviceId }) => !isMember(chain, deviceId))
  ) {
    throw conflict();
  }
  const places = closings.map(({ deviceId, place }) => ({
    deviceId,
    seq: BigInt(place.seq),
    link: place.link,
  }));
  const blob = openEpoch(
    chain,
    { case: "removing", value: { closings: places } },
    members(chain).filter(({ deviceId }) => !leaving.has(idText(deviceId))),
    at,
  );
  const change = request(chain, extendChain(chain, blob, at), blob);
  const closed = create(ChangeMembershipSchema, {
    closings: places.map(({ deviceId, seq, link }) => ({ deviceId, position: { seq, link } })),
  });
  change.closings = closed.closings;
  return change;
}

/** Opens a new epoch for the same members. */
export function rotate(
  chain: ControlChain,
  reason: RotationReason,
  at: ChangeContext,
): ChangeMembership {
  const blob = openEpoch(chain, { case: "rotating", value: { reason } }, members(chain), at);
  return request(chain, extendChain(chain, blob, at), blob);
}

/** Gives this device another name. Throws `RangeError` where it is none. */
export function rename(chain: ControlChain, name: string, at: ChangeContext): ChangeMembership {
  if (!isName(name)) throw new RangeError("a device's name has 1 to 64 bytes");
  return submit(chain, unchangedEpoch(chain), { case: "renaming", value: { name } }, at);
}

/** A change in the current epoch. */
function submit(
  chain: ControlChain,
  clear: ControlClear,
  change: Change,
  at: ChangeContext,
): ChangeMembership {
  const statementKey = chain.keyring.statementKey(chain.epoch);
  if (statementKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  const blob = sealControl(
    clear,
    { madeMs: BigInt(at.nowMs), change },
    { groupId: chain.groupId, keys: at.keys, statementKey, random: at.random },
  );
  return request(chain, extendChain(chain, blob, at), blob);
}

function unchangedEpoch(chain: ControlChain): ControlClear {
  return {
    epoch: chain.epoch,
    previousHead: chain.version.head,
    wraps: [],
    keyCheck: undefined,
    previousSecret: undefined,
    recoveryRecord: undefined,
  };
}

/** A change that opens an epoch: a fresh secret, sealed to exactly its members. */
function openEpoch(
  chain: ControlChain,
  change: Change,
  recipients: readonly Recipient[],
  at: ChangeContext,
): Uint8Array {
  const { groupId } = chain;
  const epoch = chain.epoch + 1;
  const secret = at.random(keyBytes);
  const previous = chain.keyring.secret(chain.epoch);
  if (chain.epoch > 0 && previous === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  const clear: ControlClear = {
    epoch,
    previousHead: chain.version.head,
    wraps: wrapAll(secret, recipients, groupId, epoch, at.random),
    keyCheck: keyCheckOf(secret, { groupId, epoch }),
    previousSecret:
      previous === undefined
        ? undefined
        : sealPreviousSecret(previous, secret, { groupId, epoch, random: at.random }),
    recoveryRecord: undefined,
  };
  const keyring = new Keyring();
  keyring.add(epoch, secret);
  const statementKey = keyring.statementKey(epoch);
  if (statementKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  const blob = sealControl(
    clear,
    { madeMs: BigInt(at.nowMs), change },
    { groupId, keys: at.keys, statementKey, random: at.random },
  );
  keyring.wipe();
  wipe(secret);
  return blob;
}

function wrapAll(
  secret: Uint8Array,
  recipients: readonly Recipient[],
  groupId: Uint8Array,
  epoch: number,
  random: Random,
): Wrap[] {
  return recipients.map((to) => {
    const sealed = sealWrap(secret, to, { groupId, epoch, random });
    // Members' keys were checked when they were accepted.
    if (sealed === undefined) throw new SyncError(ErrorCode.HISTORY_ALTERED);
    return { deviceId: to.deviceId, sealed };
  });
}

function request(before: ControlChain, after: ControlChain, blob: Uint8Array): ChangeMembership {
  return create(ChangeMembershipSchema, {
    expected: { count: BigInt(before.version.count), head: before.version.head },
    controlBlob: blob,
    members: members(after).map(({ deviceId, role }) => ({ deviceId, role })),
    epoch: BigInt(after.epoch),
  });
}

function conflict(): SyncError {
  return new SyncError(ErrorCode.MEMBERSHIP_CONFLICT);
}
