/**
 * Where a backup comes from: a relay that runs, through its side API; or one that
 * does not, straight from its folder, which nobody may start meanwhile.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Backup } from "../../gen/syncrelay/admin/v1/backup_pb.ts";
import { syncFolder } from "../../server/store/private-files.ts";
import { toHex } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { formatBytes } from "../output.ts";
import type { Context } from "../program.ts";
import { type Encrypt, encrypterFor } from "./age-file.ts";
import { dataFolder, type SideOptions } from "./data-folder.ts";

export interface TakeOptions extends SideOptions {
  readonly withIdentity?: boolean;
  /** Recipients to encrypt for. */
  readonly age?: readonly string[];
  /** Replaces a file of that name. */
  readonly replace?: boolean;
}

/** A backup that lies in a file. */
export interface TakenBackup {
  readonly file: string;
  readonly bytes: number;
  readonly encrypted: boolean;
  readonly withIdentity: boolean;
  /** Whether the relay was running. */
  readonly live: boolean;
}

/** Takes a backup into a file, whole or not at all. */
export async function takeBackup(
  context: Context,
  file: string,
  options: TakeOptions,
): Promise<TakenBackup> {
  const target = resolve(file);
  if (existsSync(target) && options.replace !== true) {
    throw usageError(`${file} is there already`, "name another file, or add --replace");
  }
  const encrypter = await encrypterFor(options.age ?? []);
  const folder = resolve(dataFolder(context.world.env, options));
  const url = options.url ?? context.world.env["SYNC_RELAY_URL"];
  const source = url === undefined ? await stoppedRelay(context, folder, options) : undefined;
  if (source === undefined) return await fromRunning(context, target, options, encrypter);
  try {
    const bytes = await writeWhole(target, createReadStream(source.path), encrypter);
    return taken(target, bytes, options, false);
  } finally {
    await source.release();
  }
}

interface StoppedSource {
  readonly path: string;
  release(): Promise<void>;
}

/** A copy of a stopped relay's store, in its folder; undefined where a relay uses the folder. */
async function stoppedRelay(
  { output, signal }: Context,
  folder: string,
  options: TakeOptions,
): Promise<StoppedSource | undefined> {
  const { databaseName } = await import("../../server/store/sqlite-store.ts");
  const database = join(folder, databaseName);
  if (!existsSync(database)) {
    throw new CommandError(ExitCode.usage, "NO_STORE", `${folder} holds no store`, {
      hint: "name the relay's folder with --data DIR, or a running one with --url http://HOST:8081 and --token-file FILE",
    });
  }
  const { lockFolder } = await import("../../server/store/folder-lock.ts");
  const lock = await lockFolder(folder).catch((error: unknown) => {
    // Somebody has it: a relay that runs, which is asked then.
    if (error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE) return undefined;
    throw error;
  });
  if (lock === undefined) return undefined;
  const { makeBackup, passingName, removePassing } = await import("../../server/store/backup.ts");
  const { identityText } = await import("../../server/identity.ts");
  const path = join(folder, passingName(toHex(new Uint8Array(randomBytes(8)))));
  const release = async (): Promise<void> => {
    await rm(path, { force: true });
    await lock.release();
  };
  try {
    await removePassing(folder);
    await makeBackup({
      source: database,
      target: path,
      identity: options.withIdentity === true ? await identityText(folder) : undefined,
      madeMs: Date.now(),
      signal,
      onCopied: (done, all) => output.progress(progressText("copying", done, all)),
    });
    return { path, release };
  } catch (error) {
    await release();
    throw error;
  }
}

async function fromRunning(
  context: Context,
  target: string,
  options: TakeOptions,
  encrypter: Encrypt | undefined,
): Promise<TakenBackup> {
  const { output, signal } = context;
  const { explainSideError, openSideClient } = await import("./side-client.ts");
  const stop = new AbortController();
  const { BackupService } = await import("../../gen/syncrelay/admin/v1/backup_pb.ts");
  try {
    const client = (await openSideClient(context, options)).of(BackupService);
    const parts = client.create(
      { withIdentity: options.withIdentity === true },
      { signal: AbortSignal.any([signal, stop.signal]) },
    );
    const hash = createHash("sha256");
    let total = 0;
    let told: Backup | undefined;
    async function* chunks(): AsyncGenerator<Uint8Array> {
      let bytes = 0;
      for await (const { part } of parts) {
        if (part.case === "copying") {
          total = Number(part.value.totalBytes);
          output.progress(progressText("copying", Number(part.value.doneBytes), total));
        } else if (part.case === "chunk") {
          hash.update(part.value);
          bytes += part.value.byteLength;
          output.progress(progressText("receiving", bytes, total));
          yield part.value;
        } else if (part.case === "backup") told = part.value;
      }
      // Thrown inside the stream, so that the file never gets its name.
      if (told === undefined || !hash.digest().equals(told.sha256)) {
        throw new CommandError(
          ExitCode.unreachable,
          "CUT_SHORT",
          "the backup did not arrive whole",
          {
            hint: "run the command again; no file was written",
          },
        );
      }
    }
    const bytes = await writeWhole(target, chunks(), encrypter);
    return taken(target, bytes, options, true);
  } catch (error) {
    throw explainSideError(error);
  } finally {
    // A relay that goes on sending to nobody would make no other backup.
    stop.abort();
  }
}

function taken(file: string, bytes: number, options: TakeOptions, live: boolean): TakenBackup {
  return {
    file,
    bytes,
    encrypted: (options.age ?? []).length > 0,
    withIdentity: options.withIdentity === true,
    live,
  };
}

/** Writes a file that has its name only when all of it is on disk. Gives back its size. */
async function writeWhole(
  target: string,
  plain: AsyncIterable<Uint8Array>,
  encrypt: Encrypt | undefined,
): Promise<number> {
  const chunks = encrypt === undefined ? plain : await encrypt(plain);
  const partial = `${target}.partial`;
  await rm(partial, { force: true });
  const handle = await open(partial, "wx", 0o600);
  try {
    let bytes = 0;
    try {
      for await (const chunk of chunks) {
        await handle.writeFile(chunk);
        bytes += chunk.byteLength;
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, target);
    await syncFolder(dirname(target));
    return bytes;
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

export function progressText(what: string, done: number, all: number): string {
  const percent = all === 0 ? 0 : Math.min(100, Math.floor((100 * done) / all));
  return `${what} ${formatBytes(done)} of ${formatBytes(Math.max(done, all))} (${percent}%)`;
}
