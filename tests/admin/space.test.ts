/** What a deleted group held comes back to the disk, whatever happens meanwhile. */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { batch, blob, bytes, group, range } from "../store/support/rows.ts";
import { testFolder } from "./support.ts";

test("a deleted group's space returns to the file system, also when the relay stops halfway", async (t) => {
  const folder = await testFolder(t);
  const size = async (): Promise<number> => (await stat(join(folder, databaseName))).size;
  const first = await openSqliteStore({ folder });
  for (const key of [1, 2]) {
    const blobs = range(1, key === 1 ? 300 : 10).map((cursor) =>
      blob(key, cursor, { body: bytes(10_000, cursor) }),
    );
    await first.commit(batch({ groups: [group(key)], blobs }));
  }
  await first.commit(batch({ deletedGroups: [1] }));
  assert.equal(await first.sweep(100), true);
  await first.close();
  const halfway = await size();

  const second = await openSqliteStore({ folder });
  while (await second.sweep(100)) assert.equal((await second.totals()).groups, 1);
  assert.equal((await second.totals()).reclaimableBytes, 0);
  const { length } = await second.readBlobs(2, 0, 100, { rowsMax: 100, bytesMax: 1 << 20 });
  assert.equal(length, 10);
  await second.close();
  assert.ok(halfway > 2_000_000, `${halfway}`);
  assert.ok((await size()) < 300_000, `${await size()}`);
});
