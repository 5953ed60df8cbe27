/** Lies about what is delivered to a device that is there and has read everything. */
import { create } from "@bufbuild/protobuf";
import { linkOf } from "../../client/pages.ts";
import { OwnBlobSchema, type StoredBlob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { groupIdBytes, parseId } from "../../wire/ids.ts";
import type { Body, Lie } from "./lying-relay.ts";
import type { MemberLie } from "./member-lies.ts";
import type { Setting } from "./setting.ts";

type Deliver = Extract<Body, { case: "deliver" }>["value"];

/** Changes the next delivery that holds something of others; with `undefined` it never comes. */
function once(change: (deliver: Deliver) => Deliver | undefined): Lie {
  let lied = false;
  return (body) => {
    if (body.case !== "deliver" || lied || body.value.blobs.length === 0) return [body];
    lied = true;
    const value = change(body.value);
    return value === undefined ? [] : [{ case: body.case, value }];
  };
}

/** An own entry in place of one of somebody else. */
const own = (seq: number, link: Uint8Array): Lie =>
  once((deliver) => {
    const cursor = deliver.through;
    deliver.own = [create(OwnBlobSchema, { cursor, seq: BigInt(seq), link })];
    deliver.blobs = [];
    return deliver;
  });

/** Has `b` write an entry and read it back; its link, as everybody was shown it. */
async function written({ world, relay, a, b }: Setting): Promise<Uint8Array> {
  let shown: StoredBlob | undefined;
  relay.lies.set(a.client.deviceId, (body) => {
    if (body.case === "deliver") [shown] = body.value.blobs;
    return [body];
  });
  await b.push("b1");
  await world.until(() => [a, b].every(({ client }) => client.status().readCursor === 3));
  relay.lies.clear();
  if (shown === undefined) throw new Error("nothing was delivered");
  return linkOf(shown, parseId(a.client.groupId ?? "", groupIdBytes) as Uint8Array);
}

const pulled = "nothing: what was left out is pulled";

export const deliveryLies: readonly MemberLie[] = [
  {
    name: "hole in a delivery",
    does: "leaves out an entry between two that it delivers",
    event: "ENVELOPE_INVALID",
    sees: "the session ends with the error, and is tried again; not in sync",
    safe: "the read cursor never passes a blob that was not shown",
    healed: "the truth is shown",
    inSync: false,
    applied: [],
    tell: async ({ relay, a, b }) => {
      relay.lies.set(
        b.client.deviceId,
        once((deliver) => {
          deliver.blobs = deliver.blobs.filter((_, i) => i !== 1);
          return deliver;
        }),
      );
      await a.push("a1", "a2", "a3");
    },
  },
  {
    name: "lost delivery",
    does: "leaves out a delivery, and goes on with the next",
    event: "nothing",
    sees: pulled,
    safe: "the read cursor never passes a blob that was not shown",
    healed: "at once",
    inSync: true,
    applied: ["c1", "a1"],
    tell: async ({ world, relay, a, b, c }) => {
      relay.lies.set(
        b.client.deviceId,
        once(() => undefined),
      );
      await c.push("c1");
      await world.until(() => c.client.status().readCursor === 3);
      // By one that has not seen the other: nothing but the cursors tells.
      a.crash();
      await a.start();
      await world.until(() => a.client.status().readCursor === 3);
      await a.push("a1");
    },
  },
  {
    name: "repeated delivery",
    does: "delivers an earlier entry once more, in the place of a new one",
    event: "REPLAYED",
    sees: "nothing twice; the entry whose place it took is missed; not in sync",
    safe: "no entry is applied twice",
    healed: "a person accepts it",
    inSync: false,
    applied: ["a1"],
    tell: async ({ world, relay, a, b, c }) => {
      let first: StoredBlob | undefined;
      relay.lies.set(b.client.deviceId, (body) => {
        if (body.case === "deliver") {
          body.value.blobs = body.value.blobs.map((blob) => {
            if (first !== undefined) return { ...first, cursor: blob.cursor };
            first = blob;
            return blob;
          });
        }
        return [body];
      });
      await a.push("a1");
      await world.until(() => b.client.status().readCursor === 3);
      await c.push("c1");
    },
  },
  {
    name: "invented own entry",
    does: "says that an entry which the device never wrote is its own",
    event: "nothing",
    sees: pulled,
    safe: "a device takes nothing for its own that it did not sign",
    healed: "at once",
    inSync: true,
    applied: ["a1"],
    tell: async (at) => {
      const { world, relay, a, b } = at;
      relay.lies.set(b.client.deviceId, own(1, world.random(32)));
      await a.push("a1");
    },
  },
  {
    name: "other own entry",
    does: "names another entry than the device wrote at that place of its chain",
    event: "nothing",
    sees: pulled,
    safe: "a device takes nothing for its own that it did not sign",
    healed: "at once",
    inSync: true,
    applied: ["b1", "a1"],
    tell: async (at) => {
      const { world, relay, a, b } = at;
      await written(at);
      relay.lies.set(b.client.deviceId, own(1, world.random(32)));
      await a.push("a1");
    },
  },
  {
    name: "misplaced own entry",
    does: "shows an entry of the device's own once more, in the place of another",
    event: "REPLAYED",
    sees: "nothing twice; the entry whose place it took is missed; not in sync",
    safe: "no entry is applied twice, and no number is used twice",
    healed: "a person accepts it",
    inSync: false,
    applied: ["b1"],
    tell: async (at) => {
      const { relay, a, b } = at;
      relay.lies.set(b.client.deviceId, own(1, await written(at)));
      await a.push("a1");
    },
  },
];
