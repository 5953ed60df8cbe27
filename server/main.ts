/** Puts a relay together from files, clock, randomness and sockets. Holds no logic of its own. */
import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { copyBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { groupInviteBytes } from "../wire/ids.ts";
import { softwareVersion } from "../wire/protocol.ts";
import { formatRelayAddress } from "../wire/relay-address.ts";
import { openSide } from "./admin/open-side.ts";
import type { Counters } from "./counters.ts";
import {
  type FirstInvite,
  forgetFirstInvite,
  keepFirstInvite,
  openIdentity,
  readFirstInvite,
  readIdentity,
} from "./identity.ts";
import { type Health, Listener } from "./net/listener.ts";
import { openWebPush } from "./net/web-push.ts";
import { readHealth } from "./observe/health.ts";
import { openLog } from "./observe/log.ts";
import {
  parseListen,
  type RelayOptions,
  RelayOptionsError,
  type RelayOptionsInput,
  readOptions,
} from "./options.ts";
import { Relay } from "./relay.ts";
import type { Store } from "./store/contract.ts";
import { fencedStore } from "./store/fence.ts";
import { reserveBytesDefault } from "./store/reserve.ts";
import { openSqliteStore } from "./store/sqlite-store.ts";
import type { WakeUpSender } from "./wake-ups.ts";

/** A relay that accepts connections. */
export interface RunningRelay {
  /** What devices are given: where the relay is reached, and its key. */
  readonly address: string;
  /** The port it listens on. */
  readonly port: number;
  /** The invite made at the first start, until it is used. */
  readonly firstInvite: FirstInvite | undefined;
  /** Where the side API is reached from this machine; undefined where it listens nowhere. */
  readonly adminUrl: string | undefined;
  /** What it has counted since it started. */
  readonly counters: Readonly<Counters>;
  /** Sessions now. */
  readonly sessions: () => number;
  /**
   * Reads the configuration again and takes over what a running relay can: a
   * mistake in it is logged, and everything stays as it was.
   */
  reload(load: () => Promise<ReloadedConfig>): Promise<void>;
  /** Logs what is strange about the configuration. */
  warn(texts: readonly string[]): void;
  /**
   * Shuts down: accepts no more, commits and acknowledges what it took, tells
   * every session when to come back, closes. `kept` is called when all that is
   * to be kept is on disk; with thousands of sessions the rest takes seconds.
   */
  drain(kept?: () => void): Promise<void>;
}

/** A configuration that was read again. */
export interface ReloadedConfig {
  readonly options: RelayOptions;
  readonly warnings: readonly string[];
  /** The keys that differ: those that hold from now on, and those that need a restart. */
  readonly changed: { readonly live: readonly string[]; readonly restart: readonly string[] };
}

/** How long a restart takes, in milliseconds: who comes back before it is over finds nobody, and waits all the longer. */
const awayMs = 1_500;
/** And for each session, which is told and closed. */
const awayMsEach = 0.5;
/** How far the return of the sessions of a relay that shuts down is spread at least, in milliseconds. */
const returnSpreadMs = 5_000;
/** And for each session: a handshake takes a core about one, and the same core serves who is back already. */
const returnMsEach = 2;
/** How long a peer may take to answer the close when the relay shuts down, in milliseconds. */
const closeMsMax = 1_000;

/** What a relay inside another program can be given. */
export interface RelayParts {
  /** The way to push services, in place of the one that `webPush` of the options names. */
  readonly wakeUps?: WakeUpSender;
}

/** Starts a relay. Throws `RelayOptionsError`, or `SyncError` with a hint that says what to mend. */
export async function startRelay(
  input: RelayOptionsInput = {},
  parts: RelayParts = {},
): Promise<RunningRelay> {
  const options = readOptions(input);
  const folder = resolve(options.data);
  const log = openLog(options.logLevel);
  const random = (length: number): Uint8Array => copyBytes(randomBytes(length));
  const opened = await openSqliteStore({ folder, reserveBytes: reserveBytesDefault });
  const store = fencedStore(opened, ({ why }) => log.error("groupDamaged", { cause: why }));
  try {
    if (opened.copyBeforeMigration !== undefined) {
      log.info("migrated", { backup: opened.copyBeforeMigration });
    }
    await opened.upkeep.clear();
    const identity = await openIdentity(folder, random);
    const { webPush } = options;
    const wakeUps =
      parts.wakeUps ?? (webPush.enabled ? await openWebPush(folder, webPush) : undefined);
    const monotonicMs = (): number => performance.now();
    const relay = new Relay(options, store, {
      nowMs: () => Date.now(),
      monotonicMs,
      random,
      onDefect: (error, incident) => log.error("defect", { incident, ...defectFields(error) }),
      onStoreFailure: (error) =>
        log.error("storeFailed", { code: error.codeName, cause: causeText(error) }),
      wakeUps,
    });
    const firstInvite = await openFirstInvite(folder, relay, store, random);
    const addressAt = (port: number): string =>
      formatRelayAddress(publicUrl(options, port), identity.publicKey);
    let warnedShared = false;
    const listener = new Listener({
      relay,
      identity,
      health: () => health(relay),
      onRefused: (reason) => {
        log.debug("refused", { reason });
        if (warnedShared || relay.options.trustedProxies.length > 0) return;
        warnedShared = true;
        log.warn("sharedAddress", {
          hint: "connections were turned away; behind a tunnel or proxy, name it in trusted_proxies so that limits by address hold for each device",
        });
      },
    });
    const port = await listener.listen();
    const opening = openSide(folder, relay, listener, () =>
      readHealth(relay, addressAt(port), process.uptime()),
    );
    const { side, adminUrl } = await opening.catch(async (error: unknown) => {
      listener.stopAccepting();
      await listener.close(0);
      throw error;
    });
    log.info("started", { port, version: softwareVersion });
    if (side !== undefined) {
      log.info("adminStarted", { port: side.port, tokens: !options.adminWithoutToken });
    }
    return {
      address: addressAt(port),
      port,
      firstInvite,
      adminUrl,
      reload: async (load) => {
        try {
          const { options: read, warnings, changed } = await load();
          const next = takeLive(relay.options, read);
          relay.reconfigure(next);
          listener.reconfigure();
          log.setLevel(next.logLevel);
          for (const text of warnings) log.warn("configWarning", { text });
          log.info("configReloaded", { changed: changed.live, needRestart: changed.restart });
        } catch (error) {
          if (!(error instanceof RelayOptionsError)) throw error;
          log.error("configRefused", { problems: error.message.split("\n") });
        }
      },
      warn: (texts) => {
        for (const text of texts) log.warn("configWarning", { text });
      },
      counters: relay.counters,
      sessions: () => relay.sessionCount,
      drain: async (kept) => {
        log.info("draining", { sessions: relay.sessionCount });
        listener.stopAccepting();
        await relay.settle();
        kept?.();
        const { sessionCount } = relay;
        relay.dismiss(
          Math.max(returnSpreadMs, sessionCount * returnMsEach),
          awayMs + Math.ceil(sessionCount * awayMsEach),
        );
        await listener.close(closeMsMax);
        await side?.close();
        await store.close();
        log.info("stopped", { counters: relay.counters });
      },
    };
  } catch (error) {
    await store.close();
    throw listenError(error, options.listen);
  }
}

/**
 * The address of the relay in a data folder, without starting it: undefined
 * where none was started there yet.
 */
export async function relayAddress(input: RelayOptionsInput): Promise<string | undefined> {
  const options = readOptions(input);
  const identity = await readIdentity(resolve(options.data));
  if (identity === undefined) return undefined;
  return formatRelayAddress(
    publicUrl(options, parseListen(options.listen).port),
    identity.publicKey,
  );
}

/** The options with everything that a running relay can take over. */
function takeLive(current: RelayOptions, read: RelayOptions): RelayOptions {
  const { limits, founding, logLevel, trustedProxies } = read;
  return Object.freeze({ ...current, limits, founding, logLevel, trustedProxies });
}

function publicUrl(options: RelayOptions, port: number): string {
  if (options.publicUrl !== "") return options.publicUrl;
  const { host } = parseListen(options.listen);
  // The unspecified address is none to connect to.
  const named = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `ws://${named.includes(":") ? `[${named}]` : named}:${port}/`;
}

/** The first invite: made when the store is new, shown until it was used. */
async function openFirstInvite(
  folder: string,
  relay: Relay,
  store: Store,
  random: (length: number) => Uint8Array,
): Promise<FirstInvite | undefined> {
  const kept = await readFirstInvite(folder);
  if (kept !== undefined) {
    const row = await store.findInvite(blake2b256(kept.invite));
    if (row !== undefined && row.usedByGroupKey === 0 && row.revokedMs === 0)
      return { code: kept.code, file: kept.file };
    await forgetFirstInvite(folder);
  }
  if (!store.opened.fresh || relay.options.founding !== "invite") return undefined;
  const invite = random(groupInviteBytes);
  // Kept before it holds: a stop between the two leaves a file that the next start replaces.
  const first = await keepFirstInvite(folder, invite);
  await relay.addInvite({
    inviteHash: blake2b256(invite),
    label: "first invite",
    quotaBytes: 0,
    expiresAgeS: 0,
    createdMs: relay.world.nowMs(),
    usedByGroupKey: 0,
    revokedMs: 0,
  });
  return first;
}

function health(relay: Relay): Health {
  return { status: relay.draining ? "draining" : "ok", version: softwareVersion };
}

function listenError(error: unknown, listen: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "EADDRINUSE" || code === "EACCES" || code === "EADDRNOTAVAIL") {
    return new SyncError(ErrorCode.UNREACHABLE, {
      hint: `cannot listen on ${listen} (${code}): choose another with --listen HOST:PORT`,
      cause: error,
    });
  }
  return error;
}

function causeText(error: SyncError): string {
  return error.cause instanceof Error ? error.cause.message : "";
}

function defectFields(error: unknown): { error: string; stack: string } {
  return error instanceof Error
    ? { error: error.message, stack: error.stack ?? "" }
    : { error: String(error), stack: "" };
}
