/** The load on our relay: devices that speak the protocol, all in one process. */
import { serveRole } from "../harness/role.ts";
import {
  ChainMaker,
  foundGroup,
  freshKeys,
  PushSupply,
  RelayDevice,
  type RelayPlace,
} from "./relay-device.ts";
import { acknowledgedPushes } from "./scan.ts";
import { Throughput } from "./throughput.ts";

export interface PushArgs extends RelayPlace {
  /** Devices, each the only one of a group of its own. */
  readonly clients: number;
  readonly outstanding: number;
  readonly payloadBytes: number;
  readonly blobsPerPush: number;
  /** Whether a device puts all pushes that wait into one record, or each into its own. */
  readonly coalesce: boolean;
  /** In blobs. */
  readonly warmup: number;
  readonly measured: number;
}

/** Keeps pushes outstanding and counts the blobs that are acknowledged. */
async function pushes(args: PushArgs): Promise<{ perSecond: number }> {
  const throughput = new Throughput(args.warmup, args.measured);
  // Clients are not equally fast; none may run out before the last blob is counted.
  const pushesEach = Math.ceil(
    (1.5 * (args.warmup + args.measured)) / args.clients / args.blobsPerPush,
  );
  const devices = await Promise.all(
    Array.from({ length: args.clients }, async () => {
      const keys = freshKeys();
      const groupId = await foundGroup(args, [keys]);
      const device = await RelayDevice.connect(args, keys, groupId);
      const chain = new ChainMaker(groupId, keys.publicKey, args.payloadBytes);
      return { device, supply: new PushSupply(chain, pushesEach, args.blobsPerPush, 1) };
    }),
  );
  for (const { device, supply } of devices) {
    const push = (count: number): void => {
      const waiting: Uint8Array[] = [];
      for (let i = 0; i < count; i++) {
        const envelope = supply.take();
        // The others have enough to finish the count.
        if (envelope === undefined) break;
        if (args.coalesce) waiting.push(envelope);
        else device.send(envelope);
      }
      if (waiting.length > 0) device.send(Buffer.concat(waiting));
    };
    device.onRecord = (plaintext) => {
      const acknowledged = acknowledgedPushes(plaintext);
      throughput.count(acknowledged * args.blobsPerPush);
      if (acknowledged > 0) push(acknowledged);
    };
    push(args.outstanding);
    device.flush();
  }
  const perSecond = await throughput.result;
  for (const { device } of devices) device.close();
  return { perSecond };
}

serveRole({ pushes });
