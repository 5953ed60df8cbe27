/** Groups that change while devices are away, and devices that are there twice. */
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Device } from "../device-process.ts";
import type { Scenario } from "../scenario.ts";

export const members: readonly Scenario[] = [
  {
    name: "two simultaneous removals",
    run: async (world) => {
      const devices = await world.group(4);
      const [a, b, c, d] = devices as [Device, Device, Device, Device];
      await world.push(devices, 20);
      await world.settle();
      await Promise.all([a.call("remove", { ids: [c.id] }), b.call("remove", { ids: [d.id] })]);
      for (const gone of [c, d]) {
        gone.member = false;
        await gone.until("removed", ({ membership }) => membership === "removed");
      }
      await world.push([a, b], 20);
      await world.conclude();
      for (const gone of [c, d]) {
        const later = gone.applied().filter((line) => line[0] === "entry" && line[2] > 80);
        if (later.length > 0)
          throw new Error(`${gone.name} was handed what came after its removal`);
      }
    },
  },
  {
    name: "rotation while a device is offline with a full outbox",
    short: true,
    run: async (world) => {
      const devices = await world.group(2);
      const [first, second] = devices as [Device, Device];
      second.proxy?.refuse();
      await second.until("offline", ({ connection }) => connection !== "online");
      for (let i = 0; i < 10; i++) await world.push([second], 100);
      await first.call("rotate");
      await first.call("rotate");
      await world.push([first], 10);
      await second.restart();
      world.tell("device 2 comes back with 1,000 entries of an epoch that is over");
      await world.conclude();
    },
  },
  {
    name: "two tabs of one device",
    run: async (world) => {
      const devices = await world.group(2);
      const [first] = devices as [Device, Device];
      const folder = join(world.folder, "second-tab");
      mkdirSync(folder);
      const tab = new Device({ ...first.choices, folder, state: first.state, name: "tab" });
      const opened = await tab.start();
      const code = await tab.ended();
      if (opened || code !== 75) throw new Error(`the second tab: ${opened} ${code}`);
      world.tell("the second one was refused: the state is locked");
      await world.push(devices, 10);
      await first.restart();
      await world.push(devices, 10);
      await world.conclude();
    },
  },
  {
    name: "a copied device connects beside the first",
    run: async (world) => {
      const devices = await world.group(2);
      const [first, second] = devices as [Device, Device];
      await world.push(devices, 10);
      await world.settle();
      await first.stop();
      const folder = join(world.folder, "copy");
      mkdirSync(folder);
      cpSync(first.state, join(folder, "state"), { recursive: true });
      cpSync(join(first.folder, "applied"), join(folder, "applied"));
      await first.start();
      await first.until("online", ({ connection }) => connection === "online");
      const copy = new Device({
        ...first.choices,
        folder,
        name: "copy",
        state: join(folder, "state"),
      });
      await copy.start();
      world.after(() => copy.kill());
      await first.until(
        "replaced",
        ({ connection, error }) => connection === "stopped" && error === "REPLACED",
      );
      world.tell("the relay goes on with the copy, and the first does not come back by itself");
      await copy.kill();
      await first.call("connect");
      await world.push([first, second], 10);
      await world.conclude();
    },
  },
  {
    name: "a phrase used on two machines",
    run: async (world) => {
      const devices = await world.group(2);
      const [first] = devices as [Device, Device];
      await world.push(devices, 10);
      const words = await first.call<string[]>("phrase");
      await world.settle();
      const relay = world.relay.address;
      const machines = [
        await world.add("machine 1", { relay }),
        await world.add("machine 2", { relay }),
      ];
      await Promise.all(machines.map((machine) => machine.call("recover", { words })));
      for (const machine of machines) {
        await machine.until("a member", ({ membership }) => membership === "member");
      }
      world.tell("both are members, each as a device of its own");
      await world.push([...devices, ...machines], 10);
      await world.conclude();
    },
  },
];
