/**
 * Group commit: one writer, one commit at a time; whatever arrives while a
 * commit runs goes into the next. Each job is planned when its commit begins,
 * on what is then on disk and what stands before it in the same commit; it is
 * settled when that commit is, and only then.
 *
 * A failed commit refuses its jobs with STORE_UNAVAILABLE and changes nothing
 * else: the jobs behind it are planned on what is on disk, as ever.
 */
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { Draft } from "./draft.ts";
import {
  type ChangeOutcome,
  type ChangeRequest,
  type PlanBounds,
  type PushRequest,
  placesNeeded,
  planChange,
  planFounding,
  planPush,
  repeatedChange,
  revokedError,
  stateOf,
} from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type { Founding } from "./options.ts";
import { inviteHolds, type Return, Returns } from "./returns.ts";
import type { ControlRow, InviteRow, SenderPlace, Store } from "./store/contract.ts";
import { isDamage } from "./store/fence.ts";
import { isDiskFull } from "./store/store-errors.ts";

/** Who asked, and is told: with what the job came to once it is on disk, or why it was refused. */
export interface JobOwner<Asked, Outcome> {
  settled(job: Asked, outcome: Outcome | SyncError): void;
}

/** `bytes`: what a job holds on to while it waits. */
export interface PushJob {
  readonly kind: "push";
  readonly owner: JobOwner<PushJob, readonly number[]>;
  readonly requestId: number;
  readonly group: GroupEntry;
  readonly device: DeviceEntry;
  readonly push: PushRequest;
  readonly bytes: number;
}

export interface ChangeJob {
  readonly kind: "change";
  readonly owner: JobOwner<ChangeJob, ChangeOutcome>;
  readonly requestId: number;
  readonly group: GroupEntry;
  readonly device: DeviceEntry;
  readonly change: ChangeRequest;
  readonly bytes: number;
}

export interface FoundingJob {
  readonly kind: "found";
  readonly owner: JobOwner<FoundingJob, ChangeOutcome>;
  readonly requestId: number;
  readonly groupId: Uint8Array;
  readonly founder: Uint8Array;
  /** BLAKE2b-256 of the invite; undefined where none was shown. */
  readonly inviteHash: Uint8Array | undefined;
  readonly change: ChangeRequest;
  readonly bytes: number;
}

/**
 * A change that a device brings back which the group does not know: the relay was
 * restored, and this device holds control blobs that it lacks.
 */
export interface ReturnJob extends Return {
  readonly kind: "return";
  readonly owner: JobOwner<ReturnJob, ChangeOutcome>;
  readonly requestId: number;
  readonly change: ChangeRequest;
  readonly bytes: number;
}

/**
 * Writes what a device's row lags behind with, and its witness where it is newer.
 * Comes to whether the witness was kept.
 */
export interface DeviceJob {
  readonly kind: "device";
  readonly owner: JobOwner<DeviceJob, boolean>;
  readonly requestId: number;
  readonly device: DeviceEntry;
  /** 0: no witness. */
  readonly counter: number;
  readonly witness: Uint8Array;
  readonly bytes: number;
}

/**
 * What an operator asks. It is planned among the others, so that it meets what
 * stands before it in the same commit. Comes to what `plan` returned.
 */
export interface OperatorJob {
  readonly kind: "operator";
  readonly owner: JobOwner<OperatorJob, { readonly result: unknown }>;
  readonly requestId: number;
  /** The invite it is about, looked up before; undefined where it is about none. */
  readonly inviteHash: Uint8Array | undefined;
  readonly plan: (draft: Draft, invite: InviteRow | undefined) => unknown;
  readonly bytes: number;
}

/**
 * Anything else that is written: objects, snapshots, retention. Comes to what `plan` returned, or to
 * the error it returned.
 */
export interface TaskJob {
  readonly kind: "task";
  /** The group it is about; undefined where it is about none, or several. */
  readonly group?: GroupEntry | undefined;
  readonly owner: JobOwner<TaskJob, { readonly result: unknown }>;
  readonly requestId: number;
  /** Reads from disk what `plan` is given. */
  readonly lookUp: (() => Promise<unknown>) | undefined;
  readonly plan: (draft: Draft, found: unknown, bounds: PlanBounds) => unknown;
  readonly bytes: number;
}

export type Job = PushJob | ChangeJob | FoundingJob | ReturnJob | DeviceJob | OperatorJob | TaskJob;

/** What the committer needs of the relay. */
export interface CommitterOptions {
  readonly store: Store;
  readonly founding: Founding;
  readonly groupBytesMax: number;
  readonly storeBytesMax: number;
  /** Milliseconds since the Unix epoch: shown to people. */
  readonly nowMs: () => number;
  /** Milliseconds that only rise: what a hold ends by. */
  readonly monotonicMs: () => number;
  readonly ageS: () => number;
  readonly random: (length: number) => Uint8Array;
  /** Blobs of one commit. */
  readonly rowsMax?: number;
  /** Bytes of one commit. */
  readonly bytesMax?: number;
  /** After a commit is on disk and taken over, before its jobs are settled: membership first, then jobs, then blobs. */
  readonly onCommit: (commit: FinishedCommit) => void;
  /** A commit failed; its jobs are being refused. */
  readonly onFailure: (error: SyncError) => void;
}

/** A commit that is on disk. */
export interface FinishedCommit {
  readonly draft: Draft;
  readonly changes: readonly FinishedChange[];
  /** How many jobs shared it. */
  readonly jobs: number;
  /** From the first look at the disk until everything was on it, in milliseconds. */
  readonly durationMs: number;
  /** Tells every job of the commit what it came to. */
  settle(): void;
}

/** A membership change that is on disk. */
export interface FinishedChange {
  readonly group: GroupEntry;
  readonly outcome: ChangeOutcome;
}

/** What a job of any kind comes to. */
type JobOutcome =
  | readonly number[]
  | ChangeOutcome
  | SyncError
  | boolean
  | { readonly result: unknown };

/** What planning needs from disk, looked up before it. */
interface Lookups {
  readonly places: ReadonlyMap<PushJob, readonly SenderPlace[]>;
  readonly control: ReadonlyMap<ChangeJob | FoundingJob | ReturnJob, ControlRow | undefined>;
  readonly invites: ReadonlyMap<FoundingJob | ReturnJob | OperatorJob, InviteRow | undefined>;
  readonly groups: ReadonlyMap<FoundingJob | ReturnJob, GroupEntry | undefined>;
  readonly tasks: ReadonlyMap<TaskJob, unknown>;
}

export class Committer {
  readonly #options: CommitterOptions;
  readonly #rowsMax: number;
  readonly #bytesMax: number;
  readonly #loadGroup: (groupId: Uint8Array) => Promise<GroupEntry | undefined>;
  #queue: Job[] = [];
  #queuedBytes = 0;
  /** Commits to be made before the queue: those of one that met damage, a group each. */
  #apart: Job[][] = [];
  #running = false;
  #idle: (() => void)[] = [];
  #nextGroupKey: number;
  #nextDeviceKey: number;
  #storeBytes: number;
  readonly #returns = new Returns();

  constructor(
    options: CommitterOptions,
    loadGroup: (groupId: Uint8Array) => Promise<GroupEntry | undefined>,
  ) {
    this.#options = options;
    this.#loadGroup = loadGroup;
    this.#rowsMax = options.rowsMax ?? 4_096;
    this.#bytesMax = options.bytesMax ?? 16 * 1024 * 1024;
    this.#nextGroupKey = options.store.opened.nextGroupKey;
    this.#nextDeviceKey = options.store.opened.nextDeviceKey;
    this.#storeBytes = options.store.opened.bytes;
  }

  /** Bytes of pushes that wait for a commit. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Jobs that wait for a commit. */
  get queuedJobs(): number {
    return this.#queue.length;
  }

  /** Bytes that count towards the store's limit. */
  get storeBytes(): number {
    return this.#storeBytes;
  }

  /** Puts a job into the next commit. Its owner hears of it, in any case. */
  submit(job: Job): void {
    this.#queue.push(job);
    this.#queuedBytes += job.bytes;
    if (!this.#running) {
      this.#running = true;
      // What else arrives in this turn shares the commit.
      queueMicrotask(() => {
        this.#run().catch((error: unknown) => {
          // Nothing in a commit may throw but a defect; going on could break the log's order.
          queueMicrotask(() => {
            throw error;
          });
        });
      });
    }
  }

  /** Whether nothing is queued and no commit runs. */
  get quiet(): boolean {
    return !this.#running;
  }

  /** Resolves when nothing is queued and no commit runs. */
  idle(): Promise<void> {
    if (!this.#running) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  async #run(): Promise<void> {
    let finished: FinishedCommit | undefined;
    while (finished !== undefined || this.#waiting) {
      // The next commit is on its way to the disk before this one is told about:
      // acknowledging and fanning out take as long as the disk does.
      const next = this.#waiting ? this.#commit(this.#takeJobs()) : undefined;
      if (finished !== undefined) this.#options.onCommit(finished);
      finished = await next;
    }
    this.#running = false;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  get #waiting(): boolean {
    return this.#queue.length > 0 || this.#apart.length > 0;
  }

  #takeJobs(): Job[] {
    const apart = this.#apart.shift();
    if (apart !== undefined) return apart;
    let rows = 0;
    let bytes = 0;
    let count = 0;
    for (const job of this.#queue) {
      rows += job.kind === "push" ? job.push.blobs.length : 1;
      bytes += job.bytes;
      if (count > 0 && (rows > this.#rowsMax || bytes > this.#bytesMax)) break;
      count += 1;
      this.#queuedBytes -= job.bytes;
    }
    if (count === this.#queue.length) {
      const jobs = this.#queue;
      this.#queue = [];
      return jobs;
    }
    return this.#queue.splice(0, count);
  }

  /** Plans and writes one commit; undefined where it failed and its jobs were refused. */
  async #commit(taken: readonly Job[]): Promise<FinishedCommit | undefined> {
    const jobs = this.#refuseFenced(taken);
    if (jobs.length === 0) return undefined;
    const draft = new Draft(this.#storeBytes);
    const changes: FinishedChange[] = [];
    const outcomes: JobOutcome[] = [];
    const startedMs = this.#options.monotonicMs();
    try {
      // Most commits need nothing from disk, and are written without waiting.
      const reads = this.#lookUp(jobs);
      const lookups = reads instanceof Promise ? await reads : reads;
      const bounds = this.#bounds();
      for (const job of jobs) {
        outcomes.push(this.#plan(draft, job, lookups, changes, bounds));
      }
      if (!draft.empty)
        await this.#options.store.commit(draft.batch(this.#options.ageS(), this.#options.nowMs()));
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#returns.settle(false);
      if (isDamage(error)) {
        const apart = jobsByGroup(jobs);
        // Whose part of the file is damaged shows when each group is written alone.
        if (apart.length > 1) {
          this.#apart.push(...apart);
          return undefined;
        }
        // Also what was read by the key of a snapshot or an object: it was read for this group.
        const only = groupOf(jobs[0] as Job);
        if (only !== undefined) {
          this.#options.store.fence?.met(only.row.groupKey, only.row.groupId, error);
        }
      }
      if (isDiskFull(error)) {
        const apart = jobsByWeight(jobs);
        // What makes room is not to fail with what needs some.
        if (apart.length > 1) {
          this.#apart.push(...apart);
          return undefined;
        }
      }
      // One group that is fenced off says nothing about the store.
      if (this.#refuseFenced(jobs).length > 0) {
        this.#options.onFailure(error);
        for (const job of jobs) settle(job, error);
      }
      return undefined;
    }
    draft.apply();
    this.#returns.settle(true);
    this.#storeBytes = draft.storeBytes;
    return {
      draft,
      changes,
      jobs: jobs.length,
      durationMs: this.#options.monotonicMs() - startedMs,
      settle: () => {
        for (let i = 0; i < jobs.length; i++) settle(jobs[i] as Job, outcomes[i] as JobOutcome);
      },
    };
  }

  /** Refuses what belongs to groups that are fenced off; gives back the rest. */
  #refuseFenced(jobs: readonly Job[]): readonly Job[] {
    const { fence } = this.#options.store;
    if (fence === undefined || fence.groups.length === 0) return jobs;
    return jobs.filter((job) => {
      const key = groupKeyOf(job);
      const error = key === undefined ? undefined : fence.errorOf(key);
      if (error !== undefined) settle(job, error);
      return error === undefined;
    });
  }

  /** Reads what the plan will ask for. */
  #lookUp(jobs: readonly Job[]): Lookups | Promise<Lookups> {
    const { store } = this.#options;
    const places = new Map<PushJob, readonly SenderPlace[]>();
    const control = new Map<ChangeJob | FoundingJob | ReturnJob, ControlRow | undefined>();
    const invites = new Map<FoundingJob | ReturnJob | OperatorJob, InviteRow | undefined>();
    const groups = new Map<FoundingJob | ReturnJob, GroupEntry | undefined>();
    const tasks = new Map<TaskJob, unknown>();
    const reads: Promise<unknown>[] = [];
    for (const job of jobs) {
      if (job.kind === "task") {
        if (job.lookUp !== undefined) {
          reads.push(job.lookUp().then((found) => tasks.set(job, found)));
        }
      } else if (job.kind === "push") {
        const { row } = job.device;
        const downToSeq = placesNeeded(job.device, job.push);
        if (downToSeq === undefined) continue;
        reads.push(
          store
            .senderPlaces(row.groupKey, row.lastCursor, downToSeq)
            .then((found) => places.set(job, found)),
        );
      } else if (job.kind === "change") {
        reads.push(
          store
            .controlByHead(job.group.row.groupKey, job.change.head)
            .then((found) => control.set(job, found)),
        );
      } else if (job.kind === "found" || job.kind === "return" || job.kind === "operator") {
        if (job.kind !== "operator") reads.push(this.#lookUpGroup(job, control, groups));
        if (job.inviteHash !== undefined) {
          reads.push(store.findInvite(job.inviteHash).then((found) => invites.set(job, found)));
        }
      }
    }
    const lookups = { places, control, invites, groups, tasks };
    return reads.length === 0 ? lookups : Promise.all(reads).then(() => lookups);
  }

  async #lookUpGroup(
    job: FoundingJob | ReturnJob,
    control: Map<ChangeJob | FoundingJob | ReturnJob, ControlRow | undefined>,
    groups: Map<FoundingJob | ReturnJob, GroupEntry | undefined>,
  ): Promise<void> {
    const group = await this.#loadGroup(job.groupId);
    groups.set(job, group);
    if (group === undefined) return;
    control.set(job, await this.#options.store.controlByHead(group.row.groupKey, job.change.head));
  }

  #plan(
    draft: Draft,
    job: Job,
    lookups: Lookups,
    changes: FinishedChange[],
    bounds: PlanBounds,
  ): JobOutcome {
    switch (job.kind) {
      case "push":
        if (draft.gone(job.group)) return new SyncError(ErrorCode.NOT_A_MEMBER);
        return planPush(
          draft,
          job.group,
          job.device,
          job.push,
          lookups.places.get(job) ?? [],
          bounds,
        );
      case "change": {
        if (draft.gone(job.group)) return new SyncError(ErrorCode.NOT_A_MEMBER);
        const repeated = repeatedChange(draft, job.group, job.change, lookups.control.get(job));
        if (repeated !== undefined) return repeated;
        const { state } = draft.device(job.device);
        if (state !== "active") return revokedError(state);
        const outcome = planChange(
          draft,
          job.group,
          job.change,
          () => this.#nextDeviceKey++,
          bounds,
        );
        if (!(outcome instanceof SyncError)) changes.push({ group: job.group, outcome });
        return outcome;
      }
      case "found":
        return this.#planFounding(draft, job, lookups, bounds);
      case "return":
        return this.#planReturn(draft, job, lookups, changes, bounds);
      case "device": {
        if (draft.deviceGone(job.device)) return false;
        const row = draft.device(job.device);
        // The newest witness stays; an older one comes from a device that lost state.
        const newer = job.counter > row.witnessCounter;
        if (newer || job.device.soft) {
          draft.setDevice(
            job.device,
            newer ? { ...row, witnessCounter: job.counter, witness: job.witness } : row,
          );
        }
        return newer;
      }
      case "task": {
        const result = job.plan(draft, lookups.tasks.get(job), bounds);
        return result instanceof SyncError ? result : { result };
      }
      case "operator":
        return { result: job.plan(draft, this.#invite(draft, job, lookups)) };
    }
  }

  /** An invite as it stands before this job. */
  #invite(
    draft: Draft,
    job: FoundingJob | ReturnJob | OperatorJob,
    lookups: Lookups,
  ): InviteRow | undefined {
    if (job.inviteHash === undefined) return undefined;
    return draft.invite(job.inviteHash) ?? lookups.invites.get(job);
  }

  #planFounding(
    draft: Draft,
    job: FoundingJob,
    lookups: Lookups,
    bounds: PlanBounds,
  ): ChangeOutcome | SyncError {
    const existing = lookups.groups.get(job) ?? draft.foundedGroup(idText(job.groupId));
    if (existing !== undefined) {
      // The same founding again gets its first answer; another group of that id
      // is not told apart from an invite that does not hold.
      return (
        repeatedChange(draft, existing, job.change, lookups.control.get(job)) ??
        new SyncError(ErrorCode.INVITE_INVALID)
      );
    }
    const invite = this.#invite(draft, job, lookups);
    const refusal = this.#foundingRefusal(job, invite);
    if (refusal !== undefined) return refusal;
    const outcome = this.#found(draft, job, invite, bounds);
    const group = draft.foundedGroup(idText(job.groupId));
    if (!(outcome instanceof SyncError) && group !== undefined && invite !== undefined) {
      draft.setInvite({ ...invite, usedByGroupKey: group.row.groupKey });
    }
    return outcome;
  }

  #found(
    draft: Draft,
    job: Pick<FoundingJob, "groupId" | "founder" | "change">,
    invite: InviteRow | undefined,
    bounds: PlanBounds,
  ): ChangeOutcome | SyncError {
    return planFounding(
      draft,
      {
        groupKey: this.#nextGroupKey++,
        groupId: job.groupId,
        logId: this.#options.random(16),
        quotaBytes: invite?.quotaBytes ?? 0,
        founder: job.founder,
      },
      job.change,
      () => this.#nextDeviceKey++,
      bounds,
    );
  }

  #foundingRefusal(job: FoundingJob, invite: InviteRow | undefined): SyncError | undefined {
    const { founding } = this.#options;
    if (founding === "closed") return new SyncError(ErrorCode.REGISTRATION_CLOSED);
    if (job.inviteHash === undefined) {
      return founding === "open" ? undefined : new SyncError(ErrorCode.REGISTRATION_CLOSED);
    }
    const holds = inviteHolds(invite, this.#options.ageS());
    return holds ? undefined : new SyncError(ErrorCode.INVITE_INVALID);
  }

  /** Whether a device may come back to a group by the invite it shows. */
  mayReturn(by: Return, invite: InviteRow | undefined): boolean {
    return this.#returns.may(by, invite, this.#options.ageS());
  }

  #planReturn(
    draft: Draft,
    job: ReturnJob,
    lookups: Lookups,
    changes: FinishedChange[],
    bounds: PlanBounds,
  ): ChangeOutcome | SyncError {
    const group = lookups.groups.get(job) ?? draft.foundedGroup(idText(job.groupId));
    if (group !== undefined && draft.gone(group)) return new SyncError(ErrorCode.NOT_A_MEMBER);
    const state = group === undefined ? undefined : stateOf(draft, group, job.deviceId);
    // Removed, or refused by the operator: an invite changes nothing about that.
    if (state !== undefined && state !== "active") return revokedError(state);
    const invite = this.#invite(draft, job, lookups);
    if (state === undefined && !this.mayReturn(job, invite)) {
      return new SyncError(ErrorCode.INVITE_INVALID);
    }
    if (group !== undefined) {
      const repeated = repeatedChange(draft, group, job.change, lookups.control.get(job));
      if (repeated !== undefined) return repeated;
    } else if (this.#options.founding === "closed") {
      return new SyncError(ErrorCode.REGISTRATION_CLOSED);
    }
    const outcome =
      group === undefined
        ? this.#found(draft, { ...job, founder: job.change.author }, invite, bounds)
        : planChange(draft, group, job.change, () => this.#nextDeviceKey++, bounds);
    if (outcome instanceof SyncError) return outcome;
    const entry = group ?? draft.foundedGroup(idText(job.groupId));
    if (group !== undefined) changes.push({ group, outcome });
    if (entry === undefined || state !== undefined) return outcome;
    if (inviteHolds(invite, this.#options.ageS())) {
      draft.setInvite({ ...invite, usedByGroupKey: entry.row.groupKey });
      this.#returns.begin(job);
    }
    if (stateOf(draft, entry, job.deviceId) !== undefined) this.#returns.end(job);
    return outcome;
  }

  #bounds(): PlanBounds {
    return {
      groupBytesMax: this.#options.groupBytesMax,
      storeBytesMax: this.#options.storeBytesMax,
      nowMs: this.#options.nowMs(),
      monotonicMs: this.#options.monotonicMs(),
      ageS: this.#options.ageS(),
    };
  }
}

/** The group that a job is about, where it is there already. */
function groupKeyOf(job: Job): number | undefined {
  if (job.kind === "device") return job.device.row.groupKey;
  return groupOf(job)?.row.groupKey;
}

function groupOf(job: Job): GroupEntry | undefined {
  return "group" in job ? job.group : undefined;
}

/** Jobs in their order, those of one group together; those of none each alone. */
function jobsByGroup(jobs: readonly Job[]): Job[][] {
  const apart = new Map<number | Job, Job[]>();
  for (const job of jobs) {
    const key = groupKeyOf(job) ?? job;
    const known = apart.get(key);
    if (known === undefined) apart.set(key, [job]);
    else known.push(job);
  }
  return [...apart.values()];
}

/** Jobs by whether they may make room: rows that stand already, each task alone, and those that only add. */
function jobsByWeight(jobs: readonly Job[]): Job[][] {
  const rows: Job[] = [];
  const tasks: Job[][] = [];
  const adding: Job[] = [];
  for (const job of jobs) {
    if (job.kind === "device" || job.kind === "operator") rows.push(job);
    else if (job.kind === "task") tasks.push([job]);
    else adding.push(job);
  }
  return [rows, ...tasks, adding].filter((part) => part.length > 0);
}

function settle(job: Job, outcome: JobOutcome): void {
  // Each job's owner takes what that kind of job comes to; `#plan` returns nothing else for it.
  (job.owner as JobOwner<Job, unknown>).settled(job, outcome);
}
