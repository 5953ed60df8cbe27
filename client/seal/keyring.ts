/**
 * The group's secrets, one per epoch, and what is derived from each. The newest
 * opens all: every epoch after the first seals the secret before it.
 */
import { concatBytes, copyBytes, equalBytes, u64be } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import {
  bodyKeyLabel,
  keyCheckLabel,
  previousSecretLabel,
  snapshotKeyLabel,
  statementKeyLabel,
  witnessKeyLabel,
} from "./labels.ts";
import {
  aeadOpen,
  aeadSeal,
  deriveKey,
  keyBytes,
  nonceBytes,
  type Random,
  sealOverheadBytes,
  wipe,
} from "./primitives.ts";

/** A sealed previous secret. */
export const previousSecretBytes: number = sealOverheadBytes + keyBytes;

interface EpochKeys {
  readonly secret: Uint8Array;
  body?: Uint8Array;
  statement?: Uint8Array;
  witness?: Uint8Array;
  snapshot?: Uint8Array;
}

/** The secrets a device holds. Grows; an epoch's secret never changes. */
export class Keyring {
  readonly #epochs = new Map<number, EpochKeys>();
  #newest = 0;

  /** Keeps an epoch's secret, 32 bytes. Throws WRONG_KEY where another is held for that epoch. */
  add(epoch: number, secret: Uint8Array): void {
    if (!Number.isSafeInteger(epoch) || epoch < 1) throw new RangeError("epochs count from 1");
    if (secret.byteLength !== keyBytes) throw new RangeError("an epoch secret has 32 bytes");
    const held = this.#epochs.get(epoch);
    if (held !== undefined) {
      if (!equalBytes(held.secret, secret)) throw new SyncError(ErrorCode.WRONG_KEY);
      return;
    }
    this.#epochs.set(epoch, { secret: copyBytes(secret) });
    this.#newest = Math.max(this.#newest, epoch);
  }

  has(epoch: number): boolean {
    return this.#epochs.has(epoch);
  }

  /** An epoch's secret; undefined where it is not held. */
  secret(epoch: number): Uint8Array | undefined {
    return this.#epochs.get(epoch)?.secret;
  }

  /** The key of blob bodies of an epoch. */
  bodyKey(epoch: number): Uint8Array | undefined {
    const keys = this.#epochs.get(epoch);
    if (keys === undefined) return undefined;
    keys.body ??= deriveKey(keys.secret, bodyKeyLabel);
    return keys.body;
  }

  /** The key of control statements of an epoch. */
  statementKey(epoch: number): Uint8Array | undefined {
    const keys = this.#epochs.get(epoch);
    if (keys === undefined) return undefined;
    keys.statement ??= deriveKey(keys.secret, statementKeyLabel);
    return keys.statement;
  }

  /** The key of sealed witnesses of an epoch. */
  witnessKey(epoch: number): Uint8Array | undefined {
    const keys = this.#epochs.get(epoch);
    if (keys === undefined) return undefined;
    keys.witness ??= deriveKey(keys.secret, witnessKeyLabel);
    return keys.witness;
  }

  /** The key of a snapshot's claims of an epoch. */
  snapshotKey(epoch: number): Uint8Array | undefined {
    const keys = this.#epochs.get(epoch);
    if (keys === undefined) return undefined;
    keys.snapshot ??= deriveKey(keys.secret, snapshotKeyLabel);
    return keys.snapshot;
  }

  /** The newest epoch held; 0 where none is. */
  get newest(): number {
    return this.#newest;
  }

  /** A keyring with the same secrets, so that a change that fails leaves this one as it was. */
  copy(): Keyring {
    const copy = new Keyring();
    for (const [epoch, keys] of this.#epochs) copy.add(epoch, keys.secret);
    return copy;
  }

  /** Overwrites and forgets every key. */
  wipe(): void {
    for (const keys of this.#epochs.values()) {
      wipe(keys.secret, keys.body, keys.statement, keys.witness, keys.snapshot);
    }
    this.#epochs.clear();
    this.#newest = 0;
  }
}

/**
 * The key check value: tells a wrong key from an altered blob. HKDF is one-way,
 * so it may stand in the clear.
 */
export function keyCheckOf(
  secret: Uint8Array,
  at: { readonly groupId: Uint8Array; readonly epoch: number },
): Uint8Array {
  return deriveKey(secret, keyCheckLabel, { context: concatBytes(at.groupId, u64be(at.epoch)) });
}

/** Seals the secret of the epoch before `at.epoch` under that epoch's secret. */
export function sealPreviousSecret(
  previous: Uint8Array,
  secret: Uint8Array,
  at: { readonly groupId: Uint8Array; readonly epoch: number; readonly random: Random },
): Uint8Array {
  const key = deriveKey(secret, previousSecretLabel);
  const sealed = aeadSeal(
    key,
    at.random(nonceBytes),
    concatBytes(at.groupId, u64be(at.epoch)),
    previous,
  );
  wipe(key);
  return sealed;
}

/** Opens what `sealPreviousSecret` made. Throws OPEN_FAILED. */
export function openPreviousSecret(
  sealed: Uint8Array,
  secret: Uint8Array,
  at: { readonly groupId: Uint8Array; readonly epoch: number },
): Uint8Array {
  const key = deriveKey(secret, previousSecretLabel);
  const previous =
    sealed.byteLength === previousSecretBytes
      ? aeadOpen(key, sealed, concatBytes(at.groupId, u64be(at.epoch)))
      : undefined;
  wipe(key);
  if (previous === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  return previous;
}
