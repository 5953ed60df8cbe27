/**
 * Takes a snapshot over: the app gets its content, and the log goes on behind it.
 *
 *     shown by the relay ──▶ opened, verified ──▶ held against what is known ──▶ parts, to the app
 *         ──▶ places, read cursor and position, in one transaction
 *
 * Outlives connections: what an app has begun to take over is gone on with on the next session.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type { Snapshot } from "../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { Core } from "./core.ts";
import { isMissing, receiveObject } from "./object-transfer.ts";
import type { OpenedSnapshot } from "./seal/snapshot.ts";
import { SessionWait } from "./session-wait.ts";
import { askSnapshot, openShown } from "./snapshot-exchange.ts";
import { contains } from "./snapshot-frontier.ts";
import { healedBy } from "./snapshot-healing.ts";
import type { SnapshotParts } from "./snapshot-parts.ts";
import { StateStoreError } from "./state-store.ts";

/** What a snapshot stands for in the order of entries. */
export interface RestorePoint {
  /**
   * The position of the state as a whole: an app that keeps its position stores this one with it.
   * Higher than that of every entry it was handed before.
   */
  readonly position: number;
  /** The device that made it. */
  readonly author: string;
  /** It contains everything up to this cursor. */
  readonly replacesThrough: number;
}

/**
 * How an app takes a state over: in place of its own. What iterating throws passes through, and
 * nothing of what came before may stay. May be called again with the same state, after a crash.
 */
export type RestoreFunction = (
  content: AsyncIterable<Uint8Array>,
  point: RestorePoint,
) => void | Promise<void>;

export class SnapshotLoader {
  readonly #core: Core;
  readonly #parts: SnapshotParts;
  readonly #restore: RestoreFunction | undefined;
  #loading: { readonly id: string; readonly done: Promise<boolean> } | undefined;

  constructor(parts: SnapshotParts, restore: RestoreFunction | undefined) {
    this.#core = parts.core;
    this.#parts = parts;
    this.#restore = restore;
  }

  get able(): boolean {
    return this.#restore !== undefined;
  }

  /**
   * Takes over what the relay shows in place of the log's beginning. False where it cannot be
   * believed, or the app did not take it over: the app was told, and nothing has moved.
   */
  async take(shown: Snapshot): Promise<boolean> {
    const before = this.#core.log.read;
    let opened: OpenedSnapshot | undefined;
    try {
      opened = await openShown(this.#core, this.#parts.group, shown);
      // A pull that begins below what is replaced shows what replaces it.
      if (opened === undefined) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    } catch (error) {
      this.refused(error, before);
      return false;
    }
    return await this.load(opened);
  }

  /** Takes over a snapshot that was opened; whoever asks for the same one meanwhile shares it. */
  load(opened: OpenedSnapshot): Promise<boolean> {
    const id = idText(opened.id);
    if (this.#loading?.id === id) return this.#loading.done;
    const earlier = this.#loading?.done ?? Promise.resolve(true);
    const done = earlier.then(() => this.#load(opened));
    const loading = { id, done };
    this.#loading = loading;
    const end = (): void => {
      if (this.#loading === loading) this.#loading = undefined;
    };
    done.then(end, end);
    return done;
  }

  async #load(opened: OpenedSnapshot): Promise<boolean> {
    const core = this.#core;
    const { log } = core;
    const { replacesThrough: cursor, link, frontier } = opened;
    const { logId } = log;
    const ahead = cursor > log.read;
    // Taken over by an earlier session, which ended before it could say so.
    const wrong =
      this.#parts.refusals.count > 0 ||
      core.findings.some((finding) => healedBy(finding, { logId, cursor, frontier }));
    if (!ahead && !wrong) return true;
    // Of a log that changed, what was verified before is still to be read once more.
    const changed = core.changes.rereading.size > 0;
    if (ahead && changed && contains(log.senders, frontier)) {
      // Read before the relay's log changed: nothing older is put over it.
      await this.#parts.reader.replaced({
        logId,
        cursor,
        link,
        senders: undefined,
        position: undefined,
      });
      return true;
    }
    if (ahead && !changed && !contains(frontier, log.senders)) {
      const hint = "the snapshot lacks, or contradicts, what this device has verified";
      this.refused(new SyncError(ErrorCode.HISTORY_ALTERED, { hint }), log.read, opened);
      return false;
    }
    if (this.#restore === undefined) {
      core.events.emit("gap", { from: log.read + 1, through: cursor });
      await this.#parts.reader.replaced({
        logId,
        cursor,
        link,
        senders: frontier,
        position: undefined,
      });
      return true;
    }
    const release = this.#parts.inbox.hold();
    let missing = false;
    try {
      const position = log.position + 1;
      const content = this.content(opened, undefined, () => {
        missing = true;
      });
      await this.#restore(content, {
        position,
        author: idText(opened.author),
        replacesThrough: cursor,
      });
      await this.#parts.reader.replaced({ logId, cursor, link, senders: frontier, position });
      return true;
    } catch (error) {
      const newer = missing ? await this.#newer(opened) : undefined;
      if (newer === undefined) {
        this.refused(error, log.read, opened);
        return false;
      }
      opened = newer;
    } finally {
      release();
    }
    return await this.#load(opened);
  }

  /** What took a snapshot's place while it was taken over, and its parts went with it. */
  async #newer(opened: OpenedSnapshot): Promise<OpenedSnapshot | undefined> {
    const core = this.#core;
    try {
      const wait = new SessionWait(core, this.#parts.inbox, undefined);
      const shown = await wait.run((session) => askSnapshot(session, { unconfirmed: false }));
      const newer = await openShown(core, this.#parts.group, shown);
      // A relay that goes on so must show ever more.
      const isNewer = (newer?.replacesThrough ?? 0) > opened.replacesThrough;
      return isNewer ? newer : undefined;
    } catch (error) {
      if (error instanceof SyncError) return undefined;
      throw error;
    }
  }

  /**
   * The parts, one after another; each verified chunk by chunk and as a whole. `missing` is told where
   * the relay does not have one, whatever becomes of the error on its way through the app.
   */
  async *content(
    opened: OpenedSnapshot,
    signal?: AbortSignal,
    missing: () => void = () => undefined,
  ): AsyncGenerator<Uint8Array> {
    const core = this.#core;
    const wait = new SessionWait(core, this.#parts.inbox, signal);
    try {
      for (const { objectId, key, contentBytes } of opened.parts) {
        yield* receiveObject(
          { objectId, key, contentBytes, contentType: "" },
          { from: 0, to: contentBytes },
          { groupId: core.groupId, wait, progress: () => undefined },
        );
      }
    } catch (error) {
      if (isMissing(error)) missing();
      throw error;
    }
  }

  /** Tells the app why a snapshot was not taken over. */
  refused(error: unknown, readThrough: number, opened?: OpenedSnapshot): void {
    const core = this.#core;
    if (error instanceof StateStoreError) {
      if (error.problem !== "closed") core.failed(error);
      return;
    }
    if (!(error instanceof SyncError)) {
      core.failed(
        new StateStoreError("unavailable", "the app did not take over a snapshot", error),
      );
      return;
    }
    if (error.code < 800 && error.code !== ErrorCode.NOT_A_MEMBER) {
      // Nothing was found wrong: the road, or the client was closed.
      core.failed(error);
      return;
    }
    core.findings.found({
      kind: FindingKind.SNAPSHOT_FORGED,
      error,
      ...(opened === undefined ? {} : { sender: opened.author }),
    });
    const through = opened?.replacesThrough ?? this.#parts.reader.replacedThrough;
    if (through > readThrough) core.events.emit("gap", { from: readThrough + 1, through });
  }

  /** Whether a snapshot is of the log that this device reads. */
  ofThisLog(opened: OpenedSnapshot): boolean {
    return equalBytes(opened.logId, this.#core.log.logId);
  }
}
