/** Entries that are unusual: empty, at the limit, alike; and a device that is far behind. */
import type { Device } from "../device-process.ts";
import type { Scenario } from "../scenario.ts";

export const entries: readonly Scenario[] = [
  {
    name: "empty payload",
    short: true,
    run: async (world) => {
      const devices = await world.group(2);
      await Promise.all(
        devices.map((device) => device.call("push", { count: 3, bytes: 0, raw: "" })),
      );
      await world.push(devices, 3);
      await world.conclude();
    },
  },
  {
    name: "exactly the size limit and one byte more",
    run: async (world) => {
      const devices = await world.group(2);
      const [first] = devices as [Device, Device];
      // Padding makes steps of sizes: the largest content that is taken is looked for.
      let fits = 1;
      let above = 1024 * 1024 + 1;
      const takes = async (bytes: number): Promise<boolean> => {
        try {
          await first.call("push", { count: 1, bytes });
          return true;
        } catch (error) {
          if (error instanceof Error && error.message === "TOO_LARGE") return false;
          throw error;
        }
      };
      while (above - fits > 1) {
        const middle = Math.floor((fits + above) / 2);
        if (await takes(middle)) fits = middle;
        else above = middle;
      }
      world.tell(`${fits} bytes are taken, ${above} are not`);
      if (fits < 900_000 || !(await takes(fits)) || (await takes(above))) {
        throw new Error(`no sharp limit: ${fits}, ${above}`);
      }
      await world.push(devices, 3);
      await world.conclude();
    },
  },
  {
    name: "the same bytes from two devices",
    run: async (world) => {
      const devices = await world.group(2);
      const raw = Buffer.from("the same bytes").toString("hex");
      for (let i = 0; i < 5; i++) {
        await Promise.all(
          devices.map((device) => device.call("push", { count: 2, bytes: 0, raw })),
        );
      }
      await world.conclude();
    },
  },
  {
    name: "a device away for 100,000 blobs",
    run: async (world) => {
      const [first, second] = (await world.group(2)) as [Device, Device];
      await world.push([second], 5);
      await world.settle();
      await second.kill();
      for (let i = 0; i < 200; i++) {
        await first.call("pushDurable", { count: 500, bytes: 200 });
        if (i % 50 === 49) world.tell(`${(i + 1) * 500} entries were pushed`);
      }
      await second.start();
      const beganMs = performance.now();
      await second.until("through", ({ applied }) => applied >= 100_000, 600_000);
      const s = (performance.now() - beganMs) / 1_000;
      world.tell(`device 2 applied 100,000 entries in ${s.toFixed(1)} s`);
      await world.conclude();
    },
  },
];
