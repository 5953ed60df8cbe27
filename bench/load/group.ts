/** A group of load devices: one writes, with its pushes made beforehand. */
import {
  ChainMaker,
  foundGroup,
  freshKeys,
  PushSupply,
  RelayDevice,
  type RelayPlace,
} from "./relay-device.ts";

/** A device that pushes, with its pushes made. */
export interface Writer {
  readonly device: RelayDevice;
  readonly supply: PushSupply;
}

/** The devices of a new group, the first of which writes. */
export async function openGroup(
  relay: RelayPlace,
  readers: number,
  supply: { readonly pushes: number; readonly blobsPerPush: number; readonly payloadBytes: number },
): Promise<{ readonly writer: Writer; readonly readers: readonly RelayDevice[] }> {
  const keys = Array.from({ length: 1 + readers }, freshKeys);
  const groupId = await foundGroup(relay, keys);
  const devices = await Promise.all(keys.map((key) => RelayDevice.connect(relay, key, groupId)));
  const [device, ...others] = devices;
  const [writer] = keys;
  if (device === undefined || writer === undefined) throw new RangeError("a group has a founder");
  const chain = new ChainMaker(groupId, writer.publicKey, supply.payloadBytes);
  return {
    writer: { device, supply: new PushSupply(chain, supply.pushes, supply.blobsPerPush, 1) },
    readers: others,
  };
}
