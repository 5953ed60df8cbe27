/**
 * What the public API speaks in. Ids are text here (base64url without padding), as an app shows and
 * stores them.
 */
import type { SyncError } from "../wire/errors.ts";
import type { StateStoreError } from "./state-store.ts";

/** What goes with an entry that is pushed. */
export interface PushOptions {
  /** What the bytes are, as the app pleases; at most 128 bytes of UTF-8. Only devices read it. */
  readonly contentType?: string;
  /** Lets the relay drop the body after so many seconds. Default: it stays. */
  readonly ttlS?: number;
  /** Blob ids of entries that this one replaces: their bodies go once every active device has this one. */
  readonly deletes?: readonly string[];
  /** The bodies under `deletes`, all of them this device's own, go at once. */
  readonly force?: boolean;
}

/** One entry of `pushMany`. */
export interface PushItem extends PushOptions {
  /**
   * What is pushed, of whatever kind: at most about 1 MiB, which `TOO_LARGE` says where it is more. Not
   * changed afterwards.
   */
  readonly data: Uint8Array;
}

/** An entry is safely queued on this device. */
export interface PushReceipt {
  /** The entry's name, the same on every device. */
  readonly blobId: string;
  /** Its number in this device's chain when it was queued. */
  readonly seq: number;
  /**
   * Resolves when the relay has it on disk, with its cursor (0 where the relay no longer knows it).
   * Rejects only when the client is closed before that.
   */
  readonly durable: Promise<{ readonly cursor: number }>;
}

/** An entry, opened and verified. */
export interface HistoryEntry {
  /** The entry's name, the same on every device. */
  readonly blobId: string;
  /** Its place in the relay's log; 0 where it came before the log changed. */
  readonly cursor: number;
  /** The device that wrote it. */
  readonly sender: string;
  /** Its number in the sender's chain. */
  readonly seq: number;
  /** Whether this device wrote it. */
  readonly own: boolean;
  /** What the sender pushed; empty where the entry only deletes others. */
  readonly data: Uint8Array;
  /** Empty where the sender gave none. */
  readonly contentType: string;
}

/** An entry as it is handed to the app. */
export interface Entry extends HistoryEntry {
  /**
   * Rises by one with each entry handed out, whatever happens to the log. An app that stores it in
   * the transaction that applies the entry, and passes it to `open` as `appliedPosition`, gets every
   * entry exactly once.
   */
  readonly position: number;
  /**
   * The app has applied it. Costs no disk write of its own: acknowledgements are written together
   * soon after. An entry that was not acknowledged comes again after a restart.
   */
  ack(): Promise<void>;
}

/** A device of the group. */
export interface DeviceInfo {
  /** Its name in the protocol: its public key. */
  readonly deviceId: string;
  /** What people call it. */
  readonly name: string;
  /** `paper`: a recovery phrase, which is never connected and never waited for. */
  readonly role: "device" | "paper";
  /** Whether it is this device. */
  readonly self: boolean;
  /** What people compare. */
  readonly fingerprint: string;
  /** By the relay's word. */
  readonly presence: "online" | "away" | "offline";
  /**
   * The relay says that its operator refuses this device: a claim, known while this device is
   * connected. Nothing follows from it by itself: whoever believes it removes the device.
   */
  readonly refusedByRelay: boolean;
  /** When the relay last heard from it, by the relay's clock; absent where it has not said. */
  readonly lastSeenMs?: number;
  /** What this device proved to have applied: its newest witness, and when it made it by its clock. */
  readonly applied?: { readonly cursor: number; readonly madeMs: number };
}

/** A device that asks to join. */
export interface JoinerInfo {
  /** Its name in the protocol: its public key. */
  readonly deviceId: string;
  /** What it calls itself. Nobody has vouched for it yet. */
  readonly name: string;
  /** Of its public key, in short: five groups of four digits. */
  readonly fingerprint: string;
  /** What both screens show when nobody is in between. */
  readonly comparison: readonly string[];
  /** How it came by the invite. A code can be guessed at by a relay: the words must be compared. */
  readonly means: "link" | "code";
}

/** An open invite. */
export interface Invite {
  /** To type: `XXXX-XXXX-XXXX-XXXX`. The joiner needs the relay address too. */
  readonly code: string;
  /** To scan or click: holds everything. */
  readonly link: string;
  /** When it ends by itself, by this device's clock, in milliseconds since the Unix epoch. */
  readonly expiresAtMs: number;
  /** The device that joined. Rejects with INVITE_INVALID where it expired, was cancelled or burnt. */
  readonly done: Promise<DeviceInfo>;
  /** Ends it before that. Resolves at once where it has ended already. */
  cancel(): Promise<void>;
}

/** A recovery phrase, the one time it is shown. */
export interface RecoveryPhrase {
  /** Twenty-four words. Nothing keeps them. */
  readonly words: readonly string[];
  /** The device it is on paper, as the roster has it. */
  readonly deviceId: string;
  /** Of that device, in short: what the list of devices shows. */
  readonly fingerprint: string;
  /** Resolves when the phrases that it replaces are removed; goes on by itself after a restart. */
  readonly replaced: Promise<void>;
}

/** Where this device stands with its group. */
export type MembershipStatus = "none" | "founding" | "admitted" | "member" | "removed";

/** What the connection does, and why it is not there. */
export type ConnectionStatus =
  /** In no group, and nothing to connect for. */
  | { readonly state: "idle" }
  | { readonly state: "connecting" }
  | { readonly state: "online" }
  /** Will try again by itself. */
  | {
      readonly state: "waiting";
      readonly error: SyncError | StateStoreError;
      readonly retryInMs: number;
    }
  /** Will not try again by itself: a person or the app must act. */
  | { readonly state: "stopped"; readonly error: SyncError | StateStoreError }
  | { readonly state: "closed" };

/** Where this device stands. Every figure is of what was verified or stored here, but `head`. */
export interface Status {
  /** This device's name in the protocol: its public key. */
  readonly deviceId: string;
  /** What people call this device. */
  readonly name: string;
  /** The group it is in; undefined in none. */
  readonly groupId: string | undefined;
  /** The relay's address, with its key. */
  readonly relay: string | undefined;
  /** Where it stands with that group. */
  readonly membership: MembershipStatus;
  /** What the connection does, and why it is not there. */
  readonly connection: ConnectionStatus;
  /** Own entries that are queued here and not known to be on the relay's disk. */
  readonly queued: number;
  /** Entries that may be queued beside those; at 0 `push` throws `QueueFullError` until some are sent. */
  readonly queueRoom: number;
  /** The last own seq that is known to be on the relay's disk. */
  readonly durableSeq: number;
  /** Why the queue does not move although the relay is reached. */
  readonly pushHeld: SyncError | undefined;
  /** Everything up to this cursor was read and stored. */
  readonly readCursor: number;
  /** Everything up to this cursor was applied by the app. */
  readonly appliedCursor: number;
  /** The relay's newest cursor, by its word; undefined until it was reached once. */
  readonly head: number | undefined;
  /** Stored entries that the app has not acknowledged. */
  readonly unacknowledged: number;
  /** Entries that were refused, or wait behind a refused one; a missing body only once nothing can explain it. */
  readonly refused: number;
  /** What else was found wrong with the history, and nothing has made good. */
  readonly findings: number;
  /** The generation of the group's secret, from 1; 0 in no group. */
  readonly epoch: number;
  /** Members of the group, this device and recovery phrases included. */
  readonly devices: number;
  /** Members whom the relay's operator refuses, by the relay's word: their ids. */
  readonly refusedDevices: readonly string[];
  /** When this device last had read everything and had nothing queued; undefined: not since it started. */
  readonly lastSyncMs: number | undefined;
  /**
   * Connected, everything read and acknowledged, nothing queued, nothing refused. True only
   * as far as an honest relay's head goes.
   */
  readonly inSync: boolean;
}

/** A range of the log, or of one sender's chain, that no longer exists and that nothing covers. */
export interface GapEvent {
  /** The first cursor of the range; with a sender, the first seq. */
  readonly from: number;
  /** The last one. */
  readonly through: number;
  /** Whose entries these are; absent where it is the log as a whole. */
  readonly sender?: string;
}

/** Something about the history is wrong. What was found is kept as evidence. */
export interface IntegrityEvent {
  /** Names it among `findings()`. */
  readonly id: string;
  /** What was found: a closed list; see docs/SECURITY.md. */
  readonly finding: string;
  /** The same as an error: its code says who must act. */
  readonly error: SyncError;
  /** Whose history; absent where it is about no single device. */
  readonly sender?: string;
  /** The place in that device's chain, or in the membership's, where it is about one. */
  readonly seq?: number;
  /** The place in the relay's log, where it is about one. */
  readonly cursor?: number;
}

/** The group changed, or this device's place in it. */
export interface MembershipEvent {
  /** Where this device stands with the group now. */
  readonly membership: MembershipStatus;
  /** The devices of the group now. */
  readonly devices: readonly DeviceInfo[];
}

/** Another device came or went, by the relay's word. */
export interface PresenceEvent {
  /** Which device. */
  readonly deviceId: string;
  /** Connected and in use, connected and not in use, or not connected. */
  readonly presence: "online" | "away" | "offline";
  /** The relay says that its operator refuses the device. */
  readonly refusedByRelay: boolean;
  /** When the relay last heard from it, by the relay's clock, in milliseconds since the Unix epoch. */
  readonly lastSeenMs?: number;
}

/** What `on` listens for. */
export interface SyncEvents {
  /** Something that the status shows has moved. */
  readonly status: Status;
  /** Entries no longer exist and nothing covers them: the app's state lacks what they held. */
  readonly gap: GapEvent;
  /** Something about the history is wrong. */
  readonly integrity: IntegrityEvent;
  /** The group changed, or this device's place in it. */
  readonly membership: MembershipEvent;
  /** Another device came or went, by the relay's word. */
  readonly presence: PresenceEvent;
  /** What went wrong in the background. LOG_CHANGED: the relay was restored; what it lacks is pushed again. */
  readonly error: SyncError | StateStoreError;
}

/** A subscription at a push service: what `PushSubscription.toJSON()` gives, and what UnifiedPush speaks. */
export interface WakeUpSubscription {
  /** Where messages are posted: an `https` URL of at most 1,024 bytes. Whoever knows it can wake the app. */
  readonly endpoint: string;
  /** The app's key, a point of P-256 of 65 bytes, and its secret of 16 bytes (RFC 8291), as base64url. */
  readonly keys: { readonly p256dh: string; readonly auth: string };
}

/** Whether this device is woken, and what to subscribe with. */
export interface WakeUpInfo {
  /** Whether the relay has a registration of this device. A push service may have ended it. */
  readonly registered: boolean;
  /** The relay's key at push services, 65 bytes as base64url: what an app subscribes with. */
  readonly applicationServerKey: string;
}
