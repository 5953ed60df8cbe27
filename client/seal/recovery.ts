/**
 * Recovery phrases: twenty-four words that are the seed of a device on paper. It is a member like
 * another, so every new epoch is sealed to it, and it signs one kind of thing: the addition of a
 * device in use.
 *
 * The control blob that admits it carries its recovery record, sealed under a key that only the words
 * yield. Whoever is shown a chain and holds the words can so tell the group from an impostor's: former
 * members know the phrase's public keys, but cannot make its record.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { entropyToMnemonic, mnemonicToEntropy } from "@scure/bip39";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import {
  type Device,
  DeviceSchema,
  RecoveryRecordSchema,
} from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import type { ChangeMembership } from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { addDevice, type ChangeContext } from "./changes.ts";
import { altered, decodeMessage } from "./checks.ts";
import { decodeControl, recoveryRecordBytesMax } from "./control-blob.ts";
import { type DeviceKeys, deriveDeviceKeys, seedBytes } from "./keys.ts";
import { recoveryRecordLabel } from "./labels.ts";
import { type ControlChain, deviceMessage, readChain } from "./membership.ts";
import { PhraseError } from "./phrase-error.ts";
import { aeadOpen, aeadSeal, deriveKey, nonceBytes, type Random, wipe } from "./primitives.ts";

/** Words in a phrase. */
export const phraseWordsCount = 24;
/** What a phrase is called in its group. */
const phraseName = "recovery phrase";

/** A device on paper. */
export interface PaperDevice {
  readonly keys: DeviceKeys;
  /** The key of its recovery record. */
  readonly recordKey: Uint8Array;
  /** Overwrites its secrets. */
  wipe(): void;
}

/** Draws a phrase, and the device it is. The words exist nowhere else. */
export function drawPhrase(random: Random): { readonly words: string[]; paper: PaperDevice } {
  const seed = random(seedBytes);
  const words = entropyToMnemonic(seed, wordlist).split(" ");
  return { words, paper: paperOfSeed(seed) };
}

/**
 * The device that words are. Any case, and any space between them. Throws `PhraseError`, which says
 * what is wrong with them without repeating any.
 */
export function paperOfWords(words: string | readonly string[]): PaperDevice {
  const text = typeof words === "string" ? words : words.join(" ");
  const list = text.normalize("NFKD").toLowerCase().split(/\s+/).filter(Boolean);
  if (list.length !== phraseWordsCount) {
    throw new PhraseError(`a recovery phrase has ${phraseWordsCount} words, not ${list.length}`);
  }
  const unknown = list.flatMap((word, i) => (wordlist.includes(word) ? [] : [i + 1]));
  if (unknown.length > 0) {
    const which =
      unknown.length === 1 ? `word ${unknown[0]} is` : `words ${unknown.join(", ")} are`;
    throw new PhraseError(`${which} not in the list of words`, unknown);
  }
  let seed: Uint8Array;
  try {
    seed = mnemonicToEntropy(list.join(" "), wordlist);
  } catch {
    // Its one error left is the checksum, and its message could repeat the words.
    throw new PhraseError("these words are no recovery phrase: one is wrong, or their order is");
  }
  return paperOfSeed(seed);
}

function paperOfSeed(seed: Uint8Array): PaperDevice {
  const keys = deriveDeviceKeys(seed);
  const recordKey = deriveKey(seed, recoveryRecordLabel);
  wipe(seed);
  return {
    keys,
    recordKey,
    wipe: () => {
      keys.wipe();
      wipe(recordKey);
    },
  };
}

/** A phrase as its group's roster has it. */
export function paperMessage(paper: PaperDevice): Device {
  const device = deviceMessage(paper.keys, phraseName);
  return create(DeviceSchema, { ...device, role: MemberRole.PAPER });
}

/** Admits a phrase. Made by a member; its record says which chain it was admitted to. */
export function admitPhrase(
  chain: ControlChain,
  paper: PaperDevice,
  at: ChangeContext,
): ChangeMembership {
  const record = toBinary(
    RecoveryRecordSchema,
    create(RecoveryRecordSchema, {
      groupId: chain.groupId,
      foundingHash: chain.foundingHash,
      previousHead: chain.version.head,
    }),
  );
  const { recordKey, keys } = paper;
  const recoveryRecord = aeadSeal(recordKey, at.random(nonceBytes), keys.deviceId, record);
  return addDevice(chain, paperMessage(paper), { ...at, recoveryRecord });
}

/**
 * Whether a verified chain's blobs hold the record of a phrase, and it names this group, this
 * founding and the head it was admitted behind. Throws HISTORY_ALTERED where not.
 */
export function checkRecord(
  blobs: readonly Uint8Array[],
  paper: PaperDevice,
  chain: Pick<ControlChain, "groupId" | "foundingHash">,
): void {
  const { deviceId } = paper.keys;
  for (const blob of blobs) {
    const { recoveryRecord, previousHead, wraps } = decodeControl(blob).clear;
    if (recoveryRecord === undefined) continue;
    if (!wraps.some((wrap) => equalBytes(wrap.deviceId, deviceId))) continue;
    const bytes = aeadOpen(paper.recordKey, recoveryRecord, deviceId);
    if (bytes === undefined) continue;
    const record = decodeMessage(
      RecoveryRecordSchema,
      bytes,
      recoveryRecordBytesMax,
      ErrorCode.HISTORY_ALTERED,
    );
    if (
      equalBytes(record.groupId, chain.groupId) &&
      equalBytes(record.foundingHash, chain.foundingHash) &&
      equalBytes(record.previousHead, previousHead)
    ) {
      return;
    }
  }
  throw altered();
}

/** Reads a chain by a phrase alone, and checks that the phrase was admitted to it. */
export function readChainByPhrase(
  blobs: readonly Uint8Array[],
  paper: PaperDevice,
  groupId: Uint8Array,
): ControlChain {
  const chain = readChain(blobs, { groupId, keys: paper.keys });
  checkRecord(blobs, paper, chain);
  return chain;
}

/** What a phrase is to a group, by the chain that a member holds. */
export type PhraseState =
  /** It can bring the group back. */
  | "active"
  /** It was replaced or revoked. */
  | "revoked"
  /** It belongs to another group, or to none. */
  | "unknown";

/** Compares a phrase with the roster, and its record with the chain. Throws as `checkRecord` does. */
export function phraseState(
  chain: ControlChain,
  blobs: readonly Uint8Array[],
  paper: PaperDevice,
): PhraseState {
  const device = chain.devices.get(idText(paper.keys.deviceId));
  if (device === undefined) return "unknown";
  if (device.closing !== undefined) return "revoked";
  const { signingKey, sealingKey } = paper.keys;
  if (
    device.role !== MemberRole.PAPER ||
    !equalBytes(device.signingKey, signingKey) ||
    !equalBytes(device.sealingKey, sealingKey)
  ) {
    throw new SyncError(ErrorCode.DEVICE_UNKNOWN);
  }
  checkRecord(blobs, paper, chain);
  return "active";
}
