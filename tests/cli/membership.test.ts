/** Removing, rotating, renaming and recovering from the command line, with a real relay. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openSyncClient } from "../../client/platform/node/index.ts";
import { type RunningRelay, startRelay } from "../../server/index.ts";
import { type Run, type RunOptions, runDevice } from "./world.ts";

describe("the group from the command line", () => {
  let root = "";
  let relay: RunningRelay;
  const state = (name: string): string => join(root, name);
  const run = (name: string, words: readonly string[], options: RunOptions = {}): Promise<Run> =>
    runDevice([...words, "--state", state(name)], options);
  const well = async (name: string, ...words: string[]): Promise<Run> => {
    const ended = await run(name, words);
    assert.equal(ended.code, 0, `${words.join(" ")}\n${ended.stdout}${ended.stderr}`);
    return ended;
  };
  const events = async (name: string, ...words: string[]): Promise<Record<string, unknown>[]> =>
    (await well(name, ...words, "--json")).stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const join2 = async (inviter: string, joiner: string): Promise<void> => {
    const client = await openSyncClient({ state: state(inviter) });
    try {
      const invite = await client.invite({ confirm: () => true });
      await Promise.all([
        well(joiner, "pair", "--join", invite.link, "--name", joiner),
        invite.done,
      ]);
    } finally {
      await client.close();
    }
  };

  before(async () => {
    root = mkdtempSync(join(tmpdir(), "sync-cli-membership-"));
    relay = await startRelay({
      listen: "127.0.0.1:0",
      data: join(root, "relay"),
      logLevel: "silent",
      founding: "open",
    });
    await well("laptop", "init", "--relay", relay.address, "--name", "laptop");
    await join2("laptop", "phone");
    await join2("laptop", "tablet");
  });
  after(async () => {
    await relay.drain();
    rmSync(root, { recursive: true, force: true });
  });

  test("fingerprint: the same 64 digits for a device on every device", async () => {
    const [own] = await events("phone", "fingerprint");
    const [seen] = await events("laptop", "fingerprint", "phone");
    assert.deepEqual(seen, own);
    assert.match(String(own?.["full"]), /^([0-9a-f]{4} ){15}[0-9a-f]{4}$/);
    const { stdout } = await well("laptop", "fingerprint", String(own?.["fingerprint"]));
    assert.equal(stdout.trimEnd().split("\n").length, 4);
    assert.equal(stdout.replace(/\s+/g, " ").trim(), own?.["full"]);
    const { code, stderr } = await run("laptop", ["fingerprint", "toaster"]);
    assert.equal(code, 2);
    assert.match(stderr, /no device of the group has that name\nhint: .*sync-cli devices/);
  });

  test("verify: everything the relay holds is as its senders wrote it", async () => {
    writeFileSync(join(root, "note.txt"), "a note");
    await well("laptop", "push", join(root, "note.txt"));
    const [verified] = await events("phone", "verify");
    const { ok, headers, bodies, problems } = verified as Record<string, unknown>;
    assert.deepEqual(
      { ok, headers, bodies, problems },
      { ok: true, headers: 1, bodies: 1, problems: [] },
    );
    const { stdout } = await well("phone", "verify");
    assert.match(stdout, /laptop: 1 entry, numbers 1 to 1\n/);
    assert.match(stdout, /verdict +everything is as its senders wrote it\n$/);
  });

  test("rename and rotate", async () => {
    assert.deepEqual(await events("laptop", "rotate"), [{ event: "rotated", epoch: 2 }]);
    const { stdout } = await well("laptop", "rename", "old laptop");
    assert.equal(stdout, "this device is old laptop now\n");
    const names = (await events("phone", "devices")).map(({ name }) => name);
    assert.deepEqual(names, ["old laptop", "phone", "tablet"]);
    assert.equal((await run("laptop", ["rename", " "])).code, 2);
  });

  test("remove: asks, and shuts the device out", async () => {
    const refused = await run("laptop", ["remove", "tablet"]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /no terminal\nhint: .*--yes/);
    assert.equal((await run("laptop", ["remove", "old laptop", "--yes"])).code, 2);
    const [removed] = await events("laptop", "remove", "tablet", "--yes");
    assert.equal(removed?.["name"], "tablet");
    assert.equal(removed?.["epoch"], 3);
    const { code, stderr } = await run("tablet", ["push", "package.json"]);
    assert.equal(code, 3, stderr);
    assert.match(stderr, /removed from/);
    assert.equal((await events("phone", "devices")).length, 2);
  });

  test("recovery: created, verified, used on a new device, replaced, revoked", async () => {
    assert.equal((await run("laptop", ["recovery", "create"])).code, 2);
    assert.equal((await run("laptop", ["recovery", "revoke", "--yes"])).code, 2);
    writeFileSync(join(root, "kept.txt"), "kept");
    await well("laptop", "push", join(root, "kept.txt"));
    const shown = await run("laptop", ["recovery", "create", "--yes"]);
    assert.equal(shown.code, 0, shown.stderr);
    const numbered = [...shown.stdout.matchAll(/(\d+) ([a-z]+)/g)];
    const words = numbered
      .sort((a, b) => Number(a[1]) - Number(b[1]))
      .map(([, , word]) => word)
      .join(" ");
    assert.equal(words.split(" ").length, 24);
    assert.match(shown.stderr, /not shown again/);
    const again = await run("laptop", ["recovery", "create", "--yes"]);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /--replace/);

    const good = await run("phone", ["recovery", "verify"], { input: `${words}\n` });
    assert.equal(good.code, 0, good.stderr);
    const bad = await run("phone", ["recovery", "verify"], { input: words.replace(/^\w+/, "xyz") });
    assert.equal(bad.code, 2);
    assert.match(bad.stderr, /word 1 is not in the list/);
    const other = await run("phone", ["recovery", "verify"], { input: `${"zoo ".repeat(23)}vote` });
    assert.equal(other.code, 3);
    assert.match(other.stderr, /not one of this group/);

    const use = ["recovery", "use", "--relay", relay.address, "--name", "new"];
    const nothing = await run("new", use, { input: `${"zoo ".repeat(23)}vote` });
    assert.equal(nothing.code, 3, nothing.stderr);
    const back = await run("new", [...use, "--json"], { input: words });
    assert.equal(back.code, 0, back.stderr);
    assert.equal(JSON.parse(back.stdout).event, "recovered");
    assert.ok(!`${back.stdout}${back.stderr}`.includes(words.slice(0, 20)));
    const { stdout } = await well("new", "pull", "--out", join(root, "out"));
    assert.match(stdout, /kept\.txt/);

    const [second] = await events("new", "recovery", "create", "--replace", "--yes");
    assert.equal((second as { words?: string[] }).words?.length, 24);
    const old = await run("laptop", ["recovery", "verify"], { input: words });
    assert.equal(old.code, 3);
    assert.match(old.stderr, /replaced or revoked/);
    assert.deepEqual(await events("laptop", "recovery", "revoke", "--yes"), [
      { event: "revoked", phrases: 1 },
    ]);
  });

  test("a relay that is not there: exit code 4, and nothing is made", async () => {
    const away = relay.address.replace(/:\d+\//, ":9/");
    const use = ["recovery", "use", "--relay", away, "--name", "x"];
    const { code, stderr } = await run("nowhere", use, { input: `${"zoo ".repeat(23)}vote` });
    assert.equal(code, 4, stderr);
    assert.equal((await run("nowhere", ["status"])).code, 2);
  });
});
