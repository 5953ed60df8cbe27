import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CommandError, ExitCode, failureOf } from "../../cli/exit-codes.ts";
import {
  count,
  formatBytes,
  formatDuration,
  formatTable,
  Output,
  printable,
} from "../../cli/output.ts";
import { ErrorCode, errorTable, SyncError } from "../../wire/errors.ts";

interface Written {
  readonly output: Output;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

function outputFor(options: {
  json?: boolean;
  terminal?: boolean;
  env?: Record<string, string>;
}): Written {
  let out = "";
  let err = "";
  const isTTY = options.terminal === true;
  const output = new Output({
    stdout: { isTTY, write: (text) => void (out += text) },
    stderr: { isTTY, columns: 80, write: (text) => void (err += text) },
    env: options.env ?? {},
    json: options.json === true,
  });
  return { output, stdout: () => out, stderr: () => err };
}

// The control sequences begin with ESC.
const escape = "\u001b";

describe("exit codes", () => {
  test("every code of the error table has its class's exit code", () => {
    const byClass: Record<number, number[]> = {
      1: [4],
      2: [3],
      3: [1],
      4: [3],
      5: [5],
      6: [6],
      7: [4, 1],
      8: [7],
    };
    for (const code of Object.keys(errorTable).map(Number)) {
      const failure = failureOf(new SyncError(code));
      assert.ok(
        byClass[Math.floor(code / 100)]?.includes(failure.exit),
        `${failure.name}: ${failure.exit}`,
      );
      assert.equal(failure.code, code);
      assert.equal(failure.name, errorTable[code as keyof typeof errorTable].name);
    }
    assert.equal(failureOf(new SyncError(ErrorCode.INTERNAL)).exit, 1);
  });

  test("every message is one lower-case line without a full stop", () => {
    for (const code of Object.keys(errorTable).map(Number)) {
      const { message, hint } = failureOf(new SyncError(code));
      assert.match(message, /^[^A-Z].*[^.]$/);
      assert.doesNotMatch(hint, /^[A-Z]|\.$|\n/);
    }
  });

  test("too large names the limit", () => {
    const failure = failureOf(
      new SyncError(ErrorCode.TOO_LARGE, {
        detail: { case: "tooLarge", value: { limit: 1_048_576n } },
      }),
    );
    assert.match(failure.message, /at most 1048576 bytes$/);
  });

  test("what an error carries for people goes before the common hint", () => {
    const failure = failureOf(
      new SyncError(ErrorCode.RELAY_KEY_MISMATCH, { hint: "ask somebody" }),
    );
    assert.equal(failure.hint, "ask somebody");
  });

  test("a missing file is wrong usage, a full disk a limit, anything else a defect", () => {
    const system = (code: string): Error =>
      Object.assign(new Error(`${code}: text of the system`), {
        code,
        syscall: "open",
        path: "a/b",
      });
    assert.equal(failureOf(system("ENOENT")).exit, ExitCode.usage);
    assert.equal(failureOf(system("ENOENT")).message, "a/b: no such file or folder");
    assert.equal(failureOf(system("ENOSPC")).exit, ExitCode.limit);
    assert.equal(failureOf(system("EWHATEVER")).exit, ExitCode.defect);
    assert.equal(failureOf(new TypeError("x")).exit, ExitCode.defect);
    assert.equal(failureOf("x").exit, ExitCode.defect);
    assert.equal(failureOf(new CommandError(ExitCode.log, "NAME", "text")).exit, ExitCode.log);
  });
});

describe("output", () => {
  test("data goes to stdout, everything else to stderr", () => {
    const { output, stdout, stderr } = outputFor({});
    output.event("entry", { path: "a" }, "a line");
    output.note("a note");
    output.warn("a warning");
    output.fail(failureOf(new CommandError(ExitCode.usage, "USAGE", "wrong", { hint: "do this" })));
    assert.equal(stdout(), "a line\n");
    assert.equal(stderr(), "a note\nwarning: a warning\nerror: wrong\nhint: do this\n");
  });

  test("with --json stdout is one object a line, and an error the last of them", () => {
    const { output, stdout, stderr } = outputFor({ json: true });
    output.event("entry", { path: "a", big: 3n }, "a line");
    output.note("a note");
    output.fail(failureOf(new SyncError(ErrorCode.INVITE_INVALID)));
    const lines = stdout()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(lines[0], { event: "entry", path: "a", big: 3 });
    const { event, error } = lines[1] as { event: string; error: Record<string, unknown> };
    assert.equal(event, "error");
    assert.deepEqual(Object.keys(error), ["code", "name", "message", "hint"]);
    assert.equal(error["code"], 404);
    assert.equal(stderr(), "");
  });

  test("colours and progress appear on a terminal only", () => {
    const piped = outputFor({});
    piped.output.progress("1 of 2");
    piped.output.event("x", {}, piped.output.paint("bold", "text"));
    piped.output.warn("text");
    assert.ok(!`${piped.stdout()}${piped.stderr()}`.includes(escape));
    const terminal = outputFor({ terminal: true });
    terminal.output.progress("1 of 2");
    terminal.output.event("x", {}, terminal.output.paint("bold", "text"));
    assert.ok(terminal.stdout().includes(`${escape}[1mtext${escape}[22m`));
    assert.ok(terminal.stderr().includes("1 of 2"));
  });

  test("NO_COLOR and a dumb terminal turn colours off; an empty NO_COLOR does not", () => {
    const painted = (env: Record<string, string>): string =>
      outputFor({ terminal: true, env }).output.paint("red", "x");
    assert.equal(painted({ NO_COLOR: "1" }), "x");
    assert.equal(painted({ TERM: "dumb" }), "x");
    assert.notEqual(painted({ NO_COLOR: "" }), "x");
  });

  test("what others wrote cannot drive the terminal", () => {
    assert.equal(printable(`a${escape}[2Jb\u202ec\r\nd`), "a\\u001b[2Jb\\u202ec\\u000d\\u000ad");
    assert.equal(printable("Zoë’s phone 📱"), "Zoë’s phone 📱");
    const { output, stderr } = outputFor({});
    output.warn(`${escape}]0;title\u0007`);
    assert.ok(!stderr().includes(escape));
  });

  test("figures for people", () => {
    assert.equal(formatBytes(0), "0 B");
    assert.equal(formatBytes(1023), "1023 B");
    assert.equal(formatBytes(1536), "1.5 KiB");
    assert.equal(formatBytes(1024 ** 4), "1024.0 GiB");
    assert.equal(formatDuration(1_500), "1.5 s");
    assert.equal(formatDuration(600_000), "10 min");
    assert.equal(formatDuration(72 * 3_600_000), "3 days");
    assert.equal(count(1, "entry", "entries"), "1 entry");
    assert.equal(count(1_200, "entry", "entries"), "1,200 entries");
    assert.equal(
      formatTable([
        ["a", "bb"],
        ["ccc", "d"],
      ]),
      "a    bb\nccc  d",
    );
  });
});
