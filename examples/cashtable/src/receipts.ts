/**
 * Receipts: pictures and PDFs beside the book. One is kept on this device first, so that it can be taken
 * offline; it goes to the relay as an object once that is reached, and its reference into the book.
 */
import type { SyncApi } from "sync-relay/client";
import type * as Y from "yjs";
import { newId, type Receipt, readReceipts, saveReceipt } from "./model.ts";

const databaseName = "cashtable-receipts";
const table = "files";
/** More than any photo; what is larger belongs elsewhere. */
export const receiptBytesMax = 20 * 1024 * 1024;

export class Receipts {
  readonly #doc: Y.Doc;
  readonly #client: () => SyncApi;
  readonly #database: IDBDatabase;
  #uploading = false;

  private constructor(doc: Y.Doc, client: () => SyncApi, database: IDBDatabase) {
    this.#doc = doc;
    this.#client = client;
    this.#database = database;
  }

  static async open(doc: Y.Doc, client: () => SyncApi): Promise<Receipts> {
    const request = indexedDB.open(databaseName, 1);
    request.addEventListener("upgradeneeded", () => request.result.createObjectStore(table));
    return new Receipts(doc, client, await answered(request));
  }

  /** Keeps a file here, and notes it in the book. */
  async add(transaction: string, file: File): Promise<void> {
    const id = newId();
    const { name, type, size } = file;
    await this.#keep(id, new Blob([await file.arrayBuffer()], { type }));
    saveReceipt(this.#doc, { id, transaction, name, type, size, device: this.#client().deviceId });
    void this.upload();
  }

  /** The content: from here, or else from the relay, and here from then on. */
  async read(receipt: Receipt): Promise<Blob> {
    const kept = await this.#kept(receipt.id);
    if (kept !== undefined) return kept;
    if (receipt.reference === undefined)
      throw new Error("It is still on the device that added it.");
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    for await (const piece of this.#client().getObject(receipt.reference))
      pieces.push(Uint8Array.from(piece));
    const blob = new Blob(pieces, { type: receipt.type });
    await this.#keep(receipt.id, blob);
    return blob;
  }

  /** Uploads what is only here. Called whenever the relay may be reached; of several tabs the one that leads does it. */
  async upload(): Promise<void> {
    const client = this.#client();
    const leads = !("leading" in client) || client.leading === true;
    if (this.#uploading || !leads || client.status().connection.state !== "online") return;
    this.#uploading = true;
    try {
      for (const receipt of readReceipts(this.#doc)) {
        if (receipt.reference !== undefined) continue;
        const blob = await this.#kept(receipt.id);
        if (blob === undefined) continue;
        // Under its name an upload goes on where it was cut off, also after a reload.
        const { reference } = await client.putObject(blob, {
          name: receipt.id,
          contentType: receipt.type,
        });
        if (this.#doc.getMap("receipts").has(receipt.id)) {
          saveReceipt(this.#doc, { ...receipt, reference });
        }
      }
    } catch {
      // Gone offline, or no room on the relay: the receipt shows that it is only here, and it is tried again.
    } finally {
      this.#uploading = false;
    }
  }

  async #kept(id: string): Promise<Blob | undefined> {
    const store = this.#database.transaction(table).objectStore(table);
    return (await answered(store.get(id))) as Blob | undefined;
  }

  async #keep(id: string, blob: Blob): Promise<void> {
    const tx = this.#database.transaction(table, "readwrite");
    tx.objectStore(table).put(blob, id);
    await new Promise<void>((resolve, reject) => {
      tx.addEventListener("complete", () => resolve());
      tx.addEventListener("abort", () =>
        reject(tx.error ?? new Error("the browser did not keep it")),
      );
    });
  }
}

function answered<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error ?? new Error("no database")));
  });
}
