/** Real relays and real devices: sockets on loopback, SQLite in folders that are removed afterwards. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Status, SyncClient } from "../../client/index.ts";
import { openSyncClient } from "../../client/platform/node/index.ts";
import {
  type RelayOptionsInput,
  type RelayParts,
  type RunningRelay,
  startRelay,
} from "../../server/index.ts";

/** A folder of this test's own. */
export async function testFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "sync-relay-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Resolves when a device's status says so. */
export function until(client: SyncClient, holds: (status: Status) => boolean): Promise<void> {
  return new Promise((resolve) => {
    let off = (): void => undefined;
    const look = (): void => {
      if (!holds(client.status())) return;
      off();
      resolve();
    };
    off = client.on("status", look);
    look();
  });
}

/** A relay that can be stopped and started again on the same port and data. */
export class TestRelay {
  readonly data: string;
  readonly #options: RelayOptionsInput;
  readonly #parts: RelayParts;
  #running: RunningRelay | undefined;
  #port: number;

  private constructor(data: string, port: number, options: RelayOptionsInput, parts: RelayParts) {
    this.data = data;
    this.#port = port;
    this.#options = options;
    this.#parts = parts;
  }

  static async start(
    t: TestContext,
    options: RelayOptionsInput = {},
    parts: RelayParts = {},
  ): Promise<TestRelay> {
    const relay = new TestRelay(await testFolder(t), await freePort(), options, parts);
    await relay.start();
    t.after(() => relay.stop());
    return relay;
  }

  get running(): RunningRelay {
    if (this.#running === undefined) throw new Error("the relay is stopped");
    return this.#running;
  }

  get address(): string {
    return this.running.address;
  }

  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    const options = {
      listen: `127.0.0.1:${this.#port}`,
      data: this.data,
      logLevel: "silent",
      ...this.#options,
      limits: { pushesPerS: 10_000, pushesBurst: 10_000, ...this.#options.limits },
    } as const;
    this.#running = await startRelay(options, this.#parts);
  }

  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.drain();
  }
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}

/** A device whose state is in a folder of its own. */
export interface TestDevice {
  readonly client: SyncClient;
  readonly folder: string;
  /** Closes it and opens it again from its folder. */
  reopen(): Promise<TestDevice>;
}

export async function openDevice(
  t: TestContext,
  options: { relay?: string; name?: string; folder?: string; appliedPosition?: number },
): Promise<TestDevice> {
  const folder = options.folder ?? (await testFolder(t));
  const client = await openSyncClient({
    state: folder,
    codeCost: { memoryKiB: 8, passes: 1 },
    ...(options.relay === undefined ? {} : { relay: options.relay }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.appliedPosition === undefined ? {} : { appliedPosition: options.appliedPosition }),
  });
  t.after(() => client.close());
  return {
    client,
    folder,
    reopen: async () => {
      await client.close();
      return await openDevice(t, { ...options, folder });
    },
  };
}

/** A group of so many devices, the first its founder. */
export async function pairedDevices(
  t: TestContext,
  relay: TestRelay,
  count: number,
): Promise<TestDevice[]> {
  const founder = await openDevice(t, { relay: relay.address, name: "device 1" });
  const invite = relay.running.firstInvite?.code;
  await founder.client.createGroup(invite === undefined ? {} : { invite });
  const devices = [founder];
  for (let i = 2; i <= count; i++) {
    devices.push(await joinDevice(t, founder, `device ${i}`));
  }
  return devices;
}

/** A new device, admitted by another through a link. */
export async function joinDevice(
  t: TestContext,
  inviter: TestDevice,
  name: string,
): Promise<TestDevice> {
  const device = await openDevice(t, { name });
  const invite = await inviter.client.invite({ confirm: () => true });
  await Promise.all([device.client.join(invite.link), invite.done]);
  return device;
}

/** Random content, with its text form for comparing. */
export function content(length = 256): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

/** Takes and acknowledges so many entries. */
export async function take(client: SyncClient, count: number): Promise<ReceivedEntry[]> {
  const taken: ReceivedEntry[] = [];
  if (count === 0) return taken;
  for await (const entry of client.entries()) {
    taken.push({
      hex: Buffer.from(entry.data).toString("hex"),
      blobId: entry.blobId,
      cursor: entry.cursor,
      position: entry.position,
      own: entry.own,
    });
    await entry.ack();
    if (taken.length === count) break;
  }
  return taken;
}

export interface ReceivedEntry {
  readonly hex: string;
  readonly blobId: string;
  readonly cursor: number;
  readonly position: number;
  readonly own: boolean;
}
