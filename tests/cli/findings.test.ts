/** What a relay altered, from the command line: told, listed, shown to others, and accepted by a person. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fromBinary, fromJsonString } from "@bufbuild/protobuf";
import sqlite from "sqlite3";
import { openSyncClient } from "../../client/platform/node/index.ts";
import { EvidenceBundleSchema, FindingKind } from "../../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type RunningRelay, startRelay } from "../../server/index.ts";
import { type Run, runDevice } from "./world.ts";

describe("findings from the command line", () => {
  let root = "";
  let relay: RunningRelay;
  let listen = "127.0.0.1:0";
  const run = (name: string, ...words: string[]): Promise<Run> =>
    runDevice([...words, "--state", join(root, name)]);
  const well = async (name: string, ...words: string[]): Promise<string> => {
    const ended = await run(name, ...words);
    assert.equal(ended.code, 0, `${words.join(" ")}\n${ended.stdout}${ended.stderr}`);
    return ended.stdout;
  };
  const events = async (name: string, ...words: string[]): Promise<Record<string, unknown>[]> =>
    (await well(name, ...words, "--json"))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const serve = async (): Promise<void> => {
    relay = await startRelay({
      listen,
      data: join(root, "relay"),
      logLevel: "silent",
      founding: "open",
    });
    listen = new URL(relay.address.replace(/#.*/, "")).host;
  };

  before(async () => {
    root = mkdtempSync(join(tmpdir(), "sync-cli-findings-"));
    await serve();
    await well("laptop", "init", "--relay", relay.address, "--name", "laptop");
    const client = await openSyncClient({ state: join(root, "laptop") });
    try {
      const invite = await client.invite({ confirm: () => true });
      await Promise.all([
        well("phone", "pair", "--join", invite.link, "--name", "phone"),
        invite.done,
      ]);
    } finally {
      await client.close();
    }
    for (const name of ["one", "two", "three"]) {
      writeFileSync(join(root, name), name);
      await well("laptop", "push", join(root, name));
    }
    await relay.drain();
    await alterBody(join(root, "relay", "relay.db"), 2);
    await serve();
  });
  after(async () => {
    await relay.drain();
    rmSync(root, { recursive: true, force: true });
  });

  test("before anything was found there is nothing to list, and verify finds it", async () => {
    assert.match(await well("phone", "findings"), /^nothing was found wrong\n$/);
    const { code, stdout, stderr } = await run("phone", "verify");
    assert.equal(code, 7);
    assert.match(stdout, /WRONG +altered, of laptop, number 2, cursor 2\n/);
    assert.match(stderr, /hint: .*sync-cli export --evidence/);
  });

  test("listed with what it means; the status is honest", async () => {
    const [finding, ...more] = await events("phone", "findings");
    assert.deepEqual(more, []);
    const { finding: kind, seq, cursor, state, holds } = finding as Record<string, unknown>;
    assert.deepEqual(
      { kind, seq, cursor, state, holds },
      { kind: "ALTERED", seq: 2, cursor: 2, state: "open", holds: true },
    );
    const status = await well("phone", "status");
    assert.match(status, /integrity +1 open finding; list: sync-cli findings\n/);
    assert.match(status, /in sync +no\n/);
  });

  test("exported as protobuf and as JSON, for the owner alone, with nothing secret", async () => {
    const [binary, json] = [join(root, "evidence.pb"), join(root, "evidence.json")];
    await well("phone", "export", "--evidence", binary);
    await well("phone", "export", "--evidence", json);
    assert.equal(statSync(binary).mode & 0o777, 0o600);
    const bundle = fromBinary(EvidenceBundleSchema, new Uint8Array(readFileSync(binary)));
    assert.deepEqual(fromJsonString(EvidenceBundleSchema, readFileSync(json, "utf8")), bundle);
    const [found] = bundle.findings;
    assert.equal(found?.kind, FindingKind.ALTERED);
    assert.equal(found?.received.length, 1);
    for (const secret of ["laptop", "phone", "two"]) {
      assert.ok(!readFileSync(binary).includes(secret), secret);
    }
  });

  test("accepted by a person: later entries come through", async () => {
    const [finding] = await events("phone", "findings");
    const id = String(finding?.["id"]);
    const refused = await run("phone", "accept", id);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /--yes/);
    await well("phone", "accept", id, "--yes");
    const pulled = await events("phone", "pull", "--out", join(root, "received"));
    assert.deepEqual(
      pulled.filter(({ event }) => event === "entry").map(({ cursor }) => cursor),
      [1, 3],
    );
    const [status] = await events("phone", "status");
    assert.deepEqual([status?.["findings"], status?.["inSync"]], [0, true]);
    assert.equal((await events("phone", "findings"))[0]?.["state"], "accepted");
  });

  test("bad input is told, and writes nothing", async () => {
    const nowhere = await run("phone", "export", "--evidence", join(root, "missing", "file"));
    assert.equal(nowhere.code, 2);
    assert.match(nowhere.stderr, /cannot be written \(ENOENT\)/);
    const unknown = await run("phone", "accept", "nothing", "--yes");
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /hint: list them: sync-cli findings/);
  });
});

/** What a relay that lies, or a failing disk, does to one entry. */
function alterBody(file: string, cursor: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const database = new sqlite.Database(file);
    const end = (error: Error | null): void => {
      database.close((failed) => ((error ?? failed) ? reject(error ?? failed) : resolve()));
    };
    database.get<{ body: Buffer }>(
      "SELECT body FROM blobs WHERE cursor = ?",
      [cursor],
      (error, row) => {
        if (error !== null || row === undefined) return end(error);
        row.body[40] = (row.body[40] ?? 0) ^ 1;
        database.run("UPDATE blobs SET body = ? WHERE cursor = ?", [row.body, cursor], end);
      },
    );
  });
}
