/**
 * Where the relay connects by itself: endpoints that a device names, so that whoever is a member could
 * have it reach what only the relay's machine can. So an endpoint is an `https` URL, and every address that
 * its name stands for is a public one; that is looked at where the connection is made, for a name may stand
 * for something else each time it is asked.
 */
import { lookup as systemLookup } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";

/** What is not public, of IPv4 (RFC 6890, and multicast). */
const notPublic4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
/** What of 2000::/3, which all public ones of IPv6 are in, is not: tunnels that hold an IPv4 address among them. */
const notPublic6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

const refused4 = listOf(notPublic4, "ipv4");
const refused6 = listOf(notPublic6, "ipv6");
const global6 = listOf(["2000::/3"], "ipv6");

function listOf(ranges: readonly string[], family: "ipv4" | "ipv6"): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = "", bits] = range.split("/");
    list.addSubnet(address, Number(bits), family);
  }
  return list;
}

/** Whether an address is one that anybody can reach. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !refused4.check(address, "ipv4");
    case 6:
      return global6.check(address, "ipv6") && !refused6.check(address, "ipv6");
    default:
      return false;
  }
}

/**
 * The URL of an endpoint; undefined where the relay sends nothing there: it is no `https` URL, it carries a
 * name and a password, or its host is an address that is not public.
 */
export function readEndpoint(text: string, allowPrivate: boolean): URL | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "https:" || url.username !== "" || url.password !== "") return undefined;
  if (allowPrivate) return url;
  const address = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (isIP(address) !== 0) return isPublicAddress(address) ? url : undefined;
  return /(^|\.)localhost\.?$/i.test(address) ? undefined : url;
}

/** A host's name stands for an address that is not public. */
export class PrivateAddressError extends Error {
  override readonly name = "PrivateAddressError";
}

/** `dns.lookup` that fails where any of the addresses is not public. */
export function publicLookup(lookup: typeof systemLookup = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        callback(error, "");
      } else if (
        addresses.length === 0 ||
        !addresses.every(({ address }) => isPublicAddress(address))
      ) {
        callback(new PrivateAddressError("the name stands for an address that is not public"), "");
      } else if (options.all === true) {
        callback(null, addresses);
      } else {
        callback(null, addresses[0]?.address ?? "", addresses[0]?.family);
      }
    });
  };
}
