/** What apps and people ask of their devices in a run. */
import { UsageError } from "../../client/index.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import type { Chance } from "./chance.ts";
import type { DeviceNode } from "./device-node.ts";
import type { Choice } from "./faults.ts";
import type { Scene } from "./scene.ts";

export class Asks {
  readonly #scene: Scene;

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  choices(device: DeviceNode, plan: Chance): Choice[] {
    const { kinds } = this.#scene;
    return [
      [
        30,
        () =>
          device.push(
            plan.weighted([
              [4, 1],
              [2, plan.int(2, 5)],
              [1, plan.int(20, 60)],
            ]),
          ),
      ],
      [5, () => this.#pairSomebody(plan)],
      [4, () => this.#acks(device, plan)],
      [2, () => device.client?.setPresence(plan.pick(["online", "away"]))],
      [2, () => this.#history(device, plan)],
      [2, () => this.#waits(device)],
      ...(kinds.snapshots ? ([[6, () => device.snapshot()]] satisfies Choice[]) : []),
      ...(kinds.membership ? this.#membership(device, plan) : []),
    ];
  }

  #membership(device: DeviceNode, plan: Chance): Choice[] {
    return [
      [3, () => this.#remove(device, plan, 1)],
      [1, () => this.#remove(device, plan, 2)],
      [1, () => this.#removeEachOther(plan)],
      [3, () => this.#rotate(device)],
      [1, () => this.#rename(device, plan)],
      [2, () => this.#phrase(device, plan)],
      [1, () => this.#revokePhrase(device)],
      [2, () => this.#newcomer(plan)],
      [3, () => this.#recover(device, plan)],
    ];
  }

  #pairSomebody(plan: Chance): void {
    const { devices, here, pairings } = this.#scene;
    const joiner = devices.find(({ up, membership }) => up && membership === "none");
    if (joiner === undefined || here.length === 0 || joiner === devices[0]) return;
    pairings.begin(plan.pick(here), joiner, plan.pick(["link", "code"]));
  }

  #acks(device: DeviceNode, plan: Chance): void {
    const ms = plan.pick([undefined, 0, 0, 20, 500]);
    this.#scene.world.tell(
      `the app of ${device.name} acknowledges ${ms === undefined ? "nothing" : `within ${ms} ms`}`,
    );
    if (ms === undefined) device.ackMs = undefined;
    else device.resumeAcks(ms);
  }

  /** Reads some of the log again: what it is handed is in one of the logs there were, in order. */
  #history(device: DeviceNode, plan: Chance): void {
    const { client } = device;
    const { truth, world } = this.#scene;
    if (client === undefined || !device.member) return;
    const after = plan.int(0, truth.head);
    const read = async (): Promise<void> => {
      let cursor = after;
      for await (const entry of client.history({ after })) {
        const log = truth.logWith(entry.blobId, entry.cursor);
        const left = log?.blobs
          .slice(cursor, entry.cursor - 1)
          .find(
            (blob) =>
              blob.cursor > truth.log.floor &&
              !device.app.excused(blob) &&
              !truth.removedEver.has(blob.sender),
          );
        if (log === undefined || entry.cursor <= cursor || left !== undefined) {
          world.fail(`1: ${device.name} reads ${entry.blobId} at ${entry.cursor} of its history`);
        }
        cursor = entry.cursor;
      }
    };
    read().catch((error: unknown) => device.judgeAsked("history", client, error));
  }

  #waits(device: DeviceNode): void {
    const { client } = device;
    const { truth, world } = this.#scene;
    if (client === undefined || !device.member) return;
    const asked = device.ownPushed().filter(({ blobId, lost }) => blobId !== undefined && !lost);
    client.flush().then(
      () => {
        const open = asked.filter(({ blobId }) => !truth.ever.has(blobId ?? ""));
        if (open.length > 0) {
          world.fail(`1: flush of ${device.name} resolves; ${open[0]?.name} is not in the log`);
        }
      },
      (error: unknown) => device.judgeAsked("flush", client, error),
    );
  }

  // --- the group --------------------------------------------------------------------------------

  #remove(device: DeviceNode, plan: Chance, count: number): void {
    const { client } = device;
    if (client === undefined || !device.member) return;
    const others = client.devices().filter(({ self }) => !self);
    const chosen = new Set<string>();
    for (let i = 0; i < count && others.length > 0; i++) chosen.add(plan.pick(others).deviceId);
    if (chosen.size > 0) this.#removeAll(device, [...chosen]);
  }

  #removeAll(device: DeviceNode, ids: readonly string[]): void {
    const { client } = device;
    const { world, truth } = this.#scene;
    if (client === undefined) return;
    world.tell(`${device.name} removes ${ids.map((id) => truth.nameOf(id)).join(" and ")}`);
    client.remove(ids).then(
      () => {
        if (!ids.every((id) => truth.removedEver.has(id))) {
          world.fail(`6: ${device.name} hears that they are removed, and they are not`);
        }
      },
      (error: unknown) => {
        // It may have gone, or come back through a restore, while it was asked.
        const gone = error instanceof SyncError && error.code === ErrorCode.DEVICE_UNKNOWN;
        if (!gone) device.judgeAsked("remove", client, error);
      },
    );
  }

  #removeEachOther(plan: Chance): void {
    const { here } = this.#scene;
    if (here.length === 0) return;
    const one = plan.pick(here);
    const others = here.filter((each) => each.deviceId !== one.deviceId);
    if (others.length === 0) return;
    const other = plan.pick(others);
    const knows = (a: DeviceNode, b: DeviceNode): boolean =>
      a.client?.devices().some(({ deviceId }) => deviceId === b.deviceId) === true;
    if (!knows(one, other) || !knows(other, one)) return;
    this.#removeAll(one, [other.deviceId]);
    this.#removeAll(other, [one.deviceId]);
  }

  #rotate(device: DeviceNode): void {
    const { client } = device;
    const { world, truth } = this.#scene;
    if (client === undefined || !device.member) return;
    const above = client.status().epoch;
    world.tell(`${device.name} asks for another secret than the ${above}th`);
    client.rotate().then(
      () => {
        if (truth.logs.every(({ epoch }) => epoch <= above)) {
          world.fail(`6: ${device.name} hears of another secret, and there is none`);
        }
      },
      (error: unknown) => device.judgeAsked("rotate", client, error),
    );
  }

  #rename(device: DeviceNode, plan: Chance): void {
    const { client } = device;
    if (client === undefined || !device.member) return;
    const name = `${device.name} ${plan.pick(["at home", "at work", "in the attic"])}`;
    this.#scene.world.tell(`${device.name} wants to be ${name}`);
    client.rename(name).catch((error: unknown) => device.judgeAsked("rename", client, error));
  }

  #phrase(device: DeviceNode, plan: Chance): void {
    const { client } = device;
    const { world, phrases } = this.#scene;
    if (client === undefined || !device.member) return;
    const replace = plan.chance(0.7);
    world.tell(`${device.name} asks for a recovery phrase`);
    client.createRecoveryPhrase({ replace }).then(
      ({ words, deviceId }) => {
        world.tell(`${device.name} is shown a phrase`);
        phrases.push({ words, deviceId });
      },
      (error: unknown) => {
        // There is one already, and it was not to be replaced.
        if (!(error instanceof UsageError) || replace) {
          device.judgeAsked("createRecoveryPhrase", client, error);
        }
      },
    );
  }

  #revokePhrase(device: DeviceNode): void {
    const { client } = device;
    if (client === undefined || !device.member) return;
    this.#scene.world.tell(`${device.name} revokes the phrases`);
    client
      .revokeRecoveryPhrase()
      .catch((error: unknown) => device.judgeAsked("revokeRecoveryPhrase", client, error));
  }

  #newcomer(plan: Chance): void {
    const device = this.#scene.addDevice(plan);
    if (device === undefined) return;
    this.#scene.startAfter(device, 0);
  }

  /** Somebody who lost everything, or thinks so, types the words on a device of no group. */
  #recover(asked: DeviceNode, plan: Chance): void {
    const { phrases, devices, truth, pairings, world } = this.#scene;
    const device = [asked, ...devices].find(
      (each) => each.up && each.membership === "none" && each !== devices[0],
    );
    const client = device?.client;
    if (device === undefined || client === undefined || phrases.length === 0) return;
    if (!pairings.claim(device)) return;
    const { words, deviceId } = plan.pick(phrases);
    const unrevoked = !truth.removedEver.has(deviceId) && truth.logs.length === 1;
    world.tell(`${device.name} is brought in by a phrase`);
    client.recover(words).then(
      () => {
        pairings.free(device, client);
        world.tell(`${device.name} is in by a phrase`);
      },
      (error: unknown) => {
        pairings.free(device, client);
        const lost = error instanceof SyncError && error.code === ErrorCode.NOT_A_MEMBER;
        if (lost && unrevoked && !truth.removedEver.has(deviceId) && truth.logs.length === 1) {
          world.fail(`${device.name}: a phrase that nobody revoked is not known`);
        }
        device.judgeAsked("recover", client, error);
      },
    );
  }
}
