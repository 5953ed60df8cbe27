/**
 * What a relay keeps beside its store, in files of mode 0600: its X25519 key,
 * which every address names, and the first group invite until it is used.
 */
import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { toBase64url } from "../wire/bytes.ts";
import { type KeyPair, keyPairOf } from "../wire/channel.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { groupInviteBytes, parseId } from "../wire/ids.ts";
import { syncFolder } from "./store/private-files.ts";

const identityFile = "relay.key";
const firstInviteFile = "first-invite";

/** The relay's key, drawn and kept at the first start. */
export async function openIdentity(
  folder: string,
  random: (length: number) => Uint8Array,
): Promise<KeyPair> {
  const existing = await readIdentity(folder);
  if (existing !== undefined) return existing;
  const secret = random(32);
  await writePrivateFile(folder, identityFile, `${toBase64url(secret)}\n`);
  return keyPairOf(secret);
}

/** The relay's key, where one was kept; undefined before the first start. */
export async function readIdentity(folder: string): Promise<KeyPair | undefined> {
  const path = join(folder, identityFile);
  const text = await readText(path);
  if (text === undefined) return undefined;
  const secret = parseId(text.trim(), 32);
  if (secret === undefined) {
    throw new SyncError(ErrorCode.STORE_UNAVAILABLE, {
      hint: `the relay's key in ${path} is damaged: restore that file from a backup; without it every device must be given a new address`,
    });
  }
  return keyPairOf(secret);
}

/** The relay's key as its file holds it; undefined where there is none. A secret. */
export async function identityText(folder: string): Promise<string | undefined> {
  return (await readText(join(folder, identityFile)))?.trim();
}

/** Keeps a key that came from a backup. Throws where it is none. */
export async function writeIdentity(folder: string, text: string): Promise<KeyPair> {
  const secret = parseId(text, 32);
  if (secret === undefined) throw new RangeError("the backup holds no relay key of 32 bytes");
  await writePrivateFile(folder, identityFile, `${text}\n`);
  return keyPairOf(secret);
}

/** The first invite, as it is handed out. */
export interface FirstInvite {
  /** 22 characters. */
  readonly code: string;
  /** Where it is kept until it is used. */
  readonly file: string;
}

export async function keepFirstInvite(folder: string, invite: Uint8Array): Promise<FirstInvite> {
  const file = join(folder, firstInviteFile);
  const code = toBase64url(invite);
  await writePrivateFile(folder, firstInviteFile, `${code}\n`);
  return { code, file };
}

/** The first invite and its bytes, where it was kept. */
export async function readFirstInvite(
  folder: string,
): Promise<(FirstInvite & { readonly invite: Uint8Array }) | undefined> {
  const file = join(folder, firstInviteFile);
  const code = (await readText(file))?.trim();
  const invite = code === undefined ? undefined : parseId(code, groupInviteBytes);
  return code === undefined || invite === undefined ? undefined : { code, file, invite };
}

/** Forgets the first invite: it was used. */
export async function forgetFirstInvite(folder: string): Promise<void> {
  await rm(join(folder, firstInviteFile), { force: true });
}

/** Writes a file of mode 0600, whole or not at all, that outlasts a power cut. */
export async function writePrivateFile(folder: string, name: string, text: string): Promise<void> {
  const path = join(folder, `${name}.new`);
  await rm(path, { force: true });
  const file = await open(path, "wx", 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(path, join(folder, name));
  await syncFolder(folder);
}

/** A file's text; undefined where there is none. */
export async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
