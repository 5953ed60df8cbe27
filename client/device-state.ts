/** The device as it stands on disk: made when it is first opened, and read into memory. */
import { create } from "@bufbuild/protobuf";
import {
  type DeviceState,
  DeviceState_Membership,
  DeviceStateSchema,
} from "../gen/syncrelay/state/v1/state_pb.ts";
import { utf8 } from "../wire/bytes.ts";
import { idText } from "../wire/ids.ts";
import { nameBytesMax } from "../wire/limits.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import type { Core } from "./core.ts";
import { type Disk, decodeChain, decodeDevice, decodeLog, encodeDevice } from "./disk.ts";
import type { Host } from "./host.ts";
import type { Parts } from "./parts.ts";
import { seedBytes } from "./seal/keys.ts";
import { UsageError } from "./usage-error.ts";

/** The device's seed and state; drawn and written where there are none. */
export async function openDevice(
  disk: Disk,
  host: Host,
  options: { readonly relay?: string | undefined; readonly name?: string | undefined },
): Promise<{ readonly seed: Uint8Array; readonly device: DeviceState }> {
  const { name } = options;
  checkName(name);
  const address = options.relay === undefined ? undefined : parseRelayAddress(options.relay).text;
  return await disk.write(async (tx) => {
    let seed = await tx.get("device", "seed");
    if (seed === undefined) {
      seed = host.random(seedBytes);
      tx.put("device", "seed", seed);
    }
    const bytes = await tx.get("device", "state");
    let device =
      bytes === undefined
        ? create(DeviceStateSchema, { name: name ?? "device" })
        : decodeDevice(bytes);
    const { membership } = device;
    if (address !== undefined && address !== device.relayAddress) {
      if (membership !== DeviceState_Membership.UNSPECIFIED) {
        checkSameRelay(device.relayAddress, address);
      }
      device = create(DeviceStateSchema, { ...device, relayAddress: address });
    }
    // A member's name stands in the control chain; before that it can still be chosen.
    if (name !== undefined && membership === DeviceState_Membership.UNSPECIFIED) {
      device = create(DeviceStateSchema, { ...device, name });
    }
    tx.put("device", "state", encodeDevice(device));
    return { seed, device };
  });
}

/** Reads everything else that the device keeps. */
export async function loadState(parts: Parts): Promise<void> {
  const { core, group, changes, refusals, inbox, witnesses } = parts;
  await core.disk.write(async (tx) => {
    const chain = await tx.get("chain", "state");
    if (chain !== undefined) core.own = decodeChain(chain);
    const log = await tx.get("log", "state");
    if (log !== undefined) Object.assign(core, decodeLog(log));
    await group.load(tx);
    await changes.load(tx);
    await core.loadHistory(tx);
    await witnesses.load(tx);
    await refusals.load(tx);
    await inbox.load(tx);
  });
}

/** What a device is in its group from now on; only its name and, unless given, its relay stay. */
export interface DeviceChange {
  readonly membership: DeviceState_Membership;
  readonly groupId?: Uint8Array;
  readonly relayAddress?: string;
  readonly expectedHead?: Uint8Array;
  readonly pendingFounding?: NonNullable<DeviceState["pendingFounding"]>;
}

export async function writeDevice(core: Core, change: DeviceChange): Promise<void> {
  const { name, relayAddress } = core.device;
  const device = create(DeviceStateSchema, { name, relayAddress, ...change });
  await core.disk.write(
    (tx) => tx.put("device", "state", encodeDevice(device)),
    () => {
      core.device = device;
    },
  );
  core.moved();
}

export function checkName(name: string | undefined): void {
  if (name === undefined) return;
  const bytes = utf8(name).byteLength;
  if (bytes < 1 || bytes > nameBytesMax) {
    throw new UsageError(`a device's name has 1 to ${nameBytesMax} bytes`);
  }
}

/** A relay may move; its key says that it is the same one. */
function checkSameRelay(before: string, now: string): void {
  const [a, b] = [parseRelayAddress(before), parseRelayAddress(now)];
  if (idText(a.relayKey) !== idText(b.relayKey)) {
    throw new UsageError(
      "this device's group is on another relay: the key in the address is not the one it has",
    );
  }
}
