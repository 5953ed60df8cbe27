/**
 * Objects: content too large for an entry, beside the log. An app puts one, and pushes the reference
 * it gets in an entry; the other devices get the object by that reference.
 *
 *     source ──▶ read once: id, tags ──▶ read again: sealed, sent in ranges ──▶ reference
 *
 * Memory stays flat: 16 bytes for each 64 KiB of content, and one range.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type UploadState, UploadStateSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { SyncError } from "../wire/errors.ts";
import { hashBytes } from "../wire/hash.ts";
import { idText, parseId } from "../wire/ids.ts";
import { contentTypeBytesMax } from "../wire/limits.ts";
import type { Core } from "./core.ts";
import { decode } from "./disk.ts";
import type { Inbox } from "./inbox.ts";
import { type ObjectContent, type ObjectSource, sourceOf } from "./object-source.ts";
import {
  type ObjectProgress,
  type Outline,
  outlineOf,
  receiveObject,
  releaseObject,
  sendObject,
} from "./object-transfer.ts";
import { fitsUtf8 } from "./seal/checks.ts";
import { decodeReference, encodeReference, objectKeyBytes } from "./seal/object.ts";
import { SessionWait } from "./session-wait.ts";
import { UsageError } from "./usage-error.ts";

/** Names of uploads, in bytes of UTF-8. */
const nameBytesMax = 256;
/** Uploads that are done and still remembered, so that asking again costs no second object. */
const doneKept = 64;

/** What goes with an object that is put. */
export interface PutObjectOptions {
  /**
   * The app's own name for this content. Put again under it after a restart, or after a refusal, an
   * upload goes on where it was; another content under it is another object. Without a name an upload
   * outlives cuts, but not the process.
   */
  readonly name?: string;
  /** What the content is, as the app pleases; at most 128 bytes of UTF-8. Only devices read it. */
  readonly contentType?: string;
  /** Told as the relay has more of it on disk. */
  readonly onProgress?: (progress: ObjectProgress) => void;
  /** Stops the upload. What the relay has of it stays for a while, to go on from. */
  readonly signal?: AbortSignal;
}

/** What goes with an object that is asked for. */
export interface GetObjectOptions {
  /** The part of the content that is wanted: from `from`, to before `to`. Default: all of it. */
  readonly range?: { readonly from?: number; readonly to?: number };
  /** Told as pieces come. */
  readonly onProgress?: (progress: ObjectProgress) => void;
  /** Stops the download. */
  readonly signal?: AbortSignal;
}

/** An object on the relay. */
export interface StoredObject {
  /**
   * What other devices need to get and open it: the bytes of `syncrelay.sealed.v1.ObjectReference`.
   * They hold its key, so they belong into an entry, and nowhere that is not sealed.
   */
  readonly reference: Uint8Array;
  /** Its name at the relay: the hash of its ciphertext. */
  readonly objectId: string;
  /** How long the content is, in bytes. */
  readonly contentBytes: number;
  /** What the content is, as whoever put it said; empty where nobody did. */
  readonly contentType: string;
}

export class Objects {
  readonly #core: Core;
  readonly #inbox: Inbox;
  /** Names whose uploads are under way. */
  readonly #busy = new Set<string>();

  constructor(core: Core, inbox: Inbox) {
    this.#core = core;
    this.#inbox = inbox;
  }

  async put(content: ObjectContent, options: PutObjectOptions = {}): Promise<StoredObject> {
    const { name, contentType = "", signal } = options;
    const source = sourceOf(content);
    if (!fitsUtf8(contentType, contentTypeBytesMax)) {
      throw new UsageError(`a content type has at most ${contentTypeBytesMax} bytes`);
    }
    if (name !== undefined && (name === "" || !fitsUtf8(name, nameBytesMax))) {
      throw new UsageError(`the name of an upload has 1 to ${nameBytesMax} bytes`);
    }
    if (name !== undefined && this.#busy.has(name)) {
      throw new UsageError("an object of that name is being put already");
    }
    if (name !== undefined) this.#busy.add(name);
    try {
      const outline = await this.#begin(source, name, signal);
      await this.send(source, outline, options);
      if (name !== undefined) await this.#finish(name, outline);
      return this.#stored(outline, contentType);
    } finally {
      if (name !== undefined) this.#busy.delete(name);
    }
  }

  /** Sends what was outlined, however often it takes. */
  async send(
    source: ObjectSource,
    outline: Outline,
    options: {
      readonly signal?: AbortSignal | undefined;
      readonly onProgress?: PutObjectOptions["onProgress"] | undefined;
      readonly snapshotPart?: boolean;
    },
  ): Promise<void> {
    const { signal, onProgress, snapshotPart = false } = options;
    await sendObject(source, outline, {
      groupId: this.#core.groupId,
      wait: new SessionWait(this.#core, this.#inbox, signal),
      signal,
      progress: (progress) => onProgress?.(progress),
      snapshotPart,
    });
  }

  get(reference: Uint8Array, options: GetObjectOptions = {}): AsyncIterable<Uint8Array> {
    const opened = decodeReference(reference);
    const { contentBytes } = opened;
    const { from = 0, to = contentBytes } = options.range ?? {};
    if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || to < from) {
      throw new UsageError("a range begins at or above 0, and ends behind where it begins");
    }
    const range = { from: Math.min(from, contentBytes), to: Math.min(to, contentBytes) };
    return receiveObject(opened, range, {
      groupId: this.#core.groupId,
      wait: new SessionWait(this.#core, this.#inbox, options.signal),
      progress: (progress) => options.onProgress?.(progress),
    });
  }

  async drop(object: Uint8Array | string): Promise<void> {
    const objectId =
      typeof object === "string" ? parseId(object, hashBytes) : decodeReference(object).objectId;
    if (objectId === undefined) throw new UsageError("that is no object's id");
    await this.release(objectId);
    await this.#core.disk.write(async (tx) => {
      for (const { key, value } of await tx.range("objects", uploads.from, uploads.to)) {
        if (equalBytes(decodeUpload(value).objectId, objectId)) tx.delete("objects", key);
      }
    });
  }

  async release(objectId: Uint8Array, signal?: AbortSignal): Promise<void> {
    const wait = new SessionWait(this.#core, this.#inbox, signal);
    await wait.run((session) => releaseObject(session, objectId));
  }

  /**
   * The outline of a content: under the key it was begun with where it is the same, else under a key of
   * its own, which is on disk before anything is sent.
   */
  async #begin(
    source: ObjectSource,
    name: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Outline> {
    const { disk, host, groupId } = this.#core;
    const begun = name === undefined ? undefined : await this.#begun(name);
    if (begun !== undefined) {
      const outline = await outlineOf(source, begun.key, groupId, signal);
      if (equalBytes(outline.objectId, begun.objectId)) return outline;
    }
    const outline = await outlineOf(source, host.random(objectKeyBytes), groupId, signal);
    if (name !== undefined) {
      await disk.write(async (tx) => {
        const rows = await tx.range("objects", uploads.from, uploads.to);
        const states = rows.map(({ key, value }) => ({ key, state: decodeUpload(value) }));
        const numbers = states.map(({ state }) => Number(state.number));
        tx.put("objects", uploads.from + name, encodeUpload(outline, 1 + Math.max(0, ...numbers)));
        const done = states
          .filter(({ state }) => state.complete)
          .toSorted((a, b) => Number(b.state.number - a.state.number));
        for (const { key } of done.slice(doneKept)) tx.delete("objects", key);
      });
      // What was under this name is nobody's any more, unless it was finished and given out.
      if (begun !== undefined && !begun.complete) {
        this.release(begun.objectId, signal).catch((error: unknown) => {
          if (!(error instanceof SyncError) && signal?.aborted !== true) throw error;
        });
      }
    }
    return outline;
  }

  #begun(name: string): Promise<UploadState | undefined> {
    return this.#core.disk.write(async (tx) => {
      const bytes = await tx.get("objects", uploads.from + name);
      return bytes === undefined ? undefined : decodeUpload(bytes);
    });
  }

  async #finish(name: string, outline: Outline): Promise<void> {
    await this.#core.disk.write(async (tx) => {
      const bytes = await tx.get("objects", uploads.from + name);
      if (bytes === undefined) return;
      const state = decodeUpload(bytes);
      if (state.complete || !equalBytes(state.objectId, outline.objectId)) return;
      tx.put("objects", uploads.from + name, encodeUpload(outline, Number(state.number), true));
    });
  }

  #stored(outline: Outline, contentType: string): StoredObject {
    const { objectId, key } = outline;
    const { contentBytes } = outline.layout;
    return {
      reference: encodeReference({ objectId, key, contentBytes, contentType }),
      objectId: idText(objectId),
      contentBytes,
      contentType,
    };
  }
}

/** What a reference says, for an app that shows it. Throws OPEN_FAILED where the bytes are none. */
export function describeReference(reference: Uint8Array): StoredObject {
  const { objectId, contentBytes, contentType } = decodeReference(reference);
  return { reference, objectId: idText(objectId), contentBytes, contentType };
}

const uploads = { from: "upload/", to: "upload0" } as const;

function encodeUpload(outline: Outline, number: number, complete = false): Uint8Array {
  return toBinary(
    UploadStateSchema,
    create(UploadStateSchema, {
      key: outline.key,
      objectId: outline.objectId,
      contentBytes: BigInt(outline.layout.contentBytes),
      number: BigInt(number),
      complete,
    }),
  );
}

function decodeUpload(bytes: Uint8Array): UploadState {
  return decode(() => fromBinary(UploadStateSchema, bytes));
}
