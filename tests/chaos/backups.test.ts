/** A backup every second for a minute, while devices push as fast as they can. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { backupsUnderLoad } from "../support/backups-under-load.ts";

const rounds = 60;

test("a backup every second for a minute under load: every one verifies and restores", async (t) => {
  const started = performance.now();
  const { backups, pushed } = await backupsUnderLoad(t, async (round) => {
    // One that takes longer than a second is followed by the next at once.
    await sleep(Math.max(0, started + round * 1_000 - performance.now()));
    return round < rounds;
  });
  assert.equal(backups, rounds);
  t.diagnostic(`${backups} backups restored; ${pushed} blobs pushed meanwhile`);
});
