/** The way back with real devices: a relay restored from an older backup, here and on another machine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Status, SyncClient } from "../../client/index.ts";
import { runRelay } from "../cli/world.ts";
import { backupsUnderLoad } from "../support/backups-under-load.ts";
import {
  content,
  joinDevice,
  pairedDevices,
  TestRelay,
  take,
  testFolder,
  until,
} from "./support.ts";

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

async function command(args: readonly string[]): Promise<void> {
  const run = await runRelay(args);
  assert.equal(run.code, 0, run.stderr);
}

test("backups under load: every one verifies and restores", async (t) => {
  const { backups, pushed } = await backupsUnderLoad(t, (round) => Promise.resolve(round < 4));
  assert.equal(backups, 4);
  assert.ok(pushed > 0);
});

/** Two devices that push before and after a backup, with a third that joins after it. */
async function backedUpGroup(t: TestContext, relay: TestRelay, file: string) {
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  const pushed: string[] = [];
  const push = async (client: SyncClient, count: number): Promise<void> => {
    const items = Array.from({ length: count }, () => ({ data: content(300) }));
    pushed.push(...items.map(({ data }) => hexOf(data)));
    await client.pushMany(items);
    await client.flush();
  };
  await push(a.client, 20);
  await push(b.client, 20);
  await command(["backup", file, "--data", relay.data, "--with-identity"]);
  // What the backup does not hold: entries of both, a new member, and a new epoch.
  await push(a.client, 15);
  const c = await joinDevice(t, a, "joined after the backup");
  await b.client.rotate();
  await Promise.all([a, b, c].map(({ client }) => until(client, ({ epoch }) => epoch === 2)));
  await push(c.client, 5);
  await push(b.client, 15);
  const devices = [a, b, c];
  const integrity: unknown[] = [];
  for (const { client } of devices) client.on("integrity", (event) => integrity.push(event));
  return { devices, pushed, push, integrity };
}

test("PROTOCOL 11.3: devices of a relay restored from an older backup converge, and nothing of theirs is lost", async (t) => {
  const relay = await TestRelay.start(t, { listenAdmin: "127.0.0.1:0" });
  const file = join(await testFolder(t), "backup");
  const { devices, pushed, push, integrity } = await backedUpGroup(t, relay, file);
  const [a, b, c] = devices;
  assert.ok(a && b && c);
  await relay.stop();
  await command(["restore", file, "--data", relay.data, "--replace"]);
  await relay.start();
  const whole = (status: Status): boolean =>
    status.connection.state === "online" && status.queued === 0 && status.readCursor === 75;
  await Promise.all(devices.map(({ client }) => until(client, whole)));
  await push(c.client, 5);
  await push(a.client, 5);
  // Whoever comes last finds all of it, once, and everybody the same.
  const late = await joinDevice(t, b, "came after the restore");
  const taken = (await take(late.client, 85)).map(({ hex }) => hex);
  assert.deepEqual(taken.toSorted(), pushed.toSorted());
  for (const { client } of devices) {
    const seen: string[] = [];
    for await (const { data } of client.history({ after: 0, until: 85 })) seen.push(hexOf(data));
    assert.deepEqual(seen, taken);
  }
  assert.deepEqual(integrity, []);
  await relay.stop();
  await command(["drill", "--data", relay.data]);
});

test("a move to another machine: the same address key, and devices go on as if nothing was", async (t) => {
  const relay = await TestRelay.start(t, { listenAdmin: "127.0.0.1:0" });
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  await a.client.pushMany(Array.from({ length: 30 }, () => ({ data: content() })));
  await a.client.flush();
  await until(b.client, ({ readCursor }) => readCursor === 30);
  const file = join(await testFolder(t), "move-me");
  await relay.stop();
  await command(["backup", file, "--data", relay.data, "--with-identity"]);
  const there = join(await testFolder(t), "there");
  await command(["restore", file, "--data", there]);
  const moved = await TestRelay.start(t, {
    listen: `127.0.0.1:${relay.port}`,
    data: there,
    listenAdmin: "127.0.0.1:0",
  });
  assert.equal(moved.address, a.client.status().relay ?? moved.address);
  await b.client.push(content());
  await b.client.flush();
  await until(a.client, ({ readCursor }) => readCursor === 31);
  assert.equal((await take(b.client, 31)).length, 31);
});
