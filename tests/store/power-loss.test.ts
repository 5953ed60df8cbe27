/**
 * Invariant: whatever a machine that loses power leaves of the write-ahead log, a commit that was reported
 * is there whole, and one that was not is there whole or not at all.
 *
 * A commit is reported when its frames were synced; the files as they were at that moment are what the disk
 * has for certain. Of what was written later it may have any beginning, or pieces in any order.
 */
import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { temporaryFolder } from "./support/folders.ts";
import { batch, blob, device, group, range } from "./support/rows.ts";

const perCommit = 10;
const commits = 5;
/** The header of a frame in the write-ahead log, and the page behind it. */
const frameBytes = 24 + 4_096;

/** The files after so many commits, and how long the log was when each was reported. */
async function committed(t: TestContext) {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  const path = join(folder, databaseName);
  const reported: number[] = [];
  for (let head = perCommit; head <= commits * perCommit; head += perCommit) {
    await store.commit(
      batch({
        groups: [group(1, { head, blobs: head, bytes: head * 400 })],
        devices: [device(1, 1, { lastSeq: head, lastCursor: head })],
        blobs: range(head - perCommit + 1, head).map((cursor) => blob(1, cursor)),
        ageS: head,
      }),
    );
    reported.push((await stat(`${path}-wal`)).size);
  }
  const [database, log] = await Promise.all([readFile(path), readFile(`${path}-wal`)]);
  await store.close();
  return { database, log, reported };
}

/** Commits that a store opened on these files has, after looking that each is whole. */
async function commitsIn(t: TestContext, database: Uint8Array, log: Uint8Array): Promise<number> {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, databaseName), database);
  await writeFile(join(folder, `${databaseName}-wal`), log);
  const store = await openSqliteStore({ folder });
  const loaded = await store.loadGroup(group(1).groupId);
  const head = loaded?.group.head ?? 0;
  const blobs = await store.readBlobs(1, 0, 1_000, { rowsMax: 1_000, bytesMax: 1 << 30 });
  assert.deepEqual(
    blobs,
    range(1, head).map((cursor) => blob(1, cursor)),
  );
  assert.equal(loaded?.devices[0]?.lastCursor ?? 0, head);
  const totals = await store.totals();
  assert.deepEqual([totals.blobs, totals.bytes], [head, head * 400]);
  // And it goes on.
  const next = head + 1;
  await store.commit(
    batch({
      groups: [group(1, { head: next, blobs: next, bytes: next * 400 })],
      devices: [device(1, 1, { lastSeq: next, lastCursor: next })],
      blobs: [blob(1, next)],
    }),
  );
  await store.close();
  return head / perCommit;
}

test("a log cut anywhere keeps every commit it holds whole, and nothing of the next", async (t) => {
  const { database, log, reported } = await committed(t);
  assert.equal(reported.at(-1), log.byteLength);
  for (const [i, end] of reported.entries()) {
    const from = reported[i - 1] ?? 0;
    assert.ok(end > from && (end - from) % frameBytes <= 32, "whole frames, and the log's header");
    assert.equal(await commitsIn(t, database, log.subarray(0, end)), i + 1, "it was reported");
    for (const cut of [end - 1, end - frameBytes, end - frameBytes + 24, from + frameBytes + 40]) {
      if (cut < from) continue;
      assert.equal(await commitsIn(t, database, log.subarray(0, cut)), i, `cut at ${cut}`);
    }
  }
});

test("frames that reached the disk in another order, or as garbage, take the last commit away whole", async (t) => {
  const { database, log, reported } = await committed(t);
  const kept = reported[commits - 2] as number;
  const frames = (log.byteLength - kept) / frameBytes;
  assert.ok(frames >= 2, `${frames} frames`);
  for (let i = 0; i < frames; i++) {
    for (const fill of [0, 0xa5]) {
      const torn = new Uint8Array(log);
      torn.fill(fill, kept + i * frameBytes, kept + (i + 1) * frameBytes);
      assert.equal(await commitsIn(t, database, torn), commits - 1, `frame ${i} is lost`);
    }
  }
});
