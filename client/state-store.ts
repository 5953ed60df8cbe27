/**
 * What a device keeps: ordered tables of bytes, changed by one strict transaction at a time.
 *
 * | table | key | value |
 * | --- | --- | --- |
 * | `device` | `"seed"` | the device's 32-byte seed, from which all its keys follow |
 * | `device` | `"state"` | `DeviceState` |
 * | `device` | `"changes"` | `PendingChanges` |
 * | `log` | `"state"` | `LogState` |
 * | `log` | `"snapshot"` | `OwnSnapshotState` |
 * | `log` | `"found/"`, kind, device id, seq, cursor, log id | `FindingState` |
 * | `log` | `"claims/"` and a sender's id as text | `HeldClaims` |
 * | `log` | `"abandoned/"` and a sender's id as text | `AbandonedLinks` |
 * | `log` | `"witness/"` and a device's id as text | `WitnessSeen` |
 * | `log` | `"change"` | `LogChange` |
 * | `log` | `"taking-up"` | `TakingUp` |
 * | `log` | `"running"` | `RunningTime` |
 * | `chain` | `"state"` | `ChainState` |
 * | `chain` | `"read/"` and a seq of 16 digits | `OwnBlobState` that was read and is not taken over yet |
 * | `own` | seq | `OwnBlobState` |
 * | `control` | count, from 1 | a control blob, as it was stored |
 * | `inbox` | position of its first entry | `InboxPage` |
 * | `refused` | cursor | `RefusedBlob` |
 * | `additions` | device id as text | `PendingAddition` |
 * | `objects` | `"upload/"` and the app's name for it | `UploadState` |
 *
 * Messages are those of `proto/syncrelay/state/v1`. One suite,
 * `tests/client/state-store.test.ts`, holds every implementation to this contract.
 */

/** The tables. Keys of one table are all numbers or all strings. */
export const numberTables = ["own", "control", "inbox", "refused"] as const;
export const textTables = ["device", "log", "chain", "additions", "objects"] as const;
export type NumberTable = (typeof numberTables)[number];
export type TextTable = (typeof textTables)[number];
/** The tables of a device's state; which holds what stands in `client/state-store.ts`. */
export type TableName = NumberTable | TextTable;

/** A key: a whole number from 0 to 2^53 - 1, or a text. Texts order by their UTF-8 bytes. */
export type StateKey = number | string;
/** The key type of a table. */
export type KeyOf<T extends TableName> = T extends NumberTable ? number : string;

/** A key and what stands there. */
export interface StateRow<K extends StateKey = StateKey> {
  /** The key. */
  readonly key: K;
  /** The bytes, which nobody changes. */
  readonly value: Uint8Array;
}

/** One transaction. Reads see what was written before them in the same transaction. */
export interface StateTransaction {
  /** What stands at a key; undefined where nothing does. */
  get<T extends TableName>(table: T, key: KeyOf<T>): Promise<Uint8Array | undefined>;
  /** Rows from `from` (inclusive) to `to` (exclusive; left out: to the end), ascending. */
  range<T extends TableName>(
    table: T,
    from: KeyOf<T>,
    to?: KeyOf<T>,
    limit?: number,
  ): Promise<StateRow<KeyOf<T>>[]>;
  /** The row with the highest key. */
  last<T extends TableName>(table: T): Promise<StateRow<KeyOf<T>> | undefined>;
  /** The store keeps the bytes it was given: the caller does not change them afterwards. */
  put<T extends TableName>(table: T, key: KeyOf<T>, value: Uint8Array): void;
  /** Deletes what stands at a key, if anything does. */
  delete<T extends TableName>(table: T, key: KeyOf<T>): void;
  /** Deletes from `from` (inclusive) to `to` (exclusive; left out: to the end). */
  deleteRange<T extends TableName>(table: T, from: KeyOf<T>, to?: KeyOf<T>): void;
}

/** Where a device keeps its state. */
export interface StateStore {
  /**
   * Runs one transaction. Transactions run one after another, in the order they were asked for. When
   * the promise resolves, everything written is durable; when `run` or the store throws, nothing was
   * written. Throws `StateStoreError`, or what `run` threw.
   */
  transaction<T>(run: (tx: StateTransaction) => Promise<T> | T): Promise<T>;
  /** Waits for what was asked for, then lets go. Later calls fail. */
  close(): Promise<void>;
}

/** What is the matter with a store. */
export type StateStoreProblem =
  /** Another process holds it. */
  | "locked"
  /** No space is left. */
  | "full"
  /** It was written by a newer version of this software. */
  | "newer"
  /** What stands there is not a state, or no longer whole. */
  | "damaged"
  /** The disk or its permissions. */
  | "unavailable"
  /** It was closed. */
  | "closed";

/** The device's own store cannot do what was asked. Nothing was written. */
export class StateStoreError extends Error {
  override readonly name = "StateStoreError";
  /** What is the matter: what the app tells the person to do goes by it. */
  readonly problem: StateStoreProblem;

  constructor(problem: StateStoreProblem, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.problem = problem;
  }
}
