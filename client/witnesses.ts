/**
 * What other devices prove to have verified: their newest witnesses, held against what this device was
 * shown of the same log, of senders and of the membership.
 *
 * Only the newest of a device counts, by its counter, which is kept: a relay that shows an older one
 * shows nothing. A witness that is ahead of what was read waits until it is not.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type EvidenceClaim,
  EvidenceClaimSchema,
  FindingKind,
} from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type SenderLink, SenderLinkSchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { WitnessSeenSchema } from "../gen/syncrelay/state/v1/history_pb.ts";
import { MembershipVersionSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import type { DeviceWitness } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes, equalBytes, isZero } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { blake2b256 } from "../wire/hash.ts";
import { deviceIdBytes, parseId } from "../wire/ids.ts";
import { type Comparing, claimFinding, compareClaim } from "./claims.ts";
import type { Core, Finding } from "./core.ts";
import { decode } from "./disk.ts";
import { type OpenedWitness, openWitness } from "./seal/witness.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";

const keys = { from: "witness/", to: "witness0" } as const;
/** How long a newer counter may wait for the disk, in milliseconds. */
const writeMs = 5_000;

export interface WitnessesHooks {
  /** Everything up to the head was read, on a session that is there. */
  caughtUp(): boolean;
  /** Pulls up to the head that were begun. */
  pulls(): number;
  askAgain(): void;
  comparing(): Comparing;
  /** Senders of which something is refused: nothing is compared with their places. */
  holding(): ReadonlySet<string>;
  refreshGroup(): Promise<void>;
  /** A control blob's hash, by its count. */
  controlHead(count: number): Promise<Uint8Array | undefined>;
  /** What another device says of this one's own chain, where it is another one here. */
  ofOwn(places: readonly SenderLink[]): void;
  /** A device proved how far it has applied the log. */
  applied(device: string, cursor: number, madeMs: number): void;
}

interface Seen {
  readonly counter: number;
  readonly hash: Uint8Array;
  readonly applied: number;
  readonly madeMs: number;
  readonly lackingSeq: number;
}

interface Waiting {
  readonly deviceId: Uint8Array;
  readonly claims: OpenedWitness;
  readonly proof: EvidenceClaim;
  /** Pulls that were begun when it came. */
  readonly pulls: number;
  /** The membership was asked for since. */
  refreshed: boolean;
}

export class Witnesses {
  readonly #core: Core;
  readonly #hooks: WitnessesHooks;
  readonly #seen = new Map<string, Seen>();
  readonly #unwritten = new Set<string>();
  readonly #waiting = new Map<string, Waiting>();
  #cancel: (() => void) | undefined;
  #comparing = false;

  constructor(core: Core, hooks: WitnessesHooks) {
    this.#core = core;
    this.#hooks = hooks;
  }

  async load(tx: StateTransaction): Promise<void> {
    for (const { key, value } of await tx.range("log", keys.from, keys.to)) {
      const seen = decode(() => fromBinary(WitnessSeenSchema, value));
      const { counter, hash, applied, madeMs, lackingSeq } = seen;
      const device = key.slice(keys.from.length);
      this.#seen.set(device, {
        counter: Number(counter),
        hash,
        applied: Number(applied),
        madeMs: Number(madeMs),
        lackingSeq: Number(lackingSeq),
      });
      this.#lacks(device, Number(lackingSeq));
      this.#hooks.applied(device, Number(applied), Number(madeMs));
    }
  }

  /** What the relay passes on. What does not open is not theirs, and is let go. */
  take(witnesses: readonly DeviceWitness[]): void {
    for (const each of witnesses) {
      try {
        this.#takeOne(each);
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        this.#core.failed(error);
      }
    }
    this.compare();
  }

  #takeOne({ deviceId, witness }: DeviceWitness): void {
    const { chain, deviceText } = this.#core;
    if (chain === undefined || witness === undefined) return;
    const entry = [...chain.devices].find(([, each]) => equalBytes(each.deviceId, deviceId));
    if (entry === undefined || entry[0] === deviceText) return;
    const [device, { signingKey }] = entry;
    const before = this.#seen.get(device);
    // Shown once more by a relay that was restored, or would like it to be so.
    if (before !== undefined && Number(witness.counter) < before.counter) return;
    const witnessKey = chain.keyring.witnessKey(Number(witness.epoch));
    if (witnessKey === undefined) return;
    const { groupId } = chain;
    const claims = openWitness(witness, { groupId, deviceId, signingKey, witnessKey });
    const proof = create(EvidenceClaimSchema, {
      witnessId: Uint8Array.from(deviceId),
      sealed: witness,
      witness: claims.bytes,
    });
    const hash = blake2b256(claims.bytes);
    if (before?.counter === claims.counter && !equalBytes(before.hash, hash)) {
      this.#core.found({
        kind: FindingKind.WITNESS_CONFLICT,
        error: new SyncError(ErrorCode.HISTORY_ALTERED, {
          hint: "a device signed two witnesses under one number",
        }),
        sender: Uint8Array.from(deviceId),
        seq: claims.counter,
        claims: [proof],
      });
      return;
    }
    const { counter, madeMs, lackingSeq } = claims;
    if (before === undefined || before.counter < counter) {
      // One that names no log says what is lacking, and of what was applied nothing.
      const applied = isZero(claims.logId) ? (before?.applied ?? 0) : claims.applied;
      this.#seen.set(device, { counter, hash, applied, madeMs, lackingSeq });
      this.#lacks(device, lackingSeq);
      this.#unwritten.add(device);
      this.#cancel ??= this.#core.host.setTimer(writeMs, () => {
        this.#cancel = undefined;
        this.#write().catch((error: unknown) => this.#failed(error));
      });
      this.#hooks.applied(device, applied, madeMs);
      this.#core.moved();
    }
    const pulls = this.#hooks.pulls();
    const id = Uint8Array.from(deviceId);
    this.#waiting.set(device, { deviceId: id, claims, proof, pulls, refreshed: false });
  }

  #lacks(device: string, seq: number): void {
    if (seq > 0) this.#core.lacking.set(device, seq);
    else this.#core.lacking.delete(device);
  }

  /** Holds what waits against what was read, where all up to the head is. */
  compare(): void {
    if (this.#comparing || this.#waiting.size === 0 || !this.#hooks.caughtUp()) return;
    this.#comparing = true;
    this.#compareAll()
      .catch((error: unknown) => this.#failed(error))
      .finally(() => {
        this.#comparing = false;
      });
  }

  /** The session ended: the next one brings the newest again. */
  end(): void {
    this.#waiting.clear();
  }

  async close(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    await this.#write();
  }

  async #compareAll(): Promise<void> {
    for (const [device, waiting] of this.#waiting) {
      if (!this.#hooks.caughtUp()) return;
      if (await this.#compareOne(device, waiting)) {
        if (this.#waiting.get(device) === waiting) this.#waiting.delete(device);
      }
    }
  }

  /** Whether it was compared; else it is looked at again at the next head. */
  async #compareOne(device: string, waiting: Waiting): Promise<boolean> {
    const core = this.#core;
    const { claims } = waiting;
    if (!(await this.#compareMembership(waiting))) return false;
    // Of another log: nothing of it can be compared with this one.
    if (!equalBytes(claims.logId, core.log.logId)) return true;
    if (claims.applied > core.log.read) return this.#ahead(waiting);
    if (core.changes.settles(device, claims)) {
      await core.disk.write(
        (tx) => core.changes.settled(tx, device),
        (settled) => settled(),
      );
    }
    this.#comparePlaces(device, waiting);
    return true;
  }

  /** Another device has applied more than this one was shown of the same log. */
  #ahead(waiting: Waiting): boolean {
    // It may have come before what it speaks of: the relay is asked for that first.
    if (this.#hooks.pulls() === waiting.pulls) {
      this.#hooks.askAgain();
      return false;
    }
    const { applied } = waiting.claims;
    this.#core.found({
      kind: FindingKind.FORKED,
      error: new SyncError(ErrorCode.HISTORY_ALTERED, {
        hint: `another device has applied this log up to ${applied}; here it ends at ${this.#core.log.read}`,
      }),
      cursor: applied,
      claims: [waiting.proof],
    });
    return true;
  }

  #comparePlaces(device: string, { claims, proof }: Waiting): void {
    const core = this.#core;
    const at = this.#hooks.comparing();
    const holding = this.#hooks.holding();
    const held: EvidenceClaim[] = [];
    const ofOwn: SenderLink[] = [];
    const findings: Finding[] = [];
    for (const [sender, place] of claims.positions) {
      if (place.seq === 0 || holding.has(sender)) continue;
      const compared = compareClaim(at, sender, place);
      if (compared === "met") continue;
      const deviceId = parseId(sender, deviceIdBytes);
      if (deviceId === undefined) continue;
      const link = create(SenderLinkSchema, {
        deviceId,
        seq: BigInt(place.seq),
        link: Uint8Array.from(place.link),
      });
      if (sender === core.deviceText) {
        ofOwn.push(link);
        continue;
      }
      const claim = create(EvidenceClaimSchema, { ...proof, place: link });
      // What its own sender acknowledged in this log stands in it.
      if (compared === "missing" && sender !== device && core.changes.excuses(sender)) {
        held.push(claim);
      } else {
        const finding = claimFinding(compared, claim, at.senders.get(sender));
        // It stands in the part of the log that was read: somebody was shown another one.
        findings.push({ ...finding, kind: FindingKind.FORKED });
      }
    }
    if (ofOwn.length > 0) this.#hooks.ofOwn(ofOwn);
    if (held.length + findings.length === 0) this.#healAhead(claims, proof.witnessId);
    if (held.length + findings.length === 0 && core.claims.count === 0) return;
    core.disk
      .write(
        (tx) => {
          const moved = core.claims.move(tx, {
            at,
            fresh: held,
            self: core.keys.deviceId,
            nowMs: core.time.nowMs,
            untilMs: core.changes.untilMs,
            excuses: (sender) => core.changes.excuses(sender),
          });
          const found = core.findings.write(tx, [...findings, ...moved.findings]);
          return () => {
            moved.taken();
            found();
          };
        },
        (taken) => taken(),
      )
      .catch((error: unknown) => this.#failed(error));
  }

  /**
   * What a device had applied beyond the head that was shown here is shown now, and what it had verified
   * there is what was read here: the two are in one history again.
   */
  #healAhead({ applied, logId, positions }: OpenedWitness, by: Uint8Array): void {
    if (positions.size === 0) return;
    this.#core.findings.healed(
      (finding) =>
        finding.kind === FindingKind.FORKED &&
        finding.seq === 0 &&
        finding.cursor <= applied &&
        equalBytes(finding.logId, logId) &&
        equalBytes(finding.witness ?? emptyBytes, by),
    );
  }

  /** Whether the membership that a witness names was compared. */
  async #compareMembership(waiting: Waiting): Promise<boolean> {
    const core = this.#core;
    const { count, head } = waiting.claims.membership;
    let own = core.chain?.version;
    if (own === undefined) return true;
    if (count > own.count && !waiting.refreshed) {
      waiting.refreshed = true;
      await this.#hooks.refreshGroup();
      own = core.chain?.version ?? own;
    }
    const claimed = { claims: [waiting.proof], sender: waiting.deviceId };
    const claimedMembership = create(MembershipVersionSchema, { count: BigInt(count), head });
    if (count > own.count) {
      core.found({
        kind: FindingKind.MEMBERSHIP_WITHHELD,
        error: new SyncError(ErrorCode.HISTORY_ALTERED, {
          hint: "another device has verified a membership change that the relay does not show here",
        }),
        seq: count,
        claimedMembership,
        ...claimed,
      });
      return true;
    }
    const known = await this.#hooks.controlHead(count);
    if (known !== undefined && !equalBytes(known, head)) {
      core.found({
        kind: FindingKind.MEMBERSHIP_FORKED,
        error: new SyncError(ErrorCode.HISTORY_ALTERED, {
          hint: "another device has verified another membership history",
        }),
        seq: count,
        claimedMembership,
        ...claimed,
      });
    }
    return true;
  }

  async #write(): Promise<void> {
    if (this.#unwritten.size === 0) return;
    const devices = [...this.#unwritten];
    this.#unwritten.clear();
    await this.#core.disk.write((tx) => {
      for (const device of devices) {
        const seen = this.#seen.get(device);
        if (seen === undefined) continue;
        const message = create(WitnessSeenSchema, {
          counter: BigInt(seen.counter),
          hash: seen.hash,
          applied: BigInt(seen.applied),
          madeMs: BigInt(seen.madeMs),
          lackingSeq: BigInt(seen.lackingSeq),
        });
        tx.put("log", keys.from + device, toBinary(WitnessSeenSchema, message));
      }
    });
  }

  #failed(error: unknown): void {
    if (error instanceof StateStoreError) {
      if (error.problem !== "closed") this.#core.failed(error);
    } else if (!(error instanceof SyncError)) {
      throw error;
    }
    // The session's end is told elsewhere; the next one brings the witnesses again.
  }
}
