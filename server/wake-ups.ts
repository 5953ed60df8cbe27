/**
 * Whom to wake, and when: what is known of devices for which something came while they were not
 * connected. Pure: it is told what happened and when, and says who is to be woken now. Its driver is
 * `wake-up-desk.ts`.
 *
 *     came ─▶ due ─▶ sending ─▶ resting ─▶ forgotten
 *              ▲         │
 *              └─ later ─┘
 *
 * A device that is woken rests: whatever comes for it, it is not woken again until it has connected, or
 * the interval is over. Connecting ends everything.
 */
import type { WakeUpPlace } from "./wake-up-requests.ts";

/** How long a device may be away before it is woken, in milliseconds: one that changes networks is back by then. */
export const wakeUpDelayMs = 3_000;
/** How long a device that was woken rests, in milliseconds. */
export const wakeUpIntervalMs = 900_000;
/** Messages on their way to push services at once. */
export const wakeUpsInFlightMax = 16;
/** Devices that are due, being woken, or at rest; beyond, no more are taken. */
export const wakeUpsKnownMax = 16_384;
/** Attempts at waking a device, and what lies between the first two, in milliseconds; it doubles. */
export const wakeUpTriesMax = 4;
export const wakeUpRetryMs = 30_000;
/** The longest that a push service can put an attempt off, in milliseconds. */
export const wakeUpRetryMsMax = 3_600_000;

/** What became of one attempt. */
export type WakeUpOutcome =
  /** The push service took the message. */
  | { readonly kind: "sent" }
  /** It does not know the subscription, or no longer. */
  | { readonly kind: "gone" }
  /** It will not take this message, now or later. */
  | { readonly kind: "refused" }
  /** It could not be reached, or asks for patience: so long, where it says so. */
  | { readonly kind: "later"; readonly retryAfterMs: number | undefined };

/** The way to push services, given by whoever puts the relay together. */
export interface WakeUpSender {
  /** The relay's key at push services, 65 bytes. */
  readonly applicationServerKey: Uint8Array;
  /** Whether the relay sends to such an endpoint at all. */
  accepts(endpoint: string): boolean;
  /** Sends a message that says nothing. Never rejects; settles within a bound. */
  send(place: WakeUpPlace): Promise<WakeUpOutcome>;
}

/** A device that is to be woken, was, or is being. */
export interface WakeUp<Device> {
  readonly device: Device;
  readonly key: number;
}

interface Known<Device> extends WakeUp<Device> {
  state: "due" | "sending" | "resting";
  /** When it is due, or has rested, in milliseconds of monotonic time. */
  untilMs: number;
  tries: number;
}

export class WakeUps<Device> {
  readonly #known = new Map<number, Known<Device>>();
  #inFlight = 0;

  /** Devices it knows of. */
  get size(): number {
    return this.#known.size;
  }

  /** Something came for a device that is not connected. False: no more are taken, and it is not woken. */
  came(key: number, device: Device, nowMs: number): boolean {
    if (this.#known.has(key)) return true;
    if (this.#known.size >= wakeUpsKnownMax) return false;
    this.#known.set(key, {
      key,
      device,
      state: "due",
      untilMs: nowMs + wakeUpDelayMs,
      tries: 0,
    });
    return true;
  }

  /** A device is connected, or is woken elsewhere or no more: what was known of it is forgotten. */
  forget(key: number): void {
    this.#known.delete(key);
  }

  /** Whom to wake now: each is to be settled. Those that have rested are forgotten. */
  take(nowMs: number): readonly WakeUp<Device>[] {
    const taken: Known<Device>[] = [];
    for (const known of this.#known.values()) {
      if (known.untilMs > nowMs || known.state === "sending") continue;
      if (known.state === "resting") this.#known.delete(known.key);
      else if (this.#inFlight < wakeUpsInFlightMax) {
        known.state = "sending";
        this.#inFlight += 1;
        taken.push(known);
      }
    }
    return taken;
  }

  /**
   * An attempt came to something. What is given back is over for this time: sent, gone, or given up;
   * undefined: it is tried again, or nobody waits for it any more.
   */
  settled(
    wakeUp: WakeUp<Device>,
    outcome: WakeUpOutcome,
    nowMs: number,
    spread: number,
  ): "sent" | "gone" | "refused" | "unreachable" | undefined {
    this.#inFlight -= 1;
    const known = this.#known.get(wakeUp.key);
    // Whether or not the device has come meanwhile.
    if (known !== wakeUp) return outcome.kind === "later" ? undefined : outcome.kind;
    known.tries += 1;
    if (outcome.kind === "gone") {
      this.#known.delete(known.key);
      return "gone";
    }
    if (outcome.kind === "later" && known.tries < wakeUpTriesMax) {
      const waitMs = Math.max(
        outcome.retryAfterMs ?? 0,
        wakeUpRetryMs * 2 ** (known.tries - 1) * (1 + spread),
      );
      known.state = "due";
      known.untilMs = nowMs + Math.min(waitMs, wakeUpRetryMsMax);
      return undefined;
    }
    known.state = "resting";
    known.untilMs = nowMs + wakeUpIntervalMs;
    return outcome.kind === "later" ? "unreachable" : outcome.kind;
  }
}
