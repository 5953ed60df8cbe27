/**
 * What the relay asks of a store. One suite, `tests/store`, holds every
 * implementation to it.
 *
 * A store has one writer: `commit` is called again only after the call before
 * has settled, and what it was given is on disk when it resolves, whole, or not
 * at all. Reads run beside it and see the last commit. Keys of groups and
 * devices are small numbers that the caller draws from `nextKeys`, so that rows
 * stay short.
 *
 * Failures to read or write are `SyncError` STORE_UNAVAILABLE with the cause
 * kept inside; a store goes on afterwards where the fault allows it.
 */
import type { SyncError } from "../../wire/errors.ts";
import type { LifeReads, LifeWrites, SnapshotRow, WakeUpRow } from "./life.ts";
import type { StoreUpkeep } from "./upkeep.ts";

/** A group, its members and its counters: what a group's first session loads. */
export interface GroupRow {
  readonly groupKey: number;
  /** 32 bytes. */
  readonly groupId: Uint8Array;
  /** 16 bytes. */
  readonly logId: Uint8Array;
  readonly head: number;
  /** Up to where headers are gone. */
  readonly floor: number;
  /** Up to where the effective snapshot replaces the log; 0 without one. */
  readonly replacedThrough: number;
  /** Up to where bodies are gone for it: at least `floor`, at most `replacedThrough`. */
  readonly trimmedThrough: number;
  /** The persisted age at which that snapshot became effective, or the group was founded, in seconds. */
  readonly snapshotAgeS: number;
  /** Bytes that count towards the quota: the log's and the objects'. */
  readonly bytes: number;
  /** Bytes of snapshots and their parts. */
  readonly snapshotBytes: number;
  /** Bytes of control blobs. */
  readonly controlBytes: number;
  /** Blobs whose headers are there. */
  readonly blobs: number;
  /** 0: the relay's default holds. */
  readonly quotaBytes: number;
  /** Pushes of a device a second on average, and at once; 0, both: the relay's defaults hold. */
  readonly pushesPerS: number;
  readonly pushesBurst: number;
  readonly membershipCount: number;
  /** 32 bytes. */
  readonly membershipHead: Uint8Array;
  readonly epoch: number;
  /** Whether an operator suspended it: nothing is written to it. */
  readonly suspended: boolean;
}

/** Whether the relay serves a device. */
export type DeviceState = "active" | "removed" | "refused";

/** What a member is. */
export type DeviceRole = "device" | "paper";

/** A device of a group. Removed ones stay: their blobs do, and their ids never come back. */
export interface DeviceRow {
  readonly deviceKey: number;
  readonly groupKey: number;
  /** 32 bytes. */
  readonly deviceId: Uint8Array;
  readonly role: DeviceRole;
  readonly state: DeviceState;
  /** The sender's last seq, link and cursor; 0, 32 zeros and 0 before its first blob. Never trimmed. */
  readonly lastSeq: number;
  readonly lastLink: Uint8Array;
  readonly lastCursor: number;
  /** The applied cursor it acknowledged. */
  readonly applied: number;
  /** Milliseconds since the Unix epoch, for people. */
  readonly lastSeenMs: number;
  /** The persisted age at which it was last connected, in seconds. */
  readonly seenAgeS: number;
  /** Its newest witness: counter, and `SealedWitness` encoded; 0 and empty before the first. */
  readonly witnessCounter: number;
  readonly witness: Uint8Array;
}

/** A blob in the log. */
export interface BlobRow {
  readonly groupKey: number;
  readonly cursor: number;
  readonly deviceKey: number;
  readonly seq: number;
  /** The cursor of the sender's blob before this one; 0 where there is none. Chains a sender's blobs without an index. */
  readonly priorCursor: number;
  /** 32 bytes. */
  readonly link: Uint8Array;
  /** 16 bytes. */
  readonly blobId: Uint8Array;
  readonly epoch: number;
  readonly header: Uint8Array;
  readonly signature: Uint8Array;
  /** Empty where it was dropped. */
  readonly body: Uint8Array;
  /** A `BodyState` of the schema; 0 while the body is there. */
  readonly bodyState: number;
  /** The relay's persisted age at the commit, in seconds: what a TTL counts from. */
  readonly storedAgeS: number;
}

/** A control blob. */
export interface ControlRow {
  readonly groupKey: number;
  /** From 1: the membership count after it. */
  readonly number: number;
  /** BLAKE2b-256 of the bytes, 32 bytes: the control head after it. */
  readonly head: Uint8Array;
  /** The epoch after it. */
  readonly epoch: number;
  /** `ControlBlob`, encoded. */
  readonly bytes: Uint8Array;
}

/** A group invite. */
export interface InviteRow {
  /** BLAKE2b-256 of the invite, 32 bytes; the invite itself is not kept. */
  readonly inviteHash: Uint8Array;
  readonly label: string;
  /** The quota of the group it founds; 0: the relay's default. */
  readonly quotaBytes: number;
  /** By the relay's persisted age, in seconds; 0: never. */
  readonly expiresAgeS: number;
  readonly createdMs: number;
  /** The group it founded; 0 while unused. */
  readonly usedByGroupKey: number;
  /** When an operator took it back; 0 where nobody did. */
  readonly revokedMs: number;
}

/** Everything one commit writes. Groups and devices are written whole, by key, new or not. */
export interface CommitBatch {
  readonly groups: readonly GroupRow[];
  readonly devices: readonly DeviceRow[];
  readonly blobs: readonly BlobRow[];
  readonly control: readonly ControlRow[];
  readonly invites: readonly InviteRow[];
  /**
   * Keys of groups that go, with their devices, after everything else was written. They count no
   * longer at once; what they hold on disk is given back by `sweep`.
   */
  readonly deletedGroups?: readonly number[];
  /** What snapshots, objects and retention write. */
  readonly life?: LifeWrites;
  /** The persisted age to keep, in seconds; undefined leaves it. */
  readonly ageS?: number;
  /** What the clock says at that age, in milliseconds since the Unix epoch. */
  readonly clockMs?: number;
}

/** A group and all its devices. */
export interface LoadedGroup {
  readonly group: GroupRow;
  readonly devices: readonly DeviceRow[];
  readonly snapshots: readonly SnapshotRow[];
  /** Where its devices are woken; left out: none is. */
  readonly wakeUps?: readonly WakeUpRow[];
}

/** A group that a device belongs to. */
export interface DeviceGroup {
  readonly groupId: Uint8Array;
  readonly role: DeviceRole;
  readonly state: DeviceState;
  readonly membershipCount: number;
  readonly membershipHead: Uint8Array;
}

/** A group in a list: what is known of it without loading it. */
export interface GroupListing {
  readonly group: GroupRow;
  /** The label of the invite it was founded with; empty where there was none. */
  readonly label: string;
  /** Devices the relay serves. */
  readonly activeDevices: number;
  /** When one of its devices was last here, as far as it is written. */
  readonly lastSeenMs: number;
}

/** An invite in a list. */
export interface InviteListing {
  readonly invite: InviteRow;
  /** The id of the group it founded; undefined where it founded none that is still there. */
  readonly groupId: Uint8Array | undefined;
}

/** Bounds of one page; one row always fits where there is one. */
export interface PageBounds {
  readonly rowsMax: number;
  /** Bytes of header, signature and body together. */
  readonly bytesMax: number;
}

/** Where one of a sender's seqs stands. */
export interface SenderPlace {
  readonly seq: number;
  readonly cursor: number;
  readonly link: Uint8Array;
}

/** Figures of the whole store. Counters, never sums over rows. */
export interface StoreTotals {
  readonly groups: number;
  readonly blobs: number;
  /** Bytes that count towards quotas, and of snapshots. */
  readonly bytes: number;
  /** Bytes of the store's files on disk. */
  readonly fileBytes: number;
  /** Bytes inside the file that are free and can be given back. */
  readonly reclaimableBytes: number;
}

export interface Store extends LifeReads {
  /** The next unused keys, the persisted age in seconds and the clock at that age, as of opening. */
  readonly opened: {
    readonly nextGroupKey: number;
    readonly nextDeviceKey: number;
    readonly nextSnapshotKey: number;
    readonly nextObjectKey: number;
    readonly ageS: number;
    /** 0 where it was never written. */
    readonly clockMs: number;
    readonly bytes: number;
    /** Whether no group and no invite was ever made here: a first start. */
    readonly fresh: boolean;
  };

  /** Writes everything or nothing; durable when it resolves. */
  commit(batch: CommitBatch): Promise<void>;

  loadGroup(groupId: Uint8Array): Promise<LoadedGroup | undefined>;

  groupsOfDevice(deviceId: Uint8Array): Promise<readonly DeviceGroup[]>;

  /** Blobs with `after < cursor <= through`, ascending. */
  readBlobs(
    groupKey: number,
    after: number,
    through: number,
    bounds: PageBounds,
  ): Promise<readonly BlobRow[]>;

  /** The link of the blob at a cursor; undefined where there is none. */
  linkAt(groupKey: number, cursor: number): Promise<Uint8Array | undefined>;

  /**
   * A sender's places from its blob at `fromCursor` down to `downToSeq`, newest
   * first, along `priorCursor`; it ends early where headers were trimmed.
   */
  senderPlaces(
    groupKey: number,
    fromCursor: number,
    downToSeq: number,
  ): Promise<readonly SenderPlace[]>;

  /** Control blobs with `number > after`, ascending, up to `bytesMax` together, one at least. */
  readControl(groupKey: number, after: number, bytesMax: number): Promise<readonly ControlRow[]>;

  /** The control blob with that head; undefined where there is none. */
  controlByHead(groupKey: number, head: Uint8Array): Promise<ControlRow | undefined>;

  findInvite(inviteHash: Uint8Array): Promise<InviteRow | undefined>;

  /** Groups with a key above `afterGroupKey`, ascending by key. */
  listGroups(afterGroupKey: number, rowsMax: number): Promise<readonly GroupListing[]>;

  /** Invites with a hash at or above `fromHash`, ascending by hash. */
  listInvites(fromHash: Uint8Array, rowsMax: number): Promise<readonly InviteListing[]>;

  totals(): Promise<StoreTotals>;

  /**
   * Gives back some of what deleted groups and dropped objects hold on disk, and pages that are free
   * in its file: at most `rowsMax` rows, so that commits wait for it only briefly. True where there is
   * more to do. May run beside commits.
   */
  sweep(rowsMax: number): Promise<boolean>;

  /** What an operator asks of a store on disk; undefined for one in memory. */
  readonly upkeep?: StoreUpkeep;

  /** Groups whose part of the file is damaged; undefined where nobody looks for that. */
  readonly fence?: {
    /** Why nothing is done for a group; undefined where all is well with it. */
    errorOf(groupKey: number): SyncError | undefined;
    /** Looks at what failed while a group was read: damage fences it off. Gives back what to throw. */
    met(groupKey: number, groupId: Uint8Array, error: unknown): unknown;
    readonly groups: readonly { readonly groupId: Uint8Array; readonly why: string }[];
  };

  /** Waits for what is under way and closes. */
  close(): Promise<void>;
}
