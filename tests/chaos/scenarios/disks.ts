/** Disks that are full, cannot be written, or turn bits; and clocks that are wrong. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Device } from "../device-process.ts";
import type { Scenario } from "../scenario.ts";
import { NotHere, type World } from "../world.ts";
import { databaseName } from "./crashes.ts";

const run = promisify(execFile);

/** A disk of its own, in memory. */
async function disk(world: World, name: string, size: string): Promise<string> {
  const folder = join(world.folder, name);
  mkdirSync(folder, { mode: 0o700 });
  try {
    await run("mount", ["-t", "tmpfs", "-o", `size=${size},mode=0700`, "tmpfs", folder]);
  } catch {
    throw new NotHere("no tmpfs can be mounted, so no disk can be made full or read-only");
  }
  world.after(() => run("umount", ["-l", folder]));
  return folder;
}

const fakeTime = [
  "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
  "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
].find((path) => existsSync(path));

/** A process whose clock is off by so many days, from the libraries it runs on. */
function clockOff(days: number): { env: Record<string, string> } {
  if (fakeTime === undefined) {
    throw new NotHere("libfaketime is not installed (apt-get install libfaketime)");
  }
  return {
    env: {
      LD_PRELOAD: fakeTime,
      FAKETIME: `${days > 0 ? "+" : ""}${days}d`,
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
    },
  };
}

/** What a process sees of such a clock: a library that is not taken up would prove nothing. */
async function yearOf(days: number): Promise<number> {
  const { env } = clockOff(days);
  const { stdout } = await run(process.execPath, ["-p", "Date.now()"], {
    env: { ...process.env, ...env },
  });
  const offMs = Number(stdout) - Date.now() - days * 86_400_000;
  if (!(Math.abs(offMs) < 3_600_000)) throw new Error(`libfaketime made ${stdout.trim()} of now`);
  return new Date(Number(stdout)).getUTCFullYear();
}

export const disks: readonly Scenario[] = [
  {
    name: "disk full on the relay",
    run: async (world) => {
      const data = await disk(world, "relay", "32m");
      await world.startRelay({ data });
      const devices = await world.group(2);
      await world.push(devices, 20);
      await world.settle();
      const ballast = join(data, "ballast");
      for (let at = 0; ; at++) {
        try {
          writeFileSync(`${ballast}-${at}`, new Uint8Array(256 * 1024));
        } catch {
          break;
        }
      }
      for (let i = 0; i < 5; i++) await world.push(devices, 50, 4_000);
      for (const device of devices) {
        await device.until("held", ({ held }) => held === "STORE_UNAVAILABLE");
      }
      world.tell("the disk is full: pushes wait on the devices");
      for (let at = 0; existsSync(`${ballast}-${at}`); at++) rmSync(`${ballast}-${at}`);
      world.tell("there is room again, and nobody starts anything anew");
      await world.conclude();
    },
  },
  {
    name: "disk full on the device",
    run: async (world) => {
      const devices = await world.group(2);
      const [first] = devices as [Device];
      const state = await disk(world, "small", "2m");
      const small = await world.join(first, "device 3", { state });
      await world.push([...devices, small], 10);
      await world.settle();
      const ballast = join(state, "ballast");
      for (let at = 0; ; at++) {
        try {
          writeFileSync(`${ballast}-${at}`, new Uint8Array(64 * 1024));
        } catch {
          break;
        }
      }
      let refused = 0;
      for (let i = 0; i < 40; i++) {
        await small.call("push", { count: 1, bytes: 60_000 }).catch(() => (refused += 1));
        await world.push(devices, 2, 20_000);
      }
      if (refused === 0) throw new Error("the disk never got full");
      world.tell(`the disk is full: ${refused} of 40 pushes were refused`);
      for (let at = 0; existsSync(`${ballast}-${at}`); at++) rmSync(`${ballast}-${at}`);
      await run("mount", ["-o", "remount,size=64m", state]);
      await world.push([...devices, small], 5);
      await world.conclude();
    },
  },
  {
    name: "read-only file system",
    run: async (world) => {
      const data = await disk(world, "relay", "64m");
      const told = join(world.folder, "read-only");
      const fail = { match: "^INSERT|^BEGIN|^UPDATE", code: "SQLITE_READONLY", while: told };
      await world.startRelay({ data }, { fail });
      const devices = await world.group(2);
      await world.push(devices, 10);
      await world.settle();
      writeFileSync(told, "");
      await world.push(devices, 30);
      for (const device of devices) {
        await device.until("held", ({ held }) => held === "STORE_UNAVAILABLE");
      }
      world.tell("nothing can be written while the relay runs: pushes wait");
      rmSync(told);
      await world.settle();
      await world.push(devices, 10);
      await world.relay.kill();
      await run("mount", ["-o", "remount,ro", data]);
      if (await world.relay.start()) throw new Error("the relay serves what it cannot write");
      if (!/cannot|read-only|readonly/i.test(world.relayLog())) {
        throw new Error(`no word of what is wrong: ${world.relayLog()}`);
      }
      await run("mount", ["-o", "remount,rw", data]);
      world.tell(
        "a relay on a disk that is read-only does not start, and says why; then it can be written",
      );
      await world.relay.start();
      await world.conclude();
    },
  },
  {
    name: "bit flips in the store",
    run: async (world) => {
      const devices = await world.group(3);
      for (let i = 0; i < 5; i++) await world.push(devices, 40, 600);
      await world.settle();
      const backup = join(world.folder, "backup");
      await world.done(["backup", backup, "--data", world.relay.data, "--with-identity"]);
      await world.push(devices, 20);
      await world.settle();
      await world.relay.stop();
      const file = join(world.relay.data, databaseName);
      const bytes = readFileSync(file);
      for (let i = 0; i < 40; i++) {
        const at = world.chance.int(4_096, bytes.length - 1);
        bytes[at] = (bytes[at] as number) ^ (1 << world.chance.int(0, 7));
      }
      writeFileSync(file, bytes);
      const served = await world.relay.start();
      world.tell(`40 bits were turned; the relay ${served ? "serves" : "does not start"}`);
      await world.push(devices, 20);
      const late = await world.add("device 4");
      late.member = false;
      if (served) {
        for (const device of devices) {
          await device.restart();
          await device.call("push", { count: 5, bytes: 300 });
          await device.until(
            "heard",
            ({ connection, error }) => connection === "online" || error !== "",
          );
        }
      }
      await world.relay.kill();
      await world.done(["restore", backup, "--data", world.relay.data, "--replace"]);
      world.tell("restored from the backup");
      await world.relay.start();
      await world.conclude({ anyOrder: true, integrity: /./ });
    },
  },
  {
    name: "clocks ten years off, the relay's too",
    run: async (world) => {
      for (const days of [-3_650, 3_650]) world.tell(`a clock says ${await yearOf(days)}`);
      await world.startRelay({}, clockOff(3_650));
      const founder = await world.add("device 1", {
        relay: world.relay.address,
        start: clockOff(-3_650),
      });
      await founder.call("found");
      const second = await world.join(founder, "device 2");
      const third = await world.join(founder, "device 3", { start: clockOff(3_650) });
      const devices = [founder, second, third];
      await world.push(devices, 30);
      await Promise.all(
        devices.map((device) => device.call("push", { count: 3, bytes: 90, ttlS: 3_600 })),
      );
      await world.settle();
      world.tell("the clocks jump: the relay's by 20 years back, the devices' anywhere");
      await world.relay.stop();
      world.relay.usual = clockOff(-3_650);
      await world.relay.start();
      await founder.restart(clockOff(3_650));
      await second.restart(clockOff(-3_650));
      await world.push(devices, 30);
      await world.settle();
      await world.relay.kill();
      world.relay.usual = {};
      await world.relay.start();
      await world.push(devices, 10);
      await world.conclude();
    },
  },
];
