/** The end of a run: the faults are over, everything comes to rest, and then it must be as it should. */
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import { idText, parseId } from "../../wire/ids.ts";
import { newer } from "./app.ts";
import type { Chance } from "./chance.ts";
import type { DeviceNode } from "./device-node.ts";
import type { Faults } from "./faults.ts";
import type { ObjectAsks } from "./object-asks.ts";
import type { Scene } from "./scene.ts";
import type { LoggedBlob } from "./truth.ts";
import { describe } from "./world.ts";

/** How long after the last fault everything must be in sync. */
const healMsMax = 30 * 60_000;

export class Quiescence {
  readonly #scene: Scene;
  readonly #faults: Faults;
  readonly #objects: ObjectAsks;
  /** Every change of who is up is over. */
  #restless = true;

  constructor(scene: Scene, faults: Faults, objects: ObjectAsks) {
    this.#scene = scene;
    this.#faults = faults;
    this.#objects = objects;
  }

  async come(plan: Chance): Promise<void> {
    const { world, pairings, devices } = this.#scene;
    // What is still to end by itself ends first: nothing new is begun.
    await world.run(plan.pick([0, 1_000, 61_000]));
    if (this.#over) return;
    this.#mend();
    await this.#retireCopies();
    if (this.#over) return;
    const founder = devices[0] as DeviceNode;
    await world.until(() => founder.member || founder.removed || this.#over, healMsMax);
    for (const joiner of devices) {
      if (joiner.gone || joiner.removed || this.#over) continue;
      const inviter = (): DeviceNode | undefined =>
        this.#members().find(({ up, member }) => up && member);
      if (joiner.member || joiner === founder) continue;
      if (!(await pairings.until(inviter, joiner))) return;
    }
    if (!(await this.#rest())) return;
    if (this.#scene.kinds.objects && !(await this.#finishObjects(plan))) return;
    if (plan.chance(0.5)) {
      // Whoever remains can still write, and is understood by all.
      for (const device of this.#members()) device.push(1);
      if (!(await this.#rest())) return;
    }
    await this.#compare();
    if (this.#scene.kinds.objects && !this.#over) {
      const until = (done: () => boolean): Promise<boolean> => this.#until(done);
      await this.#objects.judge(this.#members(), until);
    }
  }

  /** What was begun with objects ends, and what is pushed then is read by all. */
  async #finishObjects(plan: Chance): Promise<boolean> {
    const members = this.#members();
    this.#objects.finish(members, plan);
    const put = ({ objects, removed }: DeviceNode): boolean => objects.idle || removed;
    if (!(await this.#until(() => members.every(put)))) {
      if (this.#over) return false;
      const busy = members.find((each) => !put(each));
      this.#scene.world.fail(`5: ${busy?.name} does not come to an end with its objects`);
      return false;
    }
    return await this.#rest();
  }

  async #until(done: () => boolean): Promise<boolean> {
    await this.#scene.world.until(() => this.#over || done(), healMsMax);
    return !this.#over && done();
  }

  /** Nothing more can be asked: something failed, or the group has come apart as no device could help. */
  get #over(): boolean {
    const { world, truth } = this.#scene;
    return world.failures.length > 0 || truth.membershipForked;
  }

  #mend(): void {
    const { world, relay, devices } = this.#scene;
    world.tell("the faults are over");
    relay.full = false;
    for (const device of devices) {
      device.full = false;
      device.road.stalledUntilMs = 0;
      device.road.breakAfter = undefined;
      device.resumeAcks(0);
    }
    const keepUp = (): void => {
      this.#faults.startRelay();
      for (const device of devices) {
        if (!device.up && !device.busy && !(this.#restless && device.cloned)) {
          this.#scene.startAfter(device, 0);
        }
        // A person looks what became of it.
        if (device.client?.status().connection.state === "stopped") device.client.connect();
        device.acceptLost();
        device.objects.goOn();
      }
      world.after(20_000, keepUp);
    };
    keepUp();
  }

  /** Of a device that runs twice, one writes what it has and ends; the other goes on. */
  async #retireCopies(): Promise<void> {
    const { world, devices, truth } = this.#scene;
    const copies = devices.filter(({ cloned }) => cloned);
    const [one, other] = copies;
    if (one !== undefined && other !== undefined) {
      await this.#close(one);
      this.#scene.startAfter(other, 0);
      await world.until(() => other.up, 60_000);
      other.client?.connect();
      const done = (): boolean => other.inSyncAt(truth.head) || other.removed || this.#over;
      if (!(await world.until(done, healMsMax))) {
        other.tellStatus();
        world.fail(`5: ${other.name} is alone now, and not in sync`);
      }
      await this.#close(other);
      other.gone = true;
      this.#scene.startAfter(one, 0);
    }
    this.#restless = false;
  }

  async #close(device: DeviceNode): Promise<void> {
    const { world } = this.#scene;
    device.close().catch((error: unknown) => {
      world.fail(`${device.name} does not close: ${describe(error)}`);
    });
    await world.until(() => !device.up && !device.busy, 60_000);
  }

  /** The devices that the relay serves. */
  #members(): DeviceNode[] {
    const { devices, truth } = this.#scene;
    const ids = new Set(truth.log.members);
    return devices.filter(({ deviceId, gone }) => !gone && ids.has(deviceId));
  }

  async #rest(): Promise<boolean> {
    const { world, truth, devices } = this.#scene;
    const still = (): string => {
      const members = this.#members();
      for (const device of members) {
        if (!device.inSyncAt(truth.head)) return `${device.name} is not in sync`;
        const changes = device.disk.table("control").last()?.key;
        if (!device.settled || changes !== truth.log.controlHeads.length)
          return `${device.name} is behind`;
      }
      const removed = devices.find(
        (each) => each.removed && !each.gone && each.member && !members.includes(each),
      );
      return removed === undefined ? "" : `${removed.name} does not know that it is removed`;
    };
    await world.until(() => this.#over || still() === "", healMsMax);
    if (this.#over) return false;
    const why = still();
    if (why === "") return true;
    for (const device of devices) device.tellStatus();
    world.fail(`5: ${why}, ${healMsMax / 60_000} minutes after the last fault`);
    return false;
  }

  async #compare(): Promise<void> {
    this.#compareRosters();
    this.#compareEntries();
    this.#compareStates();
    this.#comparePushed();
  }

  /** Whoever remains has one membership history, and the same keys from it. */
  #compareRosters(): void {
    const { world, truth } = this.#scene;
    const heads = truth.log.controlHeads;
    let first: string | undefined;
    for (const device of this.#members()) {
      const { client, disk, name } = device;
      const groupId = parseId(client?.groupId ?? "", 32);
      if (client === undefined || groupId === undefined) continue;
      const rows = disk.table("control").range(1);
      const seed = disk.table("device").get("seed") as Uint8Array;
      const chain = readChain(
        rows.map(({ value }) => value),
        { groupId, keys: deriveDeviceKeys(seed) },
      );
      if (idText(chain.version.head) !== heads.at(-1)) {
        world.fail(`6: ${name} has another membership history than the relay`);
      }
      const epochs = Array.from({ length: chain.epoch }, (_, i) => i + 1);
      const keyring = epochs.map((epoch) =>
        idText(chain.keyring.secret(epoch) ?? new Uint8Array()),
      );
      const roster = client.devices().map(({ deviceId, name: called }) => `${deviceId} ${called}`);
      const all = [...roster.toSorted(), ...keyring].join("; ");
      first ??= all;
      if (all !== first) world.fail(`6: ${name} has ${all}, and another ${first}`);
      const ids = roster.map((text) => text.split(" ")[0] ?? "");
      const others = ids.filter((id) => !this.#serves(id));
      if (others.length > 0) world.fail(`6: ${name} counts ${truth.nameOf(others[0] ?? "")} in`);
    }
  }

  #serves(deviceId: string): boolean {
    const rows = [...this.#scene.truth.log.devices.values()];
    return rows.some((row) => row.state === "active" && idText(row.deviceId) === deviceId);
  }

  /** Everybody holds the log, in its order as long as there was only one. */
  #compareEntries(): void {
    const { world, truth, kinds } = this.#scene;
    const log = truth.log.blobs;
    for (const { name, app } of this.#members()) {
      const missing = log.find((blob) => !app.has(blob.blobId) && !app.excused(blob));
      if (missing !== undefined) world.fail(`5: ${name} does not hold ${missing.cursor}`);
      // A snapshot that was taken over says what is in it, not in which order.
      if (truth.logs.length > 1 || kinds.snapshots) continue;
      // What removed devices wrote comes once all of it is there, behind what others wrote after it.
      const stays = (id: string): boolean =>
        !truth.removedEver.has(truth.ever.get(id)?.sender ?? "");
      const there = ({ blobId, restart }: LoggedBlob): boolean =>
        app.has(blobId) || !(restart || truth.dropped.has(blobId));
      const expected = log.filter((blob) => stays(blob.blobId) && there(blob));
      const held = app.applied.filter(stays);
      const same =
        app.applied.length === log.filter(there).length &&
        held.every((id, i) => id === expected[i]?.blobId);
      if (!same) world.fail(`5: ${name} holds ${app.applied.length} of ${log.length}`);
    }
  }

  /** What apps made of it is the same, but where an entry that not all have has a say. */
  #compareStates(): void {
    const { world, truth } = this.#scene;
    const members = this.#members();
    const apart = new Set<string>();
    for (const { app } of members) {
      for (const id of app.applied) {
        // What was let go was replaced, or set nothing.
        if (truth.dropped.has(id) || members.every((each) => each.app.has(id))) continue;
        apart.add(keyOf(truth.queued.get(id)?.data));
      }
    }
    const [first] = members;
    if (first === undefined) return;
    for (const { name, app } of members) {
      for (const [key, cell] of [...app.cells, ...first.app.cells]) {
        const [a, b] = [app.cells.get(key), first.app.cells.get(key)];
        const same = a !== undefined && b !== undefined && !newer(a, b) && !newer(b, a);
        if (!same && !apart.has(key)) {
          world.fail(`5: ${name} and ${first.name} differ at ${key}, which ${cell.name} set`);
        }
      }
    }
  }

  /** Everything that was queued is in the log, once. */
  #comparePushed(): void {
    const { world, truth, devices } = this.#scene;
    const members = new Set(truth.log.members);
    for (const pushed of truth.pushed) {
      const { blobId, name, device, durable, lost } = pushed;
      if (blobId === undefined || lost || truth.log.holds(blobId, truth.head)) continue;
      // A removed device keeps what it has queued, and a restored relay does not get it back.
      if (truth.removedEver.has(device) || !members.has(device)) continue;
      const restored = devices.some((each) => each.deviceId === device && each.restored);
      if (truth.logs.length > 1 && (restored || truth.forked.has(device))) continue;
      world.fail(`${durable ? "1: durable" : "2: queued"} ${name} is not in the log`);
    }
    const unasked = truth.log.blobs.filter(
      ({ blobId, restart }) => !restart && !truth.queued.has(blobId),
    ).length;
    const unanswered = truth.pushed.filter(({ blobId }) => blobId === undefined).length;
    if (unasked > unanswered) world.fail(`2: ${unasked - unanswered} entries that nobody pushed`);
  }
}

function keyOf(data: Uint8Array | undefined): string {
  return new TextDecoder().decode(data).split("|", 2)[1] ?? "";
}
