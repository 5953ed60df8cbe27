/** Every scenario, in the order they run. */
import type { Scenario } from "./scenario.ts";
import { crashes } from "./scenarios/crashes.ts";
import { disks } from "./scenarios/disks.ts";
import { entries } from "./scenarios/entries.ts";
import { handshakes } from "./scenarios/handshakes.ts";
import { members } from "./scenarios/members.ts";
import { packets } from "./scenarios/namespaces.ts";
import { restores } from "./scenarios/restores.ts";
import { roads } from "./scenarios/roads.ts";

export const scenarios: readonly Scenario[] = [
  ...roads,
  ...packets,
  ...handshakes,
  ...crashes,
  ...members,
  ...entries,
  ...disks,
  ...restores,
];
