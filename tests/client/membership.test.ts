import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../client/index.ts";
import { epochAgeMsMax } from "../../client/membership-changes.ts";
import { prepareBlob, sealBlob } from "../../client/seal/blob.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import { BodyState } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

async function groupOf(count: number, seed = 1): Promise<Device[]> {
  const relay = new FakeRelay(new World(seed));
  const devices = [await founder(relay)];
  for (let i = 1; i < count; i++) devices.push(await member(devices[0] as Device));
  return devices;
}

const idOf = (device: Device): string => device.client.deviceId;
const epochOf = (device: Device): number => device.client.status().epoch;

describe("removing", () => {
  test("SECURITY Membership: the removed device is told, keeps what it has, and pushes nothing", async () => {
    const [a, b, c] = (await groupOf(3)) as [Device, Device, Device];
    const { world, relay } = a;
    await b.push("before");
    await world.result(b.client.flush());
    await a.take();
    relay.meddler.request = (session, { body }) =>
      session.device === idOf(b) && body.case === "push" ? "lost" : undefined;
    await b.push("queued");
    const flush = b.client.flush();
    flush.catch(() => undefined);
    await world.result(a.client.remove([idOf(b)]));
    await world.until(() => b.client.status().membership === "removed");
    await assert.rejects(flush, byCode(ErrorCode.DEVICE_REVOKED));
    assert.equal(b.client.status().connection.state, "stopped");
    assert.equal(b.client.status().queued, 1);
    await assert.rejects(b.client.push(utf8("x")), byCode(ErrorCode.DEVICE_REVOKED));
    await assert.rejects(b.client.rotate(), byCode(ErrorCode.DEVICE_REVOKED));
    await assert.rejects(b.client.caughtUp(), byCode(ErrorCode.DEVICE_REVOKED));
    for (const other of [a, c]) {
      await world.until(() => other.client.devices().length === 2);
      assert.equal(epochOf(other), 2);
    }
    // It stays so across a restart, does not knock again by itself, and what it had is there.
    await b.restart();
    assert.equal(b.client.status().membership, "removed");
    assert.equal(b.client.status().queued, 1);
    assert.deepEqual(await b.take(), ["before"]);
    const { length } = world.attempts;
    await world.run(600_000);
    assert.equal(world.attempts.length, length);
    b.client.connect();
    await world.until(() => b.client.status().connection.state === "stopped");
    assert.equal(b.client.status().membership, "removed");
  });

  test("SECURITY 4.7: a device that was removed enters no group with what it holds of its own", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    relay.meddler.request = (session, { body }) =>
      session.device === idOf(b) && body.case === "push" ? "lost" : undefined;
    await b.push("of the first group");
    const phrase = await world.result(a.client.createRecoveryPhrase());
    await world.result(a.client.remove([idOf(b)]));
    await world.until(() => b.client.status().membership === "removed");
    delete relay.meddler.request;
    const other = await founder(new FakeRelay(world));
    const invite = await world.result(other.client.invite({ confirm: () => true }));
    for (const restarted of [false, true]) {
      if (restarted) await b.restart();
      await assert.rejects(b.client.join(invite.link), UsageError);
      await assert.rejects(b.client.createGroup(), UsageError);
      await assert.rejects(b.client.recover(phrase.words), UsageError);
    }
    await world.run(60_000);
    assert.equal(b.client.status().membership, "removed");
    assert.equal(b.client.status().queued, 1);
    assert.deepEqual(b.integrity, []);
    assert.equal(other.relay.count("push"), 0);
  });

  test("PROTOCOL 4.5: a relay that takes its word back has the device back: nothing was signed at it", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    await b.push("one");
    await world.result(b.client.flush());
    const session = [...relay.sessions].find(({ device }) => device === idOf(b));
    session?.end(new SyncError(ErrorCode.DEVICE_REVOKED));
    await world.until(() => b.client.status().membership === "removed");
    assert.equal(relay.group.control.length, 2);
    b.client.connect();
    await world.until(() => b.client.status().membership === "member");
    await b.push("two");
    await world.until(() => a.client.status().readCursor === 2);
    assert.deepEqual(await a.take(), ["one", "two"]);
  });

  test("PROTOCOL 4.5: refused by the operator is shown as the relay's claim, and changes no membership", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    const session = [...relay.sessions].find(({ device }) => device === idOf(b));
    session?.end(
      new SyncError(ErrorCode.DEVICE_REVOKED, {
        detail: { case: "revocation", value: { byOperator: true } },
      }),
    );
    await world.until(() => b.client.status().connection.state === "stopped");
    const { membership, connection } = b.client.status();
    assert.equal(membership, "member");
    assert.ok(connection.state === "stopped" && connection.error instanceof SyncError);
    assert.match(connection.error.hint ?? "", /operator refuses/);
    assert.equal(relay.group.control.length, 2);
    assert.equal(a.client.devices().length, 2);
  });

  test("PROTOCOL 7.8: a device refused by the operator is shown as the relay's claim; only a person removes it", async () => {
    const [a, b, c] = (await groupOf(3)) as [Device, Device, Device];
    const { world, relay } = a;
    const heard: unknown[] = [];
    a.client.on("presence", ({ deviceId, refusedByRelay }) => {
      heard.push([deviceId === idOf(b), refusedByRelay]);
    });
    const claim = (refused: boolean): void => {
      for (const session of relay.sessionsOf(relay.group)) {
        session.tell({
          case: "presence",
          value: {
            deviceId: deriveDeviceKeys(b.disk.table("device").get("seed") as Uint8Array).deviceId,
            state: PresenceState.OFFLINE,
            refused,
          },
        });
      }
    };
    const blobs = relay.group.control.length;
    const changes = relay.count("changeMembership");
    claim(true);
    await world.until(() => a.client.status().refusedDevices.length === 1);
    assert.deepEqual(a.client.status().refusedDevices, [idOf(b)]);
    assert.deepEqual(
      a.client.devices().map(({ refusedByRelay }) => refusedByRelay),
      [false, true, false],
    );
    assert.deepEqual(heard.at(-1), [true, true]);
    // Nothing is signed at the relay's word, however long it stands and however often it is said.
    for (let i = 0; i < 5; i++) {
      claim(true);
      await world.run(3_600_000);
    }
    for (const device of [a, c]) await device.restart();
    await world.run(3_600_000);
    assert.equal(relay.count("changeMembership"), changes);
    assert.equal(relay.group.control.length, blobs);
    for (const { disk } of [a, c]) assert.equal(disk.table("device").get("changes"), undefined);
    assert.equal(epochOf(a), 1);
    // The claim can be taken back; or a person believes it.
    claim(true);
    await world.until(() => a.client.status().refusedDevices.length === 1);
    claim(false);
    await world.until(() => a.client.status().refusedDevices.length === 0);
    await world.result(a.client.remove([idOf(b)]));
    claim(true);
    await world.run(1_000);
    assert.deepEqual(a.client.status().refusedDevices, []);
    assert.equal(epochOf(a), 2);
  });

  test("a relay that goes on serving a removed device: the chain leaves it out, and it stops", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    // The relay lets its session stand, and passes on the new control chain.
    const end = relay.change.bind(relay);
    relay.change = (group, change, answer) => {
      end(group, change, answer);
      group.members.add(idOf(b));
      group.removed.delete(idOf(b));
    };
    await world.result(a.client.remove([idOf(b)]));
    b.client.connect();
    await world.until(() => b.client.status().connection.state === "stopped");
    assert.equal(b.client.status().membership, "removed");
    await assert.rejects(b.client.push(utf8("x")), byCode(ErrorCode.DEVICE_REVOKED));
    assert.deepEqual(b.integrity, []);
  });

  test("SECURITY Membership: what a removed device writes beyond its closing is never applied", async () => {
    const [a, b, c] = (await groupOf(3)) as [Device, Device, Device];
    const { world, relay } = a;
    await b.push("counts");
    await world.until(() => a.client.status().readCursor === 1);
    assert.deepEqual(await a.take(), ["counts"]);
    await world.until(() => c.client.status().readCursor === 1);
    c.crash();
    await world.result(a.client.remove([idOf(b)]));
    // It goes on with its keys and the epoch it knows, and the relay takes it and passes it on.
    const { group } = relay;
    const keys = deriveDeviceKeys(b.disk.table("device").get("seed") as Uint8Array);
    const chain = readChain(group.control.slice(0, 3), { groupId: group.groupId, keys });
    const last = group.senders.get(idOf(b)) as { seq: number; link: Uint8Array };
    const own = prepareBlob(
      { data: utf8("forged") },
      {
        groupId: group.groupId,
        keys,
        previous: last,
        witnessed: [],
        random: (n) => world.random(n),
      },
    );
    const sealed = sealBlob(own, {
      groupId: group.groupId,
      sender: keys.deviceId,
      epoch: 1,
      bodyKey: chain.keyring.bodyKey(1) as Uint8Array,
      random: (n) => world.random(n),
    });
    const before = group.blobs.length;
    const cursor = before + 1;
    const { seq, link } = own;
    const blob = {
      ...sealed,
      cursor,
      sender: keys.deviceId,
      seq,
      link,
      bodyState: BodyState.UNSPECIFIED,
    };
    group.blobs.push(blob);
    for (const session of relay.sessionsOf(group)) session.deliver(before, [blob]);
    await c.start();
    for (const device of [a, c]) {
      await world.until(() => device.client.status().readCursor === cursor);
      assert.deepEqual(await device.take(), device === a ? [] : ["counts"]);
      assert.deepEqual(
        device.integrity.map(({ finding, sender }) => [finding, sender]),
        [["STRANGER", idOf(b)]],
      );
      assert.equal(device.client.status().refused, 1);
    }
    // Others go on.
    await c.push("after");
    await world.until(() => a.client.status().readCursor === cursor + 1);
    assert.deepEqual(await a.take(), ["after"]);
  });

  test("PROTOCOL 8.7: the remover reads up to the removed device's last entry, then closes it there", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    // What b writes reaches the relay, but not a, until a's removal was refused once.
    let refused = false;
    relay.meddler.reply = (session, envelope) => {
      if (session.device === idOf(a) && !refused && envelope.byteLength > 400) return undefined;
      return envelope;
    };
    await b.push("one", "two", "three");
    await world.result(b.client.flush());
    relay.meddler.request = (session, { body }) => {
      if (session.device === idOf(a) && body.case === "changeMembership" && !refused) {
        refused = true;
        world.after(50, () => session.socket.close(1006));
      }
      return undefined;
    };
    await world.result(a.client.remove([idOf(b)]));
    assert.ok(refused);
    assert.deepEqual(await a.take(), ["one", "two", "three"]);
    assert.equal(a.client.devices().length, 1);
  });

  test("PROTOCOL 8.7: several at once, each with more than was read: the relay says of whom, and one change removes them", async () => {
    const [a, b, c] = (await groupOf(3)) as [Device, Device, Device];
    const { world, relay } = a;
    const before = relay.group.control.length;
    // Nothing of theirs reaches a until its removal was refused once.
    let named: string | undefined;
    relay.meddler.reply = (session, envelope) => {
      if (session.device !== idOf(a)) return envelope;
      const [first] = decodeEnvelopes(new Uint8Array(envelope), 2 ** 30);
      const { body } = first ?? {};
      if (body?.case === "deliver" && named === undefined) return undefined;
      if (body?.case === "error" && body.value.detail.case === "membership") {
        if (named === undefined) world.after(2_000, () => session.socket.close(1006));
        named ??= idText(body.value.detail.value.closingDevice);
      }
      return envelope;
    };
    await b.push("b1", "b2");
    await c.push("c1");
    await world.result(b.client.flush());
    await world.result(c.client.flush());
    await world.result(a.client.remove([idOf(b), idOf(c)]));
    assert.equal(named, idOf(b));
    assert.deepEqual((await a.take()).toSorted(), ["b1", "b2", "c1"]);
    assert.equal(a.client.devices().length, 1);
    assert.equal(relay.group.control.length, before + 1);
    assert.deepEqual(a.integrity, []);
  });

  test("a device whose last entry does not hold can be removed all the same", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    await b.push("fine");
    await world.result(b.client.flush());
    const { group } = relay;
    const sound = group.blobs[0];
    assert.ok(sound !== undefined);
    const bad = { ...sound, cursor: 2, seq: 2, link: world.random(32), blobId: world.random(16) };
    group.blobs.push(bad);
    group.senders.set(idOf(b), { seq: 2, link: bad.link });
    for (const session of relay.sessionsOf(group)) session.deliver(1, [bad]);
    await world.until(() => a.client.status().refused === 1);
    await world.result(a.client.remove([idOf(b)]));
    assert.equal(a.client.devices().length, 1);
  });

  test("SECURITY Membership: a place that the relay made up is never signed, and the removal goes on", async () => {
    const [a, b, c] = (await groupOf(3)) as [Device, Device, Device];
    const { world, relay } = a;
    await b.push("one");
    await world.until(() => a.client.status().readCursor === 1);
    const verified = relay.group.senders.get(idOf(b));
    relay.group.senders.set(idOf(b), { seq: 1_000_000, link: world.random(32) });
    await world.result(a.client.remove([idOf(b)]));
    // The relay has its own place back; the chain has the one that was verified.
    const keys = deriveDeviceKeys(c.disk.table("device").get("seed") as Uint8Array);
    const chain = readChain(relay.group.control, { groupId: relay.group.groupId, keys });
    assert.deepEqual(chain.devices.get(idOf(b))?.closing, verified);
    assert.deepEqual(
      a.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
      [["DROPPED", idOf(b), 2]],
    );
  });

  test("SECURITY Verified history: a newcomer applies a removed device's entries up to its closing, or none", async () => {
    for (const cut of [false, true]) {
      const [a, b] = (await groupOf(2)) as [Device, Device];
      const { world, relay } = a;
      await b.push("one", "two", "three");
      await world.until(() => a.client.status().readCursor === 3);
      await world.result(a.client.remove([idOf(b)]));
      // The last one is not there for anybody who comes now.
      if (cut) relay.group.blobs.pop();
      const c = await member(a);
      assert.deepEqual(await c.take(), cut ? [] : ["one", "two", "three"]);
      await world.run(1_000);
      assert.deepEqual(
        c.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
        cut ? [["DROPPED", idOf(b), 1]] : [],
      );
      assert.equal(c.inSync, !cut);
      assert.equal(c.client.status().refused, cut ? 2 : 0);
    }
  });

  test("a removed device's entries of many windows are read once all of them are there, also across a restart", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world } = a;
    const texts = Array.from({ length: 4_500 }, (_, i) => `entry ${i}`);
    await b.push(...texts);
    await world.until(() => a.client.status().readCursor === texts.length);
    await world.result(a.client.remove([idOf(b)]));
    const c = await member(a);
    await c.restart();
    const taken = new Set<string>();
    await world.until(() => c.client.status().readCursor === texts.length);
    await world.until(() => c.client.status().refused === 0);
    for (const text of await c.take()) taken.add(text);
    assert.deepEqual([...taken], texts);
    assert.deepEqual(c.integrity, []);
    assert.equal(c.inSync, true);
  });

  test("several at once, asked for while the relay is away and by a process that dies", async () => {
    const [a, b, c, d] = (await groupOf(4)) as [Device, Device, Device, Device];
    const { world, relay } = a;
    relay.stop();
    await world.settle();
    const asked = a.client.remove([idOf(b), idOf(c)]);
    asked.catch(() => undefined);
    await world.settle();
    await a.restart();
    relay.start();
    await world.until(() => a.client.devices().length === 2);
    assert.equal(epochOf(a), 2);
    await world.until(() => d.client.devices().length === 2);
    // Nothing is left to be asked for.
    await a.restart();
    await world.run(10_000);
    assert.equal(relay.group.control.length, 5);
  });

  test("what makes no sense is said at once", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world } = a;
    await assert.rejects(a.client.remove([idOf(a)]), UsageError);
    await assert.rejects(a.client.remove(["nobody"]), byCode(ErrorCode.DEVICE_UNKNOWN));
    await world.result(a.client.remove([idOf(b)]));
    // Again: it is so already.
    await world.result(a.client.remove([idOf(b)]));
    assert.equal(epochOf(a), 2);
    await assert.rejects(a.client.rename(""), UsageError);
  });

  test("PROTOCOL 8.14: refused for good is told, and not tried again", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    relay.meddler.request = (_session, { body }) =>
      body.case === "changeMembership" ? new SyncError(ErrorCode.READ_ONLY) : undefined;
    await assert.rejects(world.result(a.client.remove([idOf(b)])), byCode(ErrorCode.READ_ONLY));
    relay.meddler = {};
    await a.restart();
    await world.run(60_000);
    assert.equal(a.client.devices().length, 2);
  });
});

describe("rotating and renaming", () => {
  test("the answer is lost at every moment: one epoch is opened, one name given", async () => {
    for (let cutMs = 1; cutMs < 40; cutMs += 3) {
      const [a, b] = (await groupOf(2, cutMs)) as [Device, Device];
      const { world, relay } = a;
      const done = Promise.all([a.client.rotate(), a.client.rename("renamed")]);
      world.after(cutMs, () => world.cutAll());
      await world.result(done);
      assert.equal(epochOf(a), 2);
      assert.equal(relay.group.control.length, 4);
      await world.until(() => b.client.devices()[0]?.name === "renamed");
      assert.equal(epochOf(b), 2);
    }
  });

  test("the process dies at any write: what was asked for is done once, or was not taken", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      for (let at = 1; at <= 4; at++) {
        const [a, b] = (await groupOf(2, at)) as [Device, Device];
        const { world } = a;
        let armed = false;
        let from = 0;
        await a.restart({
          hooks: {
            [when]: (commits: number) => {
              if (!armed) from = commits;
              else if (commits - from === at) a.crash();
            },
          },
        });
        await world.until(() => a.client.status().connection.state === "online");
        await world.run(20_000);
        armed = true;
        a.client.rotate().catch(() => undefined);
        await world.run(2_000);
        await a.restart();
        await world.until(() => a.client.status().connection.state === "online");
        await world.run(10_000);
        assert.ok(epochOf(a) <= 2);
        if (when === "afterCommit") assert.equal(epochOf(a), 2);
        assert.equal(epochOf(b), epochOf(a));
      }
    }
  });

  test("SECURITY Membership: an epoch is renewed after 90 days, by one of the members", async () => {
    const devices = await groupOf(4);
    const { world, relay } = devices[0] as Device;
    // Nobody is there most of the time: three months of pings prove nothing.
    const away = async (ms: number): Promise<void> => {
      for (const device of devices) device.crash();
      await world.run(ms);
      for (const device of devices) await device.start();
    };
    await away(epochAgeMsMax - 3_600_000);
    await world.run(1_800_000);
    assert.equal(relay.group.control.length, 4);
    await world.run(26 * 3_600_000);
    assert.equal(relay.group.control.length, 5);
    for (const device of devices) assert.equal(epochOf(device), 2);
    await away(epochAgeMsMax - 48 * 3_600_000);
    await world.run(1_800_000);
    assert.equal(relay.group.control.length, 5);
  });

  test("an epoch that grew old while everybody was away is renewed by whoever comes", async () => {
    const [a, b] = (await groupOf(2)) as [Device, Device];
    const { world, relay } = a;
    a.crash();
    b.crash();
    await world.run(2 * epochAgeMsMax);
    await Promise.all([a.start(), b.start()]);
    await world.until(() => epochOf(a) === 2 && epochOf(b) === 2, 10_000);
    await world.run(10_000);
    assert.equal(relay.group.control.length, 3);
  });
});
