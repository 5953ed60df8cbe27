import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../client/index.ts";
import { toBase64url } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

describe("founding", () => {
  test("PROTOCOL 8.11: with an invite, without one, and with one that is used", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    relay.founding = "invite";
    const invite = toBase64url(world.random(16));
    relay.invites.add(invite);
    const device = await new Device(relay).start();
    await assert.rejects(
      world.result(device.client.createGroup()),
      byCode(ErrorCode.REGISTRATION_CLOSED),
    );
    assert.equal(device.client.status().membership, "none");
    assert.equal(device.client.status().connection.state, "idle");
    await assert.rejects(
      device.client.createGroup({ invite: "short" }),
      byCode(ErrorCode.INVITE_INVALID),
    );
    await world.result(device.client.createGroup({ invite }));
    assert.equal(device.client.status().membership, "member");
    assert.equal(device.client.status().epoch, 1);
    await assert.rejects(device.client.createGroup({ invite }), UsageError);
    const other = await new Device(relay).start();
    await assert.rejects(
      world.result(other.client.createGroup({ invite })),
      byCode(ErrorCode.INVITE_INVALID),
    );
    assert.equal(relay.groups.size, 1);
  });

  test("PROTOCOL 8.2: the founder dies at any write: one group is founded, with one invite", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      for (let at = 2; at <= 4; at++) {
        const relay = new FakeRelay(new World());
        const { world } = relay;
        relay.founding = "invite";
        const invite = toBase64url(world.random(16));
        relay.invites.add(invite);
        const device = new Device(relay);
        await device.start({
          hooks: {
            [when]: (commits: number) => {
              if (commits === at) device.crash();
            },
          },
        });
        device.client.createGroup({ invite }).catch(() => undefined);
        await world.run(5_000);
        await device.restart();
        await world.run(5_000);
        if (device.client.status().membership === "none") {
          await world.result(device.client.createGroup({ invite }));
        }
        await world.until(() => device.client.status().connection.state === "online");
        await device.push("first");
        await world.result(device.client.flush());
        assert.equal(relay.groups.size, 1);
        assert.equal(relay.group.control.length, 1);
        await world.until(() => device.client.status().readCursor === 1);
        assert.deepEqual(await device.take(), ["first"]);
      }
    }
  });

  test("connections cut at every moment of founding", async () => {
    for (let cutMs = 1; cutMs < 80; cutMs += 4) {
      const relay = new FakeRelay(new World());
      const { world } = relay;
      relay.founding = "invite";
      const invite = toBase64url(world.random(16));
      relay.invites.add(invite);
      const device = await new Device(relay).start();
      const founding = world.result(device.client.createGroup({ invite }));
      world.after(cutMs, () => world.cutAll());
      await founding;
      assert.equal(relay.groups.size, 1);
    }
  });

  test("a founding that was begun goes on by itself after a restart, and when it is asked for again", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const device = await new Device(relay).start();
    relay.stop();
    const founding = device.client.createGroup();
    founding.catch(() => undefined);
    await world.run(10_000);
    assert.equal(device.client.status().membership, "founding");
    const { groupId } = device.client;
    await device.restart();
    await assert.rejects(device.client.createGroup(), UsageError);
    relay.start();
    await world.until(() => device.client.status().membership === "member");
    assert.equal(device.client.groupId, groupId);
  });

  test("a relay address that is none, or missing, is said at once", async () => {
    const relay = new FakeRelay(new World());
    const device = new Device(relay);
    await assert.rejects(device.start({ relay: "https://relay.test" }), /ws:\/\//);
    await assert.rejects(device.start({ name: "x".repeat(65) }), UsageError);
  });
});

describe("membership", () => {
  test("PROTOCOL 8.9: everybody learns of a new member before its first entry", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    const seen: number[] = [];
    a.client.on("membership", ({ devices }) => seen.push(devices.length));
    const c = await member(b);
    await c.push("hello from the third");
    await world.until(() => a.client.status().readCursor === 1);
    assert.deepEqual(seen, [3]);
    assert.deepEqual(await a.take(), ["hello from the third"]);
    assert.deepEqual(a.integrity, []);
  });

  test("a device that was away reads the chain before the log", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    a.crash();
    const c = await member(b);
    const d = await member(c);
    await d.push("from a stranger, to whoever has not looked");
    await world.result(d.client.flush());
    await a.start();
    assert.equal((await a.take()).length, 1);
    assert.equal(a.client.devices().length, 4);
    assert.deepEqual(a.integrity, []);
  });

  test("a control chain that does not hold is named, and not gone by", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    a.crash();
    await member(b);
    const last = relay.group.control[2] as Uint8Array;
    relay.group.control[2] = Uint8Array.from(last, (byte, i) =>
      i === last.length - 1 ? byte ^ 1 : byte,
    );
    await a.start();
    await world.until(() => a.integrity.length > 0);
    assert.equal(a.client.devices().length, 2);
    assert.notEqual(a.client.status().connection.state, "online");
  });

  test("PROTOCOL 13.9: of control blobs that come together those before the one that does not hold count", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    a.crash();
    await world.result(b.client.rename("renamed"));
    await world.result(b.client.rename("renamed again"));
    const { control } = relay.group;
    const last = control[3] as Uint8Array;
    control[3] = last.map((byte, i) => (i === last.length - 1 ? byte ^ 1 : byte));
    const nameOf = (): string | undefined =>
      a.client.devices().find(({ deviceId }) => deviceId === b.client.deviceId)?.name;
    await a.start();
    await world.until(() => a.integrity.length > 0);
    await world.run(60_000);
    assert.equal(nameOf(), "renamed");
    assert.deepEqual(
      a.client.findings().map(({ finding, seq, state }) => [finding, seq, state]),
      [["MEMBERSHIP_ALTERED", 4, "open"]],
    );
    // They are on its disk, too.
    await a.restart();
    assert.equal(nameOf(), "renamed");
    control[3] = last;
    await world.until(() => nameOf() === "renamed again");
    await world.until(() => a.inSync);
  });

  test("SECURITY 1.2: a relay that says over and over that the membership moved has the device ask once more", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    await member(a);
    await world.run(1_000);
    const before = relay.count("pullControl");
    const [session] = relay.sessionsOf(relay.group);
    for (let count = 3n; count < 103n; count++) {
      const membership = { count, head: new Uint8Array(32) };
      session?.tell({ case: "notify", value: { head: 0n, membership } });
    }
    await world.run(10_000);
    assert.equal(relay.count("pullControl") - before, 2);
  });
});
