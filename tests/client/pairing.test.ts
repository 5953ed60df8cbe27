import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../client/index.ts";
import type { JoinerInfo } from "../../client/types.ts";
import { utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { parseRelayAddress } from "../../wire/relay-address.ts";
import { Device, founder, member, pair } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const invalid = (error: unknown): boolean =>
  error instanceof SyncError && error.code === ErrorCode.INVITE_INVALID;

async function inviterAndJoiner(): Promise<{
  relay: FakeRelay;
  world: World;
  inviter: Device;
  joiner: Device;
}> {
  const relay = new FakeRelay(new World());
  const inviter = await founder(relay, { name: "kitchen" });
  const joiner = await new Device(relay).start({ name: "phone" });
  return { relay, world: relay.world, inviter, joiner };
}

/** A code with its last character changed: the mailbox is found, the secret is wrong. */
const mistyped = (code: string): string => code.slice(0, -1) + (code.endsWith("0") ? "1" : "0");

describe("pairing", () => {
  for (const by of ["link", "code"] as const) {
    test(`by ${by}: the person sees name, means and the same words on both sides`, async () => {
      const { relay, world, inviter, joiner } = await inviterAndJoiner();
      await inviter.push("from before");
      const asked: JoinerInfo[] = [];
      const words: (readonly string[])[] = [];
      const invite = await world.result(
        inviter.client.invite({
          confirm: (info) => {
            asked.push(info);
            return true;
          },
        }),
      );
      assert.match(invite.code, /^[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$/);
      assert.match(invite.link, /^syncrelay:pair#/);
      const joining = joiner.client.join(by === "link" ? invite.link : invite.code.toLowerCase(), {
        onComparison: (comparison) => words.push(comparison),
      });
      await world.result(joining);
      const device = await world.result(invite.done);
      assert.equal(device.name, "phone");
      assert.deepEqual(
        asked.map(({ name, means }) => [name, means]),
        [["phone", by]],
      );
      assert.deepEqual(words, [asked[0]?.comparison]);
      assert.equal(joiner.client.groupId, inviter.client.groupId);
      assert.deepEqual(
        joiner.client.devices().map(({ name, self }) => [name, self]),
        [
          ["kitchen", false],
          ["phone", true],
        ],
      );
      await world.until(() => joiner.client.status().readCursor === 1);
      assert.deepEqual(await joiner.take(), ["from before"]);
      assert.equal(relay.mailboxes.size, 0);
      assert.equal(relay.group.control.length, 2);
    });
  }

  test("PROTOCOL 9.2: an invite that the relay does not open says why, and how long to wait", async () => {
    const { relay, world, inviter } = await inviterAndJoiner();
    relay.meddler = {
      request: (_, { body }) => {
        if (body.case === "closeInvite") return new SyncError(ErrorCode.INVITE_INVALID);
        if (body.case !== "openInvite") return undefined;
        return new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: 12_000 });
      },
    };
    await assert.rejects(
      world.result(inviter.client.invite({ confirm: () => true })),
      (error: unknown) =>
        error instanceof SyncError &&
        error.code === ErrorCode.RATE_LIMITED &&
        error.retryAfterMs === 12_000,
    );
  });

  test("an invite whose mailbox a relay forgot can be cancelled", async () => {
    const { relay, world, inviter } = await inviterAndJoiner();
    const invite = await world.result(inviter.client.invite({ confirm: () => true }));
    relay.mailboxes.clear();
    await world.result(invite.cancel());
    await assert.rejects(world.result(invite.done), invalid);
  });

  test("a no lets nobody in, and both sides hear of it", async () => {
    const { relay, world, inviter, joiner } = await inviterAndJoiner();
    const invite = await world.result(inviter.client.invite({ confirm: () => false }));
    const joining = joiner.client.join(invite.link);
    await assert.rejects(world.result(joining), invalid);
    await assert.rejects(world.result(invite.done), invalid);
    assert.equal(relay.group.control.length, 1);
    assert.equal(joiner.client.status().membership, "none");
  });

  test("a mistyped code fails at once, and the right one works afterwards", async () => {
    const { world, inviter, joiner } = await inviterAndJoiner();
    const invite = await world.result(inviter.client.invite({ confirm: () => true }));
    const wrong = mistyped(invite.code);
    await assert.rejects(world.result(joiner.client.join(wrong), 30_000), invalid);
    await world.run(5_000);
    await world.result(joiner.client.join(invite.code));
    assert.equal((await world.result(invite.done)).name, "phone");
  });

  test("another mailbox, or no code at all, is INVITE_INVALID with a hint", async () => {
    const { world, inviter, joiner } = await inviterAndJoiner();
    await world.result(inviter.client.invite({ confirm: () => true }));
    for (const code of ["0000-0000-0000-0000", "nonsense", "syncrelay:pair#!"]) {
      await assert.rejects(
        world.result(joiner.client.join(code)),
        (error: unknown) => invalid(error) && (error as SyncError).hint !== undefined,
      );
    }
    assert.equal(joiner.client.status().membership, "none");
    assert.equal(joiner.client.status().connection.state, "idle");
  });

  test("PROTOCOL 9.9: three failed attempts burn the invite", async () => {
    const { relay, world, inviter, joiner } = await inviterAndJoiner();
    const invite = await world.result(inviter.client.invite({ confirm: () => true }));
    for (let attempt = 0; attempt < 3; attempt++) {
      await assert.rejects(world.result(joiner.client.join(mistyped(invite.code))), invalid);
      await world.run(5_000);
    }
    await assert.rejects(world.result(invite.done), invalid);
    assert.equal(relay.mailboxes.size, 0);
    await assert.rejects(world.result(joiner.client.join(invite.code)), invalid);
  });

  test("an invite ends by itself after ten minutes, and when it is cancelled", async () => {
    const { world, inviter, joiner } = await inviterAndJoiner();
    const invite = await world.result(inviter.client.invite({ confirm: () => true }));
    assert.ok(invite.expiresAtMs <= world.epochMs + world.clockMs + 600_000);
    await world.run(600_001);
    await assert.rejects(world.result(invite.done), invalid);
    await assert.rejects(world.result(joiner.client.join(invite.link)), invalid);
    const other = await world.result(inviter.client.invite({ confirm: () => true }));
    await world.result(other.cancel());
    await assert.rejects(world.result(other.done), invalid);
    await assert.rejects(world.result(joiner.client.join(other.link)), invalid);
  });

  test("a joiner that is called off is in no group, and can try again", async () => {
    const { world, inviter, joiner } = await inviterAndJoiner();
    let answer: (yes: boolean) => void = () => undefined;
    const invite = await world.result(
      inviter.client.invite({
        confirm: () =>
          new Promise((resolve) => {
            answer = resolve;
          }),
      }),
    );
    const abort = new AbortController();
    const joining = joiner.client.join(invite.link, { signal: abort.signal });
    await world.run(1_000);
    abort.abort(new Error("changed my mind"));
    await assert.rejects(world.result(joining), /changed my mind/);
    assert.equal(joiner.client.status().membership, "none");
    answer(true);
    await world.run(5_000);
    const again = joiner.client.join(invite.link);
    await world.run(5_000);
    answer(true);
    await world.result(again);
    assert.equal(joiner.client.status().membership, "member");
  });

  test("connections cut at every moment of a pairing: it is completed all the same", async () => {
    for (let cutMs = 5; cutMs <= 150; cutMs += 5) {
      const { relay, world, inviter, joiner } = await inviterAndJoiner();
      const invite = await world.result(inviter.client.invite({ confirm: () => true }));
      const joining = world.result(joiner.client.join(invite.link));
      world.after(cutMs, () => world.cutAll());
      await joining;
      await world.result(invite.done);
      await inviter.push("hello");
      await world.until(() => joiner.client.status().readCursor === 1);
      assert.equal(relay.group.control.length, 2, `cut after ${cutMs} ms`);
    }
  });

  test("a relay that restarts in the middle has forgotten the mailbox; both sides bring it back", async () => {
    for (let stopMs = 45; stopMs <= 120; stopMs += 10) {
      const { world, inviter, joiner, relay } = await inviterAndJoiner();
      const invite = await world.result(inviter.client.invite({ confirm: () => true }));
      const joining = world.result(joiner.client.join(invite.link));
      world.after(stopMs, () => {
        relay.stop();
        world.after(1_000, () => relay.start());
      });
      await joining;
      await world.result(invite.done);
    }
  });

  test("the joiner dies at any write: it is a full member afterwards, or none and can try again", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      for (let at = 2; at <= 7; at++) {
        const relay = new FakeRelay(new World());
        const { world } = relay;
        const inviter = await founder(relay);
        const joiner = new Device(relay);
        let died = false;
        await joiner.start({
          hooks: {
            [when]: (commits: number) => {
              if (commits !== at) return;
              died = true;
              joiner.crash();
            },
          },
        });
        const invite = await world.result(inviter.client.invite({ confirm: () => true }));
        joiner.client.join(invite.link).catch(() => undefined);
        await world.run(20_000);
        if (died) await joiner.start();
        await world.run(20_000);
        const { membership } = joiner.client.status();
        if (membership !== "member") {
          assert.ok(membership === "none" || membership === "admitted", membership);
          const again = await world.result(inviter.client.invite({ confirm: () => true }));
          await world.result(joiner.client.join(again.link));
        }
        await world.until(() => joiner.client.status().connection.state === "online");
        await inviter.push("hello");
        await world.until(() => joiner.client.status().readCursor >= 1);
        assert.equal(joiner.client.devices().filter(({ self }) => self).length, 1);
        assert.deepEqual(joiner.integrity, []);
      }
    }
  });

  test("the inviter dies at any write: a receipted addition is submitted later, any other is dropped", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      for (let at = 1; at <= 6; at++) {
        const relay = new FakeRelay(new World());
        const { world } = relay;
        const inviter = await founder(relay);
        let died = false;
        await inviter.restart({
          hooks: {
            [when]: (commits: number) => {
              if (commits !== at + 3) return;
              died = true;
              inviter.crash();
            },
          },
        });
        await world.until(() => inviter.client.status().connection.state === "online" || died);
        const joiner = await new Device(relay).start();
        let link: string | undefined;
        inviter.client.invite({ confirm: () => true }).then(
          (invite) => {
            ({ link } = invite);
          },
          () => undefined,
        );
        await world.run(5_000);
        if (link !== undefined) joiner.client.join(link).catch(() => undefined);
        await world.run(20_000);
        await inviter.restart();
        await world.run(120_000);
        assert.ok(relay.group.control.length <= 2);
        if (joiner.client.status().membership !== "member") {
          assert.equal(relay.group.control.length, 1);
          await joiner.restart();
          await pair(inviter, joiner);
        }
        await inviter.push("hello");
        await world.until(() => joiner.client.status().readCursor >= 1);
        assert.deepEqual(
          [...inviter.disk.table("additions").range("")],
          [],
          "nothing is left pending",
        );
      }
    }
  });

  test("PROTOCOL 8.3: two members who add at the same time both succeed", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    const joiners = await Promise.all([1, 2].map(() => new Device(relay).start()));
    const invites = await Promise.all(
      [a, b].map((device) => world.result(device.client.invite({ confirm: () => true }))),
    );
    const joins = joiners.map((joiner, i) => joiner.client.join(invites[i]?.link ?? ""));
    for (const joining of joins) await world.result(joining);
    for (const invite of invites) await world.result(invite.done);
    assert.equal(relay.group.control.length, 4);
    await world.until(() => a.client.devices().length === 4 && b.client.devices().length === 4);
    assert.deepEqual(a.integrity, []);
  });

  test("a device that has a group, or is joining one, is refused another", async () => {
    const { world, inviter, joiner } = await inviterAndJoiner();
    const invite = await world.result(inviter.client.invite({ confirm: () => true }));
    await assert.rejects(inviter.client.join(invite.link), UsageError);
    const joining = joiner.client.join(invite.link);
    await assert.rejects(joiner.client.join(invite.link), UsageError);
    await world.result(joining);
    await assert.rejects(joiner.client.createGroup(), UsageError);
  });

  test("joining by code needs the relay's address; a link brings it", async () => {
    const { relay, world, inviter } = await inviterAndJoiner();
    const joiner = new Device(relay);
    const invite = await world.result(inviter.client.invite({ confirm: () => true }));
    await joiner.start();
    joiner.disk.tables.clear();
    const { SyncClient, MemoryStore } = await import("../../client/index.ts");
    const client = await SyncClient.open({ store: new MemoryStore(), host: world.host() });
    await assert.rejects(client.join(invite.code), UsageError);
    await world.result(client.join(invite.link));
    assert.equal(client.status().relay, parseRelayAddress(relay.address).text);
    await world.until(() => client.status().connection.state === "online");
    await client.push(utf8("hello"));
    await world.result(client.flush());
  });
});
