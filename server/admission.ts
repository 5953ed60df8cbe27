/**
 * Who may begin a handshake. Every connection that has not authenticated costs
 * memory and, on its third message, a few Diffie-Hellman operations; this bounds
 * how many there are in all and from one address. Pure: time is an argument.
 *
 * An address is a pseudonym here already; see `observe/addresses.ts`.
 */

import type { RelayLimits } from "./options.ts";
import { TokenBucket } from "./rate-limit.ts";

/** Why a connection was turned away: each has a counter. */
export type Refusal = "sessions" | "handshakes" | "addressHandshakes" | "addressRate";

interface AddressRecord {
  handshakes: number;
  readonly shared: boolean;
  readonly bucket: TokenBucket;
}

/**
 * Behind a tunnel every device has the tunnel's address; they share a bound that
 * many times as large.
 */
const sharedAddressFactor = 20;
/** Addresses remembered before those that are at rest are forgotten. */
const addressesMax = 10_000;

export class Admission {
  #limits: RelayLimits;
  readonly #addresses = new Map<string, AddressRecord>();
  #handshakes = 0;
  #sessions = 0;

  constructor(limits: RelayLimits) {
    this.#limits = limits;
  }

  /** Takes new bounds over; whoever is inside stays. */
  takeLimits(limits: RelayLimits): void {
    this.#limits = limits;
  }

  get handshakes(): number {
    return this.#handshakes;
  }

  get sessions(): number {
    return this.#sessions;
  }

  /** A connection came; undefined where it may begin. `shared`: many devices stand behind the address. */
  begin(address: string, shared: boolean, nowMs: number): Refusal | undefined {
    if (this.#sessions + this.#handshakes >= this.#limits.sessionsMax) return "sessions";
    if (this.#handshakes >= this.#limits.handshakesMax) return "handshakes";
    const record = this.#record(address, shared, nowMs);
    if (record === undefined) return "addressRate";
    const factor = shared ? sharedAddressFactor : 1;
    if (record.handshakes >= this.#limits.addressHandshakesMax * factor) return "addressHandshakes";
    if (record.bucket.take(this.#rate(record.shared), nowMs) > 0) return "addressRate";
    record.handshakes += 1;
    this.#handshakes += 1;
    return undefined;
  }

  /** A handshake ended. */
  finish(address: string, outcome: "finished" | "failed"): void {
    this.#handshakes -= 1;
    if (outcome === "finished") this.#sessions += 1;
    const record = this.#addresses.get(address);
    if (record !== undefined) record.handshakes -= 1;
  }

  /** A member came of it: its address gets the token back that it took. */
  welcome(address: string): void {
    const record = this.#addresses.get(address);
    record?.bucket.giveBack(this.#rate(record.shared));
  }

  /** A session ended. */
  leave(): void {
    this.#sessions -= 1;
  }

  #rate(shared: boolean): { perS: number; burst: number } {
    const perMin = this.#limits.addressConnectionsPerMin * (shared ? sharedAddressFactor : 1);
    return { perS: perMin / 60, burst: perMin };
  }

  #record(address: string, shared: boolean, nowMs: number): AddressRecord | undefined {
    const known = this.#addresses.get(address);
    if (known !== undefined) return known;
    if (this.#addresses.size >= addressesMax) {
      for (const [other, record] of this.#addresses) {
        if (record.handshakes === 0 && record.bucket.full(this.#rate(record.shared), nowMs)) {
          this.#addresses.delete(other);
        }
      }
      if (this.#addresses.size >= addressesMax) return undefined;
    }
    const record = { handshakes: 0, shared, bucket: new TokenBucket(this.#rate(shared), nowMs) };
    this.#addresses.set(address, record);
    return record;
  }
}
