/**
 * A benchmark runs its server and its load generator as processes of their own,
 * so that neither steals the other's event loop. Each such process is a role: a
 * module that ends in `serveRole` and answers calls over Node's IPC channel.
 */

/** What a role answers. Arguments and results are plain JSON. */
export type Methods = Readonly<Record<string, (args: never) => Promise<unknown>>>;

/** A call, as it travels to a role. */
export interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: unknown;
}

/** Its answer. */
export type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: string };

/** What every role answers: the processor time it has used so far, of all its threads, in microseconds, and the memory it has now. */
const builtIn: Methods = {
  residentBytes: () => Promise.resolve(process.memoryUsage.rss()),
  cpuUs: () => {
    const { user, system } = process.cpuUsage();
    return Promise.resolve(user + system);
  },
};

/** Answers calls until the parent goes away. */
export function serveRole(methods: Methods): void {
  const answer = (answer: Answer): void => void process.send?.(answer);
  process.on("message", (message) => {
    const call = message as Call;
    const method = methods[call.method] ?? builtIn[call.method];
    if (method === undefined) {
      answer({ id: call.id, error: `no method ${call.method}` });
      return;
    }
    method(call.args as never).then(
      (result) => answer({ id: call.id, result }),
      (error: unknown) =>
        answer({
          id: call.id,
          error: error instanceof Error ? String(error.stack) : String(error),
        }),
    );
  });
  // An exit, not a kill: a profile is written by a process that ends by itself.
  process.on("disconnect", () => process.exit(0));
}
