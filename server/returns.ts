/**
 * Devices that come back to a group which a restored relay has lost, or lost them from: each by a
 * group invite. The first control blob that is taken uses the invite up, and its device goes on with
 * it, also on another session, until it is in the group again or this process ends.
 */
import { toHex } from "../wire/bytes.ts";
import { idText } from "../wire/ids.ts";
import type { InviteRow } from "./store/contract.ts";

/** Who comes back to what. */
export interface Return {
  readonly groupId: Uint8Array;
  readonly deviceId: Uint8Array;
  /** BLAKE2b-256 of the invite it showed. */
  readonly inviteHash: Uint8Array;
}

export class Returns {
  readonly #begun = new Map<string, string>();
  /** Begun by the commit under way. */
  #unsettled: string[] = [];

  /** Whether a device may come back: by an invite that holds, or by the one it began with. */
  may(by: Return, invite: InviteRow | undefined, ageS: number): boolean {
    return this.#begun.get(toHex(by.inviteHash)) === nameOf(by) || inviteHolds(invite, ageS);
  }

  begin(by: Return): void {
    const key = toHex(by.inviteHash);
    this.#begun.set(key, nameOf(by));
    this.#unsettled.push(key);
  }

  /** It is in the group again. */
  end(by: Return): void {
    this.#begun.delete(toHex(by.inviteHash));
  }

  /** The commit under way is on disk, or failed: then no invite was used up by it. */
  settle(committed: boolean): void {
    if (!committed) for (const key of this.#unsettled) this.#begun.delete(key);
    this.#unsettled = [];
  }
}

function nameOf({ groupId, deviceId }: Return): string {
  return `${idText(groupId)} ${idText(deviceId)}`;
}

/** Whether an invite can be used: there, unused, not taken back and not expired. */
export function inviteHolds(invite: InviteRow | undefined, ageS: number): invite is InviteRow {
  return (
    invite !== undefined &&
    invite.usedByGroupKey === 0 &&
    invite.revokedMs === 0 &&
    (invite.expiresAgeS === 0 || invite.expiresAgeS > ageS)
  );
}
