/** Devices that make a relay's memory grow, if anything does: one that reads nothing, and one that only writes. */
import { serveRole } from "../harness/role.ts";
import { openGroup, type Writer } from "./group.ts";
import { countRecord } from "./scan.ts";

export interface PressureArgs {
  readonly port: number;
  readonly payloadBytes: number;
  /** In all, over every call of `push`. */
  readonly pushes: number;
  /** Who does not read: another device of the group, or the one that writes. */
  readonly deaf: "reader" | "writer";
}

let writer: Writer | undefined;
let deaf: PressureArgs["deaf"] = "reader";

async function open(args: PressureArgs): Promise<void> {
  const group = await openGroup(args, 1, { ...args, blobsPerPush: 1 });
  writer = group.writer;
  deaf = args.deaf;
  if (deaf === "writer") writer.device.pause();
  // What it is sent is neither read nor taken from its socket.
  else for (const reader of group.readers) reader.pause();
}

/** Pushes so many more: answered all of them, or, by a device that reads no answers, as they come. */
async function push({ pushes }: { readonly pushes: number }): Promise<void> {
  if (writer === undefined) throw new Error("open first");
  const { device, supply } = writer;
  let left = pushes;
  const send = (): boolean => {
    const envelope = left > 0 ? supply.take() : undefined;
    if (envelope === undefined) return false;
    left -= 1;
    device.send(envelope);
    return true;
  };
  if (deaf === "writer") {
    for (let sent = 1; send(); sent++) {
      if (sent % 64 !== 0) continue;
      device.flush();
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    device.flush();
    return;
  }
  await new Promise<void>((resolve) => {
    let waiting = 0;
    device.onRecord = (plaintext) => {
      const { acknowledged } = countRecord(plaintext);
      waiting -= acknowledged;
      for (let i = 0; i < acknowledged; i++) if (send()) waiting += 1;
      if (waiting === 0) resolve();
    };
    for (let i = 0; i < 32; i++) if (send()) waiting += 1;
    device.flush();
  });
}

serveRole({ open, push });
