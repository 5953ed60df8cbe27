/** Backups of a relay while devices push as fast as they can: each must verify and restore. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { runRelay } from "../cli/world.ts";
import { content, pairedDevices, TestRelay, testFolder } from "../integration/support.ts";

export interface BackupsUnderLoad {
  readonly backups: number;
  /** Blobs that were pushed while they were made. */
  readonly pushed: number;
}

/** `pace` waits before each backup; undefined where there is no more to come. */
export async function backupsUnderLoad(
  t: TestContext,
  pace: (round: number) => Promise<boolean>,
): Promise<BackupsUnderLoad> {
  const relay = await TestRelay.start(t, {
    listenAdmin: "127.0.0.1:0",
    founding: "open",
    limits: { groupBytesMax: 2 ** 32, storeBytesMax: 2 ** 32 },
  });
  const devices = await pairedDevices(t, relay, 2);
  const folder = await testFolder(t);
  let loading = true;
  let pushed = 0;
  const load = devices.map(async ({ client }) => {
    while (loading) {
      await client.pushMany(Array.from({ length: 20 }, () => ({ data: content(1_000) })));
      await client.flush();
      pushed += 20;
    }
  });
  let backups = 0;
  let blobsBefore = -1;
  for (; await pace(backups); backups++) {
    const file = join(folder, "backup");
    const data = join(folder, "data");
    const backup = await runRelay(["backup", file, "--data", relay.data, "--with-identity"]);
    assert.equal(backup.code, 0, backup.stderr);
    const restored = await runRelay(["restore", file, "--data", data, "--json"]);
    assert.equal(restored.code, 0, restored.stderr);
    const { blobs } = JSON.parse(restored.stdout) as { readonly blobs: number };
    assert.ok(blobs > blobsBefore, `${blobs} after ${blobsBefore}`);
    blobsBefore = blobs;
    const store = await openSqliteStore({ folder: data });
    assert.equal((await store.totals()).blobs, blobs);
    await store.close();
    await rm(data, { recursive: true });
    await rm(file);
  }
  loading = false;
  await Promise.all(load);
  return { backups, pushed };
}
