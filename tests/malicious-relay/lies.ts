/** Each lie, once: what the relay says, what a device makes of it, and what a person learns. */
import { BodyState, type StoredBlob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { aboutBlobs, aboutWelcome, type Lie } from "./lying-relay.ts";

/** What the liar knows when it lies. */
export interface Facts {
  readonly random: (length: number) => Uint8Array;
  /** The id of the third device. */
  readonly other: Uint8Array;
  /** The id of the device that is lied to. */
  readonly self: Uint8Array;
}

/**
 * Of `a1 a2 a3` by one device and `c1` by another, in this order in the log, shown to a third under the lie.
 */
export interface LieCase {
  readonly name: string;
  /** What the relay does. */
  readonly does: string;
  /** The finding, or the error that ends the session. */
  readonly event: string;
  /** What the user sees. */
  readonly sees: string;
  /** What stayed safe. */
  readonly safe: string;
  readonly lie: (facts: Facts) => Lie;
  /** Whether the device has read all of it, in truth, before the relay begins to lie. */
  readonly readBefore?: boolean;
  /** What is applied while the relay lies. */
  readonly applied: readonly string[];
  /** What is applied once it tells the truth again; undefined: that does not heal it. */
  readonly healed: readonly string[] | undefined;
  /** Whether the device makes it good while the relay goes on lying: it is in sync, and was told. */
  readonly byItself?: boolean;
}

/** The blob at a cursor is another. `a1` stands at 3: two entries were read before. */
const at = (cursor: number, change: (blob: StoredBlob) => StoredBlob): Lie =>
  aboutBlobs((blobs) =>
    blobs.map((blob) => (Number(blob.cursor) === cursor ? change(blob) : blob)),
  );

const bodyOf = (stored: StoredBlob, change: (body: Uint8Array) => Uint8Array): StoredBlob => {
  if (stored.blob !== undefined) stored.blob.body = change(new Uint8Array(stored.blob.body));
  return stored;
};

const emptied = (state: BodyState): Lie =>
  at(4, (stored) => {
    stored.bodyState = state;
    return bodyOf(stored, () => new Uint8Array(0));
  });

/** Other blobs at the same cursors, also where they are asked for again. */
const shuffled = (order: ReadonlyMap<number, number>): Lie => {
  const known = new Map<number, StoredBlob>();
  return aboutBlobs((blobs) => {
    for (const blob of blobs) known.set(Number(blob.cursor), blob);
    return blobs.map((blob) => {
      const other = known.get(order.get(Number(blob.cursor)) ?? 0);
      return other === undefined ? blob : { ...other, cursor: blob.cursor };
    });
  });
};

const held = "its entries wait; everybody else's arrive; not in sync";
const signed = "what was applied is what its sender signed";

export const lies: readonly LieCase[] = [
  {
    name: "bit flip",
    does: "changes one bit of an entry's body",
    event: "ALTERED",
    sees: held,
    safe: signed,
    lie: () =>
      at(4, (blob) => bodyOf(blob, (body) => body.map((byte, i) => (i === 40 ? byte ^ 1 : byte)))),
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "truncation",
    does: "cuts the end off an entry's body",
    event: "ALTERED",
    sees: held,
    safe: signed,
    lie: () => at(4, (blob) => bodyOf(blob, (body) => body.subarray(0, -1))),
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "altered header",
    does: "changes one bit of an entry's header",
    event: "ALTERED",
    sees: held,
    safe: signed,
    lie: () =>
      at(4, (stored) => {
        if (stored.blob !== undefined) {
          stored.blob.header = stored.blob.header.map((byte, i) => (i === 20 ? byte ^ 1 : byte));
        }
        return stored;
      }),
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "other epoch",
    does: "names another epoch for an entry than it was sealed under",
    event: "ALTERED",
    sees: held,
    safe: signed,
    lie: () =>
      at(4, (stored) => {
        if (stored.blob !== undefined) stored.blob.epoch = 2n;
        return stored;
      }),
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "swapped sender",
    does: "shows an entry as another device's",
    event: "ALTERED",
    sees: held,
    safe: signed,
    lie: ({ other }) => at(4, (stored) => ({ ...stored, sender: other })),
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "ghost device",
    does: "shows an entry as one of a device that the group never had",
    event: "STRANGER",
    sees: held,
    safe: "nothing of a device that no member added is applied",
    lie: ({ random }) => {
      const ghost = random(32);
      return at(4, (stored) => ({ ...stored, sender: ghost }));
    },
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "put in its mouth",
    does: "shows an entry as one that the device itself wrote",
    event: "ALTERED",
    sees: held,
    safe: "a device takes nothing for its own that it did not sign",
    lie: ({ self }) => at(4, (stored) => ({ ...stored, sender: self })),
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  {
    name: "replay",
    does: "shows an entry once more, in the place of another",
    event: "REPLAYED",
    sees: "nothing twice; the entry whose place it took is missed; not in sync",
    safe: "no entry is applied twice",
    lie: () => shuffled(new Map([[5, 3]])),
    applied: ["a1", "a2", "c1"],
    healed: undefined,
  },
  {
    name: "reorder",
    does: "shows two entries of one device in the wrong order",
    event: "REORDERED",
    sees: "they are put in their order, and it is told what the relay did",
    safe: "a device's entries are applied in the order in which it wrote them",
    lie: () =>
      shuffled(
        new Map([
          [3, 4],
          [4, 3],
        ]),
      ),
    applied: ["a1", "c1", "a2", "a3"],
    healed: [],
    byItself: true,
  },
  {
    name: "drop",
    does: "leaves an entry out and numbers the rest anew",
    event: "DROPPED",
    sees: held,
    safe: "nothing behind the missing entry is applied as if it were not missing",
    lie: () => (body) => {
      if (body.case === "blobs") {
        body.value.blobs = body.value.blobs
          .filter(({ cursor }) => cursor !== 4n)
          .map((blob) => (blob.cursor > 4n ? { ...blob, cursor: blob.cursor - 1n } : blob));
        body.value.through -= 1n;
        body.value.head -= 1n;
      }
      if (body.case === "welcome" && body.value.scope.case === "group") {
        body.value.scope.value.head -= 1n;
      }
      return [body];
    },
    applied: ["a1", "c1"],
    healed: ["a2", "a3"],
  },
  ...(["UNSPECIFIED", "TRIMMED"] as const).map((state) => ({
    name: state === "TRIMMED" ? "false trim" : "withhold",
    does:
      state === "TRIMMED"
        ? "leaves out a body and says that a snapshot replaced it"
        : "leaves out a body and says nothing of it",
    event: "WITHHELD",
    sees: "the entry is missed; everything else arrives; not in sync",
    safe: "a body that is missing is not taken for one that nobody wrote",
    lie: () => emptied(BodyState[state]),
    applied: ["a1", "a3", "c1"],
    healed: ["a2"],
  })),
  {
    name: "invented delete",
    does: "leaves out a body and says that somebody deleted it",
    event: "WITHHELD",
    sees: "the entry is missed; everything else arrives; not in sync",
    safe: "only a delete that a member signed counts",
    lie: () => emptied(BodyState.DELETED),
    applied: ["a1", "a3", "c1"],
    healed: ["a2"],
  },
  {
    name: "false expiry",
    does: "leaves out a body without a lifetime and says that it expired",
    event: "WITHHELD",
    sees: "the entry is missed; everything else arrives; not in sync",
    safe: "only a lifetime that the sender signed counts",
    lie: () => emptied(BodyState.EXPIRED),
    applied: ["a1", "a3", "c1"],
    healed: ["a2"],
  },
  {
    name: "hiding through",
    does: "says that a page reaches further than its blobs do",
    event: "ENVELOPE_INVALID",
    sees: "the session ends with the error, and is tried again; not in sync",
    safe: "the read cursor never passes a blob that was not shown",
    lie: () => (body) => {
      if (body.case === "blobs")
        body.value.blobs = body.value.blobs.filter(({ cursor }) => cursor !== 4n);
      return [body];
    },
    applied: [],
    healed: ["a1", "a2", "a3", "c1"],
  },
  {
    name: "rollback",
    does: "shows a log that ends before what the device has read",
    event: "ROLLED_BACK",
    sees: "the session ends with the finding; not in sync",
    safe: "what was applied stays, and is not applied again",
    lie: () =>
      aboutWelcome((group) => {
        group.head = 2n;
        group.logChanged = false;
      }),
    readBefore: true,
    applied: [],
    healed: [],
  },
  {
    name: "false log change",
    does: "says that its log changed when it did not",
    event: "ENVELOPE_INVALID",
    sees: "the session ends with the error, and is tried again",
    safe: "nothing is excused by it, and nothing is applied twice",
    lie: () =>
      aboutWelcome((group) => {
        group.logChanged = true;
      }),
    readBefore: true,
    applied: [],
    healed: [],
  },
  {
    name: "wrong log id",
    does: "names another log and says that nothing changed",
    event: "LOG_CHANGED",
    sees: "as after a restore of the relay, and the app is told so",
    safe: "nothing is applied twice",
    lie: ({ random }) => {
      const logId = random(16);
      return aboutWelcome((group) => {
        group.logId = logId;
        group.logChanged = false;
      });
    },
    readBefore: true,
    applied: [],
    healed: [],
    byItself: true,
  },
  {
    name: "invented own place",
    does: "says that the device wrote more than it did",
    event: "DROPPED",
    sees: "what the device writes stays queued; not in sync",
    safe: "no number is used twice, and nothing is lost",
    lie: ({ random }) => {
      const link = random(32);
      return aboutWelcome((group) => {
        if (group.own !== undefined) Object.assign(group.own, { seq: 99n, link });
      });
    },
    readBefore: true,
    applied: [],
    healed: undefined,
  },
  {
    name: "oversized answer",
    does: "sends an envelope above the bound",
    event: "TOO_LARGE",
    sees: "the session ends with the error, and is tried again",
    safe: "nothing is allocated for what a length declares",
    lie: () => (body, session) => {
      if (body.case !== "blobs") return [body];
      session.raw(Uint8Array.of(0xff, 0xff, 0xff, 0x7f, 0, 0));
      return [];
    },
    applied: [],
    healed: ["a1", "a2", "a3", "c1"],
  },
  {
    name: "endless pages",
    does: "sends page after page of one pull, each empty",
    event: "ENVELOPE_INVALID",
    sees: "the session ends with the error, and is tried again",
    safe: "no stream holds a device for good",
    lie: () => (body) => {
      if (body.case !== "blobs") return [body];
      const page = { ...body.value, blobs: [], through: body.value.after, done: false };
      return Array.from({ length: 100 }, () => ({ case: "blobs" as const, value: page }));
    },
    applied: [],
    healed: ["a1", "a2", "a3", "c1"],
  },
];

/** What makes a lie good, for people. */
export function healedBy({ healed, byItself }: LieCase): string {
  if (byItself === true) return "at once";
  return healed === undefined ? "a person accepts it" : "the truth is shown";
}
