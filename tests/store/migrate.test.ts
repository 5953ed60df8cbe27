/** How a store gets from one schema to the next, and what is refused. */
import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { pathToFileURL } from "node:url";
import { noLife } from "../../server/store/life.ts";
import { migrationsFolder } from "../../server/store/migrate.ts";
import { restoreBackup } from "../../server/store/restore.ts";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { verifyStore } from "../../server/store/verify.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { ChainedGroup } from "./support/chains.ts";
import { temporaryFolder } from "./support/folders.ts";
import { pragma, withDatabase } from "./support/raw-database.ts";
import { batch, bytes, group } from "./support/rows.ts";

/** The migrations there are, and one more that says `sql`. */
async function withNextMigration(
  t: TestContext,
  sql: string,
): Promise<{ folder: URL; newest: number }> {
  const path = join(await temporaryFolder(t), "migrations");
  await mkdir(path);
  const names = (await readdir(migrationsFolder)).filter((name) => name.endsWith(".sql"));
  for (const name of names) await copyFile(new URL(name, migrationsFolder), join(path, name));
  const newest = names.length + 1;
  await writeFile(join(path, `${String(newest).padStart(4, "0")}-next.sql`), sql);
  return { folder: pathToFileURL(`${path}/`), newest };
}

const nowMs = Date.UTC(2026, 10, 24, 14, 30);
const addColumn = "ALTER TABLE groups ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';";

async function filledFolder(t: TestContext): Promise<string> {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  await store.commit(new ChainedGroup(1).next(1));
  await store.close();
  return folder;
}

test("the migrations are numbered without a gap, and a new store has the last one's number", async (t) => {
  const names = (await readdir(migrationsFolder)).sort();
  names.forEach((name, index) => {
    assert.match(name, /^\d{4}-[a-z0-9-]+\.sql$/);
    assert.equal(Number(name.slice(0, 4)), index + 1);
  });
  const folder = await filledFolder(t);
  await withDatabase(folder, async (connection) => {
    assert.equal(await pragma(connection, "user_version"), names.length);
  });
});

test("of an existing store a backup is made, named by schema and time, and the older version goes back to it", async (t) => {
  const folder = await filledFolder(t);
  const { folder: migrations, newest } = await withNextMigration(t, addColumn);
  const migrated = await openSqliteStore({ folder, migrations, nowMs });
  const copy = join(folder, `${databaseName}.schema-${newest - 1}-20261124T143000Z`);
  assert.equal(migrated.copyBeforeMigration, copy);
  assert.equal((await stat(copy)).mode & 0o777, 0o600);
  assert.equal((await migrated.loadGroup(group(1).groupId))?.group.head, 1);
  await migrated.close();
  await withDatabase(folder, async (connection) => {
    assert.equal(await pragma(connection, "user_version"), newest);
    assert.deepEqual(await connection.query("SELECT colour FROM groups"), [{ colour: "blue" }]);
  });

  const again = await openSqliteStore({ folder, migrations });
  assert.equal(again.copyBeforeMigration, undefined);
  await again.close();

  // The version before refuses and names the way back, which works.
  await assert.rejects(openSqliteStore({ folder }), (error) => {
    assert.ok(error instanceof SyncError);
    assert.equal(error.code, ErrorCode.STORE_UNAVAILABLE);
    assert.match(error.hint ?? "", /newer version/);
    assert.ok(error.hint?.includes(`sync-relay restore ${copy} --data ${folder} --replace`));
    return true;
  });
  await restoreBackup({ backup: copy, folder, replace: true, nowMs });
  const back = await openSqliteStore({ folder });
  assert.deepEqual(
    (await back.readBlobs(1, 0, 9, { rowsMax: 9, bytesMax: 9_999 })).map((row) => row.cursor),
    [1],
  );
  await back.close();
});

test("a store of the first version opens, with what it had counted anew", async (t) => {
  const folder = await temporaryFolder(t);
  const fixture = new URL("./fixtures/schema-1.db", import.meta.url);
  await copyFile(fixture, join(folder, databaseName));
  const before = await withDatabase(folder, (connection) =>
    connection.query<{ id: Uint8Array; bytes: number; control: number; age_s: number }>(
      `SELECT g.group_id AS id, g.bytes, relay.age_s,
        (SELECT sum(length(c.bytes) + 96) FROM control c WHERE c.group_key = g.group_key) AS control
        FROM groups g, relay`,
    ),
  );
  assert.ok(before.length >= 2);
  const store = await openSqliteStore({ folder });
  assert.ok(store.copyBeforeMigration?.includes(".schema-1-"));
  const { age_s: ageS = -1 } = before[0] ?? {};
  for (const { id, bytes: counted, control } of before) {
    const loaded = await store.loadGroup(new Uint8Array(id));
    assert(loaded);
    const { group: row, devices } = loaded;
    assert.deepEqual(
      [row.bytes, row.controlBytes, row.snapshotBytes, row.replacedThrough, row.snapshotAgeS],
      [counted, control, 0, 0, ageS],
    );
    assert.ok(control > 0);
    assert.ok(devices.length > 0 && devices.every(({ seenAgeS }) => seenAgeS === ageS));
    // And it takes what this version writes.
    const trims = [{ groupKey: row.groupKey, after: 0, through: row.head, headers: true }];
    const emptied = { floor: row.head, replacedThrough: row.head, blobs: 0, bytes: 0 };
    const snapshots = [
      {
        row: {
          snapshotKey: row.groupKey,
          groupKey: row.groupKey,
          snapshotId: bytes(32, row.groupKey),
          deviceKey: 1,
          replacesThrough: row.head,
          storedAgeS: ageS,
          effective: true,
          confirmedBy: 0,
          manifestBytes: 10,
        },
        manifest: bytes(10, 1),
        signature: bytes(64, 1),
        confirmation: bytes(0, 1),
      },
    ];
    const life = { ...noLife, trims, snapshots };
    await store.commit(batch({ groups: [{ ...row, ...emptied, snapshotBytes: 266 }], life }));
  }
  assert.equal((await store.totals()).bytes, 266 * before.length);
  await store.close();
  assert.deepEqual((await verifyStore(join(folder, databaseName))).findings, []);
});

test("a store of the second version opens with everything in it, and without rates of its own", async (t) => {
  const folder = await temporaryFolder(t);
  await copyFile(new URL("./fixtures/schema-2.db", import.meta.url), join(folder, databaseName));
  const sums = `SELECT (SELECT sum(bytes) FROM groups) AS bytes, (SELECT count(*) FROM blobs) AS blobs,
    (SELECT count(*) FROM objects) AS objects, (SELECT count(*) FROM deletes) AS deletes,
    (SELECT count(*) FROM expiries) AS expiries`;
  const before = await withDatabase(folder, (connection) => connection.query(sums));
  const store = await openSqliteStore({ folder });
  assert.ok(store.copyBeforeMigration?.includes(".schema-2-"));
  const groups = await store.listGroups(0, 10);
  assert.deepEqual(
    groups.map(({ group: row }) => [row.pushesPerS, row.pushesBurst]),
    [
      [0, 0],
      [0, 0],
    ],
  );
  assert.ok((await store.expired(1e12, 1_000)).length > 20);
  await store.close();
  assert.deepEqual(await withDatabase(folder, (connection) => connection.query(sums)), before);

  // What a kill left half taken away goes, and a rate of its own is kept.
  const again = await openSqliteStore({ folder });
  while (await again.sweep(100));
  const row = groups[0]?.group;
  assert(row);
  await again.commit(batch({ groups: [{ ...row, pushesPerS: 3, pushesBurst: 1_000_000 }] }));
  const kept = (await again.loadGroup(row.groupId))?.group;
  assert.deepEqual([kept?.pushesPerS, kept?.pushesBurst], [3, 1_000_000]);
  await again.close();
  await withDatabase(folder, async (connection) => {
    const left = "SELECT 1 FROM deleted_groups UNION ALL SELECT 1 FROM dropped_objects";
    assert.deepEqual(await connection.query(left), []);
    const chunks = "SELECT 1 FROM object_chunks WHERE chunk_key >= 900 * 1048576";
    assert.deepEqual(await connection.query(chunks), []);
  });
  assert.deepEqual((await verifyStore(join(folder, databaseName))).findings, []);
});

test("a migration that fails leaves the store as it was", async (t) => {
  const folder = await filledFolder(t);
  const { folder: failing, newest } = await withNextMigration(
    t,
    `${addColumn}\nINSERT INTO nowhere VALUES (1);`,
  );
  await assert.rejects(openSqliteStore({ folder, migrations: failing, nowMs }));
  await assert.rejects(openSqliteStore({ folder, migrations: failing, nowMs }));
  const same = await openSqliteStore({ folder });
  assert.equal((await same.loadGroup(group(1).groupId))?.group.head, 1);
  await same.close();
  await withDatabase(folder, async (connection) => {
    assert.equal(await pragma(connection, "user_version"), newest - 1);
    assert.deepEqual(
      (await connection.query<{ name: string }>("PRAGMA table_info(groups)")).filter(
        (column) => column.name === "colour",
      ),
      [],
    );
  });
  // Each attempt made its copy, and none was written over.
  const copies = (await readdir(folder)).filter((name) => name.includes(".schema-")).sort();
  assert.deepEqual(copies, [
    `${databaseName}.schema-${newest - 1}-20261124T143000Z`,
    `${databaseName}.schema-${newest - 1}-20261124T143000Z-2`,
  ]);
});

test("what a kill left of a copy before a migration goes with the next one; nothing else does", async (t) => {
  const folder = await filledFolder(t);
  const { folder: migrations, newest } = await withNextMigration(t, addColumn);
  const cut = `${databaseName}.schema-${newest - 1}-20261123T000000Z.partial`;
  const stays = [`${databaseName}.schema-notes`, "mine.partial", `${databaseName}.partial`];
  for (const name of [cut, `${cut}-journal`, ...stays]) await writeFile(join(folder, name), "x");
  await (await openSqliteStore({ folder, migrations, nowMs })).close();
  const names = await readdir(folder);
  assert.deepEqual(
    names.filter((name) => name.startsWith(cut)),
    [],
  );
  for (const name of stays) assert.ok(names.includes(name), name);
});

test("a database of something else is not touched", async (t) => {
  const folder = await filledFolder(t);
  await withDatabase(folder, async (connection) => {
    await connection.exec("PRAGMA application_id = 7");
  });
  await assert.rejects(
    openSqliteStore({ folder }),
    (error) => error instanceof SyncError && /not a store of this relay/.test(error.hint ?? ""),
  );
});
