/** What people and apps are shown: the status, told when it has changed, and the devices of the group. */
import { DeviceState_Membership } from "../gen/syncrelay/state/v1/state_pb.ts";
import { MemberRole } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { SyncError } from "../wire/errors.ts";
import { fingerprint, idText } from "../wire/ids.ts";
import type { Parts } from "./parts.ts";
import { members, type RosterDevice } from "./seal/membership.ts";
import type { Standing } from "./standing.ts";
import { atTurnEnd } from "./turn.ts";
import type { DeviceInfo, MembershipStatus, Status } from "./types.ts";

export class Overview {
  readonly #parts: Parts;
  readonly #standing: Standing;
  readonly #applied = new Map<string, { readonly cursor: number; readonly madeMs: number }>();
  #soon = false;
  #told: Status | undefined;
  #lastSyncMs: number | undefined;

  constructor(parts: Parts, standing: Standing) {
    this.#parts = parts;
    this.#standing = standing;
  }

  get groupId(): string | undefined {
    const { groupId } = this.#parts.core.device;
    return groupId.byteLength === 0 ? undefined : idText(groupId);
  }

  status(): Status {
    const { core, engine, outbox, inbox, reader, refusals } = this.#parts;
    const { device, log, chain } = core;
    const connection = engine.status;
    const { queued } = outbox;
    const unacknowledged = inbox.count;
    const inSync =
      connection.state === "online" &&
      reader.caughtUp &&
      // A restored relay may lack what it once confirmed.
      outbox.compared &&
      !outbox.lacks &&
      queued === 0 &&
      unacknowledged === 0 &&
      core.findings.count === 0 &&
      refusals.count === 0 &&
      !reader.missesClosing;
    return {
      deviceId: core.deviceText,
      name: chain?.devices.get(core.deviceText)?.name ?? device.name,
      groupId: this.groupId,
      relay: device.relayAddress === "" ? undefined : device.relayAddress,
      membership: membershipNames[device.membership] ?? "none",
      connection,
      queued,
      queueRoom: outbox.room,
      durableSeq: core.own.durableSeq,
      pushHeld: outbox.held,
      readCursor: log.read,
      appliedCursor: inbox.appliedCursor,
      head: core.head,
      unacknowledged,
      refused: refusals.certain,
      findings: core.findings.count,
      epoch: chain?.epoch ?? 0,
      devices: chain === undefined ? 0 : members(chain).length,
      refusedDevices: this.#refusedDevices(),
      lastSyncMs: this.#lastSyncMs,
      inSync,
    };
  }

  #refusedDevices(): string[] {
    const { core, engine } = this.#parts;
    const refused: string[] = [];
    for (const [deviceId, { closing }] of core.chain?.devices ?? []) {
      if (closing === undefined && engine.presenceOf(deviceId)?.refused === true) {
        refused.push(deviceId);
      }
    }
    return refused;
  }

  /** The devices of the group, this one included. */
  devices(): DeviceInfo[] {
    const { chain } = this.#parts.core;
    return chain === undefined ? [] : members(chain).map((device) => this.deviceInfo(device));
  }

  deviceInfo(device: RosterDevice): DeviceInfo {
    const { core, engine } = this.#parts;
    const deviceId = idText(device.deviceId);
    const self = deviceId === core.deviceText;
    const seen = engine.presenceOf(deviceId);
    const applied = this.#applied.get(deviceId);
    const here = self && core.session !== undefined;
    return {
      deviceId,
      name: device.name,
      role: device.role === MemberRole.PAPER ? "paper" : "device",
      self,
      fingerprint: fingerprint(device.deviceId),
      presence: here ? "online" : (seen?.presence ?? "offline"),
      refusedByRelay: seen?.refused ?? false,
      ...(seen?.lastSeenMs === undefined ? {} : { lastSeenMs: seen.lastSeenMs }),
      ...(applied === undefined ? {} : { applied }),
    };
  }

  /** Another device proved what it has applied. */
  applied(device: string, cursor: number, madeMs: number): void {
    this.#applied.set(device, { cursor, madeMs });
  }

  membershipChanged(): void {
    const { events, device } = this.#parts.core;
    events.emit("membership", {
      membership: membershipNames[device.membership] ?? "none",
      devices: this.devices(),
    });
  }

  /** The status is told once a turn, and only where it differs. */
  moved(): void {
    const { core, inbox, outbox, reader } = this.#parts;
    inbox.wake();
    if (this.#soon) return;
    this.#soon = true;
    atTurnEnd(() => {
      this.#soon = false;
      if (this.#standing.closed) return;
      const status = this.status();
      const all = reader.caughtUp && outbox.compared && status.queued === 0;
      if (status.connection.state === "online" && all) {
        this.#lastSyncMs = core.host.nowMs();
      }
      if (sameStatus(status, this.#told)) return;
      this.#told = status;
      core.events.emit("status", { ...status, lastSyncMs: this.#lastSyncMs });
    });
  }
}

/** Whether two say the same, but for when the device was last in sync. */
function sameStatus(status: Status, before: Status | undefined): boolean {
  if (before === undefined) return false;
  return (Object.keys(status) as (keyof Status)[]).every(
    (name) =>
      name === "lastSyncMs" ||
      status[name] === before[name] ||
      JSON.stringify(status[name], plain) === JSON.stringify(before[name], plain),
  );
}

/** For comparing: errors by what they say, and 64-bit numbers as text. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (value instanceof SyncError) return `${value.codeName} ${value.hint ?? ""}`;
  if (value instanceof Error) return `${value.name} ${value.message}`;
  return value;
}

const membershipNames: Readonly<Partial<Record<DeviceState_Membership, MembershipStatus>>> = {
  [DeviceState_Membership.UNSPECIFIED]: "none",
  [DeviceState_Membership.FOUNDING]: "founding",
  [DeviceState_Membership.ADMITTED]: "admitted",
  [DeviceState_Membership.MEMBER]: "member",
  [DeviceState_Membership.REMOVED]: "removed",
};
