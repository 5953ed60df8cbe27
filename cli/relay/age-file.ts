/** Files that are encrypted for an age recipient (age-encryption.org), by the library of age's author. */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";

/** How a file begins that is encrypted so. */
const intro = "age-encryption.org/v1\n";

/** Encrypts a stream. */
export type Encrypt = (plain: AsyncIterable<Uint8Array>) => Promise<AsyncIterable<Uint8Array>>;

/** Encrypts for all of these recipients, each of whom alone can read it; undefined where there are none. */
export async function encrypterFor(recipients: readonly string[]): Promise<Encrypt | undefined> {
  if (recipients.length === 0) return undefined;
  // Loaded only here: few backups are encrypted.
  const { Encrypter } = await import("age-encryption");
  const encrypter = new Encrypter();
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch (error) {
      throw new CommandError(ExitCode.usage, "USAGE", "--age must be a recipient like age1…", {
        hint: "age-keygen -o key.txt makes a pair and prints the recipient; keep key.txt off this machine",
        cause: error,
      });
    }
  }
  return async (plain) => {
    const source = Readable.toWeb(Readable.from(plain, { objectMode: false }));
    return iterated(await encrypter.encrypt(source as never));
  };
}

/** A file that can be read as it is: the one that was named, or what it was decrypted into. */
export interface PlainFile {
  readonly path: string;
  readonly encrypted: boolean;
  /** Removes what was decrypted. */
  remove(): Promise<void>;
}

/** Decrypts a file where it is encrypted, into a folder that only its owner reads. */
export async function openPlain(
  file: string,
  identityFile: string | undefined,
): Promise<PlainFile> {
  if (!(await isEncrypted(file))) {
    return { path: file, encrypted: false, remove: () => Promise.resolve() };
  }
  if (identityFile === undefined) {
    throw usageError(
      `${file} is encrypted`,
      "name the file that holds its secret key: --age-identity key.txt",
    );
  }
  const { Decrypter } = await import("age-encryption");
  const decrypter = new Decrypter();
  for (const identity of await readIdentities(identityFile)) decrypter.addIdentity(identity);
  const folder = await mkdtemp(join(tmpdir(), "sync-relay-backup-"));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, "backup");
    const sealed = Readable.toWeb(createReadStream(file)) as never;
    const plain = await decrypter.decrypt(sealed).catch((error: unknown) => {
      throw new CommandError(
        ExitCode.refused,
        "WRONG_KEY",
        `${identityFile} does not open ${file}`,
        { hint: "name the key that belongs to the recipient it was made for", cause: error },
      );
    });
    try {
      await pipeline(iterated(plain), createWriteStream(path, { mode: 0o600 }));
    } catch (error) {
      if (isSystemError(error)) throw error;
      throw new CommandError(ExitCode.refused, "DAMAGED", `${file} is damaged or cut short`, {
        hint: "use an older backup",
        cause: error,
      });
    }
    return { path, encrypted: true, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function isEncrypted(file: string): Promise<boolean> {
  const handle = await open(file, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(intro.length), 0, intro.length, 0);
    return buffer.toString("latin1", 0, bytesRead) === intro;
  } finally {
    await handle.close();
  }
}

async function readIdentities(file: string): Promise<string[]> {
  const lines = (await readFile(file, "utf8")).split(/\r?\n/);
  const identities = lines.filter((line) => line.startsWith("AGE-SECRET-KEY-"));
  // Not shown: it may be a secret of another kind.
  if (identities.length === 0) throw usageError(`${file} holds no AGE-SECRET-KEY-… line`);
  return identities;
}

function iterated(stream: unknown): AsyncIterable<Uint8Array> {
  return stream as ReadableStream<Uint8Array>;
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}
