/** `status` and `devices`: where this device and its group stand. */
import type { DeviceInfo, Status, SyncClient } from "../../client/index.ts";
import { fingerprint } from "../../wire/ids.ts";
import { parseRelayAddress } from "../../wire/relay-address.ts";
import { failureOf } from "../exit-codes.ts";
import { count, formatDuration, formatTable, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { explainDeviceError, withMember } from "./device.ts";
import { connectionSettled } from "./waiting.ts";

/** `status`: the device's own figures; the relay's where it answers. */
export async function status(context: Context, options: { readonly state: string }): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    await connectionSettled(client, signal);
    await settledFigures(client, signal);
    const status = client.status();
    output.event("status", statusFields(status), statusText(client, status));
  });
}

/** How long `status` waits for what the relay has to be read, in milliseconds. */
const figuresMs = 5_000;

/**
 * Where the relay is reached, its figures count once what it has was read: before that, a device
 * that lacks nothing cannot know so. Shows what is there when that takes long.
 */
async function settledFigures(client: SyncClient, signal: AbortSignal): Promise<void> {
  if (client.status().connection.state !== "online") return;
  const bound = AbortSignal.any([signal, AbortSignal.timeout(figuresMs)]);
  try {
    await client.caughtUp({ signal: bound });
  } catch (error) {
    if (!bound.aborted) throw error;
  }
}

/** `devices`: the group's members. */
export async function devices(
  context: Context,
  options: { readonly state: string },
): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    await connectionSettled(client, signal);
    const all = client.devices();
    for (const device of all) output.event("device", { ...device });
    if (!output.json) output.event("devices", {}, devicesText(all));
  });
}

function statusFields(status: Status): Record<string, unknown> {
  const { connection, pushHeld, ...figures } = status;
  return {
    ...figures,
    connection: connection.state,
    ...("error" in connection ? { error: errorFields(connection.error) } : {}),
    ...(pushHeld === undefined ? {} : { pushHeld: errorFields(pushHeld) }),
  };
}

function errorFields(error: Error): Record<string, unknown> {
  const { code, name, message } = failureOf(explainDeviceError(error));
  return { code, name, message };
}

function statusText(client: SyncClient, status: Status): string {
  const own = client.devices().find((device) => device.self);
  const rows: [string, string][] = [
    ["device", `${printable(status.name)}${own === undefined ? "" : `, ${own.fingerprint}`}`],
    ["group", `${status.groupId ?? "none"}, ${count(status.devices, "device")}`],
    ["relay", relayText(status.relay)],
    ["connection", connectionText(status)],
    ["queued", queuedText(status)],
    ["received", receivedText(status)],
  ];
  if (status.membership !== "member") rows.push(["membership", status.membership]);
  if (status.refused > 0) {
    rows.push([
      "refused",
      `${count(status.refused, "entry", "entries")}: altered, or behind an altered one`,
    ]);
  }
  if (status.findings > 0) {
    rows.push(["integrity", `${count(status.findings, "open finding")}; list: sync-cli findings`]);
  }
  const devices = client.devices();
  for (const { name } of devices.filter(({ refusedByRelay }) => refusedByRelay)) {
    rows.push([
      "shut out",
      `${printable(name)}, says the relay's operator; to remove it: sync-cli remove`,
    ]);
  }
  const nowMs = Date.now();
  for (const device of devices) {
    if (!device.self && device.role === "device") {
      rows.push(["applied", `${printable(device.name)}: ${appliedText(device, nowMs)}`]);
    }
  }
  rows.push(["in sync", status.inSync ? "yes" : "no"]);
  return formatTable(rows);
}

/** What another device signed that it has applied; a relay's word would not be enough. */
function appliedText({ applied }: DeviceInfo, nowMs: number): string {
  if (applied === undefined) return "has not said yet";
  // By that device's clock, which may be ahead of this one.
  const ageMs = Math.max(0, nowMs - applied.madeMs);
  return `up to ${applied.cursor}, as it signed ${formatDuration(ageMs)} ago`;
}

function relayText(address: string | undefined): string {
  if (address === undefined) return "none";
  const { relayKey, url } = parseRelayAddress(address);
  return `${new URL(url).origin.replace(/^null$/, url)}, ${fingerprint(relayKey)}`;
}

function connectionText({ connection }: Status): string {
  if (connection.state === "waiting" || connection.state === "stopped") {
    const { message, hint } = failureOf(explainDeviceError(connection.error));
    if (connection.state === "waiting") return `not now: ${message}`;
    // Who refuses makes the difference, and stands in the hint.
    return hint === "" ? `stopped: ${message}` : `stopped: ${message}; ${hint}`;
  }
  return connection.state;
}

function queuedText({ queued, pushHeld }: Status): string {
  if (queued === 0) return "nothing";
  const why = pushHeld === undefined ? "" : `, held: ${failureOf(pushHeld).message}`;
  return `${count(queued, "entry", "entries")} not yet on the relay${why}`;
}

function receivedText({ readCursor, appliedCursor, head, unacknowledged }: Status): string {
  const of = head === undefined ? "" : ` of ${head}`;
  const waiting =
    unacknowledged === 0 ? "" : `, ${count(unacknowledged, "entry", "entries")} to apply`;
  return `read up to ${readCursor}${of}, applied up to ${appliedCursor}${waiting}`;
}

function devicesText(devices: readonly DeviceInfo[]): string {
  const nowMs = Date.now();
  return formatTable([
    ["NAME", "FINGERPRINT", "PRESENCE", "DEVICE"],
    ...devices.map((device) => [
      `${printable(device.name)}${device.self ? " (this one)" : ""}`,
      device.fingerprint,
      presenceText(device, nowMs),
      device.deviceId,
    ]),
  ]);
}

function presenceText(device: DeviceInfo, nowMs: number): string {
  if (device.role === "paper") return "recovery phrase";
  if (device.refusedByRelay) return "shut out by the relay's operator";
  const { presence, lastSeenMs } = device;
  if (presence !== "offline" || lastSeenMs === undefined || lastSeenMs === 0) return presence;
  // By the relay's clock, which may be ahead of this one.
  return `${presence}, seen ${formatDuration(Math.max(0, nowMs - lastSeenMs))} ago`;
}
