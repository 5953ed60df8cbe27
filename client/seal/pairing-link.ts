/**
 * Pairing links: what a QR code shows. Everything stands in the fragment, which
 * no browser sends anywhere: `syncrelay:pair#…`, or an origin that the app
 * configures. Never the relay's host, which would be handed the page's own code
 * to read the fragment with.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { PairingLinkSchema } from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { fromBase64url, toBase64url } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { rendezvousIdBytes } from "../../wire/ids.ts";
import { parseRelayAddress, RelayAddressError } from "../../wire/relay-address.ts";
import { decodeMessage } from "./checks.ts";

/** The secret in a link. */
export const linkSecretBytes = 32;
/** What stands before the fragment unless an app configures its own. */
export const pairingOriginDefault = "syncrelay:pair";
/** A link at most, in characters: an address, a mailbox and a secret take far less. */
const linkCharactersMax = 2_048;

/** What a link says. */
export interface PairingLinkParts {
  /** The mailbox, 5 bytes. */
  readonly rendezvousId: Uint8Array;
  /** The relay's address, with its key. */
  readonly relayAddress: string;
  /** 32 random bytes. */
  readonly secret: Uint8Array;
}

/**
 * A link as text. Throws `RangeError` where a part has another length, or the
 * origin is the relay itself.
 */
export function formatPairingLink(
  link: PairingLinkParts,
  origin: string = pairingOriginDefault,
): string {
  if (
    link.rendezvousId.byteLength !== rendezvousIdBytes ||
    link.secret.byteLength !== linkSecretBytes
  ) {
    throw new RangeError("a link has a mailbox of 5 bytes and a secret of 32");
  }
  const relay = parseRelayAddress(link.relayAddress);
  if (origin.includes("#")) throw new RangeError("the origin of links has no fragment");
  if (hostOf(origin) === hostOf(relay.url)) {
    throw new RangeError("the relay's host cannot be the origin of pairing links");
  }
  const message = create(PairingLinkSchema, {
    rendezvousId: link.rendezvousId,
    relayAddress: relay.text,
    secret: link.secret,
  });
  return `${origin}#${toBase64url(toBinary(PairingLinkSchema, message))}`;
}

/** Whether a text is meant as a link rather than a code. */
export function looksLikeLink(text: string): boolean {
  return text.includes("#") || text.includes(":");
}

/**
 * Reads a link of the given origin or of ours. Throws INVITE_INVALID, with a
 * hint, where it is none.
 */
export function parsePairingLink(
  text: string,
  origin: string = pairingOriginDefault,
): PairingLinkParts {
  const trimmed = text.length > linkCharactersMax ? "" : text.trim();
  const mark = trimmed.indexOf("#");
  const before = trimmed.slice(0, Math.max(0, mark));
  const bytes = fromBase64url(trimmed.slice(mark + 1));
  if (mark < 0 || (before !== origin && before !== pairingOriginDefault) || bytes === undefined) {
    throw noLink();
  }
  const message = decodeMessage(
    PairingLinkSchema,
    bytes,
    linkCharactersMax,
    ErrorCode.INVITE_INVALID,
  );
  const { rendezvousId, relayAddress, secret } = message;
  if (rendezvousId.byteLength !== rendezvousIdBytes || secret.byteLength !== linkSecretBytes) {
    throw noLink();
  }
  try {
    return { rendezvousId, relayAddress: parseRelayAddress(relayAddress).text, secret };
  } catch (cause) {
    if (cause instanceof RelayAddressError) throw noLink(cause);
    throw cause;
  }
}

function noLink(cause?: unknown): SyncError {
  return new SyncError(ErrorCode.INVITE_INVALID, {
    hint: "a pairing link looks like syncrelay:pair#…; copy it whole",
    cause,
  });
}

/** The host of an address; undefined where it has none, as in a scheme of an app's own. */
function hostOf(address: string): string | undefined {
  try {
    const { host } = new URL(address);
    return host === "" ? undefined : host;
  } catch {
    return undefined;
  }
}
