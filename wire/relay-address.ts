/**
 * A relay's address: `ws://` or `wss://host[:port]/#<relay public key>`. The
 * fragment is the key that the device pins; it never leaves the client.
 */
import { toBase64url } from "./bytes.ts";
import { deviceIdBytes, parseId } from "./ids.ts";

/** A relay's address, parsed. */
export interface RelayAddress {
  /** Where to connect: scheme, host and port, with `/v1/sync` as its path; without the key. */
  readonly url: string;
  /** The relay's X25519 public key, 32 bytes. */
  readonly relayKey: Uint8Array;
  /** The whole address in its one form. */
  readonly text: string;
}

/** What is wrong with an address, as a sentence for people. */
export class RelayAddressError extends Error {
  override readonly name = "RelayAddressError";
}

const syncPath = "/v1/sync";

/** Reads an address. Throws `RelayAddressError`, which says what is missing. */
export function parseRelayAddress(text: string): RelayAddress {
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    throw new RelayAddressError("a relay address looks like wss://sync.example.com/#KEY");
  }
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new RelayAddressError("a relay address begins with ws:// or wss://");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "") {
    throw new RelayAddressError("a relay address has no user, password or query");
  }
  if (url.pathname !== "/" && url.pathname !== "") {
    throw new RelayAddressError("a relay address has no path: the key follows directly after /#");
  }
  const relayKey = parseId(url.hash.slice(1), deviceIdBytes);
  if (relayKey === undefined) {
    throw new RelayAddressError(
      "a relay address ends with # and the relay's key, 43 characters; `sync-relay address` prints it whole",
    );
  }
  return {
    url: `${url.protocol}//${url.host}${syncPath}`,
    relayKey,
    text: formatRelayAddress(`${url.protocol}//${url.host}/`, relayKey),
  };
}

/** The address of a relay that is reached at `origin`, such as `wss://sync.example.com/`. */
export function formatRelayAddress(origin: string, relayKey: Uint8Array): string {
  return `${origin.replace(/\/+$/, "")}/#${toBase64url(relayKey)}`;
}
