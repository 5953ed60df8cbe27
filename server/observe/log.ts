/**
 * Structured logs: one JSON object a line, to standard error. What may stand in
 * them is a closed list of events with typed fields, so that no secret, payload,
 * device name, key or address can slip in as an afterthought.
 */
import { pino } from "pino";
import type { Counters } from "../counters.ts";
import type { RelayOptions } from "../options.ts";

/** Every event that is logged, with its fields. */
export interface LogEvents {
  /** The relay accepts connections. */
  readonly started: { readonly port: number; readonly version: string };
  /** Peers share one address, so limits by address hold for all of them together. */
  readonly sharedAddress: { readonly hint: string };
  /** The store was brought to this version's schema; what it was before is in this file. */
  readonly migrated: { readonly backup: string };
  /** The side API accepts calls. */
  readonly adminStarted: { readonly port: number; readonly tokens: boolean };
  /** Something in the configuration is strange. */
  readonly configWarning: { readonly text: string };
  /** New settings hold; those that need a restart do not yet. */
  readonly configReloaded: {
    readonly changed: readonly string[];
    readonly needRestart: readonly string[];
  };
  /** The configuration is wrong: everything stays as it was. */
  readonly configRefused: { readonly problems: readonly string[] };
  readonly draining: { readonly sessions: number };
  readonly stopped: { readonly counters: Counters };
  /** A connection was turned away before its handshake. */
  readonly refused: { readonly reason: string };
  /** A group's part of the store is damaged: it is fenced off. Health names it. */
  readonly groupDamaged: { readonly cause: string };
  /** The store failed; nothing was acknowledged. */
  readonly storeFailed: { readonly code: string; readonly cause: string };
  /** A defect of the relay; its peer was told the id. */
  readonly defect: { readonly incident: string; readonly error: string; readonly stack: string };
}

export interface Log {
  info<Name extends keyof LogEvents>(event: Name, fields: LogEvents[Name]): void;
  warn<Name extends keyof LogEvents>(event: Name, fields: LogEvents[Name]): void;
  error<Name extends keyof LogEvents>(event: Name, fields: LogEvents[Name]): void;
  debug<Name extends keyof LogEvents>(event: Name, fields: LogEvents[Name]): void;
  /** Logs more or less from now on. */
  setLevel(level: RelayOptions["logLevel"]): void;
}

export function openLog(level: RelayOptions["logLevel"]): Log {
  const logger = pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  );
  return {
    info: (event, fields) => logger.info({ event, ...fields }),
    warn: (event, fields) => logger.warn({ event, ...fields }),
    error: (event, fields) => logger.error({ event, ...fields }),
    debug: (event, fields) => logger.debug({ event, ...fields }),
    setLevel: (newLevel) => {
      logger.level = newLevel;
    },
  };
}
