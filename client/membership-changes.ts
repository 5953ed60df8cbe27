/**
 * Changes to the group that a person or the age of an epoch asks for: removals, rotations, another
 * name, a recovery phrase. What was asked for is kept as what is wanted, not as a control blob: each
 * try is built on the chain of that moment, so that a lost answer, a restart and another member's
 * change all come to the same thing. It is looked at again, and done only if it still makes sense.
 *
 *     asked ──▶ kept ──▶ built on the chain ──▶ submitted ──▶ in the chain: asked no more
 *                           ▲                      │
 *                           └── pulled, or read up to a closing ◀── MEMBERSHIP_CONFLICT
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { RotationReason } from "../gen/syncrelay/sealed/v1/membership_pb.ts";
import { PendingChangesSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import type { ChangeMembership } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { equalBytes, u64be } from "../wire/bytes.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { deviceIdBytes, idText, parseId, zeroLink } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import { decode } from "./disk.ts";
import type { Group, StatedClosing } from "./group.ts";
import { Retry } from "./retry.ts";
import type { ChainPlace } from "./seal/blob.ts";
import { removeDevices, rename, rotate } from "./seal/changes.ts";
import { type ControlChain, isMember } from "./seal/membership.ts";
import { endSession } from "./session-end.ts";
import type { StateTransaction } from "./state-store.ts";

/** How old an epoch becomes, in milliseconds by the clocks that people see. */
export const epochAgeMsMax = 90 * 24 * 60 * 60 * 1000;
/** Members' turns to renew an old epoch are spread over so long, in milliseconds. */
const epochSpreadMs = 24 * 60 * 60 * 1000;
/** The shortest wait before an epoch is renewed, in milliseconds: whoever is a moment faster spares it. */
const epochSoonMs = 2_000;
/** The longest wait set at once, in milliseconds: platforms' timers do not reach three months. */
const timerMsMax = 12 * 60 * 60 * 1000;
/** Tries in a row without an end. */
const conflictsMax = 32;
/** How long the last entries of a device that is removed are waited for, in milliseconds. */
const closingMsMax = 10_000;

type Kind = "removals" | "rotation" | "name" | "phrase";

/** Somebody who waits. */
interface Waiter {
  readonly kind: Kind;
  /** Whether what was asked for holds; an error where it cannot any more. */
  readonly holds: (chain: ControlChain) => boolean | SyncError;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** An addition that only this process can make. */
interface Phrase {
  readonly deviceId: Uint8Array;
  readonly make: (chain: ControlChain) => ChangeMembership;
}

/** What stands on disk. */
interface Wanted {
  readonly removals: ReadonlySet<string>;
  readonly rotateAbove: number;
  readonly name: string;
}

const nothing: Wanted = { removals: new Set(), rotateAbove: 0, name: "" };

export interface ChangesHooks {
  caughtUp(): boolean;
  /** A link that was read, where it is still known. */
  linkOf(device: string, seq: number): Uint8Array | undefined;
  /** Whether entries of a device are kept as refused. */
  refusedOf(device: string): boolean;
}

export class MembershipChanges {
  readonly #core: Core;
  readonly #group: Group;
  readonly #hooks: ChangesHooks;
  #wanted: Wanted = nothing;
  #phrase: Phrase | undefined;
  /** The epoch that is to be renewed for its age. */
  #aged = 0;
  readonly #waiters = new Set<Waiter>();
  #session: Connection | undefined;
  #running = false;
  #again = false;
  #cancelAge: (() => void) | undefined;
  readonly #retry: Retry;
  /** What the relay says a device has written, where it took no removal; never signed. */
  readonly #stated = new Map<string, ChainPlace>();
  readonly #reading = new Set<() => void>();

  constructor(core: Core, group: Group, hooks: ChangesHooks) {
    this.#core = core;
    this.#group = group;
    this.#hooks = hooks;
    this.#retry = new Retry(core.host);
  }

  /** Reads what an earlier process was asked for. */
  async load(tx: StateTransaction): Promise<void> {
    const bytes = await tx.get("device", "changes");
    if (bytes === undefined) return;
    const kept = decode(() => fromBinary(PendingChangesSchema, bytes));
    this.#wanted = {
      removals: new Set(kept.removals.map(idText)),
      rotateAbove: Number(kept.rotateAbove),
      name: kept.name,
    };
  }

  /** Whether something is asked for and not yet in the chain. */
  get pending(): boolean {
    return !isNothing(this.#wanted) || this.#phrase !== undefined;
  }

  /** Resolves once the chain says that all of them are removed. */
  async remove(deviceIds: readonly string[]): Promise<void> {
    await this.#want((wanted) => ({
      ...wanted,
      removals: new Set([...wanted.removals, ...deviceIds]),
    }));
    await this.#until("removals", (chain) =>
      deviceIds.every((id) => chain.devices.get(id)?.closing !== undefined),
    );
  }

  /** Resolves once an epoch above the one of now stands in the chain, whoever opened it. */
  async rotate(): Promise<void> {
    const above = this.#core.chain?.epoch ?? 0;
    await this.#want((wanted) => ({ ...wanted, rotateAbove: above }));
    await this.#until("rotation", (chain) => chain.epoch > above);
  }

  /** Resolves once the chain has the name. */
  async rename(name: string): Promise<void> {
    await this.#want((wanted) => ({ ...wanted, name }));
    await this.#until("name", (chain) =>
      // A later name took this one's place: it is as good as given.
      this.#wanted.name !== name ? true : chain.devices.get(this.#core.deviceText)?.name === name,
    );
  }

  /** Resolves once a phrase stands in the roster. Nothing of it is kept: it dies with the process. */
  async admit(phrase: Phrase): Promise<void> {
    if (this.#phrase !== undefined) throw new SyncError(ErrorCode.MEMBERSHIP_CONFLICT);
    this.#phrase = phrase;
    const id = idText(phrase.deviceId);
    try {
      await this.#until("phrase", (chain) => {
        const device = chain.devices.get(id);
        if (device?.closing !== undefined) return new SyncError(ErrorCode.DEVICE_REVOKED);
        return device !== undefined;
      });
    } finally {
      this.#phrase = undefined;
    }
  }

  /** A session stands, and the chain is where the relay is. */
  begin(session: Connection): void {
    this.#session = session;
    this.#retry.reset();
    this.#scheduleAge();
    this.#run();
  }

  end(): void {
    this.#session = undefined;
    this.#cancelAge?.();
    this.#cancelAge = undefined;
    this.#retry.cancel();
    this.read();
  }

  /** The chain is another one. */
  changed(): void {
    const { chain } = this.#core;
    if (chain === undefined) return;
    for (const waiter of this.#waiters) {
      const holds = waiter.holds(chain);
      if (holds === false) continue;
      this.#waiters.delete(waiter);
      if (holds === true) waiter.resolve();
      else waiter.reject(holds);
    }
    this.#scheduleAge();
    this.#run();
  }

  /** More of the log is read. */
  read(): void {
    for (const wake of this.#reading) wake();
  }

  /** Nobody needs to wait any longer. What was asked for stays on disk. */
  giveUp(error: unknown): void {
    this.end();
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  #until(kind: Kind, holds: Waiter["holds"]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.add({ kind, holds, resolve, reject });
      this.changed();
    });
  }

  /** Changes what is wanted: on disk first. */
  async #want(change: (wanted: Wanted) => Wanted): Promise<void> {
    await this.#core.disk.write(
      (tx) => {
        const wanted = change(this.#wanted);
        const next = isNothing(wanted) ? nothing : wanted;
        if (next === nothing) tx.delete("device", "changes");
        else tx.put("device", "changes", encode(next));
        return next;
      },
      (next) => {
        this.#wanted = next;
      },
    );
  }

  /** Forgets what the chain says already, and what can no longer be. */
  async #prune(chain: ControlChain): Promise<void> {
    const open = (wanted: Wanted): Wanted => {
      const removals = [...wanted.removals].filter((id) => {
        const device = chain.devices.get(id);
        return device !== undefined && device.closing === undefined;
      });
      const rotateAbove = chain.epoch > wanted.rotateAbove ? 0 : wanted.rotateAbove;
      const own = chain.devices.get(this.#core.deviceText)?.name;
      const name = wanted.name === own ? "" : wanted.name;
      const same =
        removals.length === wanted.removals.size &&
        rotateAbove === wanted.rotateAbove &&
        name === wanted.name;
      return same ? wanted : { removals: new Set(removals), rotateAbove, name };
    };
    if (open(this.#wanted) !== this.#wanted) await this.#want(open);
  }

  /** The next change on this chain, and whose it is; undefined where everything holds. */
  #next(
    chain: ControlChain,
  ): { readonly kind: Kind; readonly change: ChangeMembership } | undefined {
    const { keys, host } = this.#core;
    const at = { keys, random: host.random, nowMs: Math.floor(host.nowMs()) };
    const { removals, rotateAbove, name } = this.#wanted;
    const leaving = [...removals].flatMap((id) => {
      const deviceId = parseId(id, deviceIdBytes);
      return deviceId !== undefined && isMember(chain, deviceId) ? [{ deviceId, id }] : [];
    });
    if (leaving.length > 0) {
      const closings = leaving.map(({ deviceId, id }) => ({ deviceId, place: this.#closing(id) }));
      const change = removeDevices(chain, closings, at);
      // What the relay goes by, and nobody else: no part of what is signed.
      for (const closing of change.closings) {
        const stated = this.#stated.get(idText(closing.deviceId));
        if (stated === undefined || closing.position === undefined) continue;
        closing.position.seq = BigInt(stated.seq);
        closing.position.link = stated.link;
      }
      return { kind: "removals", change };
    }
    if (rotateAbove > 0 && chain.epoch <= rotateAbove) {
      return { kind: "rotation", change: rotate(chain, RotationReason.BY_HAND, at) };
    }
    if (name !== "" && chain.devices.get(this.#core.deviceText)?.name !== name) {
      return { kind: "name", change: rename(chain, name, at) };
    }
    const phrase = this.#phrase;
    if (phrase !== undefined && !chain.devices.has(idText(phrase.deviceId))) {
      return { kind: "phrase", change: phrase.make(chain) };
    }
    if (this.#aged === chain.epoch) {
      return { kind: "rotation", change: rotate(chain, RotationReason.BY_AGE, at) };
    }
    return undefined;
  }

  /**
   * Where a device that leaves is closed: at a place that was verified here, whatever the relay says.
   * A relay that was restored has less than was read; it closes there, if that place is known here.
   */
  #closing(id: string): ChainPlace {
    const { log, changes } = this.#core;
    const read = log.senders.get(id) ?? { seq: 0, link: zeroLink };
    const stated = this.#stated.get(id);
    if (stated === undefined || stated.seq >= read.seq || !changes.excuses(id)) return read;
    const link = stated.seq === 0 ? zeroLink : this.#hooks.linkOf(id, stated.seq);
    return link !== undefined && equalBytes(link, stated.link) ? stated : read;
  }

  #run(): void {
    if (this.#running) {
      this.#again = true;
      return;
    }
    if (this.#session === undefined) return;
    this.#running = true;
    this.#work()
      .catch((error: unknown) => endSession(this.#core, this.#session, error))
      .finally(() => {
        this.#running = false;
        if (this.#again) {
          this.#again = false;
          this.#run();
        }
      });
  }

  async #work(): Promise<void> {
    for (let conflicts = 0; ; ) {
      const session = this.#session;
      const { chain } = this.#core;
      if (session === undefined || chain === undefined) return;
      await this.#prune(chain);
      let kind: Kind | undefined;
      const attempt = await this.#group.attempt(session, (current) => {
        const next = this.#next(current);
        kind = next?.kind;
        return next?.change;
      });
      switch (attempt.kind) {
        case "nothing":
          return;
        case "accepted":
          conflicts = 0;
          this.#retry.reset();
          this.#stated.clear();
          continue;
        case "moved":
        case "closing":
          conflicts += 1;
          if (conflicts > conflictsMax) {
            await this.#refused(kind, new SyncError(ErrorCode.MEMBERSHIP_CONFLICT));
          } else if (attempt.kind === "closing") {
            await this.#readUpTo(attempt);
          }
          continue;
        case "refused":
          // Where the session is gone, the next one takes it up again.
          if (session !== this.#session || !session.open) return;
          if (errorRow(attempt.error.code).again === "later") {
            this.#retry.after(attempt.error.retryAfterMs, () => this.#run());
            return;
          }
          await this.#refused(kind, attempt.error);
      }
    }
  }

  /** The relay has more of a device than its remover has read: that is read first. */
  async #readUpTo({ place, deviceId: of }: StatedClosing): Promise<void> {
    const { removals } = this.#wanted;
    const [only] = removals.size === 1 ? removals : [];
    const named = idText(of);
    const id = removals.has(named) ? named : only;
    // Nobody who is to be removed: the next try tells.
    if (id === undefined) return;
    const there = (): boolean =>
      this.#session === undefined || (this.#core.log.senders.get(id)?.seq ?? 0) >= place.seq;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        cancel();
        this.#reading.delete(look);
        resolve();
      };
      const look = (): void => {
        if (there()) end();
      };
      const cancel = this.#core.host.setTimer(closingMsMax, end);
      this.#reading.add(look);
      look();
    });
    if (!this.#hooks.caughtUp()) return;
    // All that the relay shows is read, and more is claimed: entries that do not hold, or none at all.
    // The device is closed at what was verified, and the relay is told back what it said.
    this.#stated.set(id, place);
    const read = this.#core.log.senders.get(id)?.seq ?? 0;
    if (place.seq <= read || this.#hooks.refusedOf(id)) return;
    const deviceId = parseId(id, deviceIdBytes);
    this.#core.found({
      kind: FindingKind.DROPPED,
      error: new SyncError(ErrorCode.HISTORY_ALTERED, {
        hint: "the relay says that the device wrote more than it shows; it is closed at what was verified",
      }),
      ...(deviceId === undefined ? {} : { sender: deviceId }),
      seq: read + 1,
    });
  }

  /** The relay refused for good: whoever asked hears it, and it is not tried again. */
  async #refused(kind: Kind | undefined, error: SyncError): Promise<void> {
    let told = false;
    for (const waiter of this.#waiters) {
      if (waiter.kind !== kind) continue;
      this.#waiters.delete(waiter);
      waiter.reject(error);
      told = true;
    }
    if (!told) this.#core.failed(error);
    if (kind === "phrase") this.#phrase = undefined;
    this.#aged = 0;
    await this.#want((wanted) => ({
      removals: kind === "removals" ? new Set() : wanted.removals,
      rotateAbove: kind === "rotation" ? 0 : wanted.rotateAbove,
      name: kind === "name" ? "" : wanted.name,
    }));
  }

  /**
   * Sets the time at which this device would renew the epoch. Each member has its own moment within a
   * day, so that one does it and the others find it done; an epoch older than that is renewed by
   * whoever comes first.
   */
  #scheduleAge(): void {
    this.#cancelAge?.();
    this.#cancelAge = undefined;
    const { chain, host, keys } = this.#core;
    if (chain === undefined || this.#session === undefined || this.#aged === chain.epoch) return;
    const turn = (blake2b256(keys.deviceId, u64be(chain.epoch))[0] as number) / 256;
    const dueMs = chain.epochMadeMs + epochAgeMsMax + turn * epochSpreadMs;
    const waitMs = Math.max(dueMs - host.nowMs(), host.uniform() * epochSoonMs);
    const { epoch } = chain;
    this.#cancelAge = host.setTimer(Math.min(waitMs, timerMsMax), () => {
      this.#cancelAge = undefined;
      if (this.#core.chain?.epoch !== epoch) return;
      if (this.#core.host.nowMs() < dueMs) {
        this.#scheduleAge();
        return;
      }
      this.#aged = epoch;
      this.#run();
    });
  }
}

function isNothing({ removals, rotateAbove, name }: Wanted): boolean {
  return removals.size === 0 && rotateAbove === 0 && name === "";
}

function encode({ removals, rotateAbove, name }: Wanted): Uint8Array {
  return toBinary(
    PendingChangesSchema,
    create(PendingChangesSchema, {
      removals: [...removals].flatMap((id) => parseId(id, deviceIdBytes) ?? []),
      rotateAbove: BigInt(rotateAbove),
      name,
    }),
  );
}
