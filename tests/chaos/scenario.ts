import type { World } from "./world.ts";

/** One thing that may go wrong. It ends with `world.conclude`. */
export interface Scenario {
  readonly name: string;
  /** Takes a second or two: also part of `npm test`. */
  readonly short?: boolean;
  run(world: World): Promise<void>;
}
