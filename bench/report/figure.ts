/** What the page of figures is made of. */
import type { Machine } from "../harness/machine.ts";
import type { Result } from "../harness/measure.ts";

/** A result with where it was measured; without the runs' own numbers nothing could be checked. */
export interface Figure extends Result {
  readonly machine: Machine;
  /** Day it was measured on. */
  readonly day: string;
  /** Measured while the machine did other things too. */
  readonly provisional: boolean;
}
