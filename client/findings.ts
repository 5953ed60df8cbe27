/**
 * What was found wrong with the history beside the blobs that are refused for it: entries that others
 * saw and this device did not, ones shown twice, two histories of one device. Kept on disk, because
 * nothing of it is made good by starting anew.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { SenderLinkSchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { emptyBytes } from "../wire/bytes.ts";
import type { SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { type Disk, decode, type LogPlace } from "./disk.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";

/** One is enough not to be in sync; more only say more. */
const findingsMax = 1_024;
const keys = { from: "finding/", to: "finding0" } as const;

/** What a finding is about. */
export interface Finding {
  readonly kind: FindingKind;
  readonly error: SyncError;
  readonly sender?: Uint8Array;
  readonly seq?: number;
  readonly cursor?: number;
}

/** What findings are kept beside, and told by. */
interface Around {
  readonly disk: Disk;
  readonly log: LogPlace;
  moved(): void;
  found(finding: Finding): void;
  failed(error: StateStoreError): void;
}

interface Open {
  readonly kind: FindingKind;
  readonly sender: string;
  readonly seq: number;
}

export class Findings {
  readonly #core: Around;
  readonly #open = new Map<string, Open>();

  constructor(core: Around) {
    this.#core = core;
  }

  async load(tx: StateTransaction): Promise<void> {
    for (const { key, value } of await tx.range("log", keys.from, keys.to)) {
      const { deviceId, seq } = decode(() => fromBinary(SenderLinkSchema, value));
      const kind = Number(key.split("/")[1]);
      this.#open.set(key, { kind, sender: idText(deviceId), seq: Number(seq) });
    }
  }

  /** Those that nothing has made good: an entry that was dropped may still arrive. */
  get count(): number {
    let count = 0;
    for (const { kind, sender, seq } of this.#open.values()) {
      const read = this.#core.log.senders.get(sender)?.seq ?? 0;
      if (kind !== FindingKind.DROPPED || read < seq) count += 1;
    }
    return count;
  }

  /** Keeps findings; what it returns takes them over once they are on disk. */
  write(tx: StateTransaction, findings: readonly Finding[]): () => void {
    const fresh = new Map<string, Open>();
    for (const { kind, sender = emptyBytes, seq = 0, cursor = 0 } of findings) {
      const text = idText(sender);
      const key = `${keys.from}${kind}/${text}/${seq}/${seq === 0 ? cursor : 0}`;
      if (this.#open.has(key) || this.#open.size + fresh.size >= findingsMax) continue;
      const place = create(SenderLinkSchema, { deviceId: sender, seq: BigInt(seq) });
      tx.put("log", key, toBinary(SenderLinkSchema, place));
      fresh.set(key, { kind, sender: text, seq });
    }
    return () => {
      for (const [key, finding] of fresh) this.#open.set(key, finding);
    };
  }

  /** Keeps one, and tells it: for what is found while nothing is being written. */
  found(finding: Finding): void {
    this.#core.disk
      .write(
        (tx) => this.write(tx, [finding]),
        (written) => written(),
      )
      .then(() => this.#core.moved())
      .catch((error: unknown) => {
        if (!(error instanceof StateStoreError)) throw error;
        if (error.problem !== "closed") this.#core.failed(error);
      });
    this.#core.found(finding);
  }
}
