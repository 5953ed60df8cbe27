/**
 * What was found wrong with the history: kept on disk with its evidence, told once a process, and open
 * until it is made good or a person accepts it. Nothing of it is made good by starting anew, nor by a
 * relay that says its log is another one.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type EvidenceClaim,
  EvidenceClaimSchema,
  FindingKind,
  type Finding as FindingMessage,
  FindingSchema,
} from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { SenderLinkSchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import {
  type FindingState,
  FindingState_State,
  FindingStateSchema,
} from "../gen/syncrelay/state/v1/history_pb.ts";
import type { MembershipVersion } from "../gen/syncrelay/sync/v1/error_pb.ts";
import { BlobSchema, type StoredBlob, StoredBlobSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes, equalBytes, toHex, utf8 } from "../wire/bytes.ts";
import type { SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText } from "../wire/ids.ts";
import { type Disk, decode, type LogPlace } from "./disk.ts";
import {
  type FindingMeaning,
  type FindingName,
  findingMeanings,
  findingName,
} from "./finding-kinds.ts";
import type { Host } from "./host.ts";
import type { ChainPlace } from "./seal/blob.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";

/** One is enough not to be in sync; more only say more. */
const findingsMax = 1_024;
/** Evidence of all findings together, in bytes: beyond it bodies are left out. */
const evidenceBytesMax = 16 * 1024 * 1024;
/** Evidence that is smaller is always kept. */
const evidenceBytesMin = 16 * 1024;
const keys = { from: "found/", to: "found0" } as const;

/** What a finding is about, and what shows it. */
export interface Finding {
  readonly kind: FindingKind;
  readonly error: SyncError;
  readonly sender?: Uint8Array;
  /** A seq of the sender, or the counter of a control blob. */
  readonly seq?: number;
  readonly cursor?: number;
  /** As the relay showed it. */
  readonly received?: readonly StoredBlob[];
  /** Where this device had verified the sender to. */
  readonly verified?: ChainPlace;
  /** What other devices say. */
  readonly claims?: readonly EvidenceClaim[];
  readonly controlBlobs?: readonly Uint8Array[];
  readonly claimedMembership?: MembershipVersion;
}

/** A finding as apps and people are shown it. */
export interface FindingInfo {
  /** Names it for `acceptFinding` and `evidence`. */
  readonly id: string;
  /** A closed list: `client/finding-kinds.ts`. */
  readonly finding: string;
  /** One line for people. */
  readonly means: string;
  /** Whose history; absent where it is about no single device. */
  readonly sender?: string;
  /** A place in the sender's chain, or in the membership's. */
  readonly seq?: number;
  /** A place in the relay's log, where it is about one. */
  readonly cursor?: number;
  /** When, by this device's clock. */
  readonly foundMs: number;
  /**
   * `healed`: what was missing or wrong has been made good. `accepted`: a person let this device go on.
   */
  readonly state: "open" | "healed" | "accepted";
  /** Whether later entries of that sender wait for it. */
  readonly holds: boolean;
}

/** What findings are kept beside, and told by. */
interface Around {
  readonly host: Host;
  readonly disk: Disk;
  readonly log: LogPlace;
  moved(): void;
  told(id: string, finding: Finding): void;
  failed(error: StateStoreError): void;
}

/** What is in memory of one: enough to find it and to see that it was made good. */
interface Kept {
  readonly id: string;
  readonly kind: FindingKind;
  readonly sender: string;
  readonly seq: number;
  readonly cursor: number;
  readonly logId: Uint8Array;
  readonly foundMs: number;
  /** The link that somebody else names at that seq. */
  readonly claimed: Uint8Array | undefined;
  /** Who names it. */
  readonly witness: Uint8Array | undefined;
  /** The sender's place when it was found. */
  readonly verified: ChainPlace | undefined;
  readonly bytes: number;
  readonly state: FindingState_State;
}

export class Findings {
  readonly #core: Around;
  readonly #kept = new Map<string, Kept>();
  /** Told by this process. */
  readonly #told = new Set<string>();
  #bytes = 0;
  #open = 0;
  #stopped: ReadonlySet<string> = new Set();

  constructor(core: Around) {
    this.#core = core;
  }

  async load(tx: StateTransaction): Promise<void> {
    for (const { key, value } of await tx.range("log", keys.from, keys.to)) {
      this.#take(key, keptOf(key, value));
    }
    this.#count();
  }

  /** Those that are open. */
  get count(): number {
    return this.#open;
  }

  /** Senders of which nothing is applied, although their chains go on. */
  get stopped(): ReadonlySet<string> {
    return this.#stopped;
  }

  /** All that are kept, the newest last. */
  list(): FindingInfo[] {
    return [...this.#kept.values()].toSorted((a, b) => a.foundMs - b.foundMs).map(infoOf);
  }

  /** Keeps findings; what it returns takes them over, and tells them, once they are on disk. */
  write(tx: StateTransaction, findings: readonly Finding[]): () => void {
    const fresh = new Map<string, Kept>();
    const tell: (() => void)[] = [];
    for (const finding of findings) {
      const key = keyOf(finding, this.#core.log.logId);
      const before = fresh.get(key) ?? this.#kept.get(key);
      const id = idOf(key);
      if (before === undefined || before.state === FindingState_State.HEALED) {
        const room = this.#room(tx, fresh.size);
        if (room) {
          const value = this.#encode(finding);
          tx.put("log", key, value);
          fresh.set(key, keptOf(key, value));
        }
        tell.push(() => this.#core.told(id, finding));
      } else if (before.state === FindingState_State.UNSPECIFIED && !this.#told.has(id)) {
        tell.push(() => this.#core.told(id, finding));
      }
      tell.push(() => this.#toldBy(id));
    }
    return () => {
      for (const [key, kept] of fresh) this.#take(key, kept);
      if (fresh.size > 0) this.#count();
      for (const each of tell) each();
    };
  }

  /** Keeps one, and tells it: for what is found while nothing is being written. */
  found(finding: Finding): void {
    this.#change((tx) => this.write(tx, [finding]));
  }

  /** Marks those that were made good, in a transaction. */
  heal(tx: StateTransaction, healed: (finding: OpenFinding) => boolean): Promise<() => void> {
    return this.#mark(tx, FindingState_State.HEALED, (kept) => healed(openOf(kept)));
  }

  /** The same, while nothing is being written. */
  healed(healed: (finding: OpenFinding) => boolean): void {
    if (this.#open === 0) return;
    if (![...this.#kept.values()].some((kept) => isOpen(kept) && healed(openOf(kept)))) return;
    this.#change((tx) => this.heal(tx, healed));
  }

  /** Whether something is open. */
  some(wanted: (finding: OpenFinding) => boolean): boolean {
    return this.open().some(wanted);
  }

  /** What is open. */
  open(): OpenFinding[] {
    if (this.#open === 0) return [];
    return [...this.#kept.values()].filter(isOpen).map(openOf);
  }

  /** One by its id. */
  get(id: string): FindingInfo | undefined {
    const kept = this.#byId(id);
    return kept === undefined ? undefined : infoOf(kept);
  }

  /** A person accepts one: it is open no longer. Its evidence stays. */
  accept(tx: StateTransaction, id: string): Promise<() => void> {
    return this.#mark(tx, FindingState_State.ACCEPTED, (kept) => kept.id === id);
  }

  /** Whether a person accepted one of that kind and cursor, in this log. */
  accepted(kind: FindingKind, cursor: number): boolean {
    return [...this.#kept.values()].some(
      (kept) =>
        kept.state === FindingState_State.ACCEPTED &&
        kept.kind === kind &&
        kept.cursor === cursor &&
        equalBytes(kept.logId, this.#core.log.logId),
    );
  }

  /** Whether a person accepted one of that kind about a sender. */
  acceptedOf(kind: FindingKind, sender: string): boolean {
    return [...this.#kept.values()].some(
      (kept) =>
        kept.state === FindingState_State.ACCEPTED && kept.kind === kind && kept.sender === sender,
    );
  }

  /** The evidence of one, or of all that are kept. */
  async evidence(id: string | undefined): Promise<FindingMessage[]> {
    const rows = await this.#core.disk.write((tx) => tx.range("log", keys.from, keys.to));
    const findings: FindingMessage[] = [];
    for (const { key, value } of rows) {
      if (id !== undefined && idOf(key) !== id) continue;
      const { finding } = stateOf(value);
      if (finding !== undefined) findings.push(finding);
    }
    return findings;
  }

  #byId(id: string): Kept | undefined {
    return [...this.#kept.values()].find((kept) => kept.id === id);
  }

  async #mark(
    tx: StateTransaction,
    state: FindingState_State,
    wanted: (kept: Kept) => boolean,
  ): Promise<() => void> {
    const marked = new Map<string, Kept>();
    for (const [key, kept] of this.#kept) {
      if (!isOpen(kept) || !wanted(kept)) continue;
      const value = await tx.get("log", key);
      if (value === undefined) continue;
      marked.set(key, { ...kept, state });
      tx.put("log", key, toBinary(FindingStateSchema, { ...stateOf(value), state }));
    }
    return () => {
      for (const [key, kept] of marked) this.#kept.set(key, kept);
      if (marked.size > 0) this.#count();
    };
  }

  #change(run: (tx: StateTransaction) => (() => void) | Promise<() => void>): void {
    this.#core.disk
      .write(run, (taken) => taken())
      .then(() => this.#core.moved())
      .catch((error: unknown) => {
        if (!(error instanceof StateStoreError)) throw error;
        if (error.problem !== "closed") this.#core.failed(error);
      });
  }

  /** Whether there is room for one more; the oldest that is closed makes it. */
  #room(tx: StateTransaction, fresh: number): boolean {
    if (this.#kept.size + fresh < findingsMax) return true;
    for (const [key, kept] of this.#kept) {
      if (isOpen(kept)) continue;
      tx.delete("log", key);
      this.#kept.delete(key);
      this.#bytes -= kept.bytes;
      return true;
    }
    return false;
  }

  #encode(finding: Finding): Uint8Array {
    const { log, host } = this.#core;
    const { kind, error, sender = emptyBytes, verified } = finding;
    const left = Math.max(evidenceBytesMin, evidenceBytesMax - this.#bytes);
    const message = create(FindingSchema, {
      kind,
      deviceId: Uint8Array.from(sender),
      received: fitting(finding.received ?? [], left),
      foundMs: BigInt(Math.floor(host.nowMs())),
      seq: BigInt(finding.seq ?? 0),
      cursor: BigInt(finding.cursor ?? 0),
      logId: log.logId,
      claims: [...(finding.claims ?? [])],
      controlBlobs: [...(finding.controlBlobs ?? [])],
      ...(verified === undefined
        ? {}
        : {
            verifiedPlace: create(SenderLinkSchema, {
              deviceId: Uint8Array.from(sender),
              seq: BigInt(verified.seq),
              link: verified.link,
            }),
          }),
      ...(finding.claimedMembership === undefined
        ? {}
        : { claimedMembership: finding.claimedMembership }),
    });
    return toBinary(
      FindingStateSchema,
      create(FindingStateSchema, { finding: message, code: error.code, hint: error.hint ?? "" }),
    );
  }

  #take(key: string, kept: Kept): void {
    this.#bytes += kept.bytes - (this.#kept.get(key)?.bytes ?? 0);
    this.#kept.set(key, kept);
  }

  #toldBy(id: string): void {
    if (this.#told.size >= 4 * findingsMax) this.#told.clear();
    this.#told.add(id);
  }

  #count(): void {
    const stopped = new Set<string>();
    this.#open = 0;
    for (const kept of this.#kept.values()) {
      if (!isOpen(kept)) continue;
      this.#open += 1;
      if (stops(kept)) stopped.add(kept.sender);
    }
    this.#stopped = stopped;
  }
}

/** An open finding, as it is looked at to see whether it was made good. */
export interface OpenFinding {
  readonly id: string;
  readonly kind: FindingKind;
  /** The text of the sender's id; empty where there is none. */
  readonly sender: string;
  readonly seq: number;
  readonly cursor: number;
  readonly logId: Uint8Array;
  readonly claimed: Uint8Array | undefined;
  readonly witness: Uint8Array | undefined;
  readonly verified: ChainPlace | undefined;
}

function openOf(kept: Kept): OpenFinding {
  return kept;
}

function isOpen({ state }: Kept): boolean {
  return state === FindingState_State.UNSPECIFIED;
}

/**
 * Two histories of one sender stop it, where this device stands in one of them: its chain goes on, and
 * does not lead to the other. Everything else holds by itself: the chain does not go on.
 */
function stops({ kind, seq, verified }: Kept): boolean {
  return kind === FindingKind.FORKED && seq > 0 && (verified?.seq ?? 0) >= seq;
}

function infoOf(kept: Kept): FindingInfo {
  const name = findingName(kept.kind);
  const meaning: FindingMeaning | undefined = findingMeanings[name as FindingName];
  return {
    id: kept.id,
    finding: name,
    means: meaning?.means ?? "something that this version does not know",
    ...(kept.sender === "" ? {} : { sender: kept.sender }),
    ...(kept.seq === 0 ? {} : { seq: kept.seq }),
    ...(kept.cursor === 0 ? {} : { cursor: kept.cursor }),
    foundMs: kept.foundMs,
    state: stateNames[kept.state] ?? "open",
    holds: isOpen(kept) && kept.sender !== "" && (meaning?.holds ?? false),
  };
}

const stateNames: Readonly<Partial<Record<FindingState_State, FindingInfo["state"]>>> = {
  [FindingState_State.UNSPECIFIED]: "open",
  [FindingState_State.HEALED]: "healed",
  [FindingState_State.ACCEPTED]: "accepted",
};

/** One finding of a kind for each place: what is met again is the same one. */
function keyOf({ kind, sender = emptyBytes, seq = 0, cursor = 0 }: Finding, logId: Uint8Array) {
  const about = `${kind}/${idText(sender)}/${seq}`;
  return `${keys.from}${about}/${seq === 0 ? `${cursor}/${idText(logId)}` : 0}`;
}

function idOf(key: string): string {
  // In hexadecimal: people type its beginning, and it never looks like an option.
  return toHex(blake2b256(utf8(key)).subarray(0, 8));
}

function stateOf(value: Uint8Array): FindingState {
  return decode(() => fromBinary(FindingStateSchema, value));
}

function keptOf(key: string, value: Uint8Array): Kept {
  const { finding, state } = stateOf(value);
  const message = finding ?? create(FindingSchema);
  const { verifiedPlace } = message;
  return {
    id: idOf(key),
    kind: message.kind,
    sender: message.deviceId.byteLength === 0 ? "" : idText(message.deviceId),
    seq: Number(message.seq),
    cursor: Number(message.cursor),
    logId: Uint8Array.from(message.logId),
    foundMs: Number(message.foundMs),
    claimed: copyOf(message.claims[0]?.place?.link),
    witness: copyOf(message.claims[0]?.witnessId),
    verified:
      verifiedPlace === undefined
        ? undefined
        : { seq: Number(verifiedPlace.seq), link: Uint8Array.from(verifiedPlace.link) },
    bytes: value.byteLength,
    state,
  };
}

function copyOf(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : Uint8Array.from(bytes);
}

/** Blobs within a bound: the bodies go first. */
function fitting(blobs: readonly StoredBlob[], bytesMax: number): StoredBlob[] {
  let left = bytesMax;
  return blobs.map((stored) => {
    const { blob } = stored;
    const bytes = blob?.body.byteLength ?? 0;
    if (bytes <= left) {
      left -= bytes;
      return stored;
    }
    return create(StoredBlobSchema, {
      ...stored,
      blob: create(BlobSchema, { ...(blob as NonNullable<typeof blob>), body: emptyBytes }),
    });
  });
}

/** What a device says in an entry of its own: the blob that holds it goes with the finding. */
export function claimOf(
  witnessId: Uint8Array,
  place: { readonly deviceId: Uint8Array; readonly seq: bigint; readonly link: Uint8Array },
): EvidenceClaim {
  return create(EvidenceClaimSchema, {
    witnessId: Uint8Array.from(witnessId),
    place: create(SenderLinkSchema, {
      deviceId: Uint8Array.from(place.deviceId),
      seq: place.seq,
      link: Uint8Array.from(place.link),
    }),
  });
}
