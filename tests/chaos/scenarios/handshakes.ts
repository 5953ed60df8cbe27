/** Connections meddled with message by message. */
import type { Device } from "../device-process.ts";
import { flipped, truncated } from "../frames.ts";
import type { Meddle } from "../proxy.ts";
import type { Scenario } from "../scenario.ts";
import { goneOn, underLoad } from "./roads.ts";

/** The handshake's messages: the device's first, the relay's, the device's second. */
const handshake = [
  ["up", 1],
  ["down", 1],
  ["up", 2],
] as const;

function cutAfter(message: number): Scenario {
  const [direction, number] = handshake[message - 1] as (typeof handshake)[number];
  return {
    name: `handshake cut after message ${message}`,
    short: message === 2,
    run: async (world) => {
      const devices = await world.group(2);
      const [first] = devices as [Device, Device];
      const { proxy } = first;
      if (proxy === undefined) throw new Error("no proxy");
      let cuts = 0;
      let passed = false;
      proxy.meddle = (way, at, frame) => {
        if (cuts === 3) return [frame];
        if (passed) {
          passed = false;
          cuts += 1;
          return "cut";
        }
        if (way === direction && at === number) {
          passed = true;
          // Whatever comes next finds the connection cut; where nothing does, it is cut now.
          setImmediate(() => {
            if (!passed) return;
            passed = false;
            cuts += 1;
            proxy.cut();
          });
        }
        return [frame];
      };
      proxy.cut();
      await world.push(devices, 20);
      await first.call("flush");
      if (cuts !== 3) throw new Error(`cut ${cuts} times`);
      world.tell("three handshakes were cut, the fourth was not");
      await world.conclude();
    },
  };
}

/** Transport messages of both directions, each time one that chance draws, are changed so. */
function meddled(
  name: string,
  change: (frame: Buffer, draw: number) => readonly Buffer[],
): Scenario {
  return {
    name: `${name} transport messages`,
    run: async (world) => {
      const devices = await world.group(3);
      const [first] = devices as [Device, Device, Device];
      const { proxy } = first;
      if (proxy === undefined) throw new Error("no proxy");
      let meddledWith = 0;
      let at = 0;
      let way: "up" | "down" = "up";
      let over: (() => void) | undefined;
      const draw = (): void => {
        at = world.chance.int(3, 12);
        way = world.chance.pick(["up", "down"] as const);
      };
      draw();
      const meddle: Meddle = (direction, number, frame) => {
        const data = ((frame[0] as number) & 0x0f) === 2;
        if (!data || direction !== way || number !== at || meddledWith === 10) return [frame];
        meddledWith += 1;
        draw();
        if (meddledWith === 10) over?.();
        return change(frame, world.chance.int(0, 1_000_000));
      };
      proxy.meddle = meddle;
      proxy.cut();
      await underLoad(world, devices, async () => {
        await new Promise<void>((resolve) => {
          over = resolve;
          if (meddledWith === 10) resolve();
        });
        world.tell(`ten messages of device 1 were ${name}, over ${proxy.connections} connections`);
      });
      if (proxy.connections < 10) throw new Error("a connection went on behind such a message");
    },
  };
}

export const handshakes: readonly Scenario[] = [
  cutAfter(1),
  cutAfter(2),
  cutAfter(3),
  {
    name: "five seconds per handshake message",
    run: async (world) => {
      const devices = await world.group(2, { speed: 1 });
      const [first, second] = devices as [Device, Device];
      const { proxy } = first;
      if (proxy === undefined) throw new Error("no proxy");
      proxy.lagMs = 5_000;
      proxy.meddle = (direction, number, frame) => {
        const slow = number > 0 && number <= (direction === "up" ? 2 : 1);
        return slow ? "lag" : [frame];
      };
      proxy.cut();
      await world.push(devices, 20);
      await first.until(
        "turned away",
        ({ connection, error }) => connection === "waiting" && error !== "",
      );
      const { error } = first.standing ?? {};
      world.tell(`15 s are more than a handshake may take: ${error}`);
      await second.call("flush");
      proxy.lagMs = 2_500;
      world.tell("2.5 s per message are not");
      await first.call("flush");
      await world.conclude();
    },
  },
  {
    name: "the same device connecting twice at once",
    run: async (world) => {
      const devices = await world.group(3);
      const [first] = devices as [Device, Device, Device];
      await underLoad(world, devices, async () => {
        for (let i = 0; i < 5; i++) {
          // The relay goes on with the old connection until the new one is welcomed.
          first.proxy?.halfOpen();
          await first.call("connect");
          await goneOn(devices);
        }
      });
    },
  },
  meddled("flipped", (frame, draw) => [flipped(frame, draw)]),
  meddled("truncated", (frame) => [truncated(frame)]),
  meddled("duplicated", (frame) => [frame, frame]),
];
