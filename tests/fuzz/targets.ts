/** Everything that is fed. */
import type { Target } from "./engine.ts";
import { sealTargets } from "./targets-seal.ts";
import { wireTargets } from "./targets-wire.ts";

export const targets: readonly Target[] = [...wireTargets, ...sealTargets];
