/** Devices for tests: clients on disks that outlive them. */
import {
  MemoryDisk,
  MemoryStore,
  type MemoryStoreHooks,
  SyncClient,
  type SyncClientOptions,
} from "../../../client/index.ts";
import type { IntegrityEvent, Invite, JoinerInfo } from "../../../client/types.ts";
import { fromUtf8, utf8 } from "../../../wire/bytes.ts";
import type { FakeRelay } from "./fake-relay.ts";
import type { World } from "./world.ts";

export type DeviceOptions = Partial<Omit<SyncClientOptions, "store" | "host">> & {
  readonly hooks?: MemoryStoreHooks;
};

/** One device: its disk, and the process that runs on it now. */
export class Device {
  readonly world: World;
  readonly relay: FakeRelay;
  disk: MemoryDisk;
  store!: MemoryStore;
  client!: SyncClient;
  readonly integrity: IntegrityEvent[] = [];
  readonly errors: Error[] = [];
  #kill: () => void = () => undefined;

  constructor(relay: FakeRelay, disk = new MemoryDisk()) {
    this.relay = relay;
    this.world = relay.world;
    this.disk = disk;
  }

  /** Starts a process on the disk. */
  async start(options: DeviceOptions = {}): Promise<this> {
    const { hooks, ...rest } = options;
    this.store = new MemoryStore(this.disk, hooks);
    const host = this.world.host();
    this.#kill = () => host.kill();
    this.client = await SyncClient.open({
      store: this.store,
      host,
      relay: this.relay.address,
      ...rest,
    });
    this.client.on("integrity", (event) => this.integrity.push(event));
    this.client.on("error", (error) => this.errors.push(error));
    return this;
  }

  /** The process dies: nothing that no resolved transaction wrote is left. */
  crash(): void {
    this.store.crash();
    this.#kill();
  }

  async restart(options: DeviceOptions = {}): Promise<this> {
    this.crash();
    return await this.start(options);
  }

  async push(...texts: string[]): Promise<void> {
    await this.client.pushMany(texts.map((text) => ({ data: utf8(text) })));
  }

  /** Takes, and acknowledges, everything up to the head of now. */
  async take(): Promise<string[]> {
    const texts: string[] = [];
    const run = async (): Promise<void> => {
      for await (const entry of this.client.entries({ untilCaughtUp: true })) {
        texts.push(fromUtf8(entry.data) ?? "?");
        await entry.ack();
      }
    };
    await this.world.result(run());
    return texts;
  }

  get inSync(): boolean {
    return this.client.status().inSync;
  }
}

/** A device that has founded a group. */
export async function founder(relay: FakeRelay, options: DeviceOptions = {}): Promise<Device> {
  const device = await new Device(relay).start({ name: "founder", ...options });
  await relay.world.result(device.client.createGroup());
  await relay.world.until(() => device.client.status().connection.state === "online");
  return device;
}

/** Lets a device into the group of another. */
export async function pair(
  inviter: Device,
  joiner: Device,
  by: "link" | "code" = "link",
  confirm: (joiner: JoinerInfo) => boolean | Promise<boolean> = () => true,
): Promise<Invite> {
  const { world } = inviter;
  const invite = await world.result(inviter.client.invite({ confirm }));
  await world.result(joiner.client.join(by === "link" ? invite.link : invite.code));
  await world.result(invite.done);
  await world.until(() => joiner.client.status().connection.state === "online");
  return invite;
}

/** A device that has joined the group of another. */
export async function member(inviter: Device, options: DeviceOptions = {}): Promise<Device> {
  const device = await new Device(inviter.relay).start({ name: "member", ...options });
  await pair(inviter, device);
  return device;
}
