/** Everything that is fed. */
import type { Target } from "./engine.ts";
import { clientTargets } from "./targets-client.ts";
import { pairingTargets } from "./targets-pairing.ts";
import { relayTargets } from "./targets-relay.ts";
import { sealTargets } from "./targets-seal.ts";
import { stateTargets } from "./targets-state.ts";
import { wireTargets } from "./targets-wire.ts";

export const targets: readonly Target[] = [
  ...wireTargets,
  ...sealTargets,
  ...pairingTargets,
  ...relayTargets,
  ...stateTargets,
  ...clientTargets,
];
