/** The inviting device dies at each point between a person's yes and the joiner's first look at the group. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import type { RaceDevice } from "../simulation/race-nodes.ts";
import { VirtualWorld } from "./virtual.ts";

/** A moment at which the inviting process ends: at its n-th write or message behind the yes. */
interface Point {
  readonly at: "before a write" | "behind a write" | "before a message" | "behind a message";
  readonly count: number;
}

interface Run {
  readonly virtual: VirtualWorld;
  readonly inviter: RaceDevice;
  readonly joiner: RaceDevice;
  /** How `join` ended; undefined while it goes on. */
  joined: "member" | SyncError | undefined;
  /** Writes and messages behind the yes. */
  writes: number;
  messages: number;
  /** Whether the point was reached. */
  reached: boolean;
}

/** Lets a joiner in, and kills the inviting process at a point; undefined: nowhere. */
async function admit(seed: number, point: Point | undefined): Promise<Run> {
  const virtual = new VirtualWorld(seed);
  const inviter = await virtual.device("inviter");
  await virtual.ended(inviter.client.createGroup());
  await virtual.inSync([inviter]);
  inviter.crash();
  let yes = false;
  const run: Run = {
    virtual,
    inviter,
    joiner: await virtual.device("joiner"),
    joined: undefined,
    writes: 0,
    messages: 0,
    reached: false,
  };
  const dies = (at: Point["at"], count: number): void => {
    if (!yes || point?.at !== at || point.count !== count) return;
    run.reached = true;
    inviter.crash();
  };
  await inviter.start({
    beforeCommit: () => {
      if (yes) run.writes += 1;
      dies("before a write", run.writes);
    },
    afterCommit: () => dies("behind a write", run.writes),
  });
  inviter.sending = () => {
    if (yes) run.messages += 1;
    dies("before a message", run.messages);
    // Behind it: it is on its way, and nothing else follows.
    if (yes && point?.at === "behind a message" && point.count === run.messages) {
      queueMicrotask(() => dies("behind a message", point.count));
    }
  };
  await virtual.until(() => inviter.client.status().connection.state === "online");
  const invite = await virtual.ended(
    inviter.client.invite({
      confirm: () => {
        yes = true;
        return true;
      },
    }),
  );
  run.joiner.client.join(invite.link).then(
    () => {
      run.joined = "member";
    },
    (error: unknown) => {
      assert.ok(error instanceof SyncError);
      run.joined = error;
    },
  );
  return run;
}

/** Every point there is: how many writes and messages stand between the yes and the end. */
async function points(): Promise<Point[]> {
  const whole = await admit(1, undefined);
  await whole.virtual.until(() => whole.joined !== undefined);
  assert.equal(whole.joined, "member");
  const counted = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
  const all: Point[] = [];
  for (const count of counted(whole.writes)) {
    all.push({ at: "before a write", count }, { at: "behind a write", count });
  }
  for (const count of counted(whole.messages)) {
    all.push({ at: "before a message", count }, { at: "behind a message", count });
  }
  return all;
}

async function isWhole({ virtual, inviter, joiner }: Run): Promise<void> {
  const [entry] = await virtual.push(joiner, "hello");
  await virtual.until(() => inviter.taken.includes(entry as string));
  await virtual.inSync([inviter, joiner]);
  assert.deepEqual(inviter.disk.table("additions").range(""), []);
}

describe("SECURITY Pairing: the inviting device dies between the yes and the joiner's first pull", () => {
  test("and comes back: the joiner is a full member, or in no group, wherever it was", async () => {
    const ends = new Map<string, number>();
    for (const point of await points()) {
      const where = `${point.at}, the ${point.count}.`;
      const run = await admit(1, point);
      const { virtual, inviter, joiner } = run;
      await virtual.until(() => run.reached || run.joined !== undefined);
      await virtual.run(500);
      if (!inviter.up) await inviter.start();
      await virtual.until(() => run.joined !== undefined, 1_500_000);
      await virtual.run(60_000);
      const { membership } = joiner.client.status();
      ends.set(membership, (ends.get(membership) ?? 0) + 1);
      const listed = inviter.client
        .devices()
        .some(({ deviceId }) => deviceId === joiner.client.deviceId);
      assert.equal(membership, listed ? "member" : "none", where);
      if (!listed) {
        // None: it can be invited anew.
        const again = await virtual.ended(inviter.client.invite({ confirm: () => true }));
        await virtual.ended(joiner.client.join(again.link));
      }
      await isWhole(run);
    }
    assert.deepEqual([...ends.keys()].sort(), ["member", "none"]);
  });

  test("and never comes back: the joiner is a full member, says that it is being admitted and can give up, or is in no group", async () => {
    const ends = new Map<string, number>();
    for (const point of await points()) {
      const where = `${point.at}, the ${point.count}.`;
      const run = await admit(1, point);
      const { virtual, inviter, joiner } = run;
      await virtual.until(() => run.reached || run.joined !== undefined);
      if (inviter.up) inviter.crash();
      await virtual.until(() => run.joined !== undefined, 1_500_000);
      const { membership } = joiner.client.status();
      ends.set(membership, (ends.get(membership) ?? 0) + 1);
      if (membership === "member") {
        assert.equal(run.joined, "member", where);
        assert.equal(joiner.client.devices().length, 2, where);
      } else if (membership === "admitted") {
        assert.ok(run.joined instanceof SyncError && run.joined.code === ErrorCode.TIMED_OUT);
        await virtual.ended(joiner.client.giveUpAdmission());
        assert.equal(joiner.client.status().membership, "none");
      } else {
        assert.equal(membership, "none", where);
        assert.ok(run.joined instanceof SyncError && run.joined.code === ErrorCode.INVITE_INVALID);
      }
    }
    assert.deepEqual([...ends.keys()].sort(), ["admitted", "member", "none"]);
  });
});
