/** `DeviceService`: the devices of a group, as keys; their names are sealed. */
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Device,
  DeviceSchema,
  type DeviceService,
  DeviceState,
} from "../../gen/syncrelay/admin/v1/device_pb.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { fingerprint, idText } from "../../wire/ids.ts";
import { revokedError } from "../group-log.ts";
import type { DeviceEntry } from "../group-state.ts";
import type { Relay } from "../relay.ts";
import type { LiveGroup, SessionDriver } from "../session-driver.ts";
import type { DeviceRow } from "../store/contract.ts";
import { memberRoles } from "../welcome.ts";
import { notFound, precondition } from "./errors.ts";
import { withGroup } from "./groups.ts";
import { readDeviceId } from "./requests.ts";

const states: Readonly<Record<DeviceRow["state"], DeviceState>> = {
  active: DeviceState.ACTIVE,
  removed: DeviceState.REMOVED,
  refused: DeviceState.REFUSED,
};

/** A device that was disconnected comes back after this, in milliseconds. */
const returnMs = 1_000;

export function deviceService(relay: Relay): ServiceImpl<typeof DeviceService> {
  return {
    list: (request) =>
      withGroup(relay, request.groupId, async (live) => {
        const devices = [...live.entry.devices.values()].toSorted(
          (a, b) => a.row.deviceKey - b.row.deviceKey,
        );
        return { devices: devices.map((device) => deviceOf(relay, live, device)) };
      }),
    disconnect: (request) =>
      withDevice(relay, request, async (live, device) => {
        const sessions = sessionsOf(live, device);
        for (const session of sessions) {
          session.end(new SyncError(ErrorCode.DRAINING, { retryAfterMs: returnMs }));
        }
        return { sessionsEnded: sessions.length };
      }),
    refuse: (request) =>
      withDevice(relay, request, async (live, device) => {
        const outcome = await relay.operate(
          (draft) => {
            if (draft.gone(live.entry)) return "gone";
            const row = draft.device(device);
            if (row.state === "removed") return "removed";
            const state = request.lift ? "active" : "refused";
            if (row.state !== state) draft.setDevice(device, { ...row, state });
            return state;
          },
          (came) => {
            if (came !== "refused" && came !== "active") return;
            const sessions = sessionsOf(live, device);
            if (came === "refused") for (const session of sessions) session.end(revokedError(came));
            // The others are told of a session that ends; here of a word that holds without one.
            if (sessions.length === 0) relay.presence.changed(live, device);
          },
        );
        if (outcome === "gone") throw notFound("group");
        if (outcome === "removed")
          throw precondition("a member removed that device from the group");
        return { device: deviceOf(relay, live, device) };
      }),
  };
}

function withDevice<Result>(
  relay: Relay,
  request: { readonly groupId: string; readonly deviceId: string },
  run: (live: LiveGroup, device: DeviceEntry) => Promise<Result>,
): Promise<Result> {
  const deviceId = readDeviceId(request.deviceId);
  return withGroup(relay, request.groupId, async (live) => {
    const device = live.entry.devices.get(idText(deviceId));
    if (device === undefined) throw notFound("device");
    return await run(live, device);
  });
}

function sessionsOf(live: LiveGroup, device: DeviceEntry): readonly SessionDriver[] {
  return [...live.sessions].filter((session) => session.device === device);
}

function deviceOf(relay: Relay, live: LiveGroup, device: DeviceEntry): Device {
  const { row } = device;
  const online = sessionsOf(live, device).length > 0;
  return create(DeviceSchema, {
    deviceId: device.idText,
    role: memberRoles[row.role],
    state: states[row.state],
    online,
    lastSeenMs: BigInt(Math.floor(online ? relay.world.nowMs() : device.lastSeenMs)),
    lastSeq: BigInt(row.lastSeq),
    applied: BigInt(device.applied),
    behind: BigInt(Math.max(0, live.entry.row.head - device.applied)),
    fingerprint: fingerprint(row.deviceId),
  });
}
