/**
 * Waiting for the relay. The library tries for ever; a command that somebody
 * waits for must end, with the reason, when the relay cannot be expected to
 * answer soon.
 */
import { errorRow, type Status, type SyncClient, SyncError } from "../../client/index.ts";

/** How long a command waits for a connection that was there and is lost, in milliseconds. */
export const patienceMs = 30_000;

/**
 * Resolves as `work` does. Rejects with the connection's error where the first
 * attempt to connect fails, where the relay refuses for good, or where a lost
 * connection does not return; with the queue's error where the relay takes
 * nothing; and when the signal is given.
 */
export async function whileReachable<T>(
  client: SyncClient,
  signal: AbortSignal,
  work: Promise<T>,
): Promise<T> {
  let stop = (): void => undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    let wasOnline = false;
    let timer: NodeJS.Timeout | undefined;
    const consider = (status: Status): void => {
      const problem = problemOf(status);
      if (status.connection.state === "online") wasOnline = true;
      if (problem !== undefined) {
        if (problem.final || !wasOnline) reject(problem.error);
        else timer ??= setTimeout(() => reject(problem.error), patienceMs);
      } else if (status.connection.state === "online") {
        clearTimeout(timer);
        timer = undefined;
      }
    };
    const onAbort = (): void => reject(signal.reason);
    const off = client.on("status", consider);
    signal.addEventListener("abort", onAbort, { once: true });
    stop = () => {
      off();
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    };
    if (signal.aborted) onAbort();
    else consider(client.status());
  });
  try {
    return await Promise.race([work, failed]);
  } finally {
    stop();
  }
}

/** Resolves once the relay is reached; rejects as `whileReachable` does. */
export function reached(client: SyncClient, signal: AbortSignal): Promise<void> {
  let off = (): void => undefined;
  const online = new Promise<void>((resolve) => {
    const consider = ({ connection }: Status): void => {
      if (connection.state === "online") resolve();
    };
    off = client.on("status", consider);
    consider(client.status());
  });
  return whileReachable(client, signal, online).finally(() => off());
}

/** Resolves once the first attempt to connect has succeeded or failed; never rejects for that. */
export function connectionSettled(client: SyncClient, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      off();
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const consider = ({ connection }: Status): void => {
      if (connection.state !== "connecting") finish();
    };
    const off = client.on("status", consider);
    signal.addEventListener("abort", finish, { once: true });
    if (signal.aborted) finish();
    else consider(client.status());
  });
}

interface Problem {
  readonly error: Error;
  /** Waiting does not help. */
  readonly final: boolean;
}

function problemOf({ connection, pushHeld }: Status): Problem | undefined {
  switch (connection.state) {
    case "stopped":
      return { error: connection.error, final: true };
    case "waiting":
      return { error: connection.error, final: isFinal(connection.error) };
    case "online":
      return pushHeld === undefined ? undefined : { error: pushHeld, final: isFinal(pushHeld) };
    case "idle":
    case "connecting":
    case "closed":
      return undefined;
  }
}

function isFinal(error: Error): boolean {
  return !(error instanceof SyncError) || errorRow(error.code).again !== "later";
}
