/** SIGHUP on a real process: new limits hold, a mistake changes nothing, and no connection drops. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { readToken } from "../../server/admin/tokens.ts";
import { subprotocol } from "../../wire/protocol.ts";

interface LogLine {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** The log of a process, line by line as somebody asks for it. */
class Log {
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess) {
    assert(child.stderr !== null);
    this.#lines = createInterface({ input: child.stderr })[Symbol.asyncIterator]();
  }

  async until(event: string): Promise<LogLine> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error(`the log ended before ${event}`);
      if (!value.startsWith("{")) continue;
      const line = JSON.parse(value) as LogLine;
      if (line.event === event) return line;
    }
  }
}

test("SIGHUP takes new limits over and refuses a mistake, with line and key; connections stay", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "sync-relay-reload-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const config = join(folder, "relay.toml");
  const data = join(folder, "data");
  await writeFile(config, "[limits]\nstore_bytes_max = 1_000_000\n");
  const main = fileURLToPath(new URL("../../cli/relay/main.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    ["--import", "tsx", main, "serve", "--config", config, "--data", data].concat([
      "--listen",
      "127.0.0.1:0",
      "--listen-admin",
      "127.0.0.1:0",
    ]),
    { stdio: ["ignore", "ignore", "pipe"], env: { PATH: process.env["PATH"] } },
  );
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  t.after(() => child.kill("SIGKILL"));
  const log = new Log(child);
  const { port } = await log.until("started");
  const { port: sidePort } = await log.until("adminStarted");
  const limit = async (): Promise<string | undefined> => {
    const response = await fetch(`http://127.0.0.1:${String(sidePort)}/metrics`, {
      headers: { authorization: `Bearer ${(await readToken(data, "read")) ?? ""}` },
    });
    return /^sync_relay_store_limit_bytes (\d+)$/m.exec(await response.text())?.[1];
  };
  const socket = new WebSocket(`ws://127.0.0.1:${String(port)}/v1/sync`, subprotocol);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  let dropped = false;
  socket.once("close", () => {
    dropped = true;
  });
  assert.equal(await limit(), "1000000");

  await writeFile(
    config,
    'data = "/elsewhere"\nlog_level = "debug"\n[limits]\nstore_bytes_max = 2_000_000\n',
  );
  child.kill("SIGHUP");
  const reloaded = await log.until("configReloaded");
  assert.deepEqual(reloaded["changed"], ["log_level", "limits.store_bytes_max"]);
  // The flag comes before the file, so the folder has not changed.
  assert.deepEqual(reloaded["needRestart"], []);
  assert.equal(await limit(), "2000000");

  await writeFile(config, "[limits]\nstore_byte_max = 3_000_000\n");
  child.kill("SIGHUP");
  const refused = await log.until("configRefused");
  assert.deepEqual(refused["problems"], [
    `${config}:2: limits.store_byte_max is no setting; did you mean limits.store_bytes_max?`,
  ]);
  assert.equal(await limit(), "2000000");
  assert.equal(dropped, false);

  socket.terminate();
  child.kill("SIGTERM");
  assert.equal(await exited, 0);
});
