/** Lies about the membership, witnesses and acknowledgements, told by a real relay with a liar inside. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { holds } from "./holding.ts";
import { memberLies } from "./member-lies.ts";
import { settled } from "./setting.ts";

describe("a relay that lies about members, and to them", () => {
  for (const lie of memberLies) {
    test(`${lie.name}: ${lie.does} → ${lie.event}`, () => holds(lie));
  }
});

describe("PROTOCOL 13.11: what only a person ends", () => {
  for (const name of ["forged removal", "longer membership"]) {
    test(`${name}: it stands while the truth is shown, over a restart, until it is accepted`, async () => {
      const at = await settled();
      const { world, relay, b } = at;
      const lie = memberLies.find((each) => each.name === name);
      await lie?.tell(at);
      await world.until(() => b.integrity.length > 0);
      relay.lies.clear();
      world.cutAll();
      await world.run(60_000);
      assert.equal(b.client.status().connection.state, "online");
      assert.equal(b.inSync, false);
      await b.restart();
      await world.run(60_000);
      assert.equal(b.client.status().connection.state, "online");
      const open = b.client.findings().filter(({ state }) => state === "open");
      assert.deepEqual([open.length, open[0]?.finding, b.inSync], [1, lie?.event, false]);
      // What it was shown, and whom to check it with.
      const { findings } = await b.client.evidence(open[0]?.id ?? "");
      assert.equal(findings[0]?.controlBlobs.length, 1);
      await world.result(b.client.acceptFinding(open[0]?.id ?? ""));
      await world.until(() => b.inSync);
      await b.restart();
      await world.until(() => b.inSync);
    });
  }
});
