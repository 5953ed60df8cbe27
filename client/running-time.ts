/**
 * How long this device has run, in all its processes: by monotonic time, kept on disk. What must end
 * some day is counted in it, so that no clock, and no relay, moves that day. A crash takes back a few
 * minutes: late, never early.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { RunningTimeSchema } from "../gen/syncrelay/state/v1/history_pb.ts";
import { type Disk, decode } from "./disk.ts";
import type { Host } from "./host.ts";
import type { StateTransaction } from "./state-store.ts";

const key = "running";
/** Between two writes while something depends on it, in milliseconds. */
export const runningWriteMs = 10 * 60 * 1000;

export class RunningTime {
  readonly #host: Host;
  readonly #disk: Disk;
  #beforeMs = 0;
  readonly #beganMs: number;
  #cancel: (() => void) | undefined;

  constructor(host: Host, disk: Disk) {
    this.#host = host;
    this.#disk = disk;
    this.#beganMs = host.monotonicMs();
  }

  async load(tx: StateTransaction): Promise<void> {
    const bytes = await tx.get("log", key);
    if (bytes !== undefined) {
      this.#beforeMs = Number(decode(() => fromBinary(RunningTimeSchema, bytes)).runMs);
    }
  }

  get nowMs(): number {
    return this.#beforeMs + Math.max(0, Math.floor(this.#host.monotonicMs() - this.#beganMs));
  }

  write(tx: StateTransaction): void {
    const message = create(RunningTimeSchema, { runMs: BigInt(this.nowMs) });
    tx.put("log", key, toBinary(RunningTimeSchema, message));
  }

  /** Writes it now and then, as long as something depends on it. `failed` hears of a write that did not work. */
  keep(wanted: () => boolean, failed: (error: unknown) => void): void {
    if (this.#cancel !== undefined || !wanted()) return;
    this.#cancel = this.#host.setTimer(runningWriteMs, () => {
      this.#cancel = undefined;
      this.#disk
        .write((tx) => this.write(tx))
        .catch(failed)
        .finally(() => this.keep(wanted, failed));
    });
  }

  /** The process ends: what it has run is kept, where something depends on it. */
  async close(wanted: boolean): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    if (wanted) await this.#disk.write((tx) => this.write(tx));
  }
}
