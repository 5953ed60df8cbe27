/**
 * Blobs that could not be applied, kept as evidence by their cursors: altered ones, those that wait
 * behind them, and those whose bodies are missing while it is open whether anything explains it.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { RefusedBlobSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import type { StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { Core, Finding } from "./core.ts";
import { decode } from "./disk.ts";
import type { StateTransaction } from "./state-store.ts";

/** A blob to be kept as refused. */
export interface Refusal {
  readonly stored: StoredBlob;
  /** Why; `UNSPECIFIED` while a missing body may still be explained. */
  readonly code: ErrorCode;
  /** What the app is told; nothing for a blob that only waits behind another. */
  readonly finding?: Finding;
}

interface Kept {
  readonly sender: string;
  readonly blobId: string;
  readonly stored: StoredBlob;
  readonly code: ErrorCode;
}

export class Refusals {
  readonly #core: Core;
  #kept = new Map<number, Kept>();
  #first: number | undefined;
  #holding: ReadonlySet<string> = new Set();
  #open = new Map<string, number>();
  /** Missing bodies that the app was told of by this process. */
  readonly #told = new Set<number>();

  constructor(core: Core) {
    this.#core = core;
  }

  async load(tx: StateTransaction): Promise<void> {
    for (const { key, value } of await tx.range("refused", 0)) {
      const { blob, code } = decode(() => fromBinary(RefusedBlobSchema, value));
      if (blob !== undefined) this.#kept.set(key, keptOf({ stored: blob, code }));
    }
    this.#changed();
  }

  get count(): number {
    return this.#kept.size;
  }

  /** The lowest cursor among them. */
  get first(): number | undefined {
    return this.#first;
  }

  /** The highest cursor among them. */
  get last(): number | undefined {
    return this.#kept.size === 0 ? undefined : Math.max(...this.#kept.keys());
  }

  /** Senders whose later blobs wait. */
  get holding(): ReadonlySet<string> {
    return this.#holding;
  }

  /** The cursor of a missing body that a later header explains. */
  missing(blobId: Uint8Array): number | undefined {
    return this.#open.size === 0 ? undefined : this.#open.get(idText(blobId));
  }

  /** Whether a blob that is read again stands in the place of a refused one. */
  has(cursor: bigint): boolean {
    return this.#kept.has(Number(cursor));
  }

  /** The refused header at a cursor whose body alone was missing. */
  missingHeader(cursor: bigint): Uint8Array | undefined {
    const kept = this.#kept.get(Number(cursor));
    return kept?.code === ErrorCode.UNSPECIFIED ? kept.stored.blob?.header : undefined;
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
        toBinary(RefusedBlobSchema, create(RefusedBlobSchema, { blob: stored, code })),
      );
    }
    for (const cursor of explained) tx.delete("refused", cursor);
    return () => {
      if (refusals.length === 0 && explained.length === 0) return;
      for (const refusal of refusals) {
        this.#kept.set(Number(refusal.stored.cursor), keptOf(refusal));
      }
      for (const cursor of explained) this.#kept.delete(cursor);
      this.#changed();
    };
  }

  /** The log they stand in is gone; its successor is judged anew. */
  clear(tx: StateTransaction): () => void {
    tx.deleteRange("refused", 0);
    return () => {
      this.#kept = new Map();
      this.#changed();
    };
  }

  /** The head was reached: what is missing and unexplained is withheld. */
  atHead(): void {
    for (const cursor of this.#open.values()) {
      const kept = this.#kept.get(cursor);
      if (kept === undefined || this.#told.has(cursor)) continue;
      this.#told.add(cursor);
      this.#core.found({
        kind: FindingKind.WITHHELD,
        error: new SyncError(ErrorCode.HISTORY_ALTERED, {
          hint: "the relay holds back the content of an entry, and nothing explains it",
        }),
        sender: kept.stored.sender,
        cursor,
      });
    }
  }

  #changed(): void {
    const holding = new Set<string>();
    this.#open = new Map();
    this.#first = undefined;
    for (const [cursor, kept] of this.#kept) {
      if (this.#first === undefined || cursor < this.#first) this.#first = cursor;
      if (kept.code === ErrorCode.UNSPECIFIED) this.#open.set(kept.blobId, cursor);
      else holding.add(kept.sender);
    }
    this.#holding = holding;
  }
}

function keptOf({ stored, code }: { stored: StoredBlob; code: ErrorCode }): Kept {
  return {
    sender: idText(stored.sender),
    blobId: idText(stored.blob?.blobId ?? new Uint8Array(0)),
    stored,
    code,
  };
}
