/** Lies about the membership, witnesses, and what a device itself asked for: each in a setting of its own. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { removeDevices, rename } from "../../client/seal/changes.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import {
  ErrorSchema,
  MembershipDetailSchema,
  MembershipVersionSchema,
  RevocationSchema,
} from "../../gen/syncrelay/sync/v1/error_pb.ts";
import { BodyState, type SealedWitness } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  ControlBlobSchema,
  ControlBlobsSchema,
  MembershipAckSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { PresenceSchema, PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { groupIdBytes, parseId } from "../../wire/ids.ts";
import type { Device } from "../client/support/devices.ts";
import { aboutBlobs, aboutWelcome, type Body, type Lie } from "./lying-relay.ts";
import type { Setting } from "./setting.ts";

export interface MemberLie {
  readonly name: string;
  readonly does: string;
  /** The finding or error; "nothing" where the lie goes unnoticed, or changes nothing. */
  readonly event: string;
  readonly sees: string;
  readonly safe: string;
  /** As the table has it. */
  readonly healed:
    | "at once"
    | "the truth is shown"
    | "the next true change"
    | "a person accepts it"
    | "nothing is wrong";
  /** Lies to `b`, and has happen what the lie is about. */
  readonly tell: (setting: Setting) => Promise<void> | void;
  /** What must be so while the lie stands. */
  readonly holds?: (setting: Setting) => boolean;
  /** Whether `b` says meanwhile that it is in sync. */
  readonly inSync: boolean;
  /** What `b` was handed meanwhile, where that is part of the lie. */
  readonly applied?: readonly string[];
}

const idOf = ({ client }: Device): Uint8Array => parseId(client.deviceId, 32) as Uint8Array;

/** The control chain as a device holds it. */
function control(device: Device): Uint8Array[] {
  return device.disk
    .table("control")
    .range(1)
    .map(({ value }) => Uint8Array.from(value));
}

const versionOf = (blobs: readonly Uint8Array[]) =>
  create(MembershipVersionSchema, {
    count: BigInt(blobs.length),
    head: blake2b256(blobs.at(-1) ?? new Uint8Array(0)),
  });

/** Shows this control chain, wherever one is named or asked for. */
function showing(blobs: readonly Uint8Array[]): Lie {
  const welcomed = aboutWelcome((group) => {
    group.membership = versionOf(blobs);
  });
  return (body, session) => {
    if (body.case === "notify") body.value.membership = versionOf(blobs);
    if (body.case !== "controlBlobs") return welcomed(body, session);
    const { after } = body.value;
    const controlBlobs = blobs.slice(Number(after));
    return [
      { case: body.case, value: create(ControlBlobsSchema, { after, controlBlobs, done: true }) },
    ];
  };
}

/** What the first device can sign behind a chain. */
function authorOf({ a, world }: Setting, blobs: readonly Uint8Array[]) {
  const keys = deriveDeviceKeys(a.disk.table("device").get("seed") as Uint8Array);
  const groupId = parseId(a.client.groupId ?? "", groupIdBytes) as Uint8Array;
  const random = (length: number): Uint8Array => world.random(length);
  return { chain: readChain(blobs, { groupId, keys }), by: { keys, random, nowMs: 1 } };
}

/** Changes each witness that is passed on. */
const aboutWitnesses =
  (change: (each: { deviceId: Uint8Array; witness?: SealedWitness | undefined }) => void): Lie =>
  (body) => {
    if (body.case === "witnesses") for (const each of body.value.witnesses) change(each);
    return [body];
  };

const error = (value: Parameters<typeof create<typeof ErrorSchema>>[1]): Body => ({
  case: "error",
  value: create(ErrorSchema, value),
});

function lie({ relay, b }: Setting, what: Lie): void {
  relay.lies.set(b.client.deviceId, what);
}

/** Has somebody write and everybody acknowledge, and new witnesses go round. */
async function witnessed({ world, a, c }: Setting, text = "more"): Promise<void> {
  world.cutAll();
  await a.push(text);
  await world.run(60_000);
  await c.take();
  await world.run(60_000);
  world.cutAll();
  await world.run(60_000);
}

const named = (device: Device, name: string): boolean =>
  device.client.devices().some((each) => each.name === name);
const isMember = (device: Device, other: Device): boolean =>
  device.client.devices().some(({ deviceId }) => deviceId === other.client.deviceId);

export const memberLies: readonly MemberLie[] = [
  {
    name: "forged removal",
    does: "shows a removal that no member signed",
    event: "MEMBERSHIP_ALTERED",
    sees: "the session ends with the finding, and is tried again; not in sync",
    safe: "nobody is removed, and no key is taken",
    healed: "the next true change",
    inSync: false,
    tell: (at) => {
      const honest = control(at.b);
      const { chain, by } = authorOf(at, honest);
      const closings = [{ deviceId: idOf(at.c), place: { seq: 1, link: at.world.random(32) } }];
      const removal = removeDevices(chain, closings, by);
      const forged = fromBinary(ControlBlobSchema, removal.controlBlob);
      forged.signature = at.world.random(64);
      lie(at, showing([...honest, toBinary(ControlBlobSchema, forged)]));
      at.world.cutAll();
    },
    holds: ({ a, b, c }) => isMember(b, c) && isMember(b, a),
  },
  {
    name: "other membership",
    does: "names another membership of the same length",
    event: "MEMBERSHIP_FORKED",
    sees: "the session ends with the finding, and is tried again; not in sync",
    safe: "the chain that was verified stays",
    healed: "a person accepts it",
    inSync: false,
    tell: (at) => {
      const head = at.world.random(32);
      lie(
        at,
        aboutWelcome((group) => {
          if (group.membership !== undefined) group.membership.head = head;
        }),
      );
      at.world.cutAll();
    },
    holds: ({ a, b, c }) => isMember(b, c) && isMember(b, a),
  },
  {
    name: "longer membership",
    does: "shows a longer membership that parts from the verified one, all of it signed by a member",
    event: "MEMBERSHIP_FORKED",
    sees: "the session ends with the finding, and is tried again; not in sync",
    safe: "the chain that was verified stays",
    healed: "a person accepts it",
    inSync: false,
    tell: (at) => {
      const branch = control(at.b).slice(0, -1);
      for (const name of ["one", "two"]) {
        const { chain, by } = authorOf(at, branch);
        branch.push(rename(chain, name, by).controlBlob);
      }
      lie(at, showing(branch));
      at.world.cutAll();
    },
    holds: ({ a, b, c }) => isMember(b, c) && isMember(b, a) && !named(b, "one"),
  },
  {
    name: "hidden change",
    does: "shows a change of membership to others, and to one not",
    event: "MEMBERSHIP_WITHHELD",
    sees: "not in sync, once somebody who knows of it is heard",
    safe: "what is shown is what members signed",
    healed: "the truth is shown",
    inSync: false,
    tell: async (at) => {
      lie(at, showing(control(at.b)));
      await at.world.result(at.a.client.rename("renamed"));
      await witnessed(at);
    },
    holds: ({ b }) => !named(b, "renamed"),
  },
  {
    name: "hidden removal",
    does: "hides a removal, and all that was written since, from one member",
    event: "nothing",
    sees: "that the others' witnesses grow old",
    safe: "that member reads nothing that is written since, and nothing of it is lost",
    healed: "the truth is shown",
    inSync: true,
    tell: async (at) => {
      const chain = showing(control(at.b));
      const { readCursor: head } = at.b.client.status();
      lie(at, (body, session) => {
        switch (body.case) {
          case "deliver":
          case "witnesses":
            return [];
          case "notify":
            return [];
          case "welcome":
            if (body.value.scope.case === "group") {
              body.value.scope.value.head = BigInt(head);
              body.value.scope.value.epoch = 1n;
            }
            break;
          default:
        }
        return chain(body, session);
      });
      await at.world.result(at.a.client.remove([at.c.client.deviceId]));
      await at.a.push("after");
      await at.world.run(60_000);
    },
    holds: ({ b, c }) => isMember(b, c),
  },
  {
    name: "endless control blobs",
    does: "sends page after page of the control chain, each empty",
    event: "ENVELOPE_INVALID",
    sees: "the session ends with the error, and is tried again",
    safe: "no stream holds a device for good",
    healed: "the truth is shown",
    inSync: false,
    tell: (at) => {
      const blobs = control(at.b);
      const longer = showing([...blobs, at.world.random(100)]);
      lie(at, (body, session) => {
        if (body.case !== "controlBlobs") return longer(body, session);
        const { after } = body.value;
        const page = create(ControlBlobsSchema, { after, controlBlobs: [], done: false });
        return Array.from({ length: 100 }, () => ({ case: body.case, value: page }));
      });
      at.world.cutAll();
    },
  },
  {
    name: "false acknowledgement",
    does: "says that it has a change of membership, and throws it away",
    event: "nothing",
    sees: "the change is made; the next session brings the relay the blob again",
    safe: "what a device signed stays on its disk until the relay shows it",
    healed: "at once",
    inSync: true,
    tell: async (at) => {
      let lied = false;
      at.relay.answers.set(at.b.client.deviceId, (request) => {
        if (request.case !== "changeMembership" || lied) return undefined;
        lied = true;
        const { expected, epoch, controlBlob } = request.value;
        const membership = create(MembershipVersionSchema, {
          count: (expected?.count ?? 0n) + 1n,
          head: blake2b256(controlBlob),
        });
        return [
          { case: "membershipAck", value: create(MembershipAckSchema, { membership, epoch }) },
        ];
      });
      await at.world.result(at.b.client.rename("renamed"));
      at.world.cutAll();
      await at.world.run(60_000);
    },
    holds: ({ a }) => named(a, "renamed"),
  },
  {
    name: "invented closing",
    does: "says that a device which is removed wrote more than it did",
    event: "DROPPED",
    sees: "the removal is made, at the place that was read",
    safe: "no place is signed at the relay's word",
    healed: "at once",
    inSync: true,
    tell: async (at) => {
      let lies = 2;
      const link = at.world.random(32);
      at.relay.answers.set(at.b.client.deviceId, (request) => {
        if (request.case !== "changeMembership" || lies-- <= 0) return undefined;
        const detail = create(MembershipDetailSchema, {
          version: versionOf(control(at.b)),
          epoch: 1n,
          closing: { seq: 1_000_000n, link },
          closingDevice: idOf(at.c),
        });
        return [
          error({
            code: ErrorCode.MEMBERSHIP_CONFLICT,
            detail: { case: "membership", value: detail },
          }),
        ];
      });
      await at.world.result(at.b.client.remove([at.c.client.deviceId]));
      await at.world.run(60_000);
    },
    holds: ({ a, b, c }) => !isMember(a, c) && !isMember(b, c),
  },
  {
    name: "altered witness",
    does: "changes one bit of a witness",
    event: "OPEN_FAILED",
    sees: "the error; that device's last witness stays what it was",
    safe: "nothing counts as seen that its device did not sign",
    healed: "the truth is shown",
    inSync: true,
    tell: async (at) => {
      lie(
        at,
        aboutWitnesses((each) => {
          if (each.witness === undefined) return;
          each.witness.sealed = each.witness.sealed.map((byte, i) => (i === 40 ? byte ^ 1 : byte));
        }),
      );
      await witnessed(at);
    },
  },
  {
    name: "swapped witness",
    does: "shows a witness as another device's",
    event: "OPEN_FAILED",
    sees: "the error; that device's last witness stays what it was",
    safe: "nothing counts as seen that its device did not sign",
    healed: "the truth is shown",
    inSync: true,
    tell: async (at) => {
      const [first, second] = [idOf(at.a), idOf(at.c)];
      lie(
        at,
        aboutWitnesses((each) => {
          each.deviceId = Buffer.compare(each.deviceId, first) === 0 ? second : first;
        }),
      );
      await witnessed(at);
    },
  },
  {
    name: "old witness",
    does: "shows an older witness of a device instead of its newest",
    event: "nothing",
    sees: "that the witness grows old",
    safe: "what was known to be applied there stays known",
    healed: "the truth is shown",
    inSync: true,
    tell: async (at) => {
      const first = new Map<string, SealedWitness>();
      lie(
        at,
        aboutWitnesses((each) => {
          const id = Buffer.from(each.deviceId).toString("hex");
          const kept = first.get(id);
          if (kept === undefined && each.witness !== undefined) first.set(id, each.witness);
          else each.witness = kept;
        }),
      );
      await witnessed(at, "first");
      await witnessed(at, "second");
    },
    holds: ({ b, c }) =>
      (b.client.devices().find(({ deviceId }) => deviceId === c.client.deviceId)?.applied?.cursor ??
        0) >= 2,
  },
  {
    name: "fork",
    does: "shows a member entries, and to another says that the log ends before them",
    event: "FORKED",
    sees: "not in sync, once somebody who has applied them is heard",
    safe: "what was applied is what its sender signed",
    healed: "the truth is shown",
    inSync: false,
    tell: async (at) => {
      const head = BigInt(at.b.client.status().readCursor);
      lie(at, (body) => {
        if (body.case === "deliver" || body.case === "notify") return [];
        if (body.case === "welcome" && body.value.scope.case === "group") {
          body.value.scope.value.head = head;
          body.value.scope.value.pending = 0n;
        }
        if (body.case === "blobs") {
          body.value.blobs = body.value.blobs.filter(({ cursor }) => cursor <= head);
          body.value.through = body.value.through < head ? body.value.through : head;
          body.value.head = head;
          body.value.done = true;
        }
        return [body];
      });
      await witnessed(at);
    },
  },
  {
    name: "wrong cursors",
    does: "acknowledges pushes under other cursors than they have",
    event: "nothing",
    sees: "not in sync, as long as the relay names a head that it does not show",
    safe: "nothing is lost, or written twice",
    healed: "the truth is shown",
    inSync: false,
    tell: async (at) => {
      lie(at, (body) => {
        if (body.case === "pushAck") {
          body.value.cursors = body.value.cursors.map((cursor) => cursor + 5n);
        }
        return [body];
      });
      await at.b.push("mine");
      await at.world.run(120_000);
    },
  },
  {
    name: "no acknowledgement",
    does: "stores what is pushed, and never says so",
    event: "nothing",
    sees: "nothing, where the entry itself is shown",
    safe: "nothing is lost, or written twice",
    healed: "at once",
    inSync: true,
    tell: async (at) => {
      lie(at, (body) => (body.case === "pushAck" ? [] : [body]));
      await at.b.push("mine");
      await at.world.run(120_000);
    },
  },
  {
    name: "false presence",
    does: "says that a device is there which is not",
    event: "nothing",
    sees: "what the relay says: presence is its word",
    safe: "nothing follows from presence",
    healed: "the truth is shown",
    inSync: true,
    tell: async (at) => {
      const id = idOf(at.c);
      at.c.crash();
      await at.world.run(1_000);
      for (const session of at.relay.of(at.b.client.deviceId)) {
        session.tell({
          case: "presence",
          value: create(PresenceSchema, { deviceId: id, state: PresenceState.ONLINE }),
        });
      }
      await at.world.run(10_000);
    },
  },
  {
    name: "false refusal",
    does: "says that its operator refuses a device",
    event: "DEVICE_REVOKED",
    sees: "that the relay refuses it, as the relay's claim; not in sync",
    safe: "no member is removed at it, and the device keeps what it has",
    healed: "the truth is shown",
    inSync: false,
    tell: async (at) => {
      lie(at, (body) =>
        body.case === "welcome"
          ? [
              error({
                code: ErrorCode.DEVICE_REVOKED,
                detail: {
                  case: "revocation",
                  value: create(RevocationSchema, { byOperator: true }),
                },
              }),
            ]
          : [body],
      );
      at.world.cutAll();
      await at.world.run(10_000);
    },
    holds: ({ a, b }) => isMember(a, b),
  },
  {
    name: "early expiry",
    does: "drops the body of an entry with a lifetime before that ends",
    event: "nothing",
    sees: "nothing: the entry is not there",
    safe: "only what its sender gave a lifetime can go",
    healed: "nothing is wrong",
    inSync: true,
    tell: async (at) => {
      lie(
        at,
        aboutBlobs((blobs) =>
          blobs.map((stored) => {
            if (stored.blob === undefined) return stored;
            stored.bodyState = BodyState.EXPIRED;
            stored.blob.body = new Uint8Array(0);
            return stored;
          }),
        ),
      );
      await at.a.client.push(utf8("short"), { ttlS: 1_000_000 });
      await at.world.run(10_000);
    },
  },
];
