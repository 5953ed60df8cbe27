/** Asking the person at the terminal. */
import { createInterface } from "node:readline/promises";
import { usageError } from "../exit-codes.ts";
import type { Context } from "../program.ts";

/** Whether there is somebody to ask. */
export function canAsk({ world, output }: Context): boolean {
  return world.stdin.isTTY === true && world.stderr.isTTY === true && !output.json;
}

/** Asks for a line. */
export async function askLine({ world, signal }: Context, question: string): Promise<string> {
  const prompt = createInterface({ input: world.stdin, output: process.stderr });
  try {
    return await prompt.question(question, { signal });
  } finally {
    prompt.close();
  }
}

/** Asks for a yes. */
export async function ask(context: Context, question: string): Promise<boolean> {
  return /^\s*y(es)?\s*$/i.test(await askLine(context, `${question} [y/N] `));
}

/** Nothing is done without a yes: one that is given beforehand, or a person's. */
export function checkCanConfirm(context: Context, yes: boolean, what: string): void {
  if (yes || canAsk(context)) return;
  throw usageError(
    `a person must say yes to ${what}, and this is no terminal`,
    "run it on a terminal, or with --yes",
  );
}
