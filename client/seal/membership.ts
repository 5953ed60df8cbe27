/**
 * Who belongs to a group: the chain of control blobs, from the founding one, and
 * the rules by which a device accepts the next. The relay orders and keeps the
 * chain; whether a change holds is decided here alone, whatever it did.
 *
 * A change is accepted only if it extends the head held here, its author was a
 * member there, its epoch is the one its kind calls for, its secret proves to be
 * that epoch's, its statement opens and is signed, and its wraps are exactly
 * those its kind calls for.
 */
import { create } from "@bufbuild/protobuf";
import type { SenderLink } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import {
  type Device,
  DeviceSchema,
  type Statement,
} from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { copyBytes, equalBytes, isZero } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { deviceIdBytes, groupIdBytes, idText, linkBytes, zeroLink } from "../../wire/ids.ts";
import { membersMax } from "../../wire/limits.ts";
import type { ChainPlace } from "./blob.ts";
import { altered, isName, safeNumber } from "./checks.ts";
import {
  type Control,
  decodeControl,
  openStatement,
  verifyControl,
  type Wrap,
} from "./control-blob.ts";
import { Keyring, keyCheckOf, openPreviousSecret } from "./keyring.ts";
import type { DeviceKeys } from "./keys.ts";
import { isSealingKey, sealingKeyBytes, signingKeyBytes, wipe } from "./primitives.ts";

/** A device of a group, or a former one. */
export interface RosterDevice {
  readonly deviceId: Uint8Array;
  /** Ed25519, 32 bytes. */
  readonly signingKey: Uint8Array;
  /** X-Wing, 1,216 bytes. */
  readonly sealingKey: Uint8Array;
  readonly name: string;
  readonly role: MemberRole;
  /** Set where it was removed: the last place of its chain that counts. */
  readonly closing?: ChainPlace;
}

/** Members and former devices, by the text of their ids. */
export type Roster = ReadonlyMap<string, RosterDevice>;

/** A verified control chain. Never changed: a further change makes another one. */
export interface ControlChain {
  readonly groupId: Uint8Array;
  /** How many control blobs, and the hash of the last. */
  readonly version: { readonly count: number; readonly head: Uint8Array };
  /** The current epoch. */
  readonly epoch: number;
  /** The count at which the current epoch was opened. */
  readonly epochSinceCount: number;
  /** When its author opened it, in milliseconds by that device's clock. Orders nothing. */
  readonly epochMadeMs: number;
  readonly devices: Roster;
  readonly keyring: Keyring;
  /** Hash of the founding control blob: the group's anchor. */
  readonly foundingHash: Uint8Array;
}

/** The chain of a group before its founding. */
export function emptyChain(groupId: Uint8Array): ControlChain {
  if (groupId.byteLength !== groupIdBytes) throw new RangeError("a group id has 32 bytes");
  return {
    groupId,
    version: { count: 0, head: zeroLink },
    epoch: 0,
    epochSinceCount: 0,
    epochMadeMs: 0,
    devices: new Map(),
    keyring: new Keyring(),
    foundingHash: zeroLink,
  };
}

/** Whether a device is a member now. */
export function isMember(chain: ControlChain, deviceId: Uint8Array): boolean {
  const device = chain.devices.get(idText(deviceId));
  return device !== undefined && device.closing === undefined;
}

/** The members now, in the order they came. */
export function members(chain: ControlChain): RosterDevice[] {
  return Array.from(chain.devices.values()).filter((device) => device.closing === undefined);
}

/**
 * Reads a whole chain from its founding blob: finds this device's newest wrap,
 * opens the keyring backwards from it, and verifies forwards.
 *
 * Throws HISTORY_ALTERED where a blob is not acceptable, or the chain lacks the
 * head it must contain; KEY_MISSING where no wrap is for this device, or the
 * newest epoch has none; WRONG_KEY or OPEN_FAILED where a secret is not what it
 * should be; DEVICE_UNKNOWN where the chain holds other keys under this device's
 * id, or none.
 */
export function readChain(
  blobs: readonly Uint8Array[],
  at: {
    readonly groupId: Uint8Array;
    readonly keys: DeviceKeys;
    /** A control head the chain must contain: what the inviting device told a joiner. */
    readonly mustContain?: Uint8Array;
  },
): ControlChain {
  const controls = blobs.map(decodeControl);
  const mustContain = at.mustContain;
  if (
    mustContain !== undefined &&
    !controls.some((control) => equalBytes(control.head, mustContain))
  ) {
    throw altered();
  }
  const keyring = openKeyring(controls, at.groupId, at.keys);
  let chain: ControlChain = { ...emptyChain(at.groupId), keyring };
  for (const control of controls) chain = extendWith(chain, control, at.keys);
  // Wraps go to members alone, so whoever came this far is one; it is said, not assumed.
  if (!isMember(chain, at.keys.deviceId)) throw new SyncError(ErrorCode.DEVICE_UNKNOWN);
  return chain;
}

/**
 * The chain with one more control blob. The given chain stays as it was, also
 * where this throws; the codes are those of `readChain`. A device that was
 * removed finds no wrap: KEY_MISSING, which is no proof of its removal.
 */
export function extendChain(
  chain: ControlChain,
  blob: Uint8Array,
  at: { readonly keys: DeviceKeys },
): ControlChain {
  return extendWith(chain, decodeControl(blob), at.keys);
}

/**
 * The secrets this device can reach: the one in its newest wrap, and from there
 * back to the first epoch. Nothing is verified here but each secret against its
 * key check value; the blobs are, when the chain is read forwards.
 */
function openKeyring(controls: readonly Control[], groupId: Uint8Array, keys: DeviceKeys): Keyring {
  const keyring = new Keyring();
  const openings = new Map<number, Control>();
  let newest: { epoch: number; wrap: Wrap } | undefined;
  for (const control of controls) {
    const { epoch, keyCheck, wraps } = control.clear;
    if (keyCheck !== undefined && !openings.has(epoch)) openings.set(epoch, control);
    const wrap = wraps.find(({ deviceId }) => equalBytes(deviceId, keys.deviceId));
    if (wrap !== undefined) newest = { epoch, wrap };
  }
  if (newest === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  let secret = keys.openWrap(newest.wrap.sealed, { groupId, epoch: newest.epoch });
  for (let epoch = newest.epoch; epoch >= 1; epoch--) {
    const opening = openings.get(epoch)?.clear;
    if (opening?.keyCheck === undefined) throw altered();
    checkSecret(secret, opening.keyCheck, groupId, epoch);
    keyring.add(epoch, secret);
    if (epoch === 1) break;
    if (opening.previousSecret === undefined) throw altered();
    const previous = openPreviousSecret(opening.previousSecret, secret, { groupId, epoch });
    wipe(secret);
    secret = previous;
  }
  wipe(secret);
  return keyring;
}

function checkSecret(
  secret: Uint8Array,
  keyCheck: Uint8Array,
  groupId: Uint8Array,
  epoch: number,
): void {
  if (!equalBytes(keyCheckOf(secret, { groupId, epoch }), keyCheck)) {
    throw new SyncError(ErrorCode.WRONG_KEY);
  }
}

function extendWith(chain: ControlChain, control: Control, keys: DeviceKeys): ControlChain {
  const { groupId } = chain;
  const founding = chain.version.count === 0;
  if (!equalBytes(control.clear.previousHead, chain.version.head)) throw altered();
  const author = chain.devices.get(idText(control.author));
  if (!founding && (author === undefined || author.closing !== undefined)) throw altered();

  const opens = control.clear.keyCheck !== undefined;
  if (control.clear.epoch !== (opens ? chain.epoch + 1 : chain.epoch)) throw altered();
  if ((control.clear.previousSecret !== undefined) !== (opens && !founding)) throw altered();

  const keyring = opens ? withEpoch(chain, control, keys) : chain.keyring;
  const statementKey = keyring.statementKey(control.clear.epoch);
  if (statementKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
  const opened = openStatement(control, { groupId, statementKey });
  const { statement } = opened;
  const madeMs = safeNumber(statement.madeMs, 0);
  if (madeMs === undefined) throw altered();

  // The founder's key stands in the statement itself; every other author's in the roster.
  const signingKey =
    author?.signingKey ??
    (statement.change.case === "founding" ? statement.change.value.founder?.signingKey : undefined);
  if (signingKey === undefined || !verifyControl(control, opened, { groupId, signingKey })) {
    throw altered();
  }

  const { devices, wrapped } = changeRoster(chain, control, statement, opens);
  checkWraps(control.clear.wraps, wrapped);
  checkOwnKeys(devices, keys);
  const count = chain.version.count + 1;
  return {
    groupId,
    version: { count, head: control.head },
    epoch: control.clear.epoch,
    epochSinceCount: opens ? count : chain.epochSinceCount,
    epochMadeMs: opens ? madeMs : chain.epochMadeMs,
    devices,
    keyring,
    foundingHash: founding ? control.head : chain.foundingHash,
  };
}

/** The keyring with the secret of the epoch that a change opens, from this device's wrap. */
function withEpoch(chain: ControlChain, control: Control, keys: DeviceKeys): Keyring {
  const { groupId } = chain;
  const { epoch, keyCheck, previousSecret, wraps } = control.clear;
  const held = chain.keyring.secret(epoch);
  let secret: Uint8Array;
  if (held === undefined) {
    const wrap = wraps.find(({ deviceId }) => equalBytes(deviceId, keys.deviceId));
    if (wrap === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    secret = keys.openWrap(wrap.sealed, { groupId, epoch });
  } else {
    secret = copyBytes(held);
  }
  try {
    if (keyCheck === undefined) throw altered();
    checkSecret(secret, keyCheck, groupId, epoch);
    const keyring = held === undefined ? chain.keyring.copy() : chain.keyring;
    if (previousSecret !== undefined) {
      const previous = openPreviousSecret(previousSecret, secret, { groupId, epoch });
      // WRONG_KEY where it is not the secret held: newcomers would be locked out.
      keyring.add(epoch - 1, previous);
      wipe(previous);
    }
    keyring.add(epoch, secret);
    return keyring;
  } finally {
    wipe(secret);
  }
}

/** The roster behind a change, and which devices its wraps must name. */
interface ChangedRoster {
  readonly devices: Roster;
  readonly wrapped: readonly Uint8Array[];
}

function changeRoster(
  chain: ControlChain,
  control: Control,
  statement: Statement,
  opens: boolean,
): ChangedRoster {
  const { change } = statement;
  const founding = chain.version.count === 0;
  // Founding, removing and rotating open an epoch; adding and renaming do not.
  const mustOpen =
    change.case === "founding" || change.case === "removing" || change.case === "rotating";
  if (mustOpen !== opens || (change.case === "founding") !== founding) throw altered();
  const author = idText(control.author);
  const adds = change.case === "adding" ? change.value.device : undefined;
  // A recovery record goes with the admission of a phrase, and with nothing else.
  if ((adds?.role === MemberRole.PAPER) !== (control.clear.recoveryRecord !== undefined)) {
    throw altered();
  }
  // A recovery phrase signs one kind of thing: the addition of a device in use.
  if (chain.devices.get(author)?.role === MemberRole.PAPER && adds?.role !== MemberRole.DEVICE) {
    throw altered();
  }
  switch (change.case) {
    case "founding": {
      const founder = rosterDeviceOf(change.value.founder);
      if (founder.role !== MemberRole.DEVICE) throw altered();
      if (!equalBytes(founder.deviceId, control.author)) throw altered();
      return allWrapped(new Map([[author, founder]]));
    }
    case "adding": {
      const device = rosterDeviceOf(adds);
      const id = idText(device.deviceId);
      // A removed device's id never comes back.
      if (chain.devices.has(id) || members(chain).length >= membersMax) throw altered();
      if (hasKeysOf(chain, device)) throw altered();
      const devices = new Map(chain.devices).set(id, device);
      return { devices, wrapped: [device.deviceId] };
    }
    case "removing":
      return allWrapped(removed(chain, control.author, change.value.closings));
    case "rotating":
      return allWrapped(chain.devices);
    case "renaming": {
      const renamed = chain.devices.get(author);
      if (renamed === undefined || !isName(change.value.name)) throw altered();
      const devices = new Map(chain.devices).set(author, { ...renamed, name: change.value.name });
      return { devices, wrapped: [] };
    }
    default:
      throw altered();
  }
}

/**
 * Whether a key of a device is another one's already, a former one's too. Nobody shows that it holds
 * the keys that it is added with: under a public key of somebody else's, what that one signed could
 * pass for its own.
 */
function hasKeysOf(chain: ControlChain, { signingKey, sealingKey }: RosterDevice): boolean {
  for (const other of chain.devices.values()) {
    if (equalBytes(other.signingKey, signingKey)) return true;
    if (equalBytes(other.sealingKey, sealingKey)) return true;
  }
  return false;
}

function removed(chain: ControlChain, author: Uint8Array, closings: readonly SenderLink[]): Roster {
  if (closings.length === 0) throw altered();
  const devices = new Map(chain.devices);
  for (const closing of closings) {
    const id = idText(closing.deviceId);
    const device = devices.get(id);
    const seq = safeNumber(closing.seq, 0);
    if (
      device === undefined ||
      // Also finds a device that is named twice.
      device.closing !== undefined ||
      // Whoever removes knows the new secret, so nobody removes itself.
      equalBytes(closing.deviceId, author) ||
      seq === undefined ||
      closing.link.byteLength !== linkBytes ||
      (seq === 0) !== isZero(closing.link)
    ) {
      throw altered();
    }
    devices.set(id, { ...device, closing: { seq, link: closing.link } });
  }
  return devices;
}

function allWrapped(devices: Roster): ChangedRoster {
  const wrapped: Uint8Array[] = [];
  for (const device of devices.values()) {
    if (device.closing === undefined) wrapped.push(device.deviceId);
  }
  return { devices, wrapped };
}

/** Exactly one wrap for each device, and none besides. */
function checkWraps(wraps: readonly Wrap[], wrapped: readonly Uint8Array[]): void {
  const open = new Set(wrapped.map(idText));
  for (const { deviceId } of wraps) if (!open.delete(idText(deviceId))) throw altered();
  if (open.size !== 0) throw altered();
}

/** Under this device's id stand this device's keys: else whoever added it speaks for it. */
function checkOwnKeys(devices: Roster, keys: DeviceKeys): void {
  const own = devices.get(idText(keys.deviceId));
  if (
    own !== undefined &&
    !(equalBytes(own.signingKey, keys.signingKey) && equalBytes(own.sealingKey, keys.sealingKey))
  ) {
    throw new SyncError(ErrorCode.DEVICE_UNKNOWN);
  }
}

/**
 * A device as a message describes it, checked: lengths, name, a role, and a
 * sealing key that can be sealed to, since one that cannot would stop every
 * later rotation. Throws HISTORY_ALTERED.
 */
export function rosterDeviceOf(
  device: Pick<Device, "deviceId" | "signingKey" | "sealingKey" | "name" | "role"> | undefined,
): RosterDevice {
  if (
    device === undefined ||
    device.deviceId.byteLength !== deviceIdBytes ||
    device.signingKey.byteLength !== signingKeyBytes ||
    device.sealingKey.byteLength !== sealingKeyBytes ||
    !isName(device.name) ||
    (device.role !== MemberRole.DEVICE && device.role !== MemberRole.PAPER) ||
    !isSealingKey(device.sealingKey)
  ) {
    throw altered();
  }
  const { deviceId, signingKey, sealingKey, name, role } = device;
  return { deviceId, signingKey, sealingKey, name, role };
}

/** A device of the roster as a message. */
export function deviceOfRoster(device: RosterDevice): Device {
  const { deviceId, signingKey, sealingKey, name, role } = device;
  return create(DeviceSchema, { deviceId, signingKey, sealingKey, name, role });
}

/** This device as a message. Throws `RangeError` where the name is none. */
export function deviceMessage(keys: DeviceKeys, name: string): Device {
  if (!isName(name)) throw new RangeError("a device's name has 1 to 64 bytes");
  const { deviceId, signingKey, sealingKey } = keys;
  return create(DeviceSchema, { deviceId, signingKey, sealingKey, name, role: MemberRole.DEVICE });
}
