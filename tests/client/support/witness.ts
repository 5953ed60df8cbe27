/** Witnesses that a device of a test could have signed. */
import { deriveDeviceKeys } from "../../../client/seal/keys.ts";
import { readChain } from "../../../client/seal/membership.ts";
import { sealWitness, type WitnessClaims } from "../../../client/seal/witness.ts";
import type { SealedWitness } from "../../../gen/syncrelay/sync/v1/log_pb.ts";
import type { Device } from "./devices.ts";

/** A witness of a device about the group as the relay has it, but for what is given. */
export function witnessBy(device: Device, claims: Partial<WitnessClaims>): SealedWitness {
  const { relay, world, disk } = device;
  const { group } = relay;
  const seed = disk.table("device").get("seed");
  if (seed === undefined) throw new Error("the device has no seed");
  const keys = deriveDeviceKeys(Uint8Array.from(seed));
  const chain = readChain(group.control, { groupId: group.groupId, keys });
  const witnessKey = chain.keyring.witnessKey(chain.epoch);
  if (witnessKey === undefined) throw new Error("the device has no key");
  return sealWitness(
    {
      counter: 1_000,
      madeMs: 1,
      logId: group.logId,
      applied: group.blobs.length,
      positions: new Map(),
      membership: chain.version,
      lackingSeq: 0,
      ...claims,
    },
    {
      groupId: group.groupId,
      keys,
      epoch: chain.epoch,
      witnessKey,
      random: (length) => world.random(length),
    },
  );
}

/** The relay passes a witness on to a device. */
export function passOn(to: Device, from: Device, witness: SealedWitness): void {
  const { relay } = to;
  const deviceId = Uint8Array.from(Buffer.from(from.client.deviceId, "base64url"));
  for (const session of relay.sessions) {
    if (session.device !== to.client.deviceId) continue;
    session.tell({ case: "witnesses", value: { witnesses: [{ deviceId, witness }] } });
  }
}
