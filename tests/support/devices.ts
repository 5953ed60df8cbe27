/**
 * Devices as the relay sees them: ids, chained blobs and control blobs, without
 * the sealing that it cannot read anyway. Signatures are of the right length and
 * no more.
 */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  BlobHeaderSchema,
  type BlobSchema,
  type PushSchema,
} from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  type ChangeMembershipSchema,
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { blobLink, zeroLink } from "../../wire/ids.ts";

type Init<Schema extends Parameters<typeof create>[0]> = MessageInitShape<Schema>;

/** So many bytes, different for every seed. */
export function bytes(length: number, seed: number): Uint8Array {
  const made = new Uint8Array(length);
  for (let i = 0; i < length; i++) made[i] = (seed * 131 + i * 7 + (seed >> 8)) & 255;
  if (length >= 4) new DataView(made.buffer).setUint32(0, seed);
  return made;
}

export const groupId: Uint8Array = bytes(32, 77_000);

/** A blob that a device is about to push, and where its chain stands behind it. */
export interface MadeBlob {
  readonly seq: number;
  readonly link: Uint8Array;
  readonly blob: Init<typeof BlobSchema>;
}

export interface BlobChoices {
  readonly epoch?: number;
  readonly bodyBytes?: number;
  readonly seq?: number;
  readonly previousLink?: Uint8Array;
  /** Another number makes another blob at the same place. */
  readonly variant?: number;
  readonly ttlS?: number;
  readonly deletes?: readonly Uint8Array[];
  readonly force?: boolean;
}

/** One device of one group: its id and its chain. */
export class ChainDevice {
  readonly id: Uint8Array;
  readonly group: Uint8Array;
  seq = 0;
  link: Uint8Array = zeroLink;
  readonly #seed: number;

  constructor(seed: number, group: Uint8Array = groupId) {
    this.#seed = seed;
    this.id = bytes(32, 50_000 + seed);
    this.group = group;
  }

  /** The blob at a place, without moving the chain. */
  make(choices: BlobChoices = {}): MadeBlob {
    const seq = choices.seq ?? this.seq + 1;
    const variant = choices.variant ?? 0;
    const header = toBinary(
      BlobHeaderSchema,
      create(BlobHeaderSchema, {
        seq: BigInt(seq),
        previousLink: choices.previousLink ?? this.link,
        entryHash: bytes(32, this.#seed * 1_000 + seq + variant * 7_919),
        ttlS: BigInt(choices.ttlS ?? 0),
        deletes: [...(choices.deletes ?? [])],
        force: choices.force ?? false,
      }),
    );
    const blobId = bytes(16, this.#seed * 10_000 + seq + variant * 104_729);
    return {
      seq,
      link: blobLink(this.group, this.id, blobId, header),
      blob: {
        blobId,
        header,
        signature: bytes(64, seq),
        epoch: BigInt(choices.epoch ?? 1),
        body: bytes(choices.bodyBytes ?? 40, seq + 1),
      },
    };
  }

  /** The next blob; the chain stands behind it. */
  next(choices: BlobChoices = {}): MadeBlob {
    const made = this.make(choices);
    this.seq = made.seq;
    this.link = made.link;
    return made;
  }

  /** So many next blobs. */
  run(count: number, choices: BlobChoices = {}): MadeBlob[] {
    return Array.from({ length: count }, () => this.next(choices));
  }
}

/** A push of some blobs. */
export function pushOf(blobs: readonly MadeBlob[], resume = false): Init<typeof PushSchema> {
  return { blobs: blobs.map(({ blob }) => blob), resume };
}

/** Where a control chain stands. */
export interface Version {
  readonly count: number;
  readonly head: Uint8Array;
}

export const version0: Version = { count: 0, head: zeroLink };

export interface ChangeChoices {
  readonly author: Uint8Array;
  readonly at: Version;
  readonly epoch: number;
  readonly members: readonly (Uint8Array | { id: Uint8Array; role: MemberRole })[];
  readonly closings?: readonly { id: Uint8Array; seq: number; link: Uint8Array }[];
  readonly found?: { readonly groupId: Uint8Array; readonly invite?: Uint8Array };
  /** Another number makes another control blob. */
  readonly variant?: number;
}

export interface MadeChange {
  readonly change: Init<typeof ChangeMembershipSchema>;
  /** Where the chain stands once it is committed. */
  readonly after: Version;
}

/** A membership change. */
export function changeOf(choices: ChangeChoices): MadeChange {
  const clear = toBinary(
    ControlClearSchema,
    create(ControlClearSchema, { epoch: BigInt(choices.epoch), previousHead: choices.at.head }),
  );
  const controlBlob = toBinary(
    ControlBlobSchema,
    create(ControlBlobSchema, {
      author: choices.author,
      clear,
      sealedStatement: bytes(100, 9 + (choices.variant ?? 0)),
      signature: bytes(64, 8),
    }),
  );
  return {
    after: { count: choices.at.count + 1, head: blake2b256(controlBlob) },
    change: {
      expected: { count: BigInt(choices.at.count), head: choices.at.head },
      controlBlob,
      members: choices.members.map((member) =>
        member instanceof Uint8Array
          ? { deviceId: member, role: MemberRole.DEVICE }
          : { deviceId: member.id, role: member.role },
      ),
      epoch: BigInt(choices.epoch),
      closings: (choices.closings ?? []).map(({ id, seq, link }) => ({
        deviceId: id,
        position: { seq: BigInt(seq), link },
      })),
      ...(choices.found === undefined ? {} : { groupId: choices.found.groupId }),
      ...(choices.found?.invite === undefined ? {} : { groupInvite: choices.found.invite }),
    },
  };
}

/** One of two devices removes the other, which had written nothing, under the second epoch. */
export function removalOf(
  author: { readonly id: Uint8Array },
  removed: { readonly id: Uint8Array },
  at: ChangeChoices["at"],
): MadeChange {
  return changeOf({
    author: author.id,
    at,
    epoch: 2,
    members: [author.id],
    closings: [{ id: removed.id, seq: 0, link: new Uint8Array(32) }],
  });
}

/** A founding by one device. */
export function foundingOf(
  founder: Uint8Array,
  members: readonly Uint8Array[] = [founder],
  found: { readonly groupId: Uint8Array; readonly invite?: Uint8Array } = { groupId },
): MadeChange {
  return changeOf({ author: founder, at: version0, epoch: 1, members, found });
}
