/** Backups of a store that is in use, what verifying finds, and what restoring leaves where. */
import assert from "node:assert/strict";
import { chmod, copyFile, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openIdentity, readIdentity } from "../../server/identity.ts";
import { beforePassing, noLife } from "../../server/store/life.ts";
import { DamagedBackupError, restoreBackup } from "../../server/store/restore.ts";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { verifyStore } from "../../server/store/verify.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { ChainedGroup } from "./support/chains.ts";
import { temporaryFolder } from "./support/folders.ts";
import { withDatabase } from "./support/raw-database.ts";
import { batch, bytes } from "./support/rows.ts";

const firstVersion = fileURLToPath(new URL("./fixtures/schema-1.db", import.meta.url));
const madeMs = Date.UTC(2026, 10, 24, 14, 30);

const hint =
  (pattern: RegExp) =>
  (error: unknown): boolean =>
    error instanceof SyncError &&
    error.code === ErrorCode.STORE_UNAVAILABLE &&
    pattern.test(error.hint ?? "");

/** A folder with a store of two groups, and a backup of it with the relay's key. */
async function backedUp(
  t: TestContext,
  options: { readonly withIdentity?: boolean } = {},
): Promise<{ folder: string; backup: string; groups: readonly ChainedGroup[] }> {
  const folder = await temporaryFolder(t);
  await openIdentity(folder, (length) => bytes(length, 5));
  const groups = [new ChainedGroup(1), new ChainedGroup(2)];
  const store = await openSqliteStore({ folder });
  for (const group of groups) await store.commit(group.next(40));
  const backup = await store.upkeep.backup({
    name: "one",
    withIdentity: options.withIdentity ?? true,
    madeMs,
  });
  await store.close();
  return { folder, backup, groups };
}

async function logIds(folder: string): Promise<string[]> {
  return await withDatabase(folder, async (connection) => {
    const rows = await connection.query<{ readonly id: string }>(
      "SELECT hex(log_id) AS id FROM groups ORDER BY group_key",
    );
    return rows.map(({ id }) => id);
  });
}

test("a backup beside commits is one moment of the store, verifies, and only its owner reads it", async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder, walBytesMax: 1024 * 1024 });
  const group = new ChainedGroup(1);
  await store.commit(group.next(4_000, 2_000));
  let committing = true;
  let commits = 0;
  const load = (async () => {
    while (committing) {
      await store.commit(group.next(7, 2_000));
      commits += 1;
    }
  })();
  const before = group.head;
  const slices: number[] = [];
  let commitsWhile = 0;
  const backup = await store.upkeep.backup({
    name: "loaded",
    withIdentity: false,
    madeMs,
    onCopied: (done) => {
      slices.push(done);
      commitsWhile = commits;
    },
  });
  committing = false;
  await load;
  await store.close();
  assert.ok(slices.length > 5, `${slices.length} slices`);
  assert.deepEqual(
    slices,
    slices.toSorted((a, b) => a - b),
  );
  assert.ok(commitsWhile > 0, "commits went on");
  const found = await verifyStore(backup, { readOnly: true });
  assert.deepEqual(found.findings, []);
  assert.ok(found.blobs >= before && found.blobs < group.head, `${before} ${found.blobs}`);
  assert.equal((found.blobs - 4_000) % 7, 0, "no commit is in it in part");
  assert.equal((await stat(backup)).mode & 0o777, 0o600);
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.startsWith("backup-")),
    ["backup-loaded"],
  );
});

test("a backup that is given up leaves nothing, and what a killed process left is removed", async (t) => {
  const { folder } = await backedUp(t);
  const store = await openSqliteStore({ folder });
  const stopping = new AbortController();
  await assert.rejects(
    store.upkeep.backup({
      name: "two",
      withIdentity: false,
      madeMs,
      onCopied: () => stopping.abort(),
      signal: stopping.signal,
    }),
    { name: "AbortError" },
  );
  const left = async (): Promise<string[]> =>
    (await readdir(folder)).filter((name) => name.startsWith("backup-")).sort();
  assert.deepEqual(await left(), ["backup-one"]);
  const passing = "backup-0123456789abcdef";
  for (const name of [passing, `${passing}.partial`, `${passing}.partial-journal`]) {
    await writeFile(join(folder, name), "half");
  }
  const kept = ["backup-2026-11-24", "backup-2026-11-24.partial", "backup-one"];
  for (const name of kept.slice(0, 2)) await writeFile(join(folder, name), "an operator's own");
  await store.upkeep.clear();
  assert.deepEqual(await left(), kept);
  await store.close();
});

test("restoring gives every group a new log id, keeps everything else, and leaves no note behind", async (t) => {
  const { folder, backup, groups } = await backedUp(t);
  const target = join(await temporaryFolder(t), "data");
  const restored = await restoreBackup({ backup, folder: target, nowMs: madeMs });
  assert.equal(restored.kept, undefined);
  assert.equal(restored.identity, "from backup");
  assert.equal(restored.note.madeMs, madeMs);
  const [before, after] = [await logIds(folder), await logIds(target)];
  assert.equal(new Set([...before, ...after]).size, 4);
  assert.deepEqual(await readIdentity(target), await readIdentity(folder));
  const names = (await readdir(target)).sort();
  assert.deepEqual(names, ["lock", "relay.db", "relay.key"]);
  for (const name of names) assert.equal((await stat(join(target, name))).mode & 0o777, 0o600);
  // The key is nowhere in the store's file.
  const key = (await readFile(join(folder, "relay.key"), "latin1")).trim();
  assert.ok((await readFile(backup, "latin1")).includes(key));
  assert.ok(!(await readFile(join(target, databaseName), "latin1")).includes(key));
  const store = await openSqliteStore({ folder: target });
  for (const group of groups) {
    assert.equal((await store.loadGroup(group.groupId))?.group.head, 40);
    // Keys and counters go on where they stood.
    await store.commit(group.next(3));
  }
  await store.close();
  assert.deepEqual((await verifyStore(join(target, databaseName))).findings, []);
});

test("a backup holds the relay's key only where that was asked for", async (t) => {
  const { folder, backup } = await backedUp(t, { withIdentity: false });
  const key = (await readFile(join(folder, "relay.key"), "latin1")).trim();
  assert.ok(!(await readFile(backup, "latin1")).includes(key));
  const target = await temporaryFolder(t);
  assert.equal((await restoreBackup({ backup, folder: target, nowMs: madeMs })).identity, "none");
  assert.equal(await readIdentity(target), undefined);
});

test("restoring over a store is refused; with replace the old one is kept whole beside", async (t) => {
  const { folder, backup } = await backedUp(t);
  const other = await temporaryFolder(t);
  const otherKey = await openIdentity(other, (length) => bytes(length, 77));
  const store = await openSqliteStore({ folder: other });
  const group = new ChainedGroup(9);
  await store.commit(group.next(5));

  // While a relay runs there, not even with replace.
  await assert.rejects(
    restoreBackup({ backup, folder: other, nowMs: madeMs, replace: true }),
    hint(/another relay uses the data folder/),
  );
  await store.close();
  await assert.rejects(
    restoreBackup({ backup, folder: other, nowMs: madeMs }),
    hint(/holds a store already: .*--replace/),
  );
  assert.equal((await verifyStore(join(other, databaseName))).groups, 1);

  const restored = await restoreBackup({ backup, folder: other, nowMs: madeMs, replace: true });
  assert.equal(restored.kept, join(other, "replaced-20261124T143000Z"));
  assert.equal((await verifyStore(join(other, databaseName))).groups, 2);
  assert.deepEqual(await readIdentity(other), await readIdentity(folder));
  const kept = await openSqliteStore({ folder: restored.kept ?? "" });
  assert.equal((await kept.loadGroup(group.groupId))?.group.head, 5);
  await kept.close();
  assert.deepEqual(await readIdentity(restored.kept ?? ""), otherKey);
});

test("two restores at the same moment keep both of the stores that were there", async (t) => {
  const { backup } = await backedUp(t);
  const folder = await temporaryFolder(t);
  const kept: (string | undefined)[] = [];
  const ids: string[][] = [];
  for (let i = 0; i < 3; i++) {
    kept.push((await restoreBackup({ backup, folder, nowMs: madeMs, replace: true })).kept);
    ids.push(await logIds(folder));
  }
  const name = join(folder, "replaced-20261124T143000Z");
  assert.deepEqual(kept, [undefined, name, `${name}-2`]);
  assert.deepEqual([await logIds(name), await logIds(`${name}-2`)], ids.slice(0, 2));
});

test("11.3 a restored store has its effective snapshot, and none of those that waited: their parts pass", async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  const chain = new ChainedGroup(1);
  await store.commit(chain.next(20));
  const { group: row } = (await store.loadGroup(chain.groupId)) ?? {};
  assert(row);
  const contents = [1, 2, 3].map((seed) => bytes(5_000, seed));
  const objects = contents.map((content, i) => ({
    objectKey: i + 1,
    groupKey: 1,
    objectId: blake2b256(content),
    sizeBytes: 5_000,
    durableBytes: 5_000,
    complete: true,
    part: true,
    passing: false,
    storedAgeS: 1,
  }));
  const snapshot = (snapshotKey: number, effective: boolean) => ({
    row: {
      snapshotKey,
      groupKey: 1,
      snapshotId: bytes(32, snapshotKey),
      deviceKey: 1,
      replacesThrough: snapshotKey * 2,
      storedAgeS: 1,
      effective,
      confirmedBy: 0,
      manifestBytes: 300,
    },
    manifest: bytes(300, snapshotKey),
    signature: bytes(64, 1),
    confirmation: new Uint8Array(0),
  });
  const references = [
    { holder: -1, objectKey: 1 },
    { holder: -2, objectKey: 2 },
    // One that both have, and one that only those have which wait.
    { holder: -2, objectKey: 1 },
    { holder: -3, objectKey: 3 },
  ];
  await store.commit(
    batch({
      groups: [{ ...row, replacedThrough: 2, snapshotBytes: 3 * 5_256 + 3 * 556 }],
      life: {
        ...noLife,
        objects,
        references,
        snapshots: [snapshot(1, true), snapshot(2, false), snapshot(3, false)],
        chunks: contents.map((data, i) => ({ objectKey: i + 1, number: 0, data })),
      },
    }),
  );
  const backup = await store.upkeep.backup({ name: "waits", withIdentity: false, madeMs });
  await store.close();

  const other = await temporaryFolder(t);
  await restoreBackup({ backup, folder: other, nowMs: madeMs });
  assert.deepEqual((await verifyStore(join(other, databaseName))).findings, []);
  const restored = await openSqliteStore({ folder: other });
  const loaded = await restored.loadGroup(chain.groupId);
  assert.deepEqual(
    loaded?.snapshots.map(({ snapshotKey, effective }) => [snapshotKey, effective]),
    [[1, true]],
  );
  assert.equal(loaded?.group.snapshotBytes, 3 * 5_256 + 556);
  assert.deepEqual(
    (await restored.passingObjects(10, beforePassing, 9)).map(({ object, holders }) => [
      object.objectKey,
      holders,
    ]),
    [
      [2, []],
      [3, []],
    ],
  );
  const [kept] = await restored.findObjects(1, [blake2b256(contents[0] ?? new Uint8Array())]);
  assert.deepEqual([kept?.holders, kept?.object.passing], [[-1], false]);
  await restored.close();
});

test("what is no backup, is damaged, or comes from a newer version is refused and changes nothing", async (t) => {
  const { folder, backup } = await backedUp(t);
  const target = await temporaryFolder(t);
  const restore = (path: string) => restoreBackup({ backup: path, folder: target, nowMs: madeMs });
  const text = join(target, "text");
  await writeFile(text, "not a database, whatever its name says, and rather long at that");
  await assert.rejects(restore(text), hint(/not a database/));
  await assert.rejects(restore(join(target, "nowhere")), hint(/not there/));
  await assert.rejects(restore(join(folder, databaseName)), hint(/is no backup/));

  const damaged = join(target, "damaged");
  await copyFile(backup, damaged);
  await chmod(damaged, 0o600);
  await change(damaged, "DELETE FROM blobs WHERE group_key = 2 AND cursor = 17");
  await assert.rejects(restore(damaged), (error) => {
    assert.ok(error instanceof DamagedBackupError);
    assert.match(error.verification.findings[0]?.text ?? "", /missing between cursor 16 and 18/);
    return true;
  });
  const newer = join(target, "newer");
  await copyFile(backup, newer);
  await change(newer, "PRAGMA user_version = 9999");
  await assert.rejects(restore(newer), hint(/newer version/));
  const left = (await readdir(target)).filter((name) => name.startsWith("relay."));
  assert.deepEqual(left, []);
});

test("a backup that was copied into place as it is does not open: its groups would keep their log ids", async (t) => {
  const { backup } = await backedUp(t);
  const folder = await temporaryFolder(t);
  await copyFile(backup, join(folder, databaseName));
  await assert.rejects(openSqliteStore({ folder }), hint(/is a backup .*sync-relay restore/));
});

async function change(path: string, sql: string): Promise<void> {
  const { SqliteConnection } = await import("../../server/store/sqlite-connection.ts");
  const connection = await SqliteConnection.open(path);
  await connection.exec(sql);
  await connection.close();
}

/** One object of the second group, of ten bytes that do not hash to this id. */
function anObject(id: string): string {
  return `INSERT INTO objects (object_key, group_key, object_id, size_bytes, durable_bytes, complete, part,
      passing, stored_age_s) VALUES (1, 2, ${id}, 10, 10, 1, 0, 0, 0);
    INSERT INTO object_chunks VALUES (1048576, x'00010203040506070809')`;
}

test("verifying finds each thing that is not as it must be, and names the group", async (t) => {
  const { backup, groups } = await backedUp(t);
  const folder = await temporaryFolder(t);
  const cases: readonly (readonly [sql: string, finding: RegExp])[] = [
    ["DELETE FROM blobs WHERE group_key = 2 AND cursor = 1", /missing between cursor 0 and 2/],
    ["DELETE FROM blobs WHERE group_key = 2 AND cursor = 40", /ends at cursor 39 and says 40/],
    ["UPDATE groups SET blobs = 39 WHERE group_key = 2", /has 40 blobs and says 39/],
    [
      "UPDATE blobs SET link = zeroblob(32) WHERE group_key = 2 AND cursor = 7",
      /cursor 7 was altered/,
    ],
    [
      "UPDATE blobs SET header = zeroblob(40) WHERE group_key = 2 AND cursor = 7",
      /no version wrote/,
    ],
    [
      "UPDATE blobs SET prior_cursor = 3 WHERE group_key = 2 AND cursor = 7",
      /chain breaks at cursor 7/,
    ],
    [
      "UPDATE blobs SET device_key = 77 WHERE group_key = 2 AND cursor = 7",
      /sender .* not in the group/,
    ],
    ["UPDATE devices SET last_seq = 39 WHERE group_key = 2", /device's row and its newest blob/],
    ["UPDATE control SET bytes = zeroblob(10) WHERE group_key = 2", /change 1 was altered/],
    ["DELETE FROM control WHERE group_key = 2", /has 0 membership changes and says 1/],
    [
      "UPDATE groups SET membership_head = zeroblob(32) WHERE group_key = 2",
      /another newest membership/,
    ],
    ["UPDATE groups SET bytes = bytes + 5 WHERE group_key = 2", /bytes and says/],
    ["UPDATE groups SET snapshot_bytes = 5 WHERE group_key = 2", /has 0 bytes of snapshots/],
    ["UPDATE groups SET control_bytes = 5 WHERE group_key = 2", /bytes of membership changes/],
    ["UPDATE groups SET replaced_through = 9 WHERE group_key = 2", /replaces through 0/],
    [anObject("zeroblob(32)"), /object 000000000000… was altered/],
    [`${anObject("zeroblob(32)")}; DELETE FROM object_chunks`, /object 000000000000… was altered/],
    [
      `${anObject("x'00'")}; INSERT INTO snapshots VALUES (1, 2, x'', 2, 0, 0, 0, 0, x'', x'', x'');
        INSERT INTO object_references VALUES (-1, 9)`,
      /1 parts of its snapshots/,
    ],
  ];
  for (const [at, [sql, finding]] of cases.entries()) {
    const path = join(folder, `case-${at}`);
    await copyFile(backup, path);
    assert.deepEqual((await verifyStore(path)).findings, []);
    await change(path, sql);
    const { findings } = await verifyStore(path);
    const first = findings.find(({ text }) => finding.test(text));
    assert.ok(first, `${sql}: ${JSON.stringify(findings.map(({ text }) => text))}`);
    assert.deepEqual(first.groupId, groups[1]?.groupId);
  }
  for (const [sql, finding] of [
    ["UPDATE relay SET blobs = 7", /counts 7 blobs and has 80/],
    ["UPDATE relay SET last_device_key = 1", /keys were given/],
    ["UPDATE blobs SET group_key = 3 WHERE group_key = 2", /blobs of no group/],
  ] as const) {
    const path = join(folder, "counters");
    await copyFile(backup, path);
    await change(path, sql);
    const { findings } = await verifyStore(path);
    assert.ok(
      findings.some(({ groupId, text }) => groupId === undefined && finding.test(text)),
      sql,
    );
  }
});

test("the first version's store is read whole by this one", async (t) => {
  const folder = await temporaryFolder(t);
  await copyFile(firstVersion, join(folder, databaseName));
  const store = await openSqliteStore({ folder });
  assert.deepEqual(await store.upkeep.verify({}), {
    ...(await store.upkeep.verify({})),
    groups: 2,
    blobs: 92,
    findings: [],
  });
  assert.equal((await store.totals()).blobs, 92);
  await store.close();
});

test("free pages go back to the disk, piece by piece", async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  const group = new ChainedGroup(1);
  await store.commit(group.next(3_000, 4_000));
  await store.close();
  await withDatabase(folder, async (connection) => {
    await connection.exec("PRAGMA secure_delete = OFF; DELETE FROM blobs WHERE cursor <= 2800");
  });
  const again = await openSqliteStore({ folder });
  const before = await again.totals();
  assert.ok(before.reclaimableBytes > 8_000_000, String(before.reclaimableBytes));
  const steps: number[] = [];
  const done = await again.upkeep.vacuum(({ leftBytes }) => steps.push(leftBytes));
  const after = await again.totals();
  assert.ok(steps.length > 1);
  assert.equal(done.leftBytes, 0);
  assert.equal(done.givenBackBytes, before.reclaimableBytes);
  assert.equal(after.reclaimableBytes, 0);
  const size = (await stat(join(folder, databaseName))).size;
  assert.ok(size < before.fileBytes - 8_000_000, `${before.fileBytes} ${size}`);
  await again.close();
});
