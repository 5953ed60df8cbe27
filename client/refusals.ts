/**
 * Blobs that could not be applied, kept as evidence by their cursors: altered ones, those that wait
 * behind them, and those whose bodies are missing while it is open whether anything explains it.
 * The blobs themselves stand on disk; in memory is only what they are looked up by.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { RefusedBlobSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import { BlobSchema, type StoredBlob, StoredBlobSchema } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blobLink, idText } from "../wire/ids.ts";
import type { Core, Finding } from "./core.ts";
import { decode } from "./disk.ts";
import { decodeHeader } from "./seal/header.ts";
import type { StateTransaction } from "./state-store.ts";

/** Blobs of senders that the group does not know, of which a relay could invent any number. */
const strangersMax = 1_024;
/** Refused blobs read back at once: each may be as large as the relay allows. */
const readBackRows = 32;
/** Bytes of refused blobs, without their bodies, that are kept in memory. */
const bareBytesMax = 16 * 1024 * 1024;
/** Refused blobs, and their bytes without their bodies, that are kept on disk. */
const keptMax = 65_536;
const keptBytesMax = 64 * 1024 * 1024;

/** A blob to be kept as refused. */
export interface Refusal {
  readonly stored: StoredBlob;
  /** Why; `UNSPECIFIED` while a missing body may still be explained. */
  readonly code: ErrorCode;
  /** What the app is told; nothing for a blob that only waits behind another. */
  readonly finding?: Finding;
}

interface Kept {
  readonly sender: Sender;
  /** While only the body is missing: the blob's id, and its link, which covers the header. */
  readonly missing:
    | { readonly blobId: string; readonly seq: number; readonly link: Uint8Array }
    | undefined;
  /** Of members and former ones, without the body: what shows where it stands in its sender's chain. */
  readonly bare: StoredBlob | undefined;
  readonly bytes: number;
}

/** Who wrote refused blobs, once for all of them. */
interface Sender {
  readonly text: string;
  readonly id: Uint8Array;
  readonly stranger: boolean;
  kept: number;
  holding: number;
}

export class Refusals {
  readonly #core: Core;
  readonly #kept = new Map<number, Kept>();
  readonly #senders = new Map<string, Sender>();
  readonly #open = new Map<string, number>();
  /** Missing bodies that the app was told of by this process. */
  readonly #told = new Set<number>();
  #first: number | undefined;
  #last: number | undefined;
  #holding: ReadonlySet<string> = new Set();
  #strangers = 0;
  #bareBytes = 0;
  #keptBytes = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  async load(tx: StateTransaction): Promise<void> {
    for (let from = 0; ; ) {
      const rows = await tx.range("refused", from, undefined, readBackRows);
      for (const { key, value } of rows) {
        const { blob, code } = decode(() => fromBinary(RefusedBlobSchema, value));
        if (blob !== undefined) this.#add(key, blob, code);
        from = key + 1;
      }
      if (rows.length < readBackRows) break;
    }
    this.#changed();
  }

  get count(): number {
    return this.#kept.size;
  }

  /** How many of them what is still to be read cannot explain: bodies are missing until the head says so. */
  get certain(): number {
    let explicable = 0;
    for (const cursor of this.#open.values()) if (!this.#told.has(cursor)) explicable += 1;
    return this.#kept.size - explicable;
  }

  /** The lowest cursor among them. */
  get first(): number | undefined {
    return this.#first;
  }

  /** The highest cursor among them. */
  get last(): number | undefined {
    return this.#last;
  }

  /** The cursors of those of a sender that stand at the places wanted. */
  pick(sender: string, wanted: (seq: number, link: Uint8Array) => boolean = () => true): number[] {
    const { groupId } = this.#core;
    return [...this.#kept].flatMap(([cursor, { sender: by, missing, bare }]) => {
      if (by.text !== sender) return [];
      const seq = missing?.seq ?? seqOf(bare);
      const { blobId = emptyBytes, header = emptyBytes } = bare?.blob ?? {};
      const link = missing?.link ?? blobLink(groupId, by.id, blobId, header);
      return seq !== undefined && wanted(seq, link) ? [cursor] : [];
    });
  }

  /** Senders whose later blobs wait. */
  get holding(): ReadonlySet<string> {
    return this.#holding;
  }

  /** Whether these would be more blobs than are kept: of strangers, of which anybody could make any number, or in all. */
  tooMany(refusals: readonly Refusal[]): boolean {
    let strangers = this.#strangers;
    let bytes = this.#keptBytes;
    for (const { stored } of refusals) {
      if (this.#isStranger(stored.sender)) strangers += 1;
      bytes += bytesOf(stored);
    }
    return (
      strangers > strangersMax ||
      this.#kept.size + refusals.length > keptMax ||
      bytes > keptBytesMax
    );
  }

  /** What is kept of a member or a former one, without the bodies. */
  of(sender: string): StoredBlob[] {
    return [...this.#kept.values()].flatMap(({ sender: { text }, bare }) =>
      text === sender && bare !== undefined ? [bare] : [],
    );
  }

  /** Where a missing body stands that a later header may explain, and whose it is. */
  missing(
    blobId: Uint8Array,
  ): { readonly cursor: number; readonly sender: Uint8Array } | undefined {
    const cursor = this.#open.size === 0 ? undefined : this.#open.get(idText(blobId));
    const kept = cursor === undefined ? undefined : this.#kept.get(cursor);
    return cursor === undefined || kept === undefined
      ? undefined
      : { cursor, sender: kept.sender.id };
  }

  /** Whether a blob that is read again stands in the place of a refused one. */
  has(cursor: bigint): boolean {
    return this.#kept.has(Number(cursor));
  }

  /** The link of the refused blob at a cursor whose body alone was missing. */
  missingLink(cursor: bigint): Uint8Array | undefined {
    return this.#kept.get(Number(cursor))?.missing?.link;
  }

  /** Keeps some and lets others go. What it returns takes that over once it is on disk. */
  write(
    tx: StateTransaction,
    refusals: readonly Refusal[],
    explained: readonly number[],
  ): () => void {
    for (const { stored, code } of refusals) {
      tx.put(
        "refused",
        Number(stored.cursor),
        // Without its body: it is read again before it is taken, and evidence stands with the finding.
        toBinary(RefusedBlobSchema, create(RefusedBlobSchema, { blob: bareOf(stored), code })),
      );
    }
    for (const cursor of explained) tx.delete("refused", cursor);
    return () => {
      if (refusals.length === 0 && explained.length === 0) return;
      for (const { stored, code } of refusals) this.#add(Number(stored.cursor), stored, code);
      for (const cursor of explained) this.#remove(cursor);
      this.#changed();
    };
  }

  /**
   * The log they stand in is gone; its successor is judged anew, but for what was verified already:
   * what was missing of that stays a finding.
   */
  clear(tx: StateTransaction): () => void {
    tx.deleteRange("refused", 0);
    const withheld = [...this.#open.values()].map((cursor) => this.#withheld(cursor));
    const found = this.#core.findings.write(tx, withheld);
    return () => {
      found();
      for (const cursor of this.#kept.keys()) this.#remove(cursor);
      this.#changed();
    };
  }

  /** A snapshot holds what they hid, or they are read again. */
  replaced(tx: StateTransaction): () => void {
    tx.deleteRange("refused", 0);
    return () => {
      for (const cursor of this.#kept.keys()) this.#remove(cursor);
      this.#changed();
    };
  }

  /** The head was reached: what is missing and unexplained is withheld. */
  atHead(): void {
    const withheld = [...this.#open.values()]
      .filter((cursor) => !this.#told.has(cursor))
      .map((cursor) => this.#withheld(cursor));
    for (const finding of withheld) {
      this.#told.add(finding.cursor ?? 0);
      this.#core.found(finding);
    }
  }

  #withheld(cursor: number): Finding {
    const { sender, missing, bare } = this.#kept.get(cursor) ?? {};
    return {
      kind: FindingKind.WITHHELD,
      error: new SyncError(ErrorCode.HISTORY_ALTERED, {
        hint: "the relay holds back the content of an entry, and nothing explains it",
      }),
      ...(sender === undefined ? {} : { sender: sender.id }),
      ...(missing === undefined ? {} : { seq: missing.seq, verified: missing }),
      cursor,
      received: bare === undefined ? [] : [bare],
    };
  }

  #add(cursor: number, stored: StoredBlob, code: ErrorCode): void {
    const { sender: id, blob } = stored;
    this.#remove(cursor);
    const text = idText(id);
    let sender = this.#senders.get(text);
    if (sender === undefined) {
      // A copy: an id as it came keeps the record alive that it came in.
      const copy = Uint8Array.from(id);
      sender = { text, id: copy, stranger: this.#isStranger(id), kept: 0, holding: 0 };
      this.#senders.set(text, sender);
    }
    let missing: Kept["missing"];
    if (code === ErrorCode.UNSPECIFIED) {
      const blobId = blob?.blobId ?? emptyBytes;
      const header = blob?.header ?? emptyBytes;
      const link = blobLink(this.#core.groupId, id, blobId, header);
      missing = { blobId: idText(blobId), seq: seqOf(stored) ?? 0, link };
      this.#open.set(missing.blobId, cursor);
    } else {
      sender.holding += 1;
    }
    sender.kept += 1;
    if (sender.stranger) this.#strangers += 1;
    const bare = sender.stranger || this.#bareBytes >= bareBytesMax ? undefined : bareOf(stored);
    this.#bareBytes += bytesOfBare(bare);
    const bytes = bytesOf(stored);
    this.#keptBytes += bytes;
    this.#kept.set(cursor, { sender, missing, bare, bytes });
    if (this.#first === undefined || cursor < this.#first) this.#first = cursor;
    if (this.#last === undefined || cursor > this.#last) this.#last = cursor;
  }

  #remove(cursor: number): void {
    const kept = this.#kept.get(cursor);
    if (kept === undefined) return;
    const { sender, missing } = kept;
    this.#kept.delete(cursor);
    this.#bareBytes -= bytesOfBare(kept.bare);
    this.#keptBytes -= kept.bytes;
    this.#told.delete(cursor);
    sender.kept -= 1;
    if (sender.stranger) this.#strangers -= 1;
    if (missing === undefined) sender.holding -= 1;
    else if (this.#open.get(missing.blobId) === cursor) this.#open.delete(missing.blobId);
    if (sender.kept === 0) this.#senders.delete(sender.text);
    // Looked for once several were let go.
    if (cursor === this.#first) this.#first = undefined;
    if (cursor === this.#last) this.#last = undefined;
  }

  #isStranger(id: Uint8Array): boolean {
    return this.#core.chain?.devices.has(idText(id)) !== true;
  }

  #changed(): void {
    const holding = new Set<string>();
    for (const sender of this.#senders.values()) {
      if (sender.holding > 0) holding.add(sender.text);
    }
    this.#holding = holding;
    if (this.#kept.size === 0 || (this.#first !== undefined && this.#last !== undefined)) return;
    let first = Number.POSITIVE_INFINITY;
    let last = 0;
    for (const cursor of this.#kept.keys()) {
      if (cursor < first) first = cursor;
      if (cursor > last) last = cursor;
    }
    this.#first = first;
    this.#last = last;
  }
}

/** A copy without the body: bytes as they came keep the whole record alive that they came in. */
function bareOf({ cursor, sender, blob }: StoredBlob): StoredBlob {
  return create(StoredBlobSchema, {
    cursor,
    sender: Uint8Array.from(sender),
    blob: create(BlobSchema, {
      blobId: Uint8Array.from(blob?.blobId ?? emptyBytes),
      header: Uint8Array.from(blob?.header ?? emptyBytes),
      signature: Uint8Array.from(blob?.signature ?? emptyBytes),
    }),
  });
}

/** Where a blob says that it stands; undefined where it says nothing. */
function seqOf(bare: StoredBlob | undefined): number | undefined {
  try {
    return bare === undefined ? undefined : decodeHeader(bare.blob?.header ?? emptyBytes).seq;
  } catch (error) {
    if (error instanceof SyncError) return undefined;
    throw error;
  }
}

/** What one takes on disk. */
function bytesOf({ blob }: StoredBlob): number {
  return 160 + (blob?.header.byteLength ?? 0);
}

function bytesOfBare(bare: StoredBlob | undefined): number {
  return bare === undefined ? 0 : 512 + (bare.blob?.header.byteLength ?? 0);
}
