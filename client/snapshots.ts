/**
 * When a device makes, confirms and takes over snapshots: one device at a time makes one, when the
 * relay asks for it, and another one confirms it. Each waits for a while that chance decides, and
 * looks again: nearly always somebody else has done it by then.
 */

import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type { Notify } from "../gen/syncrelay/sync/v1/log_pb.ts";
import type { GroupWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { SnapshotUrgency } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import { isMissing } from "./object-transfer.ts";
import { type OpenedSnapshot, signConfirmation } from "./seal/snapshot.ts";
import { SessionWait } from "./session-wait.ts";
import { askSnapshot, confirmSnapshot, isStillShown, openShown } from "./snapshot-exchange.ts";
import { agrees, placesAt } from "./snapshot-frontier.ts";
import { healedBy } from "./snapshot-healing.ts";
import { type RestoreFunction, SnapshotLoader } from "./snapshot-loader.ts";
import { type SnapshotFunction, type SnapshotMade, SnapshotMaker } from "./snapshot-maker.ts";
import type { SnapshotParts } from "./snapshot-parts.ts";
import { StateStoreError } from "./state-store.ts";

/** The longest a device waits before it makes one that is wanted, in milliseconds. */
const makeLowMsMax = 10 * 60_000;
const makeHighMsMax = 30_000;
/** The longest a device waits before it confirms one, in milliseconds. */
const confirmMsMax = 30_000;
/** After something went wrong, in milliseconds. */
const againMs = 5 * 60_000;
/** Snapshots of others that are looked at, one behind another. */
const lookedAtMax = 16;

/** What an app offers, so that the log need not keep everything for ever. */
export interface SnapshotOptions {
  /**
   * Gives the app's state, as of the turn in which it is called: bytes, a promise of them, or what
   * yields them from a view of that moment. It is called when every entry that was handed out is
   * acknowledged, and no entry is handed out until what it returns has resolved.
   */
  readonly snapshot?: SnapshotFunction;
  /**
   * Takes another device's state over, in place of the app's own: where this device joined late, or
   * was away while the beginning of the log was let go. What this device has queued comes back as
   * entries once it is pushed. Without it, the app is told of a `gap` instead.
   */
  readonly restore?: RestoreFunction;
}

type Task = "look" | "confirm" | "make";

export class Snapshots {
  readonly #core: Core;
  readonly #parts: SnapshotParts;
  readonly #maker: SnapshotMaker;
  readonly #loader: SnapshotLoader;
  #session: Connection | undefined;
  #urgency: SnapshotUrgency = SnapshotUrgency.UNSPECIFIED;
  #unconfirmed = false;
  /** The relay's effective snapshot is one that this device cannot believe. */
  #lacking = false;
  /** The effective snapshot was looked at that replaces so much. */
  #lookedAt = 0;
  /** An own one waits for its confirmation: no other one is made. */
  #waiting = false;
  /** Those of others that did not hold, by the text of their ids. */
  readonly #refused = new Set<string>();
  #timer: { readonly task: Task; readonly cancel: () => void } | undefined;
  #busy = false;
  #notBeforeMs = 0;

  constructor(parts: SnapshotParts, options: SnapshotOptions) {
    this.#core = parts.core;
    this.#parts = parts;
    this.#loader = new SnapshotLoader(parts, options.restore);
    this.#maker = new SnapshotMaker(parts, { snapshot: options.snapshot });
  }

  get loader(): SnapshotLoader {
    return this.#loader;
  }

  /** Makes one because the app asks for it. */
  async make(signal?: AbortSignal): Promise<SnapshotMade | undefined> {
    return await this.#maker.make(signal);
  }

  begin(session: Connection, welcome: GroupWelcome): void {
    this.#session = session;
    this.#lookedAt = 0;
    this.#waiting = false;
    this.#lacking = false;
    this.#notBeforeMs = 0;
    this.#urgency = welcome.urgency;
    this.#unconfirmed = welcome.unconfirmed;
    this.check();
  }

  told(notify: Notify): void {
    this.#urgency = notify.urgency;
    this.#unconfirmed = notify.unconfirmed;
    const replacedThrough = toNumber(notify.replacedThrough);
    if (replacedThrough > this.#parts.reader.replacedThrough) {
      this.#waiting = false;
      this.#notBeforeMs = 0;
    }
    this.#parts.reader.replacedBy(replacedThrough);
    this.check();
  }

  end(): void {
    this.#session = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Something moved: there may be something to do now. */
  check(): void {
    if (this.#session === undefined || this.#busy) return;
    const task = this.#task();
    if (this.#timer?.task === task) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (task === undefined) return;
    const { host } = this.#core;
    const waitMs = host.uniform() * this.#spreadMs(task);
    const cancel = host.setTimer(Math.max(waitMs, this.#notBeforeMs - host.monotonicMs()), () => {
      this.#timer = undefined;
      this.#begin();
    });
    this.#timer = { task, cancel };
  }

  /** A new one is needed, whether the relay wants it or not: what this device cannot push again is in none. */
  get #missed(): boolean {
    return this.#lacking || this.#parts.outbox.lacks;
  }

  /** What is to be done, if anything; not while this device is behind, or holds what was refused. */
  #task(): Task | undefined {
    const { reader } = this.#parts;
    if (!reader.caughtUp) return undefined;
    if (this.#lookedAt < reader.replacedThrough) return "look";
    const wanted =
      (this.#urgency !== SnapshotUrgency.UNSPECIFIED || this.#missed) &&
      this.#maker.able &&
      !this.#waiting &&
      this.#core.log.read > reader.replacedThrough;
    if (!wanted && !this.#unconfirmed) return undefined;
    const { hindrance } = this.#maker;
    if (hindrance === "refused" || hindrance === "behind") return undefined;
    if (this.#unconfirmed) return "confirm";
    return hindrance === undefined ? "make" : undefined;
  }

  #spreadMs(task: Task): number {
    switch (task) {
      case "look":
        return 1_000;
      case "confirm":
        return confirmMsMax;
      case "make":
        return this.#urgency === SnapshotUrgency.LOW && !this.#missed
          ? makeLowMsMax
          : makeHighMsMax;
    }
  }

  #begin(): void {
    const session = this.#session;
    const task = session === undefined ? undefined : this.#task();
    if (session === undefined || task === undefined) return;
    this.#busy = true;
    this.#do(session, task)
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#busy = false;
        this.check();
      });
  }

  async #do(session: Connection, task: Task): Promise<void> {
    switch (task) {
      case "look":
        await this.#look(session);
        return;
      case "confirm":
        await this.#confirm(session);
        return;
      case "make": {
        // Somebody else may have made one in the meantime.
        const other = await askSnapshot(session, { unconfirmed: true });
        this.#urgency = other.urgency;
        if (other.manifest.byteLength > 0 && (await this.#isGood(other))) {
          this.#unconfirmed = true;
          return;
        }
        if ((await this.#maker.waiting()) === undefined && this.#task() === "make") {
          await this.#maker.make();
        }
        this.#waiting = (await this.#maker.waiting()) !== undefined;
      }
    }
  }

  /** The effective snapshot: what it says of this device's own entries, and of what was refused here. */
  async #look(session: Connection): Promise<void> {
    const { reader, refusals, inbox, outbox } = this.#parts;
    const core = this.#core;
    const through = reader.replacedThrough;
    const shown = await askSnapshot(session, { unconfirmed: false });
    this.#lookedAt = through;
    let opened: OpenedSnapshot | undefined;
    try {
      opened = await openShown(core, this.#parts.group, shown);
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      this.#lacking = true;
      if (error.code !== ErrorCode.NOT_A_MEMBER) this.#tell(error, undefined);
      return;
    }
    if (opened === undefined) return;
    const own = opened.frontier.get(core.deviceText);
    const mine = equalBytes(opened.author, core.keys.deviceId);
    // The relay's word that it is effective is not enough to forget what only this device still has.
    if (own !== undefined && (mine || opened.confirmed)) {
      outbox.coveredBy(own.seq);
      // Entries that were delivered without their bodies are opened from what is forgotten here: it goes
      // only where all that was read is applied, and that is on disk.
      await inbox.settled();
      const read = core.log.senders.get(core.deviceText)?.seq ?? 0;
      if (inbox.count === 0) await outbox.forget({ ...own, seq: Math.min(own.seq, read) });
    }
    const { replacesThrough: cursor, frontier } = opened;
    core.findings.healed(
      (finding) => finding.kind === FindingKind.SNAPSHOT_FORGED && finding.cursor <= cursor,
    );
    if (!opened.confirmed || mine || !this.#loader.able) return;
    const at = { logId: core.log.logId, cursor, frontier };
    const heals =
      (refusals.first !== undefined && refusals.first <= cursor) ||
      core.findings.some((finding) => healedBy(finding, at));
    if (heals) reader.takeUp(session, shown);
  }

  /** Opens all of another device's snapshot, and says so where its frontier is right. */
  async #confirm(session: Connection): Promise<void> {
    const core = this.#core;
    let before: Uint8Array | undefined;
    for (let looked = 0; looked < lookedAtMax; looked++) {
      const of = { unconfirmed: true, ...(before === undefined ? {} : { before }) };
      const shown = await askSnapshot(session, of);
      let opened: OpenedSnapshot | undefined;
      try {
        opened = await openShown(core, this.#parts.group, shown);
        if (opened === undefined) break;
        before = opened.id;
        if (this.#refused.has(idText(opened.id))) continue;
        // One that is ahead of this device is looked at again once it has read as much.
        if (opened.replacesThrough > core.log.read) return;
        await this.#check(opened);
      } catch (error) {
        if (!(error instanceof SyncError) || !session.open) throw error;
        if (error.code < 800 && error.code !== ErrorCode.NOT_A_MEMBER) throw error;
        if (opened === undefined) {
          // What does not open has no place among the others: nothing behind it is looked for. One whose
          // author was removed since, or is not yet known here, is only left alone.
          if (error.code !== ErrorCode.NOT_A_MEMBER) this.#tell(error, undefined);
          break;
        }
        // A newer one may have taken its place meanwhile, and its parts went with it.
        if (isMissing(error) && !(await isStillShown(session, opened, of))) {
          before = of.before;
          continue;
        }
        this.#refused.add(idText(opened.id));
        this.#tell(error, opened);
        continue;
      }
      const signature = signConfirmation(core.keys, core.groupId, opened.id);
      // Opening it may have outlived the session.
      const { id } = opened;
      await this.#wait().run((now) => confirmSnapshot(now, id, signature));
      break;
    }
    this.#unconfirmed = false;
  }

  /** Throws where a snapshot is not what this device, in its author's place, could have made. */
  async #check(opened: OpenedSnapshot): Promise<void> {
    const core = this.#core;
    const { reader } = this.#parts;
    const { replacesThrough, link, frontier } = opened;
    const altered = (hint: string): SyncError => new SyncError(ErrorCode.HISTORY_ALTERED, { hint });
    if (!this.#loader.ofThisLog(opened)) throw altered("the snapshot is of another log");
    const { senders } = core.log;
    const places = await placesAt(core, reader, replacesThrough, link);
    const known = {
      places,
      senders,
      linkOf: (sender: string, seq: number) => reader.linkOf(sender, seq),
    };
    if (!agrees(frontier, known)) {
      throw altered("the snapshot does not contain what it should, or something else");
    }
    for await (const piece of this.#loader.content(opened)) void piece;
  }

  #wait(): SessionWait {
    return new SessionWait(this.#core, this.#parts.inbox, undefined);
  }

  /** Whether another device's snapshot is worth a confirmation, rather than one of this device's own. */
  async #isGood(shown: Parameters<typeof openShown>[2]): Promise<boolean> {
    try {
      const opened = await openShown(this.#core, this.#parts.group, shown);
      return opened !== undefined && !this.#refused.has(idText(opened.id));
    } catch (error) {
      if (error instanceof SyncError) return false;
      throw error;
    }
  }

  /** Tells the app what another device, or the relay, tried. */
  #tell(error: SyncError, opened: OpenedSnapshot | undefined): void {
    this.#core.found({
      kind: FindingKind.SNAPSHOT_FORGED,
      error,
      ...(opened === undefined ? {} : { sender: opened.author, cursor: opened.replacesThrough }),
    });
  }

  #failed(error: unknown): void {
    this.#notBeforeMs = this.#core.host.monotonicMs() + againMs;
    if (error instanceof SyncError) {
      // No session, no room, or a relay without snapshots: it is tried again later.
      return;
    }
    if (error instanceof StateStoreError) {
      if (error.problem !== "closed") this.#core.failed(error);
      return;
    }
    this.#core.failed(
      new StateStoreError("unavailable", "the app did not give its state for a snapshot", error),
    );
  }
}
