/**
 * Makes a store as this version writes it, for later versions to open:
 *
 *     npx tsx tests/store/make-store-fixture.ts     writes tests/store/fixtures/schema-N.db
 *
 * Run once before a release. A fixture that is there is never made again: the version that could make it is gone.
 */
import assert from "node:assert/strict";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { databaseName } from "../../server/store/sqlite-store.ts";
import {
  content,
  joinDevice,
  openDevice,
  pairedDevices,
  TestRelay,
} from "../integration/support.ts";
import { pragma, withDatabase } from "./support/raw-database.ts";

const ends: (() => unknown)[] = [];
// The two functions of a test that its support asks for.
const t = { after: (end: () => unknown) => void ends.push(end) } as unknown as TestContext;

const relay = await TestRelay.start(t, { founding: "open" });
const [a, b, c] = await pairedDevices(t, relay, 3);
assert.ok(a && b && c);
await a.client.pushMany(Array.from({ length: 40 }, (_, i) => ({ data: content(i * 20) })));
await b.client.pushMany(Array.from({ length: 20 }, () => ({ data: content(100), ttlS: 86_400 })));
await c.client.push(content(5_000));
await Promise.all([a.client.flush(), b.client.flush(), c.client.flush()]);
await a.client.caughtUp();
await a.client.remove([c.client.deviceId]);
await a.client.push(content());
await a.client.flush();
const other = await openDevice(t, { relay: relay.address, name: "another group" });
await other.client.createGroup();
const second = await joinDevice(t, other, "its second device");
await second.client.pushMany(Array.from({ length: 30 }, () => ({ data: content(64) })));
await second.client.flush();
// What only a second schema has: an object, a snapshot that waits, deletes and expiries still to come.
await other.client.putObject(content(100_000));
await other.client.push(content(64), { ttlS: 9_000_000 });
const deleted = await second.client.push(content(64));
await second.client.push(content(64), { deletes: [deleted.blobId] });
await Promise.all([other.client.flush(), second.client.flush()]);
for (const { client } of [a, b, c, other, second]) await client.close();
await relay.stop();
const version = await withDatabase(relay.data, async (connection) => {
  // As a kill leaves it while a group and an object are taken away.
  await connection.exec(`
    INSERT INTO deleted_groups VALUES (900);
    INSERT INTO expiries VALUES (5, 900, 1);
    INSERT INTO dropped_objects VALUES (900, 65536);
    INSERT INTO object_chunks VALUES (900 * 1048576, zeroblob(65536))`);
  await connection.exec("PRAGMA journal_mode = DELETE");
  return await pragma(connection, "user_version");
});
const path = fileURLToPath(new URL(`fixtures/schema-${String(version)}.db`, import.meta.url));
await copyFile(join(relay.data, databaseName), path);
for (const end of ends.toReversed()) await end();
process.stdout.write(`${path}\n`);
process.exit(0);
