/**
 * Room that is kept for a full disk. What makes room needs some first: a trim
 * goes through the write-ahead log, which a full disk does not let grow. So a
 * file is kept beside the database that holds nothing and can go.
 *
 *   kept ── the disk is full ──→ released: only what stores nothing is written
 *     ↑                             │
 *     └── there is room again ──────┘
 *
 * It is made only where the disk has as much room again, so that a small disk is
 * not filled by it; without one a full disk means that nothing is written.
 */
import { open, rm, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { CommitBatch } from "./contract.ts";
import { fileBytes, syncFolder } from "./private-files.ts";
import { storeError } from "./store-errors.ts";

/**
 * As much as the write-ahead log may hold: what is not moved out of it yet, half of that at most, makes the
 * database longer first; the rest is for slices of trimming and sweeping.
 */
export const reserveBytesDefault: number = 32 * 1024 * 1024;

const pieceBytes = 1024 * 1024;

export class Reserve {
  readonly #path: string;
  readonly #bytes: number;
  #state: "none" | "kept" | "released" = "none";
  #making: Promise<boolean> | undefined;
  #releasing: Promise<boolean> | undefined;
  #closed = false;

  /** `bytes`: 0 keeps none. */
  constructor(path: string, bytes: number) {
    this.#path = path;
    this.#bytes = bytes;
  }

  /** Whether only what stores nothing may be written. */
  get released(): boolean {
    return this.#state === "released";
  }

  /** Makes it where it is not there and the disk has room. Gives back whether it is there; never rejects. */
  async make(): Promise<boolean> {
    if (this.#state === "kept") return true;
    if (this.#bytes === 0 || this.#closed) return false;
    this.#making ??= this.#make()
      .catch(async () => {
        await rm(this.#path, { force: true }).catch(() => undefined);
        return false;
      })
      .finally(() => {
        this.#making = undefined;
      });
    return await this.#making;
  }

  /** Gives its room to what makes more. Gives back whether there was any. */
  async release(): Promise<boolean> {
    await this.#making;
    // Whoever meets the full disk at the same moment waits for the same room.
    if (this.#state !== "kept") return (await this.#releasing) ?? false;
    this.#state = "released";
    this.#releasing = rm(this.#path, { force: true })
      .then(
        () => true,
        () => false,
      )
      .finally(() => {
        this.#releasing = undefined;
      });
    return await this.#releasing;
  }

  /** Ends what is being made. The file stays for the next start. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#making;
  }

  async #make(): Promise<boolean> {
    await this.#releasing;
    if ((await fileBytes(this.#path)) !== this.#bytes) {
      const disk = await statfs(dirname(this.#path));
      // With room beside it, or what is written next would take it away again.
      if (disk.bavail * disk.bsize < this.#bytes * 2) return false;
      if (!(await this.#write())) return false;
    }
    this.#state = "kept";
    return true;
  }

  /** Gives back whether it was written to its end. */
  async #write(): Promise<boolean> {
    const piece = filling(Math.min(pieceBytes, this.#bytes));
    const file = await open(this.#path, "w", 0o600);
    try {
      for (let at = 0; at < this.#bytes && !this.#closed; at += piece.byteLength) {
        const length = Math.min(piece.byteLength, this.#bytes - at);
        await file.writeFile(piece.subarray(0, length));
      }
      // Some file systems find out only now that there is no room.
      if (!this.#closed) await file.datasync();
    } finally {
      await file.close();
    }
    if (this.#closed) {
      await rm(this.#path, { force: true });
      return false;
    }
    await syncFolder(dirname(this.#path));
    return true;
  }
}

/** Whether a commit stores nothing: what it writes takes the place of what was there, or takes it away. */
export function storesNothing(batch: CommitBatch): boolean {
  const { life } = batch;
  return (
    batch.blobs.length === 0 &&
    batch.control.length === 0 &&
    (life === undefined || (life.chunks.length === 0 && life.snapshots.length === 0))
  );
}

/** What a commit meets that stores something while the reserve is released. */
export function fullError(): Error {
  return storeError(
    Object.assign(new Error("the reserve for a full disk is in use"), { code: "SQLITE_FULL" }),
  );
}

/** Bytes that take their room on file systems that compress, too. */
function filling(length: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  let word = 0x9e3779b9;
  for (let i = 0; i < words.length; i++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    words[i] = word;
  }
  return new Uint8Array(words.buffer, 0, length);
}
