/** What is older than it was: relays and devices from backups, and a log whose beginning is gone. */
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { SqliteConnection } from "../../../server/store/sqlite-connection.ts";
import type { Device } from "../device-process.ts";
import type { Scenario } from "../scenario.ts";
import type { World } from "../world.ts";
import { databaseName } from "./crashes.ts";

const withSnapshots = { snapshots: true };

/** Changes the store of a relay that does not run. */
async function change(world: World, sql: string): Promise<void> {
  const connection = await SqliteConnection.open(join(world.relay.data, databaseName));
  await connection.exec(sql);
  await connection.close();
}

interface GroupRow {
  readonly head: number;
  readonly floor: number;
  readonly replaced: number;
}

/** Waits until the only group stands so, by the relay's store. */
async function untilGroup(
  world: World,
  what: string,
  holds: (row: GroupRow) => boolean,
): Promise<void> {
  const connection = await SqliteConnection.open(join(world.relay.data, databaseName), {
    readOnly: true,
  });
  try {
    for (let tries = 0; tries < 20_000; tries++) {
      const [row] = await connection.query<GroupRow>(
        "SELECT head, floor, replaced_through AS replaced FROM groups",
      );
      if (row !== undefined && holds(row)) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    await connection.close();
  }
  throw new Error(`the group never was ${what}`);
}

/** A group whose log begins with a snapshot that replaces so many entries. */
async function compacted(world: World, devices: readonly Device[]): Promise<void> {
  for (let i = 0; i < 4; i++) await world.push(devices, 50, 300);
  await world.settle(devices);
  await (devices[0] as Device).call("makeSnapshot");
  await untilGroup(world, "replaced", ({ replaced }) => replaced >= 50 * 4 * devices.length);
  world.tell("a snapshot replaces the log so far");
}

async function tookOver(device: Device): Promise<void> {
  await device.until("back through a snapshot", ({ restored }) => restored > 0);
}

export const restores: readonly Scenario[] = [
  {
    name: "restore of an older backup",
    run: async (world) => {
      const devices = await world.group(3);
      await world.push(devices, 30);
      await world.settle();
      const backup = join(world.folder, "backup");
      await world.done(["backup", backup, "--data", world.relay.data, "--with-identity"]);
      await (devices[1] as Device).call("rotate");
      await world.push(devices, 30);
      await world.settle();
      await world.push(devices, 10);
      await world.relay.kill();
      await world.done(["restore", backup, "--data", world.relay.data, "--replace"]);
      await world.relay.start();
      await world.push(devices, 10);
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "the store's file copied back without a new log id",
    run: async (world) => {
      const devices = await world.group(3);
      await world.push(devices, 30);
      await world.settle();
      await world.relay.stop();
      const copy = join(world.folder, "copy");
      cpSync(world.relay.data, copy, { recursive: true });
      await world.relay.start();
      await world.push(devices, 30);
      await world.settle();
      await world.relay.kill();
      rmSync(world.relay.data, { recursive: true });
      cpSync(copy, world.relay.data, { recursive: true });
      await world.relay.start();
      world.tell("the store is what it was 90 entries ago, and says nothing of it");
      await world.push(devices, 10);
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "a device restored from its own old backup",
    run: async (world) => {
      const devices = await world.group(3);
      const [, second] = devices as [Device, Device, Device];
      await world.push(devices, 20);
      await world.settle();
      await second.stop();
      const copy = join(world.folder, "copy");
      mkdirSync(copy);
      second.copyTo(copy);
      await second.start();
      await world.push(devices, 20);
      await world.settle();
      await second.kill();
      second.restoreFrom(copy);
      await second.start();
      world.tell("device 2 is what it was 60 entries ago, and pushes");
      await world.push(devices, 20);
      await world.conclude();
    },
  },
  {
    name: "store deleted",
    run: async (world) => {
      const devices = await world.group(3);
      await world.push(devices, 30);
      await world.settle();
      await world.relay.kill();
      const { data } = world.relay;
      for (const name of readdirSync(data)) {
        if (name.startsWith(databaseName)) rmSync(join(data, name));
      }
      await world.relay.start();
      await world.push(devices, 5);
      for (const device of devices) {
        await device.until("unknown to the relay", ({ error }) => error === "NOT_A_MEMBER");
      }
      world.tell("the relay knows nobody; a group invite of its operator brings them back");
      const told = await world.done(["admin", "invites", "create", "--data", data, "--json"]);
      const invite = /"(?:code|invite)":\s*"([^"]+)"/.exec(told)?.[1] ?? "";
      await (devices[0] as Device).call("reconnect", { invite });
      for (const device of devices) await device.call("connect");
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "away longer than the retention",
    run: async (world) => {
      const devices = await world.group(3, withSnapshots);
      const [first, second, away] = devices as [Device, Device, Device];
      await world.push(devices, 10);
      await world.settle();
      away.proxy?.refuse();
      await away.until("offline", ({ connection }) => connection !== "online");
      await world.push([away], 50);
      await away.kill();
      await compacted(world, [first, second]);
      await world.relay.stop();
      await change(world, `UPDATE relay SET age_s = age_s + ${100 * 86_400}`);
      await world.relay.start();
      world.tell("a hundred days have passed, by the relay's own count");
      await world.push([first, second], 10);
      await untilGroup(world, "trimmed", ({ floor }) => floor > 100);
      away.proxy?.heal();
      await away.start();
      await tookOver(away);
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "joining after trimming",
    run: async (world) => {
      const devices = await world.group(2, withSnapshots);
      await compacted(world, devices);
      await untilGroup(world, "trimmed", ({ floor }) => floor > 0);
      await world.push(devices, 20);
      const late = await world.join(devices[0] as Device, "device 3", withSnapshots);
      await tookOver(late);
      await world.push([...devices, late], 5);
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "an empty device offering a snapshot",
    run: async (world) => {
      const devices = await world.group(2, withSnapshots);
      for (let i = 0; i < 4; i++) await world.push(devices, 50, 300);
      const empty = await world.join(devices[0] as Device, "device 3", withSnapshots);
      const made = await empty.call<boolean>("makeSnapshot");
      const { applied = 0 } = empty.standing ?? {};
      if (!made || applied < 400) throw new Error(`a snapshot of ${applied} entries: ${made}`);
      world.tell(`it made one once it had all ${applied} entries, and not before`);
      await untilGroup(world, "replaced", ({ replaced }) => replaced >= 400);
      const late = await world.join(devices[1] as Device, "device 4", withSnapshots);
      await tookOver(late);
      await world.push([...devices, empty, late], 5);
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "a full group that must compact",
    run: async (world) => {
      await world.startRelay({ settings: { "limits.group_bytes_max": 1_000_000 } });
      const devices = await world.group(2, withSnapshots);
      for (let i = 0; i < 12; i++) await world.push(devices, 10, 6_000);
      world.tell("1.4 MB are pushed into a group of 1 MB");
      await world.conclude({ anyOrder: true });
    },
  },
  {
    name: "one device shown a corrupted blob while others are not",
    run: async (world) => {
      const devices = await world.group(3);
      const [first, second, third] = devices as [Device, Device, Device];
      await third.kill();
      await world.push([first, second], 20);
      await world.settle([first, second]);
      await world.relay.stop();
      const at = world.chance.int(5, 35);
      const turn = `UPDATE blobs SET body = CAST(substr(body, 1, 30) || x'%' || substr(body, 32) AS BLOB) WHERE cursor = ${at}`;
      const connection = await SqliteConnection.open(join(world.relay.data, databaseName));
      const [row] = await connection.query<{ byte: string }>(
        `SELECT hex(substr(body, 31, 1)) AS byte FROM blobs WHERE cursor = ${at}`,
      );
      await connection.close();
      const byte = Number.parseInt(row?.byte ?? "", 16);
      const hex = (value: number): string => value.toString(16).padStart(2, "0");
      await change(world, turn.replace("%", hex(byte ^ 16)));
      await world.relay.start();
      await third.start();
      await third.until("warned", ({ integrity, refused }) => integrity > 0 && refused > 0);
      if (third.standing?.inSync === true) throw new Error("device 3 says it is in sync");
      world.tell(
        `device 3 is shown cursor ${at} with one bit turned, names it, and applies nothing of it`,
      );
      await world.relay.stop();
      await change(world, turn.replace("%", hex(byte)));
      await world.relay.start();
      await world.push(devices, 5);
      await world.conclude({ integrity: /ALTERED/, anyOrder: true });
    },
  },
];
