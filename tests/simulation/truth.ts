/**
 * What is so, whatever anybody says: what the relay's disk holds and has ever held, who is a member,
 * what apps pushed, and what they were told about it. The invariants that can be checked the moment
 * something happens are checked here.
 */
import type { BlobRow, CommitBatch, DeviceRow } from "../../server/store/contract.ts";
import type { SnapshotRow } from "../../server/store/life.ts";
import { decodeHeader } from "../../wire/blob-header.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { copyObjects, type DiskObjects, ObjectTruth } from "./truth-objects.ts";
import type { World } from "./world.ts";

/** A blob on the relay's disk. */
export interface LoggedBlob {
  readonly cursor: number;
  readonly blobId: string;
  readonly sender: string;
  readonly seq: number;
  readonly link: string;
  /** Its sender lets the body go after so long; 0: never. */
  readonly ttlS: number;
  /** Its sender gives up a link with it: nothing for an app. */
  readonly restart: boolean;
}

/** What an app asked to be pushed. */
export interface Pushed {
  /** Which device, and its how-manieth. */
  readonly name: string;
  /** The device as the simulation knows it: one that was copied has two of them under one id. */
  readonly node: string;
  readonly device: string;
  readonly data: Uint8Array;
  readonly contentType: string;
  /** Known once it is queued. */
  blobId: string | undefined;
  /** The app was told that it is on the relay's disk. */
  durable: boolean;
  /** The device lost the state that knew of it: it may be in the log, or not. */
  lost: boolean;
}

/** Where a removed device ended. */
export interface Removal {
  /** The log's head when it was removed. */
  readonly cursor: number;
  readonly seq: number;
}

/** One log, from the founding or a restore to the next restore. It begins as a part of the one before. */
export class Log {
  readonly blobs: LoggedBlob[] = [];
  readonly cursors = new Map<string, number>();
  /** The roster, as the relay serves it, by device key. */
  readonly devices = new Map<number, DeviceRow>();
  readonly removed = new Map<string, Removal>();
  controlHeads: string[] = [];
  epoch = 0;
  /** Up to here headers, or bodies alone, may be gone: a snapshot stands in their place. */
  floor = 0;
  /** The last seq of each sender. */
  readonly last = new Map<string, number>();
  /** Senders whose chain goes on behind what only a snapshot held that is gone: it waits for another one. */
  readonly gaps = new Set<string>();
  /** What the snapshots contain that the relay has, by their keys. */
  readonly snapshots = new Map<number, readonly string[]>();
  /** What the effective one contains. */
  contained: ReadonlySet<string> = new Set();
  /** What the relay's disk holds of objects, by their keys. */
  objects: DiskObjects = new Map();

  copy(): Log {
    const other = new Log();
    other.blobs.push(...this.blobs);
    for (const [id, cursor] of this.cursors) other.cursors.set(id, cursor);
    for (const [key, row] of this.devices) other.devices.set(key, row);
    for (const [id, removal] of this.removed) other.removed.set(id, removal);
    other.controlHeads = [...this.controlHeads];
    other.epoch = this.epoch;
    other.floor = this.floor;
    for (const [key, ids] of this.snapshots) other.snapshots.set(key, ids);
    other.contained = this.contained;
    for (const [sender, seq] of this.last) other.last.set(sender, seq);
    for (const sender of this.gaps) other.gaps.add(sender);
    other.objects = copyObjects(this.objects);
    return other;
  }

  /** Whether it has a blob up to a cursor, or the effective snapshot contains it. */
  holds(blobId: string, through: number): boolean {
    return (
      (this.cursors.get(blobId) ?? Number.POSITIVE_INFINITY) <= through ||
      this.contained.has(blobId)
    );
  }

  get members(): string[] {
    return [...this.devices.values()]
      .filter(({ state, role }) => state === "active" && role === "device")
      .map(({ deviceId }) => idText(deviceId));
  }
}

export class Truth {
  readonly #world: World;
  /** The log of now is the last one. */
  readonly logs: Log[] = [new Log()];
  /** Every blob that was ever on the relay's disk. */
  readonly ever = new Map<string, LoggedBlob>();
  /** Every link that was ever there, by sender and seq. */
  readonly #links = new Map<string, string>();
  /** Devices of which two blobs with one number were there: they really wrote two histories. */
  readonly forked = new Set<string>();
  /** Each control head that was ever there, by its number. */
  readonly #heads = new Map<number, string>();
  /** Two control blobs with one number were there: a restore lost one, and who had not seen it made another. */
  membershipForked = false;
  /** Blobs whose bodies the relay let go, in any log: a device may go without them. */
  readonly dropped = new Set<string>();
  /** Blobs that a later one replaces, with who wrote that. */
  readonly #deleted = new Map<string, string[]>();
  /** Where removed devices ended, in every log there was. */
  readonly #closings = new Map<string, number[]>();
  readonly removedEver = new Set<string>();
  readonly names = new Map<string, string>();
  readonly pushed: Pushed[] = [];
  readonly byName = new Map<string, Pushed>();
  readonly queued = new Map<string, Pushed>();
  /** What the last snapshot contains that a device's app gave. */
  readonly #saved = new Map<string, readonly string[]>();

  readonly objects: ObjectTruth;

  constructor(world: World) {
    this.#world = world;
    this.objects = new ObjectTruth(world, (deviceId) => this.nameOf(deviceId));
  }

  get log(): Log {
    return this.logs.at(-1) as Log;
  }

  get head(): number {
    return this.log.blobs.length;
  }

  nameOf(deviceId: string): string {
    return this.names.get(deviceId) ?? deviceId;
  }

  /** A blob of the log; cursors begin at 1. */
  at(cursor: number): LoggedBlob | undefined {
    return this.log.blobs[cursor - 1];
  }

  cursorOf(blobId: string): number | undefined {
    return this.log.cursors.get(blobId);
  }

  /** The newest log in which a blob has that cursor. */
  logWith(blobId: string, cursor: number): Log | undefined {
    return this.logs.findLast((log) => log.cursors.get(blobId) === cursor);
  }

  isMember(deviceId: string): boolean {
    return this.log.members.includes(deviceId);
  }

  /** Where a device's own blobs end for whoever knows of its removal; undefined: nowhere. */
  closingsOf(deviceId: string): readonly number[] {
    return this.#closings.get(deviceId) ?? [];
  }

  /**
   * Whether the relay, restored, lacks what a device had written before it was removed: nobody can push
   * that again, and who joins is told that it is not there.
   */
  lostOf(deviceId: string): boolean {
    if (this.logs.length === 1 || !this.removedEver.has(deviceId)) return false;
    const last = Math.max(0, ...this.closingsOf(deviceId));
    const has = new Set<number>();
    for (const { sender, seq } of this.log.blobs) if (sender === deviceId) has.add(seq);
    return Array.from({ length: last }, (_, i) => i + 1).some((seq) => !has.has(seq));
  }

  /** Whether all that replaced a device's entry came from such devices: then nothing explains that its body is gone. */
  unexplained(deviceId: string, seq: number): boolean {
    const blob = this.log.blobs.find((each) => each.sender === deviceId && each.seq === seq);
    const by = this.#deleted.get(blob?.blobId ?? "") ?? [];
    return by.length > 0 && by.every((each) => this.lostOf(each));
  }

  /** The relay goes on with what it had at some time before. */
  restored(log: Log): void {
    this.logs.push(log.copy());
    this.objects.restored = true;
  }

  /** A commit is on the relay's disk. */
  committed(batch: CommitBatch): void {
    const { log } = this;
    for (const row of batch.control) {
      const head = idText(row.head);
      if (row.number !== log.controlHeads.length + 1) {
        this.#world.fail(`6: control blob ${row.number} behind ${log.controlHeads.length}`);
      }
      log.controlHeads.push(head);
      log.epoch = row.epoch;
      const before = this.#heads.get(row.number);
      if (before !== undefined && before !== head && !this.membershipForked) {
        this.membershipForked = true;
        this.#world.tell("the group has two membership histories: the relay lost one change");
      }
      this.#heads.set(row.number, head);
    }
    for (const row of batch.devices) this.#device(row);
    for (const row of batch.blobs) this.#blob(row);
    for (const row of batch.devices) {
      if (row.state !== "removed") continue;
      const id = idText(row.deviceId);
      if (log.removed.has(id)) continue;
      log.removed.set(id, { cursor: this.head, seq: row.lastSeq });
      this.removedEver.add(id);
      this.#closings.set(id, [...this.closingsOf(id), row.lastSeq]);
      this.#world.tell(`${this.nameOf(id)} is removed, behind its ${row.lastSeq}`);
    }
    for (const { row } of batch.life?.snapshots ?? []) this.#snapshot(row);
    for (const { snapshotKey } of batch.life?.effective ?? []) this.#takesEffect(snapshotKey);
    for (const { through } of batch.life?.trims ?? []) log.floor = Math.max(log.floor, through);
    for (const { cursor } of batch.life?.drops ?? []) this.#drop(cursor);
    if (batch.life !== undefined) this.objects.committed(batch.life, log);
    if (batch.blobs.length > 0) {
      this.#world.detail(() => `relay's log reaches ${this.head}`);
    }
  }

  #device(row: DeviceRow): void {
    const { log } = this;
    const id = idText(row.deviceId);
    const before = log.devices.get(row.deviceKey);
    log.devices.set(row.deviceKey, row);
    if (before === undefined) {
      this.#world.tell(`${this.nameOf(id)} is a ${row.role === "paper" ? "phrase" : "member"}`);
    }
    if (log.removed.has(id) && row.state === "active") {
      this.#world.fail(`6: ${this.nameOf(id)} was removed and is back`);
    }
    if (row.applied > (before?.applied ?? 0)) this.appliedOf(id, row.applied);
  }

  #blob(row: BlobRow): void {
    const world = this.#world;
    const { log } = this;
    const blobId = idText(row.blobId);
    const device = log.devices.get(row.deviceKey);
    const sender = device === undefined ? "?" : idText(device.deviceId);
    if (row.cursor !== this.head + 1) {
      world.fail(`3: cursor ${row.cursor} is assigned behind ${this.head}`);
    }
    if (log.cursors.has(blobId)) {
      world.fail(`2: ${blobId} is in the log at ${log.cursors.get(blobId)} and ${row.cursor}`);
    }
    if (log.removed.has(sender)) {
      world.fail(`6: an entry of ${this.nameOf(sender)} is taken after its removal`);
    }
    const link = idText(row.link);
    // The header is what devices go by.
    const header = decodeHeader(row.header, ErrorCode.ENVELOPE_INVALID);
    const { ttlS } = header;
    for (const id of header.deletes) {
      const text = idText(id);
      this.#deleted.set(text, [...(this.#deleted.get(text) ?? []), sender]);
    }
    const restart = header.abandonedLink !== undefined;
    const blob = { cursor: row.cursor, blobId, sender, seq: row.seq, link, ttlS, restart };
    if (header.seq !== row.seq) world.fail(`2: ${blobId} is ${header.seq}, and kept as ${row.seq}`);
    log.cursors.set(blobId, row.cursor);
    log.blobs.push(blob);
    if (!restart && row.seq > (log.last.get(sender) ?? 0) + 1) log.gaps.add(sender);
    log.last.set(sender, row.seq);
    this.ever.set(blobId, blob);
    const place = `${sender} ${row.seq}`;
    const other = this.#links.get(place);
    if (other !== undefined && other !== link && !this.forked.has(sender)) {
      this.forked.add(sender);
      world.tell(`${this.nameOf(sender)} has written two histories: two entries ${row.seq}`);
    }
    this.#links.set(place, link);
  }

  /** An app gives its state for a snapshot. */
  saved(deviceId: string, ids: readonly string[]): void {
    this.#saved.set(deviceId, ids);
  }

  #snapshot({ snapshotKey, deviceKey, effective }: SnapshotRow): void {
    const { log } = this;
    const author = log.devices.get(deviceKey);
    const ids = author === undefined ? undefined : this.#saved.get(idText(author.deviceId));
    log.snapshots.set(snapshotKey, ids ?? []);
    if (effective) this.#takesEffect(snapshotKey);
  }

  #takesEffect(snapshotKey: number): void {
    const { log } = this;
    log.contained = new Set(log.snapshots.get(snapshotKey));
  }

  /** The relay lets a body go: its time has passed, or another entry takes its place. */
  #drop(cursor: number): void {
    const blob = this.at(cursor);
    if (blob === undefined || (blob.ttlS === 0 && !this.#deleted.has(blob.blobId))) {
      this.#world.fail(`1: the relay lets go of ${cursor}, and nobody asked it to`);
      return;
    }
    this.#world.detail(() => `the relay lets go of ${cursor}`);
    this.dropped.add(blob.blobId);
  }

  /** The relay knows how far a device has applied; set by whoever knows how far it really has. */
  appliedOf: (deviceId: string, applied: number) => void = () => undefined;

  /** Somebody speaks of a cursor. */
  seen(who: string, what: string, cursor: number): void {
    if (this.logs.every(({ blobs }) => cursor > blobs.length)) {
      this.#world.fail(`3: ${who} ${what} ${cursor}, and the relay's disk ends at ${this.head}`);
    }
  }

  /** The app was told that something it pushed is on the relay's disk. */
  durable(who: string, pushed: Pushed, cursor: number): void {
    pushed.durable = true;
    const id = pushed.blobId ?? "";
    if (!this.ever.has(id)) {
      this.#world.fail(`1: ${who} was told that ${pushed.name} is durable, and it is not`);
    } else if (cursor !== 0 && this.logWith(id, cursor) === undefined) {
      const at = this.cursorOf(id);
      this.#world.fail(`1: ${who} was told that ${pushed.name} is at ${cursor}; it is at ${at}`);
    }
  }

  /** An app pushes; known by its name at once, and by its id once it is queued. */
  push(made: readonly Pushed[]): void {
    this.pushed.push(...made);
    for (const pushed of made) this.byName.set(pushed.name, pushed);
  }

  named(pushed: Pushed, blobId: string): void {
    pushed.blobId = blobId;
    this.queued.set(blobId, pushed);
  }
}
