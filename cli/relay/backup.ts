/** `sync-relay backup`, `verify`, `restore` and `drill`: the way back. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Command, Option } from "commander";
import type { BackupNote } from "../../server/store/backup.ts";
import type { Restored } from "../../server/store/restore.ts";
import type { Verification } from "../../server/store/upkeep.ts";
import { idText } from "../../wire/ids.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { count, formatBytes, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { openPlain } from "./age-file.ts";
import { type TakeOptions, takeBackup } from "./backup-source.ts";
import type { SideOptions } from "./data-folder.ts";

const json = (): Option => new Option("--json", "print JSON objects, one a line, errors too");
const dataOption = (): Option =>
  new Option("--data <dir>", "the folder of a relay on this machine (default: ./data)");
const sideOptions = (): readonly Option[] => [
  dataOption(),
  new Option("--url <url>", "a running relay's side API elsewhere, as http://127.0.0.1:8081"),
  new Option(
    "--token-file <file>",
    "the file that holds the admin token (default: admin-token in --data)",
  ),
];
const ageIdentity = (): Option =>
  new Option("--age-identity <file>", "the file with the secret key of an encrypted backup");

interface OpenOptions {
  readonly ageIdentity?: string;
}

interface RestoreCommandOptions extends OpenOptions {
  readonly data?: string;
  readonly replace?: boolean;
}

/** Declares the four commands. */
export function backupCommands(context: Context, program: Command): void {
  const declare = (words: string, description: string, examples: string): Command =>
    program
      .command(words)
      .description(description)
      .helpOption("-h, --help", "print this help")
      .allowExcessArguments(false)
      .addHelpText("after", examples);

  const backup = declare(
    "backup <file>",
    "write a backup of a relay, running or stopped, into a file",
    `
A running relay is asked through its side API and serves its devices meanwhile; a stopped one is copied
from its folder. The file gets its name only when all of it is on disk. Without --with-identity it does
not hold the relay's key: restored elsewhere it is another relay, with another address.

Examples:
  sync-relay backup /backups/relay-$(date +%F)
  sync-relay backup /backups/relay --replace --age age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  sync-relay backup move-me --with-identity
  sync-relay backup relay.backup --url http://127.0.0.1:8081 --token-file admin-token`,
  );
  for (const option of [
    ...sideOptions(),
    new Option(
      "--with-identity",
      "put the relay's private key into it: who reads it can pose as the relay",
    ),
    new Option("--age <recipient>", "encrypt it for this age recipient; may be repeated").argParser(
      (text: string, before: readonly string[] | undefined) => [...(before ?? []), text],
    ),
    new Option("--replace", "replace a file of that name"),
    json(),
  ]) {
    backup.addOption(option);
  }
  backup.action((file: string, options: TakeOptions) => runBackup(context, file, options));

  const verify = declare(
    "verify <file>",
    "look at every row of a backup: the file, the chains, the counters",
    `
Examples:
  sync-relay verify /backups/relay-2026-11-24
  sync-relay verify /backups/relay --age-identity key.txt`,
  );
  verify.addOption(ageIdentity()).addOption(json());
  verify.action((file: string, options: OpenOptions) => runVerify(context, file, options));

  const restore = declare(
    "restore <file>",
    "make a relay's store of a backup",
    `
The relay must not run. The backup is verified first; then every group gets a new log id, so that its
devices notice and bring what the backup lacks. A store that is there is refused, or with --replace kept
beside, in DIR/replaced-TIME.

Examples:
  sync-relay restore /backups/relay-2026-11-24 --data /var/lib/sync-relay --replace
  sync-relay restore move-me --data ./data && sync-relay serve --data ./data`,
  );
  restore
    .addOption(new Option("--data <dir>", "the folder to restore into").makeOptionMandatory())
    .addOption(new Option("--replace", "in place of a store that is there, which is kept beside"))
    .addOption(ageIdentity())
    .addOption(json());
  restore.action((file: string, options: RestoreCommandOptions) =>
    runRestore(context, file, options),
  );

  const drill = declare(
    "drill [file]",
    "prove that a backup restores, without touching what is live",
    `
Takes a backup where none is named, restores it into a temporary folder (TMPDIR), verifies it, starts a
relay on it for a moment, and removes it again.

Examples:
  sync-relay drill --data /var/lib/sync-relay
  sync-relay drill /backups/relay --age-identity key.txt`,
  );
  for (const option of [...sideOptions(), ageIdentity(), json()]) drill.addOption(option);
  drill.action((file: string | undefined, options: SideOptions & OpenOptions) =>
    runDrill(context, file, options),
  );
}

async function runBackup(context: Context, file: string, options: TakeOptions): Promise<void> {
  const { output } = context;
  const taken = await takeBackup(context, file, options);
  output.event("backup", { ...taken }, `${formatBytes(taken.bytes)} in ${printable(file)}`);
  if (taken.encrypted) output.note("only the recipient's secret key opens it: keep that elsewhere");
  else if (taken.withIdentity) {
    output.note("it holds the relay's private key: keep it as safe as the relay");
  }
  output.note(`prove that it restores: sync-relay drill ${printable(file)}`);
}

async function runVerify(context: Context, file: string, options: OpenOptions): Promise<void> {
  const plain = await openPlain(file, options.ageIdentity);
  try {
    const { note, found } = await readBackup(context, plain.path, file);
    const encrypted = plain.encrypted;
    tellVerification(context, file, found, { ...noteFields(note), encrypted });
  } finally {
    await plain.remove();
  }
}

async function readBackup(
  { output, signal }: Context,
  path: string,
  file: string,
): Promise<{ readonly note: BackupNote; readonly found: Verification }> {
  const [{ readNote }, { SqliteConnection }, { verifyStore }] = await Promise.all([
    import("../../server/store/backup.ts"),
    import("../../server/store/sqlite-connection.ts"),
    import("../../server/store/verify.ts"),
  ]);
  const connection = await SqliteConnection.open(path, { readOnly: true });
  let note: BackupNote | undefined;
  try {
    note = await readNote(connection).catch((error: unknown) => {
      throw new CommandError(ExitCode.refused, "NO_BACKUP", `${file} cannot be read as a backup`, {
        hint: "name a file that sync-relay backup made, or an older one where this is damaged",
        cause: error,
      });
    });
  } finally {
    await connection.close();
  }
  if (note === undefined) {
    throw new CommandError(ExitCode.refused, "NO_BACKUP", `${file} is no backup`, {
      hint: "name a file that sync-relay backup made; a live store is verified with sync-relay admin maintenance verify",
    });
  }
  const found = await verifyStore(path, {
    readOnly: true,
    signal,
    onProgress: (done, all) =>
      output.progress(`verifying ${done.toLocaleString("en-US")} of ${count(all, "row")}`),
  });
  return { note, found };
}

/** Tells what was found; throws where something is wrong. */
function tellVerification(
  { output }: Context,
  file: string,
  found: Verification,
  about: Readonly<Record<string, unknown>>,
): void {
  const { findings, ...counts } = found;
  const told = findings.map(({ groupId, text }) => ({
    groupId: groupId === undefined ? "" : idText(groupId),
    message: text,
  }));
  if (findings.length === 0) {
    output.event("verified", { file, ...about, ...counts, findings: [] }, verifiedText(found));
    return;
  }
  if (output.json) output.event("verified", { file, ...about, ...counts, findings: told });
  for (const { groupId, message } of told) {
    output.note(printable(groupId === "" ? message : `group ${groupId}: ${message}`));
  }
  throw damaged(file, findings.length);
}

function damaged(file: string, findings: number): CommandError {
  return new CommandError(
    ExitCode.refused,
    "DAMAGED",
    `${file} is damaged: ${count(findings, "finding")}`,
    { hint: "use an older backup; nothing was changed" },
  );
}

function verifiedText({ groups, devices, blobs, controlBlobs }: Verification): string {
  return `whole: ${count(groups, "group")}, ${count(devices, "device")}, ${count(blobs, "blob")}, ${count(controlBlobs, "membership change")}`;
}

/** What a backup says of itself, without its secret. */
function noteFields(note: BackupNote): Readonly<Record<string, unknown>> {
  const { madeMs, version, identity } = note;
  return { madeMs, version, withIdentity: identity !== undefined };
}

async function runRestore(
  context: Context,
  file: string,
  options: RestoreCommandOptions,
): Promise<void> {
  const { output } = context;
  if (options.data === undefined) throw usageError("--data names the folder to restore into");
  const folder = resolve(options.data);
  const plain = await openPlain(file, options.ageIdentity);
  try {
    const restored = await restoreInto(context, plain.path, file, {
      folder,
      replace: options.replace === true,
    });
    const { note, verification, kept, identity } = restored;
    output.event(
      "restored",
      {
        folder,
        ...noteFields(note),
        groups: verification.groups,
        blobs: verification.blobs,
        kept: kept ?? null,
        identity,
      },
      `restored ${count(verification.groups, "group")} of ${time(note.madeMs)} into ${printable(folder)}`,
    );
    if (kept !== undefined) output.note(`the store before is in ${printable(kept)}`);
    if (identity === "none") {
      output.warn(
        "the backup holds no relay key: the relay will have a new address, which every device must be given",
      );
    }
    output.note(`start it: sync-relay serve --data ${printable(options.data)}`);
  } finally {
    await plain.remove();
  }
}

async function restoreInto(
  { output, signal }: Context,
  backup: string,
  file: string,
  into: { readonly folder: string; readonly replace: boolean },
): Promise<Restored> {
  const { DamagedBackupError, restoreBackup } = await import("../../server/store/restore.ts");
  try {
    return await restoreBackup({
      backup,
      ...into,
      nowMs: Date.now(),
      signal,
      onProgress: (done, all) =>
        output.progress(`verifying ${done.toLocaleString("en-US")} of ${count(all, "row")}`),
    });
  } catch (error) {
    if (!(error instanceof DamagedBackupError)) throw error;
    for (const { groupId, text } of error.verification.findings) {
      output.note(printable(groupId === undefined ? text : `group ${idText(groupId)}: ${text}`));
    }
    throw damaged(file, error.verification.findings.length);
  }
}

async function runDrill(
  context: Context,
  named: string | undefined,
  options: SideOptions & OpenOptions,
): Promise<void> {
  const { output } = context;
  const temporary = await mkdtemp(join(tmpdir(), "sync-relay-drill-"));
  try {
    const started = performance.now();
    const file = named ?? join(temporary, "backup");
    if (named === undefined) await takeBackup(context, file, options);
    const plain = await openPlain(file, options.ageIdentity);
    let restored: Restored;
    const folder = join(temporary, "data");
    try {
      restored = await restoreInto(context, plain.path, file, { folder, replace: false });
    } finally {
      await plain.remove();
    }
    output.progress("starting a relay on it");
    const { startRelay } = await import("../../server/index.ts");
    const relay = await startRelay({ data: folder, listen: "127.0.0.1:0", logLevel: "silent" });
    await relay.drain();
    const seconds = Math.round((performance.now() - started) / 100) / 10;
    const { note, verification } = restored;
    output.event(
      "drill",
      {
        ...(named === undefined ? {} : { file: named }),
        ...noteFields(note),
        schema: verification.schema,
        groups: verification.groups,
        devices: verification.devices,
        blobs: verification.blobs,
        controlBlobs: verification.controlBlobs,
        seconds,
      },
      `${verifiedText(verification)}; restored and started in ${seconds} s, from ${time(note.madeMs)}`,
    );
    output.note("the live data were not touched");
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")}Z`;
}
