/**
 * Makes a snapshot: of the app's state at a moment at which it contains exactly what this device has
 * read and verified.
 *
 *     all read, all acknowledged, nothing queued ──▶ the app is asked ──▶ parts, stored as objects
 *         ──▶ manifest: what it replaces, what it contains ──▶ stored, and another device confirms it
 *
 * The frontier is taken in the turn in which the app is asked. Until it has answered, no further entry
 * is handed out: an app that returns bytes, or a promise of them, is asked for its state of one moment.
 */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import {
  type OwnSnapshotState,
  OwnSnapshotStateSchema,
} from "../gen/syncrelay/state/v1/state_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText } from "../wire/ids.ts";
import { snapshotPartsMax } from "../wire/limits.ts";
import type { Core } from "./core.ts";
import { decode } from "./disk.ts";
import { sourceOf } from "./object-source.ts";
import { outlineOf } from "./object-transfer.ts";
import type { ChainPlace } from "./seal/blob.ts";
import { objectKeyBytes } from "./seal/object.ts";
import { type SnapshotContent, type SnapshotPart, sealSnapshot } from "./seal/snapshot.ts";
import { SessionWait } from "./session-wait.ts";
import { storeSnapshot } from "./snapshot-exchange.ts";
import type { SnapshotParts } from "./snapshot-parts.ts";
import { UsageError } from "./usage-error.ts";

/** Content of one part: as much as is held in memory at once. */
const partBytes = 4 * 1024 * 1024;

/** A state, as an app gives it: whole, or in pieces of any size. */
export type SnapshotData = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** When an app is asked for its state. */
export interface SnapshotPoint {
  /** The state contains the entry of this position, and all before it, and none behind it. */
  readonly position: number;
}

/** How an app gives its state. */
export type SnapshotFunction = (point: SnapshotPoint) => SnapshotData | Promise<SnapshotData>;

/** A snapshot that the relay has. */
export interface SnapshotMade {
  /** Its name: the hash of its manifest. */
  readonly snapshotId: string;
  /** It contains everything up to this cursor. */
  readonly replacesThrough: number;
  /** Objects that hold it. */
  readonly parts: number;
  /** The app's state in it, in bytes. */
  readonly bytes: number;
}

/** What a snapshot claims, fixed when the app was asked. */
type Claimed = Omit<SnapshotContent, "parts">;

export interface MakerOptions {
  readonly snapshot: SnapshotFunction | undefined;
}

export class SnapshotMaker {
  readonly #core: Core;
  readonly #parts: SnapshotParts;
  readonly #options: MakerOptions;
  #making: Promise<SnapshotMade | undefined> | undefined;

  constructor(parts: SnapshotParts, options: MakerOptions) {
    this.#core = parts.core;
    this.#parts = parts;
    this.#options = options;
  }

  get able(): boolean {
    return this.#options.snapshot !== undefined;
  }

  /** Why no snapshot can be made as it stands; undefined where one can. */
  get hindrance(): "behind" | "unapplied" | "queued" | "refused" | undefined {
    const { inbox, outbox, reader, refusals } = this.#parts;
    const { core } = this.#parts;
    // What others made, and was not believed, says nothing of what this device holds.
    const found = core.findings.some(({ kind }) => kind !== FindingKind.SNAPSHOT_FORGED);
    if (refusals.count > 0 || found || reader.missesClosing) return "refused";
    if (!reader.caughtUp || core.log.read === 0 || core.log.senders.size === 0) return "behind";
    if (inbox.count > 0) return "unapplied";
    // A full group takes no push until there is a snapshot; anything else in the queue will be pushed.
    const full = outbox.held?.code === ErrorCode.QUOTA_EXCEEDED;
    return outbox.busy || (outbox.queued > 0 && !full) ? "queued" : undefined;
  }

  /**
   * Makes one; the same one for everybody who asks meanwhile. Undefined where the relay has what
   * replaces as much by now. Waits until it can be made.
   */
  make(signal?: AbortSignal): Promise<SnapshotMade | undefined> {
    this.#making ??= this.#make(signal).finally(() => {
      this.#making = undefined;
    });
    return this.#making;
  }

  async #make(signal: AbortSignal | undefined): Promise<SnapshotMade | undefined> {
    const { snapshot } = this.#options;
    if (snapshot === undefined) {
      throw new UsageError("this client was opened without a `snapshot` function");
    }
    const { inbox, objects } = this.#parts;
    const wait = new SessionWait(this.#core, inbox, signal);
    const begun = await wait.until(() => this.#begin(snapshot));
    if (begun === "covered") return undefined;
    const { claimed } = begun;
    let data: SnapshotData;
    try {
      data = await begun.data;
    } finally {
      begun.release();
    }
    const parts: SnapshotPart[] = [];
    let bytes = 0;
    for await (const content of inParts(data)) {
      if (parts.length === snapshotPartsMax) throw new SyncError(ErrorCode.TOO_LARGE);
      const source = sourceOf(content);
      const key = this.#core.host.random(objectKeyBytes);
      const outline = await outlineOf(source, key, this.#core.groupId, signal);
      await objects.send(source, outline, { signal, snapshotPart: true });
      parts.push({ objectId: outline.objectId, key, contentBytes: content.byteLength });
      bytes += content.byteLength;
    }
    return await this.#store({ ...claimed, parts }, bytes, signal);
  }

  /** Asks the app, in the turn in which it is fixed what its state contains. Undefined: not yet. */
  #begin(snapshot: SnapshotFunction):
    | {
        readonly claimed: Claimed;
        readonly data: SnapshotData | Promise<SnapshotData>;
        readonly release: () => void;
      }
    | "covered"
    | undefined {
    const claimed = this.#claims();
    if (claimed === undefined) return undefined;
    if (claimed.replacesThrough <= this.#parts.reader.replacedThrough) return "covered";
    const release = this.#parts.inbox.hold();
    try {
      const data = snapshot({ position: this.#core.log.position });
      return { claimed, data, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** What a snapshot made now contains; undefined where none can be made yet. */
  #claims(): Claimed | undefined {
    const { session, log, chain } = this.#core;
    const { hindrance } = this;
    if (hindrance === "refused" && session !== undefined) {
      throw new SyncError(ErrorCode.HISTORY_ALTERED, {
        hint: "a device that holds refused entries or findings makes no snapshot",
      });
    }
    if (session === undefined || hindrance !== undefined) return undefined;
    if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
    const frontier = new Map<string, ChainPlace>(log.senders);
    return {
      logId: log.logId,
      replacesThrough: log.read,
      link: log.link,
      frontier,
      membership: chain.version,
    };
  }

  async #store(
    content: SnapshotContent,
    bytes: number,
    signal: AbortSignal | undefined,
  ): Promise<SnapshotMade | undefined> {
    const core = this.#core;
    const { keys, host, disk } = core;
    const wait = new SessionWait(core, this.#parts.inbox, signal);
    return await wait.run(async (session) => {
      const { chain, log } = core;
      if (chain === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
      // A restored relay: the cursor it replaces means nothing there.
      if (!equalBytes(log.logId, content.logId)) return undefined;
      // The relay takes none that replaces more than its author applied.
      await session.request({ case: "ack", value: { applied: BigInt(content.replacesThrough) } });
      const sealed = sealSnapshot(content, { chain, keys, random: host.random });
      const snapshotId = blake2b256(sealed.manifest);
      const state = create(OwnSnapshotStateSchema, {
        logId: content.logId,
        snapshotId,
        replacesThrough: BigInt(content.replacesThrough),
      });
      try {
        await storeSnapshot(session, sealed);
      } catch (error) {
        // Another one replaces as much already: there is nothing left to do.
        if (error instanceof SyncError && error.code === ErrorCode.LINK_CONFLICT) return undefined;
        throw error;
      }
      // Only once the relay has it: one that found no room is not waited for.
      await disk.write((tx) =>
        tx.put("log", ownSnapshotKey, toBinary(OwnSnapshotStateSchema, state)),
      );
      return {
        snapshotId: idText(snapshotId),
        replacesThrough: content.replacesThrough,
        parts: content.parts.length,
        bytes,
      };
    });
  }

  /** The own snapshot that the relay may still wait with; undefined where there is none. */
  async waiting(): Promise<OwnSnapshotState | undefined> {
    const { disk, log } = this.#core;
    const bytes = await disk.write((tx) => tx.get("log", ownSnapshotKey));
    if (bytes === undefined) return undefined;
    const state = decode(() => fromBinary(OwnSnapshotStateSchema, bytes));
    const done = Number(state.replacesThrough) <= this.#parts.reader.replacedThrough;
    return done || !equalBytes(state.logId, log.logId) ? undefined : state;
  }
}

const ownSnapshotKey = "snapshot";

/** Content in parts: whole ones but for the last; one that is empty where there is nothing at all. */
async function* inParts(data: SnapshotData): AsyncGenerator<Uint8Array> {
  const pieces = data instanceof Uint8Array ? [data] : data;
  // Most snapshots are a small part of one part.
  const bytes = data instanceof Uint8Array ? Math.min(partBytes, data.byteLength) : partBytes;
  let part = new Uint8Array(bytes);
  let filled = 0;
  let any = false;
  for await (const piece of pieces) {
    for (let rest = piece; rest.byteLength > 0; ) {
      if (filled === partBytes) {
        yield part;
        any = true;
        part = new Uint8Array(bytes);
        filled = 0;
      }
      const taken = rest.subarray(0, partBytes - filled);
      part.set(taken, filled);
      filled += taken.byteLength;
      rest = rest.subarray(taken.byteLength);
    }
  }
  if (filled > 0 || !any) yield part.subarray(0, filled);
}
