/**
 * Who may call the side API. Decided from a request's first lines, before
 * anything of its body is read: a stranger costs a hash and a short answer.
 *
 * A token that holds always passes: whoever fails often from the operator's own
 * address, which behind loopback is everybody's, cannot lock the operator out.
 * The rate bounds what is answered to the others and shows in the figures; that
 * nobody guesses 256 random bits needs no rate.
 */
import type { DescService } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import type { AdminCounters } from "../observe/metrics.ts";
import { TokenBucket } from "../rate-limit.ts";
import type { Scope, Tokens } from "./tokens.ts";

/** What a path asks for: nothing, or a token of some scope. */
export type Needs = Scope | "nothing";

/** Why a request is refused. */
export type Refusal = "unauthenticated" | "forbidden" | "limited";

/** What becomes of a request; `scope` says what who is admitted may do. */
export type Verdict =
  | { readonly admitted: true; readonly scope: Needs }
  | { readonly admitted: false; readonly why: Refusal };

export interface GuardedRequest {
  readonly path: string;
  readonly authorization: string | undefined;
  /** The `Host` that the request names. */
  readonly host: string | undefined;
  readonly address: string;
}

/** Failures of one address: so many at once, and then so many per second. */
const failureRate = { perS: 10 / 60, burst: 10 };
/** Addresses remembered before those at rest are forgotten. */
const addressesMax = 1_000;

export class Guard {
  readonly #tokens: Tokens | undefined;
  readonly #counters: AdminCounters;
  readonly #monotonicMs: () => number;
  readonly #needs: ReadonlyMap<string, Needs>;
  readonly #learn: () => Promise<ReadonlyMap<string, Needs>>;
  readonly #failures = new Map<string, TokenBucket>();

  /**
   * `tokens`: undefined where everybody who reaches the side API may use it. `learn` tells what paths ask
   * for that `needs` does not hold; it is asked only for somebody with a token.
   */
  constructor(
    tokens: Tokens | undefined,
    needs: ReadonlyMap<string, Needs>,
    counters: AdminCounters,
    monotonicMs: () => number,
    learn: () => Promise<ReadonlyMap<string, Needs>> = () => Promise.resolve(new Map()),
  ) {
    this.#tokens = tokens;
    this.#needs = needs;
    this.#learn = learn;
    this.#counters = counters;
    this.#monotonicMs = monotonicMs;
  }

  async check(request: GuardedRequest): Promise<Verdict> {
    const verdict = await this.#check(request);
    if (verdict.admitted) this.#counters.requests += 1;
    else this.#counters[verdict.why] += 1;
    return verdict;
  }

  async #check(request: GuardedRequest): Promise<Verdict> {
    const known = this.#needs.get(request.path);
    if (known === "nothing") return admitted("nothing");
    if (this.#tokens === undefined) {
      // Without tokens a page in this machine's browser must not get here by a name of its own.
      return isLoopbackName(request.host) ? admitted("admin") : refused("forbidden");
    }
    const token = /^Bearer +([A-Za-z0-9._~+/=-]{1,256})$/i.exec(request.authorization ?? "")?.[1];
    const scope = token === undefined ? undefined : await this.#tokens.scopeOf(token);
    if (scope === undefined) {
      return refused(this.#failed(request.address) ? "unauthenticated" : "limited");
    }
    // A path that is not there is told only to whoever may look.
    const needs = known ?? (await this.#learn()).get(request.path) ?? "read";
    return needs === "admin" && scope !== "admin" ? refused("forbidden") : admitted(scope);
  }

  /** Counts a failure; whether it was within the rate. */
  #failed(address: string): boolean {
    const nowMs = this.#monotonicMs();
    let bucket = this.#failures.get(address);
    if (bucket === undefined) {
      if (this.#failures.size >= addressesMax) this.#forget(nowMs);
      if (this.#failures.size >= addressesMax) return false;
      bucket = new TokenBucket(failureRate, nowMs);
      this.#failures.set(address, bucket);
    }
    return bucket.take(failureRate, nowMs) === 0;
  }

  #forget(nowMs: number): void {
    for (const [address, bucket] of this.#failures) {
      if (bucket.full(failureRate, nowMs)) this.#failures.delete(address);
    }
  }
}

/** What each method needs: the schema says which change something. */
export function needsOf(services: readonly DescService[]): Map<string, Needs> {
  const needs = new Map<string, Needs>();
  for (const service of services) {
    for (const method of service.methods) {
      const looks =
        method.idempotency === Idempotency.NO_SIDE_EFFECTS ||
        method.methodKind === "bidi_streaming";
      needs.set(`/${service.typeName}/${method.name}`, looks ? "read" : "admin");
    }
  }
  return needs;
}

function admitted(scope: Needs): Verdict {
  return { admitted: true, scope };
}

function refused(why: Refusal): Verdict {
  return { admitted: false, why };
}

function isLoopbackName(host: string | undefined): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/i.test(host ?? "");
}
