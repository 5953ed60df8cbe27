/** Senders whose chains a person lets go on behind a gap: kept until the next entry that holds. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { TakingUpSchema } from "../gen/syncrelay/state/v1/history_pb.ts";
import { deviceIdBytes, idText, parseId } from "../wire/ids.ts";
import { decode } from "./disk.ts";
import type { StateTransaction } from "./state-store.ts";

const key = "taking-up";

export class TakingUp {
  #senders: ReadonlySet<string> = new Set();

  async load(tx: StateTransaction): Promise<void> {
    const bytes = await tx.get("log", key);
    if (bytes === undefined) return;
    const { deviceIds } = decode(() => fromBinary(TakingUpSchema, bytes));
    this.#senders = new Set(deviceIds.map(idText));
  }

  get senders(): ReadonlySet<string> {
    return this.#senders;
  }

  add(tx: StateTransaction, sender: string): () => void {
    return this.#write(tx, new Set([...this.#senders, sender]));
  }

  /** Their chains have gone on. */
  done(tx: StateTransaction, senders: Iterable<string>): () => void {
    const left = new Set(this.#senders);
    for (const sender of senders) left.delete(sender);
    return left.size === this.#senders.size ? () => undefined : this.#write(tx, left);
  }

  #write(tx: StateTransaction, senders: ReadonlySet<string>): () => void {
    const deviceIds = [...senders].flatMap((text) => parseId(text, deviceIdBytes) ?? []);
    tx.put("log", key, toBinary(TakingUpSchema, create(TakingUpSchema, { deviceIds })));
    return () => {
      this.#senders = senders;
    };
  }
}
