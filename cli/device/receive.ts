/** What arrives: kept in a folder or listed, and acknowledged once it is on disk. */
import type { Entry, HistoryEntry, SyncClient } from "../../client/index.ts";
import { formatBytes, type Output, printable } from "../output.ts";
import { decodeFile, fileContentType, type SyncedFile } from "./file-entry.ts";
import { PlaceRefused, type ReceivingFolder } from "./folder.ts";

/** What is done with entries. */
export interface ReceiveOptions {
  /** Where files go; without it entries are listed only. */
  readonly folder: ReceivingFolder | undefined;
  /** Whether own entries are left out of the folder. */
  readonly others: boolean;
  /** Told of each file that was put in its place. */
  readonly onFile?: (file: SyncedFile) => void;
}

/** What was received. */
export interface Received {
  entries: number;
  bytes: number;
  written: number;
}

/**
 * Takes entries one after another until there are no more. Where a folder keeps
 * them, each is acknowledged once it is on disk; listed ones are not, and come
 * again.
 */
export async function receive(
  client: SyncClient,
  output: Output,
  entries: AsyncIterable<HistoryEntry & Partial<Pick<Entry, "ack">>>,
  options: ReceiveOptions,
  received: Received = { entries: 0, bytes: 0, written: 0 },
): Promise<Received> {
  for await (const entry of entries) {
    const { cursor, blobId, sender, seq, own, contentType } = entry;
    const file = contentType === fileContentType ? decodeFile(entry.data) : undefined;
    const bytes = (file?.data ?? entry.data).byteLength;
    const placed = await keep(entry, file, options, output);
    if (options.folder !== undefined) await entry.ack?.();
    received.entries += 1;
    received.bytes += bytes;
    if (placed?.written === true) received.written += 1;
    const path = placed?.path ?? file?.path;
    output.event(
      "entry",
      {
        cursor,
        blobId,
        sender,
        seq,
        own,
        contentType,
        bytes,
        ...(path === undefined ? {} : { path }),
        ...(placed === undefined ? {} : { written: placed.written }),
      },
      [
        String(cursor).padStart(6),
        printable(nameOf(client, sender)),
        formatBytes(bytes),
        path === undefined ? printable(contentType) || "no content type" : printable(path),
        ...(placed?.written === false ? [output.paint("dim", "(unchanged)")] : []),
      ].join("  "),
    );
  }
  return received;
}

async function keep(
  entry: HistoryEntry,
  file: SyncedFile | undefined,
  options: ReceiveOptions,
  output: Output,
): Promise<{ path: string; written: boolean } | undefined> {
  const { folder } = options;
  if (folder === undefined || (entry.own && options.others)) return undefined;
  // What `sync-cli delete` pushes: it stands for others and holds nothing itself.
  if (entry.contentType === "" && entry.data.byteLength === 0) return undefined;
  // Named by what the relay and this device count, never by what another device wrote.
  const ownName = `${entry.cursor === 0 ? entry.blobId : entry.cursor}.bin`;
  const raw = { path: ownName, executable: false, modifiedMs: 0, data: file?.data ?? entry.data };
  if (file === undefined) return folder.put(raw);
  try {
    const placed = await folder.put(file);
    options.onFile?.(file);
    return placed;
  } catch (error) {
    if (!(error instanceof PlaceRefused)) throw error;
    output.warn(`${file.path}: ${error.message}; its bytes are kept as ${ownName}`);
    return folder.put(raw);
  }
}

function nameOf(client: SyncClient, deviceId: string): string {
  return (
    client.devices().find((device) => device.deviceId === deviceId)?.name ?? deviceId.slice(0, 8)
  );
}
