/** Which links are still known, after how many. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LinkMemory } from "../../client/link-memory.ts";
import { linkBytes } from "../../wire/ids.ts";

function linkOf(seq: number): Uint8Array {
  const link = new Uint8Array(linkBytes);
  new DataView(link.buffer).setUint32(0, seq);
  return link;
}

function filled(from: number, through: number): LinkMemory {
  const links = new LinkMemory();
  for (let seq = from; seq <= through; seq++) links.add("a", { seq, link: linkOf(seq) });
  return links;
}

test("the newest 4,096 links of a sender are always known, and never another's at their place", () => {
  for (const through of [1, 16, 17, 4_096, 8_191, 8_192, 8_193, 20_000]) {
    const links = filled(1, through);
    for (let seq = 1; seq <= through; seq++) {
      const known = links.get("a", seq);
      if (seq > through - 4_096) assert.deepEqual(known, linkOf(seq), `${seq} of ${through}`);
      else if (known !== undefined) assert.deepEqual(known, linkOf(seq), `${seq} of ${through}`);
    }
    assert.equal(links.get("a", 0), undefined);
    assert.equal(links.get("a", through + 1), undefined);
  }
});

test("old links are forgotten", () => {
  assert.equal(filled(1, 20_000).get("a", 1), undefined);
});

test("a jump forgets what came before it, and senders are apart", () => {
  const links = filled(1, 10);
  links.add("b", { seq: 5, link: linkOf(500) });
  links.add("a", { seq: 12, link: linkOf(12) });
  assert.equal(links.get("a", 10), undefined);
  assert.equal(links.get("a", 11), undefined);
  assert.deepEqual(links.get("a", 12), linkOf(12));
  assert.deepEqual(links.get("b", 5), linkOf(500));
});

test("the newest of a sender come in their order, as many as there are", () => {
  const links = filled(3, 40);
  assert.deepEqual(links.newest("a", 3), [linkOf(38), linkOf(39), linkOf(40)]);
  assert.equal(links.newest("a", 100).length, 38);
  assert.deepEqual(links.newest("b", 3), []);
});

test("what was handed out stays what it was", () => {
  const links = filled(1, 8_192);
  const known = links.get("a", 8_192);
  links.add("a", { seq: 8_193, link: linkOf(8_193) });
  assert.deepEqual(known, linkOf(8_192));
});
