/**
 * The device's place in its group: the control chain, read before anything that depends on it, and
 * what is done to it, one thing at a time.
 *
 * Whatever the relay says only makes this device look: what it accepts is decided by the chain's own
 * rules, and nothing here is signed at the relay's word.
 */
import { create } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import {
  type DeviceState,
  DeviceState_Membership,
  DeviceStateSchema,
} from "../gen/syncrelay/state/v1/state_pb.ts";
import type { MembershipDetail, MembershipVersion } from "../gen/syncrelay/sync/v1/error_pb.ts";
import type { ChangeMembership } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { idText, linkBytes, zeroLink } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import { ControlRun, pullControlPage } from "./control-run.ts";
import type { Core } from "./core.ts";
import { decode, encodeDevice, encodeLog, noLog } from "./disk.ts";
import { resubmit } from "./resubmission.ts";
import type { ChainPlace } from "./seal/blob.ts";
import { type Control, decodeControl } from "./seal/control-blob.ts";
import { type ControlChain, extendChain, isMember, readChain } from "./seal/membership.ts";
import type { StateTransaction } from "./state-store.ts";

/** Where the relay says that a device ends. */
export interface StatedClosing {
  readonly place: ChainPlace;
  readonly deviceId: Uint8Array;
}

/** What became of one try at a change. */
export type Attempt =
  /** There is nothing to do on the chain as it is. */
  | { readonly kind: "nothing" }
  /** The relay has it on disk, and the chain here is extended. */
  | { readonly kind: "accepted" }
  /** Another change came first; the chain here has it now. */
  | { readonly kind: "moved" }
  /** A device that was to be removed has written more than the change says. */
  | ({ readonly kind: "closing" } & StatedClosing)
  /** The relay refused it, or is gone, or it cannot be made. */
  | { readonly kind: "refused"; readonly error: SyncError };

export interface GroupHooks {
  /** The chain is another one. */
  changed(): void;
}

export class Group {
  readonly #core: Core;
  readonly #hooks: GroupHooks;
  /** One thing at a time is done to the chain. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(core: Core, hooks: GroupHooks) {
    this.#core = core;
    this.#hooks = hooks;
  }

  /** Reads the chain that an earlier process stored. */
  async load(tx: StateTransaction): Promise<void> {
    const core = this.#core;
    const rows = await tx.range("control", 1);
    const { membership } = core.device;
    const inGroup =
      membership === DeviceState_Membership.MEMBER || membership === DeviceState_Membership.REMOVED;
    if (rows.length === 0 || !inGroup) return;
    core.chain = decode(() =>
      readChain(
        rows.map((row) => row.value),
        { groupId: core.groupId, keys: core.keys },
      ),
    );
  }

  /** Brings the chain to where the relay is, or the relay to where the chain is. */
  catchUp(session: Connection, version: MembershipVersion | undefined): Promise<void> {
    return this.#alone(async () => {
      const count = toNumber(version?.count ?? 0n);
      const head = version?.head ?? new Uint8Array(0);
      const own = this.#core.chain?.version;
      if (own !== undefined && own.count === count && equalBytes(own.head, head)) return;
      if (own === undefined || own.count < count) await this.#pull(session);
      else await this.#resubmit(session, count, head);
    });
  }

  /**
   * Brings a relay that does not know this device, or its group, the chain from where it has it. Resolves
   * with whether it has all of it then.
   */
  bringBack(session: Connection, version: MembershipVersion | undefined): Promise<boolean> {
    return this.#alone(() =>
      this.#resubmit(session, toNumber(version?.count ?? 0n), version?.head ?? zeroLink),
    );
  }

  /** Asks for control blobs that may have come since. */
  refresh(session: Connection): Promise<void> {
    return this.#alone(() => this.#pull(session));
  }

  /** Makes a change on the chain as it is and submits it, once. Needs a chain that is caught up. */
  attempt(
    session: Connection,
    make: (chain: ControlChain) => ChangeMembership | undefined,
  ): Promise<Attempt> {
    return this.#alone(async () => {
      const { chain } = this.#core;
      if (chain === undefined) return { kind: "nothing" };
      let change: ChangeMembership | undefined;
      try {
        change = make(chain);
        if (change === undefined) return { kind: "nothing" };
        await session.request({ case: "changeMembership", value: change });
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        if (error.code !== ErrorCode.MEMBERSHIP_CONFLICT) return { kind: "refused", error };
        const stated = closingOf(error);
        if (stated !== undefined) return { kind: "closing", ...stated };
        await this.#pull(session);
        return { kind: "moved" };
      }
      await this.#extend([change.controlBlob]);
      return { kind: "accepted" };
    });
  }

  /** The control chain that is stored here: `ControlBlob`s, encoded. */
  async blobs(): Promise<Uint8Array[]> {
    const rows = await this.#core.disk.write((tx) => tx.range("control", 1));
    return rows.map(({ value }) => value);
  }

  /**
   * The group goes on without this device, by what the relay says or by a control blob whose secret is
   * for others: a claim, which nobody but the others could prove. It keeps what it has, signs nothing,
   * and is a member again where a relay welcomes it with a chain that says so.
   */
  async removedHere(): Promise<void> {
    if (this.#core.device.membership !== DeviceState_Membership.MEMBER) return;
    await this.#writeMembership(DeviceState_Membership.REMOVED);
  }

  /** The relay welcomes this device, and the chain has it. */
  async welcomedBack(): Promise<void> {
    if (this.#core.device.membership !== DeviceState_Membership.REMOVED) return;
    await this.#writeMembership(DeviceState_Membership.MEMBER);
  }

  async #writeMembership(membership: DeviceState_Membership): Promise<void> {
    const core = this.#core;
    const device = create(DeviceStateSchema, { ...core.device, membership });
    await core.disk.write(
      (tx) => tx.put("device", "state", encodeDevice(device)),
      () => {
        core.device = device;
      },
    );
    this.#changed();
  }

  /** Pulls what stands behind the own head. */
  async #pull(session: Connection): Promise<void> {
    const core = this.#core;
    const waiting = new ControlRun();
    for (;;) {
      const count = (core.chain?.version.count ?? 0) + waiting.blobs.length;
      const { controlBlobs, done } = await pullControlPage(session, count);
      if (core.chain !== undefined) {
        await this.#extend(controlBlobs);
      } else {
        // A joiner can read the chain only as a whole: its secret stands near the end.
        this.#judge(() => waiting.add(controlBlobs));
        if (done) await this.#read(waiting.blobs);
      }
      if (done) return;
    }
  }

  /** The joiner's first sight of the chain: from now on it is a member. */
  async #read(blobs: readonly Uint8Array[]): Promise<void> {
    const core = this.#core;
    const { expectedHead } = core.device;
    const chain = this.#judge(() =>
      readChain(blobs, {
        groupId: core.groupId,
        keys: core.keys,
        ...(expectedHead.byteLength === 0 ? {} : { mustContain: expectedHead }),
      }),
    );
    const device = create(DeviceStateSchema, {
      ...core.device,
      membership: DeviceState_Membership.MEMBER,
      expectedHead: new Uint8Array(0),
    });
    await core.disk.write(
      (tx) => {
        // Given up meanwhile.
        if (core.device.membership === DeviceState_Membership.UNSPECIFIED) {
          throw new SyncError(ErrorCode.NOT_A_MEMBER);
        }
        tx.deleteRange("control", 0);
        for (const [i, blob] of blobs.entries()) tx.put("control", i + 1, blob);
        tx.put("device", "state", encodeDevice(device));
      },
      () => {
        core.device = device;
        core.chain = chain;
      },
    );
    this.#changed();
  }

  /** Accepts control blobs, keeps them, and only then goes by them. Those before one that does not hold count. */
  async #extend(blobs: readonly Uint8Array[]): Promise<void> {
    const core = this.#core;
    const { chain: start } = core;
    if (start === undefined) return;
    let chain: ControlChain = start;
    let failure: SyncError | undefined;
    const accepted: Uint8Array[] = [];
    try {
      for (const blob of blobs) {
        chain = this.#accept(chain, blob);
        accepted.push(blob);
      }
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      failure = error;
    }
    const first = start.version.count + 1;
    const fresh = [...chain.devices.keys()].filter((id) => !start.devices.has(id));
    await core.disk.write(
      (tx) => {
        for (const [i, blob] of accepted.entries()) tx.put("control", first + i, blob);
        return core.changes.met(tx, fresh);
      },
      (met) => {
        core.chain = chain;
        met();
      },
    );
    if (accepted.length > 0) this.#changed();
    if (failure !== undefined) throw failure;
  }

  /** The chain with one more control blob; what does not hold is named. */
  #accept(chain: ControlChain, blob: Uint8Array): ControlChain {
    const { deviceId } = this.#core.keys;
    const control = readable(blob);
    if (control !== undefined && leavesOut(chain, control, deviceId)) {
      throw new SyncError(ErrorCode.DEVICE_REVOKED, {
        hint: "the group's keys were changed, and this device was given none of the new ones",
      });
    }
    if (control !== undefined && followsOther(chain, control)) throw this.#forked([blob]);
    return this.#judge(() => extendChain(chain, blob, { keys: this.#core.keys }), chain, [blob]);
  }

  /** The relay's chain is another one from some place on: no honest relay has such a one. */
  #forked(controlBlobs: readonly Uint8Array[]): SyncError {
    const error = new SyncError(ErrorCode.HISTORY_ALTERED, {
      hint: "the relay shows another membership history than the one this device verified",
    });
    this.#core.found({ kind: FindingKind.MEMBERSHIP_FORKED, error, controlBlobs });
    return error;
  }

  /** A chain that does not hold is named, and not gone by. */
  #judge<T>(run: () => T, chain = this.#core.chain, controlBlobs: readonly Uint8Array[] = []): T {
    try {
      return run();
    } catch (error) {
      if (error instanceof SyncError) {
        const seq = (chain?.version.count ?? 0) + 1;
        this.#core.found({ kind: FindingKind.MEMBERSHIP_ALTERED, error, seq, controlBlobs });
      }
      throw error;
    }
  }

  /** The relay lacks control blobs: it was restored. It gets back what is held here, as it is. */
  async #resubmit(session: Connection, count: number, head: Uint8Array): Promise<boolean> {
    const core = this.#core;
    const { chain } = core;
    const blobs = (await core.disk.write((tx) => tx.range("control", 1))).map((row) => row.value);
    const last = blobs[count - 1];
    const none = count === 0 && equalBytes(head, zeroLink);
    if (
      chain === undefined ||
      (!none && (last === undefined || !equalBytes(blake2b256(last), head)))
    ) {
      throw this.#forked([]);
    }
    return await resubmit(session, chain, blobs, count, core.keys);
  }

  #changed(): void {
    this.#hooks.changed();
    this.#core.moved();
  }

  #alone<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

/** Where the relay says that a device's chain ends, where it took no removal for that. */
function closingOf({ detail }: SyncError): StatedClosing | undefined {
  if (detail?.case !== "membership") return undefined;
  const { closing, closingDevice: deviceId } = detail.value as MembershipDetail;
  if (closing === undefined || closing.link.byteLength !== linkBytes) return undefined;
  return { place: { seq: toNumber(closing.seq), link: closing.link }, deviceId };
}

/** A control blob as its form says; undefined where it has none. */
function readable(blob: Uint8Array): Control | undefined {
  try {
    return decodeControl(blob);
  } catch (error) {
    if (error instanceof SyncError) return undefined;
    throw error;
  }
}

/** Whether a control blob, by its author's word one of this group's, follows another one than was verified. */
function followsOther(chain: ControlChain, { author, clear }: Control): boolean {
  return chain.devices.has(idText(author)) && !equalBytes(clear.previousHead, chain.version.head);
}

/**
 * Whether a control blob opens an epoch without this device, as a removal does. Its statement cannot
 * be read, so nothing is proven: an altered one looks like this too.
 */
function leavesOut(chain: ControlChain, { author, clear }: Control, deviceId: Uint8Array): boolean {
  return (
    clear.keyCheck !== undefined &&
    equalBytes(clear.previousHead, chain.version.head) &&
    isMember(chain, author) &&
    !clear.wraps.some((wrap) => equalBytes(wrap.deviceId, deviceId))
  );
}

/** The founding is on the relay's disk: the device is a member from now on. */
export async function founded(core: Core, chain: ControlChain, logId: Uint8Array): Promise<void> {
  const blob = core.device.pendingFounding?.controlBlob;
  if (blob === undefined) return;
  const log = { ...noLog, logId };
  const device: DeviceState = create(DeviceStateSchema, {
    name: core.device.name,
    relayAddress: core.device.relayAddress,
    groupId: core.device.groupId,
    membership: DeviceState_Membership.MEMBER,
  });
  await core.disk.write(
    (tx) => {
      tx.put("control", 1, blob);
      tx.put("device", "state", encodeDevice(device));
      tx.put("log", "state", encodeLog(log, core.app));
    },
    () => {
      core.device = device;
      core.chain = chain;
      core.log = log;
    },
  );
}
