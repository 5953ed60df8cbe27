/**
 * Both programs with a real relay on a free port. The tests run in order and build on each other.
 * What depends on being a process of its own is one (signals, locks, two devices at once); the other
 * commands run in this process, since starting one costs a second.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { encodeFile, fileContentType } from "../../cli/device/file-entry.ts";
import { largestFileBytes } from "../../scripts/demo/files.ts";
import { type Ended, freePort, Program, type ProgramOptions } from "../../scripts/demo/program.ts";
import { compareFolders, listFiles } from "../../scripts/files.ts";
import { utf8 } from "../../wire/bytes.ts";
import { fingerprint } from "../../wire/ids.ts";
import { formatRelayAddress, parseRelayAddress } from "../../wire/relay-address.ts";
import { type Run, type RunOptions, runDevice, runRelay } from "./world.ts";

const escape = "\u001b";

describe("sync-relay and sync-cli", () => {
  let root = "";
  let relay: Program;
  let address = "";
  let invite = "";
  const programs: Program[] = [];
  const at = (...names: string[]): string => join(root, ...names);

  const start = (name: "sync-relay" | "sync-cli", args: string[], options: ProgramOptions = {}) => {
    const program = new Program(name, args, { cwd: root, ...options });
    programs.push(program);
    return program;
  };
  const run = (words: string, options: RunOptions = {}): Promise<Run> =>
    runDevice(words.split(" "), options);
  const well = async (words: string, options: RunOptions = {}): Promise<Run> => {
    const ended = await run(words, options);
    assert.equal(ended.code, 0, `${words}\n${ended.stdout}${ended.stderr}`);
    return ended;
  };
  const spawned = async (words: string): Promise<Ended> => {
    const ended = await start("sync-cli", words.split(" "), { input: "" }).ended;
    assert.equal(ended.code, 0, `${words}\n${ended.stdout}${ended.stderr}`);
    return ended;
  };
  const events = ({ stdout }: Pick<Run, "stdout">): Record<string, unknown>[] =>
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const serve = (...more: string[]): Program =>
    start("sync-relay", ["serve", "--data", at("relay"), "--log-level", "debug", ...more]);

  before(async () => {
    root = mkdtempSync(join(tmpdir(), "sync-cli-programs-"));
    process.chdir(root);
    relay = serve("--listen", "127.0.0.1:0");
    address = await relay.line((line) => line.startsWith("ws://"));
    const file = (await relay.line((line) => line.startsWith("first invite in "))).slice(16);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    invite = readFileSync(file, "utf8").trim();
    assert.ok(!relay.lines.join("\n").includes(invite), "the invite was printed to a pipe");
    mkdirSync(at("laptop-files/deep"), { recursive: true });
    writeFileSync(at("laptop-files/notes.txt"), "the canary sings");
    writeFileSync(at("laptop-files/deep/run.sh"), "#!/bin/sh\n", { mode: 0o755 });
    writeFileSync(at("laptop-files/empty"), "");
  });
  after(async () => {
    for (const program of programs) if (program.running) await program.stop("SIGKILL");
    process.chdir(tmpdir());
    rmSync(root, { recursive: true, force: true });
  });

  test("an address with another key is refused before anything is sent, and both fingerprints are shown", async () => {
    const { url, relayKey } = parseRelayAddress(address);
    const wrongKey = new Uint8Array(32).fill(9);
    const wrong = formatRelayAddress(new URL("/", url).href, wrongKey);
    const { code, stderr } = await run(
      `init --state laptop --relay ${wrong} --name l --invite ${invite}`,
    );
    assert.equal(code, 3, stderr);
    assert.match(stderr, /^error: the relay's key is not the one in its address/);
    assert.ok(
      stderr.includes(fingerprint(relayKey)) && stderr.includes(fingerprint(wrongKey)),
      stderr,
    );
    assert.ok(!existsSync(at("laptop")), "the state was not left as it was");
  });

  test("a relay that is not there ends with 4", async () => {
    const { relayKey } = parseRelayAddress(address);
    const nobody = formatRelayAddress(`ws://127.0.0.1:${await freePort()}/`, relayKey);
    const { code, stderr } = await run(
      `init --state laptop --relay ${nobody} --name l --invite ${invite}`,
    );
    assert.equal(code, 4, stderr);
    assert.match(stderr, /^error: the relay cannot be reached\nhint: /);
    assert.ok(!existsSync(at("laptop")), "the state was not left as it was");
  });

  test("founding without an invite or with a wrong one ends with 3", async () => {
    const none = await run(`init --state laptop --relay ${address} --name l`);
    assert.equal(none.code, 3, none.stderr);
    assert.match(
      none.stderr,
      /^error: founding a group on this relay needs an invite\nhint: .*--invite/,
    );
    const wrong = await run(
      `init --state laptop --relay ${address} --name l --invite ${"A".repeat(22)}`,
    );
    assert.equal(wrong.code, 3, wrong.stderr);
    assert.match(wrong.stderr, /^error: the invite is wrong, used, expired or cancelled\nhint: /);
    assert.ok(!existsSync(at("laptop")), "the state was not left as it was");
  });

  test("init founds a group with the relay's invite", async () => {
    const [event] = events(
      await spawned(
        `init --state laptop --relay ${address} --name canary-laptop --invite ${invite} --json`,
      ),
    );
    assert.equal(event?.["event"], "initialised");
    assert.equal(event?.["name"], "canary-laptop");
    assert.match(String(event?.["fingerprint"]), /^([0-9a-f]{4} ){4}[0-9a-f]{4}$/);
    assert.equal(event?.["relay"], address);
    // Only the owner may look: the seed is in there.
    assert.equal(statSync(at("laptop")).mode & 0o777, 0o700);
    for (const name of readdirSync(at("laptop"))) {
      assert.equal(statSync(at("laptop", name)).mode & 0o077, 0, name);
    }
  });

  test("a used invite founds no second group; a device founds no second one either", async () => {
    const used = await run(`init --state other --relay ${address} --name o --invite ${invite}`);
    assert.equal(used.code, 3, used.stderr);
    assert.ok(!existsSync(at("other")));
    const again = await run(`init --state laptop --relay ${address} --name l --invite ${invite}`);
    assert.equal(again.code, 2, again.stderr);
    assert.match(again.stderr, /in a group already\nhint: .*--state/);
  });

  test("a second device joins by code, after a wrong one was refused", async () => {
    const creating = start("sync-cli", "pair --create --yes --json --state laptop".split(" "));
    const { code, link } = await creating.event("invite");
    assert.match(String(code), /^([0-9A-Z]{4}-){3}[0-9A-Z]{4}$/);
    assert.match(String(link), /^syncrelay:pair#/);
    // The first half finds the mailbox; the second is the secret.
    const wrong = `${String(code).slice(0, 10)}${String(code).endsWith("-0000-0000") ? "1111-1111" : "0000-0000"}`;
    const refused = await run(`pair --join ${wrong} --state phone --relay ${address} --name p`);
    assert.equal(refused.code, 3, refused.stderr);
    assert.ok(!existsSync(at("phone")), "the state was not left as it was");
    const typed = String(code).toLowerCase().replaceAll("-", "");
    const joined = events(
      await spawned(
        `pair --join ${typed} --state phone --relay ${address} --name canary-phone --json`,
      ),
    );
    assert.deepEqual(
      joined.map(({ event }) => event),
      ["comparison", "joined"],
    );
    const joiner = await creating.event("joiner", ({ name }) => name === "canary-phone");
    assert.deepEqual(joiner["comparison"], joined[0]?.["words"]);
    assert.equal(joiner["means"], "code");
    const paired = await creating.event("paired");
    assert.equal(paired["deviceId"], joined[1]?.["deviceId"]);
    assert.equal((await creating.ended).code, 0);
    const used = await run(`pair --join ${String(link)} --state third --relay ${address} --name t`);
    assert.equal(used.code, 3, used.stderr);
    assert.match(used.stderr, /^error: the invite is wrong, used, expired or cancelled$/m);
    assert.ok(!existsSync(at("third")));
  });

  test("pushed files arrive as they were, with their paths", async () => {
    const pushed = await spawned("push -r --base laptop-files laptop-files --state laptop");
    assert.match(pushed.stderr, /^pushed 3 entries, \d+ B$/m);
    assert.deepEqual(pushed.stdout.trimEnd().split("\n").toSorted(), [
      "pushed  deep/run.sh",
      "pushed  empty",
      "pushed  notes.txt",
    ]);
    assert.ok(!`${pushed.stdout}${pushed.stderr}`.includes(escape), "colours in a pipe");
    const pulled = events(await spawned("pull --state phone --out phone-files --json"));
    assert.deepEqual(compareFolders(at("laptop-files"), at("phone-files")), []);
    assert.notEqual(statSync(at("phone-files/deep/run.sh")).mode & 0o100, 0);
    const entry = pulled.find(({ path }) => path === "notes.txt");
    assert.deepEqual(
      [
        entry?.["event"],
        entry?.["own"],
        entry?.["bytes"],
        entry?.["contentType"],
        entry?.["written"],
      ],
      ["entry", false, 16, fileContentType, true],
    );
    const { appliedCursor, ...summary } = pulled.at(-1) ?? {};
    assert.deepEqual(summary, { event: "pulled", entries: 3, bytes: 26, written: 3 });
    assert.equal(appliedCursor, entry === undefined ? 0 : 3);
  });

  test("what was acknowledged does not come again; --after reads it again and moves nothing", async () => {
    const again = await well("pull --state phone --out phone-files --json");
    assert.deepEqual(events(again), [
      { event: "pulled", entries: 0, bytes: 0, written: 0, appliedCursor: 3 },
    ]);
    const reread = events(await well("pull --state phone --after 1 --out reread --json"));
    assert.deepEqual(
      reread.map(({ cursor }) => cursor),
      [2, 3, undefined],
    );
    assert.equal(listFiles(at("reread")).length, 2);
  });

  test("bytes from standard input, and a path that leads out, are kept under their cursor", async () => {
    await well("push - --state laptop", { input: "plain bytes" });
    const evil = encodeFile({
      path: "../escaped",
      executable: false,
      modifiedMs: 0,
      data: utf8("evil"),
    });
    await well(`push - --content-type ${fileContentType} --state laptop`, { input: evil });
    const { stderr } = await well("pull --state phone --out phone-files");
    assert.match(stderr, /^warning: \.\.\/escaped: .* kept as 5\.bin$/m);
    assert.equal(readFileSync(at("phone-files/4.bin"), "utf8"), "plain bytes");
    assert.equal(readFileSync(at("phone-files/5.bin"), "utf8"), "evil");
    assert.ok(!existsSync(at("escaped")));
    // A device that lacks nothing says so, although it has only just connected.
    const [status] = events(await well("status --state phone --json"));
    assert.equal(status?.["inSync"], true);
  });

  test("the largest file that fits goes through; one byte more is refused here, with the limit", async () => {
    const bytes = largestFileBytes("largest", 0);
    writeFileSync(at("largest"), new Uint8Array(bytes).fill(7));
    await well("push largest --state laptop");
    writeFileSync(at("toolong"), new Uint8Array(bytes + 1).fill(7));
    writeFileSync(at("small"), "small");
    const { code, stdout, stderr } = await run("push small toolong --state laptop");
    assert.equal(code, 1, stderr);
    assert.match(stderr, /^error: toolong: larger than the limit: at most 1048576 bytes$/m);
    assert.equal(stdout, "", "something was pushed all the same");
    const status = events(await well("status --state laptop --json"))[0];
    assert.equal(status?.["queued"], 0);
  });

  test("watch receives as it comes, pushes what it is told, and holds the state alone", async () => {
    const watching = start(
      "sync-cli",
      "watch --json --state phone --out phone-files --push -".split(" "),
    );
    await watching.event("in-sync");
    const second = await run("status --state phone");
    assert.equal(second.code, 3, second.stderr);
    assert.match(second.stderr, /^error: another process uses this device's state\nhint: /);
    writeFileSync(at("from-phone.txt"), "from the phone");
    watching.write("from-phone.txt");
    watching.write("missing.txt");
    await watching.event("durable", ({ path }) => path === "from-phone.txt");
    await well("push laptop-files/notes.txt --state laptop");
    await watching.event("entry", ({ path }) => path === "laptop-files/notes.txt");
    const { code, stderr } = await watching.stop("SIGTERM");
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^warning: not pushed: missing\.txt: no such file or folder$/m);
    await well("pull --state laptop --out laptop-received");
    assert.equal(readFileSync(at("laptop-received/from-phone.txt"), "utf8"), "from the phone");
  });

  test("status and devices tell where things stand", async () => {
    const [status] = events(await well("status --state laptop --json"));
    assert.equal(status?.["event"], "status");
    assert.equal(status?.["connection"], "online");
    assert.equal(status?.["membership"], "member");
    assert.equal(status?.["devices"], 2);
    assert.equal(status?.["name"], "canary-laptop");
    const devices = events(await well("devices --state laptop --json"));
    assert.deepEqual(devices.map(({ name }) => String(name)).toSorted(), [
      "canary-laptop",
      "canary-phone",
    ]);
    const { stdout } = await well("devices --state laptop");
    assert.match(stdout, /canary-laptop \(this one\) +([0-9a-f]{4} ){5}/);
  });

  test("delete takes a blob id from the output of push", async () => {
    const pushed = events(await well("push laptop-files/notes.txt --state laptop --json"));
    const blobId = String(pushed.find(({ event }) => event === "durable")?.["blobId"]);
    const [deleted] = events(await well(`delete ${blobId} --force --state laptop --json`));
    assert.deepEqual([deleted?.["event"], deleted?.["blobIds"]], ["deleted", [blobId]]);
  });

  test("a second relay on the same data folder is refused", async () => {
    const second = await runRelay(["serve", "--data", at("relay"), "--listen", "127.0.0.1:0"]);
    assert.equal(second.code, 4, second.stderr);
    assert.match(second.stderr, /^error: another relay uses the data folder .*\nhint: /m);
  });

  test("a relay where somebody listens already is refused", async () => {
    const { host } = new URL(parseRelayAddress(address).url);
    const second = await runRelay(["serve", "--data", at("relay-2"), "--listen", host]);
    assert.equal(second.code, 4, second.stderr);
    assert.match(second.stderr, /^error: cannot listen on .*\nhint: .*--listen/m);
  });

  test("sync-relay address prints the same address without starting", async () => {
    const { url, relayKey } = parseRelayAddress(address);
    const data = ["--data", at("relay")];
    const printed = await runRelay(["address", ...data, "--listen", new URL(url).host]);
    assert.deepEqual([printed.code, printed.stdout], [0, `${address}\n`]);
    const tunnel = await runRelay(["address", ...data, "--public-url", "wss://sync.example.com/"]);
    assert.equal(tunnel.stdout, `${formatRelayAddress("wss://sync.example.com/", relayKey)}\n`);
    const none = await runRelay(["address", "--data", at("nothing")]);
    assert.equal(none.code, 2, none.stderr);
    assert.match(none.stderr, /^error: this folder holds no relay yet\nhint: .*sync-relay serve/);
    assert.ok(!existsSync(at("nothing")));
  });

  test("the relay stops at SIGTERM; a push then waits on the device and goes out later", async () => {
    const { code, stderr } = await relay.stop("SIGTERM");
    assert.equal(code, 0, stderr);
    const unreachable = await run("push laptop-files/notes.txt --state laptop");
    assert.equal(unreachable.code, 4, unreachable.stderr);
    assert.match(unreachable.stderr, /^still queued on this device: 1 entry;/m);
    const queued = events(await well("push laptop-files/empty --queue --state laptop --json"));
    assert.deepEqual(
      queued.map(({ event }) => event),
      ["queued", "pushed"],
    );
    const [status] = events(await well("status --state laptop --json"));
    assert.deepEqual([status?.["queued"], status?.["connection"]], [2, "waiting"]);

    const again = serve("--listen", new URL(parseRelayAddress(address).url).host);
    assert.equal(await again.line((line) => line.startsWith("ws://")), address);
    await well("pull --state laptop --out laptop-received");
    const pulled = events(await well("pull --state phone --out phone-files --json"));
    assert.ok(
      pulled.some(({ path }) => path === "laptop-files/empty"),
      "the queue did not go out",
    );
  });

  test("no secret, device name or content stands in the relay's files or log", () => {
    const logs = programs.filter((program) => program.relay).map((program) => program.stderr);
    assert.ok(logs.join("").length > 0, "the relay logged nothing");
    const files = listFiles(at("relay")).map((name) => readFileSync(at("relay", name)));
    for (const secret of ["canary", "notes.txt", "from the phone"]) {
      for (const log of logs) assert.ok(!log.includes(secret), `the log holds ${secret}`);
      for (const file of files) assert.ok(!file.includes(secret), `the store holds ${secret}`);
    }
    for (const log of logs) assert.ok(!log.includes(invite), "the log holds the invite");
  });
});
