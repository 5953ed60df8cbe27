import { rotate } from "../../../client/seal/changes.ts";
import { deriveDeviceKeys } from "../../../client/seal/keys.ts";
import { readChain } from "../../../client/seal/membership.ts";
import { RotationReason } from "../../../gen/syncrelay/sealed/v1/membership_pb.ts";
import type { Device } from "./devices.ts";
import type { FakeRelay } from "./fake-relay.ts";

/** A rotation by a device, straight at the relay: as if its own session had asked for it. */
export function rotateBy(device: Device, relay: FakeRelay): void {
  const seed = device.disk.table("device").get("seed") as Uint8Array;
  const keys = deriveDeviceKeys(seed);
  const { group, world } = relay;
  const chain = readChain(group.control, { groupId: group.groupId, keys });
  const change = rotate(chain, RotationReason.BY_HAND, {
    keys,
    random: (length) => world.random(length),
    nowMs: world.epochMs,
  });
  relay.change(group, change);
}
