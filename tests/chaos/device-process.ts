/** A device: its folders, which stay, and the process that is it just now. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, closeSync, cpSync, mkdirSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { bounded, longMs } from "./bounded.ts";
import type { Built } from "./build.ts";
import { readJournal } from "./processes/journal.ts";
import type {
  AppliedLine,
  DeviceSettings,
  EventLine,
  PushLine,
  Said,
  Standing,
} from "./processes/messages.ts";
import type { KillPoint } from "./processes/points.ts";
import type { FaultProxy } from "./proxy.ts";

/** How one start differs from the others. */
export interface DeviceStart {
  readonly dieAt?: DeviceSettings["dieAt"];
  readonly kill?: KillPoint;
  readonly env?: Readonly<Record<string, string>>;
  readonly under?: readonly string[];
}

export interface DeviceChoices {
  readonly built: Built;
  readonly folder: string;
  readonly name: string;
  readonly proxy: FaultProxy | undefined;
  readonly relay?: string | undefined;
  readonly speed?: number | undefined;
  readonly snapshots?: boolean | undefined;
  readonly slowMs?: number | undefined;
  /** Where the library keeps its state; below `folder` where not said. */
  readonly state?: string | undefined;
  readonly start?: DeviceStart | undefined;
}

interface Waiting {
  readonly method: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** How much faster than the world a device's timers run where nothing else is said. */
export const usualSpeed = 4;

export class Device {
  readonly name: string;
  readonly folder: string;
  readonly state: string;
  readonly proxy: FaultProxy | undefined;
  standing: Standing | undefined;
  starts = 0;
  /** Whether everything that was pushed must be here in the end. */
  member = true;
  choices: DeviceChoices;
  id = "";
  #child: ChildProcess | undefined;
  #exit: Promise<number | string> = Promise.resolve(0);
  #calls = new Map<number, Waiting>();
  #nextCall = 1;
  #watchers = new Set<() => void>();

  constructor(choices: DeviceChoices) {
    this.choices = choices;
    this.name = choices.name;
    this.folder = choices.folder;
    this.state = choices.state ?? join(choices.folder, "state");
    this.proxy = choices.proxy;
    mkdirSync(this.folder, { recursive: true });
    appendFileSync(join(this.folder, "applied"), "");
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** Starts it. Gives back whether it came as far as open. */
  async start(how: DeviceStart = this.choices.start ?? {}): Promise<boolean> {
    const { built, relay, speed = usualSpeed, snapshots, slowMs } = this.choices;
    const settings: DeviceSettings = {
      folder: this.folder,
      state: this.state,
      name: this.name,
      speed,
      ...(relay === undefined ? {} : { relay }),
      ...(this.proxy === undefined ? {} : { viaPort: this.proxy.port }),
      ...(how.dieAt === undefined ? {} : { dieAt: how.dieAt }),
      ...(snapshots === undefined ? {} : { snapshots }),
      ...(slowMs === undefined ? {} : { slowMs }),
    };
    const log = openSync(join(this.folder, "stderr"), "a");
    const args = [...(how.kill === undefined ? [] : ["--import", built.points]), built.device];
    const [command = process.execPath, ...before] = how.under ?? [];
    const child = spawn(
      command,
      how.under === undefined ? args : [...before, process.execPath, ...args],
      {
        stdio: ["ignore", log, log, "ipc"],
        env: {
          ...process.env,
          ...how.env,
          CHAOS_DEVICE: JSON.stringify(settings),
          ...(how.kill === undefined ? {} : { CHAOS_KILL: JSON.stringify(how.kill) }),
        },
      },
    );
    closeSync(log);
    this.starts += 1;
    this.#child = child;
    this.standing = undefined;
    const exit = once(child, "exit").then(([code, signal]) => {
      const how = (code as number | null) ?? (signal as string);
      if (this.#child !== child) return how;
      this.#child = undefined;
      for (const { reject } of this.#calls.values()) {
        reject(new Error(`${this.name} ended with ${how}`));
      }
      this.#calls.clear();
      for (const look of this.#watchers) look();
      return how;
    });
    this.#exit = exit;
    const ready = new Promise<boolean>((resolve) => {
      child.on("message", (said: Said) => {
        if ("ready" in said) resolve(true);
        else this.#hear(said);
      });
      void exit.then(() => resolve(false));
    });
    return await bounded(ready, longMs, () => `${this.name} is open`);
  }

  #hear(said: Exclude<Said, { ready: true }>): void {
    if ("standing" in said) {
      this.standing = said.standing;
      this.id = said.standing.deviceId;
      for (const look of this.#watchers) look();
      return;
    }
    const waiting = this.#calls.get(said.id);
    this.#calls.delete(said.id);
    if ("error" in said) {
      const cause = `${this.name}, ${waiting?.method}: ${said.hint}`;
      waiting?.reject(new Error(said.error, { cause }));
    } else waiting?.resolve(said.result);
  }

  async call<Result = void>(method: string, args: unknown = {}, ms = longMs): Promise<Result> {
    const id = this.#nextCall++;
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#child === undefined) {
        reject(new Error(`${this.name} does not run`));
        return;
      }
      this.#calls.set(id, { method, resolve, reject });
      this.#child.send({ id, method, args });
    });
    return (await bounded(
      answer,
      ms,
      () => `${this.name}: ${method}; ${this.describe()}`,
    )) as Result;
  }

  /** Waits until it stands so. */
  async until(what: string, holds: (standing: Standing) => boolean, ms = longMs): Promise<void> {
    let stop = (): void => undefined;
    const reached = new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (this.standing !== undefined && holds(this.standing)) resolve();
        else if (!this.running) reject(new Error(`${this.name} ended before it was ${what}`));
      };
      this.#watchers.add(look);
      stop = () => this.#watchers.delete(look);
      look();
    });
    try {
      await bounded(reached, ms, () => `${this.name} is ${what}; ${this.describe()}`);
    } finally {
      stop();
    }
  }

  describe(): string {
    const events = this.events()
      .slice(-5)
      .map((line) => line.join(" "));
    return `${JSON.stringify(this.standing ?? "not running")} ${events.join("; ")}`;
  }

  async ended(): Promise<number | string> {
    return await bounded(this.#exit, longMs, () => `${this.name} ends`);
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.ended();
  }

  /** Closes it in order. */
  async stop(): Promise<void> {
    if (!this.running) return;
    await this.call("close");
    this.#child?.disconnect();
    await this.ended();
  }

  async restart(how?: DeviceStart): Promise<void> {
    await this.kill();
    await this.start(how);
  }

  /** A copy of all it keeps, made while it does not run. */
  copyTo(folder: string): void {
    cpSync(this.state, join(folder, "state"), { recursive: true });
    cpSync(join(this.folder, "applied"), join(folder, "applied"));
  }

  /** What it keeps is what it was. What it ever pushed stays known to the run. */
  restoreFrom(folder: string): void {
    rmSync(this.state, { recursive: true });
    cpSync(join(folder, "state"), this.state, { recursive: true });
    cpSync(join(folder, "applied"), join(this.folder, "applied"));
  }

  pushes(): PushLine[] {
    return readJournal(join(this.folder, "pushes"));
  }

  applied(): AppliedLine[] {
    return readJournal(join(this.folder, "applied"));
  }

  events(): EventLine[] {
    return readJournal(join(this.folder, "events"));
  }
}
