/**
 * The device's state on disk and in memory, kept in step: a change is computed, written in one
 * transaction, and only then taken over in memory, before the next change is computed. A transaction
 * that fails leaves both as they were.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ChainState,
  ChainStateSchema,
  type DeviceState,
  DeviceState_Membership,
  DeviceStateSchema,
  type LogState,
  LogStateSchema,
  type OwnBlobState,
  OwnBlobStateSchema,
} from "../gen/syncrelay/state/v1/state_pb.ts";
import { LogPositionSchema } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { emptyBytes } from "../wire/bytes.ts";
import { zeroLink } from "../wire/ids.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import type { ChainPlace, OwnBlob } from "./seal/blob.ts";
import { type Positions, positionsOf, senderLinks } from "./seal/history.ts";
import { type StateStore, StateStoreError, type StateTransaction } from "./state-store.ts";

/** Changes of the device's state, one after another. */
export class Disk {
  readonly #store: StateStore;
  #last: Promise<unknown> = Promise.resolve();

  constructor(store: StateStore) {
    this.#store = store;
  }

  /**
   * Runs a transaction; `taken` takes its result over in memory once it is durable. The next
   * transaction begins after that.
   */
  write<T>(run: (tx: StateTransaction) => Promise<T> | T, taken?: (result: T) => void): Promise<T> {
    const result = this.#last.then(async () => {
      const value = await this.#store.transaction(run);
      taken?.(value);
      return value;
    });
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Waits for what was asked for, and lets the store go. */
  async close(): Promise<void> {
    await this.#last;
    await this.#store.close();
  }
}

/** Where the device stands in the log, in memory. */
export interface LogPlace {
  /** The log, 16 bytes; empty before the first. */
  readonly logId: Uint8Array;
  /** Everything up to here was read and stored. */
  readonly read: number;
  /** The link of the blob there. */
  readonly link: Uint8Array;
  /** The last position given to an entry. */
  readonly position: number;
  /** Each sender's last verified place. */
  readonly senders: Positions;
}

/** What goes with it when it is written: how far the app has come. */
export interface AppPlace {
  readonly acknowledged: number;
  readonly applied: number;
}

export const noLog: LogPlace = {
  logId: emptyBytes,
  read: 0,
  link: zeroLink,
  position: 0,
  senders: new Map(),
};

export function encodeLog(log: LogPlace, app: AppPlace): Uint8Array {
  return toBinary(
    LogStateSchema,
    create(LogStateSchema, {
      read: create(LogPositionSchema, {
        logId: log.logId,
        cursor: BigInt(log.read),
        link: log.read === 0 ? emptyBytes : log.link,
      }),
      applied: BigInt(app.applied),
      position: BigInt(log.position),
      acknowledged: BigInt(app.acknowledged),
      senders: senderLinks(log.senders),
    }),
  );
}

export function decodeLog(bytes: Uint8Array): { log: LogPlace; app: AppPlace } {
  const state: LogState = decode(() => fromBinary(LogStateSchema, bytes));
  const read = Number(state.read?.cursor ?? 0n);
  return {
    log: {
      logId: state.read?.logId ?? emptyBytes,
      read,
      link: read === 0 ? zeroLink : (state.read?.link ?? zeroLink),
      position: Number(state.position),
      senders: positionsOf(state.senders),
    },
    app: { acknowledged: Number(state.acknowledged), applied: Number(state.applied) },
  };
}

/** The device's own chain, in memory. */
export interface OwnChain {
  /** The last place given out. */
  readonly last: ChainPlace;
  /** The last seq known to be on the relay's disk. */
  readonly durableSeq: number;
  /** What the device's entries have told of other senders. */
  readonly told: Positions;
  readonly witnessCounter: number;
  /** Own blobs up to here are kept no longer: a snapshot holds them. */
  readonly forgottenSeq: number;
  /** Of what is kept no longer, a restored relay lacks some up to here, unless a snapshot covers it. */
  readonly lackingSeq: number;
}

export const noChain: OwnChain = {
  last: { seq: 0, link: zeroLink },
  durableSeq: 0,
  told: new Map(),
  witnessCounter: 0,
  forgottenSeq: 0,
  lackingSeq: 0,
};

export function encodeChain(chain: OwnChain): Uint8Array {
  return toBinary(
    ChainStateSchema,
    create(ChainStateSchema, {
      seq: BigInt(chain.last.seq),
      link: chain.last.link,
      durableSeq: BigInt(chain.durableSeq),
      witnessed: senderLinks(chain.told),
      witnessCounter: BigInt(chain.witnessCounter),
      forgottenSeq: BigInt(chain.forgottenSeq),
      lackingSeq: BigInt(chain.lackingSeq),
    }),
  );
}

export function decodeChain(bytes: Uint8Array): OwnChain {
  const state: ChainState = decode(() => fromBinary(ChainStateSchema, bytes));
  return {
    last: { seq: Number(state.seq), link: state.seq === 0n ? zeroLink : state.link },
    durableSeq: Number(state.durableSeq),
    told: positionsOf(state.witnessed),
    witnessCounter: Number(state.witnessCounter),
    forgottenSeq: Number(state.forgottenSeq),
    lackingSeq: Number(state.lackingSeq),
  };
}

/** The chain as this transaction finds it: another tab of the same device may have moved it. */
export async function readChainState(tx: StateTransaction): Promise<OwnChain> {
  const bytes = await tx.get("chain", "state");
  return bytes === undefined ? noChain : decodeChain(bytes);
}

export function encodeOwn(own: OwnBlob): Uint8Array {
  return toBinary(
    OwnBlobStateSchema,
    create(OwnBlobStateSchema, {
      seq: BigInt(own.seq),
      link: own.link,
      blobId: own.blobId,
      header: own.header,
      signature: own.signature,
      entry: own.entry,
    }),
  );
}

export function decodeOwn(bytes: Uint8Array): OwnBlob {
  const state: OwnBlobState = decode(() => fromBinary(OwnBlobStateSchema, bytes));
  return {
    seq: Number(state.seq),
    link: state.link,
    blobId: state.blobId,
    header: state.header,
    signature: state.signature,
    entry: state.entry,
  };
}

export function encodeDevice(state: DeviceState): Uint8Array {
  return toBinary(DeviceStateSchema, state);
}

export function decodeDevice(bytes: Uint8Array): DeviceState {
  return decode(() => {
    const state = fromBinary(DeviceStateSchema, bytes);
    // Everything behind this takes an address that is there for a whole one; a group always has one.
    const { relayAddress, membership } = state;
    if (relayAddress !== "" || membership !== DeviceState_Membership.UNSPECIFIED) {
      parseRelayAddress(relayAddress);
    }
    return state;
  });
}

/** What this device wrote itself does not decode: the disk, not a peer. */
export function decode<T>(run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw new StateStoreError("damaged", "the device's state is damaged", cause);
  }
}
