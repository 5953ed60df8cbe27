/** One run: a folder, a relay, devices behind proxies of their own, and the story of what happened. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Chance } from "../simulation/chance.ts";
import { longMs } from "./bounded.ts";
import type { Built } from "./build.ts";
import { Device, type DeviceChoices } from "./device-process.ts";
import { canary } from "./processes/content.ts";
import { FaultProxy } from "./proxy.ts";
import { RelayProcess, type RelaySettings } from "./relay-process.ts";
import { type Counted, describeCounted, type Excuses, judge } from "./truth.ts";

/** What this machine does not permit: the scenario is left out, and that is said. */
export class NotHere extends Error {
  override readonly name = "NotHere";
}

export interface WorldChoices {
  readonly built: Built;
  readonly seed: number;
  readonly tell: (text: string) => void;
  /** Of the whole run: full runs do more of everything. */
  readonly short: boolean;
}

export type AddChoices = Partial<
  Pick<DeviceChoices, "speed" | "snapshots" | "slowMs" | "state" | "start" | "relay">
> & { readonly direct?: boolean };

export class World {
  readonly chance: Chance;
  readonly folder: string;
  readonly built: Built;
  readonly short: boolean;
  readonly story: string[] = [];
  readonly devices: Device[] = [];
  readonly tell: (text: string) => void;
  /** What the judgement came to; undefined before `conclude`. */
  counted: Counted | undefined;
  #relay: RelayProcess | undefined;
  #ownRelay = true;
  readonly #proxies: FaultProxy[] = [];
  readonly #ends: (() => unknown)[] = [];

  constructor({ built, seed, tell, short }: WorldChoices) {
    this.built = built;
    this.chance = new Chance(seed);
    this.short = short;
    // Where the temporary folder is memory, so is this: the ends of processes are what is tried here.
    this.folder = mkdtempSync(join(tmpdir(), "sync-relay-chaos-"));
    const beganMs = performance.now();
    this.tell = (text) => {
      const line = `${((performance.now() - beganMs) / 1_000).toFixed(1).padStart(6)} s  ${text}`;
      this.story.push(line);
      tell(line);
    };
  }

  get relay(): RelayProcess {
    if (this.#relay === undefined) throw new Error("there is no relay yet");
    return this.#relay;
  }

  /** Carried out at the end, whatever happens; the last first. */
  after(end: () => unknown): void {
    this.#ends.push(end);
  }

  async startRelay(
    choices: Partial<Pick<RelaySettings, "settings" | "data" | "host" | "founding">> = {},
    how: RelayProcess["usual"] = {},
  ): Promise<RelayProcess> {
    const data = choices.data ?? join(this.folder, "relay");
    const relay = new RelayProcess({
      built: this.built,
      port: await freePort(),
      logFile: join(this.folder, "relay.log"),
      ...choices,
      data,
    });
    this.#relay = relay;
    relay.usual = how;
    if (!(await relay.start())) throw new Error(`the relay does not start\n${this.relayLog()}`);
    return relay;
  }

  /** Devices of this run come to the relay of another one, which starts and stops it. */
  shareRelay(relay: RelayProcess): void {
    this.#relay = relay;
    this.#ownRelay = false;
  }

  relayLog(): string {
    return readFileSync(join(this.folder, "relay.log"), "utf8").slice(-4_000);
  }

  /** A device that is in no group yet. */
  async add(name: string, choices: AddChoices = {}): Promise<Device> {
    let proxy: FaultProxy | undefined;
    if (choices.direct !== true) {
      proxy = await FaultProxy.start(this.relay.port, new Chance(this.chance.int(0, 2 ** 31)));
      this.#proxies.push(proxy);
    }
    const folder = join(this.folder, name.replaceAll(" ", "-"));
    mkdirSync(folder);
    const device = new Device({ built: this.built, folder, name, proxy, ...choices });
    this.devices.push(device);
    if (!(await device.start())) throw new Error(`${name} does not start`);
    return device;
  }

  /** A relay and a group of so many devices, the first of them its founder. */
  async group(count: number, choices: AddChoices = {}): Promise<Device[]> {
    if (this.#relay === undefined) await this.startRelay();
    const founder = await this.add("device 1", { ...choices, relay: this.relay.address });
    await founder.call("found");
    const devices = [founder];
    for (let i = 2; i <= count; i++) {
      // A device opens five invites a minute.
      const inviter = devices[Math.floor((i - 2) / 4)] as Device;
      devices.push(await this.join(inviter, `device ${i}`, choices));
    }
    this.tell(`a group of ${count}`);
    return devices;
  }

  async join(inviter: Device, name: string, choices: AddChoices = {}): Promise<Device> {
    const device = await this.add(name, choices);
    await this.pair(inviter, device);
    return device;
  }

  async pair(inviter: Device, device: Device): Promise<void> {
    const link = await inviter.call<string>("invite");
    await device.call("join", { link });
    await device.until("a member", ({ membership }) => membership === "member");
  }

  /** Each pushes so many entries; resolved once they are queued. */
  async push(devices: readonly Device[], count: number, bytes = 200): Promise<void> {
    await Promise.all(devices.map((device) => device.call("push", { count, bytes })));
  }

  /** Everybody who is a member and runs has everything, and says so. */
  async settle(devices: readonly Device[] = this.members(), ms = longMs): Promise<void> {
    await Promise.all(devices.map((device) => device.call("flush", {}, ms)));
    await Promise.all(devices.map((device) => device.call("caughtUp", {}, ms)));
    const head = Math.max(...devices.map(({ standing }) => standing?.readCursor ?? 0));
    await Promise.all(
      devices.map((device) =>
        device.until(
          `in sync at ${head}`,
          ({ inSync, appliedCursor, queued }) => inSync && queued === 0 && appliedCursor >= head,
          ms,
        ),
      ),
    );
  }

  members(): Device[] {
    return this.devices.filter(({ member, running }) => member && running);
  }

  /** The end of all faults: everybody settles, and everything that must hold does. */
  async conclude(excuses: Excuses = {}): Promise<void> {
    for (const proxy of this.#proxies) proxy.heal();
    await this.settle();
    this.tell("everybody is in sync");
    for (const device of this.devices) await device.stop();
    if (this.#ownRelay) await this.relay.stop();
    const { wrong, counted } = judge(this.devices, excuses);
    this.counted = counted;
    wrong.push(...this.#leaks());
    if (this.#ownRelay) wrong.push(...(await this.#unwhole()));
    if (wrong.length > 0) {
      throw new Error(`${wrong.length} things are wrong\n${wrong.slice(0, 12).join("\n")}`);
    }
    this.tell(`${describeCounted(counted)}, each once on every device`);
  }

  async #unwhole(): Promise<string[]> {
    const drill = await this.command(["drill", "--data", this.relay.data]);
    return drill.code === 0 ? [] : [`the store is not whole: ${drill.text}`];
  }

  /** What a relay wrote must not hold what only devices read. */
  #leaks(): string[] {
    const needle = Buffer.from(canary);
    return readdirSync(this.relay.data, { recursive: true, encoding: "utf8", withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => readFileSync(path).includes(needle))
      .map((path) => `${path} holds plaintext`);
  }

  /** A command of `sync-relay`. */
  async command(
    args: readonly string[],
  ): Promise<{ readonly code: number; readonly text: string; readonly stdout: string }> {
    return await new Promise((resolve) => {
      execFile(process.execPath, [this.built.relay, ...args], (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
        resolve({ code, stdout, text: stdout + stderr });
      });
    });
  }

  async done(args: readonly string[]): Promise<string> {
    const { code, text, stdout } = await this.command(args);
    if (code !== 0) throw new Error(`sync-relay ${args.join(" ")} ended with ${code}: ${text}`);
    return stdout;
  }

  /** Ends everything and removes it. */
  async end(): Promise<void> {
    for (const device of this.devices) await device.kill();
    if (this.#ownRelay) await this.#relay?.kill();
    for (const proxy of this.#proxies) await proxy.close();
    for (const end of this.#ends.reverse()) await end();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
