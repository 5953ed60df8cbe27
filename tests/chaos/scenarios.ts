/** Every scenario, in the order they run. */
import type { Scenario } from "./scenario.ts";
import { handshakes } from "./scenarios/handshakes.ts";
import { roads } from "./scenarios/roads.ts";

export const scenarios: readonly Scenario[] = [...roads, ...handshakes];
