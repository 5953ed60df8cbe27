/** Objects in a run: what apps do with them, and what must be so of them in the end. */
import { idText } from "../../wire/ids.ts";
import type { Chance } from "./chance.ts";
import type { DeviceNode } from "./device-node.ts";
import type { Choice } from "./faults.ts";
import type { Content } from "./object-content.ts";
import type { Scene } from "./scene.ts";

/** What is put behind that is small: it is sent again and again. */
const bytesInAllMax = 4_000_000;

export class ObjectAsks {
  readonly #scene: Scene;
  #number = 0;
  #bytes = 0;
  /** The run comes to rest: nothing new happens to who is asked for what must be there. */
  #finished = false;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  choices(asked: DeviceNode, plan: Chance): Choice[] {
    const { kinds, here } = this.#scene;
    if (!kinds.objects || here.length === 0) return [];
    const device = asked.member ? asked : plan.pick(here);
    return [
      [15, () => device.objects.put(this.#content(plan))],
      [30, () => this.#interrupted(device, plan)],
      [5, () => device.objects.stop()],
      [5, () => device.objects.goOn()],
      [15, () => this.#get(device, plan)],
      [15, () => this.#letGo(device, plan)],
    ];
  }

  /** Something happens in the middle of it. */
  #interrupted(device: DeviceNode, plan: Chance): void {
    const { world, relay } = this.#scene;
    device.objects.put(this.#content(plan));
    const happen = plan.weighted<() => void>([
      [3, () => device.objects.stop()],
      [3, () => device.links.forEach((link) => link.cut())],
      [
        4,
        () => {
          device.crash(false);
          this.#scene.startAfter(device, 1_000);
        },
      ],
      [
        2,
        () => {
          relay.crash(plan.pick(["kept", "lost"]), false);
          world.after(1_000, () => relay.start());
        },
      ],
    ]);
    world.after(plan.int(0, plan.pick([20, 200, 20_000])), () => {
      if (!this.#finished) happen();
    });
  }

  #letGo({ objects, app }: DeviceNode, plan: Chance): void {
    const live = [...app.objects.live.keys()];
    if (live.length > 0) objects.letGo(plan.pick(live));
  }

  #content(plan: Chance): Content {
    this.#number += 1;
    const wanted = plan.weighted([
      [1, 0],
      [3, plan.int(1, 3_000)],
      [3, plan.int(60_000, 200_000)],
      [2, plan.int(1_000_000, 2_400_000)],
    ]);
    const bytes = this.#bytes + wanted > bytesInAllMax ? plan.int(1, 3_000) : wanted;
    this.#bytes += bytes;
    return { name: `content ${this.#number}`, seed: plan.int(0, 2 ** 31), bytes };
  }

  #get(device: DeviceNode, plan: Chance): void {
    const { app, objects } = device;
    const live = [...app.objects.live.keys()];
    if (live.length === 0) return;
    const objectId = plan.pick(live);
    const bytes = this.#scene.truth.objects.contents.get(objectId)?.bytes ?? 0;
    const from = plan.int(0, bytes);
    const range = plan.chance(0.4) ? { from, to: plan.int(from, bytes) } : undefined;
    void objects.get(objectId, range).then((got) => {
      if (got) this.#scene.world.detail(() => `${device.name} has got ${objectId}`);
    });
  }

  /** Everything that was begun comes to its end, one more is put, and some are let go. */
  finish(members: readonly DeviceNode[], plan: Chance): void {
    this.#finished = true;
    for (const device of members) {
      device.objects.goOn();
      if (this.#scene.truth.logs.length > 1) device.objects.putAgain();
      if (plan.chance(0.5)) this.#letGo(device, plan);
    }
    if (members.length > 0) plan.pick(members).objects.put(this.#content(plan));
  }

  /** Each member gets what entries refer to, and the relay has nothing of what was let go. */
  async judge(
    members: readonly DeviceNode[],
    until: (done: () => boolean) => Promise<boolean>,
  ): Promise<void> {
    const { world, truth } = this.#scene;
    for (const { objects } of members) objects.dropAll();
    if (!(await until(() => members.every(({ objects }) => objects.idle)))) {
      if (world.failures.length > 0) return;
      const busy = members.find(({ objects }) => !objects.idle);
      world.fail(`5: ${busy?.name} does not come to an end with its objects`);
      return;
    }
    let open = 0;
    for (const device of members) {
      for (const objectId of device.app.objects.live.keys()) {
        open += 1;
        void this.#mustGet(device, objectId).finally(() => {
          open -= 1;
        });
      }
    }
    if (!(await until(() => open === 0))) {
      if (world.failures.length > 0) return;
      world.fail(`5: ${open} objects do not come`);
      return;
    }
    const dead = new Set(members.flatMap(({ app }) => [...app.objects.dead]));
    for (const { row } of truth.log.objects.values()) {
      const id = idText(row.objectId);
      if (dead.has(id)) world.fail(`5: the relay keeps ${id}, which nobody refers to`);
    }
  }

  async #mustGet(device: DeviceNode, objectId: string): Promise<void> {
    const { world, truth } = this.#scene;
    if (await device.objects.get(objectId)) return;
    const name = truth.objects.contents.get(objectId)?.name;
    const rows = [...truth.log.objects.values()];
    const there = rows.some(({ row }) => row.complete && idText(row.objectId) === objectId);
    // What a restored relay lacks, and whoever put it is gone or has forgotten it, is lost.
    if (there || truth.logs.length === 1) world.fail(`1: ${device.name} does not get ${name}`);
  }
}
