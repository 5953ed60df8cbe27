/** What `push` returns: an entry is queued, and is or will be durable. */
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { OwnBlob } from "./seal/blob.ts";
import type { PushReceipt } from "./types.ts";

/** A receipt. Its promise is made when it is asked for: most never are. */
export class Receipt implements PushReceipt {
  readonly seq: number;
  readonly #blobId: Uint8Array;
  #cursor: number | undefined;
  #lost = false;
  #durable: Promise<{ readonly cursor: number }> | undefined;
  #settle: (() => void) | undefined;

  constructor(blob: Pick<OwnBlob, "seq" | "blobId">) {
    this.seq = blob.seq;
    this.#blobId = blob.blobId;
  }

  get blobId(): string {
    return idText(this.#blobId);
  }

  get durable(): Promise<{ readonly cursor: number }> {
    this.#durable ??= new Promise((resolve, reject) => {
      this.#settle = () => {
        if (this.#cursor !== undefined) resolve({ cursor: this.#cursor });
        else if (this.#lost) reject(new SyncError(ErrorCode.CONNECTION_LOST, closedHint));
      };
      this.#settle();
    });
    return this.#durable;
  }

  stored(cursor: number): void {
    this.#cursor = cursor;
    this.#settle?.();
  }

  lost(): void {
    this.#lost = true;
    this.#settle?.();
  }
}

/** What a person is told who still waits when the client closes. */
export const closedHint = { hint: "the client was closed; what is queued stays queued" };
