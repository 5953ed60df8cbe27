/** `sync-cli`: being a device. Declares the commands; each is carried out in its own file. */
import { Command, InvalidArgumentError, Option } from "commander";
import { softwareVersion } from "../../wire/protocol.ts";
import { exitCodesHelp, usageError } from "../exit-codes.ts";
import type { Context } from "../program.ts";
import { defaultStateFolder } from "./device.ts";
import { acceptFindings, exportEvidence, listFindings } from "./findings.ts";
import { removeDevices, renameDevice, rotateSecret, showFingerprint } from "./membership.ts";
import { createPairing, init, joinPairing, reconnect } from "./pair.ts";
import { type PullCommandOptions, pull, type WatchCommandOptions, watch } from "./pull.ts";
import { type PushCommandOptions, push, remove } from "./push.ts";
import { createRecovery, revokeRecovery, useRecovery, verifyRecovery } from "./recovery.ts";
import { devices, status } from "./report.ts";
import { verify } from "./verify.ts";

/** What every command takes. */
interface Common {
  readonly state?: string;
}

/** Declares the commands of `sync-cli`. */
export function deviceProgram(context: Context): Command {
  const withState = <T extends Common>(options: T): T & { readonly state: string } => ({
    ...options,
    state: options.state ?? defaultStateFolder(context.world.env),
  });
  const program = new Command("sync-cli")
    .description("A device that syncs through a relay which cannot read what it passes on.")
    .version(softwareVersion, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .addHelpText("after", programHelp);

  const command = (
    words: string,
    description: string,
    help: string,
    parent: Command = program,
  ): Command =>
    parent
      .command(words)
      .description(description)
      .addOption(
        new Option(
          "--state <dir>",
          "the folder of this device's state (default: $XDG_STATE_HOME/sync-cli)",
        ),
      )
      .addOption(new Option("--json", "print JSON objects, one a line, errors too"))
      .helpOption("-h, --help", "print this help")
      .addHelpText("after", help);

  command("init", "make this device and found a group with it", initHelp)
    .requiredOption("--relay <address>", "the relay's address, as `sync-relay address` prints it")
    .option("--name <name>", "what the other devices call this one (default: the host's name)")
    .option("--invite <code>", "a group invite, where the relay asks for one")
    .action((options: Common & { relay: string; name?: string; invite?: string }) =>
      init(context, withState(options)),
    );

  command("pair", "add a device to the group, or join one", pairHelp)
    .addOption(
      new Option("--create", "show a code, and wait for the device that has it").conflicts("join"),
    )
    .option("--join <code|link>", "join the group of the device that shows it")
    .option("--relay <address>", "the relay's address; needed with a code, not with a link")
    .option("--name <name>", "what the other devices call this one (default: the host's name)")
    .option("--yes", "with --create: admit whoever has the code, without asking")
    .action(
      (
        options: Common & {
          create?: true;
          join?: string;
          relay?: string;
          name?: string;
          yes?: true;
        },
      ) => {
        const { join, create } = options;
        if (join !== undefined) {
          if (options.yes === true)
            throw usageError("--yes goes with --create", "see: sync-cli pair --help");
          return joinPairing(context, withState({ ...options, join }));
        }
        if (create !== true) {
          throw usageError("either --create or --join CODE", "see: sync-cli pair --help");
        }
        if (options.relay !== undefined || options.name !== undefined) {
          throw usageError("--relay and --name go with --join", "see: sync-cli pair --help");
        }
        return createPairing(context, withState({ ...options, yes: options.yes === true }));
      },
    );

  command("reconnect", "let a restored relay know this device again", reconnectHelp)
    .requiredOption("--invite <code>", "a group invite, from whoever runs the relay")
    .action((options: Common & { invite: string }) => reconnect(context, withState(options)));

  command("push", "send files, or bytes from standard input", pushHelp)
    .argument("<file...>", "files, folders with -r, or - for standard input")
    .option("-r, --recursive", "send folders with all they hold")
    .option("--base <dir>", "send paths relative to this folder (default: the current one)")
    .option("--raw", "send the bytes alone, without the file's path")
    .option("--content-type <type>", "what raw bytes are (default: by the file's name)")
    .addOption(
      new Option("--ttl <seconds>", "let the relay drop it after so long").argParser(wholeNumber),
    )
    .option(
      "--queue",
      "end once it is safe on this device; it goes out when the relay is next reached",
    )
    .action((files: string[], options: Common & Omit<PushCommandOptions, "state">) =>
      push(context, files, withState(options)),
    );

  command("pull", "receive what is new, and end", pullHelp)
    .option("--out <dir>", "put files into this folder")
    .addOption(
      new Option("--after <cursor>", "read again from after this cursor; moves nothing").argParser(
        wholeNumber,
      ),
    )
    .option("--others", "leave out what this device pushed itself")
    .action((options: Common & Omit<PullCommandOptions, "state">) =>
      pull(context, withState(options)),
    );

  command("watch", "receive what is new as it comes, until stopped", watchHelp)
    .option("--out <dir>", "put files into this folder")
    .option("--others", "leave out what this device pushed itself")
    .option(
      "--push <path...>",
      "send these files and folders at the same time; - reads paths from standard input",
    )
    .option("--base <dir>", "send paths relative to this folder (default: the current one)")
    .action((options: Common & Omit<WatchCommandOptions, "state">) =>
      watch(context, withState(options)),
    );

  command("status", "say where this device stands", statusHelp).action((options: Common) =>
    status(context, withState(options)),
  );

  command("devices", "list the devices of the group", devicesHelp).action((options: Common) =>
    devices(context, withState(options)),
  );

  command("fingerprint", "show a device in full, for comparing", fingerprintHelp)
    .argument("[device]", "a name, fingerprint or id (default: this device)")
    .action((device: string | undefined, options: Common) =>
      showFingerprint(context, device, withState(options)),
    );

  command("remove", "shut devices out of the group, for good", removeHelp)
    .argument("<device...>", "names, fingerprints or ids, as `devices` lists them")
    .option("--yes", "without asking")
    .action((named: string[], options: Common & { yes?: true }) =>
      removeDevices(context, named, withState({ ...options, yes: options.yes === true })),
    );

  command("rotate", "give the group a new secret", rotateHelp).action((options: Common) =>
    rotateSecret(context, withState(options)),
  );

  command("rename", "give this device another name", renameHelp)
    .argument("<name>", "what the other devices call this one from now on")
    .action((name: string, options: Common) => renameDevice(context, name, withState(options)));

  command("verify", "check anew everything that the relay still holds", verifyHelp).action(
    (options: Common) => verify(context, withState(options)),
  );

  command("findings", "list what was found wrong with the history", findingsHelp).action(
    (options: Common) => listFindings(context, withState(options)),
  );

  command("accept", "go on in spite of what was found wrong", acceptHelp)
    .argument("<finding...>", "ids, or their beginnings, as `findings` lists them")
    .option("--yes", "without asking")
    .action((ids: string[], options: Common & { yes?: true }) =>
      acceptFindings(context, ids, withState({ ...options, yes: options.yes === true })),
    );

  command("export", "write what shows the findings to somebody else", exportHelp)
    .requiredOption("--evidence <file>", "the file; as JSON where its name ends with .json")
    .option("--finding <id>", "of this one alone (default: of all that are kept)")
    .action((options: Common & { evidence: string; finding?: string }) =>
      exportEvidence(context, withState(options)),
    );

  const recovery = program
    .command("recovery")
    .description("a phrase on paper that brings the group back when every device is lost")
    .helpOption("-h, --help", "print this help")
    .addHelpText("after", recoveryHelp);

  command("create", "make a phrase and show it, once", recoveryCreateHelp, recovery)
    .option("--replace", "in the place of the one there is")
    .option("--yes", "without asking")
    .action((options: Common & { replace?: true; yes?: true }) =>
      createRecovery(
        context,
        withState({ ...options, replace: options.replace === true, yes: options.yes === true }),
      ),
    );

  command("verify", "check that the words are right", recoveryVerifyHelp, recovery).action(
    (options: Common) => verifyRecovery(context, withState(options)),
  );

  command("use", "bring the group back onto this device", recoveryUseHelp, recovery)
    .requiredOption("--relay <address>", "the relay's address, as `sync-relay address` prints it")
    .option("--name <name>", "what this device is called (default: the host's name)")
    .option("--group <id>", "which group, where the phrase is in several")
    .action((options: Common & { relay: string; name?: string; group?: string }) =>
      useRecovery(context, withState(options)),
    );

  command("revoke", "let no phrase bring the group back", recoveryRevokeHelp, recovery)
    .option("--yes", "without asking")
    .action((options: Common & { yes?: true }) =>
      revokeRecovery(context, withState({ ...options, yes: options.yes === true })),
    );

  command("delete", "delete entries from the relay", deleteHelp)
    .argument("<blob-id...>", "blob ids, as push and pull print them with --json")
    .option("--force", "at once; only entries that this device pushed itself")
    .action((blobIds: string[], options: Common & { force?: boolean }) =>
      remove(context, blobIds, withState(options)),
    );

  return program;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError("it must be a whole number from 0");
  }
  return value;
}

const programHelp = `
Examples:
  sync-cli init --relay 'ws://127.0.0.1:8080/#KEY' --name laptop --invite CODE
  sync-cli pair --create
  sync-cli pair --join CODE --relay 'ws://127.0.0.1:8080/#KEY' --name phone
  sync-cli push notes.txt
  sync-cli pull --out received

With --json, stdout holds one JSON object a line, each with its kind under "event". A command that
fails prints {"event":"error","error":{"code","name","message","hint"}} as the last one; the code is
that of the error table, 0 for what is not in it. Without --json, errors go to stderr.

${exitCodesHelp}`;

const initHelp = `
Example:
  sync-cli init --relay 'wss://sync.example.com/#KEY' --name laptop --invite CODE

The part after # is the relay's key: a relay with another key is refused. Where something goes
wrong, nothing is kept and the same command can be run again.`;

const pairHelp = `
Examples:
  sync-cli pair --create
  sync-cli pair --join 7K2M-9QXA-04TB-VD8E --relay 'wss://sync.example.com/#KEY' --name phone
  sync-cli pair --join 'syncrelay:pair#…' --name phone

A code works once and for ten minutes; it may be typed in any case, with or without dashes, and o
and 0, or l, i and 1, are the same. Compare the words on both screens before saying yes.`;

const reconnectHelp = `
Example:
  sync-cli reconnect --invite CODE

For a device whose relay says that it knows no such member: it was restored from a backup of before
this device joined, or its store is gone. This device brings the group's membership back, and then
what it holds of the log. Nothing that is queued is lost meanwhile.`;

const pushHelp = `
Examples:
  sync-cli push notes.txt photo.jpg
  sync-cli push -r documents
  sync-cli push --base ~/documents -r ~/documents
  date | sync-cli push -

A file goes with its path below --base, or with its name alone where it lies outside; a folder
outside --base with its own name in front. Bytes from standard input, and files with --raw, go
without a path. Ends once the relay has everything on disk. Where that cannot be reached, what is
queued stays queued and goes out with the next command.`;

const pullHelp = `
Examples:
  sync-cli pull --out received
  sync-cli pull
  sync-cli pull --after 0 --out everything

Entries come in the order of the log, so that the last change of a file wins on every device. With
--out each is acknowledged once it is on disk; without it they are only listed, and come again.
Bytes without a path, and files whose path leads out of the folder, are kept as CURSOR.bin. Nothing
is ever written through a symbolic link in the folder.`;

const watchHelp = `
Examples:
  sync-cli watch --out received
  sync-cli watch --out received --push documents
  inotifywait -mrq -e close_write --format %w%f notes | sync-cli watch --out . --push -

Like pull, but goes on; and connects again by itself where the connection is lost. Ends with exit
code 0 at SIGINT or SIGTERM. A file that holds what was last sent or received under its path is not
sent again.`;

const statusHelp = `
Ends with exit code 0 also where the relay cannot be reached: the figures are this device's own.`;

const devicesHelp = `
Who is there is the relay's word; names and fingerprints come from the group itself.`;

const fingerprintHelp = `
Examples:
  sync-cli fingerprint
  sync-cli fingerprint phone

64 digits over all public keys of the device, from this device's own copy of the group. Compare
them with what the other device shows for itself: a relay that put itself between shows others.`;

const removeHelp = `
Examples:
  sync-cli remove phone
  sync-cli remove 'c4f1 09ab 77e2 5d10 9b3c' --yes

The relay cuts the device off at once, and the group gets a new secret that it is not given. What
it has received before stays on it. It never comes back as the same device, only as a new one.`;

const rotateHelp = `
Example:
  sync-cli rotate

What is written from now on is sealed under a secret that nobody had before. Done by itself when
the secret is 90 days old, and whenever a device is removed. Locks nobody out who belongs.`;

const renameHelp = `
Example:
  sync-cli rename 'old laptop'`;

const verifyHelp = `
Example:
  sync-cli verify

Walks the group's membership from its founding and every entry's header, signature and content, and
holds them against what this device verified when it read them. Moves nothing. Exit code 7 where
anything is not as its senders wrote it.`;

const findingsHelp = `
Example:
  sync-cli findings

An open finding keeps the device from being in sync. One that holds keeps the later entries of that
sender back, until what is missing arrives, a snapshot covers it, or a person accepts it.`;

const acceptHelp = `
Example:
  sync-cli accept 5c1e

What was altered or left out stays lost to this device; the sender's later entries come through. The
evidence is kept. docs/SECURITY.md says for each kind what accepting does.`;

const exportHelp = `
Examples:
  sync-cli export --evidence evidence.pb
  sync-cli export --evidence evidence.json --finding 5c1e

The file holds what the relay sent and what devices signed, as syncrelay.sealed.v1.EvidenceBundle:
no key, no content, no name. Whoever knows the group's public keys can check it.`;

const recoveryHelp = `
Examples:
  sync-cli recovery create
  sync-cli recovery verify
  sync-cli recovery use --relay 'wss://sync.example.com/#KEY' --name laptop
  sync-cli recovery revoke`;

const recoveryCreateHelp = `
Examples:
  sync-cli recovery create
  sync-cli recovery create --replace

Shows 24 words. Whoever has them and reaches the relay can read everything, so they belong on paper
and nowhere else; no device keeps them. A group has one phrase: --replace makes the old one useless.`;

const recoveryVerifyHelp = `
Examples:
  sync-cli recovery verify
  sync-cli recovery verify < phrase.txt

Asks for the words, or reads them from standard input; never from the command line, which others on
this machine can see. Ends with exit code 0 only where the phrase would bring this group back.`;

const recoveryUseHelp = `
Example:
  sync-cli recovery use --relay 'wss://sync.example.com/#KEY' --name laptop

Makes a new device and adds it to the phrase's group; asks for the words, or reads them from
standard input. The phrase stays good for another time.`;

const recoveryRevokeHelp = `
Example:
  sync-cli recovery revoke

Removes the phrase from the group, and gives the group a new secret.`;

const deleteHelp = `
Example:
  sync-cli delete yqYqJxhH1kqk4gq0c3l0Lw

The relay drops the content once every device has seen that it is deleted; with --force at once.
Files that other devices have already received stay where they are.`;
