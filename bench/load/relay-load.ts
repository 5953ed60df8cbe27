/** The load on our relay: devices that speak the protocol, all in one process. */
import { percentile } from "../harness/measure.ts";
import { serveRole } from "../harness/role.ts";
import { openGroup, type Writer } from "./group.ts";
import { OpenLoop, paced } from "./latencies.ts";
import type { PushSupply, RelayDevice, RelayPlace } from "./relay-device.ts";
import { countRecord } from "./scan.ts";
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
    (1.3 * (args.warmup + args.measured)) / args.clients / args.blobsPerPush,
  );
  const writers: Writer[] = [];
  for (let i = 0; i < args.clients; i++) {
    writers.push((await openGroup(args, 0, { ...args, pushes: pushesEach })).writer);
  }
  for (const { device, supply } of writers) {
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
      const { acknowledged } = countRecord(plaintext);
      throughput.count(acknowledged * args.blobsPerPush);
      if (acknowledged > 0) push(acknowledged);
    };
    push(args.outstanding);
    device.flush();
  }
  const perSecond = await throughput.result;
  for (const { device } of writers) device.close();
  return { perSecond };
}

export interface DeliveryArgs extends RelayPlace {
  readonly payloadBytes: number;
  /** Pushes per second, and how many. */
  readonly perSecond: number;
  readonly total: number;
  /** Pushes per second in all, by other devices in groups of their own; 0: none. */
  readonly beside: number;
  readonly besideClients: number;
}

/** From one device's push until another device of the group has it. */
async function delivery(args: DeliveryArgs): Promise<{ p50Ms: number; p99Ms: number }> {
  const { writer, readers } = await openGroup(args, 1, {
    ...args,
    pushes: args.total,
    blobsPerPush: 1,
  });
  const besideEach =
    args.besideClients === 0
      ? 0
      : Math.ceil((args.beside * args.total) / args.perSecond / args.besideClients);
  const beside: Writer[] = [];
  for (let i = 0; i < args.besideClients && besideEach > 0; i++) {
    const group = await openGroup(args, 0, { ...args, pushes: besideEach, blobsPerPush: 1 });
    beside.push(group.writer);
  }
  const loop = new OpenLoop();
  const [reader] = readers;
  if (reader === undefined) throw new RangeError("nobody receives");
  writer.device.onRecord = (plaintext) => void countRecord(plaintext);
  reader.onRecord = (plaintext) => loop.arrive(countRecord(plaintext).blobs);
  let turn = 0;
  const besideSent = paced(Math.max(args.beside, 1), besideEach * beside.length, () => {
    const { device, supply } = beside[turn++ % beside.length] as Writer;
    pushOne(device, supply);
  });
  const latenciesMs = await loop.run(args.perSecond, args.total, () => {
    pushOne(writer.device, writer.supply);
  });
  await besideSent;
  return { p50Ms: percentile(latenciesMs, 0.5), p99Ms: percentile(latenciesMs, 0.99) };
}

function pushOne(device: RelayDevice, supply: PushSupply): void {
  const envelope = supply.take();
  if (envelope === undefined) return;
  device.send(envelope);
  device.flush();
}

export interface FanOutArgs extends RelayPlace {
  readonly readers: number;
  readonly outstanding: number;
  readonly payloadBytes: number;
  /** In deliveries. */
  readonly warmup: number;
  readonly measured: number;
}

/** One device writes and others of its group read. */
async function fanOut(args: FanOutArgs): Promise<{ perSecond: number }> {
  const throughput = new Throughput(args.warmup, args.measured);
  const { writer, readers } = await openGroup(args, args.readers, {
    ...args,
    // The writer goes on while the last deliveries are on their way.
    pushes: Math.ceil((2 * (args.warmup + args.measured)) / args.readers),
    blobsPerPush: 1,
  });
  const push = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const envelope = writer.supply.take();
      if (envelope !== undefined) writer.device.send(envelope);
    }
  };
  for (const reader of readers) {
    let received = 0;
    reader.onRecord = (plaintext) => {
      const { blobs, notifiedHead } = countRecord(plaintext);
      received += blobs;
      // A reader that is told to pull is not delivered to: the figure would be another one.
      if (notifiedHead > received) throw new Error("a reader fell behind");
      throughput.count(blobs);
    };
  }
  writer.device.onRecord = (plaintext) => push(countRecord(plaintext).acknowledged);
  push(args.outstanding);
  writer.device.flush();
  const perSecond = await throughput.result;
  return { perSecond };
}

export interface CatchUpArgs extends RelayPlace {
  readonly blobs: number;
  readonly payloadBytes: number;
}

const windowBytes = 8 * 1024 * 1024;

/** A device that has read nothing pulls a whole log. */
async function catchUp(args: CatchUpArgs): Promise<{ perSecond: number }> {
  const blobsPerPush = 100;
  const { writer, readers } = await openGroup(args, 1, {
    payloadBytes: args.payloadBytes,
    pushes: Math.ceil(args.blobs / blobsPerPush),
    blobsPerPush,
  });
  const [reader] = readers;
  if (reader === undefined) throw new RangeError("nobody pulls");
  await pushAll(writer, 4);
  return new Promise((resolve) => {
    let received = 0;
    let startedMs = 0;
    const requestId = reader.nextRequest();
    reader.onRecord = (plaintext) => {
      // What was delivered while the log was written is not pulled.
      if (startedMs === 0) return;
      const { blobs, done } = countRecord(plaintext);
      received += blobs;
      if (done && received >= args.blobs) {
        resolve({ perSecond: (received / (performance.now() - startedMs)) * 1_000 });
        return;
      }
      reader.request(requestId, {
        case: "pullMore",
        value: { windowBytes: plaintext.byteLength },
      });
    };
    // After everything that is on its way to the reader has arrived.
    setTimeout(() => {
      startedMs = performance.now();
      reader.request(requestId, { case: "pull", value: { after: 0n, windowBytes } });
      reader.flush();
    }, 1_000);
  });
}

/** Pushes all there is and resolves when it is acknowledged. */
function pushAll({ device, supply }: Writer, outstanding: number): Promise<void> {
  return new Promise((resolve) => {
    let waiting = 0;
    const push = (): void => {
      const envelope = supply.take();
      if (envelope === undefined) return;
      waiting += 1;
      device.send(envelope);
    };
    device.onRecord = (plaintext) => {
      const { acknowledged } = countRecord(plaintext);
      waiting -= acknowledged;
      for (let i = 0; i < acknowledged; i++) push();
      if (waiting === 0) resolve();
    };
    for (let i = 0; i < outstanding; i++) push();
    device.flush();
  });
}

serveRole({ pushes, delivery, fanOut, catchUp });
