/** An app whose state is a list of texts: what it was handed, in order, and a position of its own. */
import type { RestorePoint, SnapshotPoint } from "../../../client/index.ts";
import { concatBytes, fromUtf8, utf8 } from "../../../wire/bytes.ts";
import { Device, type DeviceOptions, pair } from "./devices.ts";
import type { FakeRelay } from "./fake-relay.ts";

export class ListApp {
  readonly device: Device;
  list: string[] = [];
  position = 0;
  readonly restored: RestorePoint[] = [];
  readonly asked: SnapshotPoint[] = [];
  readonly gaps: string[] = [];
  /** Acknowledgements wait while it is set. */
  paused = false;
  /** What a snapshot is, where a test wants another one. */
  give: (() => Uint8Array | AsyncIterable<Uint8Array>) | undefined;

  constructor(relay: FakeRelay) {
    this.device = new Device(relay);
  }

  get client() {
    return this.device.client;
  }

  async start(options: DeviceOptions = {}): Promise<this> {
    await this.device.start({
      snapshot: (point) => {
        this.asked.push(point);
        return this.give?.() ?? utf8(JSON.stringify(this.list));
      },
      restore: async (content, point) => {
        const pieces: Uint8Array[] = [];
        for await (const piece of content) pieces.push(piece);
        this.list = JSON.parse(fromUtf8(concatBytes(...pieces)) ?? "");
        this.position = point.position;
        this.restored.push(point);
      },
      ...options,
    });
    this.client.on("gap", ({ from, through }) => this.gaps.push(`${from}-${through}`));
    this.#run().catch((error: unknown) => this.device.world.failures.push(error));
    return this;
  }

  /** Takes entries as they come, for as long as the process lives. */
  async #run(): Promise<void> {
    for await (const entry of this.client.entries()) {
      while (this.paused) {
        await new Promise<void>((resolve) => this.device.world.after(100, resolve));
      }
      this.list.push(fromUtf8(entry.data) ?? "?");
      this.position = entry.position;
      await entry.ack();
    }
  }

  async restart(options: DeviceOptions = {}): Promise<this> {
    this.device.crash();
    return await this.start({ appliedPosition: this.position, ...options });
  }

  async founds(): Promise<this> {
    const { world } = this.device;
    await world.result(this.client.createGroup());
    await world.until(() => this.client.status().connection.state === "online");
    return this;
  }

  async joins(inviter: ListApp): Promise<this> {
    await pair(inviter.device, this.device);
    return this;
  }
}

/** A group of so many, the first its founder. */
export async function listApps(relay: FakeRelay, count: number): Promise<ListApp[]> {
  const apps = [await (await new ListApp(relay).start({ name: "app 1" })).founds()];
  for (let i = 2; i <= count; i++) {
    const app = await new ListApp(relay).start({ name: `app ${i}` });
    apps.push(await app.joins(apps[0] as ListApp));
  }
  return apps;
}
