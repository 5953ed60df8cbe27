/**
 * The real relay and real devices in virtual time: what takes days, or must be cut at one moment,
 * happens at once and the same way each time.
 */
import assert from "node:assert/strict";
import { MemoryDisk, type MemoryStoreHooks } from "../../client/index.ts";
import { utf8 } from "../../wire/bytes.ts";
import { newRelayStore, RaceDevice, RaceRelay } from "../simulation/race-nodes.ts";
import { World } from "../simulation/world.ts";

export class VirtualWorld {
  readonly world: World;
  readonly relay: RaceRelay;
  #stream = 10;

  constructor(seed = 1) {
    this.world = new World(seed);
    this.relay = new RaceRelay(this.world, newRelayStore(), 5);
    this.relay.start();
  }

  /** Moves time on until it holds. */
  async until(condition: () => boolean, mostMs = 600_000): Promise<void> {
    const holds = await this.world.until(condition, mostMs);
    this.sound();
    assert.ok(holds, `still not so: ${condition.toString()}\n${this.world.story.join("\n")}`);
  }

  /** Moves time on until a promise has settled. */
  async ended<T>(promise: Promise<T>, mostMs = 1_800_000): Promise<T> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    promise.then(settle, settle);
    await this.until(() => settled, mostMs);
    return await promise;
  }

  async run(ms: number): Promise<void> {
    await this.world.run(ms);
    this.sound();
  }

  /** No device was told that its history does not hold, and nothing was thrown. */
  sound(): void {
    assert.deepEqual(this.world.failures, []);
  }

  async device(
    name: string,
    disk = new MemoryDisk(),
    hooks: MemoryStoreHooks = {},
  ): Promise<RaceDevice> {
    this.#stream += 1;
    const device = new RaceDevice(name, this.world, this.relay, this.#stream, disk);
    await device.start(hooks);
    return device;
  }

  /** A group of so many; each but the first was let in by the first. */
  async group(count: number): Promise<RaceDevice[]> {
    const founder = await this.device("device 1");
    await this.ended(founder.client.createGroup());
    const devices = [founder];
    for (let i = 2; i <= count; i++) devices.push(await this.joined(founder, `device ${i}`));
    await this.inSync(devices);
    return devices;
  }

  async joined(inviter: RaceDevice, name: string): Promise<RaceDevice> {
    const device = await this.device(name);
    const invite = await this.ended(inviter.client.invite({ confirm: () => true }));
    await this.ended(device.client.join(invite.link));
    await this.ended(invite.done);
    return device;
  }

  /** A group invite of the relay's operator. */
  invite(): Promise<string> {
    return this.ended(this.relay.invite());
  }

  async push(device: RaceDevice, ...texts: string[]): Promise<string[]> {
    const receipts = await device.client.pushMany(texts.map((text) => ({ data: utf8(text) })));
    return receipts.map(({ blobId }) => blobId);
  }

  /** All of them have the same chain, and everything up to the same head. */
  async inSync(devices: readonly RaceDevice[]): Promise<void> {
    await this.until(() => {
      const [first] = devices.map(({ client }) => client.status());
      return devices.every(({ client }) => {
        const { inSync, head, epoch, devices: count } = client.status();
        return inSync && head === first?.head && epoch === first?.epoch && count === first?.devices;
      });
    });
  }
}

/** A device's control chain, as text: to compare. */
export function chainOf({ disk }: RaceDevice): string[] {
  return disk
    .table("control")
    .range(0)
    .map(({ value }) => Buffer.from(value).toString("base64url"));
}
