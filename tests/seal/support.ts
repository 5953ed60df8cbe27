/** Devices, groups and blobs for the tests of the seal room: all from seeds, nothing by chance. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  addDevice,
  type ChainPlace,
  type ControlChain,
  type DeviceKeys,
  deriveDeviceKeys,
  deviceMessage,
  type EntryInput,
  extendChain,
  foundGroup,
  type OwnBlob,
  prepareBlob,
  type Random,
  sealBlob,
} from "../../client/seal/index.ts";
import { type StoredBlob, StoredBlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { u64be, utf8 } from "../../wire/bytes.ts";
import { type ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { zeroLink } from "../../wire/ids.ts";

/** Bytes that a seed determines, one draw after another. */
export function seeded(seed: string): Random {
  let counter = 0;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let offset = 0; offset < length; offset += 32) {
      const block = blake2b256(utf8(`test ${seed}`), u64be(counter++));
      bytes.set(block.subarray(0, Math.min(32, length - offset)), offset);
    }
    return bytes;
  };
}

const devices = new Map<string, DeviceKeys>();

/** The device of a name; made once, since key generation is slow. */
export function device(name: string): DeviceKeys {
  let keys = devices.get(name);
  if (keys === undefined) {
    keys = deriveDeviceKeys(seeded(`device ${name}`)(32));
    devices.set(name, keys);
  }
  return keys;
}

/** A group of the named devices, as the first sees it, and its control blobs. */
export interface Group {
  readonly groupId: Uint8Array;
  readonly chain: ControlChain;
  readonly blobs: readonly Uint8Array[];
}

export function group(...names: readonly [string, ...string[]]): Group {
  const [founder, ...rest] = names;
  const random = seeded(`group ${names.join(" ")}`);
  const keys = device(founder);
  const groupId = random(32);
  const founded = foundGroup({ keys, random, nowMs: 1_000, groupId, name: founder });
  const blobs = [founded.change.controlBlob];
  let chain = founded.chain;
  for (const name of rest) {
    const joiner = deviceMessage(device(name), name);
    const { controlBlob } = addDevice(chain, joiner, { keys, random, nowMs: 2_000 });
    blobs.push(controlBlob);
    chain = extendChain(chain, controlBlob, { keys });
  }
  return { groupId, chain, blobs };
}

/** The chain of a device's blobs, one after another, and what a relay would hand out for each. */
export class Writer {
  place: ChainPlace = { seq: 0, link: zeroLink };
  readonly own: OwnBlob[] = [];
  readonly keys: DeviceKeys;
  readonly #group: Group;
  readonly #random: Random;
  readonly #epoch: number;

  constructor(of: Group, name: string, options: { place?: ChainPlace; seed?: string } = {}) {
    this.#group = of;
    this.keys = device(name);
    this.#random = seeded(`writer ${name} ${options.seed ?? ""}`);
    this.#epoch = of.chain.epoch;
    if (options.place !== undefined) this.place = options.place;
  }

  write(input: Partial<EntryInput> & { abandonedLink?: Uint8Array } = {}): StoredBlob {
    const own = prepareBlob(
      { data: utf8("data"), ...input },
      {
        groupId: this.#group.groupId,
        keys: this.keys,
        previous: this.place,
        witnessed: [],
        random: this.#random,
        ...(input.abandonedLink === undefined ? {} : { abandonedLink: input.abandonedLink }),
      },
    );
    this.own.push(own);
    this.place = own;
    return this.stored(own);
  }

  stored(own: OwnBlob): StoredBlob {
    const { groupId, chain } = this.#group;
    const bodyKey = chain.keyring.bodyKey(this.#epoch);
    assert.ok(bodyKey !== undefined);
    const sender = this.keys.deviceId;
    const parts = sealBlob(own, {
      groupId,
      sender,
      epoch: this.#epoch,
      bodyKey,
      random: this.#random,
    });
    return create(StoredBlobSchema, {
      cursor: 1n,
      sender,
      blob: { ...parts, epoch: BigInt(parts.epoch) },
    });
  }
}

/** A copy of a stored blob with something changed in it. */
export function changed(
  stored: StoredBlob,
  change: (copy: StoredBlob & { blob: NonNullable<StoredBlob["blob"]> }) => void,
): StoredBlob {
  const blob = stored.blob;
  assert.ok(blob !== undefined);
  const copy = create(StoredBlobSchema, {
    cursor: stored.cursor,
    sender: new Uint8Array(stored.sender),
    bodyState: stored.bodyState,
    blob: {
      blobId: new Uint8Array(blob.blobId),
      header: new Uint8Array(blob.header),
      signature: new Uint8Array(blob.signature),
      epoch: blob.epoch,
      body: new Uint8Array(blob.body),
    },
  });
  assert.ok(copy.blob !== undefined);
  change(copy as StoredBlob & { blob: NonNullable<StoredBlob["blob"]> });
  return copy;
}

/** A copy with one byte changed. */
export function flipped(bytes: Uint8Array, index = 0): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[index] = (copy[index] as number) ^ 1;
  return copy;
}

/** Runs what must fail with a code. */
export function fails(code: ErrorCode, run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof SyncError, String(error));
    assert.equal(error.code, code);
    return true;
  });
}

/** Runs what may fail, if at all with a `SyncError`. */
export function syncErrorOrNothing(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
  }
}
