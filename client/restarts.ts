/**
 * What this device does where others saw another chain of it than the one it has: it lost state, and the
 * relay lost the same. It has then signed, or is about to sign, two links for one seq. It says so: a
 * signed restart, behind all it has queued, gives up the link that others hold, and whoever holds that
 * goes on from there.
 */
import { create } from "@bufbuild/protobuf";
import { EvidenceClaimSchema, FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type { SenderLink } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { emptyBytes, equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { Core } from "./core.ts";
import { decodeOwn, readChainState } from "./disk.ts";
import type { PreparedItem } from "./prepare.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";

/** Restarts of one process: each names a link that some member signed for, and members could make up any number. */
const restartsMax = 16;
/** Own blobs read at once: each may be as large as the relay allows. */
const rowsAtOnce = 32;

export interface RestartsHooks {
  /** The chains of device and relay agree: nothing is being read back. */
  agreed(): boolean;
  push(items: readonly PreparedItem[]): Promise<unknown>;
  /** A link of this device's that was read, where it is still known. */
  ownLink(seq: number): Uint8Array | undefined;
}

export class Restarts {
  readonly #core: Core;
  readonly #hooks: RestartsHooks;
  /** Links that were given up by this process. */
  readonly #given = new Set<string>();
  #waiting: SenderLink[] = [];
  #busy = false;

  constructor(core: Core, hooks: RestartsHooks) {
    this.#core = core;
    this.#hooks = hooks;
  }

  /** What others say of this device's chain and was not found in it; looked at once device and relay agree. */
  consider(places: readonly SenderLink[]): void {
    this.#waiting.push(...places);
    if (this.#waiting.length > restartsMax) this.#waiting = this.#waiting.slice(-restartsMax);
    if (this.#busy || this.#waiting.length === 0 || !this.#hooks.agreed()) return;
    this.#busy = true;
    this.#considerAll()
      .catch((error: unknown) => {
        if (error instanceof StateStoreError) {
          if (error.problem !== "closed") this.#core.failed(error);
        } else if (!(error instanceof SyncError)) throw error;
        // Refused by the queue: asked for again when somebody names that link again.
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  async #considerAll(): Promise<void> {
    for (const place of this.#waiting.splice(0)) {
      const text = idText(place.link);
      if (this.#given.has(text) || this.#given.size >= restartsMax) continue;
      if (!(await this.#isOther(Number(place.seq), place.link))) continue;
      this.#given.add(text);
      this.#core.found({
        kind: FindingKind.DEVICE_FORKED,
        error: new SyncError(ErrorCode.DEVICE_FORKED, {
          hint: "this device lost state; others hold entries of it that it does not know",
        }),
        sender: this.#core.keys.deviceId,
        seq: Number(place.seq),
        claims: [create(EvidenceClaimSchema, { place })],
      });
      await this.#hooks.push([{ data: emptyBytes, abandonedLink: place.link }]);
    }
  }

  /**
   * Whether a link stands anywhere in the own chain, whatever place is named with it: giving that up
   * would let whoever stands there pass over all that follows it.
   */
  async #isOwn(tx: StateTransaction, link: Uint8Array): Promise<boolean> {
    for (let from = 0; ; ) {
      const rows = await tx.range("own", from, undefined, rowsAtOnce);
      for (const { key, value } of rows) {
        if (equalBytes(decodeOwn(value).link, link)) return true;
        from = key + 1;
      }
      if (rows.length < rowsAtOnce) return false;
    }
  }

  /** Whether a link stands in no chain that this device knows of itself. */
  async #isOther(seq: number, link: Uint8Array): Promise<boolean> {
    const core = this.#core;
    if (core.abandoned.has(core.deviceText, link)) return false;
    return await core.disk.write(async (tx) => {
      const own = await readChainState(tx);
      if (equalBytes(own.last.link, link) || (await this.#isOwn(tx, link))) return false;
      if (seq > own.last.seq) return true;
      const bytes = await tx.get("own", seq);
      const known = bytes === undefined ? this.#hooks.ownLink(seq) : decodeOwn(bytes).link;
      return known !== undefined && !equalBytes(known, link);
    });
  }
}
