/** Lies about deliveries, told by a real relay with a liar inside to a device that is there. */
import { describe, test } from "node:test";
import { deliveryLies } from "./deliveries.ts";
import { holds } from "./holding.ts";

describe("a relay that lies about what it delivers", () => {
  for (const lie of deliveryLies) {
    test(`${lie.name}: ${lie.does} → ${lie.event}`, () => holds(lie));
  }
});
