/**
 * One commit being planned: the rows it will write, over what is on disk. Nothing in memory changes
 * until that commit is on disk, so a commit that fails leaves nothing to undo.
 */
import { equalBytes } from "../wire/bytes.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import { LifeDraft } from "./life-draft.ts";
import type {
  BlobRow,
  CommitBatch,
  ControlRow,
  DeviceRow,
  GroupRow,
  InviteRow,
  SenderPlace,
} from "./store/contract.ts";

/** A row of a draft, which nobody else holds. */
export type Writable<Row> = { -readonly [Key in keyof Row]: Row[Key] };

/** One commit being planned. */
export class Draft {
  readonly #groups = new Map<GroupEntry, GroupRow>();
  readonly #devices = new Map<DeviceEntry, DeviceRow>();
  readonly #newDevices = new Map<GroupEntry, DeviceRow[]>();
  readonly #founded: GroupEntry[] = [];
  readonly #blobs: BlobRow[] = [];
  readonly #control: ControlRow[] = [];
  readonly #invites: InviteRow[] = [];
  readonly #deleted = new Set<GroupEntry>();
  #life: LifeDraft | undefined;
  #keepsAge = false;
  #storeBytes: number;

  constructor(storeBytes: number) {
    this.#storeBytes = storeBytes;
  }

  get empty(): boolean {
    return (
      this.#groups.size === 0 &&
      this.#devices.size === 0 &&
      this.#founded.length === 0 &&
      this.#invites.length === 0 &&
      this.#deleted.size === 0 &&
      this.#life === undefined &&
      !this.#keepsAge
    );
  }

  /** Bytes that count towards the store's limit after this commit. */
  get storeBytes(): number {
    return this.#storeBytes;
  }

  /** What it does beside the log. */
  get life(): LifeDraft {
    this.#life ??= new LifeDraft();
    return this.#life;
  }

  /** Bytes that objects hold on disk which it drops: they are given back later. */
  get droppedBytes(): number {
    return this.#life?.droppedBytes ?? 0;
  }

  /** Writes the age down, whatever else there is to write. */
  keepAge(): void {
    this.#keepsAge = true;
  }

  /** Rows of blobs so far. */
  get blobs(): readonly BlobRow[] {
    return this.#blobs;
  }

  group(entry: GroupEntry): GroupRow {
    return this.#groups.get(entry) ?? entry.row;
  }

  device(entry: DeviceEntry): DeviceRow {
    return this.#devices.get(entry) ?? entry.row;
  }

  /** The groups that this commit changes, founded ones too. */
  get touched(): Iterable<GroupEntry> {
    return this.#groups.keys();
  }

  /** The group's row in this commit, to be changed in place: copied once a commit, not once a push. */
  writableGroup(entry: GroupEntry): Writable<GroupRow> {
    const row = this.#groups.get(entry);
    if (row !== undefined && row !== entry.row) return row;
    const copy = { ...entry.row };
    this.#groups.set(entry, copy);
    return copy;
  }

  /** The device's row in this commit, to be changed in place. */
  writableDevice(entry: DeviceEntry): Writable<DeviceRow> {
    const row = this.#devices.get(entry);
    if (row !== undefined && row !== entry.row) return row;
    const copy = { ...entry.row };
    this.#devices.set(entry, copy);
    return copy;
  }

  /** Counts bytes that a group's row was given in place. */
  addBytes(group: Writable<GroupRow>, bytes: number): void {
    group.bytes += bytes;
    this.#storeBytes += bytes;
  }

  /** The same for what snapshots and their parts take. */
  addSnapshotBytes(group: Writable<GroupRow>, bytes: number): void {
    group.snapshotBytes += bytes;
    this.#storeBytes += bytes;
  }

  setGroup(entry: GroupEntry, row: GroupRow): void {
    this.#storeBytes += countedIn(row) - countedIn(this.group(entry));
    this.#groups.set(entry, row);
  }

  setDevice(entry: DeviceEntry, row: DeviceRow): void {
    this.#devices.set(entry, row);
  }

  addDevice(group: GroupEntry, row: DeviceRow): void {
    const added = this.#newDevices.get(group);
    if (added === undefined) this.#newDevices.set(group, [row]);
    else added.push(row);
  }

  newDevices(group: GroupEntry): readonly DeviceRow[] {
    return this.#newDevices.get(group) ?? [];
  }

  /** Writes a row of a device that is in the group already, or that this commit adds. */
  replaceDevice(group: GroupEntry, row: DeviceRow): void {
    const entry = group.devicesByKey.get(row.deviceKey);
    if (entry !== undefined) {
      this.setDevice(entry, row);
      return;
    }
    const added = this.#newDevices.get(group) ?? [];
    this.#newDevices.set(
      group,
      added.map((known) => (known.deviceKey === row.deviceKey ? row : known)),
    );
  }

  found(group: GroupEntry): void {
    this.#founded.push(group);
    this.#groups.set(group, group.row);
  }

  foundedGroup(groupIdText: string): GroupEntry | undefined {
    return this.#founded.find((group) => group.idText === groupIdText);
  }

  addBlob(row: BlobRow): void {
    this.#blobs.push(row);
  }

  addControl(row: ControlRow): void {
    this.#control.push(row);
  }

  control(groupKey: number, head: Uint8Array): ControlRow | undefined {
    return this.#control.find((row) => row.groupKey === groupKey && equalBytes(row.head, head));
  }

  setInvite(row: InviteRow): void {
    this.#invites.push(row);
  }

  /** An invite as this commit leaves it so far; undefined where it does not touch it. */
  invite(inviteHash: Uint8Array): InviteRow | undefined {
    return this.#invites.findLast((row) => equalBytes(row.inviteHash, inviteHash));
  }

  /** Takes a group away, with whatever this commit wrote of it before. */
  deleteGroup(entry: GroupEntry): void {
    this.#storeBytes -= countedIn(this.group(entry));
    this.#groups.delete(entry);
    this.#deleted.add(entry);
    for (const device of entry.devices.values()) this.#wakeNoMore(device);
  }

  /** Whether a group was deleted, by this commit or one before. */
  gone(entry: GroupEntry): boolean {
    return entry.gone || this.#deleted.has(entry);
  }

  /** Whether a device's group was deleted, by this commit or one before. */
  deviceGone(entry: DeviceEntry): boolean {
    if (entry.gone) return true;
    for (const group of this.#deleted) {
      if (group.devicesByKey.get(entry.row.deviceKey) === entry) return true;
    }
    return false;
  }

  #wakeNoMore(device: DeviceEntry): void {
    const known = this.#life === undefined ? device.wakeUp : this.#life.wakeUp(device);
    if (known !== undefined) this.life.setWakeUp(device, undefined);
  }

  /** The place of a sender's blob that stands in this commit. */
  placeOf(groupKey: number, deviceKey: number, seq: number): SenderPlace | undefined {
    // From the end: what repeats is nearly always the newest.
    for (let i = this.#blobs.length - 1; i >= 0; i--) {
      const row = this.#blobs[i] as BlobRow;
      if (row.groupKey === groupKey && row.deviceKey === deviceKey && row.seq === seq) return row;
    }
    return undefined;
  }

  /** What the store is asked to write. Ends the planning. */
  batch(ageS: number, clockMs: number): CommitBatch {
    for (const [entry, row] of this.#devices) {
      this.#devices.set(entry, {
        ...row,
        applied: entry.applied,
        lastSeenMs: entry.lastSeenMs,
        seenAgeS: entry.seenAgeS,
      });
      // Whom the relay serves no more it does not wake either, and forgets where.
      if (row.state !== "active") this.#wakeNoMore(entry);
    }
    return {
      groups: [...this.#groups.values()],
      devices: [...this.#devices.values(), ...[...this.#newDevices.values()].flat()],
      blobs: this.#blobs,
      control: this.#control,
      // The newest of each: a row is written once.
      invites: this.#invites.filter((row) => this.invite(row.inviteHash) === row),
      ...(this.#deleted.size === 0
        ? {}
        : { deletedGroups: [...this.#deleted].map((entry) => entry.row.groupKey) }),
      ...(this.#life === undefined ? {} : { life: this.#life.writes() }),
      ageS,
      clockMs,
    };
  }

  /** Takes over, after the commit is on disk, what it wrote. */
  apply(): void {
    for (const [entry, row] of this.#groups) entry.row = row;
    for (const [entry, row] of this.#devices) {
      entry.row = row;
      entry.soft = entry.applied !== row.applied;
    }
    this.#life?.apply();
    for (const [group, rows] of this.#newDevices) for (const row of rows) group.put(row);
    for (const entry of this.#deleted) {
      entry.gone = true;
      for (const device of entry.devices.values()) device.gone = true;
    }
  }
}

/** What a group counts towards the store's limit. */
function countedIn(row: GroupRow): number {
  return row.bytes + row.snapshotBytes;
}
