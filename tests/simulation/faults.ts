/** What goes wrong in a run: connections, processes, disks and clocks. */
import type { Chance } from "./chance.ts";
import type { DeviceNode } from "./device-node.ts";
import { road, type Scene } from "./scene.ts";
import { describe } from "./world.ts";

/** Something that may happen now, and how often it is chosen. */
export type Choice = readonly [weight: number, happen: () => void];

export class Faults {
  readonly #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  choices(device: DeviceNode, plan: Chance): Choice[] {
    const { world, relay, devices } = this.#scene;
    return [
      [8, () => this.#cut(device)],
      [3, () => this.#cutOften(device)],
      [3, () => this.#stall([device], plan.int(100, 90_000))],
      [1, () => this.#stall(devices, plan.int(100, 60_000))],
      [2, () => this.#silence(device)],
      [2, () => this.#changeRoad(device, plan)],
      [2, () => this.#breakAfter(device, plan)],
      [6, () => this.#crashRelay(plan)],
      [2, () => this.#drainRelay(plan)],
      [3, () => this.#fillRelay(plan)],
      [1, () => this.#freeze("relay", relay, plan.int(100, 40_000))],
      [8, () => this.#crashDevice(device, plan)],
      [2, () => this.#closeDevice(device, plan)],
      [3, () => this.#fillDevice(device, plan)],
      [2, () => this.#freeze(device.name, device, plan.int(100, 300_000))],
      [
        2,
        () => {
          const ms = plan.pick([-1, 1]) * plan.pick([1_000, 3_600_000, 10 * 365 * 86_400_000]);
          const [name, node] = plan.pick([
            ["relay", relay],
            [device.name, device],
          ] as const);
          world.tell(`the clock of ${name} jumps by ${ms / 1000} s`);
          node.jump(ms);
        },
      ],
      [2, () => device.client?.connect()],
    ];
  }

  #cut(device: DeviceNode): void {
    if (device.links.length === 0) return;
    this.#scene.world.tell(`the connection of ${device.name} breaks`);
    for (const link of device.links) link.cut();
  }

  #cutOften(device: DeviceNode): void {
    const { world } = this.#scene;
    world.tell(`the connection of ${device.name} breaks again and again`);
    for (let i = 0; i < 10; i++) {
      world.after(i * 500, () => {
        for (const link of device.links) link.cut(true);
        device.client?.connect();
      });
    }
  }

  #stall(devices: readonly DeviceNode[], ms: number): void {
    const { world } = this.#scene;
    const names = devices.map(({ name }) => name).join(", ");
    world.tell(`nothing gets through to ${names} for ${ms} ms`);
    for (const { road: way } of devices) {
      way.stalledUntilMs = Math.max(way.stalledUntilMs, world.nowMs + ms);
    }
  }

  #silence(device: DeviceNode): void {
    this.#scene.world.tell(`the connection of ${device.name} goes silent`);
    for (const link of device.links) link.silent = true;
  }

  #changeRoad(device: DeviceNode, plan: Chance): void {
    const { latencyMs, jitterMs, bytesPerMs } = road(plan);
    this.#scene.world.tell(
      `${device.name} is on another road: ${latencyMs} to ${latencyMs + jitterMs} ms, ${bytesPerMs ?? "any"} bytes/ms`,
    );
    Object.assign(device.road, { latencyMs, jitterMs, bytesPerMs });
  }

  #breakAfter(device: DeviceNode, plan: Chance): void {
    const messages = plan.int(1, 12);
    this.#scene.world.tell(
      `the next connection of ${device.name} breaks after ${messages} messages`,
    );
    device.road.breakAfter = messages;
    for (const link of device.links) link.cut(true);
  }

  #crashRelay(plan: Chance): void {
    const { relay, world } = this.#scene;
    relay.crash(plan.pick(["kept", "lost"]), plan.chance(0.3));
    world.after(plan.pick([0, 100, 5_000, 40_000]), () => relay.start());
  }

  #drainRelay(plan: Chance): void {
    const { relay, world } = this.#scene;
    relay.drain().catch((error: unknown) => {
      world.fail(`the relay does not shut down: ${describe(error)}`);
    });
    world.after(plan.int(4_000, 20_000), () => this.startRelay());
  }

  /** However long it takes to shut down. */
  startRelay(): void {
    const { relay, world } = this.#scene;
    if (relay.draining) world.after(1_000, () => this.startRelay());
    else relay.start();
  }

  #fillRelay(plan: Chance): void {
    const { relay, world } = this.#scene;
    const ms = plan.int(10, 20_000);
    world.tell(`the relay's disk is full for ${ms} ms`);
    relay.full = true;
    world.after(ms, () => {
      relay.full = false;
    });
  }

  #freeze(name: string, node: { freeze(ms: number): void }, ms: number): void {
    this.#scene.world.tell(`${name} stands still for ${ms} ms`);
    node.freeze(ms);
  }

  #crashDevice(device: DeviceNode, plan: Chance): void {
    device.crash(plan.chance(0.3));
    this.#scene.startAfter(device, plan.pick([0, 100, 5_000, 60_000]));
  }

  #closeDevice(device: DeviceNode, plan: Chance): void {
    device.close().catch((error: unknown) => {
      this.#scene.world.fail(`${device.name} does not close: ${describe(error)}`);
    });
    this.#scene.startAfter(device, plan.pick([1_000, 60_000]));
  }

  #fillDevice(device: DeviceNode, plan: Chance): void {
    const ms = plan.int(10, 20_000);
    this.#scene.world.tell(`the disk of ${device.name} is full for ${ms} ms`);
    device.full = true;
    this.#scene.world.after(ms, () => {
      device.full = false;
    });
  }
}
