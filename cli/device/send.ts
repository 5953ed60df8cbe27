/** Queueing files and bytes on this device, and following them until the relay has them on disk. */
import { createHash } from "node:crypto";
import { basename } from "node:path";
import {
  ErrorCode,
  type PushItem,
  type PushReceipt,
  type SyncClient,
  SyncError,
} from "../../client/index.ts";
import { blobBytesCeiling } from "../../wire/limits.ts";
import { CommandError, failureOf } from "../exit-codes.ts";
import { type Output, printable } from "../output.ts";
import {
  contentTypeOf,
  encodeFile,
  fileContentType,
  fileOverheadBytes,
  type SyncedFile,
} from "./file-entry.ts";
import { readSource, type Source } from "./sources.ts";

/** Files read and queued in one transaction, at most. */
const batchFilesMax = 64;
/** Bytes read before they are queued, at most; one file always fits. */
const batchBytesMax = 4 * 1024 * 1024;

/** How files become entries. */
export interface SendOptions {
  /** The file's bytes alone, without its path. */
  readonly raw: boolean;
  /** What raw bytes are; by the file's name where it is not given. */
  readonly contentType?: string;
  readonly ttlS?: number;
}

/** Something queued. */
export interface Sent {
  readonly path: string;
  readonly bytes: number;
  readonly receipt: PushReceipt;
}

/** What a path held when this process last sent or received it: so that nothing goes round in circles. */
export class KnownContent {
  readonly #hashes = new Map<string, string>();

  /** Notes a file's content. True where it is what was noted last. */
  note(file: SyncedFile): boolean {
    const hash = createHash("sha256")
      .update(file.executable ? "x" : "-")
      .update(file.data)
      .digest("base64");
    const same = this.#hashes.get(file.path) === hash;
    this.#hashes.set(file.path, hash);
    return same;
  }
}

/**
 * Queues files, in batches of one transaction each, and hands out each batch once
 * it is safe on this device. The largest file goes first and alone, so that one
 * which is too large is refused before anything else is queued.
 */
export async function* queueSources(
  client: SyncClient,
  sources: readonly Source[],
  options: SendOptions,
): AsyncGenerator<Sent[]> {
  for (const batch of batchesOf(sources)) {
    const items: PushItem[] = [];
    for (const source of batch) items.push(itemOf(await readSource(source), source.file, options));
    const receipts = await pushNamed(client, items, batch);
    yield batch.flatMap((source, at) => {
      const receipt = receipts[at];
      return receipt === undefined ? [] : [{ path: source.path, bytes: source.bytes, receipt }];
    });
  }
}

/** Queues one file, unless it holds what this process last sent or received under its path. */
export async function queueChanged(
  client: SyncClient,
  source: Source,
  known: KnownContent,
): Promise<Sent | undefined> {
  refuseEndless(source);
  const file = await readSource(source);
  if (known.note(file)) return undefined;
  const [receipt] = await pushNamed(client, [itemOf(file, source.file, { raw: false })], [source]);
  return receipt === undefined
    ? undefined
    : { path: source.path, bytes: file.data.byteLength, receipt };
}

/** Queues bytes that are no file. */
export async function queueBytes(
  client: SyncClient,
  data: Uint8Array,
  options: SendOptions,
): Promise<Sent> {
  const contentType = options.contentType ?? "application/octet-stream";
  const item = { data, contentType, ...ttlOf(options) };
  const [receipt] = await pushNamed(client, [item], [{ file: "standard input" }]);
  if (receipt === undefined) throw new TypeError("one item pushed, no receipt");
  return { path: "-", bytes: data.byteLength, receipt };
}

/** Tells of each entry once the relay has it on disk. Resolves when it has them all. */
export async function followDurable(
  output: Output,
  sent: readonly Sent[],
  options: { readonly onDurable?: () => void } = {},
): Promise<void> {
  await Promise.all(
    sent.map(async ({ path, bytes, receipt }) => {
      const { cursor } = await receipt.durable;
      output.event(
        "durable",
        { path, bytes, blobId: receipt.blobId, seq: receipt.seq, cursor },
        `pushed  ${printable(path)}`,
      );
      options.onDurable?.();
    }),
  );
}

/** Tells of each entry that is safe on this device and not awaited. */
export function tellQueued(output: Output, sent: readonly Sent[], text = false): void {
  for (const { path, bytes, receipt } of sent) {
    output.event(
      "queued",
      { path, bytes, blobId: receipt.blobId, seq: receipt.seq },
      text ? `queued  ${printable(path)}` : undefined,
    );
  }
}

function itemOf(file: SyncedFile, name: string, options: SendOptions): PushItem {
  return options.raw
    ? {
        data: file.data,
        contentType: options.contentType ?? contentTypeOf(basename(name)),
        ...ttlOf(options),
      }
    : { data: encodeFile(file), contentType: fileContentType, ...ttlOf(options) };
}

function ttlOf({ ttlS }: SendOptions): { ttlS?: number } {
  return ttlS === undefined ? {} : { ttlS };
}

function* batchesOf(sources: readonly Source[]): Generator<Source[]> {
  let largest: Source | undefined;
  for (const source of sources) {
    refuseEndless(source);
    if (largest === undefined || source.bytes > largest.bytes) largest = source;
  }
  if (largest === undefined) return;
  yield [largest];
  let batch: Source[] = [];
  let bytes = 0;
  for (const source of sources) {
    if (source === largest) continue;
    if (
      batch.length === batchFilesMax ||
      (batch.length > 0 && bytes + source.bytes > batchBytesMax)
    ) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(source);
    bytes += source.bytes;
  }
  if (batch.length > 0) yield batch;
}

/** No relay takes more; and a file of gigabytes must not be read into memory to find that out. */
function refuseEndless(source: Source): void {
  if (source.bytes + fileOverheadBytes(source.path) > blobBytesCeiling) {
    throw tooLarge(
      source,
      new SyncError(ErrorCode.TOO_LARGE, {
        detail: { case: "tooLarge", value: { limit: BigInt(blobBytesCeiling) } },
      }),
    );
  }
}

/** Queues items; where one is too large, says which. */
async function pushNamed(
  client: SyncClient,
  items: readonly PushItem[],
  names: readonly { readonly file: string }[],
): Promise<PushReceipt[]> {
  try {
    return await client.pushMany(items);
  } catch (error) {
    if (!(error instanceof SyncError) || error.code !== ErrorCode.TOO_LARGE) throw error;
    let largest = 0;
    for (const [at, item] of items.entries()) {
      if (item.data.byteLength > (items[largest]?.data.byteLength ?? 0)) largest = at;
    }
    throw tooLarge(names[largest] ?? { file: "an entry" }, error);
  }
}

function tooLarge(name: { readonly file: string }, error: SyncError): CommandError {
  const { exit, message } = failureOf(error);
  return new CommandError(
    exit as CommandError["exit"],
    error.codeName,
    `${name.file}: ${message}`,
    {
      hint: "leave it out, or split it: an entry with all that belongs to it must fit into one blob",
      cause: error,
    },
  );
}
