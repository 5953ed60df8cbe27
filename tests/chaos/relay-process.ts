/** `sync-relay serve` as a process that can be ended in any way and started again. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { bounded, longMs } from "./bounded.ts";
import type { Built } from "./build.ts";
import type { FailPoint, KillPoint } from "./processes/points.ts";

export interface RelaySettings {
  readonly built: Built;
  readonly data: string;
  readonly port: number;
  /** Where it listens; devices are given the same. */
  readonly host?: string;
  readonly logFile: string;
  readonly settings?: Readonly<Record<string, string | number>>;
  readonly founding?: "open" | "invite";
}

/** How one start differs from the others. */
export interface RelayStart {
  readonly kill?: KillPoint;
  readonly fail?: FailPoint;
  readonly env?: Readonly<Record<string, string>>;
  /** What it runs in: `ip netns exec NAME`. */
  readonly under?: readonly string[];
}

const lifted: Readonly<Record<string, string | number>> = {
  "limits.pushes_per_s": 1_000_000,
  "limits.pushes_burst": 1_000_000,
  "limits.address_connections_per_min": 1_000_000,
  "limits.address_handshakes_max": 1_000,
  "limits.handshakes_max": 1_000,
  "limits.group_bytes_max": 2 ** 33,
  "limits.store_bytes_max": 2 ** 34,
};

export class RelayProcess {
  address = "";
  starts = 0;
  /** Every start beside the first is like this one. */
  usual: RelayStart = {};
  readonly #settings: RelaySettings;
  #child: ChildProcess | undefined;
  #exit: Promise<number | string> | undefined;

  constructor(settings: RelaySettings) {
    this.#settings = settings;
  }

  get port(): number {
    return this.#settings.port;
  }

  get data(): string {
    return this.#settings.data;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  /** Starts it. Gives back whether it came as far as serving: a chosen point may be before that. */
  async start(how: RelayStart = this.usual): Promise<boolean> {
    const { built, data, port, logFile, settings = {}, founding = "open" } = this.#settings;
    const host = this.#settings.host ?? "127.0.0.1";
    const sets = Object.entries({ ...lifted, ...settings }).flatMap(([key, value]) => [
      "--set",
      `${key}=${value}`,
    ]);
    const args = [
      ...(how.kill === undefined && how.fail === undefined ? [] : ["--import", built.points]),
      built.relay,
      "serve",
      "--json",
      "--data",
      data,
      "--listen",
      `${host}:${port}`,
      "--listen-admin",
      "127.0.0.1:0",
      "--founding",
      founding,
      "--log-level",
      "warn",
      ...sets,
    ];
    const log = openSync(logFile, "a");
    const [command = process.execPath, ...before] = how.under ?? [];
    const child = spawn(
      command,
      how.under === undefined ? args : [...before, process.execPath, ...args],
      {
        stdio: ["ignore", "pipe", log],
        env: {
          ...process.env,
          ...how.env,
          ...(how.kill === undefined ? {} : { CHAOS_KILL: JSON.stringify(how.kill) }),
          ...(how.fail === undefined ? {} : { CHAOS_FAIL: JSON.stringify(how.fail) }),
        },
      },
    );
    closeSync(log);
    this.starts += 1;
    this.#child = child;
    const exit = once(child, "exit").then(([code, signal]) => {
      if (this.#child === child) this.#child = undefined;
      return (code as number | null) ?? (signal as string);
    });
    this.#exit = exit;
    const serving = new Promise<boolean>((resolve) => {
      createInterface({ input: child.stdout as Readable }).on("line", (line) => {
        const said = JSON.parse(line) as { event?: string; address?: string };
        if (said.address === undefined) return;
        this.address = said.address;
        resolve(true);
      });
      void exit.then(() => resolve(false));
    });
    return await bounded(serving, longMs, () => "the relay serves");
  }

  /** How this process ends, whenever that is: a code or a signal. */
  async ended(): Promise<number | string> {
    return await bounded(this.#exit ?? Promise.resolve(0), longMs, () => "the relay ends");
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.ended();
  }

  /** Asks it to end, which it must do by itself. */
  async stop(): Promise<void> {
    if (this.#child === undefined) return;
    this.#child.kill("SIGTERM");
    const code = await this.ended();
    if (code !== 0) throw new Error(`the relay ended with ${code} when it was asked to`);
  }
}
