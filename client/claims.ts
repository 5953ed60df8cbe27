/**
 * What other devices say they saw of a sender and this one was not shown, while it is open whether that
 * can still come: held on disk until the sender's chain leads past it, or until nothing excuses it any
 * more. Then it must hold, or is a finding. The same for what this device itself had read, where it took
 * over a state that holds less: the relay must show it once more.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type EvidenceClaim, FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { HeldClaimSchema, HeldClaimsSchema } from "../gen/syncrelay/state/v1/history_pb.ts";
import { emptyBytes, equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { decode } from "./disk.ts";
import type { Finding } from "./findings.ts";
import type { ChainPlace } from "./seal/blob.ts";
import type { Positions } from "./seal/history.ts";
import type { StateTransaction } from "./state-store.ts";

const keys = { from: "claims/", to: "claims0" } as const;
/** Claims held about one sender: each is one link that some member signed for. */
const claimsMax = 16;

interface Held {
  readonly seq: number;
  readonly link: Uint8Array;
  readonly untilMs: number;
  readonly claim: EvidenceClaim;
}

/** What is known of the links that a claim is compared with. */
export interface Comparing {
  readonly senders: Positions;
  /** A link that was read, where it is still known. */
  linkOf(sender: string, seq: number): Uint8Array | undefined;
  /** Whether the sender itself has given up that link. */
  abandoned(sender: string, link: Uint8Array): boolean;
  /** The last seq that counts of a device that was removed. */
  closing?(sender: string): number | undefined;
  /** Up to where a device itself says that the log lacks some of it for good. */
  lacking?(sender: string): number | undefined;
}

/** What a claim about a place comes to. */
export type Compared = "met" | "missing" | "different";

/** Holds what another device verified of a sender against what was read of it. */
export function compareClaim(at: Comparing, sender: string, seen: ChainPlace): Compared {
  if (at.abandoned(sender, seen.link)) return "met";
  const place = at.senders.get(sender);
  if (place === undefined || place.seq < seen.seq) {
    // Whoever removed its sender closed it below: that does not count, whether or not it was seen.
    if (seen.seq > (at.closing?.(sender) ?? Number.POSITIVE_INFINITY)) return "met";
    return seen.seq <= (at.lacking?.(sender) ?? 0) ? "met" : "missing";
  }
  const link = place.seq === seen.seq ? place.link : at.linkOf(sender, seen.seq);
  return link === undefined || equalBytes(link, seen.link) ? "met" : "different";
}

export class Claims {
  readonly #held = new Map<string, readonly Held[]>();

  async load(tx: StateTransaction): Promise<void> {
    for (const { key, value } of await tx.range("log", keys.from, keys.to)) {
      const { claims } = decode(() => fromBinary(HeldClaimsSchema, value));
      const held = claims.flatMap(({ claim, untilRunMs }) =>
        claim?.place === undefined
          ? []
          : [
              {
                seq: Number(claim.place.seq),
                link: Uint8Array.from(claim.place.link),
                untilMs: Number(untilRunMs),
                claim,
              },
            ],
      );
      if (held.length > 0) this.#held.set(key.slice(keys.from.length), held);
    }
  }

  get count(): number {
    let count = 0;
    for (const held of this.#held.values()) count += held.length;
    return count;
  }

  /**
   * Holds more claims, and holds all of them against what was read by now. `excuses`: what is missing
   * of that sender may still come. `self`: what this device says, and is missing, may come up to the
   * head; with `atHead` that is reached. What is met is let go, and so is what becomes a finding.
   */
  move(
    tx: StateTransaction,
    now: {
      readonly at: Comparing;
      readonly nowMs: number;
      readonly untilMs: number;
      readonly fresh?: readonly EvidenceClaim[];
      readonly self: Uint8Array;
      readonly atHead?: boolean;
      excuses(sender: string): boolean;
    },
  ): { readonly findings: Finding[]; readonly taken: () => void } {
    const findings: Finding[] = [];
    const next = new Map<string, readonly Held[]>();
    for (const claim of now.fresh ?? []) {
      const { place } = claim;
      if (place === undefined) continue;
      const sender = idText(place.deviceId);
      const seq = Number(place.seq);
      const held = next.get(sender) ?? this.#held.get(sender) ?? [];
      if (held.some((each) => each.seq === seq && equalBytes(each.link, place.link))) continue;
      // The chain that leads to the highest leads through the others: those beyond the bound go first.
      const kept = [...held, { seq, link: place.link, untilMs: now.untilMs, claim }]
        .toSorted((a, b) => b.seq - a.seq)
        .slice(0, claimsMax);
      next.set(sender, kept);
    }
    for (const sender of new Set([...this.#held.keys(), ...next.keys()])) {
      const held = next.get(sender) ?? this.#held.get(sender) ?? [];
      const left = held.filter((each) => {
        const compared = compareClaim(now.at, sender, each);
        if (compared === "met") return false;
        const mine = equalBytes(each.claim.witnessId, now.self);
        if (compared === "missing" && mine && now.atHead !== true) return true;
        if (compared === "missing" && now.excuses(sender) && now.nowMs < each.untilMs) return true;
        const finding = claimFinding(compared, each.claim, now.at.senders.get(sender));
        findings.push(mine ? { ...finding, error: unseen(finding.error) } : finding);
        return false;
      });
      if (left.length < held.length) next.set(sender, left);
    }
    return { findings, taken: this.#write(tx, next) };
  }

  #write(tx: StateTransaction, next: ReadonlyMap<string, readonly Held[]>): () => void {
    for (const [sender, held] of next) {
      if (held.length === 0) {
        tx.delete("log", keys.from + sender);
        continue;
      }
      const message = create(HeldClaimsSchema, {
        claims: held.map(({ claim, untilMs }) =>
          create(HeldClaimSchema, { claim, untilRunMs: BigInt(untilMs) }),
        ),
      });
      tx.put("log", keys.from + sender, toBinary(HeldClaimsSchema, message));
    }
    return () => {
      for (const [sender, held] of next) {
        if (held.length === 0) this.#held.delete(sender);
        else this.#held.set(sender, held);
      }
    };
  }
}

/** What this device itself had read is not there any more. */
function unseen({ code }: SyncError): SyncError {
  return new SyncError(code, { hint: "the relay does not show what this device has read before" });
}

/** What it means that a claim does not hold. */
export function claimFinding(
  compared: Exclude<Compared, "met">,
  claim: EvidenceClaim,
  verified: ChainPlace | undefined,
  received: Finding["received"] = [],
): Finding {
  const hint =
    compared === "missing"
      ? "another device has seen an entry that the relay does not show here"
      : "another device was shown another history of this sender";
  return {
    kind: compared === "missing" ? FindingKind.DROPPED : FindingKind.FORKED,
    error: new SyncError(ErrorCode.HISTORY_ALTERED, { hint }),
    sender: claim.place?.deviceId ?? emptyBytes,
    seq: Number(claim.place?.seq ?? 0n),
    claims: [claim],
    received,
    ...(verified === undefined ? {} : { verified }),
  };
}
