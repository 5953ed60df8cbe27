/**
 * Members who change the group at the same moment, from seeds: `MEMBERSHIP_SEEDS` of them, from
 * `MEMBERSHIP_SEED` on.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MemoryDisk } from "../../client/index.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { members, readChain } from "../../client/seal/membership.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { Device, founder, member } from "./support/devices.ts";
import { type FakeGroup, FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const seedsCount = Number(process.env["MEMBERSHIP_SEEDS"] ?? 12);
const firstSeed = Number(process.env["MEMBERSHIP_SEED"] ?? 1);
const identity = new Uint8Array(32).fill(9);
const origin = "ws://relay.test/";

interface Template {
  readonly groups: Map<string, FakeGroup>;
  readonly disks: readonly MemoryDisk[];
}

/** A group of four, made once: each seed goes on from copies of it. */
async function template(): Promise<Template> {
  const relay = new FakeRelay(new World(), origin, identity);
  const devices = [await founder(relay)];
  for (let i = 1; i < 4; i++) devices.push(await member(devices[0] as Device));
  await relay.world.run(30_000);
  for (const device of devices) device.crash();
  return { groups: relay.backup(), disks: devices.map(({ disk }) => disk) };
}

/** What a member may do; each promise must end. */
type Action = (by: Device) => Promise<unknown>;

async function race(from: Template, seed: number): Promise<void> {
  const world = new World(seed);
  // Before anything is under way: what is sent later must not overtake it.
  world.latencyMs = 1 + Math.floor(world.chance() * 30);
  const relay = new FakeRelay(world, origin, identity);
  const copy = new FakeRelay(new World(), origin, identity);
  copy.groups = from.groups;
  relay.groups = copy.backup();
  const devices = await Promise.all(
    from.disks.map((disk) => new Device(relay, disk.copy()).start()),
  );
  await world.until(() =>
    devices.every(({ client }) => client.status().connection.state === "online"),
  );
  await world.run(Math.floor(world.chance() * 500));
  const pick = <T>(list: readonly T[]): T => list[Math.floor(world.chance() * list.length)] as T;
  const joiner = await new Device(relay).start({ name: "joiner" });
  let invited = false;
  const removal: Action = (by) => {
    const others = devices.filter((device) => device !== by);
    const count = world.chance() < 0.2 ? 2 : 1;
    const leaving = new Set(Array.from({ length: count }, () => pick(others).client.deviceId));
    return by.client.remove([...leaving]);
  };
  const addition: Action = async (by) => {
    if (invited) return;
    invited = true;
    const invite = await by.client.invite({ confirm: () => true });
    await Promise.all([joiner.client.join(invite.link), invite.done]);
  };
  const actions: readonly Action[] = [
    removal,
    removal,
    (by) => by.client.rotate(),
    (by) => by.client.rotate(),
    (by) => by.client.rename(`name ${world.chance()}`),
    (by) => by.push(`entry ${world.chance()}`, "another"),
    (by) => by.client.createRecoveryPhrase({ replace: true }),
    addition,
  ];
  const mutual: readonly Action[][] = [
    // Two remove each other; three rotate at once; an addition races a removal.
    [
      (by) =>
        by.client.remove([(devices[1] === by ? devices[0] : devices[1])?.client.deviceId ?? ""]),
    ],
    [(by) => by.client.rotate()],
    [addition, removal],
  ];
  const chosen = world.chance() < 0.4 ? pick(mutual) : actions;
  const asked: Promise<unknown>[] = [];
  const times = 2 + Math.floor(world.chance() * 5);
  for (let i = 0; i < times; i++) {
    const by = devices[i % (chosen === actions ? 4 : 3)] as Device;
    const action = chosen[i % chosen.length] === undefined ? removal : pick(chosen);
    world.after(Math.floor(world.chance() * world.latencyMs * 4), () => {
      const doing = (async () => action(by))();
      asked.push(
        doing.catch((error: unknown) => {
          // Refused, since it makes no sense any more: said to whoever asked.
          const fine = [
            ErrorCode.DEVICE_REVOKED,
            ErrorCode.DEVICE_UNKNOWN,
            ErrorCode.NOT_A_MEMBER,
            ErrorCode.MEMBERSHIP_CONFLICT,
            ErrorCode.INVITE_INVALID,
            ErrorCode.CONNECTION_LOST,
            ErrorCode.UNREACHABLE,
            ErrorCode.TIMED_OUT,
          ];
          if (!(error instanceof SyncError) || !fine.includes(error.code)) throw error;
        }),
      );
    });
  }
  if (world.chance() < 0.3) world.after(world.chance() * 60, () => world.cutAll());
  await world.run(1_000);
  await world.result(Promise.all(asked), 1_200_000);
  await world.run(60_000);

  // All that remain hold one chain and one keyring, and read what each of them writes.
  const { group } = relay;
  const everybody = [...devices, joiner];
  const remaining = everybody.filter(({ client }) => group.members.has(client.deviceId));
  assert.ok(remaining.length > 0);
  const secrets = new Set<string>();
  for (const device of remaining) {
    const { client, disk } = device;
    await world.until(() => client.status().connection.state === "online");
    const status = client.status();
    assert.equal(status.membership, "member");
    assert.equal(status.epoch, group.epoch);
    assert.deepEqual(
      client
        .devices()
        .map(({ deviceId }) => deviceId)
        .sort(),
      [...group.members].sort(),
    );
    const held = disk
      .table("control")
      .range(0)
      .map(({ value }) => idText(value));
    assert.deepEqual(held, group.control.map(idText));
    const keys = deriveDeviceKeys(disk.table("device").get("seed") as Uint8Array);
    const chain = readChain(group.control, { groupId: group.groupId, keys });
    assert.equal(members(chain).length, group.members.size);
    const ring = Array.from({ length: chain.epoch }, (_, i) =>
      idText(chain.keyring.secret(i + 1) as Uint8Array),
    );
    secrets.add(ring.join());
    assert.equal(disk.table("device").get("changes"), undefined, "something is still asked for");
  }
  assert.equal(secrets.size, 1);
  for (const device of remaining) await device.push("last");
  await world.until(() =>
    remaining.every(
      ({ client }) =>
        client.status().queued === 0 && client.status().readCursor === group.blobs.length,
    ),
  );
  for (const { client, integrity } of remaining) {
    assert.equal(client.status().refused, 0);
    assert.deepEqual(integrity, []);
  }
  for (const device of devices) {
    if (remaining.includes(device)) continue;
    assert.equal(device.client.status().membership, "removed");
  }
  for (const device of everybody) device.crash();
}

test("SECURITY Membership, races: whoever remains agrees and holds the same keyring, and nobody hangs", async () => {
  const from = await template();
  const seeds = Array.from({ length: seedsCount }, (_, i) => firstSeed + i);
  for (const seed of seeds) {
    try {
      await race(from, seed);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});
