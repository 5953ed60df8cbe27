/** Backups under load, every second: each verifies and restores; devices of a restored older one converge. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as passing } from "node:timers/promises";
import type { Scenario } from "./scenario.ts";
import { describeCounted } from "./truth.ts";

export function backups(seconds: number): Scenario {
  return {
    name: "backups",
    run: async (world) => {
      const devices = await world.group(3);
      const load = (): Promise<unknown> =>
        Promise.all(
          devices.map((device) =>
            device.call("load", { count: 5, bytes: 600, window: 3, everyMs: 50 }),
          ),
        );
      const endLoad = (): Promise<unknown> =>
        Promise.all(devices.map((device) => device.call("endLoad")));
      await load();
      const kept = world.chance.int(Math.floor(seconds / 4), Math.ceil(seconds / 2));
      const { data } = world.relay;
      const fileOf = (i: number): string => join(world.folder, `backup-${i}`);
      const beganMs = performance.now();
      let blobs = -1;
      let lateMs = 0;
      const look = async (i: number): Promise<void> => {
        const file = fileOf(i);
        await world.done(["verify", file]);
        const there = join(world.folder, "restored");
        const told = JSON.parse(await world.done(["restore", file, "--data", there, "--json"])) as {
          blobs: number;
        };
        if (told.blobs < blobs) throw new Error(`${told.blobs} blobs after ${blobs}`);
        blobs = told.blobs;
        rmSync(there, { recursive: true });
        if (i !== kept) rmSync(file);
        if (i % 10 === 9) process.stderr.write(`backups: ${i + 1} of ${seconds}\n`);
      };
      for (let i = 0; i < seconds; i++) {
        const dueMs = beganMs + i * 1_000 - performance.now();
        // One that takes longer than a second is followed by the next at once.
        await passing(Math.max(0, dueMs));
        lateMs = Math.max(lateMs, -dueMs);
        await world.done(["backup", fileOf(i), "--data", data, "--with-identity"]);
      }
      const tookS = Math.round((performance.now() - beganMs) / 1_000);
      // Behind all of them: looking at one takes longer than taking it, and would hold up the next.
      await endLoad();
      for (let i = 0; i < seconds; i++) await look(i);
      world.tell(
        `${seconds} backups in ${tookS} s verified and restored, the last of ${blobs} blobs`,
      );
      await load();
      await world.relay.kill();
      await world.done([
        "restore",
        join(world.folder, `backup-${kept}`),
        "--data",
        world.relay.data,
        "--replace",
      ]);
      world.tell(`the relay goes on from the backup of second ${kept}, and the devices still push`);
      await world.relay.start();
      await Promise.all(
        devices.map((device) =>
          device.until("online", ({ connection }) => connection === "online"),
        ),
      );
      await endLoad();
      await world.conclude({ anyOrder: true });
      process.stdout.write(
        `${seconds} backups under load in ${tookS} s, each verified and restored, the last of ${blobs} blobs, at worst ${Math.round(lateMs)} ms late; ` +
          `restored that of second ${kept}: ${world.counted === undefined ? "" : describeCounted(world.counted)}\n`,
      );
    },
  };
}
