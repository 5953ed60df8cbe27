/** How it stands with the other devices, told honestly: a word in the corner, a line where something is wrong. */
import { useRef } from "preact/hooks";
import { type Standing, useApp, useStanding } from "./hooks.ts";

export interface Told {
  readonly tone: "good" | "busy" | "waiting" | "bad";
  readonly word: string;
  readonly more: string;
}

/** A standing in words. */
export function tell({ status, findings, unqueued }: Standing, nowMs = Date.now()): Told {
  const { membership, connection } = status;
  const waiting = status.queued + unqueued;
  const open = findings.filter(({ state }) => state === "open").length;
  if (membership === "removed") {
    return { tone: "bad", word: "Removed", more: "This device was removed from the group." };
  }
  if (open > 0 || status.refused > 0) {
    return {
      tone: "bad",
      word: "Check needed",
      more: "Something about the history is not right. See Devices.",
    };
  }
  if (membership === "none") {
    return {
      tone: "waiting",
      word: "This device only",
      more: "Not synced: no other device has this book.",
    };
  }
  if (status.pushHeld !== undefined) {
    return {
      tone: "bad",
      word: "Not sent",
      more: `The relay takes nothing: ${status.pushHeld.codeName}.`,
    };
  }
  if (connection.state === "online") {
    return status.inSync && waiting === 0
      ? { tone: "good", word: "Synced", more: since(status.lastSyncMs, nowMs) }
      : { tone: "busy", word: "Syncing", more: waiting === 0 ? "Reading." : `${waiting} to send.` };
  }
  if (connection.state === "stopped") {
    return { tone: "bad", word: "Stopped", more: connection.error.message };
  }
  const more =
    waiting === 0
      ? "Nothing waits here."
      : `${waiting} ${waiting === 1 ? "change waits" : "changes wait"} on this device.`;
  return connection.state === "connecting"
    ? { tone: "busy", word: "Connecting", more }
    : { tone: "waiting", word: "Offline", more };
}

function since(ms: number | undefined, nowMs: number): string {
  if (ms === undefined) return "Everything is on the relay.";
  const minutes = Math.floor((nowMs - ms) / 60_000);
  return minutes < 1 ? "Everything is on the relay." : `As of ${minutes} min ago.`;
}

/** The word in the corner; leads to the devices. */
export function SyncWord() {
  const told = tell(useStanding());
  return (
    <a class={`sync ${told.tone}`} href="#/devices" title={told.more}>
      <span class="dot" aria-hidden="true" />
      <span role="status">{told.word}</span>
    </a>
  );
}

/** A line over everything else, where the person should know. */
export function Banner() {
  const { session } = useApp();
  const standing = useStanding();
  const { status, problem } = standing;
  const { connection, membership } = status;
  // While it tries again the line stays, or the page would jump with each attempt.
  const wasOffline = useRef(false);
  const isOffline =
    connection.state === "waiting" ||
    connection.state === "stopped" ||
    (connection.state === "connecting" && wasOffline.current);
  wasOffline.current = isOffline;
  if (problem !== undefined) {
    return (
      <div class="banner bad" role="alert">
        <p>
          <strong>Not stored.</strong> {problem}
        </p>
        <button type="button" onClick={() => session.provider.retry()}>
          Try again
        </button>
      </div>
    );
  }
  if (membership === "removed") {
    return (
      <div class="banner bad" role="alert">
        <p>
          <strong>This device was removed from the group.</strong> The book is still here as it was,
          and nothing of it is synced any more.
        </p>
        <a class="button" href="#/devices">
          What now?
        </a>
      </div>
    );
  }
  const told = tell(standing);
  if (told.word === "Check needed") {
    return (
      <div class="banner bad" role="alert">
        <p>
          <strong>The history does not hold.</strong> {told.more}
        </p>
        <a class="button" href="#/devices">
          Show
        </a>
      </div>
    );
  }
  if (membership === "member" && isOffline) {
    return (
      <div class="banner" role="status">
        <p>
          <strong>Offline.</strong> What you enter is kept here, and goes out once the relay is
          reached. {told.more}
        </p>
        <button type="button" onClick={() => session.client.connect()}>
          Try now
        </button>
      </div>
    );
  }
  return null;
}
