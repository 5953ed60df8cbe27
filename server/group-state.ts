/**
 * A group as the relay has it in memory while somebody of it is connected. Rows
 * are what is on disk; they are replaced, never changed, and only after the
 * commit that wrote them. What may lag behind the disk stands beside them.
 */
import { idText } from "../wire/ids.ts";
import type { TokenBucket } from "./rate-limit.ts";
import type { DeviceRow, GroupRow, LoadedGroup } from "./store/contract.ts";
import type { SnapshotRow, WakeUpRow } from "./store/life.ts";

export class DeviceEntry {
  /** As on disk. */
  row: DeviceRow;
  readonly idText: string;
  /** The applied cursor, possibly ahead of the row: it may be lost, the device says it again. */
  applied: number;
  lastSeenMs: number;
  /** The persisted age at which it was last connected, possibly ahead of the row, too. */
  seenAgeS: number;
  /** Whether any of them is ahead of the row. */
  soft = false;
  /** A remover must see more of this device first; until then nothing is taken from it. */
  heldUntilMs = 0;
  /** What it may push, on whatever connection: coming back gains it nothing. */
  pushes: TokenBucket | undefined;
  /** Where it is woken, as on disk; undefined where it is not. */
  wakeUp: WakeUpRow | undefined;
  /** Its group was deleted: nothing is written about it any more. */
  gone = false;

  constructor(row: DeviceRow) {
    this.row = row;
    this.idText = idText(row.deviceId);
    this.applied = row.applied;
    this.lastSeenMs = row.lastSeenMs;
    this.seenAgeS = row.seenAgeS;
  }
}

export class GroupEntry {
  /** As on disk. */
  row: GroupRow;
  /** As on disk: the effective one, and those that wait. */
  snapshots: readonly SnapshotRow[];
  /** Rises with every commit that brings deletes to carry out. */
  deletesTaken = 0;
  readonly idText: string;
  /** It was deleted: what still waits for a commit finds it gone. */
  gone = false;
  /** By the text of their ids, removed ones too. */
  readonly devices = new Map<string, DeviceEntry>();
  /** By their keys. */
  readonly devicesByKey = new Map<number, DeviceEntry>();

  constructor(loaded: LoadedGroup) {
    this.row = loaded.group;
    this.snapshots = loaded.snapshots;
    this.idText = idText(loaded.group.groupId);
    for (const row of loaded.devices) this.put(row);
    for (const row of loaded.wakeUps ?? []) {
      const device = this.devicesByKey.get(row.deviceKey);
      if (device !== undefined) device.wakeUp = row;
    }
  }

  /** Takes a device row over, new or not. */
  put(row: DeviceRow): void {
    const known = this.devicesByKey.get(row.deviceKey);
    if (known !== undefined) {
      known.row = row;
      return;
    }
    const entry = new DeviceEntry(row);
    this.devices.set(entry.idText, entry);
    this.devicesByKey.set(row.deviceKey, entry);
  }

  /** A device's id by its key. Every key that stands in the log is a device of the group. */
  deviceId(deviceKey: number): Uint8Array {
    const entry = this.devicesByKey.get(deviceKey);
    if (entry === undefined) throw new Error(`no device ${deviceKey} in its group`);
    return entry.row.deviceId;
  }

  /** The device of that id, where the relay serves it. */
  activeDevice(deviceIdText: string): DeviceEntry | undefined {
    const entry = this.devices.get(deviceIdText);
    return entry?.row.state === "active" ? entry : undefined;
  }
}
