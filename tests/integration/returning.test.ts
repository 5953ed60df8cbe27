/** Devices that a restored relay, or one set up anew, does not know. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UsageError } from "../../client/index.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { parseId } from "../../wire/ids.ts";
import { newRelayStore, type RaceDevice } from "../simulation/race-nodes.ts";
import { chainOf, VirtualWorld } from "./virtual.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

/** Everybody holds the same chain as the relay, which serves exactly the members. */
async function agree(virtual: VirtualWorld, devices: readonly RaceDevice[]): Promise<void> {
  await virtual.inSync(devices);
  const [first] = devices as [RaceDevice];
  for (const device of devices) assert.deepEqual(chainOf(device), chainOf(first));
  const groupId = parseId(first.client.groupId ?? "", 32) as Uint8Array;
  const loaded = await virtual.relay.store.loadGroup(groupId);
  const control = await virtual.relay.store.readControl(loaded?.group.groupKey ?? 0, 0, 1 << 24);
  assert.deepEqual(
    control.map(({ bytes }) => Buffer.from(bytes).toString("base64url")),
    chainOf(first),
  );
}

/** What every device was handed, whatever the order: each entry once. */
function handedOnce(devices: readonly RaceDevice[]): void {
  const sets = devices.map(({ taken }) => [...taken].sort());
  for (const set of sets) {
    assert.equal(new Set(set).size, set.length, "an entry was handed out twice");
    assert.deepEqual(set, sets[0]);
  }
}

async function waitsForAnInvite(virtual: VirtualWorld, device: RaceDevice): Promise<void> {
  const error = (): unknown => {
    const { connection } = device.client.status();
    return connection.state === "waiting" ? connection.error : undefined;
  };
  await virtual.until(() => byCode(ErrorCode.NOT_A_MEMBER)(error()));
  assert.equal(device.client.status().membership, "member");
  const { hint = "" } = error() as SyncError;
  assert.match(hint, /reconnect with a group invite/);
}

describe("PROTOCOL 11.3: a device that a restored relay does not know", () => {
  test("restored from a backup of before it was added: it brings the group on, and everybody goes on", async () => {
    const virtual = new VirtualWorld();
    const { relay } = virtual;
    const [a, b] = (await virtual.group(2)) as [RaceDevice, RaceDevice];
    await virtual.push(a, "one", "two");
    await virtual.push(b, "three");
    await virtual.inSync([a, b]);
    const backup = relay.store.copy();
    await virtual.ended(b.client.rotate());
    const c = await virtual.joined(b, "device 3");
    await virtual.push(c, "four", "five");
    await virtual.push(b, "six");
    await virtual.inSync([a, b, c]);
    a.crash();
    b.crash();
    relay.crash("kept");
    relay.store = backup;
    relay.founding = "invite";
    relay.start();
    await waitsForAnInvite(virtual, c);
    await assert.rejects(
      virtual.ended(c.client.reconnectWithInvite("A".repeat(22))),
      byCode(ErrorCode.INVITE_INVALID),
    );
    await assert.rejects(
      async () => c.client.reconnectWithInvite("nonsense"),
      byCode(ErrorCode.INVITE_INVALID),
    );
    await waitsForAnInvite(virtual, c);
    await virtual.ended(c.client.reconnectWithInvite(await virtual.invite()));
    await virtual.until(() => c.client.status().connection.state === "online");
    assert.equal(c.client.status().epoch, 2);
    await virtual.push(c, "seven");
    await virtual.until(() => c.client.status().queued === 0);
    await a.start();
    await b.start();
    await agree(virtual, [a, b, c]);
    handedOnce([a, b, c]);
    assert.equal(a.client.status().refused, 0);
    assert.equal(new Set(a.taken).size, 7);
  });

  test("the relay is set up anew: the group comes back from its founding on, with what its members wrote", async () => {
    const virtual = new VirtualWorld(2);
    const { relay } = virtual;
    const [a, b, c] = (await virtual.group(3)) as [RaceDevice, RaceDevice, RaceDevice];
    const [d, e] = [await virtual.joined(b, "device 4"), await virtual.joined(c, "device 5")];
    await virtual.push(a, "one");
    await virtual.push(c, "two", "three");
    // Two who were removed at once: what the relay goes by is stated anew for each of them.
    await virtual.push(d, "from one who goes");
    await virtual.push(e, "from another");
    await virtual.inSync([a, b, c, d, e]);
    await virtual.ended(a.client.remove([d.client.deviceId, e.client.deviceId]));
    await virtual.ended(c.client.rename("another name"));
    await virtual.inSync([a, b, c]);
    for (const device of [a, b, c, d, e]) device.crash();
    relay.crash("kept");
    relay.store = newRelayStore();
    relay.founding = "invite";
    relay.start();
    await c.start();
    await waitsForAnInvite(virtual, c);
    await virtual.ended(c.client.reconnectWithInvite(await virtual.invite()));
    await virtual.until(() => c.client.status().connection.state === "online");
    await a.start();
    await b.start();
    await agree(virtual, [a, b, c]);
    await virtual.push(b, "goes on");
    await agree(virtual, [a, b, c]);
    handedOnce([a, b, c]);
    assert.equal(c.client.devices().length, 3);
    // Whoever was removed stays so.
    await d.start();
    await virtual.until(() => d.client.status().membership === "removed");
  });

  test("connections break and the relay dies at every moment of it: it comes back all the same", async () => {
    for (let breakMs = 1; breakMs < 200; breakMs += 12) {
      const virtual = new VirtualWorld(breakMs);
      const { relay, world } = virtual;
      const [a, b] = (await virtual.group(2)) as [RaceDevice, RaceDevice];
      await virtual.ended(a.client.rotate());
      await virtual.inSync([a, b]);
      for (const device of [a, b]) device.crash();
      relay.crash("kept");
      relay.store = newRelayStore();
      relay.start();
      await b.start();
      await waitsForAnInvite(virtual, b);
      let invite = await virtual.invite();
      const dies = breakMs % 24 === 1;
      world.after(breakMs, () => {
        if (dies) {
          relay.crash(breakMs % 48 === 1 ? "kept" : "lost");
          relay.start();
        } else b.cut();
      });
      try {
        await virtual.ended(b.client.reconnectWithInvite(invite));
      } catch (error) {
        // A relay that died in between has forgotten who uses it: an operator makes another.
        assert.ok(dies && byCode(ErrorCode.INVITE_INVALID)(error), String(error));
        invite = await virtual.invite();
        await virtual.ended(b.client.reconnectWithInvite(invite));
      }
      await a.start();
      await agree(virtual, [a, b]);
    }
  });

  test("whoever is in no group, or is removed, cannot ask for it", async () => {
    const virtual = new VirtualWorld();
    const stranger = await virtual.device("stranger");
    await assert.rejects(
      async () => stranger.client.reconnectWithInvite("A".repeat(22)),
      byCode(ErrorCode.NOT_A_MEMBER),
    );
    const [a] = (await virtual.group(1)) as [RaceDevice];
    // Known to the relay: nothing is used up, and it goes on as it was.
    const invite = await virtual.invite();
    const first = a.client.reconnectWithInvite(invite);
    await assert.rejects(async () => a.client.reconnectWithInvite(invite), UsageError);
    await virtual.ended(first);
    await virtual.inSync([a]);
  });
});
