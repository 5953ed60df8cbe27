/**
 * What the log's life asks of a store: snapshots, objects, expiry and deletes.
 * Part of the contract; apart from it because a push has nothing to do with it.
 */

/** A snapshot, without its manifest. */
export interface SnapshotRow {
  readonly snapshotKey: number;
  readonly groupKey: number;
  /** BLAKE2b-256 of the manifest, 32 bytes. */
  readonly snapshotId: Uint8Array;
  /** Its author. */
  readonly deviceKey: number;
  readonly replacesThrough: number;
  /** The persisted age when it was stored, in seconds. */
  readonly storedAgeS: number;
  /** Whether it trims. */
  readonly effective: boolean;
  /** The key of the device that confirmed it; 0 where none has. */
  readonly confirmedBy: number;
  readonly manifestBytes: number;
}

/** The bytes of a snapshot. */
export interface SnapshotContent {
  readonly manifest: Uint8Array;
  readonly signature: Uint8Array;
  /** Empty where nobody has confirmed it. */
  readonly confirmation: Uint8Array;
}

/** An object: large content beside the log. */
export interface ObjectRow {
  readonly objectKey: number;
  readonly groupKey: number;
  /** 32 bytes. */
  readonly objectId: Uint8Array;
  readonly sizeBytes: number;
  /** How much of it is on disk, from the start. */
  readonly durableBytes: number;
  /** All of it is, and its hash was checked. */
  readonly complete: boolean;
  /** It counts as a snapshot's. */
  readonly part: boolean;
  /** It goes by its age: it is not complete, or a part that no snapshot has named. */
  readonly passing: boolean;
  /** The persisted age at its last range, in seconds. */
  readonly storedAgeS: number;
}

/** An object and who refers to it: device keys, and keys of snapshots below zero. */
export interface FoundObject {
  readonly object: ObjectRow;
  readonly holders: readonly number[];
}

/** A device's or a snapshot's reference to an object. */
export interface ObjectReference {
  /** A device's key, or a snapshot's below zero. */
  readonly holder: number;
  readonly objectKey: number;
}

/** Where a device is woken. It goes with its device. */
export interface WakeUpRow {
  readonly deviceKey: number;
  /** An `https` URL. */
  readonly endpoint: string;
  /** 65 bytes. */
  readonly p256dh: Uint8Array;
  /** 16 bytes. */
  readonly auth: Uint8Array;
}

/** `chunkBytes` of an object; the last one's rest. */
export interface ChunkRow {
  readonly objectKey: number;
  /** From 0. */
  readonly number: number;
  readonly data: Uint8Array;
}

/** Bytes of an object in one row. Every row of one but the last has as many. */
export const chunkBytes = 65_536;

/** Blobs with `after < cursor <= through` that go: whole, or their bodies as `TRIMMED`. */
export interface TrimRange {
  readonly groupKey: number;
  readonly after: number;
  readonly through: number;
  readonly headers: boolean;
}

/** A body that goes by itself. One that is gone already keeps its state. */
export interface BodyDrop {
  readonly groupKey: number;
  readonly cursor: number;
  /** A `BodyState` of the schema. */
  readonly bodyState: number;
}

export interface ExpiryRow {
  readonly groupKey: number;
  readonly cursor: number;
  readonly expiresAgeS: number;
}

/** A blob whose header names others to delete. */
export interface DeleteRow {
  readonly groupKey: number;
  readonly cursor: number;
}

/** What one commit writes beside the log. Counters of groups are not touched: whoever writes rows counts them. */
export interface LifeWrites {
  readonly trims: readonly TrimRange[];
  readonly drops: readonly BodyDrop[];
  readonly expiries: readonly ExpiryRow[];
  readonly expiriesDone: readonly ExpiryRow[];
  readonly deletes: readonly DeleteRow[];
  readonly deletesDone: readonly DeleteRow[];
  readonly snapshots: readonly (SnapshotContent & { readonly row: SnapshotRow })[];
  /** Snapshots that become effective. */
  readonly effective: readonly {
    readonly snapshotKey: number;
    readonly confirmedBy: number;
    readonly confirmation: Uint8Array;
  }[];
  /** Keys of snapshots that go, with their references. */
  readonly droppedSnapshots: readonly number[];
  /** Written whole, by key, new or not. */
  readonly objects: readonly ObjectRow[];
  readonly references: readonly ObjectReference[];
  readonly referencesEnded: readonly ObjectReference[];
  readonly chunks: readonly ChunkRow[];
  /** Objects that go, with all references; what they hold on disk is given back by `sweep`. */
  readonly droppedObjects: readonly ObjectRow[];
  /** Written whole, by device, new or not. */
  readonly wakeUps: readonly WakeUpRow[];
  /** Keys of devices that are woken no more. */
  readonly wakeUpsEnded: readonly number[];
}

/** Nothing of all that. */
export const noLife: LifeWrites = {
  trims: [],
  drops: [],
  expiries: [],
  expiriesDone: [],
  deletes: [],
  deletesDone: [],
  snapshots: [],
  effective: [],
  droppedSnapshots: [],
  objects: [],
  references: [],
  referencesEnded: [],
  chunks: [],
  droppedObjects: [],
  wakeUps: [],
  wakeUpsEnded: [],
};

/** What one slice of trimming would come to. */
export interface TrimMeasure {
  /** The last cursor of the slice; `after` where there is nothing to trim. */
  readonly through: number;
  readonly blobs: number;
  /** Bytes of headers and signatures, and of bodies that are there. */
  readonly headerBytes: number;
  readonly bodyBytes: number;
}

/** A blob as a search for ids sees it. */
export interface BlobIdRow {
  readonly cursor: number;
  readonly deviceKey: number;
  readonly blobId: Uint8Array;
  readonly bodyBytes: number;
}

/** A blob whose body has come to its end. */
export interface ExpiredRow extends ExpiryRow {
  /** 0 where the body, the blob or the group is gone already. */
  readonly bodyBytes: number;
  /** Undefined where the group is gone. */
  readonly groupId: Uint8Array | undefined;
}

/** A blob with deletes to carry out. */
export interface PendingDelete extends DeleteRow {
  /** Undefined where the blob was trimmed meanwhile. */
  readonly blob: { readonly deviceKey: number; readonly header: Uint8Array } | undefined;
}

/** A place in the order of passing objects. */
export interface PassingPlace {
  readonly storedAgeS: number;
  readonly objectKey: number;
}

/** Before all of them. */
export const beforePassing: PassingPlace = { storedAgeS: -1, objectKey: 0 };

export interface LifeReads {
  /** What trimming blobs with `after < cursor <= through` would come to: so many rows and bytes, one row at least. */
  measureTrim(
    groupKey: number,
    after: number,
    through: number,
    bounds: { readonly rowsMax: number; readonly bytesMax: number },
  ): Promise<TrimMeasure>;

  /** Blobs below a cursor, descending. */
  blobIds(groupKey: number, below: number, rowsMax: number): Promise<readonly BlobIdRow[]>;

  /** Bodies whose time has come, by when it came. */
  expired(ageS: number, rowsMax: number): Promise<readonly ExpiredRow[]>;

  /** Deletes that are not yet carried out, of blobs above a cursor, ascending. */
  pendingDeletes(
    groupKey: number,
    after: number,
    rowsMax: number,
  ): Promise<readonly PendingDelete[]>;

  snapshotContent(snapshotKey: number): Promise<SnapshotContent | undefined>;

  /** Ids of groups with a snapshot that was stored at that age or before and is not effective. */
  groupsWithSnapshotsOf(ageS: number, rowsMax: number): Promise<readonly Uint8Array[]>;

  /** Of these ids, the objects the group has, in any order. */
  findObjects(groupKey: number, objectIds: readonly Uint8Array[]): Promise<readonly FoundObject[]>;

  /** What a snapshot refers to. */
  partsOf(snapshotKey: number): Promise<readonly FoundObject[]>;

  /** Bytes of an object from `offset`, a multiple of `chunkBytes`, on: at most `lengthMax`, rounded up to a chunk. */
  readObject(objectKey: number, offset: number, lengthMax: number): Promise<Uint8Array>;

  /**
   * Passing objects whose last range is of that age or before, and their groups' ids: by the age of that
   * range and by their keys, behind `after`.
   */
  passingObjects(
    ageS: number,
    after: PassingPlace,
    rowsMax: number,
  ): Promise<readonly (FoundObject & { readonly groupId: Uint8Array })[]>;

  /** Groups with something to trim or to delete, keys above `afterGroupKey`, ascending. */
  groupsToTrim(
    afterGroupKey: number,
    rowsMax: number,
  ): Promise<readonly { readonly groupKey: number; readonly groupId: Uint8Array }[]>;
}
