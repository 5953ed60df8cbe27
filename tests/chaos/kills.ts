/** Kill -9 under load, again and again: of the relay, and of devices. */
import { Chance } from "../simulation/chance.ts";
import type { Device } from "./device-process.ts";
import type { AppPoint } from "./processes/messages.ts";
import type { KillPoint } from "./processes/points.ts";
import type { Scenario } from "./scenario.ts";
import { describeCounted } from "./truth.ts";
import type { World } from "./world.ts";

const load = { count: 4, bytes: 300, window: 6, everyMs: 15 };
const appPoints: readonly AppPoint[] = [
  "before-apply",
  "after-apply",
  "after-ack",
  "queued",
  "durable",
];

/** So many kills of the relay and so many of devices; none may cost anything. */
export function kills(count: number): Scenario {
  return {
    name: "kills",
    run: async (world) => {
      const devices = await world.group(3);
      await Promise.all(devices.map((device) => device.call("load", load)));
      const points: Record<string, number> = {};
      const told = (what: string): void => {
        points[what] = (points[what] ?? 0) + 1;
      };
      await Promise.all([
        killRelay(world, devices, count, told),
        killDevices(world, devices, count, told),
      ]);
      await Promise.all(devices.map((device) => device.call("endLoad")));
      await world.conclude();
      const where = Object.entries(points).map(([point, times]) => `${times} ${point}`);
      process.stdout.write(
        `${count} kills of the relay and ${count} of devices (${where.join(", ")}): ` +
          `${world.counted === undefined ? "" : describeCounted(world.counted)}, on ${devices.length} devices\n`,
      );
    },
  };
}

/** Half of them where chance wants, half at a commit that was chosen when the process started. */
async function killRelay(
  world: World,
  devices: readonly Device[],
  count: number,
  told: (what: string) => void,
): Promise<void> {
  const { relay } = world;
  // Draws of its own: what happens to the devices meanwhile changes none of them.
  const chance = new Chance(world.chance.int(0, 2 ** 31));
  let point: KillPoint | undefined;
  for (let i = 1; i <= count; i++) {
    if (point === undefined) {
      await someDurable(chance.pick(devices), chance.int(1, 40));
      await relay.kill();
      told("relay at random");
    } else {
      await relay.ended();
      told(`relay ${point.at} a commit`);
    }
    const at = chance.pick(["before", "inside", "after"] as const);
    const next = { match: "^INSERT INTO temp\\.", at, count: chance.int(3, 40) };
    point = i < count && chance.chance(0.5) ? next : undefined;
    // It may end before it serves.
    await relay.start(point === undefined ? {} : { kill: point });
    if (i % 10 === 0) {
      world.tell(`${i} of ${count} kills of the relay`);
      process.stderr.write(`kills: the relay ${i} of ${count}\n`);
    }
  }
}

async function killDevices(
  world: World,
  devices: readonly Device[],
  count: number,
  told: (what: string) => void,
): Promise<void> {
  const chance = new Chance(world.chance.int(0, 2 ** 31));
  const points = new Map<Device, string>();
  for (let i = 1; i <= count; i++) {
    const device = chance.pick(devices);
    const point = points.get(device);
    if (point === undefined) {
      await someDurable(device, chance.int(1, 40));
      await device.kill();
    } else {
      await device.ended();
    }
    told(point ?? "device at random");
    points.delete(device);
    const at = chance.pick(["before", "inside", "after"] as const);
    const app = chance.pick(appPoints);
    const many = chance.int(2, 30);
    const kind = i < count - devices.length ? chance.int(0, 2) : 0;
    if (kind === 1) {
      points.set(device, `device ${at} a commit`);
      await device.start({ kill: { match: "^COMMIT", at, count: many } });
    } else if (kind === 2) {
      points.set(device, `device ${app}`);
      await device.start({ dieAt: { point: app, count: many } });
    } else {
      await device.start();
    }
    // It may end while it is told.
    if (device.running) await device.call("load", load).catch(() => undefined);
    if (i % 10 === 0) process.stderr.write(`kills: devices ${i} of ${count}\n`);
  }
  // Whoever still carries a point goes on without one.
  for (const device of points.keys()) {
    await device.restart();
    await device.call("load", load);
  }
}

/** Until so many more entries of a device are known to be durable; or it ended, at a point it carried. */
async function someDurable(device: Device, more: number): Promise<void> {
  const target = (device.standing?.durable ?? 0) + more;
  const begun = device.starts;
  await device
    .until("pushing", ({ durable }) => durable >= target || device.starts !== begun)
    .catch((error: unknown) => {
      if (device.running && device.starts === begun) throw error;
    });
}
