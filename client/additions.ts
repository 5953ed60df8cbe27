/**
 * The additions a person said yes to. One is kept before the joiner hears of it; once the joiner has
 * kept its admission it is submitted until the relay has it, whatever comes in between: refusals,
 * other members' changes, lost connections, restarts. What can never be made is dropped and said.
 *
 *     yes ──▶ kept ──▶ receipted ──▶ submitted ──▶ in the chain: forgotten
 *               │                     ▲      │
 *               └─ no receipt, and the process is gone: dropped, and the joiner told
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Device } from "../gen/syncrelay/sealed/v1/membership_pb.ts";
import { type PendingAddition, PendingAdditionSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import { InviteCloseReason } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import type { ChangeMembership } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { idText, rendezvousIdBytes } from "../wire/ids.ts";
import { inviteMessagesMax, membersMax } from "../wire/limits.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import { decode } from "./disk.ts";
import type { Group } from "./group.ts";
import { Retry } from "./retry.ts";
import { addDevice } from "./seal/changes.ts";
import { type ControlChain, members } from "./seal/membership.ts";
import { endSession } from "./session-end.ts";

/** Other members' changes that come first, in a row, before it is put off for a moment. */
const conflictsMax = 16;

/** What looking at an addition came to. */
type Step =
  /** It is in the chain, or was dropped: the next one. */
  | { readonly kind: "over" }
  /** Another change came first. */
  | { readonly kind: "again" }
  /** The session is gone: the next one takes it up. */
  | { readonly kind: "stopped" }
  | { readonly kind: "refused"; readonly error: SyncError };

export class Additions {
  readonly #core: Core;
  readonly #group: Group;
  readonly #retry: Retry;
  /** Who waits for one. */
  readonly #waiters = new Map<string, (error: SyncError | undefined) => void>();
  /** Those without a receipt that this process can still finish. */
  readonly #open = new Set<string>();
  /** Refusals that were told: each once a session. */
  readonly #told = new Set<string>();
  #session: Connection | undefined;
  #running = false;
  #again = false;

  constructor(core: Core, group: Group) {
    this.#core = core;
    this.#group = group;
    this.#retry = new Retry(core.host);
  }

  /** A session stands, and the chain is where the relay is. */
  begin(session: Connection): void {
    this.#session = session;
    this.#retry.reset();
    this.#told.clear();
    this.#run();
  }

  end(): void {
    this.#session = undefined;
    this.#retry.cancel();
  }

  /** Nobody needs to wait any longer. What is kept stays on disk. */
  giveUp(error: SyncError): void {
    this.end();
    for (const done of this.#waiters.values()) done(error);
    this.#waiters.clear();
  }

  /** A person said yes: kept before the joiner hears of it. */
  async keep(device: Device, rendezvousId: Uint8Array): Promise<void> {
    this.#open.add(idText(device.deviceId));
    await this.#write(device, { receipted: false, rendezvousId });
  }

  /** The joiner has kept its admission: from now on the addition is submitted until it is in. */
  async receipted(device: Device, done: (error: SyncError | undefined) => void): Promise<void> {
    this.#waiters.set(idText(device.deviceId), done);
    await this.#write(device, { receipted: true });
    this.#run();
  }

  async forget(deviceId: Uint8Array): Promise<void> {
    this.#open.delete(idText(deviceId));
    await this.#core.disk.write((tx) => tx.delete("additions", idText(deviceId)));
  }

  async #write(
    device: Device,
    kept: { readonly receipted: boolean; readonly rendezvousId?: Uint8Array },
  ): Promise<void> {
    const value = toBinary(
      PendingAdditionSchema,
      create(PendingAdditionSchema, { device, ...kept }),
    );
    await this.#core.disk.write((tx) => tx.put("additions", idText(device.deviceId), value));
  }

  #run(): void {
    if (this.#running) {
      this.#again = true;
      return;
    }
    if (this.#session === undefined) return;
    this.#running = true;
    this.#work()
      .catch((error: unknown) => endSession(this.#core, this.#session, error))
      .finally(() => {
        this.#running = false;
        if (!this.#again) return;
        this.#again = false;
        this.#run();
      });
  }

  async #work(): Promise<void> {
    const rows = await this.#core.disk.write((tx) => tx.range("additions", ""));
    let refused: SyncError | undefined;
    for (const row of rows) {
      const pending: PendingAddition = decode(() => fromBinary(PendingAdditionSchema, row.value));
      if (pending.device === undefined) continue;
      if (!pending.receipted) {
        if (!this.#open.has(row.key)) await this.#callOff(pending.device, pending.rendezvousId);
        continue;
      }
      const step = await this.#add(row.key, pending.device);
      if (step.kind === "stopped") return;
      // One that is refused keeps none of the others waiting.
      if (step.kind === "refused") refused ??= this.#tellRefusal(row.key, step.error);
    }
    if (refused === undefined) {
      this.#retry.reset();
      return;
    }
    const later =
      errorRow(refused.code).again === "later" || refused.code === ErrorCode.MEMBERSHIP_CONFLICT;
    this.#retry.after(refused.retryAfterMs, () => this.#run(), !later);
  }

  /**
   * The channel to that joiner went with the process that held it, and its receipt may be on its way
   * for ever: it is told through the mailbox, where it still waits, that it is not let in.
   */
  async #callOff(device: Device, rendezvousId: Uint8Array): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    try {
      if (rendezvousId.byteLength !== rendezvousIdBytes)
        throw new SyncError(ErrorCode.INVITE_INVALID);
      await session.request({
        case: "openInvite",
        value: { rendezvousId, received: inviteMessagesMax },
      });
      const reason = InviteCloseReason.CANCELLED;
      await session.request({ case: "closeInvite", value: { rendezvousId, reason } });
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      // The next session tells it, unless the relay knows nothing of the mailbox.
      if (!session.open || errorRow(error.code).again === "later") return;
    }
    await this.forget(device.deviceId);
  }

  async #add(id: string, device: Device): Promise<Step> {
    for (let conflicts = 0; conflicts < conflictsMax; conflicts++) {
      const step = await this.#try(id, device);
      if (step.kind !== "again") return step;
    }
    return { kind: "refused", error: new SyncError(ErrorCode.MEMBERSHIP_CONFLICT) };
  }

  async #try(id: string, device: Device): Promise<Step> {
    const session = this.#session;
    if (session === undefined) return { kind: "stopped" };
    /** Why there is nothing to submit; undefined: it is in the chain. */
    let impossible: SyncError | undefined;
    const attempt = await this.#group.attempt(session, (chain) => {
      const known = chain.devices.get(id);
      if (known !== undefined) {
        // Removed since: what was meant no longer makes sense, and a removed id never comes back.
        impossible =
          known.closing === undefined ? undefined : new SyncError(ErrorCode.DEVICE_REVOKED);
        return undefined;
      }
      const made = this.#make(chain, device);
      if (!(made instanceof SyncError)) return made;
      impossible = made;
      return undefined;
    });
    switch (attempt.kind) {
      case "nothing":
      case "accepted":
        if (this.#core.chain === undefined) return { kind: "stopped" };
        await this.forget(device.deviceId);
        this.#tell(id, device, impossible);
        return { kind: "over" };
      case "moved":
      case "closing":
        return { kind: "again" };
      case "refused":
        if (session !== this.#session || !session.open) return { kind: "stopped" };
        return attempt;
    }
  }

  #make(chain: ControlChain, device: Device): ChangeMembership | SyncError {
    const { keys, host } = this.#core;
    if (members(chain).length >= membersMax) {
      return new SyncError(ErrorCode.TOO_LARGE, {
        hint: `a group has at most ${membersMax} devices: remove one, then invite the new one again`,
      });
    }
    try {
      const nowMs = Math.floor(host.nowMs());
      return addDevice(chain, device, { keys, random: host.random, nowMs });
    } catch (error) {
      // No member would accept it: not now, and not later.
      if (error instanceof SyncError) return error;
      throw error;
    }
  }

  /** It came to an end: whoever waits hears which, and where nobody does, the app hears a bad one. */
  #tell(id: string, device: Device, error: SyncError | undefined): void {
    const done = this.#waiters.get(id);
    this.#waiters.delete(id);
    if (done !== undefined) done(error);
    else if (error !== undefined) {
      const hint = `"${device.name}" was not added to the group${error.hint === undefined ? "" : `: ${error.hint}`}`;
      this.#core.failed(new SyncError(error.code, { hint }));
    }
  }

  /** It goes on; a person may have to do something for it. */
  #tellRefusal(id: string, error: SyncError): SyncError {
    const key = `${id} ${error.code}`;
    if (!this.#told.has(key)) {
      this.#told.add(key);
      this.#core.failed(error);
    }
    return error;
  }
}
