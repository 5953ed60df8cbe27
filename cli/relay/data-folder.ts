/** Which relay a command is about. */
import type { Context } from "../program.ts";

/** Which relay, and with which token. */
export interface SideOptions {
  readonly url?: string;
  readonly tokenFile?: string;
  readonly data?: string;
}

/** The folder of a relay on this machine. */
export function dataFolder(
  env: Context["world"]["env"],
  options: { readonly data?: string },
): string {
  return options.data ?? env["SYNC_RELAY_DATA"] ?? "./data";
}
