/** How soon a removed device is cut off, in virtual time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RaceDevice } from "../simulation/race-nodes.ts";
import { VirtualWorld } from "./virtual.ts";

test("PROTOCOL 8.9: a removed device's session ends within a second of the removal, however busy it is", async () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const virtual = new VirtualWorld(seed);
    const { world } = virtual;
    const [a, b] = (await virtual.group(3)) as [RaceDevice, RaceDevice];
    const pushing = (): void => {
      b.client.push(new Uint8Array(20)).then(
        () => world.after(3, pushing),
        // Removed: it takes no more.
        () => undefined,
      );
    };
    pushing();
    await virtual.run(100);
    let committedMs: number | undefined;
    let endedMs: number | undefined;
    a.client.remove([b.client.deviceId]).then(
      () => {
        committedMs = world.nowMs;
      },
      () => assert.fail("the removal is refused"),
    );
    b.client.on("status", ({ connection }) => {
      if (connection.state === "stopped") endedMs ??= world.nowMs;
    });
    await virtual.until(() => committedMs !== undefined && endedMs !== undefined);
    // The remover hears of the commit when the removed device does: as far as each is away.
    assert.ok(Math.abs((endedMs as number) - (committedMs as number)) < 1_000);
    assert.equal(b.client.status().membership, "removed");
    assert.equal(b.client.status().connection.state, "stopped");
  }
});

test("PROTOCOL 4.5: a device that was away when it was removed is told so when it comes, and is sent nothing", async () => {
  const virtual = new VirtualWorld();
  const [a, b] = (await virtual.group(2)) as [RaceDevice, RaceDevice];
  b.crash();
  await virtual.ended(a.client.remove([b.client.deviceId]));
  await virtual.push(a, "for those who remain");
  await b.start();
  const before = b.client.status().readCursor;
  await virtual.until(() => b.client.status().membership === "removed");
  const { epoch, readCursor } = b.client.status();
  assert.deepEqual([epoch, readCursor, b.taken.length], [1, before, 0]);
});
