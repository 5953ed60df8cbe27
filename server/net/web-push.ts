/**
 * The way to push services: Web Push (RFC 8030) with VAPID (RFC 8292), sealed to the app as RFC 8291
 * says, by the library `web-push`; the request is made here, where it is bounded. What is sealed is the
 * same text for everybody.
 */
import { request } from "node:https";
import { join } from "node:path";
import type { PushSubscription, RequestDetails, VapidKeys } from "web-push";
import { toBase64url } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { parseId } from "../../wire/ids.ts";
import { wakeUpKeyBytes } from "../../wire/limits.ts";
import { readText, writePrivateFile } from "../identity.ts";
import type { WebPushOptions } from "../options.ts";
import type { WakeUpPlace } from "../wake-up-requests.ts";
import type { WakeUpOutcome, WakeUpSender } from "../wake-ups.ts";
import { PrivateAddressError, publicLookup, readEndpoint } from "./public-address.ts";

/** What every message says: nothing that differs. */
const message = "wake";
/** Of messages under one topic a push service keeps the newest. */
const topic = "wake";
/** How long a push service keeps a message for an app that it does not reach, in seconds: a day. */
const keptS = 86_400;
/** A message, from the name's look-up to the answer's head, in milliseconds. */
const sendMsMax = 10_000;
const keyFile = "web-push.key";

/** What tests put in the place of the world's. */
export interface WebPushWorld {
  /** Authorities that push services' certificates are checked against. */
  readonly ca?: string;
  readonly lookup?: Parameters<typeof publicLookup>[0];
  readonly nowMs?: () => number;
  /** What one message may take, in milliseconds. */
  readonly sendMsMax?: number;
}

/**
 * Opens the way to push services. The relay's key there is drawn at first and kept in `folder`; without it
 * every subscription that was made with it is of no use.
 */
export async function openWebPush(
  folder: string,
  options: Omit<WebPushOptions, "enabled">,
  world: WebPushWorld = {},
): Promise<WakeUpSender> {
  const { default: webPush } = await import("web-push");
  const { applicationServerKey, ...keys } = await openKeys(folder, webPush.generateVAPIDKeys);
  const { subject, allowPrivateAddresses } = options;
  const nowMs = world.nowMs ?? Date.now;
  const detailsFor = ({ endpoint, p256dh, auth }: WakeUpPlace): RequestDetails => {
    const subscription: PushSubscription = {
      endpoint,
      keys: { p256dh: toBase64url(p256dh), auth: toBase64url(auth) },
    };
    return webPush.generateRequestDetails(subscription, message, {
      vapidDetails: { subject, ...keys },
      contentEncoding: "aes128gcm",
      TTL: keptS,
      urgency: "normal",
      topic,
    });
  };
  return {
    applicationServerKey,
    accepts: (endpoint) => readEndpoint(endpoint, allowPrivateAddresses) !== undefined,
    send: async (place) => {
      // What was let in when it was registered may not be any more.
      const url = readEndpoint(place.endpoint, allowPrivateAddresses);
      if (url === undefined) return { kind: "refused" };
      let details: RequestDetails;
      try {
        details = detailsFor(place);
      } catch {
        // Nothing can be sealed to a key that is no point of the curve.
        return { kind: "gone" };
      }
      return await post(url, details, allowPrivateAddresses, world, nowMs);
    },
  };
}

/** Posts a message. Of the answer its head counts, and nothing else is read. */
function post(
  url: URL,
  details: RequestDetails,
  allowPrivate: boolean,
  world: WebPushWorld,
  nowMs: () => number,
): Promise<WakeUpOutcome> {
  return new Promise((resolve) => {
    const outgoing = request(url, {
      method: details.method,
      headers: details.headers,
      signal: AbortSignal.timeout(world.sendMsMax ?? sendMsMax),
      agent: false,
      ...(allowPrivate ? {} : { lookup: publicLookup(world.lookup) }),
      ...(world.ca === undefined ? {} : { ca: world.ca }),
    });
    outgoing.on("response", (response) => {
      resolve(outcomeOf(response.statusCode ?? 0, response.headers["retry-after"], nowMs()));
      outgoing.destroy();
    });
    outgoing.on("error", (error) => {
      resolve(
        error instanceof PrivateAddressError
          ? { kind: "refused" }
          : { kind: "later", retryAfterMs: undefined },
      );
    });
    outgoing.end(details.body);
  });
}

/** What an answer says (RFC 8030, sections 5 and 7.3; 429 of RFC 6585). */
export function outcomeOf(
  status: number,
  retryAfter: string | undefined,
  nowMs: number,
): WakeUpOutcome {
  if (status >= 200 && status < 300) return { kind: "sent" };
  if (status === 404 || status === 410) return { kind: "gone" };
  if (status === 429 || status >= 500) {
    return { kind: "later", retryAfterMs: readRetryAfter(retryAfter, nowMs) };
  }
  return { kind: "refused" };
}

/** Seconds, or a date (RFC 9110, section 10.2.3); undefined where it is neither. */
function readRetryAfter(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1_000;
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
}

async function openKeys(
  folder: string,
  draw: () => VapidKeys,
): Promise<VapidKeys & { readonly applicationServerKey: Uint8Array }> {
  const path = join(folder, keyFile);
  let text = await readText(path);
  if (text === undefined) {
    const drawn = draw();
    text = `${drawn.publicKey} ${drawn.privateKey}\n`;
    await writePrivateFile(folder, keyFile, text);
  }
  const [publicKey = "", privateKey = ""] = text.trim().split(" ");
  const applicationServerKey = parseId(publicKey, wakeUpKeyBytes);
  if (applicationServerKey === undefined || parseId(privateKey, 32) === undefined) {
    throw new SyncError(ErrorCode.STORE_UNAVAILABLE, {
      hint: `the relay's key at push services in ${path} is damaged: restore that file, or remove it, and devices register anew when they connect`,
    });
  }
  return { publicKey, privateKey, applicationServerKey };
}
