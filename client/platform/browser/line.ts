/** How two ends speak: over a BroadcastChannel between tabs, or directly within one. */

/** Messages both ways, in order. Nothing comes once it is closed. */
export interface Line {
  send(message: unknown): void;
  onMessage: (message: unknown) => void;
  close(): void;
}

/** A line over a BroadcastChannel that only these two ends know the name of. */
export function channelLine(name: string): Line {
  const channel = new BroadcastChannel(name);
  const line: Line = {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel has no other origin
    send: (message) => channel.postMessage(message),
    onMessage: () => undefined,
    close: () => {
      line.onMessage = () => undefined;
      channel.close();
    },
  };
  channel.addEventListener("message", ({ data }: MessageEvent<unknown>) => line.onMessage(data));
  return line;
}

/** Both ends of a line within one tab: nothing is copied. */
export function localLines(): [Line, Line] {
  let open = true;
  const end = (other: () => Line): Line => ({
    send: (message) => {
      queueMicrotask(() => {
        if (open) other().onMessage(message);
      });
    },
    onMessage: () => undefined,
    close: () => {
      open = false;
    },
  });
  const a: Line = end(() => b);
  const b: Line = end(() => a);
  return [a, b];
}
