/** The device whose state is in a folder: opened for one command and closed after it. */
import { readdir, rm, stat } from "node:fs/promises";
import { homedir, hostname } from "node:os";
import { join } from "node:path";
import {
  PhraseError,
  StateStoreError,
  type StateStoreProblem,
  type SyncClient,
} from "../../client/index.ts";
import { openSyncClient } from "../../client/platform/node/index.ts";
import { UsageError } from "../../client/usage-error.ts";
import { nameBytesMax } from "../../wire/limits.ts";
import { parseRelayAddress, RelayAddressError } from "../../wire/relay-address.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { PlaceRefused } from "./folder.ts";

/** Where a device's state is when no folder is named (XDG Base Directory Specification). */
export function defaultStateFolder(env: Readonly<Record<string, string | undefined>>): string {
  const base = env["XDG_STATE_HOME"] ?? "";
  // The specification: a relative path there is to be ignored.
  return join(base.startsWith("/") ? base : join(homedir(), ".local", "state"), "sync-cli");
}

/** Opens a device that is in a group, hands it over, and closes it whatever happens. */
export async function withMember<T>(
  state: string,
  use: (client: SyncClient) => Promise<T>,
): Promise<T> {
  // Looked at first: opening would make a device, and a mistyped folder should make nothing.
  if (await isEmptyFolder(state)) throw noDevice(state);
  const client = await openSyncClient({ state });
  try {
    const { membership, name } = client.status();
    if (membership === "none") throw noDevice(state);
    if (membership === "founding") {
      throw new CommandError(
        ExitCode.usage,
        "NOT_A_MEMBER",
        "this device has not founded its group yet",
        {
          hint: `finish it: sync-cli init --relay ADDRESS --name ${name}`,
        },
      );
    }
    if (membership === "removed") {
      throw new CommandError(
        ExitCode.refused,
        "DEVICE_REVOKED",
        "this device was removed from its group",
        {
          hint: "it can join again as a new device, with another --state folder",
        },
      );
    }
    return await use(client);
  } finally {
    await client.close();
  }
}

/** How a device that is in no group is opened. */
export interface NewDevice {
  readonly state: string;
  readonly relay?: string;
  readonly name: string;
}

/**
 * Opens a device that is in no group, or makes it, hands it over, and closes it. Where nothing came
 * of it, the folder is left as it was found, so that the next attempt begins like this one.
 */
export async function withNewDevice<T>(
  options: NewDevice,
  use: (client: SyncClient) => Promise<T>,
): Promise<T> {
  const before = await folderState(options.state);
  const client = await openSyncClient(options);
  let keep = before === "used";
  let wasOnline = false;
  client.on("status", ({ connection }) => {
    if (connection.state === "online") wasOnline = true;
  });
  try {
    const { membership } = client.status();
    if (membership !== "none" && membership !== "founding" && membership !== "admitted") {
      keep = true;
      throw usageError(
        "this device is in a group already",
        "to make another device on this machine, name another folder: --state DIR",
      );
    }
    const result = await use(client);
    keep = true;
    return result;
  } finally {
    // A founding or an admission that the relay may have heard of is something to go on with.
    const { membership } = client.status();
    keep ||= membership === "admitted" || (wasOnline && membership !== "none");
    await client.close();
    if (!keep) await restoreFolder(options.state, before);
  }
}

/** A device's name as the other devices will show it. */
export function deviceName(given: string | undefined): string {
  const name = given ?? (hostname().slice(0, nameBytesMax) || "device");
  const bytes = Buffer.byteLength(name);
  if (bytes === 0 || bytes > nameBytesMax || name.trim() === "") {
    throw usageError(`a device's name has 1 to ${nameBytesMax} bytes`, "choose one: --name NAME");
  }
  return name;
}

/** A relay's address in its one form. */
export function relayAddressOf(text: string): string {
  try {
    return parseRelayAddress(text).text;
  } catch (error) {
    if (!(error instanceof RelayAddressError)) throw error;
    throw usageError(error.message, "whoever runs the relay finds it by: sync-relay address");
  }
}

const storeFailures: Readonly<
  Record<
    StateStoreProblem,
    { readonly exit: ExitCode; readonly message: string; readonly hint: string }
  >
> = {
  locked: {
    exit: ExitCode.refused,
    message: "another process uses this device's state",
    hint: "stop it (a `sync-cli watch` perhaps), or name another folder: --state DIR",
  },
  full: {
    exit: ExitCode.limit,
    message: "no space left for this device's state",
    hint: "make room and run the command again; nothing was lost",
  },
  newer: {
    exit: ExitCode.refused,
    message: "this device's state was written by a newer version",
    hint: "update this program",
  },
  damaged: {
    exit: ExitCode.defect,
    message: "this device's state is damaged",
    hint: "keep the folder, and pair again as a new device with another one: --state DIR",
  },
  unavailable: {
    exit: ExitCode.refused,
    message: "this device's state cannot be read or written",
    hint: "check the folder's owner and permissions, or name another: --state DIR",
  },
  closed: {
    exit: ExitCode.defect,
    message: "this device's state was closed",
    hint: "",
  },
};

/** The errors of a device's own store, as all programs tell errors. */
export function explainDeviceError(error: unknown): unknown {
  if (error instanceof UsageError) return usageError(error.message);
  if (error instanceof PhraseError)
    return usageError(error.message, "type the words as they were written down, in their order");
  if (error instanceof PlaceRefused)
    return usageError(error.message, "choose another folder: --out DIR");
  if (!(error instanceof StateStoreError)) return error;
  const { exit, message, hint } = storeFailures[error.problem];
  return new CommandError(exit, `STATE_${error.problem.toUpperCase()}`, message, {
    hint,
    cause: error,
  });
}

function noDevice(state: string): CommandError {
  return new CommandError(ExitCode.usage, "NO_DEVICE", `no device in ${state}`, {
    hint: "found a group: sync-cli init --relay ADDRESS --name NAME; or join one: sync-cli pair --join CODE",
  });
}

/** How a folder was found. */
type FolderState = "absent" | "empty" | "used";

async function folderState(folder: string): Promise<FolderState> {
  try {
    await stat(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "absent";
    throw error;
  }
  return (await readdir(folder)).length === 0 ? "empty" : "used";
}

async function isEmptyFolder(folder: string): Promise<boolean> {
  return (await folderState(folder)) !== "used";
}

async function restoreFolder(folder: string, before: FolderState): Promise<void> {
  if (before === "absent") await rm(folder, { recursive: true, force: true });
  if (before !== "empty") return;
  for (const name of await readdir(folder)) {
    await rm(join(folder, name), { recursive: true, force: true });
  }
}
