/** Older states that come back: of the relay, and of devices; and a device's folder that runs twice. */
import type { Chance } from "./chance.ts";
import type { DeviceBackup, DeviceNode } from "./device-node.ts";
import type { Choice } from "./faults.ts";
import type { RelayBackup } from "./relay-node.ts";
import type { Scene } from "./scene.ts";
import { describe } from "./world.ts";

export class Restores {
  readonly #scene: Scene;
  readonly #relayBackups: RelayBackup[] = [];
  readonly #deviceBackups = new Map<DeviceNode, DeviceBackup>();

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  choices(device: DeviceNode, plan: Chance): Choice[] {
    const { kinds } = this.#scene;
    return [
      ...(kinds.relayRestores
        ? ([
            [6, () => this.#backUpRelay()],
            [3, () => this.#restoreRelay(plan)],
          ] satisfies Choice[])
        : []),
      ...(kinds.deviceRestores
        ? ([
            [6, () => this.#backUpDevice(device)],
            [4, () => this.#restoreDevice(plan)],
            [2, () => this.#copyDevice(device, plan)],
          ] satisfies Choice[])
        : []),
    ];
  }

  #backUpRelay(): void {
    const { relay, world, truth } = this.#scene;
    // A group that is not in the backup is gone for good: nothing could be asked of anybody.
    if (truth.log.members.length === 0) return;
    const backup = relay.backup();
    if (backup === undefined) return;
    world.tell(`the relay is backed up at ${backup.log.blobs.length}`);
    this.#relayBackups.push(backup);
  }

  #restoreRelay(plan: Chance): void {
    const { relay, world, truth } = this.#scene;
    if (this.#relayBackups.length === 0) return;
    const backup = plan.pick(this.#relayBackups);
    // Somebody whom the backup knows must still be there, or nobody could bring the rest back.
    if (!backup.log.members.some((id) => truth.isMember(id))) return;
    relay
      .restore(backup, plan.chance(0.5))
      .then(() => world.after(plan.pick([0, 1_000, 30_000]), () => relay.start()))
      .catch((error: unknown) => world.fail(`the relay is not restored: ${describe(error)}`));
  }

  #backUpDevice(device: DeviceNode): void {
    if (!device.member || device.cloned) return;
    const backup = device.backup();
    if (backup === undefined) return;
    this.#scene.world.tell(`${device.name} is backed up`);
    this.#deviceBackups.set(device, backup);
  }

  #restoreDevice(plan: Chance): void {
    const backups = [...this.#deviceBackups];
    if (backups.length === 0) return;
    const [device, backup] = plan.pick(backups);
    if (device.busy || device.cloned) return;
    device.restore(backup);
    this.#scene.startAfter(device, plan.pick([0, 5_000]));
  }

  /** Its folder is copied to a second machine, and both run. */
  #copyDevice(device: DeviceNode, plan: Chance): void {
    const { devices, world } = this.#scene;
    if (!device.member || devices.some(({ cloned }) => cloned)) return;
    const backup = device.backup();
    if (backup === undefined) return;
    const copy = this.#scene.addDevice(plan, device);
    if (copy === undefined) return;
    copy.adopt(device, backup);
    world.tell(`${device.name} is copied, and both run`);
    this.#scene.startAfter(copy, plan.pick([0, 1_000]));
    // People come back to either machine.
    const turn = (): void => {
      if (copy.gone) return;
      plan.pick([device, copy]).client?.connect();
      world.after(plan.int(1_000, 30_000), turn);
    };
    turn();
  }
}
