/** Kill -9 under load, again and again: of the relay, and of devices. */
import { Chance } from "../simulation/chance.ts";
import type { Device } from "./device-process.ts";
import type { AppPoint } from "./processes/messages.ts";
import type { KillPoint } from "./processes/points.ts";
import type { Scenario } from "./scenario.ts";
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
      const devices = await world.group(3, { speed: 30 });
      await Promise.all(devices.map((device) => device.call("load", load)));
      const points: Record<string, number> = {};
      const told = (what: string): void => {
        points[what] = (points[what] ?? 0) + 1;
      };
      for (let i = 1; i <= count; i++) {
        await killRelay(world, devices, told);
        await killDevice(world, world.chance.pick(devices), told);
        if (i % 10 === 0) {
          const queued = devices.reduce((sum, { standing }) => sum + (standing?.readCursor ?? 0), 0);
          world.tell(`${i} of ${count} kills each; read cursors add up to ${queued}`);
          process.stderr.write(`kills: ${i} of ${count}\n`);
        }
      }
      await Promise.all(devices.map((device) => device.call("endLoad")));
      await world.conclude();
      const { queued, acknowledged, applied } = world.counted;
      const where = Object.entries(points).map(([point, times]) => `${times} ${point}`);
      process.stdout.write(
        `${count} kills of the relay and ${count} of devices (${where.join(", ")}): ` +
          `${queued} entries pushed, ${acknowledged} seen acknowledged, ${applied} applied on ${devices.length} devices; ` +
          `0 lost, 0 applied twice\n`,
      );
    },
  };
}

/** Half of them where chance wants, half inside a commit of its own choosing. */
async function killRelay(
  world: World,
  devices: readonly Device[],
  told: (what: string) => void,
): Promise<void> {
  const { chance, relay } = world;
  const after = chance.int(1, 40);
  if (chance.chance(0.5)) {
    await someDurable(devices, after);
    await relay.kill();
    told("relay at random");
  } else {
    // The next process carries the point it will end at.
    await relay.kill();
    const at = chance.pick(["before", "inside", "after"] as const);
    const point: KillPoint = { match: "COMMIT", at, count: chance.int(3, 60) };
    if (await relay.start({ kill: point })) await relay.ended();
    told(`relay ${at} COMMIT`);
  }
  await relay.start();
}

async function killDevice(
  world: World,
  device: Device,
  told: (what: string) => void,
): Promise<void> {
  const { chance } = world;
  const kind = chance.int(0, 2);
  if (kind === 0) {
    const target = (device.standing?.applied ?? 0) + chance.int(1, 60);
    await device.until("handed more", ({ applied }) => applied >= target);
    await device.kill();
    told("device at random");
  } else {
    await device.kill();
    const at = chance.pick(["before", "inside", "after"] as const);
    const point = chance.pick(appPoints);
    const opened = await device.start(
      kind === 1
        ? { kill: { match: "^COMMIT", at, count: chance.int(2, 40) } }
        : { dieAt: { point, count: chance.int(1, 30) } },
    );
    // It may end while it is told.
    if (opened) await device.call("load", load).catch(() => undefined);
    await device.ended();
    told(kind === 1 ? `device ${at} COMMIT` : `device ${point}`);
  }
  await device.start();
  await device.call("load", load);
}

/** Until so many more entries are known to be durable, on whichever device. */
async function someDurable(devices: readonly Device[], more: number): Promise<void> {
  const picked = new Chance(more).pick(devices);
  const target = (picked.standing?.durable ?? 0) + more;
  await picked.until("pushing", ({ durable }) => durable >= target);
}
