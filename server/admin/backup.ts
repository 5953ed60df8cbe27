/** `BackupService`: a backup of the running store, sent to whoever asked. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type {
  BackupService,
  BackupServiceCreateResponseSchema,
} from "../../gen/syncrelay/admin/v1/backup_pb.ts";
import { toHex } from "../../wire/bytes.ts";
import type { Relay } from "../relay.ts";
import type { StoreUpkeep } from "../store/upkeep.ts";
import { precondition } from "./errors.ts";
import { OneAtATime, reports, stopWith } from "./one-at-a-time.ts";

type Part = MessageInitShape<typeof BackupServiceCreateResponseSchema>;

/** Bytes of one chunk. */
const chunkBytes = 256 * 1024;

export function backupService(relay: Relay): ServiceImpl<typeof BackupService> {
  const one = new OneAtATime("a backup");
  return {
    create: ({ withIdentity }, { signal }) =>
      one.stream(() => createBackup(relay, withIdentity, signal)),
  };
}

/** The store's upkeep, where it has one. */
export function upkeepOf(relay: Relay): StoreUpkeep {
  const { upkeep } = relay.store;
  if (upkeep === undefined) throw precondition("this relay keeps its store in memory");
  return upkeep;
}

async function* createBackup(
  relay: Relay,
  withIdentity: boolean,
  signal: AbortSignal,
): AsyncGenerator<Part> {
  const upkeep = upkeepOf(relay);
  const madeMs = Math.floor(relay.world.nowMs());
  const stop = stopWith(signal);
  await upkeep.clear();
  let path: string | undefined;
  try {
    yield* reports<Part>(async (report) => {
      path = await upkeep.backup({
        name: toHex(relay.world.random(8)),
        withIdentity,
        madeMs,
        signal: stop.signal,
        onCopied: (done, total) =>
          report({
            part: {
              case: "copying",
              value: { doneBytes: BigInt(done), totalBytes: BigInt(total) },
            },
          }),
      });
    }, stop);
    if (path === undefined) throw new Error("the backup has no file");
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const read of createReadStream(path, { highWaterMark: chunkBytes })) {
      const chunk = read as Uint8Array;
      hash.update(chunk);
      bytes += chunk.byteLength;
      yield { part: { case: "chunk", value: chunk } };
    }
    yield {
      part: {
        case: "backup",
        value: {
          bytes: BigInt(bytes),
          sha256: hash.digest(),
          withIdentity,
          madeMs: BigInt(madeMs),
        },
      },
    };
  } finally {
    if (path !== undefined) await rm(path, { force: true });
  }
}
