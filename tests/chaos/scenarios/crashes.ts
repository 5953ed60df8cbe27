/** Processes that end by kill -9 at a chosen point. */
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SqliteConnection } from "../../../server/store/sqlite-connection.ts";
import type { Device } from "../device-process.ts";
import type { AppPoint } from "../processes/messages.ts";
import type { KillPoint } from "../processes/points.ts";
import { RelayProcess } from "../relay-process.ts";
import type { Scenario } from "../scenario.ts";
import type { World } from "../world.ts";
import { load } from "./roads.ts";

const places = ["before", "inside", "after"] as const;
/** What a commit of the relay is: one statement. */
export const commit = "^INSERT INTO temp\\.";

/** The relay is started so that it ends at a point, reaches it, and is started again. */
export async function endAt(world: World, kill: KillPoint): Promise<void> {
  await world.relay.kill();
  if (await world.relay.start({ kill })) {
    const how = await world.relay.ended();
    if (how !== "SIGKILL") throw new Error(`the relay ended with ${how}`);
  }
  world.tell(`the relay ended ${kill.at} "${kill.match}", the ${kill.count}th time`);
  await world.relay.start();
}

function deviceCrash(name: string, point: AppPoint): Scenario {
  return {
    name: `device crash ${name}`,
    short: point === "before-apply",
    run: async (world) => {
      const devices = await world.group(3);
      const [first, second, third] = devices as [Device, Device, Device];
      for (let i = 0; i < 4; i++) {
        await second.kill();
        const count = world.chance.int(1, 20);
        await second.start({ dieAt: { point, count } });
        await world.push([first, third], 15);
        await second.ended();
        world.tell(`device 2 ended at entry ${count}`);
        await second.start();
      }
      await world.conclude();
    },
  };
}

export const crashes: readonly Scenario[] = [
  {
    name: "relay crash in the middle of a push",
    short: true,
    run: async (world) => {
      const devices = await world.group(3);
      await Promise.all(devices.map((device) => device.call("load", { ...load, everyMs: 10 })));
      for (const at of places)
        await endAt(world, { match: commit, at, count: world.chance.int(2, 30) });
      await Promise.all(devices.map((device) => device.call("endLoad")));
      await world.conclude();
    },
  },
  {
    name: "relay crash in the middle of a pull",
    run: async (world) => {
      const devices = await world.group(2);
      const [first, second] = devices as [Device, Device];
      await second.kill();
      for (let i = 0; i < 30; i++) await world.push([first], 200, 300);
      await first.call("flush");
      await first.kill();
      await second.start();
      for (const at of places) await endAt(world, { match: "FROM page", at, count: 1 });
      await first.start();
      await world.conclude();
    },
  },
  {
    name: "relay crash in the middle of a membership change",
    run: async (world) => {
      const devices = await world.group(3);
      const [first, second, third] = devices as [Device, Device, Device];
      for (const at of places) {
        await world.push(devices, 5);
        await world.settle();
        const before = first.standing?.epoch ?? 0;
        await world.relay.kill();
        const changed = first.call("rotate");
        await endAt(world, { match: commit, at, count: 1 });
        await changed;
        for (const device of devices) {
          await device.until("in the new epoch", ({ epoch }) => epoch > before);
        }
      }
      await world.relay.kill();
      const removed = first.call("remove", { ids: [third.id] });
      await endAt(world, { match: commit, at: world.chance.pick(places), count: 1 });
      await removed;
      third.member = false;
      await third.until("removed", ({ membership }) => membership === "removed");
      await world.push([first, second], 10);
      await world.conclude();
    },
  },
  {
    name: "relay crash in the middle of a migration",
    run: async (world) => {
      const data = join(world.folder, "relay");
      mkdirSync(data, { mode: 0o700 });
      const fixture = new URL("../../store/fixtures/schema-1.db", import.meta.url);
      copyFileSync(fileURLToPath(fixture), join(data, databaseName));
      const before = await blobsOf(data);
      const relay = new RelayProcess({
        built: world.built,
        data,
        port: 0,
        logFile: join(world.folder, "relay.log"),
      });
      for (let migration = 1; migration <= 2; migration++) {
        for (const at of places) {
          const served = await relay.start({ kill: { match: "ALTER TABLE", at, count: 1 } });
          world.tell(served ? "nothing was left to migrate" : `it ended ${at} a migration`);
          if (served) await relay.stop();
        }
      }
      // Whatever was left open by the kills: this start has all of it behind it, and devices come.
      const devices = await world.group(2);
      await world.push(devices, 20);
      await world.settle();
      const after = await blobsOf(data);
      if (after !== before + 40) throw new Error(`${after} blobs after ${before}`);
      world.tell(`${before} blobs of the old store are there`);
      await world.conclude();
    },
  },
  {
    name: "relay crash in the middle of a trim",
    run: async (world) => {
      const devices = await world.group(3, { snapshots: true });
      const [first, second] = devices as [Device, Device, Device];
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 6; i++) await world.push([first, second], 100, 300);
        await world.settle();
        const made = first.call<boolean>("makeSnapshot").catch(() => false);
        await endAt(world, {
          // Parts, the snapshot, its confirmation, and then what it replaces, in slices.
          match: "^INSERT INTO temp\\.life_commits",
          at: places[round] as (typeof places)[number],
          count: world.chance.int(3, 4),
        });
        await made;
      }
      await world.conclude({ anyOrder: true });
    },
  },
  deviceCrash("before applying", "before-apply"),
  deviceCrash("after applying", "after-apply"),
  {
    name: "device crash before acknowledging",
    run: async (world) => {
      const devices = await world.group(3);
      const [first, second, third] = devices as [Device, Device, Device];
      for (const at of places) {
        await second.kill();
        // Acknowledgements are written together, in a transaction of their own.
        await second.start({ kill: { match: "^COMMIT", at, count: world.chance.int(2, 9) } });
        await world.push([first, third], 25);
        await second.call("push", { count: 3, bytes: 100 }).catch(() => undefined);
        await world.push([first, third], 25);
        await second.call("load", load).catch(() => undefined);
        await second.ended();
        await second.start();
      }
      await world.conclude();
    },
  },
  deviceCrash("after acknowledging", "after-ack"),
  {
    name: "the inviter dying between adding and telling",
    run: async (world) => {
      const devices = await world.group(2);
      const [first] = devices as [Device, Device];
      await world.push(devices, 10);
      await first.restart({ dieAt: { point: "membership", count: 1 } });
      const joiner = await world.add("device 3");
      await first.until("online", ({ connection }) => connection === "online");
      const link = await first.call<string>("invite");
      const joined = joiner.call("join", { link }).catch((error: unknown) => error);
      const how = await first.ended();
      world.tell(`the inviter ended with ${how} as soon as its group had another member`);
      await first.start();
      await joined;
      await joiner.until("a member", ({ membership }) => membership === "member");
      await world.push([...devices, joiner], 10);
      await world.conclude();
    },
  },
];

export const databaseName = "relay.db";

/** What the store counts, over all groups. */
async function blobsOf(data: string): Promise<number> {
  const connection = await SqliteConnection.open(join(data, databaseName), { readOnly: true });
  const [row] = await connection.query<{ blobs: number }>("SELECT blobs FROM relay");
  await connection.close();
  return row?.blobs ?? 0;
}
