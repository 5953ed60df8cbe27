/**
 * What is so of objects: what the relay's disk holds of each, who refers to it, and what apps asked
 * for. Parts of snapshots are no app's business, and not counted.
 */
import type { DeviceRow } from "../../server/store/contract.ts";
import type { LifeWrites, ObjectRow } from "../../server/store/life.ts";
import { idText } from "../../wire/ids.ts";
import type { Content } from "./object-content.ts";
import type { World } from "./world.ts";

/** An object on the relay's disk. */
export interface DiskObject {
  row: ObjectRow;
  /** Keys of the devices that refer to it. */
  readonly holders: Set<number>;
  /** How many chunks of it were written. */
  chunks: number;
}

export type DiskObjects = Map<number, DiskObject>;

export function copyObjects(objects: DiskObjects): DiskObjects {
  return new Map(
    [...objects].map(([key, { row, holders, chunks }]) => [
      key,
      { row, holders: new Set(holders), chunks },
    ]),
  );
}

/** The log that a commit is about, as far as objects need it. */
interface LogOfObjects {
  readonly devices: ReadonlyMap<number, DeviceRow>;
  readonly objects: DiskObjects;
  readonly removed: { has(deviceId: string): boolean };
}

export class ObjectTruth {
  readonly #world: World;
  readonly #nameOf: (deviceId: string) => string;
  /** Which objects were ever whole on the relay's disk, by whom: object and device. */
  readonly #whole = new Set<string>();
  /** What is in them, once an app was told that they are there. */
  readonly contents = new Map<string, Content>();
  /** By device: what its app asked to be put, by name, and what the relay ever had of it. */
  readonly #asked = new Map<string, Set<string>>();
  readonly #begun = new Map<string, Set<string>>();
  /** Devices that asked for an object to be let go. */
  readonly #drops = new Map<string, Set<string>>();
  /** Devices that may have forgotten what they had begun. */
  readonly forgetful = new Set<string>();
  /** The relay's clock was changed: it may count more days than there were. */
  clockJumped = false;
  /** The relay went on from an older state: it may lack what it had. */
  restored = false;

  constructor(world: World, nameOf: (deviceId: string) => string) {
    this.#world = world;
    this.#nameOf = nameOf;
  }

  /** An app puts a content under a name. */
  put(deviceId: string, name: string): void {
    add(this.#asked, deviceId, name);
  }

  /** A device is asked to let an object go. */
  drop(deviceId: string, objectId: string): void {
    add(this.#drops, objectId, deviceId);
  }

  /** Whether anybody asked for it to be let go. */
  dropped(objectId: string): boolean {
    return this.#drops.has(objectId);
  }

  /** An app was told that an object is on the relay's disk. */
  stored(deviceId: string, objectId: string, content: Content): void {
    if (!this.#whole.has(`${objectId} ${deviceId}`)) {
      this.#world.fail(
        `1: ${this.#nameOf(deviceId)} was told that ${content.name} is stored, and it is not`,
      );
    }
    this.contents.set(objectId, content);
  }

  /** A commit is on the relay's disk. */
  committed(life: LifeWrites, log: LogOfObjects): void {
    const { objects } = log;
    for (const row of life.objects) {
      if (row.part) continue;
      const known = objects.get(row.objectKey);
      if (known === undefined) {
        objects.set(row.objectKey, { row, holders: new Set(), chunks: 0 });
        this.#world.detail(() => `the relay has the first of ${idText(row.objectId)}`);
      } else {
        known.row = row;
      }
    }
    for (const { holder, objectKey } of life.references) {
      const object = objects.get(objectKey);
      if (object === undefined || holder < 0) continue;
      object.holders.add(holder);
      this.#refers(deviceOf(log, holder), idText(object.row.objectId));
    }
    for (const { holder, objectKey } of life.referencesEnded) {
      const object = objects.get(objectKey);
      if (object === undefined || holder < 0) continue;
      this.#mayEnd(object, holder, log);
      object.holders.delete(holder);
    }
    for (const { objectKey, number } of life.chunks) {
      const object = objects.get(objectKey);
      if (object === undefined) continue;
      if (number !== object.chunks) {
        this.#world.fail(
          `2: chunk ${number} of ${idText(object.row.objectId)} is written behind ${object.chunks}`,
        );
      }
      object.chunks += 1;
    }
    for (const { objectKey } of life.droppedObjects) this.#collected(objectKey, log);
    for (const { row, holders } of objects.values()) {
      if (!row.complete) continue;
      for (const key of holders) this.#whole.add(`${idText(row.objectId)} ${deviceOf(log, key)}`);
    }
  }

  /** Whoever goes on with an upload goes on with the object that it began. */
  #refers(deviceId: string, objectId: string): void {
    const begun = add(this.#begun, deviceId, objectId).size;
    const asked = this.#asked.get(deviceId)?.size ?? 0;
    if (begun <= asked || this.forgetful.has(deviceId)) return;
    this.#world.fail(
      `2: ${this.#nameOf(deviceId)} has begun ${begun} objects, and its app put ${asked}`,
    );
  }

  #collected(objectKey: number, log: LogOfObjects): void {
    const object = log.objects.get(objectKey);
    if (object === undefined) return;
    for (const holder of object.holders) this.#mayEnd(object, holder, log);
    log.objects.delete(objectKey);
    this.#world.detail(() => `the relay collects ${idText(object.row.objectId)}`);
  }

  /** A reference ends by its device's own word, or, where that was removed, by anybody's. */
  #mayEnd({ row }: DiskObject, holder: number, log: LogOfObjects): void {
    const id = idText(row.objectId);
    const deviceId = deviceOf(log, holder);
    const asked = this.#drops.get(id);
    if (asked?.has(deviceId) === true) return;
    if (asked !== undefined && log.removed.has(deviceId)) return;
    // What did not come to anything goes by its age, which no story is long enough for but by its clock.
    if (!row.complete && this.clockJumped) return;
    this.#world.fail(`1: the relay lets go of ${id}, and ${this.#nameOf(deviceId)} refers to it`);
  }
}

function deviceOf({ devices }: LogOfObjects, key: number): string {
  const row = devices.get(key);
  return row === undefined ? "?" : idText(row.deviceId);
}

function add(sets: Map<string, Set<string>>, name: string, value: string): Set<string> {
  const set = sets.get(name) ?? new Set();
  sets.set(name, set.add(value));
  return set;
}
