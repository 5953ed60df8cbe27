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
for (const { client } of [a, b, c, other, second]) await client.close();
await relay.stop();
const version = await withDatabase(relay.data, async (connection) => {
  await connection.exec("PRAGMA journal_mode = DELETE");
  return await pragma(connection, "user_version");
});
const path = fileURLToPath(new URL(`fixtures/schema-${String(version)}.db`, import.meta.url));
await copyFile(join(relay.data, databaseName), path);
for (const end of ends.toReversed()) await end();
process.stdout.write(`${path}\n`);
process.exit(0);
