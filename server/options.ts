/** The relay's options, whole and checked: what `syncrelay.config.v1` becomes once it is read. */
import {
  blobBytesCeiling,
  blobBytesDefault,
  envelopeBytesMax,
  handshakeMsMax,
  recordBytesMax,
} from "../wire/limits.ts";

/** Bounds an operator may set. Units last. */
export interface RelayLimits {
  /** One blob, in bytes: header, signature and body. Default 1,048,576, at most 16,777,216. */
  readonly blobBytesMax: number;
  /** One group without a quota of its own, in bytes. Default 104,857,600. */
  readonly groupBytesMax: number;
  /** The whole store, in bytes that count towards quotas. Default 1,073,741,824. */
  readonly storeBytesMax: number;
  /** Sessions and handshakes at once. Default 10,000. */
  readonly sessionsMax: number;
  /** Bytes not yet sent on one connection before it is told to pull instead. */
  readonly outboundBytesMax: number;
  /** Handshakes in flight at once. Default 1,024. */
  readonly handshakesMax: number;
  /** From a connection's first byte to its `Hello`, in milliseconds. Default 10,000. */
  readonly handshakeMsMax: number;
  /** Pushes of a device a second on average; a batch is one. Default 20. */
  readonly pushesPerS: number;
  /** Pushes of a device at once. Default 200. */
  readonly pushesBurst: number;
  /** New connections of one address per minute that have not authenticated. */
  readonly addressConnectionsPerMin: number;
  /** Handshakes in flight from one address. Default 10. */
  readonly addressHandshakesMax: number;
}

/** Who may found a group. */
export type Founding = "open" | "invite" | "closed";

/** Whether devices are woken through their push services. */
export interface WebPushOptions {
  /** Whether it does that. Default false. */
  readonly enabled: boolean;
  /** Whom a push service may turn to: a `mailto:` or `https:` URL. Needed where it is enabled. */
  readonly subject: string;
  /** Whether endpoints at addresses that are not public are sent to. */
  readonly allowPrivateAddresses: boolean;
}

/** What a relay goes by, whole: every setting of `relay.toml` under its name here. */
export interface RelayOptions {
  /** `HOST:PORT`; port 0 picks a free one. */
  readonly listen: string;
  /** Where the side API listens, `HOST:PORT`; empty: nowhere, as for a relay inside another program. */
  readonly listenAdmin: string;
  /** Takes a free port where the one of `listenAdmin` is taken: nobody chose it. */
  readonly adminPortFallback: boolean;
  /** Serves the side API without tokens; only on loopback. */
  readonly adminWithoutToken: boolean;
  /** The side API's tokens; empty: drawn at the first start and kept in the data folder. */
  readonly adminToken: string;
  /** The token of the scope `read`; likewise. */
  readonly readToken: string;
  /** The folder that holds the store, the relay's identity and its invites. */
  readonly data: string;
  /** `ws://` or `wss://host[:port]/`; empty: made from `listen`. */
  readonly publicUrl: string;
  /** Who may found a group. Default `invite`. */
  readonly founding: Founding;
  /** How much is logged to standard error. Default `info`. */
  readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
  /** CIDRs of proxies whose forwarded addresses are believed. */
  readonly trustedProxies: readonly string[];
  /** The bounds. */
  readonly limits: RelayLimits;
  /** Whether devices are woken that are away. Default: they are not. */
  readonly webPush: WebPushOptions;
}

/** The bounds where nobody sets others. */
export const defaultLimits: RelayLimits = {
  blobBytesMax: blobBytesDefault,
  groupBytesMax: 100 * 1024 * 1024,
  storeBytesMax: 1024 * 1024 * 1024,
  sessionsMax: 10_000,
  outboundBytesMax: 4 * 1024 * 1024,
  handshakesMax: 1_024,
  handshakeMsMax,
  pushesPerS: 20,
  pushesBurst: 200,
  addressConnectionsPerMin: 15,
  addressHandshakesMax: 10,
};

/** The options where nobody sets others. */
export const defaultOptions: RelayOptions = {
  listen: "127.0.0.1:8080",
  listenAdmin: "",
  adminPortFallback: false,
  adminWithoutToken: false,
  adminToken: "",
  readToken: "",
  data: "./data",
  publicUrl: "",
  founding: "invite",
  logLevel: "info",
  trustedProxies: [],
  limits: defaultLimits,
  webPush: { enabled: false, subject: "", allowPrivateAddresses: false },
};

/** What a caller gives; everything has a default. */
export type RelayOptionsInput = Partial<Omit<RelayOptions, "limits" | "webPush">> & {
  readonly limits?: Partial<RelayLimits>;
  readonly webPush?: Partial<WebPushOptions>;
};

/** An option that cannot be: names the option and what it may be. */
export class RelayOptionsError extends Error {
  override readonly name = "RelayOptionsError";
}

/** The whole options, checked and frozen. Throws `RelayOptionsError`. */
export function readOptions(input: RelayOptionsInput): RelayOptions {
  const limits = { ...defaultLimits, ...input.limits };
  for (const [name, value] of Object.entries(limits)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RelayOptionsError(`limits.${name} must be a whole number from 1`);
    }
  }
  if (limits.blobBytesMax > blobBytesCeiling) {
    throw new RelayOptionsError(`limits.blobBytesMax must be at most ${blobBytesCeiling}`);
  }
  const webPush = { ...defaultOptions.webPush, ...input.webPush };
  const options = {
    ...defaultOptions,
    ...input,
    limits: Object.freeze(limits),
    webPush: Object.freeze(webPush),
  };
  parseListen(options.listen);
  if (
    options.listenAdmin !== "" &&
    !isLoopback(parseListen(options.listenAdmin).host) &&
    options.adminWithoutToken
  ) {
    throw new RelayOptionsError(
      "admin_without_token is only for loopback: listen_admin must be as 127.0.0.1:8081, or leave it out and use the tokens",
    );
  }
  if (options.publicUrl !== "" && !/^wss?:\/\/[^/?#]+\/?$/.test(options.publicUrl)) {
    throw new RelayOptionsError("public-url must look like wss://sync.example.com/");
  }
  if (webPush.enabled && !/^(mailto:|https:\/\/)./.test(webPush.subject)) {
    throw new RelayOptionsError(
      "web_push.enabled needs web_push.subject: whom a push service may turn to, as mailto:you@example.com",
    );
  }
  return Object.freeze(options);
}

/** Host and port of `HOST:PORT` or `[V6]:PORT`. Throws `RelayOptionsError`. */
export function parseListen(listen: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(listen);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new RelayOptionsError("listen must look like 127.0.0.1:8080 or [::1]:8080");
  }
  return { host: (match[1] ?? match[2]) as string, port };
}

/** Whether only programs on this machine can reach a host to listen on. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** The most one WebSocket message may be under these limits, in bytes. */
export function recordBound(limits: RelayLimits): number {
  return recordBytesMax(limits.blobBytesMax);
}

/** The most one envelope may be under these limits, in bytes. */
export function envelopeBound(limits: RelayLimits): number {
  return envelopeBytesMax(limits.blobBytesMax);
}
