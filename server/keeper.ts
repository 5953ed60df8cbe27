/**
 * Keeps logs short: drives retention, one slice a commit, beside everything else. What may go is
 * decided by `retention.ts`, `snapshots.ts` and `objects.ts`; this looks for work and hands it to the
 * committer.
 *
 *     tick ── every second ──── groups somebody is connected to: trim, deletes
 *         ├── every minute ──── bodies whose TTL passed
 *         └── every ten ─────── groups nobody is connected to, snapshots and objects by their age
 *
 * A slice counts what goes before the commit that takes it, in which nothing but another slice could
 * change it; and there is only one at a time. So a crash leaves a slice done or not done.
 */
import { BodyState } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { decodeHeader } from "../wire/blob-header.ts";
import { toHex } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Counters } from "./counters.ts";
import { blobOverheadBytes } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type { RunTask } from "./life-desk.ts";
import { dropObject } from "./objects.ts";
import { acknowledgedByAll, nextTrim } from "./retention.ts";
import { ripeSnapshot, supersededBy, takeEffect, unconfirmedS } from "./snapshots.ts";
import type { Store } from "./store/contract.ts";
import { isDamage } from "./store/fence.ts";
import {
  beforePassing,
  type FoundObject,
  type PassingPlace,
  type PendingDelete,
} from "./store/life.ts";

/** One slice: what commits beside it wait for. */
const sliceBounds = { rowsMax: 500, bytesMax: 2 * 1024 * 1024 };
/** Deletes looked at together, and blobs looked through at a time for what they name. */
const deletesMax = 256;
const searchRows = 2_000;
/** Pages of deletes that one round looks through. */
const pagesMax = 8;
/** Seconds after which an object that is not whole, or a part that no snapshot named, goes. */
const passingS = 86_400;

const expiryMs = 60_000;
const allMs = 600_000;

/** A group, and who of it is connected. */
export interface KeptGroup {
  readonly entry: GroupEntry;
  connected(device: DeviceEntry): boolean;
}

/** What the keeper needs of the relay. */
export interface KeeperHost {
  readonly store: Store;
  readonly counters: Counters;
  readonly run: RunTask;
  ageS(): number;
  monotonicMs(): number;
  /** Groups in memory, as of now. */
  live(): readonly KeptGroup[];
  /** A group, loaded where it is not in memory. */
  load(groupId: Uint8Array): Promise<KeptGroup | undefined>;
  /** Free space may be given back. */
  freed(): void;
  failed(error: SyncError): void;
}

/** What a round came to. */
export interface Trimmed {
  groups: number;
  blobs: number;
  bytes: number;
}

export class Keeper {
  readonly #host: KeeperHost;
  #running: Promise<void> | undefined;
  #expiredMs = Number.NEGATIVE_INFINITY;
  #allMs = Number.NEGATIVE_INFINITY;
  #stopped = false;
  /** What a group's deletes came to when they were last looked at. */
  readonly #looked = new WeakMap<GroupEntry, Looked>();

  constructor(host: KeeperHost) {
    this.#host = host;
  }

  /** Whether a round is under way: it holds on to groups. */
  get busy(): boolean {
    return this.#running !== undefined;
  }

  /** Looks for work, where none is under way. */
  tick(): void {
    if (this.#running !== undefined || this.#stopped) return;
    const nowMs = this.#host.monotonicMs();
    const expiry = nowMs - this.#expiredMs >= expiryMs;
    const all = nowMs - this.#allMs >= allMs;
    const due = this.#host.live().filter((group) => this.#due(group));
    if (!expiry && !all && due.length === 0) return;
    if (expiry) this.#expiredMs = nowMs;
    if (all) this.#allMs = nowMs;
    this.#running = this.#begin(async (sum) => {
      const parts: (() => Promise<void>)[] = due.map((group) => () => this.#keep(group, sum));
      if (expiry) parts.push(() => this.#expire(sum));
      if (all) parts.push(() => this.#everywhere(sum));
      await inTurn(parts);
    });
  }

  /** Does now whatever may be done, in one group or in all. Rejects with the `SyncError` of the store. */
  async trimNow(groupId?: Uint8Array): Promise<Trimmed> {
    while (this.#running !== undefined) await this.#running;
    const sum = { groups: 0, blobs: 0, bytes: 0 };
    let failure: SyncError | undefined;
    const running = this.#begin(
      async () => {
        if (groupId === undefined) {
          const live = this.#host.live().map((group) => () => this.#keep(group, sum));
          await inTurn([() => this.#expire(sum), () => this.#everywhere(sum), ...live]);
        } else {
          const group = await this.#host.load(groupId);
          if (group !== undefined) await this.#keep(group, sum);
        }
      },
      (error) => {
        failure = error;
      },
    );
    this.#running = running;
    await running;
    if (failure !== undefined) throw failure;
    return sum;
  }

  /** Ends after the slice under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  #begin(
    round: (sum: Trimmed) => Promise<void>,
    failed: (error: SyncError) => void = (error) => this.#host.failed(error),
  ): Promise<void> {
    const sum = { groups: 0, blobs: 0, bytes: 0 };
    return round(sum)
      .catch((error: unknown) => {
        // A disk that fails now is asked again; anything else is a defect.
        if (!(error instanceof SyncError)) throw error;
        failed(error);
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  /** Whether something may go from a group, by what is in memory. */
  #due(group: KeptGroup): boolean {
    const { entry } = group;
    const { row } = entry;
    if (entry.gone) return false;
    // Most groups have nothing that could go, and are looked at no further.
    if (row.floor < row.replacedThrough && nextTrim(row, this.#acknowledged(group)) !== undefined) {
      return true;
    }
    if (ripeSnapshot(entry.snapshots, this.#host.ageS()) !== undefined) return true;
    const looked = this.#looked.get(entry);
    if (looked === undefined || looked.more || looked.taken !== entry.deletesTaken) return true;
    return looked.waiting && looked.acknowledged !== this.#acknowledged(group);
  }

  #acknowledged(group: KeptGroup): number {
    return acknowledgedByAll(group.entry, (device) => group.connected(device), this.#host.ageS());
  }

  async #everywhere(sum: Trimmed): Promise<void> {
    const { store } = this.#host;
    const ageS = this.#host.ageS();
    for (const groupId of await store.groupsWithSnapshotsOf(ageS - unconfirmedS, 1_000)) {
      const group = await this.#load(groupId);
      if (group !== undefined) await this.#keepApart(() => this.#ripen(group));
    }
    for (let after = 0; ; ) {
      const rows = await store.groupsToTrim(after, 100);
      for (const { groupId } of rows) {
        const group = await this.#load(groupId);
        if (group !== undefined) await this.#keep(group, sum);
      }
      const last = rows.at(-1);
      if (last === undefined || this.#stopped) break;
      after = last.groupKey;
    }
    await this.#collect(ageS - passingS);
  }

  /** Everything there is to do in one group. */
  async #keep(group: KeptGroup, sum: Trimmed): Promise<void> {
    sum.groups += 1;
    await this.#keepApart(async () => {
      await this.#ripen(group);
      await this.#trim(group, sum);
      await this.#delete(group, sum);
    });
  }

  /** A group whose part of the store is damaged keeps nobody else's log from being kept short. */
  async #keepApart(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
  }

  async #load(groupId: Uint8Array): Promise<KeptGroup | undefined> {
    let group: KeptGroup | undefined;
    await this.#keepApart(async () => {
      group = await this.#host.load(groupId);
    });
    return group;
  }

  async #trim(group: KeptGroup, sum: Trimmed): Promise<void> {
    const { store, counters } = this.#host;
    const { entry } = group;
    while (!this.#stopped && !entry.gone) {
      const range = nextTrim(entry.row, this.#acknowledged(group));
      if (range === undefined) return;
      const { groupKey, after, headers } = range;
      const slice = await store.measureTrim(groupKey, after, range.through, sliceBounds);
      const through = slice.blobs === 0 ? range.through : slice.through;
      const bytes =
        slice.bodyBytes + (headers ? slice.headerBytes + slice.blobs * blobOverheadBytes : 0);
      await this.#host.run({
        group: entry,
        plan: (draft) => {
          if (draft.gone(entry)) return;
          const row = draft.writableGroup(entry);
          draft.life.lists.trims.push({ groupKey, after, through, headers });
          draft.addBytes(row, -bytes);
          row.trimmedThrough = Math.max(row.trimmedThrough, through);
          if (!headers) return;
          row.floor = through;
          row.blobs -= slice.blobs;
        },
      });
      if (headers) counters.headersTrimmed += slice.blobs;
      counters.bytesTrimmed += bytes;
      sum.blobs += slice.blobs;
      sum.bytes += bytes;
      this.#host.freed();
    }
  }

  /** A snapshot that is old enough becomes effective, though nobody has confirmed it. */
  async #ripen({ entry }: KeptGroup): Promise<void> {
    const ripe = ripeSnapshot(entry.snapshots, this.#host.ageS());
    if (ripe === undefined || entry.gone) return;
    await this.#host.run({
      group: entry,
      lookUp: async () => {
        const parts: FoundObject[] = [];
        for (const one of supersededBy(entry.snapshots, ripe)) {
          parts.push(...(await this.#host.store.partsOf(one.snapshotKey)));
        }
        return parts;
      },
      plan: (draft, parts: readonly FoundObject[], bounds) => {
        if (draft.gone(entry)) return;
        const still = draft.life
          .snapshots(entry)
          .find((one) => one.snapshotKey === ripe.snapshotKey && !one.effective);
        if (still !== undefined) takeEffect(draft, entry, still, undefined, parts, bounds);
      },
    });
  }

  async #expire(sum: Trimmed): Promise<void> {
    const { store, counters } = this.#host;
    while (!this.#stopped) {
      const all = await store.expired(this.#host.ageS(), sliceBounds.rowsMax);
      if (all.length === 0) return;
      const rows = slicesOf(all)[0] ?? all;
      const groups = new Map<string, KeptGroup>();
      for (const { groupId } of rows) {
        if (groupId === undefined || groups.has(toHex(groupId))) continue;
        // Of a group whose part of the store is damaged only the note goes, and not the body.
        const group = await this.#load(groupId);
        if (group !== undefined) groups.set(toHex(groupId), group);
      }
      await this.#host.run({
        plan: (draft) => {
          for (const row of rows) {
            draft.life.lists.expiriesDone.push(row);
            const entry = row.groupId && groups.get(toHex(row.groupId))?.entry;
            if (entry === undefined || row.bodyBytes === 0 || draft.gone(entry)) continue;
            draft.addBytes(draft.writableGroup(entry), -row.bodyBytes);
            draft.life.lists.drops.push({ ...row, bodyState: BodyState.EXPIRED });
          }
        },
      });
      const went = rows.filter(({ bodyBytes }) => bodyBytes > 0);
      counters.bodiesExpired += went.length;
      this.#sum(sum, went);
    }
  }

  #sum(sum: Trimmed, went: readonly { readonly bodyBytes: number }[]): void {
    const bytes = went.reduce((total, row) => total + row.bodyBytes, 0);
    sum.blobs += went.length;
    sum.bytes += bytes;
    this.#host.counters.bytesTrimmed += bytes;
    if (went.length > 0) this.#host.freed();
  }

  /**
   * Carries out what blobs name under `deletes`, as far as it may be, some of it a round: each look
   * through a log takes time, and who goes on deleting must not keep the others from their turn.
   */
  async #delete(group: KeptGroup, sum: Trimmed): Promise<void> {
    const { store } = this.#host;
    const { entry } = group;
    if (this.#stopped || entry.gone) return;
    const acknowledged = this.#acknowledged(group);
    const taken = entry.deletesTaken;
    const read = async (after: number) => {
      const rows = await store.pendingDeletes(entry.row.groupKey, after, deletesMax);
      const all = rows.map(readDelete);
      const ready = all.filter((one) => one.force || one.cursor <= acknowledged);
      return { all, ready, last: all.length < deletesMax };
    };
    // What an acknowledgement brings stands first; what needs none may stand behind any number that wait.
    let page = await read(0);
    const waiting = page.all.length > 0;
    let through = this.#looked.get(entry)?.through ?? 0;
    for (let pages = 1; page.ready.length === 0 && !page.last && pages < pagesMax; pages++) {
      through = Math.max(through, page.all.at(-1)?.cursor ?? 0);
      page = await read(through);
    }
    const done = page.ready.length === 0 && page.last;
    // Where there may be more it is looked at again in the next round.
    this.#looked.set(entry, { taken, acknowledged, waiting, more: !done, through });
    if (page.ready.length > 0) await this.#carryOut(entry, page.ready, sum);
  }

  async #carryOut(entry: GroupEntry, ready: readonly Delete[], sum: Trimmed): Promise<void> {
    const { store, counters } = this.#host;
    const { groupKey } = entry.row;
    const wanted = new Map<string, Delete[]>();
    for (const one of ready) {
      for (const id of one.ids) wanted.set(id, [...(wanted.get(id) ?? []), one]);
    }
    // From the newest down: what is deleted is mostly young.
    let below = ready.reduce((highest, { cursor }) => Math.max(highest, cursor), 0);
    while (!this.#stopped && wanted.size > 0) {
      const rows = await store.blobIds(groupKey, below, searchRows);
      const hits = rows.filter((row) => {
        const by = wanted.get(toHex(row.blobId));
        return (
          row.bodyBytes > 0 &&
          by?.some(
            (one) => row.cursor < one.cursor && (!one.force || one.deviceKey === row.deviceKey),
          )
        );
      });
      for (const slice of slicesOf(hits)) {
        await this.#host.run({
          group: entry,
          plan: (draft) => {
            if (draft.gone(entry)) return;
            for (const { cursor, bodyBytes } of slice) {
              draft.addBytes(draft.writableGroup(entry), -bodyBytes);
              draft.life.lists.drops.push({ groupKey, cursor, bodyState: BodyState.DELETED });
            }
          },
        });
        counters.bodiesDeleted += slice.length;
        this.#sum(sum, slice);
      }
      const last = rows.at(-1);
      if (last === undefined) break;
      below = last.cursor;
    }
    if (this.#stopped) return;
    await this.#host.run({
      group: entry,
      plan: (draft) => {
        if (!draft.gone(entry)) draft.life.lists.deletesDone.push(...ready);
      },
    });
  }

  /** Collects objects that did not come to anything. */
  async #collect(ageS: number): Promise<void> {
    const { store, counters } = this.#host;
    for (let after: PassingPlace = beforePassing; !this.#stopped; ) {
      const rows = await store.passingObjects(ageS, after, 100);
      let went = 0;
      for (const row of rows) {
        // Behind it, whatever comes of it: one of a damaged group keeps no other one.
        after = row.object;
        const group = await this.#load(row.groupId);
        if (group === undefined) continue;
        const { entry } = group;
        await this.#keepApart(() =>
          this.#host.run({
            group: entry,
            lookUp: () => store.findObjects(entry.row.groupKey, [row.object.objectId]),
            plan: (draft, [found]: readonly FoundObject[]) => {
              if (draft.gone(entry)) return;
              const object = draft.life.object(entry.row.groupKey, row.object.objectId, found);
              // A range may have come meanwhile, or a snapshot that names it.
              if (object?.row.passing !== true || object.row.storedAgeS > ageS) return;
              dropObject(draft, entry, object);
              went += 1;
            },
          }),
        );
      }
      counters.objectsCollected += went;
      if (went > 0) this.#host.freed();
      if (rows.length === 0) return;
    }
  }
}

/** Each part, also where one before it has failed; rejects with the first failure. */
async function inTurn(parts: readonly (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const part of parts) {
    await part().catch((error: unknown) => {
      // A disk that does not answer is not asked again and again; damage in one place says nothing of others.
      if (!isDamage(error)) throw error;
      failures.push(error);
    });
  }
  if (failures.length > 0) throw failures[0];
}

/** What had been taken and acknowledged, and whether some still wait. */
interface Looked {
  readonly taken: number;
  readonly acknowledged: number;
  readonly waiting: boolean;
  /** Not all of them were looked at, or some are being carried out. */
  readonly more: boolean;
  /** Up to where everything waits for an acknowledgement. */
  readonly through: number;
}

/** Deletes of one blob, read. */
interface Delete {
  readonly groupKey: number;
  readonly cursor: number;
  readonly deviceKey: number;
  readonly force: boolean;
  /** As hexadecimal. */
  readonly ids: readonly string[];
}

/** Rows in their order, each list no more than a slice; one row at least. */
function slicesOf<Row extends { readonly bodyBytes: number }>(rows: readonly Row[]): Row[][] {
  const slices: Row[][] = [];
  let bytes = 0;
  for (const row of rows) {
    const slice = slices.at(-1);
    bytes += row.bodyBytes;
    if (
      slice !== undefined &&
      bytes <= sliceBounds.bytesMax &&
      slice.length < sliceBounds.rowsMax
    ) {
      slice.push(row);
    } else {
      slices.push([row]);
      bytes = row.bodyBytes;
    }
  }
  return slices;
}

function readDelete({ groupKey, cursor, blob }: PendingDelete): Delete {
  // A blob that was trimmed meanwhile has taken with it whatever stands below it.
  if (blob === undefined) return { groupKey, cursor, deviceKey: 0, force: true, ids: [] };
  const { deletes, force } = decodeHeader(blob.header, ErrorCode.ENVELOPE_INVALID);
  return { groupKey, cursor, deviceKey: blob.deviceKey, force, ids: deletes.map(toHex) };
}
