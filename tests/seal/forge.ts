/**
 * Control blobs as a member that follows no rules would make them: well sealed
 * and signed, whatever they say. Each test changes the one thing it is about.
 */
import assert from "node:assert/strict";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type ControlClear, sealControl, type Wrap } from "../../client/seal/control-blob.ts";
import {
  type ControlChain,
  type DeviceKeys,
  Keyring,
  keyCheckOf,
  members,
  type RosterDevice,
  sealPreviousSecret,
  sealWrap,
} from "../../client/seal/index.ts";
import type { StatementSchema } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { seeded } from "./support.ts";

export type Change = NonNullable<MessageInitShape<typeof StatementSchema>["change"]>;

export interface Forgery {
  readonly author: DeviceKeys;
  readonly change: Change;
  /** Whether it opens an epoch; else it stays in the current one. */
  readonly opens: boolean;
  /** Whom the secret is sealed to. */
  readonly wrapped: readonly Pick<RosterDevice, "deviceId" | "sealingKey">[];
  /** What is changed of the clear part. */
  readonly clear?: Partial<ControlClear>;
  readonly madeMs?: bigint;
  /** The secret of the epoch, where it opens one. */
  readonly secret?: Uint8Array;
  /** The secret before, as it is sealed under the new one. */
  readonly previous?: Uint8Array;
  /** The group it is signed and sealed for. */
  readonly groupId?: Uint8Array;
}

const random = seeded("forge");

/** A wrap that says it is for one device and is. */
export function wrapFor(
  to: Pick<RosterDevice, "deviceId" | "sealingKey">,
  secret: Uint8Array,
  at: { groupId: Uint8Array; epoch: number },
): Wrap {
  const sealed = sealWrap(secret, to, { ...at, random });
  assert.ok(sealed !== undefined);
  return { deviceId: to.deviceId, sealed };
}

export function forge(chain: ControlChain, forgery: Forgery): Uint8Array {
  const groupId = forgery.groupId ?? chain.groupId;
  const epoch = chain.epoch + (forgery.opens ? 1 : 0);
  const current = chain.keyring.secret(chain.epoch);
  const secret = forgery.opens ? (forgery.secret ?? random(32)) : current;
  assert.ok(secret !== undefined);
  const previous = forgery.previous ?? current;
  const clear: ControlClear = {
    epoch,
    previousHead: chain.version.head,
    wraps: forgery.wrapped.map((to) => wrapFor(to, secret, { groupId, epoch })),
    keyCheck: forgery.opens ? keyCheckOf(secret, { groupId, epoch }) : undefined,
    previousSecret:
      forgery.opens && previous !== undefined
        ? sealPreviousSecret(previous, secret, { groupId, epoch, random })
        : undefined,
    recoveryRecord: undefined,
    ...forgery.clear,
  };
  const keyring = new Keyring();
  keyring.add(1, secret);
  const statementKey = keyring.statementKey(1);
  assert.ok(statementKey !== undefined);
  return sealControl(
    clear,
    { madeMs: forgery.madeMs ?? 5n, change: forgery.change },
    { groupId, keys: forgery.author, statementKey, random },
  );
}

/** The members without one. */
export function without(chain: ControlChain, keys: DeviceKeys): RosterDevice[] {
  return members(chain).filter(({ deviceId }) => deviceId.join() !== keys.deviceId.join());
}
