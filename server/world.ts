import type { SyncError } from "../wire/errors.ts";
import type { WakeUpSender } from "./wake-ups.ts";

/** The world, as arguments. */
export interface RelayWorld {
  /** Milliseconds since the Unix epoch, whole: shown to people, and nothing else. */
  readonly nowMs: () => number;
  /** Milliseconds that only rise while the process runs: what rates and deadlines go by. */
  readonly monotonicMs: () => number;
  readonly random: (length: number) => Uint8Array;
  /** A defect: what went wrong, with the id that its peer was told. */
  readonly onDefect: (error: unknown, incident: string) => void;
  /** The store failed; nothing was acknowledged. */
  readonly onStoreFailure: (error: SyncError) => void;
  /** How devices are woken that are not connected. Left out: they are not. */
  readonly wakeUps?: WakeUpSender | undefined;
}
