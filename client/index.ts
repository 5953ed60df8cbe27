/** The client library. A platform (`client/node`, …) gives it a `Host` and a `StateStore`. */

export { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
export {
  type ExternalStatus,
  externalStatus,
  type ReadableStatus,
  readableStatus,
  type StatusSource,
} from "./adapters.ts";
export { type FindingName, findingMeanings } from "./finding-kinds.ts";
export type { FindingInfo } from "./findings.ts";
export type { Host, Random, Socket, SocketHandlers } from "./host.ts";
export { MemoryDisk, MemoryStore, type MemoryStoreHooks } from "./memory-store.ts";
export type { BlobLike, ObjectContent, ObjectSource } from "./object-source.ts";
export type { ObjectProgress } from "./object-transfer.ts";
export {
  describeReference,
  type GetObjectOptions,
  type PutObjectOptions,
  type StoredObject,
} from "./objects.ts";
export { PhraseError } from "./seal/phrase-error.ts";
export type { PhraseState } from "./seal/recovery.ts";
export type { RestoreFunction, RestorePoint } from "./snapshot-loader.ts";
export type {
  SnapshotData,
  SnapshotFunction,
  SnapshotMade,
  SnapshotPoint,
} from "./snapshot-maker.ts";
export type { SnapshotOptions } from "./snapshots.ts";
export {
  type KeyOf,
  type StateKey,
  type StateRow,
  type StateStore,
  StateStoreError,
  type StateStoreProblem,
  type StateTransaction,
  type TableName,
} from "./state-store.ts";
export { type SyncApi, SyncClient, type SyncClientOptions } from "./sync-client.ts";
export type {
  ConnectionStatus,
  DeviceInfo,
  Entry,
  GapEvent,
  HistoryEntry,
  IntegrityEvent,
  Invite,
  JoinerInfo,
  MembershipEvent,
  MembershipStatus,
  PresenceEvent,
  PushItem,
  PushOptions,
  PushReceipt,
  RecoveryPhrase,
  Status,
  SyncEvents,
  WakeUpInfo,
  WakeUpSubscription,
} from "./types.ts";
export { QueueFullError, UsageError } from "./usage-error.ts";
export type {
  MissingBodies,
  VerificationProblem,
  VerificationProgress,
  VerificationReport,
  VerifiedSender,
  VerifiedSnapshot,
} from "./verification.ts";
