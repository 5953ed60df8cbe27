/**
 * What one commit does to the log's life: snapshots, objects, trims, expiry and deletes. A part of
 * `Draft`; it changes no counters, which stand in the group's row.
 */
import { toHex } from "../wire/bytes.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type {
  FoundObject,
  LifeWrites,
  ObjectRow,
  SnapshotContent,
  SnapshotRow,
  WakeUpRow,
} from "./store/life.ts";

/** An object as this commit leaves it so far. */
export interface DraftObject {
  row: ObjectRow;
  readonly holders: Set<number>;
  /** Who held it on disk. */
  readonly held: ReadonlySet<number>;
}

type Mutable<Rows> = {
  -readonly [Key in keyof Rows]: Rows[Key] extends readonly (infer Row)[] ? Row[] : never;
};

/** The lists that are simply written. */
type Lists = Mutable<
  Pick<
    LifeWrites,
    "trims" | "drops" | "expiries" | "expiriesDone" | "deletes" | "deletesDone" | "chunks"
  >
>;

export class LifeDraft {
  readonly lists: Lists = {
    trims: [],
    drops: [],
    expiries: [],
    expiriesDone: [],
    deletes: [],
    deletesDone: [],
    chunks: [],
  };
  /** Groups that are given deletes to carry out. */
  readonly deleting = new Set<GroupEntry>();
  readonly #objects = new Map<string, DraftObject>();
  readonly #gone = new Set<string>();
  readonly #droppedObjects: ObjectRow[] = [];
  readonly #snapshots = new Map<GroupEntry, readonly SnapshotRow[]>();
  readonly #contents = new Map<number, SnapshotContent>();
  readonly #effective = new Map<number, { confirmedBy: number; confirmation: Uint8Array }>();
  readonly #droppedSnapshots: number[] = [];
  readonly #wakeUps = new Map<DeviceEntry, WakeUpRow | undefined>();

  /** The group's snapshots as this commit leaves them so far. */
  snapshots(group: GroupEntry): readonly SnapshotRow[] {
    return this.#snapshots.get(group) ?? group.snapshots;
  }

  addSnapshot(group: GroupEntry, row: SnapshotRow, content: SnapshotContent): void {
    this.#snapshots.set(group, [...this.snapshots(group), row]);
    this.#contents.set(row.snapshotKey, content);
  }

  makeEffective(
    group: GroupEntry,
    row: SnapshotRow,
    confirmedBy: number,
    confirmation: Uint8Array,
  ): void {
    const effective = { ...row, effective: true, confirmedBy };
    this.#snapshots.set(
      group,
      this.snapshots(group).map((one) => (one.snapshotKey === row.snapshotKey ? effective : one)),
    );
    this.#effective.set(row.snapshotKey, { confirmedBy, confirmation });
  }

  dropSnapshot(group: GroupEntry, row: SnapshotRow): void {
    this.#snapshots.set(
      group,
      this.snapshots(group).filter((one) => one.snapshotKey !== row.snapshotKey),
    );
    this.#droppedSnapshots.push(row.snapshotKey);
  }

  /** An object as this commit leaves it so far; `found` is what the disk has of it. */
  object(
    groupKey: number,
    objectId: Uint8Array,
    found: FoundObject | undefined,
  ): DraftObject | undefined {
    const name = nameOf(groupKey, objectId);
    const known = this.#objects.get(name);
    if (known !== undefined || found === undefined || this.#gone.has(name)) return known;
    return this.#put(found.object, found.holders);
  }

  addObject(row: ObjectRow): DraftObject {
    return this.#put(row, []);
  }

  #put(row: ObjectRow, holders: readonly number[]): DraftObject {
    const object = { row, holders: new Set(holders), held: new Set(holders) };
    this.#objects.set(nameOf(row.groupKey, row.objectId), object);
    return object;
  }

  /** Objects that this commit has looked at and that somebody refers to. */
  heldBy(holder: number): DraftObject[] {
    return [...this.#objects.values()].filter(({ holders }) => holders.has(holder));
  }

  dropObject({ row }: DraftObject): void {
    const name = nameOf(row.groupKey, row.objectId);
    this.#objects.delete(name);
    this.#gone.add(name);
    this.#droppedObjects.push(row);
  }

  /** Where a device is woken as this commit leaves it so far. */
  wakeUp(device: DeviceEntry): WakeUpRow | undefined {
    return this.#wakeUps.has(device) ? this.#wakeUps.get(device) : device.wakeUp;
  }

  /** Undefined: it is woken no more. */
  setWakeUp(device: DeviceEntry, row: WakeUpRow | undefined): void {
    this.#wakeUps.set(device, row);
  }

  get droppedBytes(): number {
    return this.#droppedObjects.reduce((sum, { durableBytes }) => sum + durableBytes, 0);
  }

  writes(): LifeWrites {
    const objects = [...this.#objects.values()];
    const references = objects.flatMap(({ row, holders, held }) =>
      [...holders]
        .filter((holder) => !held.has(holder))
        .map((holder) => ({ holder, objectKey: row.objectKey })),
    );
    const referencesEnded = objects.flatMap(({ row, holders, held }) =>
      [...held]
        .filter((holder) => !holders.has(holder))
        .map((holder) => ({ holder, objectKey: row.objectKey })),
    );
    const kept = [...this.#snapshots.values()].flat();
    return {
      ...this.lists,
      snapshots: kept.flatMap((row) => {
        const content = this.#contents.get(row.snapshotKey);
        if (content === undefined) return [];
        const confirmation = this.#effective.get(row.snapshotKey)?.confirmation;
        return [{ row, ...content, ...(confirmation === undefined ? {} : { confirmation }) }];
      }),
      effective: [...this.#effective]
        .filter(([snapshotKey]) => !this.#contents.has(snapshotKey))
        .map(([snapshotKey, by]) => ({ snapshotKey, ...by })),
      droppedSnapshots: this.#droppedSnapshots,
      objects: objects.map(({ row }) => row),
      references,
      referencesEnded,
      droppedObjects: this.#droppedObjects,
      wakeUps: [...this.#wakeUps.values()].filter((row) => row !== undefined),
      wakeUpsEnded: [...this.#wakeUps]
        .filter(([, row]) => row === undefined)
        .map(([device]) => device.row.deviceKey),
    };
  }

  /** Takes over, after the commit is on disk, what it wrote. */
  apply(): void {
    for (const [group, rows] of this.#snapshots) group.snapshots = rows;
    for (const group of this.deleting) group.deletesTaken += 1;
    for (const [device, row] of this.#wakeUps) device.wakeUp = row;
  }
}

function nameOf(groupKey: number, objectId: Uint8Array): string {
  return `${groupKey} ${toHex(objectId)}`;
}
