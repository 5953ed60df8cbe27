import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PhraseError, UsageError } from "../../client/index.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

async function withPhrase(seed = 1): Promise<{ a: Device; words: readonly string[] }> {
  const a = await founder(new FakeRelay(new World(seed)));
  const { words } = await a.world.result(a.client.createRecoveryPhrase());
  await a.push("kept");
  await a.world.result(a.client.flush());
  return { a, words };
}

describe("SECURITY Recovery phrase", () => {
  test("connections cut at every moment of a recovery: the device is added once", async () => {
    for (let cutMs = 6; cutMs < 130; cutMs += 15) {
      const { a, words } = await withPhrase(cutMs);
      const { world, relay } = a;
      const fresh = await new Device(relay).start({ name: "fresh" });
      const recovering = fresh.client.recover(words);
      world.after(cutMs, () => world.cutAll());
      await world.result(recovering);
      assert.equal(relay.group.control.length, 3);
      await world.until(() => fresh.client.status().readCursor === 1);
      assert.deepEqual(await fresh.take(), ["kept"]);
      assert.equal(fresh.client.devices().length, 3);
    }
  });

  test("the process dies at any write: a full member afterwards, or none that can try again", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      for (let at = 2; at <= 4; at++) {
        const { a, words } = await withPhrase(at);
        const { world, relay } = a;
        const fresh = new Device(relay);
        await fresh.start({
          name: "fresh",
          hooks: { [when]: (commits: number) => commits === at && fresh.crash() },
        });
        fresh.client.recover(words).catch(() => undefined);
        await world.run(5_000);
        await fresh.restart({ name: "fresh" });
        await world.run(5_000);
        if (fresh.client.status().membership !== "member") {
          await world.result(fresh.client.recover(words));
        }
        await world.until(() => fresh.client.status().connection.state === "online");
        assert.deepEqual(await fresh.take(), ["kept"]);
        assert.equal(relay.group.control.length, 3);
      }
    }
  });

  test("used on two machines at once: both are members, and each was added once", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const { a, words } = await withPhrase(seed);
      const { world, relay } = a;
      const both = await Promise.all(
        ["one", "two"].map((name) => new Device(relay).start({ name })),
      );
      const recovering = both.map(({ client }) => client.recover(words));
      if (seed % 2 === 0) world.after(20 + seed * 7, () => world.cutAll());
      await world.result(Promise.all(recovering));
      assert.equal(relay.group.control.length, 4);
      for (const device of both) {
        await world.until(() => device.client.devices().length === 4);
        await world.until(() => device.client.status().readCursor === 1);
        assert.deepEqual(await device.take(), ["kept"]);
        assert.deepEqual(device.integrity, []);
      }
      await world.until(() => a.client.devices().length === 4);
    }
  });

  test("revoked while it is used: a member, or none that does not wait", async () => {
    const ends = new Set<string>();
    for (let revokedMs = 0; revokedMs < 160; revokedMs += 20) {
      const { a, words } = await withPhrase(revokedMs + 1);
      const { world, relay } = a;
      const fresh = await new Device(relay).start({ name: "fresh" });
      const recovering = fresh.client.recover(words);
      const outcome = recovering.then(
        () => "member",
        (error: unknown) => {
          assert.ok(
            byCode(ErrorCode.NOT_A_MEMBER)(error) || byCode(ErrorCode.DEVICE_REVOKED)(error),
            String(error),
          );
          return "none";
        },
      );
      let revoking: Promise<number> | undefined;
      world.after(revokedMs, () => {
        revoking = a.client.revokeRecoveryPhrase();
      });
      const end = await world.result(outcome);
      await world.until(() => revoking !== undefined);
      assert.equal(await world.result(revoking as Promise<number>), 1);
      ends.add(end);
      await world.run(5_000);
      assert.equal(fresh.client.status().membership, end);
      const listed = a.client.devices().some(({ deviceId }) => deviceId === fresh.client.deviceId);
      assert.equal(listed, end === "member");
      // Nobody else comes in by it.
      const late = await new Device(relay).start({ name: "late" });
      await assert.rejects(
        world.result(late.client.recover(words)),
        byCode(ErrorCode.NOT_A_MEMBER),
      );
    }
    assert.deepEqual([...ends].sort(), ["member", "none"]);
  });

  test("a change that comes first is pulled, and the addition made anew", async () => {
    const { a, words } = await withPhrase();
    const { world, relay } = a;
    const b = await member(a);
    let raced = false;
    relay.meddler.request = (session, { body }) => {
      const { deviceId } = a.client;
      if (body.case !== "changeMembership" || session.device === deviceId || raced)
        return undefined;
      raced = true;
      a.client.rotate().catch(() => undefined);
      return new SyncError(ErrorCode.MEMBERSHIP_CONFLICT);
    };
    const fresh = await new Device(relay).start({ name: "fresh" });
    await world.result(fresh.client.recover(words));
    await world.until(() => b.client.devices().length === 4);
    assert.ok(raced);
    assert.equal(fresh.client.status().epoch, 2);
  });

  test("a relay that shows a group without the phrase's record is refused, and nothing is signed", async () => {
    const { a, words } = await withPhrase();
    const { world, relay } = a;
    // An impostor's group, under the same id, with the phrase's device on its list.
    const other = new FakeRelay(world, "ws://other.test/");
    const impostor = await founder(other);
    const { group } = relay;
    group.control = other.group.control;
    const fresh = await new Device(relay).start({ name: "fresh" });
    await assert.rejects(world.result(fresh.client.recover(words)), SyncError);
    assert.equal(group.control.length, 1);
    assert.equal(fresh.client.status().membership, "none");
    impostor.crash();
  });

  test("asked for wrongly, or called off", async () => {
    const { a, words } = await withPhrase();
    const { world, relay } = a;
    await assert.rejects(a.client.recover(words), UsageError);
    await assert.rejects(a.client.createRecoveryPhrase(), UsageError);
    const fresh = await new Device(relay).start({ name: "fresh" });
    await assert.rejects(fresh.client.recover(words.slice(1)), PhraseError);
    await assert.rejects(fresh.client.verifyRecoveryPhrase(words), byCode(ErrorCode.NOT_A_MEMBER));
    relay.stop();
    await assert.rejects(world.result(fresh.client.recover(words)), byCode(ErrorCode.UNREACHABLE));
    relay.start();
    const calledOff = new AbortController();
    const recovering = fresh.client.recover(words, { signal: calledOff.signal });
    world.after(12, () => calledOff.abort(new Error("enough")));
    await assert.rejects(world.result(recovering), /enough/);
    assert.equal(fresh.client.status().membership, "none");
    const closing = fresh.client.recover(words);
    world.after(12, () => void fresh.client.close());
    await assert.rejects(world.result(closing), UsageError);
  });

  test("the words stand nowhere: not on disk, not in what the client tells", async () => {
    const { a, words } = await withPhrase();
    await a.world.run(10_000);
    const told = JSON.stringify([a.client.status(), a.client.devices()]);
    for (const table of ["device", "chain", "log", "additions", "control", "own"] as const) {
      const rows = a.disk.table(table).range(table === "control" || table === "own" ? 0 : "");
      for (const { value } of rows) {
        assert.ok(!Buffer.from(value).toString("latin1").includes(words.slice(0, 3).join(" ")));
      }
    }
    assert.ok(!told.includes(words.slice(0, 2).join(" ")));
  });
});
