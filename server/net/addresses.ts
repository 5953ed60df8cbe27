/**
 * Where a connection comes from, for the limits only: never logged, never stored.
 * Forwarded addresses are believed only from proxies the operator named.
 */

import type { IncomingMessage } from "node:http";
import { BlockList, isIP } from "node:net";

/** A peer's address as the limits see it. */
export interface PeerAddress {
  /** An IPv4 address, or the /64 of an IPv6 one: what one household has. */
  readonly key: string;
  /** Many devices stand behind it: loopback, where a tunnel ends that was not named as a proxy. */
  readonly shared: boolean;
}

/** Proxies whose forwarded addresses are believed, as CIDRs or single addresses. */
export class TrustedProxies {
  readonly #list = new BlockList();
  readonly any: boolean;

  constructor(cidrs: readonly string[]) {
    this.any = cidrs.length > 0;
    for (const cidr of cidrs) {
      const [address = "", prefix] = cidr.split("/");
      const version = isIP(address);
      const bits = prefix === undefined ? (version === 4 ? 32 : 128) : Number(prefix);
      if (
        version === 0 ||
        !Number.isInteger(bits) ||
        bits < 0 ||
        bits > (version === 4 ? 32 : 128)
      ) {
        throw new RangeError(`not an address or CIDR: ${cidr}`);
      }
      this.#list.addSubnet(address, bits, version === 4 ? "ipv4" : "ipv6");
    }
  }

  has(address: string): boolean {
    const version = isIP(address);
    return version !== 0 && this.#list.check(address, version === 4 ? "ipv4" : "ipv6");
  }
}

/** The address a request comes from. */
export function peerAddress(request: IncomingMessage, proxies: TrustedProxies): PeerAddress {
  const direct = unmapped(request.socket.remoteAddress ?? "");
  if (!proxies.has(direct)) return { key: limitKey(direct), shared: isLoopback(direct) };
  const forwarded = forwardedAddress(request, proxies);
  // A named proxy that forwards nothing usable speaks for everybody behind it.
  return forwarded === undefined
    ? { key: limitKey(direct), shared: true }
    : { key: limitKey(forwarded), shared: false };
}

/** What the nearest proxy that is not ours says: the last address of the list that no named proxy has. */
function forwardedAddress(request: IncomingMessage, proxies: TrustedProxies): string | undefined {
  const list = request.headers["x-forwarded-for"];
  if (list === undefined) {
    // Only where no proxy wrote a list: most pass on whatever the client put here,
    // and Cloudflare writes both.
    const cloudflare = request.headers["cf-connecting-ip"];
    return typeof cloudflare === "string" && isIP(cloudflare) !== 0
      ? unmapped(cloudflare)
      : undefined;
  }
  for (const entry of String(list).split(",").toReversed()) {
    const address = unmapped(entry.trim());
    if (isIP(address) === 0) return undefined;
    if (!proxies.has(address)) return address;
  }
  return undefined;
}

/** An IPv4 address that came as an IPv6 one, as itself. */
function unmapped(address: string): string {
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(address) ? address.slice(7) : address;
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

/** An IPv6 household has a /64; an IPv4 one has an address. */
export function limitKey(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = address.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  const groups = [...before, ...Array<string>(Math.max(0, zeros)).fill("0"), ...after];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
