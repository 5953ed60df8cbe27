/**
 * `npm run demo`: a relay and two devices on this machine, real processes all
 * three, which sync the files of this repository both ways while the relay and
 * one device are killed. Ends with `identical …` and exit code 0, or with what
 * differs and 1.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareFolders, listFiles } from "../files.ts";
import { type DemoFiles, prepareFiles } from "./files.ts";
import { freePort, Program, type ProgramEvent } from "./program.ts";

/** Far above what it takes: whatever hangs is to be told, not waited for. */
const longestMs = 110_000;

/** The demo did not show what it is to show. */
class DemoFailure extends Error {
  override readonly name = "DemoFailure";
}

/** A device of the demo: its folders, its process, and what that has told. */
interface Device {
  readonly name: string;
  readonly state: string;
  /** The files it sends. */
  readonly outgoing: string;
  /** Where it puts what it receives. */
  readonly received: string;
  readonly files: DemoFiles;
  /** How many of its files it was told to send. */
  told: number;
  program: Program | undefined;
}

/** Ends the demo, wherever it stands. */
let fail: (error: Error) => void = () => undefined;

const startedMs = performance.now();
const programs: Program[] = [];

function say(text: string): void {
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(5);
  process.stdout.write(`${seconds} s  ${text}\n`);
}

function demand(condition: boolean, text: string): asserts condition {
  if (!condition) throw new DemoFailure(text);
}

function start(...args: ConstructorParameters<typeof Program>): Program {
  const program = new Program(...args);
  programs.push(program);
  return program;
}

/** Runs a command to its end, and wants it to end well. */
async function run(...args: ConstructorParameters<typeof Program>): Promise<Program> {
  const program = start(...args);
  const { code, stdout, stderr } = await program.ended;
  demand(code === 0, `${args[0]} ${args[1].join(" ")} ended with ${code}\n${stdout}${stderr}`);
  return program;
}

/** Resolves once the condition holds, which is looked at with every event of these programs. */
function until(condition: () => boolean, watched: readonly Program[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      if (condition()) resolve();
    };
    for (const program of watched) {
      program.onEvent(look);
      program.ended.then(({ code, signal, stderr }) => {
        look();
        reject(new DemoFailure(`a program ended (${code ?? signal}) on its own\n${stderr}`));
      }, reject);
    }
  });
}

/** The paths a device's process has told of with events of one kind, own files or others'. */
function pathsOf(program: Program, kind: string, own?: boolean): Set<string> {
  const paths = new Set<string>();
  for (const event of program.events) {
    if (event.event !== kind || (own !== undefined && event["own"] !== own)) continue;
    paths.add(String(event["path"]));
  }
  return paths;
}

function watch(device: Device, folder: string): Program {
  const program = start(
    "sync-cli",
    [
      "watch",
      "--json",
      "--state",
      device.state,
      "--out",
      device.received,
      "--push",
      "-",
      "--base",
      device.outgoing,
    ],
    { cwd: device.outgoing, log: join(folder, `${device.name}.log`) },
  );
  // The relay is honest: whatever a device finds wrong with the history is a defect.
  program.onEvent((event) => {
    if (["gap", "integrity", "error"].includes(event.event)) {
      fail(new DemoFailure(`${device.name} told of ${JSON.stringify(event)}`));
    }
  });
  device.program = program;
  return program;
}

/** Tells a device to send its files up to this share of them. */
function send(device: Device, share: number): void {
  const upTo = Math.ceil(device.files.paths.length * share);
  for (const path of device.files.paths.slice(device.told, upTo)) device.program?.write(path);
  device.told = upTo;
}

function serve(folder: string, port: number): Program {
  return start(
    "sync-relay",
    [
      "serve",
      "--json",
      "--listen",
      `127.0.0.1:${port}`,
      "--data",
      join(folder, "relay"),
      "--log-level",
      "debug",
    ],
    { log: join(folder, "relay.log") },
  );
}

async function demo(folder: string): Promise<string> {
  // Long and random: found nowhere by accident.
  const canary = `canary-${randomBytes(16).toString("hex")}`;
  const tag = randomBytes(4).toString("hex");
  const [laptop, phone] = devicesIn(folder, canary, tag);
  const { real, bytes } = {
    real: laptop.files.real + phone.files.real,
    bytes: laptop.files.bytes + phone.files.bytes,
  };
  demand(real >= 200, `only ${real} files to send; 200 are wanted`);
  say(
    `${real} files of this repository, half for each device, and three at the edges each: empty, one byte, the largest that fits (${mebibytes(bytes)} in all)`,
  );

  const port = await freePort();
  let relay = serve(folder, port);
  const address = String((await relay.event("serving"))["address"]);
  const invite = readFileSync(String((await relay.event("invite"))["file"]), "utf8").trim();
  say(`the relay serves at ${address}`);

  await run("sync-cli", [
    "init",
    "--json",
    "--state",
    laptop.state,
    "--relay",
    address,
    "--name",
    laptop.name,
    "--invite",
    invite,
  ]);
  say("the laptop founded a group with the relay's first invite");
  await pair(laptop, phone, address);

  const left = watch(laptop, folder);
  let right = watch(phone, folder);
  send(laptop, 0.4);
  send(phone, 0.4);
  const early = Math.ceil(Math.min(laptop.files.paths.length, phone.files.paths.length) * 0.2);
  await until(
    () =>
      pathsOf(left, "entry", false).size >= early && pathsOf(right, "entry", false).size >= early,
    [left, right],
  );
  // More is under way, and none of it awaited, at the moment the relay dies.
  send(laptop, 0.6);
  send(phone, 0.6);
  await relay.stop("SIGKILL");
  const acknowledged = new Set([...pathsOf(left, "durable"), ...pathsOf(right, "durable")]);
  say(
    `SIGKILL to the relay: it had acknowledged ${acknowledged.size} files; the laptop had ${pathsOf(left, "entry", false).size} of the phone's, the phone ${pathsOf(right, "entry", false).size} of the laptop's`,
  );

  send(laptop, 0.8);
  send(phone, 1);
  await until(
    () =>
      pathsOf(left, "queued").size === laptop.told && pathsOf(right, "queued").size === phone.told,
    [left, right],
  );
  const waiting = laptop.told + phone.told - acknowledged.size;
  say(`both devices go on without it: ${waiting} files wait on them`);

  const beforeRestart = right.events.length;
  relay = serve(folder, port);
  await relay.event("serving");
  demand(
    String((await relay.event("serving"))["address"]) === address,
    "the relay came back with another key",
  );
  await until(
    () => right.events.slice(beforeRestart).some(({ event }) => event === "entry"),
    [right],
  );
  await right.stop("SIGKILL");
  const firstLife = right;
  const seenBefore = entriesOf(firstLife);
  say(`the relay is back; SIGKILL to the phone, which had ${seenBefore.length} entries`);

  send(laptop, 1);
  await until(() => pathsOf(left, "durable").size === laptop.files.paths.length, [left]);
  say(
    `the laptop pushed its last files meanwhile: all ${laptop.files.paths.length} are on the relay's disk`,
  );

  const status = await run("sync-cli", ["status", "--json", "--state", phone.state]);
  const applied = Number((await status.event("status"))["appliedCursor"]);
  const lastSeen = Number(seenBefore.at(-1)?.["cursor"]);
  demand(applied > 0, "the phone's stored cursor is 0: it would begin anew");
  demand(
    applied <= lastSeen + 1,
    `the phone stored cursor ${applied}, beyond what it had (${lastSeen})`,
  );

  right = watch(phone, folder);
  const all = laptop.files.paths.length + phone.files.paths.length;
  const has = (program: Program, earlier: readonly ProgramEvent[] = []): boolean =>
    new Set([...earlier, ...entriesOf(program)].map(({ path }) => path)).size === all;
  await until(() => has(left) && has(right, seenBefore), [left, right]);
  const seenAfter = entriesOf(right);
  const first = Number(seenAfter[0]?.["cursor"]);
  demand(first === applied + 1, `the phone went on from cursor ${first}, not from ${applied + 1}`);
  say(
    `the phone, started again, went on from its stored cursor ${applied}: ${seenAfter.length} entries, not all ${all}`,
  );

  const lost = [...acknowledged].filter((path) => !pathsOf(left, "entry").has(path));
  demand(lost.length === 0, `acknowledged, then lost: ${lost.join(", ")}`);
  for (const program of [left, right, relay]) {
    const { code, stderr } = await program.stop("SIGTERM");
    demand(code === 0, `a program ended with ${code} at SIGTERM\n${stderr}`);
  }
  compare(laptop, phone, canary);
  searchRelay(folder, [canary, laptop.name, phone.name, laptop.files.paths[0] ?? ""]);

  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  return `identical: ${all} files (${laptop.files.paths.length} + ${phone.files.paths.length}, ${mebibytes(bytes)}) on both devices, ${real} of them real, in ${seconds} s`;
}

function devicesIn(folder: string, canary: string, tag: string): [Device, Device] {
  const places = ["laptop", "phone"].map((kind) => ({
    name: `${kind}-${tag}`,
    state: join(folder, kind, "state"),
    outgoing: join(folder, kind, "outgoing"),
    received: join(folder, kind, "received"),
  }));
  const [one, two] = places as [(typeof places)[number], (typeof places)[number]];
  for (const { outgoing } of places) mkdirSync(outgoing, { recursive: true });
  const [ofOne, ofTwo] = prepareFiles([one.outgoing, two.outgoing], canary);
  return [
    { ...one, files: ofOne, told: 0, program: undefined },
    { ...two, files: ofTwo, told: 0, program: undefined },
  ];
}

async function pair(laptop: Device, phone: Device, address: string): Promise<void> {
  const creating = start("sync-cli", [
    "pair",
    "--create",
    "--yes",
    "--json",
    "--state",
    laptop.state,
  ]);
  const code = String((await creating.event("invite"))["code"]);
  const joining = await run("sync-cli", [
    "pair",
    "--join",
    code,
    "--json",
    "--state",
    phone.state,
    "--relay",
    address,
    "--name",
    phone.name,
  ]);
  const { code: exit, stderr } = await creating.ended;
  demand(exit === 0, `pair --create ended with ${exit}\n${stderr}`);
  const words = (await joining.event("comparison"))["words"] as string[];
  const shown = (await creating.event("joiner"))["comparison"] as string[];
  demand(words.join(" ") === shown.join(" "), "the two screens showed different words");
  say(`the phone joined with ${code}; both screens showed: ${words.join(" ")}`);
}

function entriesOf(program: Program): ProgramEvent[] {
  return program.events.filter(({ event }) => event === "entry");
}

/** Both folders, with each other and with what was sent. */
function compare(laptop: Device, phone: Device, canary: string): void {
  const differences = compareFolders(laptop.received, phone.received);
  demand(differences.length === 0, `the devices differ in:\n${differences.join("\n")}`);
  let withCanary = 0;
  for (const { outgoing, files } of [laptop, phone]) {
    for (const path of files.paths) {
      const sent = readFileSync(join(outgoing, path));
      const received = readFileSync(join(laptop.received, path));
      demand(sent.equals(received), `${path} is not what was sent`);
      if (received.includes(canary)) withCanary += 1;
    }
  }
  const received = listFiles(laptop.received).length;
  const all = laptop.files.paths.length + phone.files.paths.length;
  demand(received === all, `${received} files were received, ${all} were sent`);
  demand(withCanary === all - 4, `the canary stands in ${withCanary} files, expected ${all - 4}`);
  say(
    `compared byte for byte: ${all} files on each device, as they were sent; the canary stands in ${withCanary} of them`,
  );
}

/** Nothing that the devices know may stand in the relay's folder or its log. */
function searchRelay(folder: string, secrets: readonly string[]): void {
  let bytes = 0;
  const files = listFiles(join(folder, "relay")).map((name) => join(folder, "relay", name));
  files.push(join(folder, "relay.log"));
  for (const file of files) {
    const content = readFileSync(file);
    bytes += content.byteLength;
    for (const secret of secrets) {
      demand(!content.includes(secret), `${file} of the relay holds ${secret}`);
    }
  }
  demand(bytes > 1024 * 1024, `the relay's files hold ${bytes} bytes: too few to be everything`);
  say(
    `searched the relay's ${files.length} files (${mebibytes(bytes)}), its log too: no canary, no device name, no file name`,
  );
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

/** What there is to know where it went wrong: the last lines of every program. */
function lastWords(folder: string): string {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".log"))
    .map((name) => `--- ${name}\n${readFileSync(join(folder, name), "utf8").slice(-1500)}`)
    .join("\n");
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "sync-relay-demo-"));
  const ending = new Promise<never>((_resolve, reject) => {
    fail = reject;
  });
  const interrupted = (): void => fail(new DemoFailure("interrupted"));
  setTimeout(
    () => fail(new DemoFailure(`not done after ${longestMs / 1000} s`)),
    longestMs,
  ).unref();
  process.on("SIGINT", interrupted);
  process.on("SIGTERM", interrupted);
  try {
    const verdict = await Promise.race([demo(folder), ending]);
    process.stdout.write(`${verdict}\n`);
  } catch (error) {
    const text = error instanceof DemoFailure ? error.message : String((error as Error).stack);
    process.stdout.write(`${lastWords(folder)}\nnot identical: ${text}\n`);
    process.exitCode = 1;
  } finally {
    for (const program of programs) if (program.running) await program.stop("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
