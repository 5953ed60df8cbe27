/** What only the store on disk can show: its file, its lock, its limits. */
import assert from "node:assert/strict";
import { mkdir, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as reads from "../../server/store/sqlite-reads.ts";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { pragma, withDatabase } from "./support/raw-database.ts";
import { batch, blob, bytes, control, device, group, invite, range } from "./support/rows.ts";

const wide = { rowsMax: 10_000, bytesMax: 1 << 30 };

test("a store that is opened again has everything, and goes on with its keys", async (t) => {
  const folder = await temporaryFolder(t);
  const first = await openSqliteStore({ folder });
  const mine = group(3, { head: 2, blobs: 2, bytes: 800 });
  const sender = device(3, 7, { witnessCounter: 2, witness: bytes(40, 4) });
  await first.commit(
    batch({
      groups: [mine],
      devices: [sender],
      blobs: [blob(3, 1), blob(3, 2)],
      control: [control(3, 1)],
      invites: [invite(1)],
      ageS: 12_345,
    }),
  );
  await first.close();

  const second = await openSqliteStore({ folder });
  assert.deepEqual(second.opened, {
    nextGroupKey: 4,
    nextDeviceKey: 8,
    nextSnapshotKey: 1,
    nextObjectKey: 1,
    ageS: 12_345,
    clockMs: 0,
    bytes: 800,
    fresh: false,
  });
  assert.deepEqual(await second.loadGroup(mine.groupId), {
    group: mine,
    devices: [sender],
    snapshots: [],
  });
  assert.deepEqual(await second.readBlobs(3, 0, 2, wide), [blob(3, 1), blob(3, 2)]);
  assert.deepEqual(await second.readControl(3, 0, 1), [control(3, 1)]);
  assert.deepEqual(await second.findInvite(invite(1).inviteHash), invite(1));
  assert.equal(second.copyBeforeMigration, undefined);
  await second.close();
});

test("a store with only an invite is not fresh any more", async (t) => {
  const folder = await temporaryFolder(t);
  const first = await openSqliteStore({ folder });
  await first.commit(batch({ invites: [invite(1)] }));
  await first.close();
  const second = await openSqliteStore({ folder });
  assert.equal(second.opened.fresh, false);
  await second.close();
});

test("a witness is not written again with every commit of its device", async (t) => {
  const folder = await temporaryFolder(t);
  const sender = device(1, 1, { witnessCounter: 9, witness: bytes(100, 1) });
  const first = await openSqliteStore({ folder });
  await first.commit(batch({ groups: [group(1)], devices: [sender] }));
  // Another text under the same counter shows that it was left alone.
  await first.commit(batch({ devices: [{ ...sender, lastSeq: 1, witness: bytes(3, 1) }] }));
  const loaded = await first.loadGroup(group(1).groupId);
  assert.deepEqual(loaded?.devices, [{ ...sender, lastSeq: 1 }]);
  await first.close();
});

test("a field of the wrong length fails its commit and nothing else", async (t) => {
  const store = await openSqliteStore({ folder: await temporaryFolder(t) });
  await assert.rejects(
    store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1, { link: bytes(31, 1) })] })),
  );
  await assert.rejects(store.commit(batch({ groups: [group(1, { head: 1.5 })] })));
  await assert.rejects(store.commit(batch({ groups: [group(1, { head: Number.NaN })] })));
  assert.equal((await store.totals()).groups, 0);
  await store.commit(batch({ groups: [group(1)], blobs: [blob(1, 1)] }));
  assert.equal((await store.totals()).groups, 1);
  await store.close();
});

test("folder and files are for their owner only, whatever the umask", async (t) => {
  const folder = join(await temporaryFolder(t), "made", "deep");
  const umask = process.umask(0);
  try {
    const store = await openSqliteStore({ folder });
    await store.commit(batch({ groups: [group(1)] }));
    const names = (await readdir(folder)).sort();
    assert.deepEqual(names, ["lock", "relay.db", "relay.db-shm", "relay.db-wal"]);
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    for (const name of names) {
      assert.equal((await stat(join(folder, name))).mode & 0o777, 0o600, name);
    }
    await store.close();
  } finally {
    process.umask(umask);
  }
});

test("the file is in WAL, gives pages back, and bears the relay's mark", async (t) => {
  const folder = await temporaryFolder(t);
  await (await openSqliteStore({ folder })).close();
  await withDatabase(folder, async (connection) => {
    assert.equal(await pragma(connection, "journal_mode"), "wal");
    assert.equal(await pragma(connection, "auto_vacuum"), 2);
    assert.equal(await pragma(connection, "encoding"), "UTF-8");
    assert.equal(await pragma(connection, "application_id"), 0x53796e52);
    assert.equal(await pragma(connection, "integrity_check"), "ok");
  });
});

test("a folder in use is refused with a sentence that says so, and free after closing", async (t) => {
  const folder = await temporaryFolder(t);
  const first = await openSqliteStore({ folder });
  await assert.rejects(openSqliteStore({ folder }), (error) => {
    assert.ok(error instanceof SyncError);
    assert.equal(error.code, ErrorCode.STORE_UNAVAILABLE);
    assert.match(error.hint ?? "", /another relay uses the data folder/);
    return true;
  });
  // The refusal must not have taken the lock away from its owner.
  await assert.rejects(openSqliteStore({ folder }));
  await first.commit(batch({ groups: [group(1)] }));
  await first.close();
  await (await openSqliteStore({ folder })).close();
});

test("a file that is no database, and one that is damaged, are named so", async (t) => {
  const isUnavailable = (hint: RegExp) => (error: unknown) =>
    error instanceof SyncError &&
    error.code === ErrorCode.STORE_UNAVAILABLE &&
    hint.test(error.hint ?? "") &&
    error.cause instanceof Error;

  const folder = await temporaryFolder(t);
  await (await openSqliteStore({ folder })).close();
  const file = await open(join(folder, databaseName), "r+");
  await file.write("this is no database, it is text", 0);
  await file.close();
  await assert.rejects(openSqliteStore({ folder }), isUnavailable(/not a database/));

  const damaged = await temporaryFolder(t);
  const store = await openSqliteStore({ folder: damaged });
  await store.commit(
    batch({ groups: [group(1)], blobs: range(1, 200).map((cursor) => blob(1, cursor)) }),
  );
  await store.close();
  const second = await open(join(damaged, databaseName), "r+");
  const { size } = await second.stat();
  // Everything but the first page, where the schema begins.
  await second.write(new Uint8Array(size - 4096).fill(0xa5), 0, size - 4096, 4096);
  await second.close();
  await assert.rejects(openSqliteStore({ folder: damaged }), isUnavailable(/damaged/));
});

test("a path that cannot be a data folder is refused with a hint", async (t) => {
  const parent = await temporaryFolder(t);
  const file = await open(join(parent, "file"), "w");
  await file.close();
  for (const folder of [join(parent, "file"), join(parent, "file", "data")]) {
    await assert.rejects(
      openSqliteStore({ folder }),
      (error) => error instanceof SyncError && error.code === ErrorCode.STORE_UNAVAILABLE,
    );
  }
  // A failed opening leaves the folder free.
  const folder = join(parent, "data");
  await mkdir(join(folder, databaseName), { recursive: true });
  await assert.rejects(openSqliteStore({ folder }));
  await assert.rejects(openSqliteStore({ folder }), (error) => {
    assert.ok(error instanceof SyncError);
    assert.doesNotMatch(error.hint ?? "", /another relay/);
    return true;
  });
});

test("no question the relay asks, at opening or later, scans a table that grows", async (t) => {
  const folder = await temporaryFolder(t);
  await (await openSqliteStore({ folder })).close();
  const questions = Object.entries(reads).flatMap(([name, value]) =>
    typeof value === "string" ? [{ name, sql: value }] : [],
  );
  assert.ok(questions.length >= 9, "the questions were not found");
  await withDatabase(folder, async (connection) => {
    for (const { name, sql } of questions) {
      const plan = await connection.query<{ readonly detail: string }>(`EXPLAIN QUERY PLAN ${sql}`);
      const scans = plan
        .map((step) => step.detail)
        .filter((detail) => detail.startsWith("SCAN "))
        .filter(
          (detail) => !/^SCAN (relay|candidates|page|rows|places|p|\d+|\(|pragma)/.test(detail),
        );
      assert.deepEqual(scans, [], name);
    }
  });
});

test("the write-ahead log stays bounded under readers that never pause", async (t) => {
  const folder = await temporaryFolder(t);
  const walBytesMax = 1024 * 1024;
  const store = await openSqliteStore({ folder, walBytesMax });
  await store.commit(batch({ groups: [group(1)] }));
  let over = false;
  const readers = range(1, 4).map(async () => {
    let pages = 0;
    while (!over) {
      await store.readBlobs(1, 0, Number.MAX_SAFE_INTEGER, { rowsMax: 50, bytesMax: 1 << 20 });
      pages++;
    }
    return pages;
  });
  let largest = 0;
  for (let head = 20; head <= 6_000; head += 20) {
    await store.commit(
      batch({
        groups: [group(1, { head })],
        blobs: range(head - 19, head).map((cursor) => blob(1, cursor, { body: bytes(2_000, 1) })),
      }),
    );
    largest = Math.max(largest, (await stat(join(folder, `${databaseName}-wal`))).size);
  }
  over = true;
  for (const pages of await Promise.all(readers)) assert.ok(pages > 0);
  const written = (await store.totals()).fileBytes;
  assert.ok(written > 10 * walBytesMax, `only ${written} bytes were written`);
  assert.ok(largest < 2.5 * walBytesMax, `the log grew to ${largest} bytes`);
  await store.close();
});
