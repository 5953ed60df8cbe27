/**
 * Who is there, told to a group's other sessions: at once while there is little of it, and gathered where
 * there is much. A group that comes back together is told of each to each, which is the square of its
 * devices; so what is told is bounded for the whole relay, and waits for its turn in between, where a
 * device that changed twice is told once.
 */
import { create } from "@bufbuild/protobuf";
import {
  type Presence,
  PresenceSchema,
  PresenceState,
} from "../gen/syncrelay/sync/v1/session_pb.ts";
import { type EnvelopeBody, encodeEnvelope } from "../wire/envelope.ts";
import type { DeviceEntry } from "./group-state.ts";
import { TokenBucket } from "./rate-limit.ts";

/** A session, as far as it is told. */
interface Told {
  readonly device: DeviceEntry | undefined;
  readonly presence: PresenceState;
  tellNewest(body: EnvelopeBody, encoded: Uint8Array): void;
}

/** A group's sessions. */
interface Audience {
  readonly sessions: ReadonlySet<Told>;
}

/** Sessions that are told something, a second: each is a record of its own, 50 µs or so of a core. */
const toldRate = { perS: 2_000, burst: 4_000 };

export class PresenceNews {
  readonly #nowMs: () => number;
  readonly #told: TokenBucket;
  /** What waits, by group, the longest first. */
  readonly #waiting = new Map<Audience, Set<DeviceEntry>>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#told = new TokenBucket(toldRate, nowMs());
  }

  /** A device came, went, or says otherwise of itself. */
  changed(live: Audience, device: DeviceEntry): void {
    const devices = this.#waiting.get(live);
    if (devices !== undefined) devices.add(device);
    // Nobody overtakes who waits.
    else if (this.#waiting.size > 0 || !this.#mayTell(live))
      this.#waiting.set(live, new Set([device]));
    else tell(live, [device]);
  }

  /** Tells what waits, as far as may be told by now. Called once a second or so. */
  tick(): void {
    for (const [live, devices] of this.#waiting) {
      if (!this.#mayTell(live)) return;
      this.#waiting.delete(live);
      tell(live, devices);
    }
  }

  #mayTell(live: Audience): boolean {
    // A bucket never holds more than its burst, and no group may wait for good.
    const count = Math.min(live.sessions.size, toldRate.burst);
    return this.#told.take(toldRate, this.#nowMs(), count) === 0;
  }
}

/** Tells each session of the others, as it stands now, encoded once for all of them. */
function tell(live: Audience, devices: Iterable<DeviceEntry>): void {
  const states = new Map<DeviceEntry, PresenceState>();
  for (const session of live.sessions) {
    if (session.device !== undefined) states.set(session.device, session.presence);
  }
  for (const device of devices) {
    const state = states.get(device) ?? PresenceState.OFFLINE;
    const body: EnvelopeBody = { case: "presence", value: presenceOf(device, state) };
    const encoded = encodeEnvelope(0, body);
    for (const session of live.sessions) {
      if (session.device !== device) session.tellNewest(body, encoded);
    }
  }
}

/** A device's presence, as others are told it. */
export function presenceOf(device: DeviceEntry, state: PresenceState): Presence {
  return create(PresenceSchema, {
    deviceId: device.row.deviceId,
    state,
    lastSeenMs: BigInt(device.lastSeenMs),
    refused: device.row.state === "refused",
  });
}
