/** The way back, by command: what is written, told, refused and left behind. */
import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { relayAddress } from "../../server/index.ts";
import { databaseName } from "../../server/store/sqlite-store.ts";
import { content, openDevice, TestRelay, testFolder } from "../integration/support.ts";
import { withDatabase } from "../store/support/raw-database.ts";
import { type Run, runRelay } from "./world.ts";

/** A real relay with one group of ten blobs, and a folder for what the commands write. */
async function relayAndFolder(t: TestContext): Promise<{ relay: TestRelay; folder: string }> {
  const relay = await TestRelay.start(t, { listenAdmin: "127.0.0.1:0", founding: "open" });
  const { client } = await openDevice(t, { relay: relay.address });
  await client.createGroup();
  await client.pushMany(Array.from({ length: 10 }, () => ({ data: content(5_000) })));
  await client.flush();
  await client.close();
  return { relay, folder: await testFolder(t) };
}

/** The last object a run printed. */
function last({ stdout }: Run): Record<string, unknown> {
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Record<string, unknown>;
}

async function filesIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).sort();
}

test("a running relay and a stopped one are backed up by the same command, whole, readable by the owner alone", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const before = (await filesIn(relay.data)).filter((name) => !name.startsWith(databaseName));
  for (const live of [true, false]) {
    if (!live) await relay.stop();
    const file = join(folder, live ? "live" : "stopped");
    const backup = await runRelay(["backup", file, "--data", relay.data, "--json"]);
    assert.equal(backup.code, 0, backup.stderr);
    const told = last(backup);
    assert.deepEqual(told, {
      event: "backup",
      file,
      bytes: (await stat(file)).size,
      encrypted: false,
      withIdentity: false,
      live,
    });
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const verified = await runRelay(["verify", file, "--json"]);
    assert.equal(verified.code, 0, verified.stderr);
    const { groups, blobs, findings, withIdentity } = last(verified);
    assert.deepEqual([groups, blobs, findings, withIdentity], [1, 10, [], false]);
    const text = await runRelay(["verify", file]);
    assert.match(text.stdout, /^whole: 1 group, 1 device, 10 blobs, 1 membership change\n$/);
  }
  const after = (await filesIn(relay.data)).filter((name) => !name.startsWith(databaseName));
  assert.deepEqual(after, before);
  assert.deepEqual(await filesIn(folder), ["live", "stopped"]);
});

test("a file that is there is not replaced unasked", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const file = join(folder, "backup");
  await writeFile(file, "mine");
  const refused = await runRelay(["backup", file, "--data", relay.data]);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /is there already\nhint: .*--replace/);
  assert.equal(await readFile(file, "utf8"), "mine");
  const replaced = await runRelay(["backup", file, "--data", relay.data, "--replace"]);
  assert.equal(replaced.code, 0, replaced.stderr);
  assert.equal((await runRelay(["verify", file])).code, 0);
});

test("an encrypted backup opens with its key and no other, and says nothing without", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const [mine, other] = [await generateIdentity(), await generateIdentity()];
  const [key, wrong] = [join(folder, "key.txt"), join(folder, "wrong.txt")];
  await writeFile(key, `# made for a test\n${mine}\n`);
  await writeFile(wrong, `${other}\n`);
  const file = join(folder, "backup.age");
  const recipient = await identityToRecipient(mine);
  const args = ["backup", file, "--data", relay.data, "--with-identity", "--age", recipient];
  const backup = await runRelay(args);
  assert.equal(backup.code, 0, backup.stderr);
  const bytes = await readFile(file, "latin1");
  assert.ok(!bytes.includes("SQLite format"));
  assert.ok(!bytes.includes((await readFile(join(relay.data, "relay.key"), "utf8")).trim()));

  const verified = await runRelay(["verify", file, "--age-identity", key, "--json"]);
  assert.equal(verified.code, 0, verified.stderr);
  assert.equal(last(verified)["encrypted"], true);
  assert.equal(last(verified)["withIdentity"], true);
  const without = await runRelay(["verify", file]);
  assert.equal(without.code, 2);
  assert.match(without.stderr, /is encrypted\nhint: .*--age-identity/);
  const refused = await runRelay(["verify", file, "--age-identity", wrong]);
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /does not open/);
  // One bit of its middle, and it is told before anything is believed.
  const altered = Buffer.from(bytes, "latin1");
  const middle = altered.length >> 1;
  altered[middle] = (altered[middle] ?? 0) ^ 1;
  await writeFile(file, altered);
  const damaged = await runRelay(["verify", file, "--age-identity", key]);
  assert.equal(damaged.code, 3);
  assert.match(damaged.stderr, /is damaged or cut short/);
  assert.doesNotMatch(damaged.stderr + refused.stderr + without.stderr, /AGE-SECRET/);

  const bad = await runRelay(["backup", join(folder, "x"), "--data", relay.data, "--age", "age1x"]);
  assert.equal(bad.code, 2);
  assert.match(bad.stderr, /--age must be a recipient/);
  assert.deepEqual(await filesIn(folder), ["backup.age", "key.txt", "wrong.txt"]);
});

test("what is damaged is named and refused: by verify, by restore, by drill", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const file = join(folder, "backup");
  await runRelay(["backup", file, "--data", relay.data]);
  const work = join(folder, "work");
  await mkdir(work);
  await copyFile(file, join(work, databaseName));
  await withDatabase(work, (connection) => connection.exec("DELETE FROM blobs WHERE cursor = 4"));
  const damaged = join(work, databaseName);
  const data = join(folder, "data");
  for (const args of [
    ["verify", damaged],
    ["restore", damaged, "--data", data],
    ["drill", damaged],
  ]) {
    const run = await runRelay(args);
    assert.equal(run.code, 3, run.stderr);
    assert.equal(run.stdout, "");
    assert.match(run.stderr, /group \S{43}: blobs are missing between cursor 3 and 5/);
    assert.match(run.stderr, /error: .* is damaged: \d findings\nhint: use an older backup/);
  }
  assert.deepEqual(await filesIn(data), ["lock"]);
  const json = await runRelay(["verify", damaged, "--json"]);
  assert.match(json.stdout, /"findings":\[\{"groupId":/);
  assert.equal((last(json)["error"] as { name: string }).name, "DAMAGED");
  await writeFile(join(work, "text"), "no database");
  const text = await runRelay(["verify", join(work, "text")]);
  assert.equal(text.code, 3, text.stderr);
  assert.match(text.stderr, /cannot be read as a backup/);
  const missing = await runRelay(["verify", join(work, "nowhere")]);
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /no such file/);
});

test("restore: into a new folder, refused over a store, with --replace the old one is kept beside", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const file = join(folder, "backup");
  await runRelay(["backup", file, "--data", relay.data]);
  const fresh = join(folder, "fresh");
  const restored = await runRelay(["restore", file, "--data", fresh]);
  assert.equal(restored.code, 0, restored.stderr);
  assert.match(restored.stdout, /^restored 1 group of \d{4}-.*Z into /);
  // Without the relay's key its address is another: nobody finds that out by themselves.
  assert.match(restored.stderr, /warning: the backup holds no relay key/);
  const again = await runRelay(["restore", file, "--data", fresh]);
  assert.equal(again.code, 4);
  assert.match(again.stderr, /holds a store already\nhint: .*--replace/);
  const running = await runRelay(["restore", file, "--data", relay.data, "--replace"]);
  assert.equal(running.code, 4);
  assert.match(running.stderr, /another relay uses the data folder/);
  await relay.stop();
  const replaced = await runRelay(["restore", file, "--data", relay.data, "--replace", "--json"]);
  assert.equal(replaced.code, 0, replaced.stderr);
  const { kept, identity } = last(replaced);
  assert.equal(identity, "kept");
  assert.deepEqual(await filesIn(String(kept)), [databaseName]);
  const none = await runRelay(["restore", file]);
  assert.equal(none.code, 2);
});

test("a drill takes a backup, restores it, starts a relay on it, and leaves everything as it was", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const before = await filesIn(relay.data);
  const drill = await runRelay(["drill", "--data", relay.data], { env: { TMPDIR: folder } });
  assert.equal(drill.code, 0, drill.stderr);
  assert.match(drill.stdout, /^whole: 1 group, 1 device, 10 blobs, .*restored and started in/);
  assert.match(drill.stderr, /the live data were not touched/);
  assert.deepEqual(await filesIn(relay.data), before);
  const file = join(folder, "backup");
  await runRelay(["backup", file, "--data", relay.data]);
  const named = await runRelay(["drill", file, "--json"]);
  assert.equal(named.code, 0, named.stderr);
  assert.deepEqual([last(named)["event"], last(named)["blobs"]], ["drill", 10]);
});

test("a move: backup with the identity, restore elsewhere, and the address names the same key", async (t) => {
  const { relay, folder } = await relayAndFolder(t);
  const file = join(folder, "move-me");
  const there = join(folder, "there");
  await runRelay(["backup", file, "--data", relay.data, "--with-identity"]);
  const restored = await runRelay(["restore", file, "--data", there, "--json"]);
  assert.equal(restored.code, 0, restored.stderr);
  assert.equal(last(restored)["identity"], "from backup");
  assert.doesNotMatch(
    restored.stdout + restored.stderr,
    new RegExp((await readFile(join(there, "relay.key"), "utf8")).trim()),
  );
  const keyOf = (address: string | undefined): string | undefined => address?.split("#")[1];
  assert.equal(keyOf(await relayAddress({ data: there })), keyOf(relay.address));
});

test("where there is nothing to back up, the next step is named", async (t) => {
  const folder = await testFolder(t);
  const run = await runRelay(["backup", join(folder, "file"), "--data", join(folder, "nowhere")]);
  assert.equal(run.code, 2);
  assert.match(run.stderr, /holds no store\nhint: .*--data DIR/);
  assert.deepEqual(await filesIn(folder), []);
});

test("health: 0 where devices are served, 4 where nothing answers or it is no relay", async (t) => {
  const { relay } = await relayAndFolder(t);
  const listen = `127.0.0.1:${relay.port}`;
  const healthy = await runRelay(["health", "--listen", listen, "--json"]);
  assert.equal(healthy.code, 0, healthy.stderr);
  assert.equal(last(healthy)["status"], "ok");
  // As the configuration names it: every address of the machine.
  const all = await runRelay(["health"], { env: { SYNC_RELAY_LISTEN: `0.0.0.0:${relay.port}` } });
  assert.equal(all.code, 0, all.stderr);
  const side = new URL(relay.running.adminUrl ?? "").host;
  await relay.stop();
  for (const where of [listen, side]) {
    const gone = await runRelay(["health", "--listen", where]);
    assert.equal(gone.code, 4);
    assert.match(gone.stderr, /no relay answers at .*\nhint: start it/);
  }
});

test("maintenance of a running relay: looked at, and its free pages given back", async (t) => {
  const { relay } = await relayAndFolder(t);
  const verified = await runRelay(["admin", "maintenance", "verify", "--data", relay.data]);
  assert.equal(verified.code, 0, verified.stderr);
  assert.equal(verified.stdout, "whole: 1 group, 1 device, 10 blobs, 1 membership change\n");
  const trimmed = await runRelay(["admin", "maintenance", "trim", "--data", relay.data, "--json"]);
  assert.equal(trimmed.code, 0, trimmed.stderr);
  assert.deepEqual([last(trimmed)["event"], last(trimmed)["blobs"]], ["trimmed", 0]);
  const vacuumed = await runRelay([
    "admin",
    "maintenance",
    "vacuum",
    "--data",
    relay.data,
    "--json",
  ]);
  assert.equal(vacuumed.code, 0, vacuumed.stderr);
  assert.equal(last(vacuumed)["leftBytes"], 0);
  await withDatabase(relay.data, (connection) =>
    connection.exec("PRAGMA busy_timeout = 5000; DELETE FROM blobs WHERE cursor = 4"),
  );
  const damaged = await runRelay(["admin", "maintenance", "verify", "--data", relay.data]);
  assert.equal(damaged.code, 3);
  assert.match(damaged.stderr, /group \S{43}: blobs are missing between cursor 3 and 5/);
  assert.match(damaged.stderr, /hint: stop the relay and restore a backup/);
});
