/**
 * What idle connections cost, and how long everybody takes to be back after a restart.
 *
 *     npm run build
 *     npx tsx bench/connections.ts --count 100                   memory, beside a bare ws server's
 *     npx tsx bench/connections.ts --count 10000 --restart       and then a restart with everybody connected
 *     npx tsx bench/connections.ts --count 100 --json --program PATH
 *     npx tsx bench/connections.ts --count 3000 --restart --profile DIR
 *
 * The relay is the built one, started as in the container. Devices are real ones up to the welcome; those of a
 * restart come back when the relay told them to, and again by a client's back-off where that fails. Each connection
 * takes a file descriptor at either end: raise the limit first, `ulimit -n 65536`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { KeyPair } from "../wire/channel.ts";
import { FrameSocket } from "./load/frame-socket.ts";
import { IdleDevice, NotWelcomed } from "./load/idle-device.ts";
import { foundGroup, freshKeys } from "./load/relay-device.ts";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "100" },
    program: { type: "string" },
    restart: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});
const total = Number(values.count);
const program =
  values.program ?? fileURLToPath(new URL("../dist/cli/relay/main.js", import.meta.url));
/** Where asked for, the relay leaves a profile of its processor time. */
const profiled =
  values.profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${resolve(values.profile)}`];
/** Linux counts processor time in these. */
const ticksPerS = 100;
/** Handshakes under way at once while everybody connects. */
const atOnce = 16;
/** Devices of one group. */
const groupSize = 100;

const bareServer = `
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("connection", (socket) => socket.on("message", (frame) => socket.send(frame)));
server.on("listening", () => console.log(server.address().port));
`;

function log(text: string): void {
  process.stderr.write(`connections: ${text}\n`);
}

/** Resident bytes of a process, after it had time to settle; `own` without the files it has mapped, as Node itself. */
async function residentBytes(child: ChildProcess): Promise<{ all: number; own: number }> {
  await sleep(3_000);
  const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
  const of = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1_024;
  return { all: of("VmRSS"), own: of("RssAnon") };
}

/** Processor seconds that a process has taken, of all its threads. */
function processorS(child: ChildProcess): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerS;
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("no output to read");
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error("the server ended by itself");
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** Runs work for each item, so many at once. */
async function each<Item>(
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function startRelayProcess(folder: string, port: number): Promise<ChildProcess> {
  const lifted = ["address_connections_per_min=1000000", "address_handshakes_max=1000"];
  const child = spawn(
    process.execPath,
    [
      ...profiled,
      program,
      "serve",
      ...`--data ${folder} --listen 127.0.0.1:${port} --listen-admin 127.0.0.1:0`.split(" "),
      ..."--founding open --log-level error --set limits.sessions_max=20000".split(" "),
      ...lifted.flatMap((setting) => ["--set", `limits.${setting}`]),
    ],
    { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, NODE_ENV: "production" } },
  );
  await firstLine(child);
  child.stdout?.resume();
  return child;
}

async function bare() {
  const child = spawn(process.execPath, ["-e", bareServer], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: fileURLToPath(new URL("..", import.meta.url)),
  });
  const port = Number(await firstLine(child));
  const empty = await residentBytes(child);
  const sockets: FrameSocket[] = [];
  await each([...Array(total).keys()], async () => {
    sockets.push(await FrameSocket.connect(port, "/"));
  });
  const full = await residentBytes(child);
  child.kill("SIGKILL");
  return { empty, full };
}

/** Why tries came to nothing, and how often. */
const failures = new Map<string, number>();

function logFailures(when: string): void {
  const counted = [...failures].map(([reason, count]) => `${count} × ${reason}`).join("; ");
  log(`tries that came to nothing ${when}: ${counted === "" ? "none" : counted}`);
  failures.clear();
}

/** Connects, and where that fails again, when the device's back-off says so. */
async function connected(device: IdleDevice, port: number): Promise<void> {
  for (;;) {
    try {
      await device.connect(port);
      return;
    } catch (error) {
      if (!(error instanceof NotWelcomed)) throw error;
      failures.set(error.message, (failures.get(error.message) ?? 0) + 1);
      await sleep(error.waitMs);
    }
  }
}

/** Everybody is connected; then the relay is restarted. Gives back how long each took to be back, in ms. */
async function restarted(
  relay: ChildProcess,
  devices: readonly IdleDevice[],
  folder: string,
  port: number,
): Promise<{ readonly waits: readonly number[]; readonly relay: ChildProcess }> {
  const waits: number[] = [];
  const backAgain = devices.map(
    (device) =>
      new Promise<void>((resolve) => {
        device.onGone = (waitMs) => {
          const gone = performance.now();
          const comeBack = async (): Promise<void> => {
            await sleep(waitMs);
            await connected(device, port);
            waits.push(performance.now() - gone);
            resolve();
          };
          void comeBack();
        };
      }),
  );
  const exited = once(relay, "exit");
  const asked = performance.now();
  relay.kill("SIGTERM");
  const [code] = (await exited) as [number | null];
  log(`SIGTERM: exit ${code} after ${Math.round(performance.now() - asked)} ms`);
  const ownBefore = process.cpuUsage();
  const next = await startRelayProcess(folder, port);
  await Promise.all(backAgain);
  logFailures("after the restart");
  const own = process.cpuUsage(ownBefore);
  log(
    `processor time of the return: relay ${processorS(next).toFixed(1)} s, devices ${((own.user + own.system) / 1e6).toFixed(1)} s`,
  );
  return { waits, relay: next };
}

const folder = mkdtempSync(join(tmpdir(), "sync-relay-connections-"));
const children: ChildProcess[] = [];
try {
  const limit = await bare();
  const port = await freePort();
  let relay = await startRelayProcess(folder, port);
  children.push(relay);
  const empty = await residentBytes(relay);
  log(
    `bare ws ${mib(limit.empty.all)}, with ${total} connections ${mib(limit.full.all)}; relay ${mib(empty.all)}`,
  );
  const keys = Array.from({ length: total }, freshKeys);
  const groups: (readonly KeyPair[])[] = [];
  for (let at = 0; at < total; at += groupSize) groups.push(keys.slice(at, at + groupSize));
  const devices: IdleDevice[] = [];
  for (const members of groups) {
    const groupId = await foundGroup({ port }, members);
    devices.push(...members.map((member) => new IdleDevice(member, groupId)));
  }
  const started = performance.now();
  await each(devices, (device) => connected(device, port));
  log(`${total} devices are welcomed after ${Math.round(performance.now() - started)} ms`);
  logFailures("at first");
  const full = await residentBytes(relay);
  const result: Record<string, unknown> = {
    count: total,
    bareEmptyBytes: limit.empty.all,
    bareEmptyOwnBytes: limit.empty.own,
    relayEmptyOwnBytes: empty.own,
    bareBytes: limit.full.all,
    bareOwnBytes: limit.full.own,
    relayEmptyBytes: empty.all,
    relayBytes: full.all,
    relayOwnBytes: full.own,
    ratio: full.all / limit.full.all,
    perConnectionBytes: Math.round((full.all - empty.all) / total),
    barePerConnectionBytes: Math.round((limit.full.all - limit.empty.all) / total),
  };
  let text = `${total} connections: relay ${mib(full.all)}, bare ws ${mib(limit.full.all)}, ratio ${(full.all / limit.full.all).toFixed(2)}; without mapped files ${mib(full.own)} and ${mib(limit.full.own)}`;
  if (values.restart) {
    const back = await restarted(relay, devices, folder, port);
    relay = back.relay;
    children.push(relay);
    const sorted = back.waits.toSorted((a, b) => a - b);
    const at = (share: number): number =>
      Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
    Object.assign(result, {
      back: sorted.length,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      longestMs: at(1),
    });
    text += `\nafter a restart ${sorted.length} are back; half after ${at(0.5)} ms, 99% after ${at(0.99)} ms, the last after ${at(1)} ms`;
  }
  for (const device of devices) device.close();
  process.stdout.write(`${values.json ? JSON.stringify(result) : text}\n`);
} finally {
  for (const child of children) child.kill("SIGTERM");
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);

function mib(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
