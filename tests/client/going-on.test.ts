/** What was asked for goes on until it is done, or ends with what to do. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { type MemoryDisk, StateStoreError, UsageError } from "../../client/index.ts";
import { addDevice } from "../../client/seal/changes.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { deviceMessage, extendChain, readChain } from "../../client/seal/membership.ts";
import type { Device as Introduced } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { PendingAdditionSchema } from "../../gen/syncrelay/state/v1/state_pb.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { membersMax } from "../../wire/limits.ts";
import { Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

/** Answers the next requests of a kind with errors; tells when each of them came. */
function refusing(relay: FakeRelay, kind: string, errors: SyncError[]): number[] {
  const atMs: number[] = [];
  relay.meddler.request = (_session, { body }) => {
    if (body.case !== kind) return undefined;
    atMs.push(relay.world.clockMs);
    return errors.shift();
  };
  return atMs;
}

const times = (count: number, code: ErrorCode, retryAfterMs = 0): SyncError[] =>
  Array.from({ length: count }, () => new SyncError(code, { retryAfterMs }));

async function inviting(): Promise<{ relay: FakeRelay; world: World; a: Device; joiner: Device }> {
  const relay = new FakeRelay(new World());
  const a = await founder(relay, { name: "kitchen" });
  const joiner = await new Device(relay).start({ name: "phone" });
  return { relay, world: relay.world, a, joiner };
}

describe("an addition", () => {
  test("PROTOCOL 10.1: refused for now, it is submitted again on the same session, less and less often", async () => {
    const { relay, world, a, joiner } = await inviting();
    const atMs = refusing(relay, "changeMembership", times(4, ErrorCode.STORE_UNAVAILABLE));
    const { length } = world.attempts;
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    const joining = joiner.client.join(invite.link);
    assert.equal((await world.result(invite.done)).name, "phone");
    await world.result(joining);
    assert.equal(atMs.length, 5);
    const waits = atMs.slice(1).map((at, i) => at - (atMs[i] as number));
    assert.ok(
      waits.every((ms, i) => ms >= 1_000 * 2 ** i && ms < 1_500 * 2 ** i),
      String(waits),
    );
    // Only the joiner connected meanwhile.
    assert.ok(world.attempts.length - length <= 4);
    // Said once, not with every try.
    assert.equal(a.errors.length, 1);
  });

  test("PROTOCOL 10.1: the relay's advice is waited for", async () => {
    const { relay, world, a, joiner } = await inviting();
    const atMs = refusing(relay, "changeMembership", times(1, ErrorCode.RATE_LIMITED, 20_000));
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    await world.result(joiner.client.join(invite.link));
    assert.ok((atMs[1] as number) - (atMs[0] as number) >= 20_000);
  });

  test("PROTOCOL 8.3: other changes come first, more often than anybody counts: it gets in", async () => {
    const { relay, world, a, joiner } = await inviting();
    refusing(relay, "changeMembership", times(40, ErrorCode.MEMBERSHIP_CONFLICT));
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    await world.result(joiner.client.join(invite.link));
    await world.result(invite.done);
    assert.equal(relay.group.control.length, 2);
  });

  test("PROTOCOL 8.14: a group that takes no changes: it is said, and goes on once it takes them", async () => {
    const { relay, world, a, joiner } = await inviting();
    refusing(relay, "changeMembership", times(3, ErrorCode.READ_ONLY));
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    const joining = joiner.client.join(invite.link);
    await world.until(() => a.errors.length > 0);
    assert.ok(byCode(ErrorCode.READ_ONLY)(a.errors[0]));
    await world.result(joining);
    await world.result(invite.done);
  });

  test("SECURITY Membership: the group is full: the inviter is told, the joiner is in no group, the session goes on", async () => {
    const { relay, world, a, joiner } = await inviting();
    a.crash();
    // As many more as there may be, written onto both disks.
    const keys = deriveDeviceKeys(a.disk.table("device").get("seed") as Uint8Array);
    const { groupId } = relay.group;
    let chain = readChain(relay.group.control, { groupId, keys });
    for (let i = 1; i < membersMax; i++) {
      const other = deriveDeviceKeys(world.random(32));
      const at = { keys, random: (length: number) => world.random(length), nowMs: 1 };
      const { controlBlob } = addDevice(chain, deviceMessage(other, `device ${i}`), at);
      chain = extendChain(chain, controlBlob, { keys });
      relay.group.control.push(controlBlob);
      relay.group.members.add(idText(other.deviceId));
    }
    await a.start();
    await world.until(() => a.client.devices().length === membersMax);
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    const joining = joiner.client.join(invite.link);
    joining.catch(() => undefined);
    await assert.rejects(world.result(invite.done), (error: unknown) => {
      assert.ok(byCode(ErrorCode.TOO_LARGE)(error));
      assert.match((error as SyncError).hint ?? "", /at most 256 devices: remove one/);
      return true;
    });
    await assert.rejects(world.result(joining), byCode(ErrorCode.INVITE_INVALID));
    assert.equal(joiner.client.status().membership, "none");
    assert.equal(relay.group.control.length, membersMax);
    await a.push("goes on");
    await world.result(a.client.flush());
    assert.deepEqual([...a.disk.table("additions").range("")], []);
  });

  test("SECURITY Membership: one of a removed device, or of none, is dropped and said after a restart, and the session goes on", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a, { name: "lost" });
    const removed = deviceMessage(
      deriveDeviceKeys(b.disk.table("device").get("seed") as Uint8Array),
      "lost",
    );
    await world.result(a.client.remove([b.client.deviceId]));
    const broken = deviceMessage(deriveDeviceKeys(world.random(32)), "broken");
    broken.sealingKey = new Uint8Array(1_216).fill(255);
    a.crash();
    for (const device of [removed, broken]) keepAddition(a.disk, device);
    await a.start();
    await world.until(() => a.errors.length === 2);
    assert.deepEqual(
      new Set(a.errors.map((error) => (error as SyncError).code)),
      new Set([ErrorCode.DEVICE_REVOKED, ErrorCode.HISTORY_ALTERED]),
    );
    for (const error of a.errors) assert.match((error as SyncError).hint ?? "", /was not added/);
    const { length } = world.attempts;
    await a.push("goes on");
    await world.result(a.client.flush());
    await world.run(120_000);
    assert.equal(world.attempts.length, length);
    assert.deepEqual([...a.disk.table("additions").range("")], []);
  });
});

function keepAddition(disk: MemoryDisk, device: Introduced): void {
  const pending = create(PendingAdditionSchema, { device, receipted: true });
  disk.table("additions").put(idText(device.deviceId), toBinary(PendingAdditionSchema, pending));
}

describe("an invite", () => {
  test("PROTOCOL 9.2: its mailbox is asked for again where the relay has no time for it", async () => {
    const { relay, world, a, joiner } = await inviting();
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    // A restarted relay has forgotten it.
    relay.stop();
    relay.start();
    const atMs = refusing(relay, "openInvite", times(3, ErrorCode.RATE_LIMITED, 7_000));
    await world.until(() => atMs.length === 4);
    const waits = atMs.slice(1).map((at, i) => at - (atMs[i] as number));
    assert.ok(waits.every((ms) => ms >= 7_000));
    await world.result(joiner.client.join(invite.link));
    await world.result(invite.done);
  });

  test("SECURITY Pairing: called off once the joiner was admitted, and before it said so: the joiner is in no group", async () => {
    const { relay, world, a, joiner } = await inviting();
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    const joining = joiner.client.join(invite.link);
    joining.catch(() => undefined);
    // The receipt does not arrive.
    let messages = 0;
    relay.meddler.request = (session, { body }) => {
      if (session.device !== joiner.client.deviceId || body.case !== "inviteMessage")
        return undefined;
      messages += 1;
      return messages > 2 ? "lost" : undefined;
    };
    await world.until(() => joiner.client.status().membership === "admitted");
    await world.result(invite.cancel());
    await assert.rejects(world.result(joining), byCode(ErrorCode.INVITE_INVALID));
    assert.equal(joiner.client.status().membership, "none");
    assert.equal(relay.group.control.length, 1);
  });

  for (const when of ["before the joiner came", "while its addition is submitted"]) {
    test(`SECURITY Membership: the inviting device is removed ${when}: whoever waits is told`, async () => {
      const { relay, world, a, joiner } = await inviting();
      const b = await member(a);
      const tries = refusing(relay, "changeMembership", []);
      const invite = await world.result(b.client.invite({ confirm: () => true }));
      if (when.startsWith("while")) {
        relay.meddler.request = (session, { body }) => {
          if (session.device !== b.client.deviceId || body.case !== "changeMembership")
            return undefined;
          tries.push(world.clockMs);
          return new SyncError(ErrorCode.STORE_UNAVAILABLE);
        };
        joiner.client.join(invite.link).catch(() => undefined);
        await world.until(() => tries.length > 0);
      }
      await world.result(a.client.remove([b.client.deviceId]));
      await assert.rejects(world.result(invite.done, 10_000), byCode(ErrorCode.DEVICE_REVOKED));
    });
  }

  test("an invite that is open ends with the client", async () => {
    const { world, a } = await inviting();
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    await world.result(a.client.close());
    await assert.rejects(world.result(invite.done, 0), byCode(ErrorCode.CONNECTION_LOST));
  });

  test("SECURITY Pairing: calling it off is too late once the joiner holds its admission", async () => {
    const { relay, world, a, joiner } = await inviting();
    const atMs = refusing(relay, "changeMembership", times(2, ErrorCode.STORE_UNAVAILABLE));
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    const joining = joiner.client.join(invite.link);
    await world.until(() => atMs.length === 1);
    await world.result(invite.cancel());
    await world.result(joining);
    await world.result(invite.done);
    assert.equal(joiner.client.status().membership, "member");
  });
});

describe("being admitted", () => {
  test("SECURITY Pairing: the inviting device never comes back: it says so, and can be given up", async () => {
    const { relay, world, a, joiner } = await inviting();
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    const joining = joiner.client.join(invite.link);
    joining.catch(() => undefined);
    const tries = refusing(relay, "changeMembership", times(99, ErrorCode.STORE_UNAVAILABLE));
    await world.until(() => tries.length > 0);
    assert.equal(joiner.client.status().membership, "admitted");
    a.crash();
    await assert.rejects(world.result(joining, 1_500_000), byCode(ErrorCode.TIMED_OUT));
    assert.equal(joiner.client.status().membership, "admitted");
    assert.deepEqual(joiner.client.devices(), []);
    // Also across a restart.
    await joiner.restart();
    await world.run(120_000);
    assert.equal(joiner.client.status().membership, "admitted");
    await world.result(joiner.client.giveUpAdmission());
    assert.equal(joiner.client.status().membership, "none");
    assert.equal(joiner.client.groupId, undefined);
    const { length } = world.attempts;
    await world.run(600_000);
    assert.equal(world.attempts.length, length);
    await assert.rejects(joiner.client.giveUpAdmission(), UsageError);
    // It comes in by another invite, whether or not the first inviter added it after all.
    relay.meddler = {};
    await a.start();
    await world.until(() => a.client.devices().length === 2);
    const again = await world.result(a.client.invite({ confirm: () => true }));
    await world.result(joiner.client.join(again.link));
    await world.result(again.done);
    assert.equal(joiner.client.devices().length, 2);
  });

  test("SECURITY Recovery phrase: a refusal that is certain leaves the device in no group", async () => {
    const { relay, world, a, joiner } = await inviting();
    const { words } = await world.result(a.client.createRecoveryPhrase());
    refusing(relay, "changeMembership", times(1, ErrorCode.READ_ONLY));
    await assert.rejects(world.result(joiner.client.recover(words)), byCode(ErrorCode.READ_ONLY));
    assert.equal(joiner.client.status().membership, "none");
    await world.result(joiner.client.recover(words));
    assert.equal(joiner.client.status().membership, "member");
  });
});

describe("a founding", () => {
  test("PROTOCOL 5.14: refused by a relay whose disk is full, it goes on by itself, less and less often", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const atMs = refusing(relay, "changeMembership", times(4, ErrorCode.STORE_UNAVAILABLE));
    const device = await new Device(relay).start();
    await world.result(device.client.createGroup());
    assert.equal(device.client.status().membership, "member");
    const waits = atMs.slice(1).map((at, i) => at - (atMs[i] as number));
    assert.ok(
      waits.every((ms, i) => ms >= 1_000 * 2 ** i),
      String(waits),
    );
  });

  test("PROTOCOL 8.2: this device's own disk is full when the relay has it: it goes on by itself", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    let full = false;
    const device = await new Device(relay).start({
      hooks: {
        beforeCommit: () => {
          if (full) throw new StateStoreError("full", "no space is left");
        },
      },
    });
    relay.meddler.request = (_session, { body }) => {
      full = body.case === "changeMembership" && relay.count("changeMembership") < 4;
      return undefined;
    };
    await world.result(device.client.createGroup());
    assert.equal(device.client.status().membership, "member");
    assert.equal(relay.groups.size, 1);
    assert.ok(device.errors.some((error) => error instanceof StateStoreError));
  });
});

describe("a removal", () => {
  test("PROTOCOL 10.1: refused for now, it is submitted again on the same session, less and less often", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const b = await member(a);
    const atMs = refusing(relay, "changeMembership", times(4, ErrorCode.STORE_UNAVAILABLE));
    await world.result(a.client.remove([b.client.deviceId]));
    const waits = atMs.slice(1).map((at, i) => at - (atMs[i] as number));
    assert.ok(waits.length === 4 && waits.every((ms, i) => ms >= 1_000 * 2 ** i), String(waits));
  });
});
