/** The parent's end of a role: starts its process, calls its methods, ends it. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { buildFolder } from "./build.ts";
import type { Answer, Call } from "./role.ts";

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A running role. */
export class Part {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;

  private constructor(child: ChildProcess, name: string) {
    this.#child = child;
    child.on("message", (message) => {
      const answer = message as Answer;
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ("error" in answer) waiting?.reject(new Error(`${name}: ${answer.error}`));
      else waiting?.resolve(answer.result);
    });
    child.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(`${name} ended (${code ?? signal})`));
      }
      this.#waiting.clear();
    });
  }

  /** Starts `bench/<name>`. Its output goes to standard error: standard output is the result's. */
  static start(name: string, nodeOptions: readonly string[] = []): Part {
    const child = fork(join(buildFolder, "bench", `${name}.js`), [], {
      execArgv: [...nodeOptions],
      stdio: ["ignore", 2, 2, "ipc"],
    });
    return new Part(child, name);
  }

  /** Calls a method of the role. Fails where the method fails or the process ends. */
  call<Result>(method: string, args: unknown = {}): Promise<Result> {
    this.#lastId += 1;
    const call: Call = { id: this.#lastId, method, args };
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.set(call.id, { resolve: resolve as (result: unknown) => void, reject });
      this.#child.send(call, (error) => {
        if (error !== null) reject(error);
      });
    });
  }

  /** Ends the process and waits until it is gone. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.disconnect();
    await gone;
  }
}

/** A role to start, with options for its Node where it needs any. */
export type PartName = string | { readonly name: string; readonly nodeOptions: readonly string[] };

/** Starts parts, hands them over, and ends them all whatever happens. */
export async function withParts<const Names extends readonly PartName[], Result>(
  names: Names,
  work: (...parts: { [At in keyof Names]: Part }) => Promise<Result>,
): Promise<Result> {
  const parts = names.map((name) =>
    typeof name === "string" ? Part.start(name) : Part.start(name.name, name.nodeOptions),
  );
  try {
    return await work(...(parts as { [At in keyof Names]: Part }));
  } finally {
    await Promise.all(parts.map((part) => part.stop()));
  }
}
