/**
 * The world as an argument. Everything the client needs from outside itself (time, randomness,
 * timers, sockets) comes through a `Host`, so that whole clients run inside a simulation, and the
 * same core runs in Node, in a browser and in a webview.
 */
import type { SyncError } from "../wire/errors.ts";
import type { ShortCode } from "./seal/short-code.ts";

/** Draws random bytes, fit for keys. */
export type Random = (length: number) => Uint8Array;

/** What the client needs from the platform it runs on. */
export interface Host {
  /**
   * Milliseconds since the Unix epoch by this device's clock. Shown to people and written into
   * statements; nothing is ordered or expired by it.
   */
  nowMs(): number;
  /** Milliseconds that only rise, from an arbitrary start: for waiting and for timeouts. */
  monotonicMs(): number;
  /** Random bytes, fit for keys. */
  readonly random: Random;
  /** A number in [0, 1), for spreading out retries. Not for secrets. */
  uniform(): number;
  /** Runs something once, after at least so many milliseconds. Returns what cancels it. */
  setTimer(ms: number, run: () => void): () => void;
  /**
   * Stretches a short code into the psk of its pairing. Left out: the library's own way, which works
   * off the event loop where it can; a simulation, whose time stands still meanwhile, brings another.
   */
  pskOfCode?(code: ShortCode, relayKey: Uint8Array): Promise<Uint8Array>;
  /**
   * How long verifying may go on before others have their turn, in milliseconds: for pages, which must
   * not stall. Left out: as long as a window takes.
   */
  readonly sliceMs?: number;
  /** Resolves once everything else that was to be done by now has had its turn. Comes with `sliceMs`. */
  breathe?(): Promise<void>;
  /** Opens a WebSocket with the subprotocol of `wire/protocol.ts`, binary, without compression. */
  connect(url: string, handlers: SocketHandlers): Socket;
}

/** What a socket tells. Nothing is called before `connect` has returned, nor after `closed`. */
export interface SocketHandlers {
  /** Messages can be sent. */
  open(): void;
  /** One whole binary message. The receiver may keep the bytes. */
  message(bytes: Uint8Array): void;
  /** A ping or pong came: the other side is there. */
  alive(): void;
  /**
   * The socket is gone, or never came to be. `code` is the WebSocket close code, 1006 where there was
   * none; `error` is the platform's error, translated.
   */
  closed(code: number, error?: SyncError): void;
}

/** One WebSocket. */
export interface Socket {
  /**
   * Sends one whole binary message. The bytes are not changed afterwards. Nothing happens once it is
   * closed.
   */
  send(bytes: Uint8Array): void;
  /** Sends a ping, where the platform can. Without it, the client asks the relay something instead. */
  ping?(): void;
  /** Closes it; `closed` follows. */
  close(code?: number): void;
  /** Bytes handed to `send` that have not left yet. */
  readonly bufferedBytes: number;
}
