/** Changes to the group: `remove`, `rotate`, `rename`, and `fingerprint`. */
import type { DeviceInfo, SyncClient } from "../../client/index.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { count, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { ask, checkCanConfirm } from "./ask.ts";
import { deviceName, withMember } from "./device.ts";
import { connectionSettled, reached, whileReachable } from "./waiting.ts";

/** `remove`: shuts devices out for good. */
export async function removeDevices(
  context: Context,
  named: readonly string[],
  options: { readonly state: string; readonly yes: boolean },
): Promise<void> {
  const { output, signal } = context;
  checkCanConfirm(context, options.yes, "a removal");
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    const devices = named.map((name) => deviceOf(client, name));
    if (devices.some(({ self }) => self)) {
      throw usageError("a device cannot remove itself", "run it on another device of the group");
    }
    for (const { name, fingerprint } of devices) {
      output.note(`${printable(name)}, ${fingerprint}`);
    }
    if (
      !options.yes &&
      !(await ask(context, `remove ${count(devices.length, "device")} for good?`))
    ) {
      throw declined();
    }
    const ids = devices.map(({ deviceId }) => deviceId);
    await whileReachable(client, signal, client.remove(ids));
    for (const { deviceId, name, fingerprint } of devices) {
      output.event(
        "removed",
        { deviceId, name, fingerprint, epoch: client.status().epoch },
        `removed ${printable(name)}`,
      );
    }
    output.note("what it received before is still on it; nothing from now on reaches it");
  });
}

/** `rotate`: a new secret for what is written from now on. */
export async function rotateSecret(
  context: Context,
  options: { readonly state: string },
): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    await whileReachable(client, signal, client.rotate());
    const { epoch } = client.status();
    output.event("rotated", { epoch }, `the group has a new secret: epoch ${epoch}`);
  });
}

/** `rename`: another name for this device. */
export async function renameDevice(
  context: Context,
  given: string,
  options: { readonly state: string },
): Promise<void> {
  const { output, signal } = context;
  const name = deviceName(given);
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    await whileReachable(client, signal, client.rename(name));
    const { deviceId } = client.status();
    output.event("renamed", { deviceId, name }, `this device is ${printable(name)} now`);
  });
}

/** `fingerprint`: a device in full. */
export async function showFingerprint(
  context: Context,
  named: string | undefined,
  options: { readonly state: string },
): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    await connectionSettled(client, signal);
    const own = client.devices().find(({ self }) => self);
    const device = named === undefined ? own : deviceOf(client, named);
    if (device === undefined) throw usageError("this device is not in the group yet");
    const full = client.fingerprint(device.deviceId);
    const { deviceId, name, fingerprint } = device;
    output.event("fingerprint", { deviceId, name, fingerprint, full }, fingerprintText(full));
    output.note(`of ${printable(name)}; the same digits must stand on both screens`);
  });
}

/** The device that a person names: by name, id or short fingerprint. */
export function deviceOf(client: SyncClient, named: string): DeviceInfo {
  const digits = named.replace(/\s/g, "").toLowerCase();
  const devices = client.devices();
  const exact = devices.filter(
    ({ deviceId, fingerprint }) => deviceId === named || fingerprint.replaceAll(" ", "") === digits,
  );
  const found = exact.length > 0 ? exact : devices.filter(({ name }) => name === named);
  const [device] = found;
  if (device === undefined) {
    throw usageError("no device of the group has that name", "see them all: sync-cli devices");
  }
  if (found.length > 1) {
    throw usageError(
      "several devices have that name",
      "name it by its fingerprint or id: sync-cli devices",
    );
  }
  return device;
}

/** What a person did not want is not an error of anybody's, but not done either. */
export function declined(): CommandError {
  return new CommandError(ExitCode.refused, "DECLINED", "nothing was changed", {});
}

/** Four groups of four digits a line: what is read aloud. */
function fingerprintText(full: string): string {
  return full.replace(/((?:[0-9a-f]{4} ){3}[0-9a-f]{4}) /g, "$1\n");
}
