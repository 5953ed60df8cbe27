/** How a device comes into a group: it founds one, joins one, or brings one back by its phrase. */
import { create } from "@bufbuild/protobuf";
import { DeviceState_Membership, DeviceStateSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import { ChangeMembershipSchema } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { groupIdBytes, groupInviteBytes, parseId } from "../wire/ids.ts";
import { inviteMs } from "../wire/limits.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import { writeDevice } from "./device-state.ts";
import { encodeDevice } from "./disk.ts";
import { FoundingTask } from "./founding.ts";
import type { Joining as JoiningTask } from "./joining.ts";
import { later } from "./later.ts";
import type { Parts } from "./parts.ts";
import type { ReturningTask as Returning } from "./returning.ts";
import { foundGroup } from "./seal/changes.ts";
import type { PairingMeansName } from "./seal/pairing.ts";
import { looksLikeLink, parsePairingLink } from "./seal/pairing-link.ts";
import type { CodeCost } from "./seal/primitives.ts";
import { parseCode, pskOfCode } from "./seal/short-code.ts";
import type { Standing } from "./standing.ts";
import { UsageError } from "./usage-error.ts";

export interface JoinOptions {
  readonly onComparison?: (words: readonly string[]) => void;
  readonly signal?: AbortSignal;
}

export interface RecoverOptions {
  /** Which group, where the phrase is in several. */
  readonly groupId?: string;
  readonly signal?: AbortSignal;
}

/** How pairing is done, as the client was opened. */
export interface EnteringOptions {
  readonly pairingOrigin?: string;
  readonly codeCost?: CodeCost;
  /** The device is in a group now. */
  readonly entered: () => void;
}

export class Entering {
  readonly #parts: Parts;
  readonly #standing: Standing;
  readonly #options: EnteringOptions;
  #underWay = false;

  constructor(parts: Parts, standing: Standing, options: EnteringOptions) {
    this.#parts = parts;
    this.#standing = standing;
    this.#options = options;
  }

  createGroup(options: { readonly invite?: string }): Promise<void> {
    return this.#alone(() => this.#createGroup(options));
  }

  async #createGroup(options: { readonly invite?: string }): Promise<void> {
    const { core } = this.#parts;
    const { membership } = core.device;
    if (membership === DeviceState_Membership.MEMBER) throw inGroup();
    if (membership === DeviceState_Membership.REMOVED) throw wasInGroup();
    if (core.device.relayAddress === "") {
      throw new UsageError("a relay address is needed to found a group");
    }
    const groupInvite = options.invite === undefined ? undefined : parseGroupInvite(options.invite);
    let change = core.device.pendingFounding;
    const resumed = membership === DeviceState_Membership.FOUNDING && change !== undefined;
    if (resumed && change !== undefined) {
      if (groupInvite !== undefined)
        change = create(ChangeMembershipSchema, { ...change, groupInvite });
    } else {
      change = foundGroup({
        keys: core.keys,
        random: core.host.random,
        nowMs: Math.floor(core.host.nowMs()),
        groupId: core.host.random(groupIdBytes),
        name: core.device.name,
        ...(groupInvite === undefined ? {} : { groupInvite }),
      }).change;
    }
    await writeDevice(core, {
      membership: DeviceState_Membership.FOUNDING,
      groupId: change.groupId,
      pendingFounding: change,
    });
    await this.found(resumed);
  }

  /** Submits the founding that stands on disk. */
  found(resumed: boolean): Promise<void> {
    const { core, engine } = this.#parts;
    return new Promise((resolve, reject) => {
      const change = core.device.pendingFounding;
      if (change === undefined) {
        reject(new UsageError("there is no founding to go on with"));
        return;
      }
      const task: FoundingTask = new FoundingTask(core, change, resumed, (error) => {
        this.#foundingEnded(error, task.submitted).then(
          () => {
            engine.endTask(task);
            if (error === undefined) resolve();
            else reject(error);
          },
          (failure: unknown) => {
            engine.endTask(task);
            reject(failure);
          },
        );
      });
      engine.beginTask(task);
    });
  }

  /** A refused founding leaves the device in no group; one that the relay may have is kept. */
  async #foundingEnded(error: unknown, submitted: boolean): Promise<void> {
    if (error === undefined) {
      this.#options.entered();
      return;
    }
    if (submitted || !(error instanceof SyncError)) return;
    await writeDevice(this.#parts.core, { membership: DeviceState_Membership.UNSPECIFIED });
  }

  async join(codeOrLink: string, options: JoinOptions): Promise<void> {
    await this.#alone(() => this.#join(codeOrLink, options));
    await this.#untilMember(options.signal);
  }

  async #join(codeOrLink: string, options: JoinOptions): Promise<void> {
    const { core, engine } = this.#parts;
    const { membership } = core.device;
    if (
      membership === DeviceState_Membership.MEMBER ||
      membership === DeviceState_Membership.FOUNDING
    ) {
      throw inGroup();
    }
    if (membership === DeviceState_Membership.REMOVED) throw wasInGroup();
    options.signal?.throwIfAborted();
    const { Joining } = await later();
    const ticket = await this.#ticket(codeOrLink);
    await new Promise<void>((resolve, reject) => {
      const joining: JoiningTask = new Joining(core, {
        ...ticket,
        name: core.device.name,
        onComparison: options.onComparison,
        admitted: (admission) =>
          writeDevice(core, {
            // The address this device came by: the other one may reach the relay by a shorter way.
            relayAddress: ticket.address.text,
            groupId: admission.groupId,
            membership: DeviceState_Membership.ADMITTED,
            expectedHead: admission.controlHead,
          }),
        calledOff: () => writeDevice(core, { membership: DeviceState_Membership.UNSPECIFIED }),
        finished: (error) => {
          options.signal?.removeEventListener("abort", abort);
          engine.endTask(joining);
          if (error === undefined) resolve();
          else reject(error);
        },
      });
      const abort = (): void => joining.abort(options.signal?.reason);
      options.signal?.addEventListener("abort", abort, { once: true });
      engine.beginTask(joining);
    });
  }

  async recover(words: string | readonly string[], options: RecoverOptions): Promise<void> {
    const { core, engine } = this.#parts;
    const { signal } = options;
    await this.#alone(async () => {
      const { membership, relayAddress } = core.device;
      if (membership === DeviceState_Membership.REMOVED) throw wasInGroup();
      if (
        membership !== DeviceState_Membership.UNSPECIFIED &&
        membership !== DeviceState_Membership.ADMITTED
      ) {
        throw inGroup();
      }
      if (relayAddress === "") throw new UsageError("a relay address is needed to recover a group");
      const { paperOfWords, recoverByPhrase } = await later();
      const paper = paperOfWords(words);
      try {
        // Recoveries under way end with the client.
        const closing = this.#standing.signal;
        await recoverByPhrase(core, {
          paper,
          groupId: options.groupId,
          signal: signal === undefined ? closing : AbortSignal.any([signal, closing]),
          admitted: (admission) =>
            writeDevice(core, { membership: DeviceState_Membership.ADMITTED, ...admission }),
          refused: () => writeDevice(core, { membership: DeviceState_Membership.UNSPECIFIED }),
        });
      } finally {
        paper.wipe();
      }
    });
    engine.retry();
    await this.#untilMember(signal);
  }

  /** A member whom a restored relay does not know comes back by a group invite. */
  reconnect(invite: string): Promise<void> {
    const { core, engine, group } = this.#parts;
    this.#standing.checkMember();
    const groupInvite = parseGroupInvite(invite);
    return this.#alone(async () => {
      const { ReturningTask } = await later();
      await new Promise<void>((resolve, reject) => {
        const task: Returning = new ReturningTask(core, group, groupInvite, (error) => {
          engine.endTask(task);
          if (error === undefined) resolve();
          else reject(error);
        });
        engine.beginTask(task);
      });
    });
  }

  /** The device waits no longer to be admitted: it is in no group. */
  async giveUpAdmission(): Promise<void> {
    this.#standing.checkOpen();
    const { core, engine } = this.#parts;
    const { name, relayAddress } = core.device;
    const device = create(DeviceStateSchema, { name, relayAddress });
    await core.disk.write(
      (tx) => {
        if (core.device.membership === DeviceState_Membership.MEMBER) throw inGroup();
        if (core.device.membership !== DeviceState_Membership.ADMITTED) {
          throw new UsageError("this device is not being admitted to a group");
        }
        tx.put("device", "state", encodeDevice(device));
      },
      () => {
        core.device = device;
      },
    );
    engine.turn();
  }

  /** One at a time. */
  async #alone(run: () => Promise<void>): Promise<void> {
    this.#standing.checkOpen();
    if (this.#underWay || this.#parts.engine.task !== undefined) {
      throw new UsageError("this device is founding or joining a group already");
    }
    this.#underWay = true;
    try {
      await run();
    } finally {
      this.#underWay = false;
    }
  }

  /** What a code or link leads to. */
  async #ticket(codeOrLink: string): Promise<{
    readonly address: ReturnType<typeof parseRelayAddress>;
    readonly rendezvousId: Uint8Array;
    readonly means: PairingMeansName;
    readonly secret: Uint8Array;
  }> {
    const { core } = this.#parts;
    const { pairingOrigin, codeCost } = this.#options;
    if (looksLikeLink(codeOrLink)) {
      const link = parsePairingLink(codeOrLink, pairingOrigin);
      const address = parseRelayAddress(link.relayAddress);
      return { address, rendezvousId: link.rendezvousId, means: "link", secret: link.secret };
    }
    const code = parseCode(codeOrLink);
    if (core.device.relayAddress === "") {
      throw new UsageError("joining by code needs the relay's address; a link holds it");
    }
    const address = parseRelayAddress(core.device.relayAddress);
    const { host } = core;
    const secret =
      host.pskOfCode === undefined
        ? await pskOfCode(code, address.relayKey, codeCost)
        : await host.pskOfCode(code, address.relayKey);
    return { address, rendezvousId: code.rendezvousId, means: "code", secret };
  }

  /** Being admitted lasts until the inviting device has added this one; ten minutes are waited for. */
  #untilMember(signal: AbortSignal | undefined): Promise<void> {
    const { core } = this.#parts;
    return new Promise((resolve, reject) => {
      const stop: (() => void)[] = [];
      const end = (error?: unknown): void => {
        for (const each of stop) each();
        if (error === undefined) resolve();
        else reject(error);
      };
      const look = (): void => {
        const { membership } = core.device;
        if (membership === DeviceState_Membership.MEMBER) end();
        else if (membership !== DeviceState_Membership.ADMITTED) end(gaveUp());
        else if (this.#standing.closed) end(new SyncError(ErrorCode.CONNECTION_LOST));
      };
      const abort = (): void => end(signal?.reason);
      stop.push(core.events.on("status", look), core.events.on("membership", look));
      stop.push(
        core.host.setTimer(inviteMs, () =>
          end(
            new SyncError(ErrorCode.TIMED_OUT, {
              hint: "the inviting device has not added this one yet; it will, once it is back, or ask for a new code",
            }),
          ),
        ),
      );
      signal?.addEventListener("abort", abort, { once: true });
      stop.push(() => signal?.removeEventListener("abort", abort));
      look();
    });
  }
}

function gaveUp(): SyncError {
  return new SyncError(ErrorCode.NOT_A_MEMBER, {
    hint: "this device waits no longer to be admitted",
  });
}

function inGroup(): UsageError {
  return new UsageError("this device is in a group already");
}

/**
 * What it holds and what it queued is its old group's, and its numbers and links are too: none of that
 * may reach another group. Its id never becomes a member of the old one again either.
 */
function wasInGroup(): UsageError {
  return new UsageError(
    "this device was removed from its group and still holds what it had of it; to be in a group again it needs a new store",
  );
}

function parseGroupInvite(text: string): Uint8Array {
  const invite = parseId(text.trim(), groupInviteBytes);
  if (invite === undefined) {
    throw new SyncError(ErrorCode.INVITE_INVALID, {
      hint: "a group invite has 22 characters, as the relay printed them",
    });
  }
  return invite;
}
