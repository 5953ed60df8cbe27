/** Founding a group, inviting a device and joining: `init` and `pair`. */
import { renderUnicodeCompact } from "uqr";
import { ErrorCode, type JoinerInfo, type SyncClient, SyncError } from "../../client/index.ts";
import { looksLikeLink, parsePairingLink } from "../../client/seal/pairing-link.ts";
import { parseCode } from "../../client/seal/short-code.ts";
import { fingerprint, groupInviteBytes, parseId } from "../../wire/ids.ts";
import { parseRelayAddress } from "../../wire/relay-address.ts";
import { usageError } from "../exit-codes.ts";
import { formatDuration, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { ask, canAsk } from "./ask.ts";
import { deviceName, relayAddressOf, withMember, withNewDevice } from "./device.ts";
import { connectionSettled, reached, whileReachable } from "./waiting.ts";

/** `init`: makes the device and founds a group with it. */
export async function init(
  context: Context,
  options: { state: string; relay: string; name?: string; invite?: string },
): Promise<void> {
  const { output, signal } = context;
  const relay = relayAddressOf(options.relay);
  const name = deviceName(options.name);
  const { invite } = options;
  if (invite !== undefined) checkInvite(invite);
  await withNewDevice({ state: options.state, relay, name }, async (client) => {
    // One that was interrupted goes on by itself, with the invite it began with.
    const founding =
      client.status().membership === "founding"
        ? foundingEnded(client)
        : client.createGroup(invite === undefined ? {} : { invite });
    await whileReachable(client, signal, founding);
    output.event(
      "initialised",
      selfOf(client),
      `founded a group; this device is ${printable(name)}`,
    );
    output.note("next: invite another device with: sync-cli pair --create");
  });
}

/** `reconnect`: makes a relay that was restored, or set up anew, know this device's group again. */
export async function reconnect(
  context: Context,
  options: { state: string; invite: string },
): Promise<void> {
  const { output, signal } = context;
  checkInvite(options.invite);
  await withMember(options.state, async (client) => {
    await connectionSettled(client, signal);
    await client.reconnectWithInvite(options.invite);
    await reached(client, signal);
    output.event(
      "reconnected",
      selfOf(client),
      `the relay knows ${printable(client.status().name)} and its group again`,
    );
    output.note("what else the relay lacks follows by itself, from each device that holds it");
  });
}

function checkInvite(invite: string): void {
  if (parseId(invite, groupInviteBytes) !== undefined) return;
  throw usageError(
    "that is no invite: one has 22 letters, digits, - and _",
    "whoever runs the relay sees one where it starts, or finds it in the file named there",
  );
}

/** `pair --create`: opens an invite, and admits the device that a person says yes to. */
export async function createPairing(
  context: Context,
  options: { state: string; yes: boolean },
): Promise<void> {
  const { output, signal } = context;
  if (!options.yes && !canAsk(context)) {
    throw usageError(
      "a person must say yes to the device that joins, and this is no terminal",
      "run it on a terminal, or with --yes to admit whoever has the code",
    );
  }
  await withMember(options.state, async (client) => {
    const confirm = async (joiner: JoinerInfo): Promise<boolean> => {
      tellJoiner(context, joiner);
      return options.yes || ask(context, "add this device to the group?");
    };
    await reached(client, signal);
    const invite = await whileReachable(client, signal, client.invite({ confirm }));
    try {
      const { code, link, expiresAtMs } = invite;
      if (output.interactive) {
        const lines = renderUnicodeCompact(link, { border: 2 }).split("\n");
        output.event("qr", {}, lines.map((line) => output.paint("screen", line)).join("\n"));
      }
      const relay = client.status().relay ?? "";
      output.event(
        "invite",
        { code, link, relay, expiresAtMs },
        [
          `code:  ${output.paint("bold", code)}`,
          `link:  ${link}`,
          "",
          `on the other device, within ${formatDuration(expiresAtMs - Date.now())}, either of`,
          `  sync-cli pair --join ${code} --relay '${relay}'`,
          `  sync-cli pair --join '${link}'`,
        ].join("\n"),
      );
      output.note("waiting for the other device");
      const device = await whileReachable(client, signal, invite.done);
      output.event(
        "paired",
        { deviceId: device.deviceId, name: device.name, fingerprint: device.fingerprint },
        `added ${printable(device.name)} to the group`,
      );
    } catch (error) {
      // Whatever ended the waiting: the code must not stay good for somebody else. The error that
      // counts is the first one; a relay that is gone forgets the code by itself.
      await Promise.race([invite.cancel().catch(() => undefined), soon()]);
      throw error;
    }
  });
}

/** `pair --join`: makes the device and joins the group of the one that shows the code. */
export async function joinPairing(
  context: Context,
  options: { state: string; join: string; relay?: string; name?: string },
): Promise<void> {
  const { output, signal } = context;
  const name = deviceName(options.name);
  const relay = relayOfJoin(options.join, options.relay);
  await withNewDevice({ state: options.state, relay, name }, async (client) => {
    const onComparison = (words: readonly string[]): void => {
      output.event("comparison", { words }, `compare on both screens: ${wordsText(words)}`);
      output.note("waiting for a yes on the other device");
    };
    output.note("asking the other device");
    await whileReachable(client, signal, client.join(options.join, { onComparison, signal }));
    output.event("joined", selfOf(client), `joined the group; this device is ${printable(name)}`);
    output.note("next: sync-cli pull --out FOLDER");
  });
}

/** Resolves once a founding under way has made a group; rejects where it was refused. */
function foundingEnded(client: SyncClient): Promise<void> {
  return new Promise((resolve, reject) => {
    let refusal: Error | undefined;
    client.on("error", (error) => {
      refusal = error;
    });
    const consider = (): void => {
      const { membership } = client.status();
      if (membership === "member") resolve();
      if (membership === "none") reject(refusal ?? new SyncError(ErrorCode.INVITE_INVALID));
    };
    client.on("status", consider);
    client.on("membership", consider);
    consider();
  });
}

/** Checks a code or link before anything is made, and finds the relay it needs. */
function relayOfJoin(codeOrLink: string, given: string | undefined): string {
  if (looksLikeLink(codeOrLink)) {
    const { relayAddress } = parsePairingLink(codeOrLink);
    const relay = relayAddressOf(relayAddress);
    if (given !== undefined && relayAddressOf(given) !== relay) {
      throw usageError("the link names another relay than --relay", "leave --relay out");
    }
    return relay;
  }
  parseCode(codeOrLink);
  if (given === undefined) {
    throw usageError(
      "a code needs the relay's address as well",
      "add --relay ADDRESS, as the other device shows it; or join by the link, which holds it",
    );
  }
  return relayAddressOf(given);
}

function selfOf(client: SyncClient): Record<string, unknown> {
  const { deviceId, name, groupId, relay } = client.status();
  const own = client.devices().find((device) => device.self);
  return {
    deviceId,
    name,
    fingerprint: own?.fingerprint,
    groupId,
    relay,
    relayFingerprint:
      relay === undefined ? undefined : fingerprint(parseRelayAddress(relay).relayKey),
  };
}

function tellJoiner({ output }: Context, joiner: JoinerInfo): void {
  const { deviceId, name, comparison, means } = joiner;
  output.event(
    "joiner",
    { deviceId, name, fingerprint: joiner.fingerprint, comparison, means },
    [
      `${output.paint("bold", printable(name))} wants to join`,
      `fingerprint:              ${joiner.fingerprint}`,
      `compare on both screens:  ${wordsText(comparison)}`,
    ].join("\n"),
  );
}

function wordsText(words: readonly string[]): string {
  return words.map(printable).join(" ");
}

/** The longest that a farewell may take. */
function soon(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 1_000).unref();
  });
}
