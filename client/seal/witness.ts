/**
 * Witnesses: what a device has verified and applied, signed by it and sealed for
 * the group. "Applied on that device" counts these, and no word of the relay.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import type { SenderLink } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import { WitnessSchema } from "../../gen/syncrelay/sealed/v1/witness_pb.ts";
import { type SealedWitness, SealedWitnessSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, equalBytes, u64be } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256, hashBytes } from "../../wire/hash.ts";
import { logIdBytes } from "../../wire/ids.ts";
import { witnessBytesMax } from "../../wire/limits.ts";
import { altered, decodeMessage, safeNumber } from "./checks.ts";
import { type Positions, positionsOf, senderLinks } from "./history.ts";
import { type DeviceKeys, verifySignature } from "./keys.ts";
import { witnessSignatureLabel } from "./labels.ts";
import { pad, paddedBytes, unpad } from "./padding.ts";
import { aeadOpen, aeadSeal, nonceBytes, type Random, sealOverheadBytes } from "./primitives.ts";

/** What a device witnesses. */
export interface WitnessClaims {
  /** Rises with each witness of a device, from 1. */
  readonly counter: number;
  /** By the device's clock: for people, orders nothing. */
  readonly madeMs: number;
  readonly logId: Uint8Array;
  /** The applied cursor. */
  readonly applied: number;
  /** How far each sender's chain was applied. */
  readonly positions: Positions;
  /** Where the control chain stood. */
  readonly membership: { readonly count: number; readonly head: Uint8Array };
  /** Of the device's own blobs up to here a restored relay lacks some for good; 0: none. */
  readonly lackingSeq: number;
}

/** A witness that was opened, with the bytes that were signed. */
export interface OpenedWitness extends WitnessClaims {
  /** `Witness`, encoded. */
  readonly bytes: Uint8Array;
}

/**
 * Seals and signs a witness. Of more positions than fit 16,384 bytes, the first
 * are taken; what is left out is only not claimed.
 */
export function sealWitness(
  claims: WitnessClaims,
  at: {
    readonly groupId: Uint8Array;
    readonly keys: DeviceKeys;
    readonly epoch: number;
    /** The keyring's for the epoch. */
    readonly witnessKey: Uint8Array;
    readonly random: Random;
  },
): SealedWitness {
  const { deviceId } = at.keys;
  const positions = senderLinks(claims.positions);
  let bytes = encodeWitness(claims, deviceId, positions);
  while (sealOverheadBytes + paddedBytes(bytes.byteLength) > witnessBytesMax) {
    positions.length -= Math.ceil(positions.length / 16);
    bytes = encodeWitness(claims, deviceId, positions);
  }
  const sealed = aeadSeal(
    at.witnessKey,
    at.random(nonceBytes),
    witnessContext(at.groupId, deviceId, claims.counter, at.epoch),
    pad(bytes),
  );
  return create(SealedWitnessSchema, {
    counter: BigInt(claims.counter),
    epoch: BigInt(at.epoch),
    sealed,
    signature: at.keys.sign(signedWitness(at.groupId, bytes)),
  });
}

/**
 * Opens and verifies the witness of a device. Throws OPEN_FAILED where it does
 * not authenticate or is no witness, and HISTORY_ALTERED where it is one, but
 * not that device's.
 */
export function openWitness(
  witness: SealedWitness,
  at: {
    readonly groupId: Uint8Array;
    readonly deviceId: Uint8Array;
    /** The device's, from the roster. */
    readonly signingKey: Uint8Array;
    /** The keyring's for `witness.epoch`. */
    readonly witnessKey: Uint8Array;
  },
): OpenedWitness {
  const counter = safeNumber(witness.counter, 1);
  const epoch = safeNumber(witness.epoch, 1);
  if (counter === undefined || epoch === undefined || witness.sealed.byteLength > witnessBytesMax) {
    throw new SyncError(ErrorCode.OPEN_FAILED);
  }
  const padded = aeadOpen(
    at.witnessKey,
    witness.sealed,
    witnessContext(at.groupId, at.deviceId, counter, epoch),
  );
  const bytes = padded === undefined ? undefined : unpad(padded);
  if (bytes === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  if (!verifySignature(at.signingKey, signedWitness(at.groupId, bytes), witness.signature)) {
    throw altered();
  }
  const said = decodeMessage(WitnessSchema, bytes, witnessBytesMax, ErrorCode.OPEN_FAILED);
  const madeMs = safeNumber(said.madeMs, 0);
  const applied = safeNumber(said.applied, 0);
  const count = safeNumber(said.membership?.count ?? 0n, 1);
  const head = said.membership?.head;
  const lackingSeq = safeNumber(said.lackingSeq, 0);
  if (
    lackingSeq === undefined ||
    madeMs === undefined ||
    applied === undefined ||
    count === undefined ||
    head?.byteLength !== hashBytes ||
    said.logId.byteLength !== logIdBytes ||
    said.counter !== witness.counter ||
    !equalBytes(said.deviceId, at.deviceId)
  ) {
    throw altered();
  }
  return {
    counter,
    madeMs,
    logId: said.logId,
    applied,
    positions: positionsOf(said.positions),
    membership: { count, head },
    lackingSeq,
    bytes,
  };
}

function encodeWitness(
  claims: WitnessClaims,
  deviceId: Uint8Array,
  positions: readonly SenderLink[],
): Uint8Array {
  return toBinary(
    WitnessSchema,
    create(WitnessSchema, {
      deviceId,
      counter: BigInt(claims.counter),
      madeMs: BigInt(claims.madeMs),
      logId: claims.logId,
      applied: BigInt(claims.applied),
      positions: [...positions],
      membership: {
        count: BigInt(claims.membership.count),
        head: claims.membership.head,
      },
      lackingSeq: BigInt(claims.lackingSeq),
    }),
  );
}

/** The associated data: group (32), device (32), counter and epoch (u64 big-endian). */
function witnessContext(
  groupId: Uint8Array,
  deviceId: Uint8Array,
  counter: number,
  epoch: number,
): Uint8Array {
  return concatBytes(groupId, deviceId, u64be(counter), u64be(epoch));
}

/** What the device signs: label, group, hash of the witness. Device and counter stand inside. */
function signedWitness(groupId: Uint8Array, bytes: Uint8Array): Uint8Array {
  return concatBytes(witnessSignatureLabel, groupId, blake2b256(bytes));
}
