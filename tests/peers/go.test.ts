/**
 * A device in another language, on another Noise: `tests/peers/go`, built with what Debian packages
 * (flynn/noise among it), joins a group of real devices on a real relay. Each opens what the other
 * pushed.
 *
 *     apt-get install golang-go golang-github-flynn-noise-dev golang-google-protobuf-dev \
 *       golang-github-gorilla-websocket-dev golang-golang-x-crypto-dev protobuf-compiler protoc-gen-go
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { fromUtf8, utf8 } from "../../wire/bytes.ts";
import { pairedDevices, TestRelay, testFolder } from "../integration/support.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Where Debian puts the sources of Go packages. */
const packages = "/usr/share/gocode";
const needed = [
  "github.com/flynn/noise",
  "github.com/gorilla/websocket",
  "golang.org/x/crypto/chacha20poly1305",
  "google.golang.org/protobuf/proto",
].map((name) => join(packages, "src", name));

/** What is missing; undefined where the peer can be built. */
function missing(): string | undefined {
  const tools = ["go", "protoc", "protoc-gen-go"].filter(
    (tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0,
  );
  const gone = [...tools, ...needed.filter((folder) => !existsSync(folder))];
  return gone.length === 0
    ? undefined
    : `NO INDEPENDENT PEER WAS TESTED: ${gone.join(", ")} missing; this file says what to install`;
}

function run(command: string, args: readonly string[], environment: NodeJS.ProcessEnv): void {
  const { status, stderr, error } = spawnSync(command, args, {
    cwd: root,
    env: environment,
    encoding: "utf8",
  });
  assert.equal(status, 0, `${command}: ${error?.message ?? stderr}`);
}

/** Builds the peer from its sources and the schema, and returns the program. */
function build(folder: string): string {
  const source = join(folder, "src/syncrelay/peer");
  mkdirSync(source, { recursive: true });
  cpSync(join(root, "tests/peers/go"), source, { recursive: true });
  const files = ["sync", "sealed"].flatMap((room) =>
    readdirSync(join(root, `proto/syncrelay/${room}/v1`)).map((name) => ({
      room,
      path: `syncrelay/${room}/v1/${name}`,
    })),
  );
  const names = files.map(({ room, path }) => `--go_opt=M${path}=syncrelay/${room}`);
  const paths = files.map(({ path }) => `proto/${path}`);
  run(
    "protoc",
    ["-I", "proto", `--go_out=${join(folder, "src")}`, ...names, ...paths],
    process.env,
  );
  const program = join(folder, "peer");
  run("go", ["build", "-o", program, "syncrelay/peer"], {
    ...process.env,
    GO111MODULE: "off",
    GOFLAGS: "",
    GOPATH: `${folder}:${packages}`,
  });
  return program;
}

test("a device in Go joins by a link, opens what others pushed, and is opened by them", {
  skip: missing() ?? false,
}, async (t) => {
  const program = build(await testFolder(t));
  const relay = await TestRelay.start(t, { founding: "open" });
  const [first, second] = await pairedDevices(t, relay, 2);
  assert(first !== undefined && second !== undefined);
  await first.client.push(utf8("from Node, early"));
  await second.client.push(utf8("from Node, larger ".repeat(10_000)));
  // Earlier content stands under an earlier epoch, which the joiner is not sealed.
  await first.client.rotate();
  await first.client.push(utf8("from Node, in the second epoch"));

  const invite = await first.client.invite({ confirm: () => true });
  const peer = spawn(program, [invite.link, "from Node, late"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => peer.kill("SIGKILL"));
  let errors = "";
  peer.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => peer.on("exit", resolve));
  const said: Record<string, unknown>[] = [];
  for await (const line of createInterface({ input: peer.stdout })) {
    const words = JSON.parse(line) as Record<string, unknown>;
    said.push(words);
    // It has read what there was, and waits from now on.
    if ("pushed" in words) await second.client.push(utf8("from Node, late"));
  }
  assert.equal(await ended, 0, errors);

  const opened = said.flatMap((words) => ("opened" in words ? [words["opened"]] : []));
  assert.deepEqual(opened, [
    "from Node, early",
    "from Node, larger ".repeat(10_000),
    "from Node, in the second epoch",
    "from Node, late",
  ]);
  assert.deepEqual(
    said.find((words) => "pushed" in words),
    { pushed: [4, 5] },
  );

  for (const { client } of [first, second]) {
    const read: string[] = [];
    for await (const entry of client.entries({ untilCaughtUp: true })) {
      read.push(fromUtf8(entry.data) ?? "?");
      await entry.ack();
    }
    assert.deepEqual(read.slice(3), ["from Go", "\0".repeat(100_000), "from Node, late"]);
    assert.deepEqual(client.findings(), []);
    const names = client.devices().map(({ name }) => name);
    assert(names.includes("the Go peer"), names.join());
  }
});
