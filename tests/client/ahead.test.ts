/** What is worked out of blobs before they are judged: in slices, in order, and of no consequence. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ahead, type Prepared } from "../../client/ahead.ts";
import type { Host } from "../../client/host.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import type { StoredBlob } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { zeroLink } from "../../wire/ids.ts";

const prepared: Prepared = { read: { header: undefined, link: zeroLink }, opened: undefined };

/** Blobs that are told apart by being there. */
function blobs(count: number): StoredBlob[] {
  return Array.from({ length: count }, (_, at) => ({ cursor: BigInt(at) }) as StoredBlob);
}

/** A page in which each blob takes four milliseconds, and which counts its turns. */
function page(): { host: Host; work: () => void; turns: () => number } {
  let nowMs = 0;
  let turns = 0;
  const host: Host = {
    ...nodeHost(),
    sliceMs: 10,
    monotonicMs: () => nowMs,
    breathe: () => {
      turns += 1;
      return new Promise((resolve) => setImmediate(resolve));
    },
  };
  return { host, work: () => void (nowMs += 4), turns: () => turns };
}

test("the page has its turn whenever a slice is over, and what is done is found in its order", async () => {
  const { host, work, turns } = page();
  const seen: bigint[] = [];
  const ahead = new Ahead(host, ({ cursor }) => {
    work();
    seen.push(cursor);
    return prepared;
  });
  const all = blobs(9);
  ahead.add(all.slice(0, 5));
  ahead.add(all.slice(5));
  // The first slice is done at once, and no more than that.
  assert.deepEqual(seen, [0n, 1n, 2n]);
  await ahead.done(all.slice(0, 5));
  assert.ok(seen.length >= 5 && seen.length < 9, String(seen));
  await ahead.done(all);
  assert.deepEqual(
    seen,
    all.map(({ cursor }) => cursor),
  );
  assert.equal(turns(), 3);
  for (const blob of all) assert.equal(ahead.get(blob), prepared);
});

test("one that throws holds nothing up, and is found not to be done", async () => {
  const { host } = page();
  const all = blobs(3);
  const ahead = new Ahead(host, ({ cursor }) => {
    if (cursor === 1n) throw new Error("not a blob");
    return prepared;
  });
  ahead.add(all);
  await ahead.done(all);
  assert.deepEqual(
    all.map((blob) => ahead.get(blob)),
    [prepared, undefined, prepared],
  );
});

test("whoever waits for blobs that are given up waits no longer", async () => {
  const { host, work } = page();
  const all = blobs(100);
  const ahead = new Ahead({ ...host, breathe: () => new Promise(() => undefined) }, () => {
    work();
    return prepared;
  });
  ahead.add(all);
  const waiting = ahead.done(all);
  ahead.clear();
  await waiting;
  assert.equal(ahead.get(all[99] as StoredBlob), undefined);
});

test("a log of any length is worked through, page after page", async () => {
  const { host } = page();
  const ahead = new Ahead(host, () => prepared);
  for (let round = 0; round < 5; round++) {
    const some = blobs(700);
    ahead.add(some);
    await ahead.done(some);
    assert.equal(ahead.get(some[699] as StoredBlob), prepared);
  }
});

test("where there are no slices nothing is done ahead", async () => {
  const all = blobs(2);
  const ahead = new Ahead(nodeHost(), () => prepared);
  ahead.add(all);
  await ahead.done(all);
  assert.equal(ahead.get(all[0] as StoredBlob), undefined);
});
