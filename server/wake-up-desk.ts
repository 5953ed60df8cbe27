/**
 * Answers what devices ask about being woken, and has them woken: when a commit brings blobs of others
 * to a group, its devices that are registered and not connected are handed to `WakeUps`, which says when
 * each is sent to. What a push service no longer knows is forgotten.
 */
import { equalBytes } from "../wire/bytes.ts";
import type { EnvelopeBody } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Counters } from "./counters.ts";
import { revokedError } from "./group-log.ts";
import type { DeviceEntry, GroupEntry } from "./group-state.ts";
import type { RunTask } from "./life-desk.ts";
import type { BlobRow } from "./store/contract.ts";
import type { WakeUpRow } from "./store/life.ts";
import type { WakeUpPlace, WakeUpRequest } from "./wake-up-requests.ts";
import { type WakeUp, type WakeUpSender, WakeUps } from "./wake-ups.ts";

/** What the desk needs of the relay. */
export interface WakeUpHost {
  readonly sender: WakeUpSender;
  readonly counters: Counters;
  readonly run: RunTask;
  readonly monotonicMs: () => number;
  readonly random: (length: number) => Uint8Array;
  /** A group, loaded where nobody is connected to it. */
  group(groupId: Uint8Array): Promise<GroupEntry | undefined>;
}

/** A device as it is remembered while its group may be forgotten. */
interface Sleeper {
  readonly groupId: Uint8Array;
  readonly row: WakeUpRow;
}

/** What a registration holds on to while it waits for its commit, in bytes. */
export const wakeUpRequestBytes = 4_096;

export class WakeUpDesk {
  readonly #host: WakeUpHost;
  readonly #wakeUps = new WakeUps<Sleeper>();
  #stopped = false;

  constructor(host: WakeUpHost) {
    this.#host = host;
  }

  /** Devices that are to be woken, or were. */
  get waiting(): number {
    return this.#wakeUps.size;
  }

  /** Carries a request of a member out. Rejects with the `SyncError` it is refused with. */
  async answer(
    group: GroupEntry,
    device: DeviceEntry,
    request: WakeUpRequest,
  ): Promise<EnvelopeBody> {
    if (request.kind === "get") return this.#told(device);
    const { place } = request;
    if (place !== undefined && !this.#host.sender.accepts(place.endpoint)) {
      return this.#told(device, true);
    }
    await this.#host.run({
      group,
      plan: (draft) => {
        if (draft.gone(group)) return new SyncError(ErrorCode.NOT_A_MEMBER);
        const { state, deviceKey } = draft.device(device);
        if (state !== "active") return revokedError(state);
        if (!samePlace(draft.life.wakeUp(device), place)) {
          draft.life.setWakeUp(device, place === undefined ? undefined : { deviceKey, ...place });
        }
        return undefined;
      },
      bytes: wakeUpRequestBytes,
    });
    return this.#told(device);
  }

  #told(device: DeviceEntry, refused = false): EnvelopeBody {
    const { applicationServerKey: relayKey } = this.#host.sender;
    return {
      case: "wakeUp",
      value: { registered: device.wakeUp !== undefined, refused, relayKey },
    };
  }

  /** Blobs came to a group. `connected`: the devices that are told of them without this. */
  came(group: GroupEntry, rows: readonly BlobRow[], connected: ReadonlySet<DeviceEntry>): void {
    for (const device of group.devices.values()) {
      const { wakeUp: row } = device;
      if (row === undefined || connected.has(device)) continue;
      // What a device itself sent before it went is nothing to come back for.
      if (rows.some(({ deviceKey }) => deviceKey !== row.deviceKey)) this.#due(group, row);
    }
  }

  /**
   * A device has gone. A connection may have been dead for a while before that shows: what others sent
   * since the session began, at `since`, and the device has not acknowledged, counts as coming now.
   */
  left(group: GroupEntry, device: DeviceEntry, since: number): void {
    const { wakeUp: row } = device;
    if (row === undefined) return;
    const seen = Math.max(since, device.applied);
    for (const other of group.devices.values()) {
      if (other === device || other.row.lastCursor <= seen) continue;
      this.#due(group, row);
      return;
    }
  }

  #due(group: GroupEntry, row: WakeUpRow): void {
    const sleeper = { groupId: group.row.groupId, row };
    if (!this.#wakeUps.came(row.deviceKey, sleeper, this.#host.monotonicMs())) {
      this.#host.counters.wakeUpsDropped += 1;
    }
  }

  /** A device is there: it needs no waking, and may be woken again once it has gone. */
  connected(device: DeviceEntry): void {
    this.#wakeUps.forget(device.row.deviceKey);
  }

  /** Once a second or so. */
  tick(): void {
    if (this.#stopped) return;
    for (const wakeUp of this.#wakeUps.take(this.#host.monotonicMs())) {
      void this.#wake(wakeUp);
    }
  }

  /** The relay shuts down: nobody is woken any more, and what is under way is not waited for. */
  stop(): void {
    this.#stopped = true;
  }

  async #wake(wakeUp: WakeUp<Sleeper>): Promise<void> {
    const { sender, counters, monotonicMs, random } = this.#host;
    const outcome = await sender.send(wakeUp.device.row);
    const spread = (random(1)[0] as number) / 256;
    switch (this.#wakeUps.settled(wakeUp, outcome, monotonicMs(), spread)) {
      case "sent":
        counters.wakeUpsSent += 1;
        return;
      case "refused":
        counters.wakeUpsRefused += 1;
        return;
      case "unreachable":
        counters.wakeUpsUnreachable += 1;
        return;
      case "gone":
        counters.wakeUpsGone += 1;
        await this.#end(wakeUp.device);
        return;
      case undefined:
        return;
    }
  }

  /** Forgets a registration, unless its device has made another one meanwhile. */
  async #end({ groupId, row }: Sleeper): Promise<void> {
    try {
      const group = await this.#host.group(groupId);
      const device = group?.devicesByKey.get(row.deviceKey);
      if (this.#stopped || group === undefined || device === undefined) return;
      await this.#host.run({
        group,
        plan: (draft) => {
          if (!draft.gone(group) && samePlace(draft.life.wakeUp(device), row)) {
            draft.life.setWakeUp(device, undefined);
          }
          return undefined;
        },
      });
    } catch (error) {
      // A disk that fails now: the push service says so again, and then it goes.
      if (!(error instanceof SyncError)) throw error;
    }
  }
}

function samePlace(one: WakeUpPlace | undefined, other: WakeUpPlace | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return (
    one.endpoint === other.endpoint &&
    equalBytes(one.p256dh, other.p256dh) &&
    equalBytes(one.auth, other.auth)
  );
}
