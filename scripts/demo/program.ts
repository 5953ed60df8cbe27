/** One of the two programs as a process of its own, and what it says line by line. */
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
// By its address: a bare "tsx" would be looked for from the child's working folder.
const loader = import.meta.resolve("tsx");

const entries = {
  "sync-relay": `${root}cli/relay/main.ts`,
  "sync-cli": `${root}cli/device/main.ts`,
} as const;

/** What a program printed with --json. */
export type ProgramEvent = { readonly event: string } & Readonly<Record<string, unknown>>;

/** How a program ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a program is started. */
export interface ProgramOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Where stderr is kept beside being remembered. */
  readonly log?: string;
  /** Given to standard input, which is then closed; without it stdin stays open. */
  readonly input?: string | Uint8Array;
}

interface Waiter {
  readonly matches: (line: string) => boolean;
  readonly resolve: (line: string) => void;
  readonly reject: (error: Error) => void;
}

/** A running program. */
export class Program {
  /** Resolves when the process is gone and all it said was read. */
  readonly ended: Promise<Ended>;
  readonly lines: string[] = [];
  /** The same lines, where they are JSON. */
  readonly events: ProgramEvent[] = [];
  readonly #child: ChildProcess;
  readonly #words: string;
  readonly #waiters = new Set<Waiter>();
  readonly #listeners = new Set<(event: ProgramEvent) => void>();
  #stderr = "";
  #closed = false;

  constructor(name: keyof typeof entries, args: readonly string[], options: ProgramOptions = {}) {
    this.#words = `${name} ${args[0] ?? ""}`;
    const env = { ...process.env, ...options.env };
    // A test runner's marks on its children would make them report to it.
    delete env["NODE_TEST_CONTEXT"];
    delete env["NODE_OPTIONS"];
    this.#child = spawn(process.execPath, ["--import", loader, entries[name], ...args], {
      cwd: options.cwd ?? root,
      env,
      stdio: ["pipe", "pipe", "pipe"],
    });
    const child = this.#child;
    let log: WriteStream | undefined;
    if (options.log !== undefined) log = createWriteStream(options.log, { flags: "a" });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString();
      log?.write(chunk);
    });
    // A process that was killed leaves its input unread; that is no failure of ours.
    child.stdin?.on("error", () => undefined);
    if (options.input !== undefined) child.stdin?.end(options.input);
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on("line", (line) => this.#heard(line));
    }
    this.ended = new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => {
        this.#closed = true;
        log?.end();
        const stdout = this.lines.map((line) => `${line}\n`).join("");
        for (const waiter of this.#waiters) {
          waiter.reject(
            new Error(
              `${this.#words} ended (${code ?? signal}) before what was awaited\n${stdout.slice(-2000)}${this.#stderr.slice(-2000)}`,
            ),
          );
        }
        this.#waiters.clear();
        resolve({ code, signal, stdout, stderr: this.#stderr });
      });
    });
  }

  /** Whether this is a relay. */
  get relay(): boolean {
    return this.#words.startsWith("sync-relay");
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** The first line, already printed or to come, that matches. Rejects when the program ends without one. */
  line(matches: (line: string) => boolean): Promise<string> {
    const said = this.lines.find(matches);
    if (said !== undefined) return Promise.resolve(said);
    if (this.#closed) return Promise.reject(new Error(`${this.#words} has ended`));
    return new Promise((resolve, reject) => {
      this.#waiters.add({ matches, resolve, reject });
    });
  }

  /** The first event of a kind, already printed or to come. */
  async event(
    kind: string,
    matches: (event: ProgramEvent) => boolean = () => true,
  ): Promise<ProgramEvent> {
    const line = await this.line((text) => {
      const event = parseEvent(text);
      return event?.event === kind && matches(event);
    });
    return parseEvent(line) as ProgramEvent;
  }

  /** Listens to every event, those already printed first. */
  onEvent(listener: (event: ProgramEvent) => void): void {
    for (const event of this.events) listener(event);
    this.#listeners.add(listener);
  }

  /** A line on standard input. */
  write(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Closes standard input. */
  endInput(): void {
    this.#child.stdin?.end();
  }

  /** Sends a signal, and resolves when the process is gone. */
  async stop(signal: NodeJS.Signals): Promise<Ended> {
    this.#child.kill(signal);
    return this.ended;
  }

  #heard(line: string): void {
    this.lines.push(line);
    const event = parseEvent(line);
    if (event !== undefined) {
      this.events.push(event);
      for (const listener of this.#listeners) listener(event);
    }
    for (const waiter of this.#waiters) {
      if (!waiter.matches(line)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(line);
    }
  }
}

function parseEvent(line: string): ProgramEvent | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && "event" in value
      ? (value as ProgramEvent)
      : undefined;
  } catch {
    // A line for people that happens to begin with a brace.
    return undefined;
  }
}

/** A port of the loopback that is free now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}
