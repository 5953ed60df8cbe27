/** Bad roads: late, lossy, narrow, broken. */
import { setTimeout as passing } from "node:timers/promises";
import type { Device } from "../device-process.ts";
import type { Way } from "../proxy.ts";
import type { Scenario } from "../scenario.ts";
import type { World } from "../world.ts";

/** Devices whose handshakes are given the time the protocol gives them. */
const unhurried = { speed: 1 };

/** Three devices on such a road push and read. */
function onRoad(
  name: string,
  up: Partial<Way>,
  down: Partial<Way> = up,
  more: { entries?: number; bytes?: number; short?: boolean } = {},
): Scenario {
  return {
    name,
    ...(more.short === undefined ? {} : { short: more.short }),
    run: async (world) => {
      const devices = await world.group(3, unhurried);
      for (const { proxy } of devices) {
        Object.assign(proxy?.up ?? {}, up);
        Object.assign(proxy?.down ?? {}, down);
        proxy?.cut();
      }
      world.tell("the road changes, and every connection is a new one on it");
      for (let i = 0; i < 5; i++) await world.push(devices, more.entries ?? 30, more.bytes ?? 400);
      await settledOnRoad(world);
    },
  };
}

/** In sync while the road is as bad as ever. */
async function settledOnRoad(world: World): Promise<void> {
  await world.settle();
  world.tell("in sync on that road");
  await world.conclude();
}

/** Waits until each has pushed something durable and was handed something, since now. */
async function goneOn(devices: readonly Device[]): Promise<void> {
  const before = devices.map(({ standing }) => standing);
  await Promise.all(
    devices.map((device, i) =>
      device.until("going on", ({ durable, applied }) => {
        const was = before[i];
        return durable > (was?.durable ?? 0) && applied > (was?.applied ?? 0);
      }),
    ),
  );
}

const load = { count: 5, bytes: 300, window: 4 };

async function underLoad(
  world: World,
  devices: readonly Device[],
  fault: () => Promise<void>,
): Promise<void> {
  await Promise.all(devices.map((device) => device.call("load", { ...load, everyMs: 10 })));
  await goneOn(devices);
  await fault();
  await goneOn(devices);
  await Promise.all(devices.map((device) => device.call("endLoad")));
  await world.conclude();
}

/** Time in which nothing else is to happen: the fault itself lasts so long. */
export async function lasts(ms: number): Promise<void> {
  await passing(ms);
}

export const roads: readonly Scenario[] = [
  onRoad("latency 200 ms", { latencyMs: 200 }),
  onRoad("jitter ±150 ms", { latencyMs: 50, jitterMs: 300 }),
  onRoad("asymmetric", { latencyMs: 20, bytesPerS: 8_000 }, { latencyMs: 300, bytesPerS: 1e6 }),
  onRoad("satellite", { latencyMs: 300, jitterMs: 40, bytesPerS: 64_000 }),
  onRoad("loss 5%", { latencyMs: 20, loss: 0.05 }),
  onRoad("loss 20%", { latencyMs: 20, loss: 0.2 }),
  {
    name: "loss in bursts",
    run: async (world) => {
      const devices = await world.group(3);
      await underLoad(world, devices, async () => {
        for (let i = 0; i < 8; i++) {
          const device = world.chance.pick(devices);
          const ms = world.chance.int(100, 900);
          world.tell(`everything of ${device.name} is lost for ${ms} ms`);
          device.proxy?.stall();
          await lasts(ms);
          device.proxy?.resume();
          await goneOn(devices);
        }
      });
    },
  },
  {
    name: "loss total for 30 s",
    run: async (world) => {
      const devices = await world.group(3, unhurried);
      await underLoad(world, devices, async () => {
        world.tell("nothing gets through to anybody for 30 s");
        for (const { proxy } of devices) proxy?.stall();
        await lasts(30_000);
        for (const { proxy } of devices) proxy?.resume();
      });
    },
  },
  {
    name: "both devices cut off",
    short: true,
    run: async (world) => {
      const devices = await world.group(2);
      await world.push(devices, 10);
      for (const { proxy } of devices) proxy?.refuse();
      await Promise.all(
        devices.map((device) =>
          device.until("offline", ({ connection }) => connection !== "online"),
        ),
      );
      world.tell("both are cut off, and push");
      for (let i = 0; i < 5; i++) await world.push(devices, 40);
      for (const device of devices) {
        if (device.standing?.inSync === true) throw new Error(`${device.name} says it is in sync`);
      }
      await world.conclude();
    },
  },
  {
    name: "ten reconnects in five seconds",
    run: async (world) => {
      const devices = await world.group(3);
      const [, second] = devices as [Device, Device, Device];
      await underLoad(world, devices, async () => {
        const until = performance.now() + 5_000;
        for (let i = 0; i < 10; i++) {
          await second.until("online", ({ connection }) => connection === "online");
          second.proxy?.cut();
          await second.until("cut off", ({ connection }) => connection !== "online");
          await second.call("connect");
        }
        const lateMs = Math.max(0, performance.now() - until);
        world.tell(`ten reconnects, ${lateMs === 0 ? "within" : "in more than"} five seconds`);
      });
    },
  },
  {
    name: "half-open connection",
    run: async (world) => {
      const devices = await world.group(3, { speed: 10 });
      const [first, second] = devices as [Device, Device, Device];
      await underLoad(world, devices, async () => {
        world.tell(
          "device 1 goes on from a connection that the relay believes in; device 2's goes silent",
        );
        first.proxy?.halfOpen();
        second.proxy?.silence();
      });
    },
  },
  onRoad("56 kbit/s", { latencyMs: 100, bytesPerS: 7_000 }, undefined, { entries: 10, bytes: 600 }),
  {
    name: "bandwidth falling in mid-transfer",
    run: async (world) => {
      const devices = await world.group(2, unhurried);
      const [first, second] = devices as [Device, Device];
      first.proxy?.road({ bytesPerS: 4_000_000 });
      second.proxy?.road({ bytesPerS: 4_000_000 });
      for (let i = 0; i < 8; i++) await world.push([first], 10, 20_000);
      await second.until("reading", ({ applied }) => applied > 0);
      world.tell("4 MB/s become 100 kB/s, then 30 kB/s");
      for (const { proxy } of devices) proxy?.road({ bytesPerS: 100_000 });
      await world.push([second], 20, 10_000);
      for (const { proxy } of devices) proxy?.road({ bytesPerS: 30_000 });
      await settledOnRoad(world);
    },
  },
  {
    name: "a fast and a slow device together",
    run: async (world) => {
      const devices = await world.group(3, unhurried);
      const [fast, slow, other] = devices as [Device, Device, Device];
      slow.proxy?.road({ latencyMs: 200, bytesPerS: 20_000 });
      for (let i = 0; i < 20; i++) await world.push([fast], 50, 300);
      await world.push([slow], 20);
      await fast.call("flush");
      await other.until("through", ({ applied }) => applied >= 1_000);
      const behind = slow.standing?.applied ?? 0;
      if (behind >= 1_000) throw new Error("the slow device was not slow");
      world.tell(`the fast ones have 1,000 entries, the slow one ${behind}`);
      await settledOnRoad(world);
    },
  },
  {
    name: "relay restart with everybody reconnecting at once",
    run: async (world) => {
      const devices = await world.group(world.short ? 3 : 8);
      await underLoad(world, devices, async () => {
        await world.relay.stop();
        world.tell("the relay was stopped");
        await world.relay.start();
      });
    },
  },
  {
    name: "pushing while pulling",
    run: async (world) => {
      const [first, second] = (await world.group(2)) as [Device, Device];
      second.proxy?.refuse();
      for (let i = 0; i < 20; i++) await world.push([first], 100, 400);
      await first.call("flush");
      second.proxy?.heal();
      second.proxy?.road({ bytesPerS: 300_000 });
      await second.until("pulling", ({ applied }) => applied > 0);
      await Promise.all([first, second].map((device) => device.call("load", load)));
      await goneOn([first, second]);
      await Promise.all([first, second].map((device) => device.call("endLoad")));
      await world.conclude();
    },
  },
  {
    name: "two devices pushing at once",
    run: async (world) => {
      const devices = await world.group(2);
      for (let i = 0; i < 10; i++) await world.push(devices, 25);
      await world.conclude();
    },
  },
  {
    name: "five devices",
    run: async (world) => {
      const devices = await world.group(5);
      await underLoad(world, devices, async () => {
        for (let i = 0; i < 5; i++) {
          const device = world.chance.pick(devices);
          world.tell(`the connection of ${device.name} breaks`);
          device.proxy?.cut();
          await goneOn(devices);
        }
      });
    },
  },
];

export { goneOn, load, underLoad };
