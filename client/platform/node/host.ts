/** This process as a host: `ws` for sockets, Node's clock, timers and randomness. */
import { randomBytes, randomFillSync } from "node:crypto";
import WebSocket from "ws";
import { ErrorCode, SyncError } from "../../../wire/errors.ts";
import { blobBytesCeiling, handshakeMsMax, recordBytesMax } from "../../../wire/limits.ts";
import { subprotocol } from "../../../wire/protocol.ts";
import type { Host, Socket, SocketHandlers } from "../../host.ts";

/** The longest a timer may run, in milliseconds; a longer one would fire at once. */
const timerMsMax = 2 ** 31 - 1;

/** This process as a host. */
export function nodeHost(): Host {
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    random: randomPool(),
    uniform: () => Math.random(),
    setTimer(ms, run) {
      const timer = setTimeout(run, Math.min(Math.max(0, ms), timerMsMax));
      return () => clearTimeout(timer);
    },
    connect,
  };
}

/** Bytes drawn from the system at once: a draw costs far more than the few bytes of a nonce. */
const poolBytes = 16 * 1024;

/** Random bytes from a pool. What was handed out is overwritten there, and never handed out again. */
function randomPool(): Host["random"] {
  const pool = new Uint8Array(poolBytes);
  let used = poolBytes;
  return (length) => {
    if (length > poolBytes / 16) return new Uint8Array(randomBytes(length));
    if (used + length > poolBytes) {
      randomFillSync(pool);
      used = 0;
    }
    const bytes = pool.slice(used, used + length);
    pool.fill(0, used, used + length);
    used += length;
    return bytes;
  };
}

function connect(url: string, handlers: SocketHandlers): Socket {
  const socket = new WebSocket(url, subprotocol, {
    perMessageDeflate: false,
    handshakeTimeout: handshakeMsMax,
    maxPayload: recordBytesMax(blobBytesCeiling),
    // The key in the address authenticates the relay; a redirect would only hide where it stands.
    followRedirects: false,
  });
  socket.binaryType = "nodebuffer";
  let failure: SyncError | undefined;
  let ended = false;
  const end = (code: number): void => {
    if (ended) return;
    ended = true;
    handlers.closed(code, failure);
  };
  socket.on("open", () => handlers.open());
  socket.on("message", (data: Buffer, isBinary: boolean) => {
    if (!isBinary) {
      // The protocol has no text; whoever sends it is not a relay.
      failure ??= new SyncError(ErrorCode.RECORD_INVALID);
      socket.terminate();
      return;
    }
    handlers.message(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  });
  socket.on("ping", () => handlers.alive());
  socket.on("pong", () => handlers.alive());
  socket.on("error", (cause: Error) => {
    failure ??= translate(cause);
  });
  // `close` follows every error and comes once.
  socket.on("close", (code: number) => end(code));
  return {
    send: (bytes) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(bytes);
    },
    ping: () => {
      if (socket.readyState === WebSocket.OPEN) socket.ping();
    },
    close: (code) => {
      if (socket.readyState === WebSocket.CONNECTING) socket.terminate();
      else socket.close(code ?? 1000);
      // A peer that is gone answers no close either: the client need not wait for it.
      setTimeout(() => socket.terminate(), 1_000).unref();
    },
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
  };
}

/** The one place where the network's errors become ours. */
function translate(cause: Error): SyncError {
  const code = "code" in cause ? String(cause.code) : "";
  switch (code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new SyncError(ErrorCode.UNREACHABLE, {
        cause,
        hint: "the relay's name cannot be resolved: check the address and the network",
      });
    case "ECONNREFUSED":
      return new SyncError(ErrorCode.UNREACHABLE, {
        cause,
        hint: "nothing listens at the relay's address: is it running?",
      });
    case "ETIMEDOUT":
      return new SyncError(ErrorCode.TIMED_OUT, { cause });
    case "ECONNRESET":
    case "EPIPE":
      return new SyncError(ErrorCode.CONNECTION_LOST, { cause });
    default:
      break;
  }
  if (code.startsWith("CERT_") || code.includes("CERTIFICATE") || code.startsWith("ERR_TLS_")) {
    return new SyncError(ErrorCode.UNREACHABLE, {
      cause,
      hint: "the relay's TLS certificate is not accepted",
    });
  }
  if (/handshake has timed out/.test(cause.message)) {
    return new SyncError(ErrorCode.TIMED_OUT, { cause });
  }
  const status = /Unexpected server response: (\d{3})/.exec(cause.message)?.[1];
  if (status !== undefined) {
    return new SyncError(ErrorCode.UNREACHABLE, {
      cause,
      hint: `what answers at the relay's address is no relay (HTTP ${status})`,
    });
  }
  if (code.startsWith("WS_ERR_")) return new SyncError(ErrorCode.RECORD_INVALID, { cause });
  return new SyncError(ErrorCode.UNREACHABLE, { cause });
}
