/**
 * A page, or a worker of one, as a host: its WebSocket, clock, timers and randomness. Needs no secure
 * context: the channel is encrypted by the library itself.
 */
import { ErrorCode, SyncError } from "../../../wire/errors.ts";
import { blobBytesCeiling, recordBytesMax } from "../../../wire/limits.ts";
import { subprotocol } from "../../../wire/protocol.ts";
import type { Host, Socket, SocketHandlers } from "../../host.ts";

/** The longest a timer may run, in milliseconds; a longer one would fire at once. */
const timerMsMax = 2 ** 31 - 1;
/** The most bytes `getRandomValues` gives at once. */
const randomBytesMax = 65_536;
/** How long work may go on before the page has its turn, in milliseconds: less than a frame. */
const sliceMs = 10;
/** A clock that stood still for longer means that the machine slept: sockets are of no use then. */
const sleptMs = 60_000;
const watchMs = 15_000;

/** Sockets that are there, to be given up when the network is. */
const sockets = new Set<(error: SyncError) => void>();
let watching = false;

/** This page as a host. */
export function browserHost(): Host {
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    random,
    uniform: () => Math.random(),
    setTimer(ms, run) {
      const timer = setTimeout(run, Math.min(Math.max(0, ms), timerMsMax));
      return () => clearTimeout(timer);
    },
    sliceMs,
    breathe,
    connect,
  };
}

const breathing: (() => void)[] = [];
let breaths: MessagePort | undefined;

/** By a message to itself: a timer waits for four milliseconds, and a hidden page's for a second. */
function breathe(): Promise<void> {
  if (breaths === undefined) {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener("message", () => breathing.shift()?.());
    port1.start();
    breaths = port2;
  }
  const port = breaths;
  return new Promise((resolve) => {
    breathing.push(resolve);
    port.postMessage(0);
  });
}

/** Random bytes, fit for keys: there on plain HTTP too. */
export function random(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let from = 0; from < length; from += randomBytesMax) {
    crypto.getRandomValues(bytes.subarray(from, from + randomBytesMax));
  }
  return bytes;
}

function connect(url: string, handlers: SocketHandlers): Socket {
  watch();
  let ended = false;
  let socket: WebSocket | undefined;
  const end = (code: number, error?: SyncError): void => {
    if (ended) return;
    ended = true;
    sockets.delete(giveUp);
    handlers.closed(code, error);
  };
  const giveUp = (error: SyncError): void => {
    socket?.close();
    end(1006, error);
  };
  try {
    socket = new WebSocket(url, subprotocol);
  } catch (cause) {
    // A page from HTTPS may open no socket in the clear; nothing else throws for an address that was parsed.
    const hint = "this page was loaded over HTTPS and may connect to wss:// addresses only";
    setTimeout(() => end(1006, new SyncError(ErrorCode.UNREACHABLE, { cause, hint })), 0);
    return { send: () => undefined, close: () => undefined, bufferedBytes: 0 };
  }
  const open = socket;
  if (!isLocal(url)) sockets.add(giveUp);
  open.binaryType = "arraybuffer";
  open.addEventListener("open", () => {
    if (!ended) handlers.open();
  });
  open.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    if (ended) return;
    if (!(data instanceof ArrayBuffer) || data.byteLength > recordBytesMax(blobBytesCeiling)) {
      // The protocol has no text; whoever sends it is not a relay.
      giveUp(new SyncError(ErrorCode.RECORD_INVALID));
      return;
    }
    handlers.message(new Uint8Array(data));
  });
  // `close` follows every error; a page is told no more than that there was one.
  open.addEventListener("close", ({ code }: CloseEvent) => end(code));
  return {
    send: (bytes) => {
      if (open.readyState === WebSocket.OPEN) open.send(bytes as Uint8Array<ArrayBuffer>);
    },
    close: (code) => {
      // A page may give only its own codes and 1000.
      open.close(code === undefined || (code !== 1000 && code < 3000) ? 1000 : code);
      // A peer that is gone answers no close either: the client need not wait for it.
      setTimeout(() => end(1006), 1_000);
    },
    get bufferedBytes() {
      return open.bufferedAmount;
    },
  };
}

/** An address on this machine is there without a network. */
function isLocal(url: string): boolean {
  return /^wss?:\/\/(localhost|127\.|\[::1\])/.test(url);
}

/** Gives sockets up when the network goes, and when the machine has slept: nobody would be told else. */
function watch(): void {
  if (watching) return;
  watching = true;
  globalThis.addEventListener?.("offline", () => {
    const hint = "this device is offline";
    for (const giveUp of sockets) giveUp(new SyncError(ErrorCode.UNREACHABLE, { hint }));
  });
  let lastMs = Date.now();
  setInterval(() => {
    const nowMs = Date.now();
    const slept = nowMs - lastMs > sleptMs + watchMs;
    lastMs = nowMs;
    if (!slept || hidden()) return;
    for (const giveUp of sockets) giveUp(new SyncError(ErrorCode.CONNECTION_LOST));
  }, watchMs);
}

/** Timers of a hidden page run seldom: that is no sleep. */
function hidden(): boolean {
  return typeof document !== "undefined" && document.visibilityState === "hidden";
}
