/** Recovery phrases: `recovery create`, `verify`, `use` and `revoke`. */
import type { SyncClient } from "../../client/index.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { count, formatTable } from "../output.ts";
import type { Context } from "../program.ts";
import { ask, askLine, canAsk, checkCanConfirm } from "./ask.ts";
import { deviceName, relayAddressOf, withMember, withNewDevice } from "./device.ts";
import { declined } from "./membership.ts";
import { reached, whileReachable } from "./waiting.ts";

/** Words a person writes are a few hundred bytes; more is no phrase. */
const wordsBytesMax = 4_096;

/** `recovery create`: makes a phrase and shows it, once. */
export async function createRecovery(
  context: Context,
  options: { readonly state: string; readonly replace: boolean; readonly yes: boolean },
): Promise<void> {
  const { output, signal } = context;
  checkCanConfirm(context, options.yes, "showing a recovery phrase");
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    if (hasPhrase(client) && !options.replace) {
      throw usageError(
        "the group has a recovery phrase already",
        "check the one you have: sync-cli recovery verify; or make another: --replace",
      );
    }
    if (!options.yes) {
      output.note("whoever has the words can read everything; have pen and paper at hand");
      if (!(await ask(context, "show them now, this once?"))) throw declined();
    }
    const making = client.createRecoveryPhrase({ replace: options.replace });
    const { words, deviceId, fingerprint, replaced } = await whileReachable(client, signal, making);
    output.event("recovery", { words, deviceId, fingerprint }, wordsTable(words));
    await whileReachable(client, signal, replaced);
    output.note(
      "write them down in this order; they are kept nowhere and not shown again\n" +
        "then check what you wrote: sync-cli recovery verify",
    );
  });
}

/** `recovery verify`: whether words are this group's phrase. */
export async function verifyRecovery(
  context: Context,
  options: { readonly state: string },
): Promise<void> {
  const { output, signal } = context;
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    const state = await client.verifyRecoveryPhrase(await readWords(context));
    output.event("verified", { state }, state === "active" ? "this phrase is good" : undefined);
    if (state === "active") return;
    throw new CommandError(
      ExitCode.refused,
      `PHRASE_${state.toUpperCase()}`,
      state === "revoked"
        ? "this phrase was replaced or revoked: it brings nothing back"
        : "these words are a phrase, but not one of this group",
      { hint: "make another: sync-cli recovery create --replace" },
    );
  });
}

/** `recovery use`: brings the group back onto a new device. */
export async function useRecovery(
  context: Context,
  options: {
    readonly state: string;
    readonly relay: string;
    readonly name?: string;
    readonly group?: string;
  },
): Promise<void> {
  const { output, signal } = context;
  const relay = relayAddressOf(options.relay);
  const name = deviceName(options.name);
  await withNewDevice({ state: options.state, relay, name }, async (client) => {
    const words = await readWords(context);
    output.note("looking for the phrase's group");
    const { group } = options;
    // Fails by itself where the relay is not reached: this device has no connection of its own yet.
    await client.recover(words, group === undefined ? { signal } : { signal, groupId: group });
    const { deviceId, groupId, devices } = client.status();
    output.event(
      "recovered",
      { deviceId, groupId, name, devices },
      `the group is back: ${count(devices, "device")}, this one and the phrase among them`,
    );
    output.note(
      "next: sync-cli pull --out FOLDER; then remove what was lost: sync-cli devices, sync-cli remove DEVICE",
    );
  });
}

/** `recovery revoke`: no phrase brings the group back any more. */
export async function revokeRecovery(
  context: Context,
  options: { readonly state: string; readonly yes: boolean },
): Promise<void> {
  const { output, signal } = context;
  checkCanConfirm(context, options.yes, "revoking the recovery phrase");
  await withMember(options.state, async (client) => {
    await reached(client, signal);
    if (!hasPhrase(client)) {
      throw usageError("the group has no recovery phrase", "make one: sync-cli recovery create");
    }
    if (!options.yes && !(await ask(context, "revoke the group's recovery phrase?"))) {
      throw declined();
    }
    const revoked = await whileReachable(client, signal, client.revokeRecoveryPhrase());
    output.event("revoked", { phrases: revoked }, "the phrase brings nothing back any more");
  });
}

function hasPhrase(client: SyncClient): boolean {
  return client.devices().some(({ role }) => role === "paper");
}

/** Words are typed, or come by standard input: on a command line everybody on the machine sees them. */
async function readWords(context: Context): Promise<string> {
  if (canAsk(context)) return await askLine(context, "the 24 words, with spaces: ");
  let text = "";
  for await (const chunk of context.world.stdin) {
    text += String(chunk);
    if (text.length > wordsBytesMax) break;
  }
  return text;
}

/** Four columns, numbered down: as they are written on paper. */
function wordsTable(words: readonly string[]): string {
  const rows = Math.ceil(words.length / 4);
  return formatTable(
    Array.from({ length: rows }, (_, row) =>
      Array.from({ length: 4 }, (_column, column) => {
        const at = column * rows + row;
        return `${String(at + 1).padStart(2)} ${words[at] ?? ""}`;
      }),
    ),
  );
}
