/** Addresses and ranges of them, as an operator writes them. */
import { isIP } from "node:net";

/** Whether a text is an IP address, or a CIDR range of them. */
export function isAddressRange(text: string): boolean {
  const [address = "", prefix, rest] = text.split("/");
  const version = isIP(address);
  if (version === 0 || rest !== undefined) return false;
  if (prefix === undefined) return true;
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128);
}
