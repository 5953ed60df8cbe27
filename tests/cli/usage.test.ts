import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { defaultStateFolder } from "../../cli/device/device.ts";
import { softwareVersion } from "../../wire/protocol.ts";
import { runDevice, runRelay } from "./world.ts";

const relay = `ws://127.0.0.1:9/#${"A".repeat(43)}`;

describe("wrong usage of sync-cli ends with 2, names the next step and makes nothing", () => {
  let root = "";
  before(() => {
    root = mkdtempSync(join(tmpdir(), "sync-cli-usage-"));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  const cases: readonly (readonly [words: string, problem: RegExp, step: RegExp])[] = [
    ["frobnicate", /unknown command/, /sync-cli --help/],
    ["push", /missing required argument 'file'/, /sync-cli push --help/],
    ["push a --wrong", /unknown option '--wrong'/, /sync-cli push --help/],
    ["push a --ttl soon", /a whole number/, /sync-cli push --help/],
    ["push - -", /standard input/, /./],
    ["push missing", /missing: no such file or folder/, /^/],
    ["push tests", /a folder/, /push -r/],
    ["push package.json --content-type a/b", /raw bytes/, /--raw/],
    ["push package.json", /no device in/, /sync-cli init/],
    ["pull", /no device in/, /pair --join/],
    ["pull --after -1", /whole number/, /pull --help/],
    ["watch", /no device in/, /pair --join/],
    ["status", /no device in/, /sync-cli init/],
    ["devices", /no device in/, /sync-cli init/],
    ["delete", /missing required argument/, /delete --help/],
    ["delete nonsense", /not a blob id/, /--json/],
    ["init", /required option '--relay <address>'/, /init --help/],
    ["init --relay sync.example.com", /wss:\/\//, /sync-relay address/],
    ["init --relay ws://127.0.0.1:9/", /ends with #/, /sync-relay address/],
    [`init --relay ${relay} --invite short`, /no invite/, /runs the relay/],
    [`init --relay ${relay} --name ${"x".repeat(65)}`, /1 to 64 bytes/, /--name/],
    ["pair", /either --create or --join/, /pair --help/],
    ["pair --create --join x", /cannot be used with/, /pair --help/],
    ["pair --create", /terminal/, /--yes/],
    ["pair --create --yes --name x", /go with --join/, /pair --help/],
    ["pair --create --yes", /no device in/, /sync-cli init/],
    ["pair --join 7K2M-9QXA-04TB-VD8E", /relay's address/, /--relay/],
    ["pair --join 7K2M-9QXA-04TB-VD8E --yes", /--yes goes with --create/, /pair --help/],
  ];

  for (const [words, problem, step] of cases) {
    test(`sync-cli ${words.slice(0, 60)}`, async () => {
      const state = join(root, "state");
      const { code, stdout, stderr } = await runDevice(words.split(" "), {
        env: { XDG_STATE_HOME: root },
      });
      assert.equal(code, 2, stderr);
      assert.equal(stdout, "");
      const [error, hint] = stderr.split("\n");
      assert.match(error ?? "", /^error: [^A-Z]/);
      assert.match(error ?? "", problem);
      assert.match(hint ?? "", step);
      assert.ok(!existsSync(state) && !existsSync(join(root, "sync-cli")), "something was made");
    });
  }

  test("a mistyped code gets one clear answer before anything is made", async () => {
    for (const code of [
      "7K2M-9QXA-04TB",
      "7K2M-9QXA-04TB-VD8U",
      "hello",
      "syncrelay:pair#nonsense",
    ]) {
      const { code: exit, stderr } = await runDevice(["pair", "--join", code, "--relay", relay], {
        env: { XDG_STATE_HOME: root },
      });
      assert.equal(exit, 3, stderr);
      assert.match(stderr, /^error: the invite is wrong, used, expired or cancelled\nhint: /);
      assert.ok(!existsSync(join(root, "sync-cli")), "something was made");
    }
  });

  test("with --json the error is an object on stdout", async () => {
    const { code, stdout, stderr } = await runDevice(["push", "--json"], {});
    assert.equal(code, 2);
    assert.equal(stderr, "");
    const { event, error } = JSON.parse(stdout) as {
      event: string;
      error: Record<string, unknown>;
    };
    assert.equal(event, "error");
    assert.deepEqual(Object.keys(error), ["code", "name", "message", "hint"]);
    assert.deepEqual([error["code"], error["name"]], [0, "USAGE"]);
  });
});

describe("wrong usage of sync-relay ends with 2 and names the next step", () => {
  const cases: readonly (readonly [words: string, problem: RegExp])[] = [
    ["frobnicate", /unknown command/],
    ["serve --founding anybody", /Allowed choices are open, invite, closed/],
    ["serve --listen nowhere", /127\.0\.0\.1:8080/],
    ["serve --public-url https://sync.example.com/", /wss:\/\//],
    ["serve --wrong", /unknown option '--wrong'/],
    ["serve extra", /too many arguments/],
    ["address --data tests/cli/nothing", /holds no relay yet/],
  ];
  for (const [words, problem] of cases) {
    test(`sync-relay ${words}`, async () => {
      const { code, stdout, stderr } = await runRelay(words.split(" "));
      assert.equal(code, 2, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^error: [^A-Z].*\nhint: .*sync-relay/);
      assert.match(stderr, problem);
    });
  }
});

describe("help", () => {
  test("--version prints the version", async () => {
    for (const run of [runDevice, runRelay]) {
      const { code, stdout } = await run(["--version"]);
      assert.deepEqual([code, stdout], [0, `${softwareVersion}\n`]);
    }
  });

  test("every command's help has an example or a note, and fits a terminal", async () => {
    const { code, stdout } = await runDevice(["--help"]);
    assert.equal(code, 0);
    assert.match(stdout, /Examples:/);
    assert.match(stdout, /Exit codes:/);
    for (const command of [
      "init",
      "pair",
      "push",
      "pull",
      "watch",
      "status",
      "devices",
      "delete",
    ]) {
      assert.match(stdout, new RegExp(`^ {2}${command} `, "m"));
      const help = await runDevice([command, "--help"]);
      assert.equal(help.code, 0);
      assert.match(help.stdout, /Example|code 0|names/);
    }
  });

  test("without a command the help is shown and the exit code is 2", async () => {
    const { code, stdout, stderr } = await runDevice([]);
    assert.equal(code, 2);
    assert.match(`${stdout}${stderr}`, /Usage: sync-cli/);
  });

  test("the state's folder follows the XDG Base Directory Specification", () => {
    assert.equal(defaultStateFolder({ XDG_STATE_HOME: "/x" }), "/x/sync-cli");
    assert.match(defaultStateFolder({}), /\.local\/state\/sync-cli$/);
    assert.match(defaultStateFolder({ XDG_STATE_HOME: "relative" }), /\.local\/state\/sync-cli$/);
  });
});
