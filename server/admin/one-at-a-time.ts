/** Long work that only one caller at a time may ask for, and that tells how far it is. */
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";

/** How often somebody is told how far it is, in milliseconds. */
const tellMs = 100;

export class OneAtATime {
  readonly #what: string;
  #busy = false;

  /** `what`: the work, for whoever comes second. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Runs work whose items go to whoever asked. */
  async *stream<Item>(items: () => AsyncIterable<Item>): AsyncGenerator<Item> {
    if (this.#busy) {
      throw new ConnectError(`${this.#what} is under way already`, Code.ResourceExhausted);
    }
    this.#busy = true;
    try {
      yield* items();
    } finally {
      this.#busy = false;
    }
  }

  /** The same for work that tells nothing before its end. */
  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    const only = this.stream(async function* () {
      yield await work();
    });
    for await (const result of only) return result;
    throw new Error("the work gave no result");
  }
}

/**
 * The newest of what a piece of work reports, again and again until it is done.
 * Who stops listening ends the work by `stop`, and waits for its end.
 */
export async function* reports<Report>(
  work: (report: (report: Report) => void) => Promise<void>,
  stop: AbortController,
): AsyncGenerator<Report> {
  let newest: Report | undefined;
  let done = false;
  const finished = work((report) => {
    newest = report;
  }).finally(() => {
    done = true;
  });
  // Its failure is met below, when this turn has come to it.
  finished.catch(() => undefined);
  try {
    while (!done) {
      await Promise.race([finished, sleep(tellMs)]);
      if (newest !== undefined) {
        const report = newest;
        newest = undefined;
        yield report;
      }
    }
    await finished;
  } finally {
    stop.abort();
    await finished.catch(() => undefined);
  }
}

/** A signal that another one gives, and that can be given here as well. */
export function stopWith(signal: AbortSignal): AbortController {
  const stop = new AbortController();
  if (signal.aborted) stop.abort(signal.reason);
  else signal.addEventListener("abort", () => stop.abort(signal.reason), { once: true });
  return stop;
}
