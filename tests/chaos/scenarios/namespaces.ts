/** Real packets between network namespaces: what a proxy cannot do, because TCP stands in between. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Device } from "../device-process.ts";
import type { Scenario } from "../scenario.ts";
import { NotHere, type World } from "../world.ts";
import { goneOn, lasts, load } from "./roads.ts";

const run = promisify(execFile);

interface Namespaces {
  readonly devices: readonly Device[];
  /** In the namespace of a device. */
  inside(device: number, command: string, ...args: readonly string[]): Promise<unknown>;
  link(device: number, state: "up" | "down"): Promise<unknown>;
}

/** A relay in a namespace, and each device in one of its own, on a bridge. */
async function namespaces(world: World, count: number): Promise<Namespaces> {
  const id = `sr${process.pid % 10_000}`;
  const net = `10.${200 + (process.pid % 50)}.${world.chance.int(0, 250)}`;
  const ip = async (...args: readonly string[]): Promise<unknown> => await run("ip", args);
  const bridge = `${id}b`;
  try {
    await ip("link", "add", bridge, "type", "bridge");
    world.after(() => ip("link", "del", bridge).catch(() => undefined));
    await ip("link", "set", bridge, "up");
    for (let i = 0; i <= count; i++) {
      const name = `${id}n${i}`;
      await ip("netns", "add", name);
      world.after(() => ip("netns", "del", name).catch(() => undefined));
      await ip("link", "add", `${id}v${i}`, "type", "veth", "peer", "name", "eth0", "netns", name);
      await ip("link", "set", `${id}v${i}`, "master", bridge, "up");
      await ip("-n", name, "addr", "add", `${net}.${i + 1}/24`, "dev", "eth0");
      await ip("-n", name, "link", "set", "eth0", "up");
      await ip("-n", name, "link", "set", "lo", "up");
    }
  } catch (error) {
    throw new NotHere(`no network namespaces: ${String(error).split("\n", 1)[0]}`);
  }
  const under = (i: number): string[] => ["ip", "netns", "exec", `${id}n${i}`];
  await world.startRelay({ host: `${net}.1` }, { under: under(0) });
  const devices: Device[] = [];
  for (let i = 1; i <= count; i++) {
    const choices = { direct: true, start: { under: under(i) }, relay: world.relay.address };
    const device = await world.add(`device ${i}`, choices);
    if (i === 1) await device.call("found");
    else await world.pair(devices[0] as Device, device);
    devices.push(device);
  }
  world.tell(`a relay and ${count} devices, each in a network namespace of its own`);
  return {
    devices,
    inside: async (i, ...command) => await run("ip", ["netns", "exec", `${id}n${i}`, ...command]),
    link: async (i, state) => await ip("link", "set", `${id}v${i}`, state),
  };
}

async function begin(devices: readonly Device[]): Promise<void> {
  await Promise.all(devices.map((device) => device.call("load", { ...load, everyMs: 10 })));
  await goneOn(devices);
}

async function end(world: World, devices: readonly Device[]): Promise<void> {
  await goneOn(devices);
  await Promise.all(devices.map((device) => device.call("endLoad")));
  await world.conclude();
}

function netem(name: string, ...rule: readonly string[]): Scenario {
  return {
    name: `packets: ${name}`,
    run: async (world) => {
      const { devices, inside } = await namespaces(world, 3);
      await begin(devices);
      for (let i = 1; i <= 3; i++) {
        await inside(i, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", ...rule).catch(
          (error: unknown) => {
            throw new NotHere(`this kernel has no netem (${String(error).split("\n")[1] ?? ""})`);
          },
        );
      }
      world.tell(`netem ${rule.join(" ")}`);
      for (let i = 0; i < 3; i++) await goneOn(devices);
      await end(world, devices);
    },
  };
}

export const packets: readonly Scenario[] = [
  {
    name: "packets: a fifth is lost",
    run: async (world) => {
      const { devices, inside } = await namespaces(world, 3);
      await begin(devices);
      const rule = ["-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DROP"];
      for (let i = 1; i <= 3; i++) {
        for (const chain of ["INPUT", "OUTPUT"]) {
          await inside(i, "iptables", "-A", chain, ...rule).catch((error: unknown) => {
            throw new NotHere(`no iptables: ${String(error).split("\n", 1)[0]}`);
          });
        }
      }
      world.tell("of each device a fifth of all packets is lost, each way");
      for (let i = 0; i < 3; i++) await goneOn(devices);
      await end(world, devices);
    },
  },
  {
    name: "packets: links go down and come back",
    run: async (world) => {
      const { devices, link } = await namespaces(world, 3);
      await begin(devices);
      for (let i = 0; i < 5; i++) {
        const which = world.chance.int(1, 3);
        const ms = world.chance.int(200, 4_000);
        world.tell(`the link of device ${which} is down for ${ms} ms`);
        await link(which, "down");
        await lasts(ms);
        await link(which, "up");
        await goneOn(devices);
      }
      await end(world, devices);
    },
  },
  {
    name: "packets: 256 kbit/s by tc",
    run: async (world) => {
      const { devices, inside } = await namespaces(world, 2);
      await begin(devices);
      for (let i = 1; i <= 2; i++) {
        const rate = ["rate", "256kbit", "burst", "4kb", "latency", "400ms"];
        await inside(i, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", ...rate).catch(() => {
          throw new NotHere("this kernel has no tbf");
        });
      }
      await end(world, devices);
    },
  },
  netem("late, jittery and out of order", "delay", "60ms", "40ms", "reorder", "25%", "50%"),
  netem("doubled and damaged", "duplicate", "5%", "corrupt", "1%"),
];
