/** A disk that flips bits: whose part of the file is hit is fenced off and named, the others go on. */
import assert from "node:assert/strict";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ProblemKind } from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { databaseName } from "../../server/store/sqlite-store.ts";
import { runRelay } from "../cli/world.ts";
import { withDatabase } from "../store/support/raw-database.ts";
import { content, openDevice, type TestDevice, TestRelay, until } from "./support.ts";

const pageBytes = 4_096;

/** A relay with so many groups of one device each, whose blobs fill pages of their own. */
async function groupsOf(
  t: TestContext,
  relay: TestRelay,
  count: number,
): Promise<readonly TestDevice[]> {
  const devices: TestDevice[] = [];
  for (let i = 0; i < count; i++) {
    const device = await openDevice(t, { relay: relay.address });
    await device.client.createGroup();
    await device.client.pushMany(Array.from({ length: 20 }, () => ({ data: content(1_000) })));
    await device.client.flush();
    devices.push(device);
  }
  return devices;
}

/** What the relay says is wrong with it. */
async function problemsOf(
  relay: TestRelay,
): Promise<readonly { readonly kind: string; readonly message: string }[]> {
  const health = await runRelay(["admin", "health", "--data", relay.data, "--json"]);
  const [first] = health.stdout.split("\n");
  const { problems } = JSON.parse(first ?? "") as Awaited<{
    problems: readonly { readonly kind: string; readonly message: string }[];
  }>;
  assert.equal(health.code, problems.length === 0 ? 0 : 4);
  return problems;
}

/** Flips bits of the store's file at these places. */
async function flip(folder: string, places: readonly { at: number; bits: number }[]) {
  const file = await open(join(folder, databaseName), "r+");
  for (const { at, bits } of places) {
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
    await file.write(Buffer.of((buffer[0] ?? 0) ^ bits), 0, 1, at);
  }
  await file.close();
}

/** Where the page begins that holds the index entry or row with these bytes. */
async function pageOf(folder: string, bytes: Uint8Array): Promise<number> {
  const at = (await readFile(join(folder, databaseName))).indexOf(bytes);
  assert.ok(at > pageBytes, "the bytes stand in the file");
  return at - (at % pageBytes);
}

test("a damaged page: the group is fenced off and named in health, pushes and reads of the others go on", async (t) => {
  const relay = await TestRelay.start(t, { founding: "open", listenAdmin: "127.0.0.1:0" });
  const [a, b, c] = await groupsOf(t, relay, 3);
  assert.ok(a && b && c);
  const groupId = b.client.status().groupId ?? "";
  await relay.stop();
  // The page with a blob in the middle of the second group's log.
  const link = await withDatabase(relay.data, async (connection) => {
    const rows = await connection.query<{ readonly link: Uint8Array }>(
      "SELECT link FROM blobs WHERE group_key = 2 AND cursor = 10",
    );
    return rows[0]?.link ?? new Uint8Array(0);
  });
  await flip(relay.data, [{ at: await pageOf(relay.data, link), bits: 0xff }]);
  await relay.start();

  // Whoever reads the log meets it; whatever was pushed stays queued on its device.
  const read = async (device: TestDevice): Promise<number> => {
    let entries = 0;
    for await (const entry of device.client.history({ after: 0, until: 20 })) {
      entries += Number(entry.data.byteLength > 0);
    }
    return entries;
  };
  await Promise.all(
    [a, b, c].map(({ client }) => until(client, (status) => status.connection.state === "online")),
  );
  // The device asks again and again, as of any disk that fails; nothing it has is lost.
  const reading = read(b).catch(() => 0);
  let named: readonly { readonly kind: string; readonly message: string }[] = [];
  while (named.length === 0) named = await problemsOf(relay);
  await b.client.push(content());
  while (relay.running.counters.pushesRefused === 0) await problemsOf(relay);
  assert.equal(b.client.status().queued, 1);
  for (const device of [a, c]) {
    assert.equal(await read(device), 20);
    await device.client.push(content());
    await device.client.flush();
  }
  const problems = await problemsOf(relay);
  assert.deepEqual(
    problems.map(({ kind }) => kind),
    [`PROBLEM_KIND_${ProblemKind[ProblemKind.GROUP_DAMAGED]}`],
  );
  assert.match(problems[0]?.message ?? "", new RegExp(`group ${groupId} is fenced off`));
  await b.client.close();
  await reading;
});
