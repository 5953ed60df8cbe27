/**
 * The closed list of what can be wrong with a history: what each kind means, whether it stops the
 * sender it is about, and what makes it good again, beside a person who accepts it.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";

/** A kind of finding, by name. */
export type FindingName = Exclude<keyof typeof FindingKind, "UNSPECIFIED">;

export interface FindingMeaning {
  readonly kind: FindingKind;
  /** One line for people. */
  readonly means: string;
  /** Whether later entries of that sender are kept and not applied until it is made good. */
  readonly holds: boolean;
  /** What makes it good. */
  readonly heals: string;
}

/**
 * Every kind of finding by its name: what it means in words, whether its sender's later entries wait,
 * and what makes it good.
 */
export const findingMeanings: Readonly<Record<FindingName, FindingMeaning>> = {
  ALTERED: {
    kind: FindingKind.ALTERED,
    means: "an entry is not what its sender signed: a signature, link, hash or seal does not hold",
    holds: true,
    heals: "the intact entry is pulled or pushed again, or a confirmed snapshot covers it",
  },
  REPLAYED: {
    kind: FindingKind.REPLAYED,
    means: "the relay showed an entry once more that was applied before",
    holds: false,
    heals: "nothing: it was not applied again",
  },
  REORDERED: {
    kind: FindingKind.REORDERED,
    means: "entries of one sender came out of their order",
    holds: true,
    heals: "they are pulled in their order, or a confirmed snapshot covers them",
  },
  DROPPED: {
    kind: FindingKind.DROPPED,
    means: "an entry is left out that later ones, or other devices, prove to exist",
    holds: true,
    heals: "the entry arrives, or a confirmed snapshot covers it",
  },
  WITHHELD: {
    kind: FindingKind.WITHHELD,
    means: "the content of an entry is missing, and neither a lifetime nor a delete explains it",
    holds: false,
    heals: "the content arrives, an entry that deletes it does, or a confirmed snapshot covers it",
  },
  ROLLED_BACK: {
    kind: FindingKind.ROLLED_BACK,
    means: "the log ends before what this device had verified, and the relay does not say why",
    holds: false,
    heals: "the log is shown again as far as it was verified",
  },
  FORKED: {
    kind: FindingKind.FORKED,
    means: "another device was shown another history than this one",
    holds: true,
    heals:
      "the sender itself abandons the other branch, the log is shown as far as the other device has it, or a confirmed snapshot covers it",
  },
  DEVICE_FORKED: {
    kind: FindingKind.DEVICE_FORKED,
    means: "one device signed two different entries for one place in its chain",
    holds: true,
    heals:
      "the device abandons one of them, as it does by itself, or a confirmed snapshot covers it",
  },
  STRANGER: {
    kind: FindingKind.STRANGER,
    means: "the relay shows an entry of a device that the group does not have, or no longer",
    holds: false,
    heals: "nothing: it is not applied",
  },
  WITNESS_CONFLICT: {
    kind: FindingKind.WITNESS_CONFLICT,
    means: "one device signed two different witnesses under one number",
    holds: false,
    heals: "nothing: neither is believed",
  },
  MEMBERSHIP_ALTERED: {
    kind: FindingKind.MEMBERSHIP_ALTERED,
    means: "a membership change that the relay shows does not hold",
    holds: false,
    heals: "the change is shown intact",
  },
  MEMBERSHIP_FORKED: {
    kind: FindingKind.MEMBERSHIP_FORKED,
    means: "the membership history is not the one that this device, or another one, had verified",
    holds: false,
    heals: "nothing: two histories of one group cannot both be right",
  },
  MEMBERSHIP_WITHHELD: {
    kind: FindingKind.MEMBERSHIP_WITHHELD,
    means: "another device has verified a membership change that the relay does not show here",
    holds: false,
    heals: "the change is shown",
  },
  SNAPSHOT_FORGED: {
    kind: FindingKind.SNAPSHOT_FORGED,
    means: "a snapshot that the relay shows is not what a member of the group can have made",
    holds: false,
    heals: "a snapshot that holds is taken over",
  },
};

/** The name of a kind; one of a later version has its number. */
export function findingName(kind: FindingKind): string {
  return FindingKind[kind] ?? String(kind);
}
