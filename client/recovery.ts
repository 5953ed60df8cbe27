/**
 * A group brought back by its recovery phrase, on a device that is in none: the phrase finds its
 * groups by a session without a group, reads the chain by a session as the device it is on paper,
 * checks that the chain holds its record, and signs one thing: the addition of this device.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { HelloSchema, type Welcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { groupIdBytes, idText, parseId, zeroLink } from "../wire/ids.ts";
import { protocolVersions, softwareVersion } from "../wire/protocol.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import { Connection } from "./connection.ts";
import { ControlRun, pullControlPage } from "./control-run.ts";
import type { Core } from "./core.ts";
import { Backoff } from "./reconnect.ts";
import { addDevice } from "./seal/changes.ts";
import { type ControlChain, deviceMessage, extendChain } from "./seal/membership.ts";
import { type PaperDevice, readChainByPhrase } from "./seal/recovery.ts";
import { UsageError } from "./usage-error.ts";

/** Sessions in a row that end for a reason that waiting may mend. */
const triesMax = 8;
/** Other members' changes that come first, in a row. */
const conflictsMax = 32;

export interface RecoveringOptions {
  readonly paper: PaperDevice;
  /** The group, as text, where the phrase may be in several. */
  readonly groupId: string | undefined;
  readonly signal: AbortSignal;
  /** Keeps on disk what this device is about to be admitted to. */
  readonly admitted: (admission: {
    readonly groupId: Uint8Array;
    /** A control head that the chain must contain. */
    readonly expectedHead: Uint8Array;
  }) => Promise<void>;
  /** It was not: this device is in no group. */
  readonly refused: () => Promise<void>;
}

/** What the tries know of one another. */
interface Tried {
  /** The relay may have the addition although it was not heard to say so. */
  unsure: boolean;
  kept: boolean;
}

/** Resolves when the relay has the addition of this device on disk. */
export async function recoverByPhrase(core: Core, options: RecoveringOptions): Promise<void> {
  const tried: Tried = { unsure: false, kept: false };
  try {
    await keepTrying(core, options, tried);
  } catch (error) {
    // Nobody has added this device: it does not wait for it either.
    if (tried.kept && !tried.unsure) await options.refused();
    throw error;
  }
}

async function keepTrying(core: Core, options: RecoveringOptions, tried: Tried): Promise<void> {
  const backoff = new Backoff();
  let reached = false;
  for (let tries = 1; ; tries++) {
    try {
      const groupId = await findGroup(core, options);
      reached = true;
      await addThisDevice(core, options, groupId, tried);
      return;
    } catch (error) {
      options.signal.throwIfAborted();
      // The same phrase on another machine, at the same moment: whoever is first is soon done.
      const replaced = error instanceof SyncError && error.code === ErrorCode.REPLACED;
      const mayPass =
        replaced || (error instanceof SyncError && errorRow(error.code).again === "later");
      // A relay that is not there at all is told at once: whoever typed the words waits for it.
      const absent = mayPass && !reached && error.code === ErrorCode.UNREACHABLE;
      if (!mayPass || absent || tries === triesMax) throw error;
      const { host } = core;
      const end = { error, certain: !replaced };
      const waitMs = backoff.ended(end, host.monotonicMs(), host.uniform());
      if (waitMs === undefined) throw error;
      await pause(core, waitMs, options.signal);
    }
  }
}

/** The group whose phrase this is. */
async function findGroup(core: Core, options: RecoveringOptions): Promise<Uint8Array> {
  const { connection, welcome } = await openSession(core, options, undefined);
  connection.close();
  if (welcome.scope.case !== "lobby") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
  const groups = welcome.scope.value.groups.map(({ groupId }) => groupId);
  if (options.groupId !== undefined) {
    const wanted = parseId(options.groupId, groupIdBytes);
    if (wanted === undefined) throw new UsageError("a group id has 43 characters");
    if (groups.some((groupId) => idText(groupId) === options.groupId)) return wanted;
  } else if (groups.length > 1) {
    throw new UsageError(
      `the phrase is in several groups, name one: ${groups.map(idText).join(", ")}`,
    );
  } else if (groups[0] !== undefined) {
    return groups[0];
  }
  throw new SyncError(ErrorCode.NOT_A_MEMBER, {
    hint: "no group on this relay knows this phrase: it was revoked or replaced, or the relay is another one",
  });
}

async function addThisDevice(
  core: Core,
  options: RecoveringOptions,
  groupId: Uint8Array,
  tried: Tried,
): Promise<void> {
  const { paper } = options;
  const { connection } = await openSession(core, options, groupId);
  let chain: ControlChain | undefined;
  try {
    chain = readChainByPhrase(await pullControl(connection), paper, groupId);
    await options.admitted({ groupId, expectedHead: chain.version.head });
    tried.kept = true;
    for (let conflicts = 0; !isThere(core, chain); conflicts++) {
      // What an earlier try sent has not arrived.
      tried.unsure = true;
      const change = addDevice(chain, deviceMessage(core.keys, core.device.name), {
        keys: paper.keys,
        random: core.host.random,
        nowMs: Math.floor(core.host.nowMs()),
      });
      try {
        await connection.request({ case: "changeMembership", value: change });
        return;
      } catch (error) {
        // A refusal is certain; an answer that never came is not. A phrase that is revoked ends its
        // session behind the answers to what came before.
        const revoked = error instanceof SyncError && error.code === ErrorCode.DEVICE_REVOKED;
        if (connection.open || revoked) tried.unsure = false;
        if (!(error instanceof SyncError) || error.code !== ErrorCode.MEMBERSHIP_CONFLICT) {
          throw error;
        }
        if (conflicts === conflictsMax) throw error;
      }
      for (const blob of await pullControl(connection, chain.version)) {
        chain = extendChain(chain, blob, { keys: paper.keys });
      }
    }
  } finally {
    chain?.keyring.wipe();
    connection.close();
  }
}

/** An answer that was lost may have said so. */
function isThere(core: Core, chain: ControlChain): boolean {
  const device = chain.devices.get(core.deviceText);
  if (device?.closing !== undefined) throw new SyncError(ErrorCode.DEVICE_REVOKED);
  return device !== undefined;
}

async function pullControl(
  connection: Connection,
  behind: ControlChain["version"] = { count: 0, head: zeroLink },
): Promise<Uint8Array[]> {
  const run = new ControlRun(behind.head);
  for (;;) {
    const count = behind.count + run.blobs.length;
    const { controlBlobs, done } = await pullControlPage(connection, count);
    run.add(controlBlobs);
    if (done) return run.blobs;
  }
}

/** A session of the device on paper. */
function openSession(
  core: Core,
  { paper, signal }: RecoveringOptions,
  groupId: Uint8Array | undefined,
): Promise<{ readonly connection: Connection; readonly welcome: Welcome }> {
  signal.throwIfAborted();
  const hello = toBinary(
    HelloSchema,
    create(HelloSchema, {
      versions: protocolVersions,
      client: `sync-relay ${softwareVersion}`,
      ...(groupId === undefined ? {} : { groupId }),
    }),
  );
  return new Promise((resolve, reject) => {
    const abort = (): void => connection.close();
    const connection: Connection = new Connection(
      {
        host: core.host,
        address: parseRelayAddress(core.device.relayAddress),
        keyPair: paper.keys.noise,
        hello,
      },
      {
        welcome: (welcome) => resolve({ connection, welcome }),
        told: () => undefined,
        closed: ({ error }) => {
          signal.removeEventListener("abort", abort);
          reject(signal.aborted ? signal.reason : error);
        },
      },
    );
    signal.addEventListener("abort", abort, { once: true });
  });
}

function pause(core: Core, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      cancel();
      reject(signal.reason);
    };
    const cancel = core.host.setTimer(ms, () => {
      signal.removeEventListener("abort", abort);
      resolve();
    });
    signal.addEventListener("abort", abort, { once: true });
  });
}
